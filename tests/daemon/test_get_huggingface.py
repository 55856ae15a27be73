"""`get hf:…` through the whole daemon: repositories, gates, linked folders, the token's way."""

# ruff: noqa: ASYNC240 (the tests look at the disk as other programs do)

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from trio.testing import MockClock

from modelkeep_protocol import schema
from tests.daemon.house import House, open_house
from tests.hubsim import Hub, open_hubsim

TOKEN = "hf_canary5f3c9a1e7b"


@asynccontextmanager
async def at_home(
    tmp_path: Path, *, token: str = "", settings: Sequence[str] = (), granted: Sequence[str] = ()
) -> AsyncIterator[tuple[Hub, House]]:
    async with (
        open_hubsim(
            dialect="huggingface", models=90, tokens=[TOKEN], granted=[TOKEN, *granted]
        ) as hub,
        open_house(
            tmp_path / "home", hub, name="huggingface", token=token, settings=settings
        ) as house,
    ):
        yield hub, house


def ref_of(hub: Hub, special: str) -> str:
    return f"hf:{hub.name(hub.specials()[special])}"


async def test_a_repository_nobody_has_synced_arrives_whole(
    tmp_path: Path, fast_time: MockClock
) -> None:
    async with at_home(tmp_path, token=TOKEN, settings=["[sync]", "auto = false"]) as (hub, house):
        ref = ref_of(hub, "no_safetensors_block")
        told: schema.GetResult = await house.call("transfer.get", refs=[ref], dry_run=True)
        assert told.errors == []
        assert {job.state for job in told.jobs} == {"planned"}
        reasons = {each.why: each.names for each in told.left_out}
        assert any("diffusion_pytorch_model.fp16.safetensors" in str(n) for n in reasons.values())
        assert all(each.ref == ref and each.count for each in told.left_out)
        assert told.total_bytes == sum(job.size_bytes or 0 for job in told.jobs)
        assert house.files() == []

        jobs = await house.ended(await house.get(ref))
        assert {(job.state, job.error) for job in jobs} == {("done", None)}
        folder = f"checkpoints/{ref.removeprefix('hf:').replace('/', '--')}"
        assert house.files() == sorted(f"{folder}/{job.name}" for job in told.jobs)
        for job in jobs:
            content = Path(str(job.path)).read_bytes()
            assert hashlib.sha256(content).hexdigest() == job.sha256
        weights = [job for job in jobs if job.name.endswith(".safetensors")]
        assert {job.verdict for job in weights} == {"safe"}
        assert not any(job.warning for job in weights)
        shown: schema.ModelDetail = await house.call("catalog.show", ref=ref)
        assert shown.owned
        # asked again, everything is there and nothing is fetched
        asked = len(hub.log)
        again = await house.get(ref)
        assert {(job.id, job.state) for job in again} == {(0, "done")}
        assert len(hub.log) == asked
        # a walk of the folder finds what it should and forgets nothing
        await house.call("library.scan")
        listed = (await house.call("library.list", limit=1000)).items
        assert {item.path for item in listed} >= {job.path for job in jobs}
        _check_token(hub)


def _check_token(hub: Hub) -> None:
    assert any(entry.headers.get("authorization") == f"Bearer {TOKEN}" for entry in hub.log)
    storage = [entry for entry in hub.log if entry.storage]
    assert storage
    for entry in storage:
        assert TOKEN not in str(entry.headers)
        assert TOKEN not in entry.target


async def test_each_kind_of_repository_ends_as_it_should(
    tmp_path: Path, fast_time: MockClock
) -> None:
    async with at_home(tmp_path) as (hub, house):
        await house.synced()
        expected = {
            "lora": ("done", None, ""),
            "sharded": ("done", None, ""),
            "peft": ("done", None, ""),
            "one_part": ("quarantined", "denied", "quarantined"),  # pickles, and their configs
            "gated_auto": ("failed", "gated", "restricted"),
        }
        for special, (state, code, words) in expected.items():
            jobs = await house.ended(await house.get(ref_of(hub, special)))
            worst = next((job for job in jobs if job.state != "done"), jobs[0])
            assert worst.state == state, (special, worst.error)
            if code is not None:
                assert worst.error is not None, special
                assert worst.error.code == code, (special, worst.error)
                assert words in worst.error.message, (special, worst.error)
                assert worst.error.hint, special
        for special, code, words in (
            ("gguf", "invalid", "Q4_K_S"),
            ("bare", "not_found", "no weights"),
            ("private", "not_found", ""),
        ):
            answer = await house.call("transfer.get", refs=[ref_of(hub, special)])
            [problem] = answer.errors
            assert problem.code == code, (special, problem)
            assert words in problem.message, (special, problem)


async def test_addresses_of_the_hub_are_understood(tmp_path: Path, fast_time: MockClock) -> None:
    async with at_home(tmp_path) as (hub, house):
        await house.synced()
        name = hub.name(hub.specials()["lora"])
        for address in (
            f"https://huggingface.co/{name}",
            f"https://huggingface.co/{name}/blob/main/sd15_lora.safetensors",
            f"hf:{name}@main",
        ):
            [job] = await house.get(address)
            if job.id:  # the first time only
                [job] = await house.ended([job])
            assert job.state == "done"
        assert house.files() == ["loras/sd15_lora.safetensors"]


async def test_a_linked_type_folder_is_followed_into_a_root_and_counted_once(
    tmp_path: Path, fast_time: MockClock
) -> None:
    disk = tmp_path / "disk"
    (disk / "loras").mkdir(parents=True)
    models = tmp_path / "home/models"
    models.mkdir(parents=True)
    (models / "loras").symlink_to(disk / "loras")
    async with at_home(tmp_path) as (hub, house):
        await house.synced()
        ref = ref_of(hub, "lora")
        with pytest.raises(Exception, match="lies in no library root") as refused:
            await house.call("transfer.get", refs=[ref])
        assert f"modelkeep library add {disk / 'loras'}" in refused.value.hint  # type: ignore[attr-defined]
        await house.call("library.add", path=str(disk), layout="comfyui")
        [job] = await house.ended(await house.get(ref))
        assert (job.state, job.path) == ("done", str(disk / "loras/sd15_lora.safetensors"))
        await house.call("library.scan")
        listed = (await house.call("library.list", limit=1000)).items
        assert [item.path for item in listed] == [job.path]

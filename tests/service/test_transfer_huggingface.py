"""Whole downloads from the simulated Hugging Face: repositories, hashes, gates, moved files."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.hubs.contract import HubError
from modelkeepd.transfer.fetch import FetchLimits
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.ports import TransferSettings
from tests.fakes.repositories import HubBench, blob_sha1, open_hub_bench
from tests.hubsim import Hub, open_hubsim

TOKEN = "hf_canary5f3c9a1e7b"
SIZE = 3_000_000
LIMITS = FetchLimits(low_speed_bytes_per_s=1000, low_speed_s=1)
PLACE = TransferSettings(root=None, layout="comfyui", review="place")


def name_of(hub: Hub, special: str) -> str:
    return hub.name(hub.specials()[special])


def folder_of(hub: Hub, special: str) -> str:
    return name_of(hub, special).replace("/", "--")


def check_content(bench: HubBench, jobs: list[Job]) -> None:
    """Each is done, verified, and on the disk what it was promised to be."""
    for job in jobs:
        assert (job.state, job.error_message) == ("done", None), job.remote_name
        assert job.verification == "verified"
        content = Path(str(job.path)).read_bytes()
        assert job.found_sha256 == hashlib.sha256(content).digest()
        if job.sha256 is not None:
            assert job.found_sha256 == job.sha256
        else:
            assert job.git_sha1 == blob_sha1(content)


REPOSITORIES = {
    "diffusers": (
        "checkpoints",
        [
            "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
            "text_encoder/model.safetensors", "tokenizer/special_tokens_map.json",
            "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors", "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ],
    ),
    "sharded": (
        "",
        [
            "config.json", "generation_config.json", "model-00001-of-00003.safetensors",
            "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors",
            "model.safetensors.index.json", "special_tokens_map.json", "tokenizer.json",
            "tokenizer_config.json",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("special", REPOSITORIES)
async def test_a_repository_arrives_whole_below_one_folder_and_only_once(
    tmp_path: Path, special: str
) -> None:
    type_folder, files = REPOSITORIES[special]
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        with trio.fail_after(30):
            ref = f"hf:{name_of(hub, special)}"
            jobs = await at.get(ref)
            check_content(at, jobs)
            [folder] = {str(Path(str(job.path)).relative_to(at.bench.root)).split("/" + job.name)[0]
                        for job in jobs}  # fmt: skip
            assert folder.endswith("/" + folder_of(hub, special))
            assert folder.startswith(type_folder)
            assert at.below(folder) == files
            requests = len(hub.log)
            again = await at.enqueue(ref)
            assert [answer.job for answer in again] == [None] * len(files)
            assert len(hub.log) == requests
        for entry in hub.log:
            if not entry.path.startswith("/api/models/"):
                assert entry.headers["accept-encoding"] == "identity"


async def test_a_single_file_lies_flat_in_the_folder_of_its_type(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        with trio.fail_after(20):
            found = await at.find(f"hf:{name_of(hub, 'lora')}")
            [left] = found.left_out
            assert {".gitattributes", "README.md"} == set(left.names)
            check_content(at, await at.get(f"hf:{name_of(hub, 'lora')}"))
            assert at.below("loras") == ["sd15_lora.safetensors"]
            # a name that every repository has would tell nothing: whose it is stands before it
            check_content(at, await at.get(f"hf:{name_of(hub, 'renamed')}"))
            whose = f"{folder_of(hub, 'renamed')}-pytorch_lora_weights.safetensors"
            assert at.below("loras") == sorted(["sd15_lora.safetensors", whose])


async def test_several_quantizations_are_the_persons_choice(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub, settings=PLACE) as at,
    ):
        ref = f"hf:{name_of(hub, 'gguf')}"
        with pytest.raises(ModelkeepError) as refused:
            await at.find(ref)
        assert refused.value.code == "invalid"
        for word in ("Q3_K_M.gguf (", "Q4_K_S", "Q5_K_M", "Q8_0", "B)"):
            assert word in refused.value.message
        command = refused.value.hint
        assert "modelkeep get 'hf:" in command
        chosen = command.partition("'")[2].partition("'")[0]
        with trio.fail_after(20):
            [job] = await at.get(chosen)
            check_content(at, [job])
            assert chosen.partition("#")[2] == Path(str(job.path)).name
            several = await at.find(ref, pattern="*Q[45]*")
            assert len(several.files) == 2


async def test_files_named_by_pattern_keep_their_places(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        with trio.fail_after(20):
            ref = f"hf:{name_of(hub, 'diffusers')}"
            check_content(at, await at.get(ref, pattern="vae/*"))
            home = f"checkpoints/{folder_of(hub, 'diffusers')}"
            assert at.below(home) == ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
            check_content(at, await at.get(f"{ref}#unet/config.json"))
            assert "unet/config.json" in at.below(home)


async def test_odd_paths_arrive_under_safe_names(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        with trio.fail_after(20):
            jobs = await at.get(f"hf:{name_of(hub, 'odd_paths')}", pattern="*/*")
            check_content(at, jobs)
            paths = {job.remote_name: job.name for job in jobs}
            assert paths["日本語/説明.txt"] == "日本語/説明.txt"
            assert paths["100%/#1?.txt"] == "100%/#1_.txt"


# Who may ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("special", "token", "granted", "code", "words"),
    [
        ("gated_auto", None, [TOKEN], "gated", ("ask for access at", "huggingface.token")),
        ("gated_auto", TOKEN, [], "gated", ("ask for access at",)),
        ("gated_auto", TOKEN, [TOKEN], None, ()),
        ("gated_auto", "hf_wrong", [TOKEN], "denied", ("token",)),
    ],
)
async def test_a_gated_repository_says_where_to_ask(
    tmp_path: Path,
    special: str,
    token: str | None,
    granted: list[str],
    code: str | None,
    words: tuple[str, ...],
) -> None:
    async with open_hubsim(
        dialect="huggingface", models=90, tokens=[TOKEN], granted=granted
    ) as hub:
        ref = f"hf:{name_of(hub, special)}"
        async with open_hub_bench(tmp_path, hub) as at:
            await at.find(ref)  # metadata is free, a wrong token would be refused even that
        async with open_hub_bench(tmp_path, hub, token=token) as at:
            with trio.fail_after(20):
                [job] = await at.get(ref)
            if code is None:
                check_content(at, [job])
            else:
                assert (job.state, job.error_code) == ("failed", code), job.error_message
                for word in words:
                    assert word in (job.error_hint or "")
            _check_token_stayed_home(hub)


def _check_token_stayed_home(hub: Hub) -> None:
    for entry in hub.log:
        if entry.storage:
            assert "authorization" not in entry.headers
            assert "hf_" not in str(entry.headers)
            assert "hf_" not in entry.target


async def test_a_renamed_repository_arrives_and_the_token_stays_with_the_hub(
    tmp_path: Path,
) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90, tokens=[TOKEN]) as hub,
        open_hub_bench(tmp_path, hub, token=TOKEN) as at,
    ):
        with trio.fail_after(20):
            for special in ("single_file", "lora"):
                old = name_of(hub, special)
                answers = await at.find(f"hf:{old}")
                hub.change({"rename": {hub.specials()[special]: f"elsewhere/{special}"}})
                [queued] = await at.bench.service.enqueue(answers.files)
                assert queued.job is not None
                check_content(at, [await at.bench.ended(queued.job.job_id)])
        moved = [e for e in hub.log if e.path.startswith("/elsewhere/")]
        assert len(moved) == 2
        assert all(entry.headers.get("authorization") == f"Bearer {TOKEN}" for entry in moved)
        assert at.stored() == 2
        _check_token_stayed_home(hub)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("disable", "denied", "taken it down"),
        ("remove", "not_found", "does not exist, or is private"),
        ("make_private", "not_found", "does not exist, or is private"),
    ],
)
async def test_a_repository_that_is_closed_meanwhile_says_so(
    tmp_path: Path, change: str, code: str, words: str
) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        found = await at.find(f"hf:{name_of(hub, 'lora')}")
        hub.change({change: [hub.specials()["lora"]]})
        [queued] = await at.bench.service.enqueue(found.files)
        assert queued.job is not None
        with trio.fail_after(20):
            job = await at.bench.ended(queued.job.job_id)
        assert (job.state, job.error_code) == ("failed", code), job.error_message
        assert words in f"{job.error_message} {job.error_hint}"


# What is not what it was ------------------------------------------------------------------------


async def test_a_file_the_hub_has_replaced_is_asked_for_again(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        key, ref = hub.specials()["lora"], f"hf:{name_of(hub, 'lora')}"
        [file] = (await at.find(ref)).files
        # who does not know which commit its hashes are of asks for the branch
        await at.sql(lambda tx: tx.db.execute("UPDATE version SET files_revision = NULL"))
        hub.change({"replace_file": {key: "sd15_lora.safetensors"}})
        [queued] = await at.bench.service.enqueue([replace(file, revision=None)])
        assert queued.job is not None
        with trio.fail_after(20):
            job = await at.bench.ended(queued.job.job_id)
        check_content(at, [job])
        assert job.sha256 != file.sha256
        assert len(at.asked) == 2
        assert at.stored() == 1, "what was to be something else was not even begun"


async def test_a_commit_that_is_gone_is_replaced_by_the_present_one(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        ref = f"hf:{name_of(hub, 'lora')}"
        await at.find(ref)
        lost = "ab" * 20
        await at.sql(
            lambda tx: tx.db.execute(
                "UPDATE version SET revision = ?1, files_revision = ?1", (lost,)
            )
        )
        with trio.fail_after(20):
            [job] = await at.get(ref)
        check_content(at, [job])
        assert job.revision != lost
        assert len(at.asked) == 2


async def test_a_file_that_is_gone_is_not_found(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        ref = f"hf:{name_of(hub, 'lora')}"
        await at.find(ref)
        await at.sql(
            lambda tx: tx.db.execute(
                "UPDATE file SET hub_id = 'no.safetensors', name = hub_id WHERE is_primary"
            )
        )
        with trio.fail_after(20):
            [job] = await at.get(ref)
        assert (job.state, job.error_code) == ("failed", "not_found")
        assert "not in the repository any more" in (job.error_message or "")


async def test_an_older_commit_is_served_as_it_was(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        key, ref = hub.specials()["lora"], f"hf:{name_of(hub, 'lora')}"
        found = await at.find(ref)
        hub.change({"replace_file": {key: "sd15_lora.safetensors"}})
        [queued] = await at.bench.service.enqueue(found.files)
        assert queued.job is not None
        with trio.fail_after(20):
            job = await at.bench.ended(queued.job.job_id)
        check_content(at, [job])
        assert job.sha256 == found.files[0].sha256


async def test_another_revision_takes_its_promise_from_the_hub_itself(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        ref = f"hf:{name_of(hub, 'pull_request')}@refs/pr/1"
        with trio.fail_after(20):
            await at.find(ref.partition("@")[0])
            with pytest.raises(ModelkeepError, match="those of refs/pr/1") as refused:
                await at.find(ref)
            assert "#PATH" in refused.value.hint
            for path in ("illustrious_lora.safetensors", "README.md"):
                [job] = await at.get(f"{ref}#{path}")
                assert job.file_key is None
                check_content(at, [job])
                assert job.hash_known
            # what comes then must be that very content
            hub.fail("/xet-bridge-us/*", {"bad_bytes": 700}, storage=True, times=0)
            [job] = await at.get(f"hf:{name_of(hub, 'tagged')}@v1.0#sdxl_lora.safetensors")
            assert (job.state, job.error_code) == ("failed", "corrupt"), job


@pytest.mark.parametrize("stays", [False, True])
async def test_wrong_bytes_of_a_plain_file_are_found_out_by_gits_hash(
    tmp_path: Path, stays: bool
) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        hub.fail("/api/resolve-cache/*", {"bad_bytes": 5}, times=0 if stays else 1)
        with trio.fail_after(20):
            [job] = await at.get(f"hf:{name_of(hub, 'transformers')}#config.json")
        if stays:
            assert (job.state, job.error_code) == ("failed", "corrupt")
            assert "promised hash" in (job.error_message or "")
            assert at.below("") == []
        else:
            assert job.repaired
            check_content(at, [job])


# The way ----------------------------------------------------------------------------------------


MENDED: list[Mapping[str, object]] = [
    {"cut": 1_000_000},
    {"status": {"code": 403, "body": "<Error><Code>AccessDenied</Code></Error>"}},
    {"bad_bytes": {"offset": 1_000_000}},
    {"hang_up": True},
    {"ignore_range": True},
]


@pytest.mark.parametrize("do", MENDED, ids=str)
async def test_a_fault_of_the_storage_is_mended_and_the_hub_asked_anew(
    tmp_path: Path, do: Mapping[str, object]
) -> None:
    faults = [
        {"match": {"storage": True, "times": 1}, "do": {"cut": 1_500_000}},
        {"match": {"storage": True, "times": 1}, "do": do},
    ]
    async with (
        open_hubsim(dialect="huggingface", models=90, large_files=[SIZE], faults=faults) as hub,
        open_hub_bench(tmp_path, hub, limits=LIMITS) as at,
    ):
        with trio.fail_after(25):
            jobs = await at.get(f"hf:{hub.name(hub.large_ids()[0])}")
        check_content(at, jobs)
        resolved = [e for e in hub.log if "/resolve/" in e.path]
        # a signed address is never used twice
        assert len(resolved) == at.stored()
        assert at.turns == len(resolved)
        assert len(at.heard) == at.turns


async def test_an_expired_address_in_mid_file_is_asked_for_again(tmp_path: Path) -> None:
    faults = [
        {"match": {"storage": True, "times": 1}, "do": {"cut": 1_500_000}},
        {"match": {"path": "*/resolve/*", "after": 1, "times": 1}, "do": {"expire": True}},
    ]
    async with (
        open_hubsim(dialect="huggingface", models=90, large_files=[SIZE], faults=faults) as hub,
        open_hub_bench(tmp_path, hub, limits=LIMITS) as at,
    ):
        with trio.fail_after(25):
            jobs = await at.get(f"hf:{hub.name(hub.large_ids()[0])}")
        check_content(at, jobs)
        statuses = [entry.status for entry in hub.log if entry.storage]
        assert statuses == [200, 403, 206]


async def test_a_spent_limit_is_heard_and_waited_for(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        found = await at.find(f"hf:{name_of(hub, 'lora')}")
        hub.fail("*/resolve/*", {"status": 429}, times=1)
        [queued] = await at.bench.service.enqueue(found.files)
        assert queued.job is not None
        with trio.fail_after(20):
            resting = await at.bench.reached(
                queued.job.job_id, lambda job: job.wait_for is not None or job.state == "done"
            )
            assert resting.wait_for == "source" or resting.state == "done"
            await at.bench.service.retry([resting.job_id])
        assert at.heard[0] == 429


# Places -----------------------------------------------------------------------------------------


async def test_content_that_lies_elsewhere_is_copied_not_fetched(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        with trio.fail_after(20):
            twins = [f"hf:{name_of(hub, name)}#twin.safetensors" for name in ("twin_a", "twin_b")]
            [first] = await at.get(twins[0])
            check_content(at, [first])
            before = at.stored()
            # a single file is owned, wherever it lies
            [owned] = await at.enqueue(twins[1])
            assert owned.owned_path == first.path
            # a repository's file is wanted among the others
            ref = f"hf:{name_of(hub, 'twin_b')}"
            jobs = await at.get(ref, pattern="[tw]*.safetensors")
            check_content(at, jobs)
            home = f"loras/{folder_of(hub, 'twin_b')}"
            assert "twin.safetensors" in at.below(home)
            copied = next(job for job in jobs if job.name == "twin.safetensors")
            assert copied.found_sha256 == first.found_sha256
            assert at.stored() == before + len(jobs) - 1


async def test_another_commit_never_mixes_with_the_files_of_an_earlier_one(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        key, ref = hub.specials()["transformers"], f"hf:{name_of(hub, 'transformers')}"
        moved = "UPDATE version SET revision = 'moved on'"
        with trio.fail_after(30):
            check_content(at, await at.get(ref))
            first = {path.name for path in at.bench.root.glob("*/*")}
            # a commit that changes nothing of what lies there needs nothing
            hub.change({"edit": [key]})
            await at.sql(lambda tx: tx.db.execute(moved))
            assert {answer.job for answer in await at.enqueue(ref)} == {None}
            hub.change({"replace_file": {key: "model.safetensors"}})
            await at.sql(lambda tx: tx.db.execute(moved))
            check_content(at, await at.get(ref))
            [second] = {path.name for path in at.bench.root.glob("*/*")} - first
            assert second.startswith(f"{folder_of(hub, 'transformers')}@")


async def test_without_the_hub_what_is_known_has_to_do(tmp_path: Path) -> None:
    async with (
        open_hubsim(dialect="huggingface", models=90) as hub,
        open_hub_bench(tmp_path, hub) as at,
    ):
        ref = f"hf:{name_of(hub, 'lora')}"
        before = await at.find(ref)
        await at.sql(lambda tx: tx.db.execute("UPDATE version SET revision = 'moved on'"))
        hub.fail("/api/models/*", {"status": 404}, times=0)
        assert (await at.find(ref)).files == before.files
        with pytest.raises(HubError):
            await at.find(f"hf:{name_of(hub, 'diffusers')}")

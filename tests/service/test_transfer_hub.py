"""Whole downloads from the simulated hub, its faults scripted: the right file or a clear error."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from modelkeepd.secrets import Secret
from modelkeepd.transfer.fetch import FetchLimits
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.ports import SourcePlan, TransferSettings
from modelkeepd.transfer.wanted import WantedFile
from tests.fakes.transfers import Bench, open_bench
from tests.hubsim import Hub, open_hubsim

SIZE = 3_000_000
LIMITS = FetchLimits(low_speed_bytes_per_s=1000, low_speed_s=1)


@dataclass(frozen=True)
class Target:
    """One file of the simulated hub as sync would have recorded it."""

    file: WantedFile
    plan: SourcePlan


def target(hub: Hub, hub_id: int, *, token: str | None = None, number: int = 0) -> Target:
    version = hub.document(hub_id)["modelVersions"][0]
    file = version["files"][number]
    digest = file["hashes"].get("SHA256")
    return Target(
        WantedFile(
            hub="civitai",
            ref=f"civitai:{hub_id}@{version['id']}#{file['id']}",
            name=file["name"],
            model_type="LORA",
            size_bytes=round(file["sizeKB"] * 1024),
            sha256=bytes.fromhex(digest) if digest else None,
        ),
        SourcePlan(
            url=f"{hub.base_url}/api/download/models/{version['id']}?fileId={file['id']}",
            home=hub.base_url,
            token=Secret(token) if token else None,
        ),
    )


async def get(bench: Bench, wanted: Target) -> Job:
    with trio.fail_after(25):
        return await bench.get(wanted.file, wanted.plan)


MENDED: list[Mapping[str, object]] = [
    {"cut": 1},
    {"cut": 1_000_000},
    {"cut": SIZE - 1},
    {"truncate": 1_500_000},
    {"too_short": 1000},
    {"stall": {"seconds": 60, "at": "headers"}},
    {"hang_up": True},
    {"hang_up": {"reset": True}},
    {"garbage": True},
    {"status": 500},
    {"status": 502},
    {"status": 504},
    {"status": {"code": 503, "retry_after": 0}},
    {"status": {"code": 429, "retry_after": 0}},
    {"status": {"code": 403, "body": "<Error><Code>ExpiredRequest</Code></Error>"}},
    {"expire": True},
    {"bad_bytes": {"offset": 1_000_000}},
    {"html200": True},
    {"maintenance": True},
    {"no_length": True},
    {"too_long": 5000},
]


@pytest.mark.parametrize("do", MENDED, ids=str)
async def test_one_fault_of_the_storage_is_mended_by_itself(
    tmp_path: Path, do: Mapping[str, object]
) -> None:
    fault = {"match": {"storage": True, "times": 1}, "do": do}
    async with (
        open_hubsim(models=45, large_files=[SIZE], faults=[fault]) as hub,
        open_bench(tmp_path, limits=LIMITS) as bench,
    ):
        wanted = target(hub, hub.large_ids()[0])
        job = await get(bench, wanted)
        assert (job.state, job.error_message) == ("done", None)
        [name] = bench.files()
        content = (bench.root / name).read_bytes()
        assert hashlib.sha256(content).digest() == wanted.file.sha256


RESUMED: list[Mapping[str, object]] = [
    {"ignore_range": True},
    {"etag_changes": True},
    {"wrong_content_range": True},
    {"multipart": True},
    {"cut": 100},
    {"bad_bytes": {"offset": 2_000_000}},
    {"status": 416},
]


@pytest.mark.parametrize("do", RESUMED, ids=str)
async def test_a_resume_that_goes_wrong_never_blends(
    tmp_path: Path, do: Mapping[str, object]
) -> None:
    faults = [
        {"match": {"storage": True, "times": 1}, "do": {"cut": 1_000_000}},
        {"match": {"storage": True, "range": True, "times": 1}, "do": do},
    ]
    async with (
        open_hubsim(models=45, large_files=[SIZE], faults=faults) as hub,
        open_bench(tmp_path, limits=LIMITS) as bench,
    ):
        wanted = target(hub, hub.large_ids()[0])
        job = await get(bench, wanted)
        assert (job.state, job.error_message) == ("done", None)
        [name] = bench.files()
        content = (bench.root / name).read_bytes()
        assert hashlib.sha256(content).digest() == wanted.file.sha256


FATAL: list[tuple[Mapping[str, object], str]] = [
    ({"gzip": True}, "unsupported"),
    ({"bad_bytes": {"offset": 1_000_000}}, "corrupt"),
    ({"html200": True}, "corrupt"),
    ({"too_long": {"extra": 5000, "declare": True}}, "corrupt"),
    ({"endless": True}, "corrupt"),
    ({"status": 404}, "not_found"),
    ({"status": 451}, "unavailable"),
    ({"cut": 0}, "unavailable"),
    ({"redirect": "http://169.254.169.254/"}, "denied"),
    ({"redirect_loop": True}, "denied"),
]


@pytest.mark.parametrize(("do", "code"), FATAL, ids=str)
async def test_a_fault_that_stays_is_a_clear_error_and_nothing_is_half_placed(
    tmp_path: Path, do: Mapping[str, object], code: str
) -> None:
    fault = {"match": {"storage": True, "times": 0}, "do": do}
    async with (
        open_hubsim(models=45, large_files=[SIZE], faults=[fault]) as hub,
        open_bench(tmp_path, limits=LIMITS) as bench,
    ):
        job = await get(bench, target(hub, hub.large_ids()[0]))
        assert (job.state, job.error_code) == ("failed", code)
        assert job.error_message
        assert [name for name in bench.files() if not name.startswith(".modelkeep/")] == []


@pytest.mark.parametrize(
    ("special", "token", "state", "code"),
    [
        ("gated", None, "failed", "denied"),
        ("gated", "wrong", "failed", "denied"),
        ("gated", "right", "done", None),
        ("downloads_disabled", "right", "failed", "denied"),
        ("early_access", "right", "failed", "gated"),
        ("poi", "right", "failed", "not_found"),
        ("wrong_sha256", "right", "failed", "corrupt"),
        ("size_zero", "right", "done", None),
        ("whole_kilobytes", "right", "done", None),
        ("pickle", "right", "quarantined", "denied"),
    ],
)
async def test_the_hubs_own_oddities_end_as_they_should(
    tmp_path: Path, special: str, token: str | None, state: str, code: str | None
) -> None:
    async with (
        open_hubsim(models=60, tokens=["right"]) as hub,
        open_bench(tmp_path, limits=LIMITS) as bench,
    ):
        job = await get(bench, target(hub, hub.catalog.special(special), token=token))
        assert (job.state, job.error_code) == (state, code), job.error_message
        leaks = [e for e in hub.log if e.storage and "authorization" in e.headers]
        assert leaks == []


async def test_files_of_one_name_in_one_version_lie_side_by_side(tmp_path: Path) -> None:
    settings = TransferSettings(root=None, layout="comfyui", review="place", reserve_bytes=0)
    async with (
        open_hubsim(models=60, tokens=["right"]) as hub,
        open_bench(tmp_path, limits=LIMITS, settings=settings) as bench,
    ):
        hub_id = hub.catalog.special("duplicate_names")
        files = hub.document(hub_id)["modelVersions"][0]["files"]
        jobs = [
            await get(bench, target(hub, hub_id, token="right", number=number))
            for number in range(len(files))
        ]
        assert {job.state for job in jobs} == {"done"}
        paths = {str(job.path).lower() for job in jobs}
        contents = {job.found_sha256 for job in jobs}
        assert len(paths) == len(contents)

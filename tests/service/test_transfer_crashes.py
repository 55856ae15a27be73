"""Killed at each point of a job's way: the next run ends it, with one file (D21, R1)."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import apsw
import pytest
import trio

from modelkeepd.store import read_events
from modelkeepd.transfer.engine import BLOCK_BYTES
from modelkeepd.transfer.ports import SourcePlan
from tests.fakes.rawserver import open_rawserver, serving
from tests.fakes.transfers import open_bench, safetensors, wanted

POINTS = [
    "transfer.claim.after_commit",
    "transfer.resolved.before_commit",
    "transfer.resolved.after_commit",
    "transfer.fetched.before_commit",
    "transfer.before_file_fsync",
    "transfer.after_file_fsync",
    "transfer.matched.after_commit",
    "transfer.passed.before_commit",
    "transfer.passed.after_commit",
    "transfer.before_rename",
    "transfer.after_rename",
    "transfer.after_folder_fsync",
    "transfer.placed.before_commit",
    "transfer.placed.after_commit",
]


async def run_child(home: Path, url: str, points: str) -> "subprocess.CompletedProcess[bytes]":
    return await trio.run_process(
        [sys.executable, "-m", "tests.fakes.transfer_child", str(home), url],
        env=os.environ | {"MODELKEEP_FAILPOINTS": points},
        check=False,
        capture_stderr=True,
    )


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_loses_and_doubles_nothing(tmp_path: Path, point: str) -> None:
    content = safetensors(6_000_000)
    async with open_rawserver(serving(content)) as server:
        async with open_bench(tmp_path, run=False) as bench:
            [answer] = await bench.service.enqueue([wanted(content)])
        assert answer.job is not None
        with trio.fail_after(30):
            killed = await run_child(tmp_path, server.url, f"{point}=kill")
            assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
            asked = len(server.heard)
            plans = {"civitai:1@2#3": SourcePlan(server.url, server.url)}
            async with open_bench(tmp_path, plans=plans) as bench:
                job = await bench.ended(answer.job.job_id)
                events = await bench.store.read(partial(read_events, after_seq=0, limit=1000))
                kinds = [f"{event.topic}/{event.kind}" for event in events]
                rows = await bench.store.read(_library)
    assert (job.state, job.verification, job.verdict) == ("done", "verified", "safe")
    assert bench.files() == ["loras/model.safetensors"]
    assert (tmp_path / "models/loras/model.safetensors").read_bytes() == content
    assert rows == [(job.path, len(content))]
    assert (kinds.count("transfer/job.done"), kinds.count("library/file.added")) == (1, 1)
    if point not in POINTS[:4]:
        assert len(server.heard) == asked, "what was whole is not fetched again"


def _library(db: apsw.Connection) -> list[tuple[object, ...]]:
    return list(db.execute("SELECT path, size_bytes FROM library_file"))


@pytest.mark.parametrize(
    "point",
    ["transfer.fetched.before_commit", "transfer.after_rename", "transfer.placed.before_commit"],
)
async def test_a_repositorys_file_survives_a_kill_at_its_place(tmp_path: Path, point: str) -> None:
    content = safetensors(3_000_000)
    file = wanted(content, name="unet/x.safetensors", repository="org/name", file_kind="")
    async with open_rawserver(serving(content)) as server:
        async with open_bench(tmp_path, run=False) as bench:
            [answer] = await bench.service.enqueue([file])
        assert answer.job is not None
        with trio.fail_after(30):
            killed = await run_child(tmp_path, server.url, f"{point}=kill")
            assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
            plans = {file.ref: SourcePlan(server.url, server.url)}
            async with open_bench(tmp_path, plans=plans) as bench:
                job = await bench.ended(answer.job.job_id)
                assert (job.state, job.verification) == ("done", "verified")
                assert bench.files() == ["loras/org--name/unet/x.safetensors"]


async def test_a_kill_in_the_middle_of_the_bytes_costs_at_most_eight_mebibytes(
    tmp_path: Path,
) -> None:
    content = safetensors(24_000_000)
    writes = 60
    async with open_rawserver(serving(content)) as server:
        async with open_bench(tmp_path, run=False) as bench:
            [answer] = await bench.service.enqueue([wanted(content)])
        assert answer.job is not None
        with trio.fail_after(30):
            killed = await run_child(tmp_path, server.url, f"transfer.after_write=kill:{writes}")
            assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
            plans = {"civitai:1@2#3": SourcePlan(server.url, server.url)}
            async with open_bench(tmp_path, plans=plans) as bench:
                job = await bench.ended(answer.job.job_id)
    assert job.state == "done"
    continued = server.heard[-1].range
    assert continued is not None
    # Blocks go out nearly full; none is larger than BLOCK_BYTES.
    written = writes * (BLOCK_BYTES - 16_384)
    assert written - (8 << 20) <= continued[0] <= writes * BLOCK_BYTES

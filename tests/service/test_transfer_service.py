"""The transfer service from queue to library, over real sockets and real files."""

import hashlib
from pathlib import Path

import trio

from tests.fakes.rawserver import open_rawserver, serving
from tests.fakes.transfers import open_bench, safetensors, wanted


async def test_a_file_is_fetched_verified_scanned_placed_and_owned(tmp_path: Path) -> None:
    content = safetensors(3_000_000)
    async with open_rawserver(serving(content)) as server, open_bench(tmp_path) as bench:
        with trio.fail_after(20):
            job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert (job.state, job.error_message) == ("done", None)
        assert await bench.states(job.job_id) == [
            "queued", "resolving", "downloading", "verifying", "scanning", "placing", "done",
        ]  # fmt: skip
        assert bench.files() == ["loras/model.safetensors"]
        assert (bench.root / "loras/model.safetensors").read_bytes() == content
        assert (job.verdict, job.verification) == ("safe", "verified")
        owned = await bench.store.read(
            lambda db: bench.service._ports.owned_path(db, hashlib.sha256(content).digest())
        )
        assert owned == job.path

"""A really full volume: tmpfs in a user namespace (D18)."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.fakes.rawserver import open_rawserver, serving
from tests.fakes.transfers import open_bench, safetensors, wanted

pytestmark = pytest.mark.system


def _namespace() -> list[str]:
    program = shutil.which("unshare")
    if program is None:
        pytest.skip("util-linux (unshare) is not installed")
    command = [program, "-Urm"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("user namespaces are not allowed here")
    return command


@pytest.mark.parametrize("known_size", [True, False])
async def test_a_full_volume_waits_and_goes_on_when_it_has_grown(
    tmp_path: Path, known_size: bool
) -> None:
    namespace = _namespace()
    content = safetensors(24_000_000)
    file = wanted(content, **({} if known_size else {"size_bytes": None}))
    async with open_rawserver(serving(content)) as server:
        async with open_bench(tmp_path, run=False) as bench:
            await bench.service.enqueue([file])
        mount = f"mount -t tmpfs -o size=16m full {tmp_path}/models"
        grow = f"mount -o remount,size=64m {tmp_path}/models"
        check = f"cat {tmp_path}/models/loras/model.safetensors | sha256sum >&2"
        child = f"{sys.executable} -m tests.fakes.transfer_child {tmp_path} {server.url} '{grow}'"
        with trio.fail_after(60):
            done = await trio.run_process(
                [*namespace, "sh", "-c", f"{mount} && {child} && {check}"],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().split() == ["no_space", "24000000", "done", "None"]
    assert file.sha256 is not None
    assert done.stderr.decode().split()[0] == file.sha256.hex()
    if known_size:
        assert len(server.heard) == 1, "nothing is asked for while there is no room"

"""Disks that are full or may not be written: said on the job, waited for, and nothing is lost."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modelkeep_protocol.errors import ModelkeepError
from tests.process.living import LivingDaemon, hub_process

MIB = 1 << 20


def _unshare() -> str:
    program = shutil.which("unshare")
    if program is None:
        pytest.skip("util-linux (unshare) is not installed")
    if subprocess.run([program, "-Urm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("user namespaces are not allowed here")
    return program


class Boxed(LivingDaemon):
    """A daemon that sees mounts of its own."""

    mounts = ""

    def start(self, **environment: str) -> None:
        assert self.process is None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [_unshare(), "-Urm", "sh", "-c", f'{self.mounts} && exec "$0" -m modelkeepd',
                 sys.executable],
                env={**self.environment, **environment},
                stderr=log,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def seen(self, path: Path) -> Path:
        """A path as the daemon sees it, for us outside."""
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/root{path}")

    def job(self, number: int) -> dict[str, Any]:
        [job] = self.call("transfer.list", ids=[number])["jobs"]
        return dict(job)


@contextmanager
def boxed(home: Path, hub_url: str, mounts: str, *settings: str) -> Iterator[Boxed]:
    _unshare()
    daemon = Boxed(home, hub_url, settings=settings)
    daemon.mounts = mounts.format(models=daemon.models, home=home)
    daemon.start()
    try:
        yield daemon
    finally:
        if daemon.process is not None:
            daemon.process.kill()
            daemon.process.wait(10)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _safetensors(daemon: LivingDaemon, count: int) -> list[str]:
    page = daemon.call("catalog.search", query="type:lora", limit=100)
    refs = []
    for item in page["items"]:
        version = daemon.call("catalog.show", ref=item["ref"])["versions"][0]
        file = next((f for f in version["files"] if f["primary"]), None)
        if file and file["name"].endswith(".safetensors") and file["size_bytes"] < MIB:
            refs.append(file["ref"])
    assert len(refs) >= count
    return refs[:count]


def test_a_full_disk_is_waited_for_while_what_fits_arrives(home: Path) -> None:
    with (
        hub_process("--models", "80", "--large-file", "24M", "--large-file", "8M") as hub,
        boxed(home, hub.url, "mount -t tmpfs -o size=16m full {models}") as daemon,
    ):
        daemon.synced()
        daemon.until(lambda: daemon.call("daemon.status")["catalog"]["indexed"], "indexed")
        large = {}
        for model in hub.control("truth?digests=0"):
            shown = daemon.call("catalog.show", ref=f"civitai:{model}")
            for version in shown["versions"]:
                for file in version["files"]:
                    if (file["size_bytes"] or 0) > 5 * MIB:
                        large[round(file["size_bytes"] / MIB)] = file
        too_large, tight = large[max(large)], large[min(large)]
        filler = daemon.seen(daemon.models / "filler.bin")
        filler.write_bytes(bytes(10 * MIB))
        small = _safetensors(daemon, 3)
        refs = [too_large["ref"], tight["ref"], *small]
        numbers = [job["id"] for job in daemon.call("transfer.get", refs=refs)["jobs"]]

        # what fits arrives although the first ones in the queue do not fit
        for number in numbers[2:]:
            daemon.until(lambda n=number: daemon.job(n)["state"] == "done", "a small file arrives")
        for number in numbers[:2]:
            daemon.until(lambda n=number: daemon.job(n)["state"] == "waiting", "large ones wait")
            error = daemon.job(number)["error"]
            assert error["code"] == "no_space"
            assert "free some space" in error["hint"]
            assert len(error["message"]) > 20
        placed = list(daemon.seen(daemon.models).rglob("*.safetensors"))
        assert len(placed) == 3

        # with room again it goes on by itself; the other still says what is missing
        filler.unlink()
        job = daemon.until(
            lambda: (found := daemon.job(numbers[1]))["state"] == "done" and found, "it goes on"
        )
        content = daemon.seen(Path(job["path"])).read_bytes()
        assert hashlib.sha256(content).hexdigest() == tight["sha256"]
        assert daemon.job(numbers[0])["state"] == "waiting"
        daemon.call("transfer.cancel", ids=[numbers[0]])
        assert list(daemon.seen(daemon.models).rglob("*.part")) == []
        assert daemon.stop() == 0


def test_a_full_disk_below_the_database_stops_the_sync_until_there_is_room(home: Path) -> None:
    with (
        hub_process("--models", "1500") as hub,
        boxed(
            home,
            hub.url,
            "mkdir -p {home}/state && mount -t tmpfs -o size=12m full {home}/state",
            "[sync]",
            "auto = false",
        ) as daemon,
    ):
        daemon.call("daemon.ping")
        filler = daemon.seen(home / "state/filler")
        with filler.open("wb") as file:
            file.write(bytes(9 * MIB))
        daemon.call("sync.start")

        def told() -> Any:
            [run] = daemon.call("sync.status")["runs"]
            return run["error"] and run

        run = daemon.until(told, "the sync says why it does not go on")
        assert "full" in run["error"]
        # everything else is served meanwhile
        assert daemon.call("daemon.ping")["at_ms"]
        assert daemon.call("daemon.status")["daemon"]["services"]["sync"] == "running"
        kept = daemon.call("daemon.status")["catalog"]["models"]
        filler.unlink()
        # nothing but room and another try is needed
        daemon.call("sync.start")
        daemon.until(
            lambda: daemon.call("daemon.status")["catalog"]["models"] > kept, "the rest comes"
        )
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log.read_text()


def test_a_root_that_may_not_be_written_is_refused_before_anything_is_queued(home: Path) -> None:
    mounts = "mount --bind {models} {models} && mount -o remount,ro,bind {models}"
    with (
        hub_process("--models", "60") as hub,
        boxed(home, hub.url, mounts) as daemon,
    ):
        daemon.synced()
        daemon.until(lambda: daemon.call("daemon.status")["catalog"]["indexed"], "indexed")
        [ref] = _safetensors(daemon, 1)
        with pytest.raises(ModelkeepError) as refused:
            daemon.call("transfer.get", refs=[ref])
        assert refused.value.code == "denied"
        assert "read-only" in refused.value.message
        assert "transfer.root" in refused.value.hint
        assert daemon.call("transfer.list")["jobs"] == []
        roots = daemon.call("library.roots")["items"]
        assert [root["state"] for root in roots] == ["online"]
        assert daemon.stop() == 0


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can give up its power over permissions, with util-linux's setpriv",
)
def test_folders_this_user_may_not_use_are_said(home: Path) -> None:
    daemon = LivingDaemon(home, "http://127.0.0.1:9")
    (home / "state").mkdir(mode=0o500)
    ended = subprocess.run(
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner",
         sys.executable, "-m", "modelkeepd"],
        env=daemon.environment,
        capture_output=True,
        text=True,
        timeout=30,
    )  # fmt: skip
    assert ended.returncode in (78, 80), ended.stderr
    assert f"{home}/state" in ended.stderr
    assert "Traceback" not in ended.stderr

"""Locks, private folders, and words to the service manager."""

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from modelkeepd.platform import AlreadyRunning, InstanceLock, notify, private_folder


def test_the_second_of_two_daemons_is_told_who_is_there(tmp_path: Path) -> None:
    path = tmp_path / "daemon.lock"
    first = InstanceLock(path)
    with pytest.raises(AlreadyRunning, match=str(os.getpid())) as caught:
        InstanceLock(path)
    assert caught.value.pid == os.getpid()
    first.release()
    InstanceLock(path).release()


def test_a_lock_is_free_again_when_its_process_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "daemon.lock"
    code = (
        "import sys; from pathlib import Path; from modelkeepd.platform import InstanceLock\n"
        "lock = InstanceLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning) as caught:
            InstanceLock(path)
        assert caught.value.pid == child.pid
        child.kill()
        child.wait()
        InstanceLock(path).release()


def test_a_lock_is_not_handed_to_children(tmp_path: Path) -> None:
    lock = InstanceLock(tmp_path / "daemon.lock")
    try:
        assert not os.get_inheritable(lock._fd)
        assert (tmp_path / "daemon.lock").stat().st_mode & 0o777 == 0o600
    finally:
        lock.release()


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("keep")
    (tmp_path / "daemon.lock").symlink_to(target)
    with pytest.raises(OSError, match=r"symbolic|links"):
        InstanceLock(tmp_path / "daemon.lock")
    assert target.read_text() == "keep"


@pytest.mark.parametrize("text", ["", "rubbish", "-5", "12\x00", "١٢"])
def test_a_lock_file_with_anything_in_it_is_a_lock(tmp_path: Path, text: str) -> None:
    path = tmp_path / "daemon.lock"
    path.write_text(text)
    InstanceLock(path).release()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_private_folder_is_made_and_kept_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    before = os.umask(0)
    try:
        private_folder(folder)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_anothers_folder_or_a_planted_link_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(PermissionError, match="is a link"):
        private_folder(tmp_path / "link")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="exists"):
        private_folder(tmp_path / "file")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="another user"):
        private_folder(tmp_path / "target")


def test_without_a_service_manager_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("", "relative", "/nowhere/at/all"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert not notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not notify("READY=1")


@pytest.mark.parametrize("is_abstract", [False, True])
def test_the_service_manager_gets_one_datagram(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_abstract: bool
) -> None:
    name = f"modelkeep-test-{os.getpid()}"
    if is_abstract and sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    address = f"\0{name}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
        assert notify("READY=1", "STATUS=serving")
        assert manager.recv(1000) == b"READY=1\nSTATUS=serving"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's allocator")
def test_glibcs_allocator_takes_our_settings() -> None:
    code = "from modelkeepd.platform import return_memory_early as r; raise SystemExit(not r())"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

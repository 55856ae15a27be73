"""Part files and places on a real file system (D2, D18-D22)."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from modelkeepd.transfer import part as part_module
from modelkeepd.transfer import place as place_module
from modelkeepd.transfer.digests import git_sha1
from modelkeepd.transfer.errors import (
    DestinationOffline,
    DestinationRefused,
    DiskFailed,
    NoSpace,
    PartBusy,
    PartLost,
)
from modelkeepd.transfer.part import PartFile
from modelkeepd.transfer.place import Destination, NameTaken, check_root, rename_new
from modelkeepd.transfer.response import Accepted, Validator

CONTENT = bytes(range(256)) * 20_000
HALF = len(CONTENT) // 2
VALIDATOR = Validator("https://h.example", '"e"', None, len(CONTENT))


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def never() -> None:
    """No cancellation."""


def whole(restarted: bool = False) -> Accepted:
    return Accepted(0, len(CONTENT), len(CONTENT), restarted, True, VALIDATOR)


@pytest.fixture
def destination(tmp_path: Path) -> Iterator[Destination]:
    with Destination(tmp_path, PurePosixPath("loras/anime")) as opened:
        yield opened


@pytest.fixture
def part(destination: Destination) -> Iterator[PartFile]:
    opened = PartFile.open(destination.parts_fd, "token")
    yield opened
    opened.close()


def fill(part: PartFile, start: int = 0, end: int = len(CONTENT)) -> None:
    for at in range(start, end, 65536):
        part.write(at, memoryview(CONTENT)[at : min(at + 65536, end)])


def test_the_hash_grows_with_the_bytes_and_nothing_is_read_back(
    part: PartFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_reading(*_: object) -> bytes:
        raise AssertionError("read back")

    part.begin(whole())
    fill(part)
    monkeypatch.setattr(part_module.os, "pread", no_reading)
    part.catch_up(never)
    assert part.finish(len(CONTENT)) == hashlib.sha256(CONTENT).digest()


def test_bytes_out_of_order_are_hashed_all_the_same(part: PartFile) -> None:
    part.begin(whole())
    fill(part, HALF)
    assert part.held_bytes == 0
    fill(part, 0, HALF)
    assert part.held_bytes == len(CONTENT)
    with pytest.raises(PartLost):
        part.finish(len(CONTENT))
    part.catch_up(never)
    assert part.finish(len(CONTENT)) == hashlib.sha256(CONTENT).digest()


def test_a_former_runs_prefix_is_continued_and_rehashed(destination: Destination) -> None:
    first = PartFile.open(destination.parts_fd, "token")
    first.begin(whole())
    fill(first, 0, HALF)
    first.park()
    first.close()
    second = PartFile.open(destination.parts_fd, "token")
    assert (second.held_bytes, second.validator) == (HALF, VALIDATOR)
    assert second.total_bytes == len(CONTENT)
    second.catch_up(never)
    fill(second, HALF)
    assert second.finish(len(CONTENT)) == hashlib.sha256(CONTENT).digest()
    second.close()


@pytest.mark.parametrize("known", [True, False])
def test_gits_hash_is_made_beside_and_over_a_resume(destination: Destination, known: bool) -> None:
    first = PartFile.open(destination.parts_fd, "token")
    first.want_git(len(CONTENT) if known else None)
    first.begin(whole())
    fill(first, 0, HALF)
    first.park()
    first.close()
    second = PartFile.open(destination.parts_fd, "token")
    second.want_git(len(CONTENT) if known else None)
    second.catch_up(never)
    second.begin(whole())
    fill(second, HALF)
    second.catch_up(never)
    assert second.finish(len(CONTENT)) == hashlib.sha256(CONTENT).digest()
    assert second.git_sha1 == git_sha1(CONTENT)
    second.close()


def test_gits_hash_waits_for_a_length_that_nobody_told(part: PartFile) -> None:
    part.want_git(None)
    part.begin(Accepted(0, None, None, False, True, VALIDATOR))
    fill(part)
    part.catch_up(never)
    assert part.finish(len(CONTENT)) == hashlib.sha256(CONTENT).digest()
    assert part.git_sha1 == git_sha1(CONTENT)


def test_after_a_reboot_only_synced_bytes_count(
    destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = PartFile.open(destination.parts_fd, "token")
    first.begin(whole())
    fill(first, 0, 65536)
    first.checkpoint()
    step = part_module.MAP_EVERY_BYTES
    fill(first, 65536, 65536 + step)
    first.close()
    same_boot = PartFile.open(destination.parts_fd, "token")
    assert same_boot.held_bytes > 65536
    same_boot.close()
    monkeypatch.setattr(part_module, "boot_id", lambda: "another boot")
    rebooted = PartFile.open(destination.parts_fd, "token")
    assert rebooted.held_bytes == 65536
    rebooted.close()


def test_a_truncated_part_is_not_believed_beyond_its_end(destination: Destination) -> None:
    first = PartFile.open(destination.parts_fd, "token")
    first.begin(whole())
    fill(first)
    first.park()
    os.ftruncate(first.fd, 1000)
    first.close()
    second = PartFile.open(destination.parts_fd, "token")
    assert second.held_bytes == 1000
    second.close()


def test_room_is_reserved_before_the_first_byte(part: PartFile) -> None:
    part.begin(whole())
    assert os.fstat(part.fd).st_size == len(CONTENT)
    assert os.fstat(part.fd).st_blocks * 512 >= len(CONTENT)
    assert part.held_bytes == 0


def test_the_reserve_of_the_volume_is_never_touched(destination: Destination) -> None:
    greedy = PartFile.open(destination.parts_fd, "token", reserve_bytes=1 << 60)
    with pytest.raises(NoSpace, match="stay in reserve") as caught:
        greedy.reserve(1000)
    assert caught.value.needed_bytes == 1000
    greedy.close()


def test_a_file_system_without_reservation_gets_a_sparse_file(
    part: PartFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Libc:
        class fallocate:  # noqa: N801
            def __new__(cls, *_: object) -> int:  # type: ignore[misc]
                return -1

    monkeypatch.setattr(part_module.ctypes, "CDLL", lambda *_, **__: Libc)
    monkeypatch.setattr(part_module.ctypes, "get_errno", lambda: errno.EOPNOTSUPP)
    part.reserve(5000)
    assert os.fstat(part.fd).st_size == 5000


def test_short_writes_are_completed(part: PartFile, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def short(fd: int, data: memoryview, at: int) -> int:
        return real(fd, data[: max(1, len(data) // 3)], at)

    part.begin(whole())
    monkeypatch.setattr(part_module.os, "pwrite", short)
    fill(part)
    monkeypatch.undo()
    assert part.finish(len(CONTENT)) == hashlib.sha256(CONTENT).digest()
    assert os.pread(part.fd, len(CONTENT), 0) == CONTENT


def test_a_failed_sync_poisons_the_part(part: PartFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    part.begin(whole())
    fill(part)
    monkeypatch.setattr(part_module.os, "fsync", failing)
    with pytest.raises(DiskFailed):
        part.finish(len(CONTENT))
    assert part.poisoned


def test_two_processes_never_write_one_part(destination: Destination, part: PartFile) -> None:
    assert part.fd >= 0
    with pytest.raises(PartBusy):
        PartFile.open(destination.parts_fd, "token")


@pytest.mark.parametrize("plant", ["link", "dangling", "hardlink", "fifo", "folder"])
def test_something_planted_under_the_parts_name_is_not_written_through(
    tmp_path: Path, destination: Destination, plant: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    name = tmp_path / ".modelkeep/parts/token.part"
    if plant == "link":
        name.symlink_to(victim)
    elif plant == "dangling":
        name.symlink_to(tmp_path / "made-by-us")
    elif plant == "hardlink":
        name.hardlink_to(victim)
    elif plant == "fifo":
        os.mkfifo(name)
    else:
        name.mkdir()
    with pytest.raises(PartLost):
        PartFile.open(destination.parts_fd, "token")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "made-by-us").exists()


# Publishing ------------------------------------------------------------------------------------


def finished(part: PartFile) -> part_module.Identity:
    part.begin(whole())
    fill(part)
    part.finish(len(CONTENT))
    return part.identity()


def test_publishing_moves_the_verified_file_and_leaves_nothing_behind(
    tmp_path: Path, destination: Destination, part: PartFile
) -> None:
    identity = finished(part)
    placed = destination.publish(part, "m.safetensors", identity)
    assert placed == identity
    assert destination.find("m.safetensors") == identity
    assert (tmp_path / "loras/anime/m.safetensors").read_bytes() == CONTENT
    assert list((tmp_path / ".modelkeep/parts").iterdir()) == []


def test_a_taken_name_is_refused_and_its_file_untouched(
    tmp_path: Path, destination: Destination, part: PartFile
) -> None:
    identity = finished(part)
    for plant in ("file", "link"):
        target = tmp_path / "loras/anime/m.safetensors"
        if plant == "file":
            target.write_bytes(b"theirs")
        else:
            target.unlink()
            target.symlink_to("nowhere")
        with pytest.raises(NameTaken):
            destination.publish(part, "m.safetensors", identity)
    assert destination.find("m.safetensors") is None
    part.check_still(identity)


def test_a_part_that_changed_after_verifying_is_not_published(
    tmp_path: Path, destination: Destination, part: PartFile
) -> None:
    identity = finished(part)
    with (tmp_path / ".modelkeep/parts/token.part").open("r+b") as handle:
        handle.seek(100)
        handle.write(b"evil")
    os.utime(tmp_path / ".modelkeep/parts/token.part", ns=(0, identity.mtime_ns + 1))
    with pytest.raises(PartLost, match="changed after"):
        destination.publish(part, "m.safetensors", identity)


def test_a_part_that_was_replaced_is_not_published(
    tmp_path: Path, destination: Destination, part: PartFile
) -> None:
    identity = finished(part)
    other = tmp_path / "other"
    other.write_bytes(b"evil")
    other.replace(tmp_path / ".modelkeep/parts/token.part")
    with pytest.raises(PartLost, match="replaced"):
        destination.publish(part, "m.safetensors", identity)


def test_a_swapped_folder_is_refused(
    tmp_path: Path, destination: Destination, part: PartFile
) -> None:
    identity = finished(part)
    (tmp_path / "loras/anime").rename(tmp_path / "elsewhere")
    (tmp_path / "loras/anime").mkdir()
    with pytest.raises(DestinationRefused, match="was replaced"):
        destination.publish(part, "m.safetensors", identity)
    (tmp_path / "loras/anime").rmdir()
    (tmp_path / "loras/anime").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DestinationRefused, match="is a link"):
        destination.publish(part, "m.safetensors", identity)


@pytest.mark.parametrize("known", [True, False])
def test_the_rename_never_replaces_however_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    if not known:
        monkeypatch.setattr(place_module, "_rename_exclusive", lambda *_: False)
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(FileExistsError):
            rename_new(fd, "a", fd, "b")
        rename_new(fd, "a", fd, "c")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]
        if not known:

            def no_links(*_: object, **__: object) -> None:
                raise OSError(errno.EPERM, "no hard links here")

            monkeypatch.setattr(place_module.os, "link", no_links)
            with pytest.raises(FileExistsError):
                rename_new(fd, "c", fd, "b")
            rename_new(fd, "c", fd, "d")
            assert (tmp_path / "d").read_bytes() == b"a"
            assert (tmp_path / "b").read_bytes() == b"b"
    finally:
        os.close(fd)


def test_the_quarantine_is_hidden_private_and_repeatable(
    tmp_path: Path, destination: Destination, part: PartFile
) -> None:
    finished(part)
    path = destination.quarantine_path("token", "m.pt")
    for _ in range(2):
        destination.quarantine("token", "m.pt")
        assert path.read_bytes() == CONTENT
        assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent == tmp_path / ".modelkeep/quarantine"
    assert list((tmp_path / ".modelkeep/parts").iterdir()) == []


# Roots -----------------------------------------------------------------------------------------


def test_a_missing_root_is_offline_and_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(DestinationOffline):
        Destination(tmp_path / "mnt", PurePosixPath("loras"))
    assert not (tmp_path / "mnt").exists()


@pytest.mark.parametrize("folder", ["../x", "a/../../x", "/etc"])
def test_a_folder_outside_the_root_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(DestinationRefused):
        Destination(tmp_path, PurePosixPath(folder))


@pytest.mark.parametrize("plant", ["file", "link"])
def test_a_root_that_is_no_folder_is_refused_and_a_linked_one_is_followed(
    tmp_path: Path, plant: str
) -> None:
    root = tmp_path / "root"
    if plant == "file":
        root.write_bytes(b"")
        with pytest.raises(DestinationRefused, match="not a folder"):
            check_root(root)
    else:
        (tmp_path / "real").mkdir()
        root.symlink_to(tmp_path / "real")
        check_root(root)


def test_a_link_for_the_work_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/.modelkeep").symlink_to(tmp_path / "outside")
    with pytest.raises(DestinationRefused, match="is a link"):
        Destination(tmp_path / "root", PurePosixPath("loras"))


def test_descriptors_are_closed_whatever_happens(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(DestinationRefused):
        Destination(tmp_path, PurePosixPath("a/../b"))
    with Destination(tmp_path, PurePosixPath("a")) as opened:
        PartFile.open(opened.parts_fd, "x").close()
        holder = os.open("x.part", os.O_RDWR, dir_fd=opened.parts_fd)
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(PartBusy):
            PartFile.open(opened.parts_fd, "x")
        os.close(holder)
    assert open_descriptors() == before

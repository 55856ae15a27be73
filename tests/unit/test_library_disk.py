"""Reading the disk: walks in order, merges with rows, fingerprints, hashes, the inbox's threads."""

import hashlib
import os
import socket
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.library.fingerprint import (
    ChangedWhileRead,
    NotRegular,
    Stamp,
    quick_fingerprint,
    read_hashes,
)
from modelkeepd.library.inbox import Inbox
from modelkeepd.library.paths import to_text
from modelkeepd.library.walk import Entry, Unreadable, compare, walk
from modelkeepd.library.watch import without_events


def texts(root: Path, skipped: "Counter[str] | None" = None) -> list[str]:
    found = walk(str(root), Counter() if skipped is None else skipped)
    return [entry[0] for entry in found if not isinstance(entry, Unreadable)]


NAMES = st.sampled_from(["a", "b", "a.b", "a-", "a b", "é", "0", "A", "あ", "a0", "aa"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=12))
def test_the_walk_is_in_the_order_of_the_database(
    tmp_path_factory: pytest.TempPathFactory, paths: list[list[str]]
) -> None:
    root = tmp_path_factory.mktemp("walk")
    wanted = set()
    for *folders, name in paths:
        folder = root.joinpath(*folders)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.ckpt"
        path.touch()
        wanted.add(to_text(str(path)))
    assert texts(root) == sorted(wanted)


def test_everything_that_is_no_model_file_is_passed_over_and_counted(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    good.touch()
    odd = os.fsencode(tmp_path) + b"/\xff\xfe.ckpt"
    os.close(os.open(odd, os.O_CREAT))
    (tmp_path / ("n" * 243 + ".safetensors")).touch()
    os.mkfifo(tmp_path / "fifo.safetensors")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.ckpt").symlink_to("self.ckpt")
    (tmp_path / "link.ckpt").symlink_to(good)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.ckpt").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "x.safetensors.part").touch()
    (tmp_path / "half.ckpt").touch()
    (tmp_path / "half.ckpt.aria2").touch()
    (tmp_path / "folder.ckpt").mkdir()
    (tmp_path / "folder.ckpt" / "inside.ckpt").touch()
    skipped: Counter[str] = Counter()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.ckpt"))
        found = texts(tmp_path, skipped)
    assert found == sorted(
        (
            *(str(good), to_text(os.fsdecode(odd)), str(tmp_path / ("n" * 243 + ".safetensors"))),
            str(tmp_path / "folder.ckpt" / "inside.ckpt"),
        )
    )
    assert skipped == {
        "special file": 2,
        "link": 3,
        "folder not entered": 1,
        "not a model": 1,
        "unfinished": 3,
    }


def test_a_tree_deeper_than_recursion_is_walked(tmp_path: Path) -> None:
    folder = tmp_path
    folders = []
    while len(folders) < sys.getrecursionlimit() + 50:
        folder = folder / "d"
        folder.mkdir()
        (folder / "x.ckpt").touch()
        folders.append(folder)
    assert len(texts(tmp_path)) == len(folders)
    for folder in reversed(folders):  # what removes the test's folder does recurse
        (folder / "x.ckpt").unlink()
        folder.rmdir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_without_permission_is_unreadable(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0)
    skipped: Counter[str] = Counter()
    assert list(walk(str(tmp_path), skipped)) == [Unreadable(f"{shut}/")]
    shut.chmod(0o700)


def test_a_folder_that_cannot_be_listed_says_nothing_of_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.ckpt").touch()
    real = os.scandir

    def failing(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "no")
        return real(path)

    rows = [
        Entry(f"{tmp_path}/{name}", number, 0, 0, 0)
        for number, name in enumerate(["a/gone.ckpt", "b/kept.ckpt", "b.ckpt", "c/gone.ckpt"])
    ]
    monkeypatch.setattr(os, "scandir", failing)
    skipped: Counter[str] = Counter()
    found = list(compare(walk(str(tmp_path), skipped), sorted(rows), skipped))
    unseen = [path.removeprefix(f"{tmp_path}/") for path, status, _ in found if status is None]
    assert unseen == ["a/gone.ckpt", "b.ckpt", "c/gone.ckpt"]
    assert skipped["unreadable folder"] == 1


def test_numbers_of_64_bits_are_the_same_in_rows_and_on_disk() -> None:
    huge = (1 << 64) - 5
    entries = [Entry("/r/x", 1, 2, huge, 3)]
    assert list(compare(entries, [Entry("/r/x", 1, 2, -5, 3)], Counter())) == []
    assert len(list(compare(entries, [Entry("/r/x", 1, 2, -6, 3)], Counter()))) == 1


@settings(max_examples=150)
@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_comparing_finds_exactly_the_differences(
    on_disk: set[int], in_rows: set[int], altered: set[int]
) -> None:
    def path(number: int) -> str:
        return f"/r/{number:02}"

    entries = [Entry(path(n), n + (n in altered), 0, n, 1) for n in sorted(on_disk)]
    rows = [Entry(path(n), n, 0, n, 1) for n in sorted(in_rows)]
    found = list(compare(entries, rows, Counter()))
    assert {p for p, s, r in found if r is None} == {path(n) for n in on_disk - in_rows}
    assert {p for p, s, r in found if s is None} == {path(n) for n in in_rows - on_disk}
    assert {p for p, s, r in found if s and r} == {path(n) for n in on_disk & in_rows & altered}
    assert [p for p, _, _ in found] == sorted(p for p, _, _ in found)


# -- reading


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 131_072, 131_073, 3_000_000])
def test_one_read_gives_hash_and_fingerprint(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(os.urandom(size))
    hashes = read_hashes(str(path))
    assert hashes.sha256 == hashlib.sha256(path.read_bytes()).digest()
    assert (hashes.stamp, hashes.fingerprint) == quick_fingerprint(str(path))
    assert hashes.stamp == Stamp.of(path.stat())


def test_fingerprints_tell_head_tail_and_size_apart(tmp_path: Path) -> None:
    base = bytes(200_000)
    variants = [base, b"x" + base[1:], base[:-1] + b"x", base + b"\0", base[:100], b""]
    prints = set()
    for number, data in enumerate(variants):
        path = tmp_path / str(number)
        path.write_bytes(data)
        prints.add(quick_fingerprint(str(path))[1])
    assert len(prints) == len(variants)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("fifo", "."):
        with pytest.raises(NotRegular):
            read_hashes(str(tmp_path / name))
    with pytest.raises(OSError, match="link"):
        quick_fingerprint(str(tmp_path / "link"))


def test_a_file_that_changes_under_the_reader_gives_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(3 << 20))

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(ChangedWhileRead):
        read_hashes(str(path), grow)


def test_reading_stops_when_it_is_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(5 << 20))
    chunks = 0

    def stop() -> None:
        nonlocal chunks
        chunks += 1
        if chunks == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_hashes(str(path), stop)
    assert chunks == 2


# -- inbox


async def test_hints_from_threads_are_coalesced() -> None:
    inbox = Inbox(bound=100)

    def put() -> None:
        for number in range(5000):
            inbox.put(1, f"/r/{number % 50}", closed=number % 50 == 7)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await trio.to_thread.run_sync(thread.join)
    seen: dict[tuple[int, str], bool] = {}
    with trio.fail_after(5):
        while len(seen) < 50:
            hints = await inbox.drain()
            assert hints.dirty == {}
            seen |= hints.paths
    assert inbox.taken == 20_000


async def test_more_hints_than_are_kept_make_the_root_dirty_and_no_other() -> None:
    inbox = Inbox(bound=10)
    for number in range(5):
        inbox.put(2, f"/s/{number}")
    for number in range(50):
        inbox.put(1, f"/r/{number}")
    hints = await inbox.drain()
    assert set(hints.dirty) == {1}
    assert {root for root, _ in hints.paths} == {2}
    inbox.put(1, "/r/again")
    assert set((await inbox.drain()).paths) == {(1, "/r/again")}


def test_a_hint_after_the_end_of_the_loop_is_dropped_quietly() -> None:
    async def make() -> Inbox:
        return Inbox()

    inbox = trio.run(make)
    inbox.put(1, "/r/late")
    inbox.mark_dirty(1, "late")


def test_network_drives_are_known_by_their_type(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\nserver:/m /mnt/my\\040models nfs4 rw 0 0\n"
        "/dev/sdb /mnt/my\\040models/local ext4 rw 0 0\n"
    )
    assert without_events("/home/x", mounts) is None
    assert without_events("/mnt/my models/loras", mounts) == "nfs4"
    assert without_events("/mnt/my models/local/x", mounts) is None
    assert without_events("/x", tmp_path / "absent") is None

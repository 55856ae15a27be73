"""What a disk can do to a library: odd files, storms, lost events, limits, swaps, lost volumes."""

# ruff: noqa: ASYNC240 (the tests are the other programs that use the disk)

import errno
import os
import shutil
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from modelkeep_protocol import schema
from modelkeepd.library.inbox import Inbox
from modelkeepd.library.inotify import TreeWatch, _Libc
from modelkeepd.library.paths import to_text
from modelkeepd.library.watch import MakeWatch, system_watch
from modelkeepd.library.watchdog_watch import WatchdogWatch
from tests.fakes.library import DEADLINE_S, model_bytes, running_library, sha256

PRESENT = "SELECT path FROM library_file WHERE state = 'present' ORDER BY path"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def on_disk(root: Path) -> list[tuple[str]]:
    return sorted((to_text(str(path)),) for path in root.rglob("*.safetensors"))


async def test_the_zoo_is_passed_over_counted_and_harms_no_neighbor(
    tmp_path: Path, root: Path
) -> None:
    """W9, I14: a FIFO never hangs it, a loop never ends in one, a name of any bytes is kept."""
    good = root / "good.safetensors"
    good.write_bytes(model_bytes(1))
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "fifo.safetensors")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s.ckpt"))
    odd = os.fsdecode(os.fsencode(root) + b"/caf\xe9 \xff.safetensors")
    Path(odd).write_bytes(model_bytes(2))
    (root / "empty.safetensors").touch()
    with (root / "sparse.ckpt").open("wb") as sparse:
        sparse.truncate(10 << 40)
    async with running_library(tmp_path, root) as bench:
        await bench.until_event("file.added", to_text(odd))
        (counts,) = (await bench.service.scan()).items
        assert counts.seen == 4
        assert counts.skipped == {"link": 1, "special file": 2}
        await bench.until_rows([(4, 3)], "SELECT count(*), count(sha256) FROM library_file")
        await bench.until_rows(
            [("it is larger than 1 TiB",)],
            "SELECT trouble FROM library_file WHERE trouble IS NOT NULL",
        )
        os.mkfifo(root / "later.ckpt")
        Path(odd).rename(os.fsdecode(os.fsencode(root) + b"/\xfe.safetensors"))
        moved = await bench.until(lambda events: any(e.kind == "file.moved" for e in events))
        assert moved[-1].payload["from"] == to_text(odd)
        listed = (await bench.service.list(schema.ListFiles())).items
        assert {item.verdict for item in listed if item.path == str(good)} == {"safe"}


async def test_more_events_than_are_kept_lose_nothing(tmp_path: Path, root: Path) -> None:
    """W1: over the bound the root is walked instead, and the index equals the disk."""
    async with running_library(tmp_path, root, inbox_bound=20) as bench:
        await bench.until_event("scan.finished", root)
        for number in range(300):
            (root / f"{number:03}.safetensors").write_bytes(model_bytes(number, 50))
        await bench.until_event("root.dirty", root)
        await bench.until_rows(on_disk(root), PRESENT)


@pytest.mark.nightly
async def test_a_storm_of_60_000_files_is_weathered(tmp_path: Path, root: Path) -> None:
    async with running_library(tmp_path, root) as bench:
        await bench.until_event("scan.finished", root)

        def storm() -> None:
            for number in range(60_000):
                folder = root / str(number % 100)
                folder.mkdir(exist_ok=True)
                (folder / f"{number}.safetensors").write_bytes(number.to_bytes(8, "little"))

        await trio.to_thread.run_sync(storm)
        with trio.fail_after(15):  # after any storm the index equals the disk by then
            while (await bench.service.status()).files != 60_000:
                with trio.move_on_after(0.2):
                    await bench.store.feed.changed(bench.store.feed.last_seq)
        assert await bench.rows(PRESENT) == on_disk(root)


class Stuck(TreeWatch):
    """A reader that is busy with something else until it is let go."""

    release = threading.Event()
    stuck = threading.Event()

    def _take(self, raw: bytes) -> None:
        self.stuck.set()
        self.release.wait()
        super()._take(raw)


async def test_a_full_event_queue_of_the_system_causes_a_walk(tmp_path: Path, root: Path) -> None:
    """W1: the kernel drops events beyond its queue; the index equals the disk all the same."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    Stuck.release.clear()
    async with running_library(tmp_path, root, make_watch=Stuck) as bench:
        try:
            await bench.until_event("scan.finished", root)
            Stuck.stuck.clear()
            (root / "first.txt").touch()

            def burst() -> None:
                Stuck.stuck.wait(DEADLINE_S)  # the reader has read that and reads no more
                for number in range(limit // 2 + 2):  # two events each
                    os.close(os.open(root / f"{number}.txt", os.O_CREAT | os.O_WRONLY))
                (root / "sub").mkdir()
                (root / "sub" / "x.safetensors").write_bytes(model_bytes(1))

            await trio.to_thread.run_sync(burst)
        finally:
            Stuck.release.set()
        dirty = await bench.until_event("root.dirty", root)
        assert "overflow" in dirty.payload["why"]
        await bench.until_rows(on_disk(root), PRESENT)
        new = root / "sub" / "y.safetensors"  # and a folder made unseen is watched now
        new.write_bytes(model_bytes(2))
        await bench.until_event("file.added", new)


class Scarce(_Libc):
    """A system that allows so many watches."""

    allowed = 2

    def add(self, handle: int, path: bytes) -> int:
        number = super().add(handle, path)
        if number > self.allowed:
            self.remove(handle, number)
            raise OSError(errno.ENOSPC, "No space left on device")
        return number


async def test_folders_over_the_watch_limit_are_polled_and_it_is_said(
    tmp_path: Path, root: Path
) -> None:
    """W2: how many are needed is said, and none of them is blind."""
    for name in "abcd":
        (root / name).mkdir()

    def scarce(inbox: Inbox, root_id: int, path: str) -> TreeWatch:
        return TreeWatch(inbox, root_id, path, Scarce())

    async with running_library(tmp_path, root, make_watch=scarce) as bench:
        warned = await bench.until_event("root.warning", root)
        assert "3 of 5 folders" in warned.payload["message"]
        assert "fs.inotify.max_user_watches" in warned.payload["message"]
        (listed,) = (await bench.service.roots()).items
        assert (listed.watching, listed.warning) == ("polling", warned.payload["message"])
        for name in "abcd":
            path = root / name / "x.safetensors"
            path.write_bytes(model_bytes(1))
            await bench.until_event("file.added", path)
        assert len(await bench.events("root.warning")) == 1


@pytest.mark.system
async def test_the_real_watch_limit_is_met_in_a_user_namespace(tmp_path: Path, root: Path) -> None:
    """W2 against the kernel itself: 50 watches for 100 folders."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    for number in range(100):
        (root / str(number)).mkdir()
    script = (
        "import sys, trio\n"
        "from modelkeepd.library.inbox import Inbox\n"
        "from modelkeepd.library.inotify import TreeWatch\n"
        "async def main():\n"
        "    watch = TreeWatch(Inbox(), 1, sys.argv[1])\n"
        "    watch.start(sys.argv[1])\n"
        "    print(watch.watched, len(watch.refused))\n"
        "    watch.stop()\n"
        "trio.run(main)\n"
    )
    limit = "echo 50 > /proc/sys/user/max_inotify_watches"
    command = ["unshare", "-Ur", "sh", "-c", f'{limit} && exec "$0" "$@"']
    done = await trio.run_process(
        [*command, sys.executable, "-c", script, str(root)],
        capture_stdout=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("user namespaces are not allowed here")
    assert done.stdout.split() == [b"50", b"51"]


async def test_a_root_that_cannot_be_watched_is_polled_until_it_can(
    tmp_path: Path, root: Path
) -> None:
    refuse = True

    class Refusing(_Libc):
        def open(self) -> int:
            if refuse:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().open()

    def refusing(inbox: Inbox, root_id: int, path: str) -> TreeWatch:
        return TreeWatch(inbox, root_id, path, Refusing())

    async with running_library(tmp_path, root, make_watch=refusing) as bench:
        warned = await bench.until_event("root.warning", root)
        assert "max_user_instances" in warned.payload["message"]
        path = root / "x.safetensors"
        path.write_bytes(model_bytes(1))
        await bench.until_event("file.added", path)
        refuse = False
        with trio.fail_after(DEADLINE_S):
            while (await bench.service.roots()).items[0].watching != "events":
                await trio.lowlevel.checkpoint()


async def test_a_watch_that_dies_is_replaced_and_the_root_walked(
    tmp_path: Path, root: Path
) -> None:
    """W10"""
    mortal = True

    class Mortal(TreeWatch):
        def _take(self, raw: bytes) -> None:
            if mortal:
                raise RuntimeError("a fault of ours")
            super()._take(raw)

    async with running_library(tmp_path, root, make_watch=Mortal) as bench:
        first = await bench.until_event("scan.finished", root)
        path = root / "x.safetensors"
        path.write_bytes(model_bytes(1))
        await bench.until_event("root.dirty", root, after=first.seq)
        mortal = False
        await bench.until_event("file.added", path)
        new = root / "y.safetensors"
        new.write_bytes(model_bytes(2))
        await bench.until_event("file.added", new)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of watchdog's own making
@pytest.mark.parametrize("make_watch", [system_watch, WatchdogWatch])
async def test_every_kind_of_watch_tells_of_the_same_things(
    tmp_path: Path, root: Path, make_watch: MakeWatch
) -> None:
    async with running_library(tmp_path, root, make_watch=make_watch) as bench:
        await bench.until_event("scan.finished", root)
        path, moved = root / "a" / "x.safetensors", root / "b" / "y.safetensors"
        path.parent.mkdir()
        path.write_bytes(model_bytes(1))
        await bench.until_event("file.added", path)
        path.parent.rename(moved.parent)
        (moved.parent / "x.safetensors").rename(moved)
        await bench.until_event("file.moved", moved)
        moved.write_bytes(model_bytes(2, 3000))
        await bench.until_event("file.changed", moved)
        moved.unlink()
        await bench.until_event("file.gone", moved)


async def test_a_root_that_was_replaced_is_watched_anew(tmp_path: Path, root: Path) -> None:
    """W3: a copy of the folder in its place is the root again, with events, and nothing is lost."""
    path = root / "x.safetensors"
    path.write_bytes(model_bytes(1))
    async with running_library(tmp_path, root) as bench:
        await bench.until_event("file.added", path)
        await bench.until_rows([(1,)], "SELECT count(sha256) FROM library_file")
        scanned = (await bench.events("scan.finished"))[-1]
        copy = tmp_path / "copy"
        shutil.copytree(root, copy)  # keeps the times
        root.rename(tmp_path / "old")
        copy.rename(root)
        await bench.until_event("scan.finished", root, after=scanned.seq)
        new = root / "y.safetensors"
        new.write_bytes(model_bytes(2))
        await bench.until_event("file.added", new)
        assert await bench.events("file.gone", "file.changed", "file.moved") == []
        assert bench.hashed.count(str(path)) == 1


async def test_an_emptied_root_is_believed_only_when_it_is_the_same_folder(
    tmp_path: Path, root: Path
) -> None:
    path = root / "x.safetensors"
    path.write_bytes(model_bytes(1))
    async with running_library(tmp_path, root) as bench:
        await bench.until_event("file.added", path)
        path.unlink()
        await bench.until_event("file.gone", path)


async def test_a_replacement_is_accepted_when_the_user_asks_for_a_scan(
    tmp_path: Path, root: Path
) -> None:
    path = root / "x.safetensors"
    path.write_bytes(model_bytes(1))
    async with running_library(tmp_path, root) as bench:
        await bench.until_event("file.added", path)
        root.rename(tmp_path / "old")
        root.mkdir()
        await bench.until_event("root.offline", root)
        (counts,) = (await bench.service.scan(str(root))).items
        assert counts.seen == 0
        await bench.until_event("file.gone", path)


async def test_a_folder_moved_out_takes_its_files_along(tmp_path: Path, root: Path) -> None:
    """W4: also what happens inside it afterwards is none of ours."""
    folder = root / "a"
    folder.mkdir()
    path = folder / "x.safetensors"
    path.write_bytes(model_bytes(1))
    async with running_library(tmp_path, root) as bench:
        await bench.until_event("file.added", path)
        folder.rename(tmp_path / "outside")
        gone = await bench.until_event("file.gone", path)
        (tmp_path / "outside" / "y.safetensors").write_bytes(model_bytes(2))
        (tmp_path / "outside").rename(folder)
        await bench.until_event("file.added", folder / "y.safetensors")
        back = await bench.until_event("file.added", path, after=gone.seq)
        assert back.payload["returned"] is True


async def test_deep_folders_made_at_once_are_found_whole(tmp_path: Path, root: Path) -> None:
    """W5"""
    async with running_library(tmp_path, root) as bench:
        await bench.until_event("scan.finished", root)
        folder = root
        for number in range(60):
            folder = folder / f"d{number}"
            folder.mkdir()
            (folder / "x.safetensors").write_bytes(model_bytes(number, 20))
        await bench.until_rows(on_disk(root), PRESENT)
        shutil.rmtree(root / "d0")
        (root / "d0" / "d1").mkdir(parents=True)
        (root / "d0" / "d1" / "again.safetensors").write_bytes(model_bytes(99))
        await bench.until_rows(on_disk(root), PRESENT)


async def test_two_swapped_names_swap_their_rows(tmp_path: Path, root: Path) -> None:
    """W6"""
    one, two, aside = (root / f"{name}.safetensors" for name in ("one", "two", "aside"))
    one.write_bytes(model_bytes(1))
    two.write_bytes(model_bytes(2))
    async with running_library(tmp_path, root) as bench:
        await bench.until_rows([(2,)], "SELECT count(sha256) FROM library_file")
        before = dict(await bench.rows("SELECT path, file_id FROM library_file"))
        one.rename(aside)
        two.rename(one)
        aside.rename(two)
        swapped = [(before[str(two)], str(one)), (before[str(one)], str(two))]
        await bench.until_rows(
            swapped, "SELECT file_id, path FROM library_file WHERE state = 'present' ORDER BY path"
        )
        assert sorted(bench.hashed) == [str(one), str(two)]


async def test_a_hard_link_is_known_without_reading_it(tmp_path: Path, root: Path) -> None:
    path, link = root / "x.safetensors", root / "y.safetensors"
    data = model_bytes(1)
    path.write_bytes(data)
    async with running_library(tmp_path, root) as bench:
        await bench.until_rows([(1,)], "SELECT count(sha256) FROM library_file")
        os.link(path, link)
        await bench.until_event("file.added", link)
        assert await bench.rows("SELECT DISTINCT sha256 FROM library_file") == [(sha256(data),)]
        assert bench.hashed == [str(path)]


async def test_a_file_saved_by_rename_is_a_changed_file(tmp_path: Path, root: Path) -> None:
    path = root / "x.safetensors"
    path.write_bytes(model_bytes(1))
    async with running_library(tmp_path, root) as bench:
        await bench.until_rows([(1,)], "SELECT count(sha256) FROM library_file")
        saved = root / "x.safetensors.tmp"
        saved.write_bytes(model_bytes(2))
        saved.rename(path)
        await bench.until_event("file.changed", path)
        await bench.until_rows(
            [(1, sha256(model_bytes(2)))], "SELECT file_id, sha256 FROM library_file"
        )


async def test_a_touched_file_is_read_again_and_stays_itself(tmp_path: Path, root: Path) -> None:
    path = root / "x.safetensors"
    data = model_bytes(1)
    path.write_bytes(data)
    async with running_library(tmp_path, root) as bench:
        await bench.add_model(1, sha256(data))
        await bench.until_event("file.identified", path)
        os.utime(path, (1, 1))
        await bench.until_rows(
            [(1_000_000_000, sha256(data))], "SELECT mtime_ns, sha256 FROM library_file"
        )
        assert bench.hashed == [str(path), str(path)]
        assert await bench.events("file.changed", "file.gone") == []
        assert await bench.rows("SELECT owned FROM model") == [(1,)]


async def test_a_file_that_is_still_written_is_left_alone(tmp_path: Path, root: Path) -> None:
    """W7: no event and no hash until its writer is done."""
    path = root / "x.safetensors"
    data = model_bytes(1, 2000)
    async with running_library(tmp_path, root, settle_s=0.4) as bench:
        await bench.until_event("scan.finished", root)
        with path.open("wb") as file:
            for start in range(0, len(data), 250):
                file.write(data[start : start + 250])
                file.flush()
                with trio.move_on_after(0.05):
                    await bench.until_event("file.added", path)
                    pytest.fail("announced while it was being written")
        await bench.until_rows([(sha256(data),)], "SELECT sha256 FROM library_file")
        assert bench.hashed == [str(path)]


async def test_a_download_of_another_program_is_taken_when_its_mark_goes(
    tmp_path: Path, root: Path
) -> None:
    path, mark = root / "x.safetensors", root / "x.safetensors.aria2"
    async with running_library(tmp_path, root) as bench:
        await bench.until_event("scan.finished", root)
        mark.touch()
        path.write_bytes(model_bytes(1))
        other = root / "y.safetensors"
        other.write_bytes(model_bytes(2))
        await bench.until_event("file.added", other)
        assert await bench.rows("SELECT path FROM library_file") == [(str(other),)]
        mark.unlink()
        await bench.until_event("file.added", path)


async def test_a_file_that_cannot_be_read_is_reported_and_stops_nothing(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = root / "a.safetensors", root / "b.safetensors"
    bad.write_bytes(model_bytes(1))
    good.write_bytes(model_bytes(2))
    real = os.readv

    def failing(handle: int, buffers: Any) -> int:
        if os.path.realpath(f"/proc/self/fd/{handle}") == str(bad):
            raise OSError(5, "Input/output error")
        return real(handle, buffers)

    monkeypatch.setattr(os, "readv", failing)
    async with running_library(tmp_path, root) as bench:
        await bench.until_rows(
            [("Input/output error", None), (None, sha256(model_bytes(2)))],
            "SELECT trouble, sha256 FROM library_file ORDER BY path",
        )


async def test_roots_inside_roots_have_each_file_once(tmp_path: Path, root: Path) -> None:
    inner = root / "inner"
    inner.mkdir()
    (root / "x.safetensors").write_bytes(model_bytes(1))
    (inner / "y.safetensors").write_bytes(model_bytes(2))
    async with running_library(tmp_path, root) as bench:
        await bench.until_rows(on_disk(root), PRESENT)
        listed = (await bench.service.add(str(inner))).items
        assert [item.files for item in listed] == [1, 1]
        await bench.service.scan()
        assert await bench.rows(PRESENT) == on_disk(root)
        listed = (await bench.service.remove(str(inner))).items
        assert [item.files for item in listed] == [2]


async def test_a_root_that_left_the_settings_is_no_longer_watched(
    tmp_path: Path, root: Path
) -> None:
    (root / "x.safetensors").write_bytes(model_bytes(1))
    async with running_library(tmp_path, root) as bench:
        await bench.until_rows(on_disk(root), PRESENT)
    async with running_library(tmp_path) as bench:
        assert (await bench.service.roots()).items == []
        assert (root / "x.safetensors").exists()


async def test_what_changed_while_the_daemon_was_off_is_found(tmp_path: Path, root: Path) -> None:
    """W10, R8"""
    names = ["kept", "moved", "gone", "changed"]
    for number, name in enumerate(names):
        (root / f"{name}.safetensors").write_bytes(model_bytes(number))
    async with running_library(tmp_path, root) as bench:
        await bench.until_rows([(4,)], "SELECT count(sha256) FROM library_file")
    (root / "sub").mkdir()
    (root / "moved.safetensors").rename(root / "sub" / "renamed.safetensors")
    (root / "gone.safetensors").unlink()
    (root / "changed.safetensors").write_bytes(model_bytes(77))
    (root / "new.safetensors").write_bytes(model_bytes(78))
    async with running_library(tmp_path, root) as bench:
        await bench.until_rows(on_disk(root), PRESENT)
        await bench.until_rows([(0,)], "SELECT count(*) FROM library_file WHERE sha256 IS NULL")
        assert sorted(bench.hashed) == [
            str(root / "changed.safetensors"),
            str(root / "new.safetensors"),
        ]
        kinds = [(event.kind, Path(event.subject).stem) for event in await bench.events()]
        assert ("file.moved", "renamed") in kinds
        assert ("file.gone", "gone") in kinds
        assert ("file.changed", "changed") in kinds

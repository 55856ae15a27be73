"""The library from a file on disk to the event about it."""

# ruff: noqa: ASYNC240 (the tests are the other programs that use the disk)

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import trio

from modelkeep_protocol import schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.library.records import PlacedFile, adopt, expect, owned_path
from modelkeepd.store import Durability
from tests.fakes.library import DEADLINE_S, model_bytes, ref_of, running_library, sha256


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "loras").mkdir(parents=True)
    return folder


async def test_a_file_that_was_there_before_is_known_and_identified(
    tmp_path: Path, root: Path
) -> None:
    data = model_bytes(1)
    path = root / "loras" / "x.safetensors"
    path.write_bytes(data)
    async with running_library(tmp_path, root) as bench:
        model = await bench.add_model(7, sha256(data), "Watercolor")
        event = await bench.until_event("file.identified", path)
        assert event.payload["ref"] == ref_of(7)
        assert event.payload["name"] == "Watercolor"
        assert await bench.rows("SELECT owned FROM model WHERE model_key = ?", model) == [(1,)]
        ((changed_seq,),) = await bench.rows("SELECT changed_seq FROM model")
        assert changed_seq >= event.seq
        (item,) = (await bench.service.list(schema.ListFiles())).items
        assert (item.path, item.sha256, item.ref, item.state, item.verdict) == (
            *(str(path), sha256(data).hex(), ref_of(7), "present", "safe"),
        )
        status = await bench.service.status()
        assert (status.files, status.size_bytes, status.identified) == (1, len(data), 1)


async def test_a_file_dropped_into_a_watched_folder_is_announced(
    tmp_path: Path, root: Path
) -> None:
    data = model_bytes(2)
    async with running_library(tmp_path, root) as bench:
        await bench.add_model(8, sha256(data))
        await bench.until_event("scan.finished", root)
        path = root / "loras" / "new.safetensors"
        path.write_bytes(data)
        await bench.until_event("file.added", path)
        await bench.until_event("file.identified", path)


async def test_renames_and_moves_keep_identity_and_never_rehash(tmp_path: Path, root: Path) -> None:
    data = model_bytes(3)
    first = root / "loras" / "a.safetensors"
    first.write_bytes(data)
    async with running_library(tmp_path, root) as bench:
        await bench.add_model(9, sha256(data))
        await bench.until_event("file.identified", first)
        second = root / "loras" / "b.safetensors"
        first.rename(second)
        moved = await bench.until_event("file.moved", second)
        assert moved.payload["from"] == str(first)
        assert moved.payload["ref"] == ref_of(9)
        (root / "other").mkdir()
        third = root / "other" / "c.safetensors"
        second.rename(third)
        await bench.until_event("file.moved", third)
        shutil.move(root / "other", root / "renamed")
        fourth = root / "renamed" / "c.safetensors"
        await bench.until_event("file.moved", fourth)
        assert await bench.rows("SELECT file_id, path, state FROM library_file") == [
            (1, str(fourth), "present")
        ]
        assert bench.hashed == [str(first)]
        assert await bench.events("file.gone") == []


async def test_a_gone_file_is_kept_as_missing_and_its_model_no_longer_owned(
    tmp_path: Path, root: Path
) -> None:
    data = model_bytes(4)
    path = root / "x.ckpt"
    path.write_bytes(data)
    async with running_library(tmp_path, root) as bench:
        await bench.add_model(10, sha256(data))
        await bench.until_event("file.identified", path)
        path.unlink()
        gone = await bench.until_event("file.gone", path)
        assert await bench.rows("SELECT state, missing_ms > 0 FROM library_file") == [
            ("missing", 1)
        ]
        assert await bench.rows("SELECT owned, changed_seq FROM model") == [(0, gone.seq)]
        assert (await bench.service.list(schema.ListFiles())).items == []
        path.write_bytes(data)
        await bench.until_rows([(1,)], "SELECT owned FROM model")


async def test_a_placed_file_is_announced_once_and_not_read_again(
    tmp_path: Path, root: Path
) -> None:
    data = model_bytes(5)
    path = root / "loras" / "placed.safetensors"
    async with running_library(tmp_path, root) as bench:
        await bench.add_model(11, sha256(data))
        await bench.until_event("scan.finished", root)
        await bench.store.apply(
            partial(expect, path=str(path)), durability=Durability.FULL, name="test.expect"
        )
        part = root / "loras" / "placed.safetensors.part"
        part.write_bytes(data)
        part.rename(path)
        await bench.service.scan()  # sees the file before the transfer says that it is placed
        assert await bench.events("file.added") == []
        status = path.stat()
        placed = PlacedFile(
            *(str(path), status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev),
            *(sha256(data), "safe", 1),
        )
        await bench.store.apply(
            partial(adopt, placed=placed), durability=Durability.FULL, name="test.adopt"
        )
        await bench.service.scan()
        (added,) = await bench.events("file.added")
        assert added.payload["ref"] == ref_of(11)
        await bench.until_rows([(1,)], "SELECT fingerprint IS NOT NULL FROM library_file")
        assert bench.hashed == []
        assert await bench.store.read(partial(owned_path, sha256=sha256(data))) == str(path)


async def test_an_offline_root_keeps_its_files(tmp_path: Path, root: Path) -> None:
    data = model_bytes(6)
    path = root / "loras" / "x.safetensors"
    path.write_bytes(data)
    away = tmp_path / "away"
    async with running_library(tmp_path, root) as bench:
        await bench.add_model(12, sha256(data))
        await bench.until_event("file.identified", path)
        root.rename(away)
        offline = await bench.until_event("root.offline", root)
        assert await bench.rows("SELECT state FROM library_file") == [("present",)]
        (item,) = (await bench.service.list(schema.ListFiles())).items
        assert item.state == "offline"
        assert await bench.store.read(partial(owned_path, sha256=sha256(data))) is None
        root.mkdir()  # the empty mount point: still not our root
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.4):
            await bench.until_event("root.online", root, after=offline.seq)
        root.rmdir()
        away.rename(root)
        await bench.until_event("root.online", root, after=offline.seq)
        await bench.until_event("scan.finished", root, after=offline.seq)
        new = root / "loras" / "after.safetensors"
        new.write_bytes(model_bytes(60))
        await bench.until_event("file.added", new)
        assert await bench.events("file.gone") == []
        assert bench.hashed[0] == str(path)
        assert bench.hashed.count(str(path)) == 1


async def test_a_catalog_that_learns_later_names_what_is_there(tmp_path: Path, root: Path) -> None:
    data = model_bytes(7)
    path = root / "x.safetensors"
    path.write_bytes(data)
    async with running_library(tmp_path, root) as bench:
        await bench.until_rows([(1,)], "SELECT count(*) FROM library_file WHERE sha256 IS NOT NULL")
        await bench.add_model(13, sha256(data))
        await bench.until_event("file.identified", path)
        await bench.until_rows([(1,)], "SELECT owned FROM model")
        assert bench.hashed == [str(path)]


async def test_roots_are_added_and_removed_by_hand(tmp_path: Path, root: Path) -> None:
    (root / "checkpoints").mkdir()
    (root / "loras" / "x.safetensors").write_bytes(model_bytes(8))
    async with running_library(tmp_path) as bench:
        (added,) = (await bench.service.add(str(root))).items
        assert (added.path, added.layout, added.state) == (str(root), "comfyui", "online")
        (counts,) = (await bench.service.scan(str(root / "loras"))).items
        assert counts.seen == 1
        with pytest.raises(ModelkeepError, match="not a watched folder"):
            await bench.service.remove(str(tmp_path / "nowhere"))
        with pytest.raises(ModelkeepError, match="not a folder"):
            await bench.service.add(str(tmp_path / "nowhere"))
        assert (await bench.service.remove(str(root))).items == []
        assert await bench.rows("SELECT count(*) FROM library_file") == [(0,)]
        assert (root / "loras" / "x.safetensors").exists()


async def test_work_left_over_is_resumed_after_a_stop(tmp_path: Path, root: Path) -> None:
    for number in range(5):
        (root / f"{number}.safetensors").write_bytes(model_bytes(number, 5000))
    async with running_library(tmp_path, root) as bench:
        await bench.until_event("file.added", root / "4.safetensors")
    async with running_library(tmp_path, root) as bench:
        await bench.until_rows([(5,)], "SELECT count(*) FROM library_file WHERE sha256 IS NOT NULL")


async def test_stopping_does_not_wait_for_a_hash_in_flight(tmp_path: Path, root: Path) -> None:
    with (root / "huge.safetensors").open("wb") as huge:
        os.truncate(huge.fileno(), 100 << 30)
    async with running_library(tmp_path, root) as bench:
        with trio.fail_after(DEADLINE_S):
            await bench.hashing.wait()
        stopping = trio.current_time()
    assert trio.current_time() - stopping < 5

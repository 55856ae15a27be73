"""A models.json is imported once and whole, whatever happens; or left alone with a reason."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from modelkeepd.legacy.service import LegacyService
from modelkeepd.legacy.units import Imported
from modelkeepd.library.roots import add_root
from modelkeepd.store import Durability, Store, Tx, open_store, read_events

ROOT = Path(__file__).parents[2]
ENTRIES: list[Any] = [
    {"name": "one", "repo_id": "org/One", "tags": ["mine", "風景"], "size": 4.2},
    {"name": "one", "source": "civitai", "repo_id": "7", "tags": ["mine"]},
    {"name": "local only"},
]


def put(home: Path, content: object = ENTRIES) -> Path:
    path = home / "models.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@asynccontextmanager
async def started(store: Store, *folders: Path) -> AsyncIterator[LegacyService]:
    """The service after it has looked."""
    service = LegacyService(store, folders)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        with trio.fail_after(30):
            await service.looked.wait()
        yield service
        nursery.cancel_scope.cancel()


async def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    return await store.read(lambda db: db.execute(sql).fetchall())


async def kinds_of_events(store: Store) -> list[str]:
    return [event.kind for event in await store.read(lambda db: read_events(db, 0))]


async def test_it_is_imported_once_and_renamed(tmp_path: Path, store: Store) -> None:
    path = put(tmp_path)
    original = path.read_bytes()
    async with started(store, tmp_path) as service:
        assert service.imported == Imported(entries=3, odd=0, linked=2, files=0)
        assert service.warnings == []
    assert not path.exists()
    assert (tmp_path / "models.json.migrated").read_bytes() == original
    assert await rows(store, "SELECT name, hub, ref_id, size_bytes FROM legacy_model") == [
        ("one", "huggingface", "org/One", 4_200_000_000),
        ("one", "civitai", "7", None),
        ("local only", None, None, None),
    ]
    assert await rows(store, "SELECT count(*) FROM legacy_tag WHERE ref_id = 'ORG/one'") == [(2,)]
    [event] = await store.read(lambda db: read_events(db, 0))
    assert event.kind == "legacy.imported"
    assert event.payload == {"entries": 3, "odd": 0, "linked": 2, "files": 0}
    async with started(store, tmp_path) as service:
        assert service.imported is None
    assert await rows(store, "SELECT count(*) FROM legacy_model") == [(3,)]


async def test_it_is_skipped_when_it_was_migrated_before(tmp_path: Path, store: Store) -> None:
    path = put(tmp_path)
    (tmp_path / "models.json.migrated").write_text("from long ago")
    async with started(store, tmp_path) as service:
        assert (service.imported, service.warnings) == (None, [])
    assert path.exists()
    assert (tmp_path / "models.json.migrated").read_text() == "from long ago"
    assert await rows(store, "SELECT count(*) FROM legacy_model") == [(0,)]


@pytest.mark.parametrize(
    ("failpoint", "imported", "renamed"),
    [
        ("legacy.import.before_commit", False, False),
        ("legacy.import.after_commit", True, False),
        ("legacy.before_rename", True, False),
        ("legacy.after_rename", True, True),
    ],
)
async def test_killed_anywhere_it_is_whole_or_absent_and_ends_well(
    tmp_path: Path, failpoint: str, imported: bool, renamed: bool
) -> None:
    path = put(tmp_path)
    killed = await trio.to_thread.run_sync(run_child, tmp_path, f"{failpoint}=kill")
    assert killed.returncode == -9
    assert path.exists() is not renamed
    async with open_store(tmp_path / "modelkeep.db") as store:
        count = 3 if imported else 0
        assert await rows(store, "SELECT count(*) FROM legacy_model") == [(count,)]
    again = await trio.to_thread.run_sync(run_child, tmp_path, "")
    assert again.returncode == 0, again.stderr
    assert not path.exists()
    async with open_store(tmp_path / "modelkeep.db") as store:
        assert await rows(store, "SELECT count(*) FROM legacy_model") == [(3,)]
        kinds = await kinds_of_events(store)
        assert kinds.count("legacy.imported") == 1


def run_child(home: Path, failpoints: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.process.legacy_child", str(home)],
        cwd=ROOT,
        env={**os.environ, "MODELKEEP_FAILPOINTS": failpoints},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "content",
    [
        b"", b"not json", b"[" * 200_000, b'{"models": 3}', b"\xff\xfe", b"[1,2", b" " * (17 << 20),
    ],
)  # fmt: skip
async def test_a_broken_one_is_left_alone_and_reported(
    tmp_path: Path, store: Store, content: bytes
) -> None:
    path = put(tmp_path, content)
    async with started(store, tmp_path) as service:
        [warning] = service.warnings
    assert str(path) in warning
    assert "left as it is" in warning
    assert path.read_bytes() == content
    assert not (tmp_path / "models.json.migrated").exists()
    assert await kinds_of_events(store) == ["legacy.broken"]
    assert await rows(store, "SELECT count(*) FROM legacy_import") == [(0,)]


@pytest.mark.parametrize("what", ["folder", "link", "dangling link", "fifo"])
async def test_what_is_no_file_is_left_alone_and_reported(
    tmp_path: Path, store: Store, what: str
) -> None:
    path = tmp_path / "models.json"
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        target = tmp_path / "elsewhere.json"
        if what == "link":
            target.write_text(json.dumps(ENTRIES))
        path.symlink_to(target)
    async with started(store, tmp_path) as service:
        assert len(service.warnings) == 1
    assert path.is_symlink() or path.exists()
    assert await rows(store, "SELECT count(*) FROM legacy_model") == [(0,)]


async def test_bad_entries_are_kept_raw_and_counted(tmp_path: Path, store: Store) -> None:
    put(tmp_path, [3, {"name": ["odd"], "tags": {"a": 1}, "size": "big"}, {"name": "fine"}])
    async with started(store, tmp_path) as service:
        assert service.imported == Imported(entries=3, odd=2, linked=0, files=0)
        [warning] = service.warnings
        assert "2 of 3 entries" in warning
    kept = await rows(store, "SELECT name, raw, trouble FROM legacy_model ORDER BY position")
    assert kept[0] == (None, "3", "it is no object but a int")
    assert json.loads(kept[1][1]) == {"name": ["odd"], "tags": {"a": 1}, "size": "big"}
    assert "name is odd" in kept[1][2]
    assert "size is odd" in kept[1][2]
    assert kept[2][2] is None


async def test_files_that_are_there_become_the_library_s(tmp_path: Path, store: Store) -> None:
    outside, watched = tmp_path / "outside", tmp_path / "watched"
    for folder in (outside, watched, outside / "snapshot"):
        folder.mkdir()
    files = [outside / "a.safetensors", watched / "b.safetensors", outside / "snapshot" / "c.bin"]
    for file in files:
        file.write_bytes(b"x" * 10)
    (outside / "link").symlink_to(files[0])

    def watch(tx: Tx) -> None:
        add_root(tx, str(watched), "flat", "user")

    await store.apply(watch, durability=Durability.FULL, name="test.watch")
    put(
        tmp_path,
        [
            {"path": str(outside / "link")},
            {"path": str(files[0])},
            {"path": str(files[1])},
            {"path": str(outside / "snapshot"), "artifacts": ["gone.bin", "c.bin", "../a.x", "/a"]},
            {"path": str(tmp_path / "absent")},
            {"path": "relative/x"},
            {"path": "x" * 10_000},
            {"path": "/dev/null"},
        ],
    )
    async with started(store, tmp_path) as service:
        assert service.imported is not None
        assert service.imported.files == 2
    assert await rows(store, "SELECT path, root_id, sha256 FROM library_file ORDER BY path") == [
        (str(files[0]), None, None),
        (str(files[2]), None, None),
    ]
    assert (await kinds_of_events(store)).count("file.added") == 2


async def test_tags_reach_models_that_are_there_already(tmp_path: Path, store: Store) -> None:
    def add(tx: Tx) -> None:
        for key, ref_id in ((1, "org/one"), (2, "org/two")):
            tx.db.execute(
                "INSERT INTO model (model_key, hub, hub_id, ref_id, name, type, base_models, tags,"
                " hub_state, first_seen_ms, seen_ms, changed_seq, doc_hash)"
                " VALUES (?, 'huggingface', ?, ?, 'x', 'LORA', '[]', '[]', 'listed', 0, 0, 0, x'')",
                (key, ref_id, ref_id),
            )

    await store.apply(add, durability=Durability.FULL, name="test.add")
    put(tmp_path)
    async with started(store, tmp_path):
        changed = await rows(store, "SELECT model_key FROM model WHERE changed_seq > 0")
    assert changed == [(1,)]


async def test_two_folders_that_are_one_are_looked_at_once(tmp_path: Path, store: Store) -> None:
    put(tmp_path)
    other = tmp_path / "state"
    other.mkdir()
    put(other, [{"name": "another"}])
    async with started(store, tmp_path, tmp_path, other):
        pass
    assert await rows(
        store, "SELECT count(*), count(DISTINCT import_sha256) FROM legacy_model"
    ) == [(4, 2)]


async def test_a_folder_that_can_t_be_written_gives_a_warning_and_one_import(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path)

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    for expected in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", refuse)
            async with started(store, tmp_path) as service:
                assert service.imported is not None
                assert service.imported.again is expected
                assert "can't be renamed" in service.warnings[0]
    assert path.exists()
    assert await rows(store, "SELECT count(*) FROM legacy_model") == [(3,)]


async def test_a_file_that_changed_meanwhile_is_not_renamed(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path)
    apply = Store.apply

    async def change_then_apply(self: Store, *args: Any, **named: Any) -> Any:
        path.write_text("[]")
        return await apply(self, *args, **named)

    monkeypatch.setattr(Store, "apply", change_then_apply)
    async with started(store, tmp_path):
        pass
    assert path.read_text() == "[]"
    assert not (tmp_path / "models.json.migrated").exists()

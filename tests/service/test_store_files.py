"""Opening: what is taken for ours, what is refused untouched, and how the schema moves on."""

import os
import random
import shutil
from functools import partial
from pathlib import Path

import apsw
import pytest
import trio

from modelkeepd import failpoints
from modelkeepd.store import (
    Durability,
    Store,
    StoreCorrupt,
    StoreError,
    StoreTooNew,
    Tx,
    open_store,
)
from modelkeepd.store.migrations import Migration, shipped_migrations
from modelkeepd.store.schema import APPLICATION_ID
from tests.fakes.powercut_vfs import Platters, PowerCutVFS, write_disk

FULL = Durability.FULL
LATEST = shipped_migrations()[-1].number
TWO_STEPS = (
    *shipped_migrations(),
    Migration(
        LATEST + 1,
        "CREATE TABLE note (key TEXT PRIMARY KEY, value ANY) STRICT;"
        " INSERT INTO note SELECT key, value FROM meta WHERE key LIKE 'k%';"
        " DELETE FROM meta WHERE key LIKE 'k%';"
        " ALTER TABLE note ADD COLUMN color TEXT;",
    ),
    Migration(
        LATEST + 2,
        "ALTER TABLE note RENAME COLUMN color TO shade; CREATE INDEX note_shade ON note (shade);"
        " UPDATE note SET shade = 'blue';",
    ),
)


def put(tx: Tx, keys: list[str]) -> None:
    tx.db.executemany("INSERT INTO meta VALUES (?, ?)", [(key, "x" * 500) for key in keys])
    tx.emit("node", "put", "", {})


def version(db: apsw.Connection) -> int:
    return int(db.pragma("user_version"))


async def make(path: Path, number: int = 20) -> None:
    """A database of the shipped schema with some rows in it."""
    async with open_store(path) as store:
        unit = partial(put, keys=[f"k{n}" for n in range(number)])
        await store.apply(unit, durability=FULL, name="test.put")


def damage(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


async def refused(path: Path, error: type[StoreError], text: str) -> None:
    """Opening fails with a clear text, leaves the folder as it was, and fails again the same."""
    before = contents(path.parent)
    for _ in range(2):
        with pytest.raises(error, match=text) as caught:
            async with open_store(path):
                raise AssertionError("opened")
        assert str(path) in str(caught.value)
        assert contents(path.parent) == before


# Refusals ---------------------------------------------------------------------------------------


async def test_a_file_of_a_newer_modelkeep_is_left_alone(tmp_path: Path) -> None:
    await make(tmp_path / "m.db")
    db = apsw.Connection(str(tmp_path / "m.db"))
    db.pragma("user_version", LATEST + 1)
    db.close()
    await refused(tmp_path / "m.db", StoreTooNew, f"schema {LATEST + 1}.*up to {LATEST}.*newer")


@pytest.mark.parametrize("application_id", [0, 0x42])
async def test_a_database_of_another_program_is_left_alone(
    tmp_path: Path, application_id: int
) -> None:
    db = apsw.Connection(str(tmp_path / "m.db"))
    db.pragma("application_id", application_id)
    db.execute("CREATE TABLE bookmarks (url)")
    db.close()
    await refused(tmp_path / "m.db", StoreCorrupt, "another program.*Move it away")


@pytest.mark.parametrize("junk", [b"<!doctype html>" * 100, b"\0" * 4096, b"SQLite format 3\0"])
async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "m.db").write_bytes(junk)
    await refused(tmp_path / "m.db", StoreCorrupt, "damaged.*put back a copy")


async def test_a_damaged_header_is_found_at_the_start(tmp_path: Path) -> None:
    await make(tmp_path / "m.db")
    damage(tmp_path / "m.db", 0, b"\xff" * 100)
    await refused(tmp_path / "m.db", StoreCorrupt, "damaged.*put back a copy")


async def test_a_damaged_schema_is_found_at_the_start(tmp_path: Path) -> None:
    await make(tmp_path / "m.db")
    damage(tmp_path / "m.db", 100, b"\xff" * 3000)
    await refused(tmp_path / "m.db", StoreCorrupt, "damaged.*put back a copy")


async def test_a_damaged_page_is_reported_by_those_who_read_it(tmp_path: Path) -> None:
    await make(tmp_path / "m.db")
    db = apsw.Connection(str(tmp_path / "m.db"))
    page = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'job'").get
    db.close()
    damage(tmp_path / "m.db", (int(str(page)) - 1) * 4096, b"\xff" * 4096)
    async with open_store(tmp_path / "m.db") as store:
        with pytest.raises(StoreCorrupt, match=r"damaged \(reading"):
            await store.read(lambda db: db.execute("SELECT * FROM job").fetchall())
        with pytest.raises(StoreCorrupt, match=r"damaged \(test\.count"):
            await store.apply(
                lambda tx: tx.db.execute("SELECT * FROM job").fetchall(),
                durability=FULL,
                name="test.count",
            )
        # what is whole goes on working
        await store.apply(partial(put, keys=["z"]), durability=FULL, name="test.put")


async def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "m.db").touch()
    await make(tmp_path / "m.db")


async def test_an_empty_file_with_a_backup_beside_it_is_no_new_database(tmp_path: Path) -> None:
    (tmp_path / "m.db").touch()
    (tmp_path / "m.db.v1.backup").write_bytes(b"precious")
    await refused(tmp_path / "m.db", StoreCorrupt, r"Copy m\.db\.v1\.backup over it")


@pytest.mark.parametrize("remains", ["empty", "missing"])
async def test_a_log_without_its_database_is_not_thrown_away(tmp_path: Path, remains: str) -> None:
    (tmp_path / "m.db-wal").write_bytes(b"frames")
    if remains == "empty":
        (tmp_path / "m.db").touch()
    await refused(tmp_path / "m.db", StoreCorrupt, "m.db-wal beside it is not")


async def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "m.db").mkdir()
    await refused(tmp_path / "m.db", StoreError, "it is a folder; move it away")


async def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no does not exist; create it"):
        async with open_store(tmp_path / "no" / "m.db"):
            raise AssertionError("opened")


@pytest.mark.parametrize("passes", [0, 1, 2, 4, 8])
async def test_giving_up_while_opening_leaves_nothing_behind(tmp_path: Path, passes: int) -> None:
    async def open_and_wait() -> None:
        async with open_store(tmp_path / "m.db"):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_and_wait)
        for _ in range(passes):  # from before its first step to somewhere in the middle
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    await make(tmp_path / "m.db")


async def test_a_new_database_is_marked_as_ours(tmp_path: Path) -> None:
    async with open_store(tmp_path / "m.db") as store:
        pragmas = ("application_id", "user_version", "journal_mode", "auto_vacuum", "query_only")
        values = await store.read(lambda db: [db.pragma(name) for name in pragmas])
    assert values == [APPLICATION_ID, LATEST, "wal", 2, 1]


# Migrations -------------------------------------------------------------------------------------


async def notes(store: Store) -> list[tuple[object, ...]]:
    return await store.read(
        lambda db: db.execute("SELECT key, shade FROM note ORDER BY key").fetchall()
    )


ALL_NOTES = sorted((f"k{n}", "blue") for n in range(20))


def backups(folder: Path) -> dict[str, int]:
    """The copies, each opened and found whole, with their schema."""
    found = {}
    for path in folder.glob("*.backup*"):
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        assert db.pragma("integrity_check") == "ok"
        assert db.pragma("journal_mode") == "delete"
        found[path.name] = version(db)
        db.close()
    return found


async def test_each_step_of_the_schema_leaves_a_backup_of_the_one_before(tmp_path: Path) -> None:
    await make(tmp_path / "m.db")
    async with open_store(tmp_path / "m.db", migrations=TWO_STEPS) as store:
        assert await notes(store) == ALL_NOTES
        assert await store.read(version) == LATEST + 2
    assert backups(tmp_path) == {
        f"m.db.v{LATEST}.backup": LATEST,
        f"m.db.v{LATEST + 1}.backup": LATEST + 1,
    }
    # nothing is left to do at the next start
    async with open_store(tmp_path / "m.db", migrations=TWO_STEPS) as store:
        assert await notes(store) == ALL_NOTES


async def test_a_backup_has_its_name_for_good_before_the_schema_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(tmp_path / "m.db")
    synced: list[tuple[bool, bool]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        is_folder = os.fstat(descriptor).st_ino == os.stat(tmp_path).st_ino  # noqa: PTH116
        synced.append((is_folder, (tmp_path / f"m.db.v{LATEST}.backup").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    failpoints.configure("store.before_migration=raise")
    with pytest.raises(failpoints.FailpointReached):
        async with open_store(tmp_path / "m.db", migrations=TWO_STEPS):
            raise AssertionError("opened")
    assert synced == [(True, True)]


async def test_a_backup_can_be_put_back(tmp_path: Path) -> None:
    await make(tmp_path / "m.db")
    async with open_store(tmp_path / "m.db", migrations=TWO_STEPS):
        pass
    await refused(tmp_path / "m.db", StoreTooNew, "put back a backup")
    (tmp_path / f"m.db.v{LATEST}.backup").rename(tmp_path / "m.db")
    async with open_store(tmp_path / "m.db") as store:
        count = await store.read(
            lambda db: db.execute("SELECT count(*) FROM meta WHERE key LIKE 'k%'").get
        )
    assert count == 20


async def test_a_new_database_needs_no_backup(tmp_path: Path) -> None:
    async with open_store(tmp_path / "m.db", migrations=TWO_STEPS[:1]):
        pass
    assert backups(tmp_path) == {}


async def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    await make(tmp_path / "m.db")
    wrong = Migration(LATEST + 1, "DROP TABLE event_log; CREATE TABLE wrong (x); SELECT nonsense;")
    with pytest.raises(apsw.SQLError, match="nonsense"):
        async with open_store(tmp_path / "m.db", migrations=(*shipped_migrations(), wrong)):
            raise AssertionError("opened")
    async with open_store(tmp_path / "m.db") as store:
        assert await store.read(version) == LATEST


async def test_a_damaged_database_is_not_migrated(tmp_path: Path) -> None:
    await make(tmp_path / "m.db")
    db = apsw.Connection(str(tmp_path / "m.db"))
    page = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'job'").get
    db.close()
    damage(tmp_path / "m.db", (int(str(page)) - 1) * 4096, b"\xff" * 4096)
    before = contents(tmp_path)
    with pytest.raises(StoreCorrupt, match="Nothing was changed"):
        async with open_store(tmp_path / "m.db", migrations=TWO_STEPS):
            raise AssertionError("opened")
    assert contents(tmp_path) == before


async def test_a_backup_that_was_interrupted_is_made_anew(
    tmp_path: Path,
) -> None:
    await make(tmp_path / "m.db")
    failpoints.configure("store.before_backup_rename=raise")
    (tmp_path / f"m.db.v{LATEST}.backup.part-journal").write_bytes(b"of an interrupted start")
    with pytest.raises(failpoints.FailpointReached):
        async with open_store(tmp_path / "m.db", migrations=TWO_STEPS):
            raise AssertionError("opened")
    failpoints.configure("")
    # the copy was whole but had no name yet: the next start makes it anew
    async with open_store(tmp_path / "m.db", migrations=TWO_STEPS) as store:
        assert await notes(store) == ALL_NOTES
    assert len(backups(tmp_path)) == 2
    assert not [name for name in contents(tmp_path) if ".part" in name]


def judge_migrated(path: Path) -> int:
    """The version found; the content must be wholly that version's."""
    db = apsw.Connection(str(path))
    try:
        db.pragma("synchronous", "OFF")
        assert db.pragma("integrity_check") == "ok"
        found = version(db)
        columns = [row[1] for row in db.execute("PRAGMA table_info(note)")]
        assert (
            columns
            == {0: [], 1: ["key", "value", "color"], 2: ["key", "value", "shade"]}[found - LATEST]
        )
        table = "note" if columns else "meta"
        rows = db.execute(f"SELECT count(*) FROM {table} WHERE key LIKE 'k%'").get
        assert rows == 20
        return found
    finally:
        db.close()


async def test_killed_or_cut_off_at_any_write_of_a_migration_leaves_the_old_or_the_new(
    tmp_path: Path,
) -> None:
    live = tmp_path / "live"
    live.mkdir()
    await make(live / "m.db")
    vfs = PowerCutVFS("migrate", live)
    async with open_store(live / "m.db", migrations=TWO_STEPS, vfs=vfs.name):
        pass
    vfs.unregister()
    rng, platters, seen = random.Random(7), Platters(), list[int]()
    for number, op in enumerate(vfs.log):
        platters.play(op)
        if number < vfs.first_cut:
            continue
        for kind in ("killed", "cut", "cut"):
            folder = tmp_path / f"{number}-{kind}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            disk = platters.after_kill() if kind == "killed" else platters.after_power_cut(rng)
            write_disk(disk, folder)
            found = judge_migrated(folder / "m.db")
            if kind == "killed":
                seen.append(found)
                if number % 20 == 0:
                    async with open_store(folder / "m.db", migrations=TWO_STEPS) as store:
                        assert await notes(store) == ALL_NOTES
            shutil.rmtree(folder)
    assert seen == sorted(seen)
    assert set(seen) == {LATEST, LATEST + 1, LATEST + 2}

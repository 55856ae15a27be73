"""Databases of every released schema open with the code of today and become today's schema."""

from pathlib import Path

import apsw
import trio
import zstandard

from modelkeepd.store import open_store, read_events
from modelkeepd.store.migrations import shipped_migrations
from tests.databases import make as databases

LATEST = shipped_migrations()[-1].number


def schema(db: apsw.Connection) -> set[tuple[object, ...]]:
    """Every table and index, regardless of layout and comments."""
    rows = db.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return {(kind, name, squeezed(str(sql))) for kind, name, sql in rows}


def squeezed(sql: str) -> str:
    lines = [line.partition("--")[0] for line in sql.splitlines()]
    return "".join(" ".join(lines).split()).replace('"', "")


async def check(path: Path, expected: set[tuple[object, ...]]) -> None:
    async with open_store(path) as store:
        assert await store.read(schema) == expected
        assert await store.read(lambda db: db.pragma("integrity_check")) == "ok"
        assert await store.read(lambda db: db.pragma("foreign_key_check")) is None
        model = await store.read(lambda db: db.execute("SELECT hub_id, name FROM model").fetchall())
        assert model == [("1102", "水彩 Watercolor")]
        job = await store.read(lambda db: db.execute("SELECT ref, state FROM job").fetchall())
        assert job == [("civitai:1102@1301#77", "queued")]
        events = await store.read(lambda db: read_events(db, 0))
        assert [event.kind for event in events] == ["page", "job.queued"]


def test_every_old_database_becomes_today_s(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    trio.run(databases.make, fresh)
    db = apsw.Connection(str(fresh))
    expected = schema(db)
    db.close()
    trio.run(check, fresh, expected)

    kept = sorted(databases.HERE.glob("*.db.zst"))
    for file in kept:
        path = tmp_path / file.name.removesuffix(".zst")
        path.write_bytes(zstandard.decompress(file.read_bytes()))
        trio.run(check, path, expected)
        number = int(path.stem)
        backups = [entry for entry in tmp_path.iterdir() if entry.name.startswith(f"{path.name}.v")]
        assert len(backups) == LATEST - number


def test_every_schema_but_the_newest_has_its_database_kept() -> None:
    """The newest may not have been released yet."""
    kept = {int(file.name.partition(".")[0]) for file in databases.HERE.glob("*.db.zst")}
    numbers = [migration.number for migration in shipped_migrations()]
    assert numbers == list(range(1, LATEST + 1))
    assert kept >= set(numbers[:-1])
    assert kept <= set(numbers)

"""Child programs of the store's process tests: each reports to its standard output.

``open PATH``: open and stop, or say why not. ``full FOLDER``: FOLDER is a small file system of
its own; fill it. ``zygote``: read requests, a JSON object a line, and fork a process for each, so
that a test can kill many without paying for many starts of Python.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

import trio

from modelkeepd import failpoints
from modelkeepd.store import Durability, Store, StoreError, StoreFull, Tx, open_store
from modelkeepd.store.migrations import Migration, shipped_migrations

LATEST = shipped_migrations()[-1].number
NEXT_STEP = Migration(
    LATEST + 1,
    "CREATE TABLE note (key TEXT PRIMARY KEY, value ANY) STRICT;"
    " INSERT INTO note SELECT key, value FROM meta WHERE key LIKE 'k%';"
    " DELETE FROM meta WHERE key LIKE 'k%';",
)
MIGRATIONS = (*shipped_migrations(), NEXT_STEP)
PARTS = 3


def report(facts: dict[str, object]) -> None:
    print(json.dumps(facts), flush=True)


async def open_once(path: Path) -> None:
    try:
        async with open_store(path):
            pass
    except StoreError as exc:
        report({"error": type(exc).__name__, "text": str(exc)})
    else:
        report({"opened": True})


# A full disk ------------------------------------------------------------------------------------


def put(tx: Tx, key: str, size_bytes: int) -> None:
    tx.db.execute("INSERT INTO meta VALUES (?, ?)", (key, os.urandom(size_bytes)))


async def put_until_full(store: Store) -> tuple[list[str], str]:
    acknowledged: list[str] = []
    for size_bytes in (500_000, 20_000, 100):
        try:
            while True:
                key = f"k{len(acknowledged)}"
                unit = partial(put, key=key, size_bytes=size_bytes)
                await store.apply(unit, durability=Durability.FULL, name="test.put")
                acknowledged.append(key)
        except StoreError as exc:
            error = type(exc).__name__
    return acknowledged, error


def fill(path: Path, spare_bytes: int = 0) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - spare_bytes)


async def try_to_open(path: Path, migrations: tuple[Migration, ...]) -> str:
    try:
        async with open_store(path, migrations=migrations):
            return "opened"
    except StoreFull as exc:
        return type(exc).__name__


async def fill_the_disk(folder: Path) -> None:
    path, ballast = folder / "m.db", folder / "ballast"
    facts: dict[str, object] = {}
    fill(ballast)
    facts["start_on_full_disk"] = await try_to_open(path, shipped_migrations())
    ballast.unlink()
    facts["start_with_room"] = await try_to_open(path, shipped_migrations())
    ballast.write_bytes(bytes(6_000_000))
    async with open_store(path) as store:
        acknowledged, facts["unit_on_full_disk"] = await put_until_full(store)
        rows = await store.read(
            lambda db: db.execute("SELECT key FROM meta WHERE key LIKE 'k%'").fetchall()
        )
        facts["read_on_full_disk"] = {key for (key,) in rows} == set(acknowledged)
        ballast.unlink()
        unit = partial(put, key="later", size_bytes=500_000)
        await store.apply(unit, durability=Durability.FULL, name="test.put")
        facts["unit_with_room"] = True
    async with open_store(path) as store:
        rows = await store.read(lambda db: db.execute("SELECT key FROM meta").fetchall())
        facts["all_acknowledged_there"] = {key for (key,) in rows} >= {*acknowledged, "later"}
    fill(ballast, spare_bytes=400_000)  # enough to begin with, too little for the backup
    facts["migration_on_full_disk"] = await try_to_open(path, MIGRATIONS)
    ballast.unlink()
    facts["left_by_it"] = sorted(os.listdir(folder))  # noqa: PTH208
    async with open_store(path) as store:
        unit = partial(drop_most, keep=3)
        await store.apply(unit, durability=Durability.FULL, name="test.drop")
    async with open_store(path, migrations=MIGRATIONS) as store:
        facts["migration_with_room"] = await store.read(
            lambda db: db.execute("SELECT count(*) FROM note").get == 3
        )
        facts["integrity"] = await store.read(lambda db: db.pragma("integrity_check"))
    report(facts)


def drop_most(tx: Tx, keep: int) -> None:
    tx.db.execute(
        "DELETE FROM meta WHERE key LIKE 'k%' AND key NOT IN"
        " (SELECT key FROM meta WHERE key LIKE 'k%' LIMIT ?)",
        (keep,),
    )
    tx.db.execute("PRAGMA incremental_vacuum").fetchall()  # a page a step


# To be killed -----------------------------------------------------------------------------------


def say(line: str) -> None:
    """One write, so that lines of two processes do not mix."""
    os.write(1, f"{line}\n".encode())


def numbered(tx: Tx, unit: int) -> None:
    for part in range(PARTS):
        tx.emit("node", "trial.unit", str(unit), {"part": part, "ballast": bytes(3_000)})


async def stream(path: Path, first: int) -> None:
    """Units without end, each acknowledged on standard output when apply has returned."""
    async with open_store(path) as store:
        say(f"epoch {store.epoch}")
        unit = first
        while True:
            durability = Durability.FULL if unit % 3 == 0 else Durability.NORMAL
            await store.apply(
                partial(numbered, unit=unit), durability=durability, name="trial.unit"
            )
            say(f"ack {unit}")
            unit += 1


async def migrate(path: Path) -> None:
    async with open_store(path, migrations=MIGRATIONS):
        say("migrated")


def zygote() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            say(f"pid {os.getpid()}")
            failpoints.configure(request.get("failpoints", ""))
            path = Path(request["path"])
            if request["do"] == "stream":
                trio.run(stream, path, request["first"])
            else:
                trio.run(migrate, path)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say(f"end {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    if sys.argv[1] == "open":
        trio.run(open_once, Path(sys.argv[2]))
    elif sys.argv[1] == "full":
        trio.run(fill_the_disk, Path(sys.argv[2]))
    else:
        zygote()

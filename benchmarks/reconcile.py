"""A walk over known files against a bare one: ``python -m benchmarks.reconcile [--size
small|full]``.

Ours is what `modelkeep library scan` makes the running daemon do: look whether the root is there,
walk it in order, merge the walk with the rows of the database, check that every folder is
watched, commit and report. Theirs is the least that could notice a change: ``os.scandir`` through
the same tree with a ``stat`` of every file. Interleaved rounds, medians; nothing is hashed, which
is checked.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import trio

from modelkeep_protocol import schema
from modelkeepd.clocks import Clocks
from modelkeepd.library.service import LibraryService
from modelkeepd.settings import Library, LibraryRoot
from modelkeepd.store import Durability, Store, Tx, open_store

FILES = 100_000
FOLDERS = 400
ROUNDS = {"small": 5, "full": 15}
GOAL = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconcile", description=__doc__)
    parser.add_argument("--size", choices=ROUNDS, default="small")
    rounds = ROUNDS[parser.parse_args().size]
    with tempfile.TemporaryDirectory(prefix="mk-reconcile-") as home:
        root = Path(home).resolve() / "models"
        make_tree(root)
        print(json.dumps([trio.run(measure, Path(home), root, rounds)]))
    return 0


def make_tree(root: Path) -> None:
    """Folders three deep with files of a few bytes, at rest for a day."""
    yesterday = time.time() - 86_400
    for number in range(FOLDERS):
        folder = root / f"type {number % 8}" / f"base {number % 40}" / f"author {number:04}"
        folder.mkdir(parents=True)
        for file in range(FILES // FOLDERS):
            path = folder / f"a model of some length {file:05}.safetensors"
            handle = os.open(path, os.O_CREAT | os.O_WRONLY)
            os.write(handle, b"x" * (file % 7 + 8))
            os.utime(handle, (yesterday, yesterday))
            os.close(handle)


def bare_walk(folder: str) -> int:
    """As short as it can be while it sees each file's size and time."""
    seen = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                seen += bare_walk(entry.path)
            else:
                status = entry.stat(follow_symlinks=False)
                seen += status.st_size > 0 and status.st_mtime_ns > 0
    return seen


def pretend_hashed(tx: Tx) -> None:
    """The files are known: hashing 100,000 of them is another benchmark's business."""
    tx.db.execute("UPDATE library_file SET sha256 = randomblob(32)")


async def index(store: Store, settings: Library) -> None:
    """The first walk, untimed; stopped before the hashing gets far."""
    async with trio.open_nursery() as nursery:
        service = LibraryService(store, settings, Clocks())
        await nursery.start(service.run)
        (counts,) = (await service.scan()).items
        if counts.seen != FILES:
            raise AssertionError(f"indexed {counts.seen} of {FILES} files")
        nursery.cancel_scope.cancel()
    await store.apply(pretend_hashed, durability=Durability.FULL, name="benchmark.hashed")


async def measure(home: Path, root: Path, rounds: int) -> dict[str, Any]:
    settings = Library(roots=(LibraryRoot(path=str(root), layout="comfyui"),))
    ours: list[float] = []
    theirs: list[float] = []
    async with open_store(home / "state.db", clocks=Clocks()) as store:
        await index(store, settings)
        async with trio.open_nursery() as nursery:
            service = LibraryService(store, settings, Clocks(), probe_s=3600)
            await nursery.start(service.run)
            await service.scan()  # warm, and after the walk that a start makes by itself
            for _ in range(rounds):
                started = time.perf_counter()
                seen = await trio.to_thread.run_sync(partial(bare_walk, str(root)))
                theirs.append(time.perf_counter() - started)
                started = time.perf_counter()
                result = await service.scan()
                ours.append(time.perf_counter() - started)
                check(result, seen)
            nursery.cancel_scope.cancel()
    mine, bare = statistics.median(ours), statistics.median(theirs)
    print(f"ours: {mine * 1000:.0f} ms, bare walk: {bare * 1000:.0f} ms")
    return {
        "name": "reconcile.known",
        "workload": f"{FILES} known files in {FOLDERS} folders, nothing changed, watched",
        "ours": round(mine, 3),
        "theirs": round(bare, 3),
        "unit": "s",
        "ratio": round(mine / bare, 2),
        "goal": f"<= {GOAL}",
        "met": mine / bare <= GOAL,
    }


def check(result: schema.ScanResult, seen: int) -> None:
    (counts,) = result.items
    changes = counts.new, counts.changed, counts.moved, counts.gone
    if counts.seen != seen or any(changes):
        raise AssertionError(f"the walk saw {counts} where {seen} files lie still")


if __name__ == "__main__":
    raise SystemExit(main())

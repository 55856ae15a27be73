"""From a quiet file to its event: ``python -m benchmarks.watch [--size small|full]``.

Files are written, moved and renamed in a watched folder while the library service runs with the
settings it ships with. Measured is the time from the last thing done to the file (its writer
closed it, the rename returned) to the commit of the event about it. Moves must not read a file
again, which is checked.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from modelkeepd.clocks import Clocks
from modelkeepd.library.hashing import Result, Task, read_task
from modelkeepd.library.service import LibraryService
from modelkeepd.settings import Library, LibraryRoot
from modelkeepd.store import Store, open_store, read_events

FILES = {"small": 40, "full": 400}
GOAL_S = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--size", choices=FILES, default="small")
    size = parser.parse_args().size
    with tempfile.TemporaryDirectory(prefix="mk-watch-") as home:
        print(json.dumps(trio.run(measure, Path(home).resolve(), FILES[size])))
    return 0


async def measure(home: Path, count: int) -> list[dict[str, Any]]:
    root = home / "models"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    settings = Library(roots=(LibraryRoot(path=str(root), layout="flat"),))
    read: list[str] = []

    def counted(task: Task, check: Callable[[], None]) -> Result:
        read.append(task.path)
        return read_task(task, check)

    results = []
    async with (
        open_store(home / "state.db", clocks=Clocks()) as store,
        trio.open_nursery() as group,
    ):
        service = LibraryService(store, settings, Clocks(), read=counted)
        await group.start(service.run)
        await service.scan()
        steps = [("new", "file.added", write), ("moved", "file.moved", move)]
        steps += [("renamed", "file.moved", rename)]
        for name, kind, act in steps:
            after = store.feed.last_seq
            done = await act_on_all(root, count, act)
            seen = await times_of(store, kind, after, count)
            delays = sorted(seen[path] - at for path, at in done.items())
            results.append(line(name, count, delays))
        await until_hashed(store, count)
        group.cancel_scope.cancel()
    if len(read) != count:
        raise AssertionError(f"{len(read)} reads of {count} files: a move was read again")
    return results


def line(name: str, count: int, delays: list[float]) -> dict[str, Any]:
    p95 = statistics.quantiles(delays, n=20)[-1]
    print(f"{name}: p50 {statistics.median(delays):.3f} s, p95 {p95:.3f} s")
    return {
        "name": f"watch.{name}",
        "workload": f"{count} files, one every few hundredths of a second, p95 to the event",
        "ours": round(p95, 3),
        "theirs": None,
        "unit": "s",
        "ratio": None,
        "goal": f"<= {GOAL_S}",
        "met": p95 <= GOAL_S,
    }


async def act_on_all(root: Path, count: int, act: Callable[[Path, int], Path]) -> dict[str, float]:
    """Do it file by file at a person's or a script's pace; say when each was done."""
    done: dict[str, float] = {}
    pace = random.Random(7)
    for number in range(count):
        path = await trio.to_thread.run_sync(partial(act, root, number))
        done[str(path)] = time.time()
        await trio.sleep(pace.uniform(0.0, 0.1))
    return done


def write(root: Path, number: int) -> Path:
    path = root / "a" / f"{number}.ckpt"
    path.write_bytes(random.Random(number).randbytes(1 << 20))
    return path


def move(root: Path, number: int) -> Path:
    return (root / "a" / f"{number}.ckpt").rename(root / "b" / f"{number}.ckpt")


def rename(root: Path, number: int) -> Path:
    return (root / "b" / f"{number}.ckpt").rename(root / "b" / f"renamed {number}.ckpt")


async def times_of(store: Store, kind: str, after: int, count: int) -> dict[str, float]:
    """When the event about each path was committed."""
    seen: dict[str, float] = {}
    query = partial(read_events, after_seq=after, topics=("library",), limit=100_000)
    with trio.fail_after(60):
        while len(seen) < count:
            newest = store.feed.last_seq
            for event in await store.read(query):
                if event.kind == kind:
                    seen[event.subject] = event.at_ms / 1000
            if len(seen) < count:
                await store.feed.changed(newest)
    return seen


async def until_hashed(store: Store, count: int) -> None:
    with trio.fail_after(60):
        while await store.read(hashed) < count:
            with trio.move_on_after(0.1):
                await store.feed.changed(store.feed.last_seq)


def hashed(db: Any) -> int:
    (count,) = db.execute("SELECT count(sha256) FROM library_file").fetchone()
    return int(count)


if __name__ == "__main__":
    raise SystemExit(main())

"""Hashes what has no hash yet, in the background, and lets the catalog name it.

Owns the queue, which is nothing but the rows that lack a hash or a fingerprint: it resumes by
itself after any stop. Files are read by a few threads that stop between two chunks when asked;
results of small files are committed together. A file that changes while it is read is left to
settle; one that cannot be read is tried again later and says why.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import apsw
import trio

from modelkeepd.clocks import Clocks
from modelkeepd.library.fingerprint import (
    ChangedWhileRead,
    Hashes,
    Stamp,
    quick_fingerprint,
    read_hashes,
)
from modelkeepd.library.paths import from_text
from modelkeepd.library.records import record_fingerprint, record_hashes, record_trouble
from modelkeepd.scan import scan_file
from modelkeepd.store import Durability, Store, Tx

log = logging.getLogger(__name__)

SLICE = 256
RETRY_MS = 600_000
CHANGED_RETRY_MS = 10_000
LARGEST_BYTES = 1 << 40
"""No model is larger; a sparse file that claims to be would be read for hours."""
PORTION_BYTES = 4 << 20
PORTION_FILES = 16
LINGER_S = 0.05
"""A finished result waits this long for others to be committed with."""


@dataclass(frozen=True, slots=True)
class Task:
    file_id: int
    path: str
    hashed: bool
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    task: Task
    hashes: Hashes | None = None
    verdict: str | None = None
    edges: tuple[Stamp, bytes] | None = None
    trouble: str | None = None
    changed: bool = False


def read_task(task: Task, check: Callable[[], None]) -> Result:
    """Read one file for what its row lacks. Synchronous; raises only what `check` raises."""
    path = from_text(task.path)
    try:
        if task.hashed:
            return Result(task, edges=quick_fingerprint(path))
        if task.size_bytes > LARGEST_BYTES:
            return Result(task, trouble=f"it is larger than {LARGEST_BYTES >> 40} TiB")
        hashes = read_hashes(path, check)
    except ChangedWhileRead:
        return Result(task, trouble="it changes while it is read", changed=True)
    except OSError as error:
        return Result(task, trouble=error.strerror or str(error))
    report = scan_file(path)
    subject = report.subject
    same = (
        subject is not None
        and Stamp(subject.size_bytes, subject.mtime_ns, subject.inode, subject.device)
        == hashes.stamp
    )
    return Result(task, hashes, str(report.verdict) if same else None)


def next_tasks(db: apsw.Connection, now_ms: int) -> list[Task]:
    rows: list[Any] = db.execute(
        "SELECT file_id, l.path, sha256 IS NOT NULL, size_bytes FROM library_file l"
        " LEFT JOIN library_root r USING (root_id)"
        " WHERE l.state = 'present' AND (sha256 IS NULL OR fingerprint IS NULL)"
        " AND (retry_ms IS NULL OR retry_ms <= ?) AND (r.state IS NULL OR r.state = 'online')"
        # Small ones first: most files are known soon, and the largest hold up nobody.
        f" ORDER BY size_bytes LIMIT {SLICE}",
        (now_ms,),
    ).fetchall()
    return [Task(file_id, path, bool(hashed), size) for file_id, path, hashed, size in rows]


def portions(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Small files in handfuls: a trip to a thread costs as much as reading a few of them."""
    portion: list[Task] = []
    total_bytes = 0
    for task in tasks:
        if portion and total_bytes + task.size_bytes > PORTION_BYTES:
            yield portion  # the result of a small file never waits for a large one
            portion, total_bytes = [], 0
        portion.append(task)
        total_bytes += task.size_bytes
        if len(portion) == PORTION_FILES:
            yield portion
            portion, total_bytes = [], 0
    if portion:
        yield portion


def earliest_retry(db: apsw.Connection) -> int | None:
    row: Any = db.execute(
        "SELECT min(retry_ms) FROM library_file WHERE state = 'present'"
        " AND (sha256 IS NULL OR fingerprint IS NULL)"
    ).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def keep_results(tx: Tx, results: Sequence[Result]) -> list[str]:
    """Commit a batch; returns the paths of files that are no longer as they were read."""
    unsettled: list[str] = []
    for each in results:
        task = each.task
        kept = False
        if each.hashes is not None:
            kept = record_hashes(tx, task.file_id, task.path, each.hashes, each.verdict)
        elif each.edges is not None:
            kept = record_fingerprint(tx, task.file_id, *each.edges)
        if not kept:
            delay_ms = CHANGED_RETRY_MS if each.changed or not each.trouble else RETRY_MS
            trouble = each.trouble or "it changed since it was read"
            record_trouble(tx, task.file_id, trouble, tx.now_ms + delay_ms)
            unsettled.append(task.path)
    return unsettled


class HashQueue:
    """`run` works until canceled; `wake` tells it that rows may have come in."""

    def __init__(
        self,
        store: Store,
        clocks: Clocks,
        threads: int,
        unsettled: Callable[[str], None],
        read: Callable[[Task, Callable[[], None]], Result] = read_task,
    ) -> None:
        self._store = store
        self._clocks = clocks
        self._threads = threads
        self._limiter = trio.CapacityLimiter(threads)
        self._unsettled = unsettled
        self._read = read
        self._wake = trio.Event()
        self.busy = 0

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake = trio.Event()
            tasks = await self._store.read(partial(next_tasks, now_ms=self._clocks.wall_ms()))
            if tasks:
                await self._work(tasks)
                continue
            retry_ms = await self._store.read(earliest_retry)
            if retry_ms is None:
                await self._wake.wait()
                continue
            with trio.move_on_after(max(0.5, (retry_ms - self._clocks.wall_ms()) / 1000)):
                await self._wake.wait()

    async def _work(self, tasks: Sequence[Task]) -> None:
        todo, take = trio.open_memory_channel[list[Task]](0)
        # A result waits here while the one before is committed; small files then share a commit.
        give, done = trio.open_memory_channel[list[Result]](SLICE)
        self.busy = len(tasks)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep, done)
                for _ in range(min(self._threads, len(tasks))):
                    nursery.start_soon(self._reader, take.clone(), give.clone())
                take.close()
                give.close()
                async with todo:
                    for portion in portions(tasks):
                        await todo.send(portion)
        finally:
            self.busy = 0

    async def _reader(
        self,
        take: trio.MemoryReceiveChannel[list[Task]],
        give: trio.MemorySendChannel[list[Result]],
    ) -> None:
        def read(portion: Sequence[Task]) -> list[Result]:
            check = trio.from_thread.check_cancelled
            results = []
            for task in portion:
                check()
                results.append(self._read(task, check))
            return results

        async with take, give:
            async for portion in take:
                # Abandoned on cancel, so that a disk that hangs does not hold up the stop; the
                # thread itself ends at its next chunk.
                results = await trio.to_thread.run_sync(
                    read, portion, abandon_on_cancel=True, limiter=self._limiter
                )
                await give.send(results)

    async def _keep(self, done: trio.MemoryReceiveChannel[list[Result]]) -> None:
        async with done:
            async for results in done:
                with trio.move_on_after(LINGER_S), suppress(trio.EndOfChannel):
                    while len(results) < SLICE:
                        results += await done.receive()
                unsettled = await self._store.apply(
                    partial(keep_results, results=results),
                    durability=Durability.FULL,
                    name="library.keep_results",
                )
                self.busy -= len(results)
                for path in unsettled:
                    self._unsettled(path)

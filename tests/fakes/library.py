"""A library service over a real store and real folders, and ways to wait for what it reports."""

import hashlib
import json
import random
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from modelkeepd.clocks import Clocks
from modelkeepd.library.hashing import Result, Task, read_task
from modelkeepd.library.service import LibraryService
from modelkeepd.settings import Library as LibrarySettings
from modelkeepd.settings import LibraryRoot
from modelkeepd.store import Durability, EventRow, Store, Tx, open_store, read_events

DEADLINE_S = 30.0
"""Only a hanging test waits this long."""


def model_bytes(seed: int, size: int = 1000) -> bytes:
    """A valid safetensors file; another seed gives another content of the same size."""
    data = random.Random(seed).randbytes(size)
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"w": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + data


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def add_model(tx: Tx, number: int, content: bytes, name: str = "A model") -> int:
    """A model with one version and one file of this sha256, as a sync would write it."""
    tx.db.execute(
        "INSERT INTO model (hub, hub_id, ref_id, name, type, base_models, tags, hub_state,"
        " first_seen_ms, seen_ms, changed_seq, doc_hash)"
        " VALUES ('civitai', ?1, ?1, ?2, 'LORA', '[]', '[]', 'listed', 0, 0, 0, x'00')",
        (str(number), name),
    )
    model_key = tx.db.last_insert_rowid()
    tx.db.execute(
        "INSERT INTO version (model_key, hub_id, name, position) VALUES (?, ?, 'v1', 0)",
        (model_key, str(number + 1000)),
    )
    tx.db.execute(
        "INSERT INTO file (version_key, model_key, hub_id, name, kind, sha256, is_primary)"
        " VALUES (?, ?, ?, 'm.safetensors', 'Model', ?, 1)",
        (tx.db.last_insert_rowid(), model_key, str(number + 2000), content),
    )
    tx.emit("model", "page", "civitai", {"hub": "civitai", "count": 1, "new": 1, "changed": 0})
    return model_key


def ref_of(number: int) -> str:
    return f"civitai:{number}@{number + 1000}#{number + 2000}"


@dataclass
class Bench:
    """The service under test."""

    store: Store
    service: LibraryService
    hashed: list[str]
    """Paths that were read for their hash, in order."""
    hashing: trio.Event
    """The first of them has begun."""

    async def rows(self, sql: str, *bindings: Any) -> list[Any]:
        return await self.store.read(lambda db: db.execute(sql, bindings).fetchall())

    async def events(self, *kinds: str, after: int = 0) -> list[EventRow]:
        found = await self.store.read(
            partial(read_events, after_seq=after, topics=("library",), limit=100_000)
        )
        return [event for event in found if not kinds or event.kind in kinds]

    async def until(self, holds: Callable[[list[EventRow]], bool]) -> list[EventRow]:
        """Wait until the library's events satisfy a condition; look again at each commit."""
        with trio.fail_after(DEADLINE_S):
            seen = 0
            while True:
                newest = self.store.feed.last_seq
                events = await self.events()
                if holds(events):
                    return events
                seen = max(seen, newest)
                await self.store.feed.changed(seen)

    async def until_event(self, kind: str, path: Path | str, after: int = 0) -> EventRow:
        def found(event: EventRow) -> bool:
            return event.kind == kind and event.subject == str(path) and event.seq > after

        events = await self.until(lambda events: any(map(found, events)))
        return next(event for event in events if found(event))

    async def until_rows(self, wanted: Any, sql: str, *bindings: Any) -> None:
        """Wait until a query gives this answer; look again at each commit or shortly."""
        with trio.fail_after(DEADLINE_S):
            while await self.rows(sql, *bindings) != wanted:
                with trio.move_on_after(0.1):
                    await self.store.feed.changed(self.store.feed.last_seq)

    async def add_model(self, number: int, content: bytes, name: str = "A model") -> int:
        return await self.store.apply(
            partial(add_model, number=number, content=content, name=name),
            durability=Durability.NORMAL,
            name="test.add_model",
        )


@asynccontextmanager
async def running_library(
    home: Path,
    *roots: Path,
    settle_s: float = 0.05,
    hash_threads: int = 1,
    run: bool = True,
    **options: Any,
) -> AsyncIterator[Bench]:
    """A store in `home` and a service that watches `roots`, running until the block ends."""
    settings = LibrarySettings(
        roots=tuple(LibraryRoot(path=str(root), layout="comfyui") for root in roots),
        settle_s=settle_s,
        hash_threads=hash_threads,
    )
    intervals = {"probe_s": 0.1, "poll_s": 0.2, "match_pause_s": 0.05}
    hashed: list[str] = []
    hashing = trio.Event()

    def counted(task: Task, check: Callable[[], None]) -> Result:
        if not task.hashed:
            hashed.append(task.path)
            trio.from_thread.run_sync(hashing.set)
        return read_task(task, check)

    async with open_store(home / "state.db", clocks=Clocks()) as store:
        service = LibraryService(store, settings, Clocks(), read=counted, **(intervals | options))
        bench = Bench(store, service, hashed, hashing)
        if not run:
            yield bench
            return
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            yield bench
            nursery.cancel_scope.cancel()

"""Reading a snapshot into the catalog: checked as a whole, then merged block by block.

Each block is one transaction that also notes how far the import is: killed or canceled, it goes on
there the next time, and a snapshot that is in the catalog already changes nothing.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import msgspec
import trio

from modelkeepd import failpoints
from modelkeepd.hubs.documents import DocumentCodec, is_dictionary
from modelkeepd.snapshot.container import Counts, Reader
from modelkeepd.snapshot.errors import SnapshotBaseMissing, SnapshotBusy, SnapshotUntrusted
from modelkeepd.snapshot.export import Progress, Report
from modelkeepd.snapshot.incoming import Contents, Parse, prepare, read_block, read_known
from modelkeepd.snapshot.merge import BlockWrite, Merged, Stale, merge_block, odd_items
from modelkeepd.store import Durability, Store, Tx

# each time a sync was writing the same models just then
_ATTEMPTS = 50
_CHECKED_AT_ONCE = 16


class ImportOutcome(msgspec.Struct, frozen=True):
    """A snapshot that is in the catalog; the numbers are of all its blocks, whenever they came.

    ``resumed_at`` is the block that this call began with; ``is_known``: there was none left.
    """

    snapshot_id: str
    key: bytes
    counts: Counts
    size_bytes: int
    merged: Merged
    resumed_at: int
    is_known: bool


class _State(msgspec.Struct, frozen=True):
    state: str
    next_block: int
    merged: Merged


async def import_snapshot(
    store: Store,
    codec: DocumentCodec,
    path: Path,
    *,
    trusted: Collection[bytes],
    parse: Parse,
    now_ms: int,
    report: Report = lambda _: None,
) -> ImportOutcome:
    """Merge the snapshot at ``path`` into the catalog. ``trusted`` are public keys.

    Nothing is written before the whole file is known to be as its signer wrote it. Raises
    SnapshotError; what was merged until then stays.
    """
    reader = await trio.to_thread.run_sync(Reader, path)
    with reader:
        _refuse_untrusted(reader, trusted)
        state = await store.read(partial(_state_of, snapshot_id=reader.id))
        base = reader.header.base
        if base is not None and await store.read(partial(_lacks, snapshot_id=base.id)):
            raise SnapshotBaseMissing(
                f"{path} holds only what changed since an older snapshot, which was not imported"
                f" here: {base.id[:16]}",
                hint="import that one first",
            )
        await store.read(codec.load)
        if state is None or state.state != "finished":
            await _check(reader, report)
            start = 0 if state is None else state.next_block
            await _merge_all(store, codec, reader, start, parse, now_ms, report)
        final = await store.read(partial(_state_of, snapshot_id=reader.id))
        assert final is not None
        return ImportOutcome(
            snapshot_id=reader.id,
            key=reader.key,
            counts=reader.counts,
            size_bytes=reader.size_bytes,
            merged=final.merged,
            resumed_at=0 if state is None else state.next_block,
            is_known=state is not None and state.state == "finished",
        )


def _refuse_untrusted(reader: Reader, trusted: Collection[bytes]) -> None:
    if reader.key not in trusted:
        key = reader.key.hex()
        raise SnapshotUntrusted(
            f"{reader.path} is signed by a key that is not trusted here: {key}",
            hint="if that is the line in snapshot.pub of the home it comes from, import it with"
            f" --trust {key}",
        )


def _state_of(db: apsw.Connection, snapshot_id: str) -> _State | None:
    row: Any = db.execute(
        "SELECT state, next_block, models, new, changed, older, odd FROM snapshot"
        " WHERE snapshot_id = ? AND direction = 'import'",
        (snapshot_id,),
    ).fetchone()
    return None if row is None else _State(row[0], row[1], Merged(*row[2:]))


def _lacks(db: apsw.Connection, snapshot_id: str) -> bool:
    found = db.execute(
        "SELECT 1 FROM snapshot WHERE snapshot_id = ? AND state = 'finished'", (snapshot_id,)
    ).fetchone()
    return found is None


async def _check(reader: Reader, report: Report) -> None:
    """All of it is compared with the index first: a copy that is cut or broken changes nothing."""
    size = sum(block.size_bytes for block in reader.blocks) or 1
    done = 0
    for first in range(0, len(reader.blocks), _CHECKED_AT_ONCE):
        done += await trio.to_thread.run_sync(_check_some, reader, first)
        report(Progress("checking", 0, reader.counts.models, done, done / size))


def _check_some(reader: Reader, first: int) -> int:
    last = min(first + _CHECKED_AT_ONCE, len(reader.blocks))
    return sum(reader.check(number) for number in range(first, last))


async def _merge_all(
    store: Store,
    codec: DocumentCodec,
    reader: Reader,
    start: int,
    parse: Parse,
    now_ms: int,
    report: Report,
) -> None:
    await store.apply(
        partial(_begin, snapshot_id=reader.id, is_empty=not reader.blocks),
        durability=Durability.NORMAL,
        name="snapshot.begin",
    )
    size = sum(block.size_bytes for block in reader.blocks) or 1
    done = sum(block.size_bytes for block in reader.blocks[:start])
    models = new = changed = 0
    for number in range(start, len(reader.blocks)):
        contents = await trio.to_thread.run_sync(_contents, reader, number, now_ms)
        merged = await _merge(store, codec, reader, number, contents, parse)
        failpoints.hit("snapshot.after_import_block")
        done += reader.blocks[number].size_bytes
        models, new, changed = (
            models + merged.models, new + merged.new, changed + merged.changed,
        )  # fmt: skip
        total = reader.counts.models
        report(Progress("reading", models, total, done, done / size, new, changed))


def _contents(reader: Reader, number: int, now_ms: int) -> Contents:
    created_ms = reader.header.created_ms
    return read_block(reader.block(number), created_ms=created_ms, now_ms=now_ms)


async def _merge(
    store: Store,
    codec: DocumentCodec,
    reader: Reader,
    number: int,
    contents: Contents,
    parse: Parse,
) -> Merged:
    for _ in range(_ATTEMPTS):
        known = await store.read(partial(read_known, codec=codec, incoming=contents.models))
        write = await trio.to_thread.run_sync(
            partial(_ready, reader, number, contents, known, parse, codec)
        )
        try:
            merged, adopted = await store.apply(
                partial(merge_block, write=write),
                durability=Durability.NORMAL,
                name="snapshot.block",
            )
        except Stale:
            continue
        for dict_id, record in adopted:
            codec.add(dict_id, record.hub, record.kind, record.data)
        return merged
    raise SnapshotBusy(
        "a sync keeps changing what is to be imported", hint="import it again later: it goes on"
    )


def _ready(
    reader: Reader,
    number: int,
    contents: Contents,
    known: Any,
    parse: Parse,
    codec: DocumentCodec,
) -> BlockWrite:
    steps = prepare(contents.models, known, parse, codec)
    return BlockWrite(
        snapshot_id=reader.id,
        number=number,
        is_last=number + 1 == len(reader.blocks),
        steps=steps,
        aliases=contents.aliases,
        odd=odd_items(steps, contents, codec),
        dictionaries=[each for each in contents.dictionaries if is_dictionary(each.data)],
    )


def _begin(tx: Tx, snapshot_id: str, is_empty: bool) -> None:
    tx.db.execute(
        "INSERT INTO snapshot (snapshot_id, direction, state, at_ms) VALUES (?1, 'import', ?2, ?3)"
        " ON CONFLICT (snapshot_id) DO UPDATE SET direction = 'import',"
        " state = iif(direction = 'import', state, ?2)",
        (snapshot_id, "finished" if is_empty else "running", tx.now_ms),
    )

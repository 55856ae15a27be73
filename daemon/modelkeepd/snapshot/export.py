"""Writing a snapshot: the catalog, read in batches while it goes on changing, into one file.

The file appears whole under its name or not at all. Models that change meanwhile are in it in one
of their states, and in the next delta again.
"""

import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgspec
import trio

from modelkeepd import failpoints
from modelkeepd.hubs.documents import DocumentCodec, DocumentDamaged
from modelkeepd.snapshot import source
from modelkeepd.snapshot.container import MAGIC, Base, Counts, Header, Reader, Signer, Writer
from modelkeepd.snapshot.errors import SnapshotBaseMissing, SnapshotError, SnapshotFileError
from modelkeepd.snapshot.records import (
    AliasRecord,
    DictionaryRecord,
    Document,
    ModelRecord,
    OddRecord,
    encoder,
)
from modelkeepd.snapshot.source import Blob, SourceModel
from modelkeepd.store import Durability, Store, Tx
from modelkeepd.version import VERSION

# what is compressed together: larger ones gain little (measured in docs/snapshots.md)
BLOCK_BYTES = 2 << 20
BATCH = 200


class Progress(msgspec.Struct, frozen=True):
    """How far an export or import is. ``phase``: checking, writing, reading."""

    phase: str
    models: int
    total: int | None
    size_bytes: int
    fraction: float | None
    new: int = 0
    changed: int = 0


Report = Callable[[Progress], None]


class ExportOutcome(msgspec.Struct, frozen=True):
    """A snapshot that was written. ``base_id`` is set for a delta."""

    snapshot_id: str
    path: Path
    key: bytes
    counts: Counts
    size_bytes: int
    base_id: str | None


async def export_snapshot(
    store: Store,
    codec: DocumentCodec,
    path: Path,
    *,
    signer: Signer,
    now_ms: int,
    since: Path | None = None,
    report: Report = lambda _: None,
) -> ExportOutcome:
    """Write the catalog to ``path``; with ``since``, what changed after that snapshot.

    Takes the place of an older snapshot at ``path``, and of no other file. Canceled or failed, it
    leaves what was there. Raises SnapshotError.
    """
    await trio.to_thread.run_sync(_refuse_target, path)
    base = None
    if since is not None:
        base = await trio.to_thread.run_sync(_read_base, since, signer)
    await store.read(codec.load)
    extent = await store.read(source.extent)
    header = Header(
        created_ms=now_ms,
        program=f"modelkeep {VERSION}",
        key=signer.public.hex(),
        nonce=secrets.token_hex(16),
        epoch=store.epoch,
        high_seq=extent.high_seq,
        high_odd_id=extent.high_odd_id,
        base=None if base is None else Base(base[0], base[1].created_ms),
    )
    after_seq, after_odd = (None, 0) if base is None else _marks(store, base[1], extent)
    partial_path = path.with_name(f".{path.name}.part")
    file = await trio.to_thread.run_sync(_create, partial_path)
    try:
        packer = _Packer(Writer(file, header), codec)
        await _write_all(store, packer, after_seq, after_odd, extent, report)
        outcome = await trio.to_thread.run_sync(
            partial(_finish, file, packer, signer, partial_path, path)
        )
    except BaseException as exc:
        with suppress(OSError):  # what is still buffered may not fit the disk either
            file.close()
        partial_path.unlink(missing_ok=True)
        if isinstance(exc, OSError):
            raise _file_error(path, exc) from exc
        raise
    snapshot_id = packer.writer.id
    await store.apply(
        partial(_remember, snapshot_id=snapshot_id),
        durability=Durability.NORMAL,
        name="snapshot.exported",
    )
    base_id = None if base is None else base[0]
    return ExportOutcome(snapshot_id, path, signer.public, packer.counts(), outcome, base_id)


def _remember(tx: Tx, snapshot_id: str) -> None:
    tx.db.execute(
        "INSERT OR IGNORE INTO snapshot (snapshot_id, direction, state, at_ms)"
        " VALUES (?, 'export', 'finished', ?)",
        (snapshot_id, tx.now_ms),
    )


def _marks(store: Store, base: Header, extent: source.Extent) -> tuple[int, int]:
    """After which change, and after which odd document, the delta begins."""
    trusted_seq = store.trusted_seq(base.epoch)
    if trusted_seq < base.high_seq:
        return trusted_seq, 0  # a power cut took back the rest, and gave its numbers to others
    if extent.high_seq < base.high_seq:
        return 0, 0  # an older copy of the database was put back
    return base.high_seq, base.high_odd_id


async def _write_all(
    store: Store,
    packer: "_Packer",
    after_seq: int | None,
    after_odd: int,
    extent: source.Extent,
    report: Report,
) -> None:
    """``after_seq`` None: everything."""
    keys: Sequence[int] | None = None
    if after_seq is None:
        await trio.to_thread.run_sync(
            packer.add_dictionaries, await store.read(source.dictionaries)
        )
    else:
        keys = await store.read(partial(source.changed_keys, after_seq=after_seq))
    total = extent.models if keys is None else len(keys)
    report(Progress("writing", 0, total, 0, 0.0))
    place = 0
    while models := await _next_models(store, keys, place):
        place = models[-1].model_key if keys is None else place + BATCH
        await trio.to_thread.run_sync(packer.add_models, models)
        fraction = min((packer.models + packer.unreadable) / max(total, 1), 1.0)
        report(Progress("writing", packer.models, total, packer.writer.size_bytes, fraction))
    name = ("", "")
    while names := await store.read(
        partial(source.aliases, after=name, after_seq=after_seq or 0, limit=BATCH)
    ):
        await trio.to_thread.run_sync(packer.add_aliases, names)
        name = (names[-1][0], names[-1][2])
    while odd := await store.read(partial(source.odd_after, odd_id=after_odd, limit=BATCH)):
        await trio.to_thread.run_sync(packer.add_odd, odd)
        after_odd = odd[-1][0]


async def _next_models(store: Store, keys: Sequence[int] | None, place: int) -> list[SourceModel]:
    if keys is None:
        return await store.read(partial(source.models_after, model_key=place, limit=BATCH))
    return await store.read(partial(source.models_with, model_keys=keys[place : place + BATCH]))


class _Packer:
    """Makes records of rows and blocks of records. For one thread at a time."""

    def __init__(self, writer: Writer, codec: DocumentCodec) -> None:
        self.writer = writer
        self.models = self.unreadable = 0
        self._details = self._facts = self._aliases = self._odd = self._dictionaries = 0
        self._codec = codec
        self._records: list[bytes] = []
        self._size = 0

    def add_models(self, models: Sequence[SourceModel]) -> None:
        for model in models:
            document = self._document(model.document)
            if document is None:
                self.unreadable += 1  # the row alone can't be made again from anything
                continue
            detail = self._document(model.detail)
            self._add(
                ModelRecord(
                    hub=model.hub,
                    hub_id=model.hub_id,
                    ref_id=model.ref_id,
                    state=model.state,
                    gone_ms=model.gone_ms,
                    first_seen_ms=model.first_seen_ms,
                    seen_ms=model.seen_ms,
                    document=document,
                    detail=detail,
                    facts=model.facts,
                )
            )
            self.models += 1
            self._details += detail is not None
            self._facts += len(model.facts)

    def add_aliases(self, found: Sequence[tuple[str, str, str, int]]) -> None:
        for row in found:
            self._add(AliasRecord(*row))
        self._aliases += len(found)

    def add_odd(self, found: Sequence[tuple[Any, ...]]) -> None:
        for _, hub, kind, hub_id, reason, raw, fetched_ms in found:
            document = self._document(Blob(raw, None, fetched_ms))
            if document is None:
                self.unreadable += 1
            else:
                self._add(OddRecord(hub, kind, hub_id, reason, document))
                self._odd += 1

    def add_dictionaries(self, found: Sequence[tuple[str, str, bytes]]) -> None:
        for row in found:
            self._add(DictionaryRecord(*row))
        self._dictionaries += len(found)
        self.flush()  # a block of their own, so that they are known before what they suit

    def counts(self) -> Counts:
        return Counts(
            models=self.models,
            details=self._details,
            facts=self._facts,
            aliases=self._aliases,
            odd=self._odd,
            dictionaries=self._dictionaries,
            unreadable=self.unreadable,
        )

    def flush(self) -> None:
        if self._records:
            self.writer.add_block(self._records)
            self._records, self._size = [], 0
            failpoints.hit("snapshot.after_export_block")

    def _add(self, record: msgspec.Struct) -> None:
        encoded = encoder.encode(record)
        if self._size + len(encoded) > BLOCK_BYTES:
            self.flush()
        self._records.append(encoded)
        self._size += len(encoded)

    def _document(self, blob: Blob | None) -> Document | None:
        if blob is None:
            return None
        try:
            return Document(blob.fetched_ms, self._codec.decompress(blob.raw, blob.dict_id))
        except DocumentDamaged:
            return None


def _refuse_target(path: Path) -> None:
    if not path.name or not path.parent.is_dir():
        raise SnapshotFileError(
            f"{path} can't be written: there is no folder {path.parent}", hint="make it first"
        )
    if path.is_dir():
        raise SnapshotFileError(f"{path} is a folder", hint="give the name of a file in it")
    try:
        if not path.is_file():
            if path.exists() or path.is_symlink():
                raise SnapshotFileError(f"{path} is no file", hint="give another name")
            return
        with path.open("rb") as file:
            beginning = file.read(len(MAGIC))
    except OSError as exc:
        raise _file_error(path, exc) from exc
    if beginning and beginning != MAGIC:
        raise SnapshotFileError(
            f"{path} is there already and no snapshot",
            hint="give another name: only an older snapshot is overwritten",
        )


def _read_base(path: Path, signer: Signer) -> tuple[str, Header]:
    with Reader(path) as reader:
        if reader.key != signer.public:
            raise SnapshotBaseMissing(
                f"{path} was written by another home: what changed here since is not known",
                hint="give a snapshot that was exported here, or export without --since",
            )
        return reader.id, reader.header


def _create(path: Path) -> IO[bytes]:
    try:
        path.unlink(missing_ok=True)  # of an export that was killed
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.fdopen(os.open(path, flags, 0o666), "wb", buffering=1 << 20)
    except OSError as exc:
        raise _file_error(path, exc) from exc


def _finish(
    file: IO[bytes], packer: _Packer, signer: Signer, partial_path: Path, path: Path
) -> int:
    """Write the rest, make sure that it is on the disk as it should be, give it its name."""
    packer.flush()
    packer.writer.finish(packer.counts(), signer)
    file.flush()
    os.fsync(file.fileno())
    file.close()
    with Reader(partial_path) as reader:
        for number in range(len(reader.blocks)):
            reader.check(number)
        size_bytes = reader.size_bytes
    failpoints.hit("snapshot.before_rename")
    partial_path.rename(path)
    failpoints.hit("snapshot.after_rename")
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size_bytes


def _file_error(path: Path, exc: OSError) -> SnapshotError:
    return SnapshotFileError(f"{path} can't be written: {exc.strerror}")

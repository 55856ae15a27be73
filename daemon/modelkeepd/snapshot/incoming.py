"""What comes in, compared with what is known, and made ready for the writer.

The queries and the slow half of an import: decoding, parsing, compressing, differences. Decides
which of two documents is the newer one; writes nothing.
"""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

import apsw
import msgspec

from modelkeepd.catalog.history import Revision, revisions, wants_keyframe
from modelkeepd.hubs.contract import OddDocument, ParsedModel
from modelkeepd.hubs.documents import (
    MAX_DOCUMENT_BYTES,
    DocumentCodec,
    DocumentDamaged,
    document_hash,
    same_document,
)
from modelkeepd.snapshot.errors import SnapshotDamaged
from modelkeepd.snapshot.records import (
    AliasRecord,
    DictionaryRecord,
    Document,
    Fact,
    ModelRecord,
    OddRecord,
    decoder,
)
from modelkeepd.sync.prepare import DETAIL_KIND, MODEL_KIND, Delta, PreparedModel

log = logging.getLogger(__name__)

Parse = Callable[[str, bytes], ParsedModel]
STATES = frozenset({"listed", "archived", "taken_down", "gone"})
_TABLES = {MODEL_KIND: "document", DETAIL_KIND: "detail_document"}


class Incoming(msgspec.Struct, frozen=True):
    """One model of the snapshot, with its document's hash."""

    record: ModelRecord
    digest: bytes


class Contents(msgspec.Struct, frozen=True):
    """A block's records by kind. ``misfits`` are too long to be kept, or come twice."""

    models: tuple[Incoming, ...]
    aliases: tuple[AliasRecord, ...]
    odd: tuple[OddRecord, ...]
    dictionaries: tuple[DictionaryRecord, ...]
    misfits: int


class Standing(msgspec.Struct, frozen=True):
    """What decides over the rest: had it changed meanwhile, all would be decided anew."""

    model_key: int
    doc_hash: bytes
    fetched_ms: int | None
    detail_ms: int | None
    last_revision: int | None


class Neighbors(msgspec.Struct, frozen=True):
    """The kept states around a point in time, and how the older one is kept."""

    newer: Revision
    older: Revision | None
    older_is_delta: bool
    revisions: int


class Kept(msgspec.Struct, frozen=True):
    """A document that is kept already. Of one that is older than ours, what stands around it."""

    raw: bytes | None
    fetched_ms: int
    revisions: int
    around: Neighbors | None


class Known(msgspec.Struct, frozen=True):
    """A model that is in the catalog. Documents are read only where they may differ."""

    standing: Standing
    document: Kept | None
    detail: Kept | None


class Insertion(msgspec.Struct, frozen=True):
    """An older document on its way into the chain of revisions.

    ``after`` is the revision before it in time; ``again`` is that one's delta, made anew.
    """

    kind: str
    after: int
    again: bytes | None
    is_delta: bool
    dict_id: int | None
    raw: bytes
    seen_ms: int
    replaced_ms: int


class Detail(msgspec.Struct, frozen=True):
    """A detail document that is newer than ours, or the first one."""

    parsed: ParsedModel
    blob: bytes
    dict_id: int | None
    fetched_ms: int
    delta: Delta | None


Verdict = Literal["new", "newer", "same", "odd"]


class Step(msgspec.Struct, frozen=True):
    """What is to be done about one model."""

    record: ModelRecord
    verdict: Verdict
    standing: Standing | None
    model: PreparedModel | None
    detail: Detail | None
    older: tuple[Insertion, ...]
    reason: str = ""  # of an odd one


def read_block(raw: bytes, *, created_ms: int, now_ms: int) -> Contents:
    """A block's records, with no time in them that is later than either. Raises SnapshotDamaged."""
    cap_ms = min(created_ms, now_ms)
    try:
        records = decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as exc:
        raise SnapshotDamaged(
            f"a block of the snapshot is not as it should be: {exc}",
            hint="the program that wrote it has a fault: report it, with this message",
        ) from exc
    models: dict[tuple[str, str], Incoming] = {}
    aliases: list[AliasRecord] = []
    odd: list[OddRecord] = []
    dictionaries: list[DictionaryRecord] = []
    misfits = 0
    for record in records:
        if isinstance(record, AliasRecord):
            aliases.append(
                msgspec.structs.replace(record, until_ms=min(record.until_ms, created_ms))
            )
        elif isinstance(record, DictionaryRecord):
            dictionaries.append(record)
        elif len(record.document.raw) > MAX_DOCUMENT_BYTES or (
            isinstance(record, ModelRecord) and (record.hub, record.hub_id) in models
        ):
            misfits += 1
        elif isinstance(record, OddRecord):
            document = _capped(record.document, cap_ms)
            odd.append(msgspec.structs.replace(record, document=document))
        else:
            digest = document_hash(record.document.raw)
            models[record.hub, record.hub_id] = Incoming(
                _in_time(record, cap_ms, created_ms), digest
            )
    return Contents(
        tuple(models.values()), tuple(aliases), tuple(odd), tuple(dictionaries), misfits
    )


def _in_time(record: ModelRecord, cap_ms: int, created_ms: int) -> ModelRecord:
    """A clock that ran ahead must not make its documents win for years.

    What is united and never compared keeps the writer's time, or it would come in again each time.
    """
    detail = record.detail
    if detail is not None and len(detail.raw) > MAX_DOCUMENT_BYTES:
        detail = None
    return msgspec.structs.replace(
        record,
        gone_ms=None if record.gone_ms is None else min(record.gone_ms, cap_ms),
        first_seen_ms=min(record.first_seen_ms, cap_ms),
        seen_ms=min(record.seen_ms, cap_ms),
        document=_capped(record.document, cap_ms),
        detail=None if detail is None else _capped(detail, cap_ms),
        facts=tuple(Fact(min(f.at_ms, created_ms), f.kind, f.detail) for f in record.facts),
    )


def _capped(document: Document, cap_ms: int) -> Document:
    return Document(min(document.fetched_ms, cap_ms), document.raw)


def read_known(
    db: apsw.Connection, codec: DocumentCodec, incoming: Sequence[Incoming]
) -> list[Known | None]:
    """What the catalog has of each of these models."""
    found = standings(db, [(each.record.hub, each.record.hub_id) for each in incoming])
    known: list[Known | None] = []
    for each in incoming:
        record = each.record
        standing = found.get((record.hub, record.hub_id))
        if standing is None:
            known.append(None)
            continue
        document = detail = None
        if standing.doc_hash != each.digest:
            document = _kept(db, codec, standing.model_key, MODEL_KIND, record.document)
        if record.detail is not None and standing.detail_ms is not None:
            detail = _kept(db, codec, standing.model_key, DETAIL_KIND, record.detail)
        known.append(Known(standing, document, detail))
    return known


def standings(
    db: apsw.Connection, ids: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Standing]:
    """How these models stand just now, those of them that are known."""
    found: dict[tuple[str, str], Standing] = {}
    for hub in dict.fromkeys(hub for hub, _ in ids):
        rows: list[Any] = db.execute(
            "SELECT m.hub_id, m.model_key, m.doc_hash, d.fetched_ms, e.fetched_ms,"
            " (SELECT max(revision_id) FROM revision r WHERE r.model_key = m.model_key)"
            " FROM model m LEFT JOIN document d USING (model_key)"
            " LEFT JOIN detail_document e USING (model_key)"
            " WHERE m.hub = ? AND m.hub_id IN (SELECT value FROM json_each(?))",
            (hub, json.dumps([hub_id for of, hub_id in ids if of == hub])),
        ).fetchall()
        found.update({(hub, row[0]): Standing(*row[1:]) for row in rows})
    return found


def _kept(
    db: apsw.Connection, codec: DocumentCodec, model_key: int, kind: str, other: Document
) -> Kept | None:
    row: Any = db.execute(
        f"SELECT raw, dict_id, fetched_ms FROM {_TABLES[kind]} WHERE model_key = ?", (model_key,)
    ).fetchone()
    if row is None:
        return None
    blob, dict_id, fetched_ms = row
    raw: bytes | None
    try:
        raw = codec.decompress(blob, dict_id, db)
    except DocumentDamaged:
        raw = None  # then any newer one mends it
    count: Any = db.execute(
        "SELECT count(*) FROM revision WHERE model_key = ? AND kind = ?", (model_key, kind)
    ).fetchone()
    around = None
    if other.fetched_ms <= fetched_ms and not _is_same(raw, other.raw):
        around = _around(db, codec, model_key, kind, other.fetched_ms, count[0])
    return Kept(raw, fetched_ms, count[0], around)


def _around(
    db: apsw.Connection, codec: DocumentCodec, model_key: int, kind: str, at_ms: int, count: int
) -> Neighbors:
    newer = older = None
    for revision in revisions(db, codec, model_key, kind):
        if revision.revision_id is not None and revision.seen_ms <= at_ms:
            older = revision
            break
        newer = revision
    assert newer is not None  # the present document comes first
    is_delta = False
    if older is not None:
        row: Any = db.execute(
            "SELECT is_delta FROM revision WHERE revision_id = ?", (older.revision_id,)
        ).fetchone()
        is_delta = bool(row[0])
    return Neighbors(newer, older, is_delta, count)


def prepare(
    incoming: Sequence[Incoming], known: Sequence[Known | None], parse: Parse, codec: DocumentCodec
) -> list[Step]:
    """What is to be done about each model. For a thread: this is the slow part."""
    return [_step(each, before, parse, codec) for each, before in zip(incoming, known, strict=True)]


def _step(incoming: Incoming, known: Known | None, parse: Parse, codec: DocumentCodec) -> Step:
    record, standing = incoming.record, None if known is None else known.standing
    verdict, delta = _verdict(record.document, known, codec)
    older: list[Insertion] = []
    if known is not None and known.document is not None:
        older += _insertion(MODEL_KIND, record, record.document, known.document, codec)
    model = None
    if verdict in ("new", "newer"):
        parsed = _parsed(record, record.document.raw, parse)
        if isinstance(parsed, str):
            return Step(record, "odd", standing, None, None, (), parsed)
        # as sync does: one without versions may turn out odd, which are kept without a dictionary
        dict_id = codec.dictionary_for(record.hub, MODEL_KIND) if parsed.versions else None
        blob = codec.compress(record.document.raw, dict_id)
        model = PreparedModel(record.hub_id, incoming.digest, parsed, blob, dict_id, delta)
    detail = None
    if record.detail is not None:
        kept = None if known is None else known.detail
        detail = _detail(record, record.detail, kept, parse, codec)
        if kept is not None:
            older += _insertion(DETAIL_KIND, record, record.detail, kept, codec)
    return Step(record, verdict, standing, model, detail, tuple(older))


def _verdict(
    document: Document, known: Known | None, codec: DocumentCodec
) -> tuple[Verdict, Delta | None]:
    if known is None:
        return "new", None
    kept = known.document
    if kept is None and known.standing.fetched_ms is not None:
        return "same", None  # by its hash
    if kept is None:
        return "newer", None  # ours was lost
    if kept.raw is not None:
        if _is_same(kept.raw, document.raw) or document.fetched_ms <= kept.fetched_ms:
            return "same", None
        return "newer", _delta(kept, document.raw, known.standing.doc_hash, codec)
    return "newer", None


def _delta(kept: Kept, new: bytes, stamp: bytes, codec: DocumentCodec) -> Delta | None:
    if kept.raw is None or wants_keyframe(kept.revisions):
        return None
    return Delta(stamp, codec.delta(kept.raw, new))


def _is_same(kept: bytes | None, other: bytes) -> bool:
    return kept is not None and (kept == other or same_document(kept, other))


def _parsed(record: ModelRecord, raw: bytes, parse: Parse) -> ParsedModel | str:
    """The parsed document, or why it is none."""
    try:
        parsed = parse(record.hub, raw)
    except OddDocument as exc:
        return exc.reason
    except Exception as exc:  # a parser's own fault must cost one document, not the import
        log.exception("parser failed", extra={"facts": {"hub": record.hub, "id": record.hub_id}})
        return f"the parser failed: {type(exc).__name__}: {exc}"
    if (parsed.hub, parsed.hub_id) != (record.hub, record.hub_id):
        return f"the snapshot has it under {record.hub_id[:80]}"
    return parsed


def _detail(
    record: ModelRecord, document: Document, kept: Kept | None, parse: Parse, codec: DocumentCodec
) -> Detail | None:
    if kept is not None and (
        _is_same(kept.raw, document.raw)
        or (kept.raw is not None and document.fetched_ms <= kept.fetched_ms)
    ):
        return None
    parsed = _parsed(record, document.raw, parse)
    if isinstance(parsed, str) or not any(v.files_known for v in parsed.versions):
        return None  # it tells nothing, and the hub is asked for another
    dict_id = codec.dictionary_for(record.hub, DETAIL_KIND)
    delta = None if kept is None else _delta(kept, document.raw, b"", codec)
    blob = codec.compress(document.raw, dict_id)
    return Detail(parsed, blob, dict_id, document.fetched_ms, delta)


def _insertion(
    kind: str, record: ModelRecord, document: Document, kept: Kept, codec: DocumentCodec
) -> list[Insertion]:
    """An older document that is not in the history yet; empty when it is."""
    around = kept.around
    if around is None or kept.raw is None:
        return []
    newer, older = around.newer, around.older
    if _is_same(newer.raw, document.raw):
        return []
    if older is not None and _is_same(older.raw, document.raw):
        return []
    again = None
    if older is not None and around.older_is_delta and older.raw is not None:
        again = codec.delta(older.raw, document.raw)
    is_delta = newer.raw is not None and not wants_keyframe(around.revisions)
    dict_id = None if is_delta else codec.dictionary_for(record.hub, kind)
    if newer.raw is not None and is_delta:
        raw = codec.delta(document.raw, newer.raw)
    else:
        raw = codec.compress(document.raw, dict_id)
    after = 0 if older is None or older.revision_id is None else older.revision_id
    return [
        Insertion(kind, after, again, is_delta, dict_id, raw, document.fetched_ms, newer.seen_ms)
    ]

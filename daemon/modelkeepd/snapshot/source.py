"""What an export reads of the store. SQL only; every function fetches all it returns."""

import json
from array import array
from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from modelkeepd.snapshot.records import Fact


class Blob(msgspec.Struct, frozen=True, gc=False):
    """A document as the store keeps it."""

    raw: bytes
    dict_id: int | None
    fetched_ms: int


class SourceModel(msgspec.Struct, frozen=True):
    """One model as the store has it."""

    model_key: int
    hub: str
    hub_id: str
    ref_id: str
    state: str
    gone_ms: int | None
    first_seen_ms: int
    seen_ms: int
    document: Blob | None
    detail: Blob | None
    facts: tuple[Fact, ...]


class Extent(msgspec.Struct, frozen=True):
    """How much there is, and up to where."""

    high_seq: int
    high_odd_id: int
    models: int


_MODELS = (
    "SELECT m.model_key, m.hub, m.hub_id, m.ref_id, m.hub_state, m.gone_ms, m.first_seen_ms,"
    " m.seen_ms, d.raw, d.dict_id, d.fetched_ms, e.raw, e.dict_id, e.fetched_ms FROM model m"
    " LEFT JOIN document d USING (model_key) LEFT JOIN detail_document e USING (model_key) "
)


def extent(db: apsw.Connection) -> Extent:
    """What an export that begins now is sure to hold."""
    row: Any = db.execute(
        "SELECT coalesce((SELECT max(changed_seq) FROM model), 0),"
        " coalesce((SELECT max(odd_id) FROM odd_document), 0), (SELECT count(*) FROM model)"
    ).fetchone()
    return Extent(*row)


def models_after(db: apsw.Connection, model_key: int, limit: int) -> list[SourceModel]:
    """The next models in the order of their keys."""
    rows: list[Any] = db.execute(
        _MODELS + "WHERE m.model_key > ? ORDER BY m.model_key LIMIT ?", (model_key, limit)
    ).fetchall()
    return _models(db, rows)


def models_with(db: apsw.Connection, model_keys: Sequence[int]) -> list[SourceModel]:
    """These models, in the order of their keys."""
    rows: list[Any] = db.execute(
        _MODELS + "WHERE m.model_key IN (SELECT value FROM json_each(?)) ORDER BY m.model_key",
        (json.dumps(list(model_keys)),),
    ).fetchall()
    return _models(db, rows)


def changed_keys(db: apsw.Connection, after_seq: int) -> "array[int]":
    """The keys of all models that changed later, in order: 8 bytes each."""
    return array(
        "q",
        (
            int(str(key))
            for (key,) in db.execute(
                "SELECT model_key FROM model WHERE changed_seq > ? ORDER BY model_key",
                (after_seq,),
            )
        ),
    )


def aliases(
    db: apsw.Connection, after: tuple[str, str], after_seq: int, limit: int
) -> list[tuple[str, str, str, int]]:
    """Former names in order: hub, hub_id, the name, until when; of models that changed later."""
    rows: list[Any] = db.execute(
        "SELECT a.hub, m.hub_id, a.ref_id, a.until_ms FROM model_alias a JOIN model m"
        " USING (model_key) WHERE (a.hub, a.ref_id) > (?, ?) AND m.changed_seq > ?"
        " ORDER BY a.hub, a.ref_id LIMIT ?",
        (*after, after_seq, limit),
    ).fetchall()
    return rows


def odd_after(db: apsw.Connection, odd_id: int, limit: int) -> list[tuple[Any, ...]]:
    """The next odd documents: odd_id, hub, kind, hub_id, reason, raw, fetched_ms."""
    rows: list[Any] = db.execute(
        "SELECT odd_id, hub, kind, hub_id, reason, raw, fetched_ms FROM odd_document"
        " WHERE odd_id > ? ORDER BY odd_id LIMIT ?",
        (odd_id, limit),
    ).fetchall()
    return rows


def dictionaries(db: apsw.Connection) -> list[tuple[str, str, bytes]]:
    """The newest dictionary of each hub and kind."""
    rows: list[Any] = db.execute(
        "SELECT hub, kind, bytes FROM document_dict WHERE dict_id IN"
        " (SELECT max(dict_id) FROM document_dict GROUP BY hub, kind) ORDER BY dict_id"
    ).fetchall()
    return rows


def _models(db: apsw.Connection, rows: Sequence[tuple[Any, ...]]) -> list[SourceModel]:
    found: list[Any] = db.execute(
        "SELECT model_key, at_ms, kind, detail FROM model_fact"
        " WHERE model_key IN (SELECT value FROM json_each(?)) ORDER BY fact_id",
        (json.dumps([row[0] for row in rows]),),
    ).fetchall()
    facts: dict[int, list[Fact]] = {}
    for model_key, *fact in found:
        facts.setdefault(model_key, []).append(Fact(*fact))
    models = []
    for row in rows:
        document = None if row[8] is None else Blob(*row[8:11])
        detail = None if row[11] is None else Blob(*row[11:14])
        head: list[Any] = [*row[:8], document, detail, tuple(facts.get(row[0], ()))]
        models.append(SourceModel(*head))
    return models

"""The unit of work of an import: one block into the catalog, all or nothing.

Nothing that is newer is lost: per model the later fetched document is the present one and the other
becomes a revision; dated facts and former names are united; whether a model is still there is told
by who looked last. Doing it twice changes nothing.
"""

import json
from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from modelkeepd.hubs.documents import DocumentCodec, document_hash
from modelkeepd.snapshot.incoming import STATES, Contents, Detail, Insertion, Step, standings
from modelkeepd.snapshot.records import AliasRecord, DictionaryRecord, ModelRecord, OddRecord
from modelkeepd.store import Tx
from modelkeepd.sync import suspects
from modelkeepd.sync.prepare import DETAIL_KIND
from modelkeepd.sync.rows import (
    Replaced,
    insert_models,
    keep_revisions,
    update_models,
    versions_left,
    write_files,
)
from modelkeepd.sync.units import save_dictionary


class Stale(Exception):
    """A model changed after it was compared: the block has to be prepared anew."""


class OddItem(msgspec.Struct, frozen=True):
    """A document that is no model to us, compressed as odd ones are kept."""

    hub: str
    kind: str
    hub_id: str | None
    reason: str
    blob: bytes
    doc_hash: bytes
    fetched_ms: int


class BlockWrite(msgspec.Struct, frozen=True):
    """A block made ready. ``number`` is its place in the file."""

    snapshot_id: str
    number: int
    is_last: bool
    steps: Sequence[Step]
    aliases: Sequence[AliasRecord]
    odd: Sequence[OddItem]
    dictionaries: Sequence[DictionaryRecord]


class Merged(msgspec.Struct, frozen=True):
    """What a block brought: unknown models, newer documents or states, older documents."""

    models: int = 0
    new: int = 0
    changed: int = 0
    older: int = 0
    odd: int = 0


def odd_items(steps: Sequence[Step], contents: Contents, codec: DocumentCodec) -> list[OddItem]:
    """The odd documents of a block, ready to be kept. For a thread."""
    found = [_odd(each, codec) for each in contents.odd]
    for step in steps:
        if step.verdict == "odd":
            record = step.record
            document = record.document
            odd = OddRecord(record.hub, "model", record.hub_id, step.reason[:4_000], document)
            found.append(_odd(odd, codec))
    return found


def _odd(record: OddRecord, codec: DocumentCodec) -> OddItem:
    raw = record.document.raw
    return OddItem(
        record.hub, record.kind, record.hub_id, record.reason, codec.compress(raw, None),
        document_hash(raw), record.document.fetched_ms,
    )  # fmt: skip


def merge_block(tx: Tx, write: BlockWrite) -> tuple[Merged, list[tuple[int, DictionaryRecord]]]:
    """Bring one block into the catalog; what it brought, and dictionaries with their new ids.

    Raises Stale.
    """
    _check(tx.db, write.steps)
    steps = [step for step in write.steps if step.verdict != "odd"]
    unbelieved = _without_versions(tx.db, steps)
    new = [s for s in steps if s.verdict == "new"]
    newer = [s for s in steps if s.verdict == "newer" and id(s) not in unbelieved]
    moved = [s for s in steps if s.standing is not None and _is_moved(tx.db, s)]
    changed = {id(s) for s in (*newer, *moved)}
    changed |= {id(s) for s in steps if s.detail is not None and s.verdict != "new"}
    seqs = _tell(tx, new, [s for s in steps if id(s) in changed])
    for step in steps:
        for insertion in step.older:
            assert step.standing is not None
            _insert_revision(tx.db, step.standing.model_key, insertion)
    for hub, seq in seqs.items():
        # times are the snapshot's, and set below
        models = [s.model for s in new if s.record.hub == hub and s.model is not None]
        insert_models(tx.db, models, seq, tx.now_ms)
        _update(tx, [s for s in newer if s.record.hub == hub], seq)
    keys = {
        key: standing.model_key
        for key, standing in standings(
            tx.db, [(s.record.hub, s.record.hub_id) for s in steps]
        ).items()
    }
    _date(tx.db, keys, [*new, *newer])
    for step in steps:
        key = keys[step.record.hub, step.record.hub_id]
        if step.detail is not None:
            _write_detail(tx, key, step.detail)
        _unite_facts(tx.db, key, step.record)
    _settle(tx, keys, steps, changed, seqs, moved)
    _unite_aliases(tx.db, write.aliases)
    odd = _keep_odd(tx.db, write.odd)
    dictionaries = _adopt(tx, write.dictionaries)
    merged = Merged(
        len(write.steps),
        len(new),
        len(changed),
        sum(bool(s.older) for s in steps),
        odd + len(unbelieved),
    )
    _remember(tx.db, write, merged)
    return merged, dictionaries


def _check(db: apsw.Connection, steps: Sequence[Step]) -> None:
    ids = [(step.record.hub, step.record.hub_id) for step in steps]
    found = standings(db, ids)
    if any(found.get(key) != step.standing for key, step in zip(ids, steps, strict=True)):
        raise Stale


def _without_versions(db: apsw.Connection, steps: Sequence[Step]) -> set[int]:
    """Newer documents that lost their versions: a hub's caches do that, and sync believes none."""
    return {
        id(step)
        for step in steps
        if step.verdict == "newer"
        and step.model is not None
        and step.model.parsed is not None
        and not step.model.parsed.versions
        and step.standing is not None
        and versions_left(db, step.standing.model_key)
    }


def _is_moved(db: apsw.Connection, step: Step) -> bool:
    """Whether the snapshot knows later than we do that the model went, or that it is back."""
    assert step.standing is not None
    record = step.record
    row: Any = db.execute(
        "SELECT hub_state, gone_ms, seen_ms FROM model WHERE model_key = ?",
        (step.standing.model_key,),
    ).fetchone()
    state, gone_ms, seen_ms = row
    ours_ms = gone_ms if state == "gone" and gone_ms is not None else seen_ms
    is_gone = record.state == "gone"
    theirs_ms = record.gone_ms if is_gone and record.gone_ms is not None else record.seen_ms
    return is_gone != (state == "gone") and bool(theirs_ms > ours_ms)


def _tell(tx: Tx, new: Sequence[Step], changed: Sequence[Step]) -> dict[str, int]:
    """One event a hub; the seq that its models carry from now on."""
    seqs = {}
    for hub in dict.fromkeys(step.record.hub for step in (*new, *changed)):
        counts = [sum(s.record.hub == hub for s in of) for of in (new, changed)]
        payload = {
            "hub": hub, "view": "snapshot", "count": sum(counts),
            "new": counts[0], "changed": counts[1],
        }  # fmt: skip
        seqs[hub] = tx.emit("model", "page", hub, payload)
    return seqs


def _update(tx: Tx, steps: Sequence[Step], seq: int) -> None:
    replaced = []
    for step in steps:
        assert step.standing is not None
        assert step.model is not None
        assert step.model.parsed is not None
        key = step.standing.model_key
        row: Any = tx.db.execute("SELECT ref_id FROM model WHERE model_key = ?", (key,)).fetchone()
        if row[0] != step.model.parsed.ref_id:
            name = AliasRecord(
                step.record.hub, step.record.hub_id, row[0], step.record.document.fetched_ms
            )
            _unite_aliases(tx.db, [name])
        replaced.append(Replaced(key, step.model, False, step.standing.doc_hash))
    kept = _states_before(tx.db, [each.model_key for each in replaced])
    update_models(tx, replaced, seq, tx.now_ms)
    # what the document does not tell is settled by its own rule; sync would take it for seen now
    tx.db.executemany(
        "UPDATE model SET hub_state = iif(?1 = 'gone', 'gone', hub_state),"
        " gone_ms = iif(?1 = 'gone', ?2, NULL), seen_ms = ?3 WHERE model_key = ?4",
        kept,
    )


def _states_before(db: apsw.Connection, model_keys: Sequence[int]) -> list[Any]:
    return db.execute(
        "SELECT hub_state, gone_ms, seen_ms, model_key FROM model"
        " WHERE model_key IN (SELECT value FROM json_each(?))",
        (json.dumps(list(model_keys)),),
    ).fetchall()


def _write_detail(tx: Tx, model_key: int, detail: Detail) -> None:
    """Files, sizes and hashes; what else it tells only where it is newer than the list's row."""
    db = tx.db
    keep_revisions(tx, DETAIL_KIND, [(model_key, detail.delta, b"")])
    db.execute(
        "REPLACE INTO detail_document VALUES (?, ?, ?, ?)",
        (model_key, detail.dict_id, detail.blob, detail.fetched_ms),
    )
    row: Any = db.execute(
        "SELECT fetched_ms FROM document WHERE model_key = ?", (model_key,)
    ).fetchone()
    is_newest = row is None or detail.fetched_ms >= row[0]
    known: list[Any] = db.execute(
        "SELECT hub_id, version_key, files_revision, revision FROM version WHERE model_key = ?",
        (model_key,),
    ).fetchall()
    rows = {hub_id: rest for hub_id, *rest in known}
    for version in detail.parsed.versions:
        if not version.files_known or version.hub_id not in rows:
            continue
        version_key, files_revision, revision = rows[version.hub_id]
        if is_newest:
            db.execute(
                "UPDATE version SET revision = ? WHERE version_key = ?",
                (version.revision, version_key),
            )
        elif files_revision is not None and files_revision == revision:
            continue  # ours are of the commit that the model stands at, theirs of an older one
        if files_revision is None or files_revision != version.revision:
            write_files(tx, version_key, version, model_key)
    parsed = detail.parsed
    db.execute(
        "UPDATE model SET size_bytes = ? WHERE model_key = ?", (parsed.size_bytes, model_key)
    )
    if is_newest:
        db.execute(
            "UPDATE model SET downloads = ?, likes = ?, license = ?, gated = ? WHERE model_key = ?",
            (parsed.downloads, parsed.likes, parsed.license, parsed.gated, model_key),
        )


def _unite_facts(db: apsw.Connection, model_key: int, record: ModelRecord) -> None:
    if record.facts:
        db.executemany(
            "INSERT INTO model_fact (model_key, at_ms, kind, detail) SELECT ?1, ?2, ?3, ?4"
            " WHERE NOT EXISTS (SELECT 1 FROM model_fact WHERE model_key = ?1 AND at_ms = ?2"
            " AND kind = ?3 AND detail = ?4)",
            [(model_key, fact.at_ms, fact.kind, fact.detail) for fact in record.facts],
        )


def _date(db: apsw.Connection, keys: dict[tuple[str, str], int], steps: Sequence[Step]) -> None:
    db.executemany(
        "UPDATE document SET fetched_ms = ? WHERE model_key = ?",
        [(s.record.document.fetched_ms, keys[s.record.hub, s.record.hub_id]) for s in steps],
    )


def _settle(
    tx: Tx,
    keys: dict[tuple[str, str], int],
    steps: Sequence[Step],
    changed: set[int],
    seqs: dict[str, int],
    moved: Sequence[Step],
) -> None:
    """Times, and whether the models are there."""
    db = tx.db
    seen, gone = [], []
    states = [*moved, *(s for s in steps if s.verdict == "new")]
    for step in steps:
        record = step.record
        key = keys[record.hub, record.hub_id]
        # an insertion is dated now: of a new model the record's own times hold
        first = "new" if step.verdict == "new" else ""
        seen.append((first, record.first_seen_ms, record.seen_ms, key))
    db.executemany(
        "UPDATE model SET first_seen_ms = iif(?1 = 'new', ?2, min(first_seen_ms, ?2)),"
        " seen_ms = iif(?1 = 'new', ?3, max(seen_ms, ?3)) WHERE model_key = ?4",
        seen,
    )
    for step in states:
        record = step.record
        key = keys[record.hub, record.hub_id]
        if record.state == "gone":
            gone_ms = record.seen_ms if record.gone_ms is None else record.gone_ms
            db.execute(
                "UPDATE model SET hub_state = 'gone', gone_ms = ? WHERE model_key = ?",
                (gone_ms, key),
            )
            gone.append((record.hub, key))
        elif step.verdict != "new":
            state = record.state if record.state in STATES else "listed"
            db.execute(
                "UPDATE model SET hub_state = ?, gone_ms = NULL WHERE model_key = ?", (state, key)
            )
    for hub in dict.fromkeys(hub for hub, _ in gone):
        # the hub is asked now and then whether it is back
        missing = [key for of, key in gone if of == hub]
        suspects.suspect(tx, hub, missing, "a snapshot says that it is gone")
    db.executemany(
        "UPDATE model SET changed_seq = ? WHERE model_key = ?",
        [
            (seqs[s.record.hub], keys[s.record.hub, s.record.hub_id])
            for s in steps
            if id(s) in changed
        ],
    )


def _insert_revision(db: apsw.Connection, model_key: int, new: Insertion) -> None:
    """Into the chain behind ``after``: what is newer gets new numbers, so that all are in order."""
    if new.again is not None:
        db.execute("UPDATE revision SET raw = ? WHERE revision_id = ?", (new.again, new.after))
    db.execute(
        "UPDATE revision SET replaced_ms = min(replaced_ms, ?) WHERE revision_id = ?",
        (new.seen_ms, new.after),
    )
    newer: list[Any] = db.execute(
        "SELECT revision_id FROM revision WHERE model_key = ? AND kind = ? AND revision_id > ?"
        " ORDER BY revision_id",
        (model_key, new.kind, new.after),
    ).fetchall()
    db.execute(
        "INSERT INTO revision (model_key, kind, is_delta, dict_id, raw, seen_ms, replaced_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (model_key, new.kind, new.is_delta, new.dict_id, new.raw, new.seen_ms, new.replaced_ms),
    )
    last = db.last_insert_rowid()
    for place, (revision_id,) in enumerate(newer, start=1):
        db.execute(
            "UPDATE revision SET revision_id = ? WHERE revision_id = ?",
            (last + place, revision_id),
        )


def _unite_aliases(db: apsw.Connection, aliases: Sequence[AliasRecord]) -> None:
    # of two models that bore one name, the later one is meant by it
    db.executemany(
        "INSERT INTO model_alias (hub, ref_id, model_key, until_ms)"
        " SELECT ?1, ?3, model_key, ?4 FROM model WHERE hub = ?1 AND hub_id = ?2 AND ref_id <> ?3"
        " ON CONFLICT (hub, ref_id) DO UPDATE SET model_key = excluded.model_key,"
        " until_ms = excluded.until_ms WHERE excluded.until_ms > until_ms",
        [(alias.hub, alias.hub_id, alias.ref_id, alias.until_ms) for alias in aliases],
    )


def _keep_odd(db: apsw.Connection, odd: Sequence[OddItem]) -> int:
    met = 0
    for item in odd:
        db.execute(
            "INSERT OR IGNORE INTO odd_document"
            " (hub, kind, hub_id, reason, raw, doc_hash, fetched_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (item.hub, item.kind, item.hub_id, item.reason, item.blob, item.doc_hash,
             item.fetched_ms),
        )  # fmt: skip
        met += db.changes()
    return met


def _adopt(tx: Tx, dictionaries: Sequence[DictionaryRecord]) -> list[tuple[int, DictionaryRecord]]:
    """Dictionaries for what has none yet; training one takes hundreds of documents."""
    adopted = []
    for each in dictionaries:
        known = tx.db.execute(
            "SELECT 1 FROM document_dict WHERE hub = ? AND kind = ?", (each.hub, each.kind)
        ).fetchone()
        if known is None:
            adopted.append((save_dictionary(tx, each.hub, each.kind, each.data), each))
    return adopted


def _remember(db: apsw.Connection, write: BlockWrite, merged: Merged) -> None:
    db.execute(
        "UPDATE snapshot SET next_block = ?, state = ?, models = models + ?, new = new + ?,"
        " changed = changed + ?, older = older + ?, odd = odd + ? WHERE snapshot_id = ?",
        (
            write.number + 1, "finished" if write.is_last else "running", merged.models,
            merged.new, merged.changed, merged.older, merged.odd, write.snapshot_id,
        ),
    )  # fmt: skip

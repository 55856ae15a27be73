"""Detail documents: what a hub's list rows leave out, brought into the catalog.

Queries and the unit of work. A detail document tells of the files, each with size and hash, and of
the commit they are true for; its counters are newer than the row's. The rest of the model is the
list row's to say, so that the two do not take turns.
"""

import json
from collections.abc import Callable
from typing import Any

import apsw
import msgspec

from modelkeepd.hubs.contract import Address, OddDocument, ParsedModel
from modelkeepd.hubs.documents import DocumentCodec, DocumentDamaged, same_document
from modelkeepd.hubs.reference import model_ref
from modelkeepd.store import Tx
from modelkeepd.sync import facts, suspects
from modelkeepd.sync.facts import Before
from modelkeepd.sync.prepare import DETAIL_KIND, Delta, Known, delta_of
from modelkeepd.sync.rows import keep_revisions, write_files

_HOUR_MS = 3_600_000
# a model whose details refuse to come is asked again after this, doubled with each failure
_RETRY_MS = 6 * _HOUR_MS
_MAX_DOUBLINGS = 7


class KnownDetail(msgspec.Struct, frozen=True):
    """A model, how it is asked for, and how fresh what is kept of it is."""

    model_key: int
    hub: str
    address: Address
    seen_ms: int
    detailed_ms: int | None
    files_known: bool  # its rows are true for the commit it stands at, or it has no commits


class DetailWrite(msgspec.Struct, frozen=True):
    """A detail document made ready. ``of_ms`` is the date of the kept one it was compared with."""

    model_key: int
    parsed: ParsedModel
    blob: bytes
    dict_id: int | None
    is_same: bool
    delta: Delta | None
    of_ms: int | None
    fetched_ms: int


def known_detail(db: apsw.Connection, model_key: int) -> KnownDetail | None:
    """What is known of one model's details."""
    row: Any = db.execute(
        "SELECT hub, hub_id, ref_id, seen_ms,"
        " (SELECT fetched_ms FROM detail_document d WHERE d.model_key = m.model_key),"
        " NOT EXISTS (SELECT 1 FROM version v WHERE v.model_key = m.model_key"
        "   AND v.gone_ms IS NULL AND v.files_revision IS NOT v.revision),"
        " (SELECT json_group_array(hub_id) FROM (SELECT hub_id FROM version v"
        "   WHERE v.model_key = m.model_key"
        "   ORDER BY gone_ms IS NOT NULL, published_ms DESC, version_key DESC LIMIT 5))"
        " FROM model m WHERE model_key = ?",
        (model_key,),
    ).fetchone()
    if row is None:
        return None
    hub, hub_id, ref_id, seen_ms, detailed_ms, files_known, versions = row
    address = Address(hub_id, ref_id, tuple(json.loads(versions)))
    return KnownDetail(model_key, hub, address, seen_ms, detailed_ms, bool(files_known))


def kept_detail(db: apsw.Connection, model_key: int) -> tuple[Known, int] | None:
    """The kept detail document and its date, as ``prepare_detail`` wants them."""
    row: Any = db.execute(
        "SELECT raw, dict_id, fetched_ms, (SELECT count(*) FROM revision r"
        "   WHERE r.model_key = d.model_key AND r.kind = ?) FROM detail_document d"
        " WHERE model_key = ?",
        (DETAIL_KIND, model_key),
    ).fetchone()
    if row is None:
        return None
    raw, dict_id, fetched_ms, revisions = row
    return Known(_stamp(fetched_ms), fetched_ms, False, (raw, dict_id), revisions), fetched_ms


def prepare_detail(
    model_key: int,
    hub: str,
    raw: bytes,
    kept: tuple[Known, int] | None,
    fetched_ms: int,
    *,
    parse: Callable[[bytes], ParsedModel],
    codec: DocumentCodec,
) -> DetailWrite:
    """Make a detail document ready, in a thread. Raises OddDocument."""
    parsed = parse(raw)
    if not any(version.files_known for version in parsed.versions):
        raise OddDocument("a detail document without a list of files", parsed.hub_id)
    dict_id = codec.dictionary_for(hub, DETAIL_KIND)
    old = None
    if kept is not None and kept[0].old is not None:
        try:
            old = codec.decompress(*kept[0].old)
        except DocumentDamaged:
            old = None  # then the new one mends it
    is_same = old is not None and same_document(old, raw)
    delta = None
    if kept is not None and not is_same:
        delta = delta_of(kept[0], old, raw, codec)
    return DetailWrite(
        model_key=model_key,
        parsed=parsed,
        blob=codec.compress(raw, dict_id),
        dict_id=dict_id,
        is_same=is_same,
        delta=delta,
        of_ms=None if kept is None else kept[1],
        fetched_ms=fetched_ms,
    )


def apply_details(tx: Tx, write: DetailWrite, trust: suspects.Trust) -> bool:
    """Bring a detail document into the catalog. False when it is another model's."""
    db, key, parsed = tx.db, write.model_key, write.parsed
    row: Any = db.execute(
        "SELECT hub_id, model_key, doc_hash, seen_ms, hub_state, ref_id FROM model"
        " WHERE model_key = ?",
        (key,),
    ).fetchone()
    if row is None or row[0] != parsed.hub_id:
        suspects.suspect(tx, parsed.hub, [key], "its name belongs to another model now")
        return False
    before = Before(*row[1:])
    found: Any = db.execute(
        "SELECT fetched_ms FROM detail_document WHERE model_key = ?", (key,)
    ).fetchone()
    kept_ms: int | None = None if found is None else found[0]
    if kept_ms is not None and kept_ms > write.fetched_ms and kept_ms != write.of_ms:
        return True  # a later one was quicker
    if write.is_same and kept_ms == write.of_ms:
        db.execute(
            "UPDATE detail_document SET fetched_ms = ? WHERE model_key = ?",
            (write.fetched_ms, key),
        )
    else:
        if kept_ms is not None:
            keep_revisions(tx, DETAIL_KIND, [(key, write.delta, _stamp(kept_ms))])
        db.execute(
            "REPLACE INTO detail_document VALUES (?, ?, ?, ?)",
            (key, write.dict_id, write.blob, write.fetched_ms),
        )
    is_news = _write_versions(tx, key, parsed) or not write.is_same
    facts.note_changes(tx, before, parsed)
    db.execute(
        "UPDATE model SET ref_id = ?, downloads = ?, likes = ?, license = ?, gated = ?,"
        " hub_state = ?, gone_ms = NULL, size_bytes = ?, seen_ms = max(seen_ms, ?)"
        " WHERE model_key = ?",
        (parsed.ref_id, parsed.downloads, parsed.likes, parsed.license, parsed.gated,
         parsed.hub_state, parsed.size_bytes, write.fetched_ms, key),
    )  # fmt: skip
    if is_news or before.hub_state != parsed.hub_state or before.ref_id != parsed.ref_id:
        files = sum(len(version.files) for version in parsed.versions)
        payload = {"hub": parsed.hub, "files": files, "size_bytes": parsed.size_bytes}
        seq = tx.emit("model", "details", model_ref(parsed.hub, parsed.ref_id), payload)
        db.execute("UPDATE model SET changed_seq = ? WHERE model_key = ?", (seq, key))
    db.execute("DELETE FROM sync_wish WHERE model_key = ?", (key,))
    if db.execute("SELECT 1 FROM sync_suspect WHERE model_key = ?", (key,)).fetchone():
        suspects.found_present(tx, key, parsed.hub, trust)
    return True


def wish(tx: Tx, model_key: int) -> None:
    """A person wanted these details and did not get them: they are the next to be asked for."""
    tx.db.execute(
        "INSERT INTO sync_wish (model_key, asked_ms) VALUES (?1, ?2)"
        " ON CONFLICT (model_key) DO UPDATE SET asked_ms = ?2, retry_ms = 0",
        (model_key, tx.now_ms),
    )


def details_failed(tx: Tx, hub: str, model_key: int, *, is_missing: bool) -> None:
    """The hub has no details of this model, or none that can be read: not again for a while."""
    row: Any = tx.db.execute(
        "SELECT failures FROM sync_wish WHERE model_key = ?", (model_key,)
    ).fetchone()
    failures = 1 + (row[0] if row else 0)
    wait_ms = _RETRY_MS * 2 ** min(failures - 1, _MAX_DOUBLINGS)
    tx.db.execute(
        "INSERT INTO sync_wish (model_key, failures, retry_ms) VALUES (?1, ?2, ?3)"
        " ON CONFLICT (model_key) DO UPDATE SET failures = ?2, retry_ms = ?3, asked_ms = NULL",
        (model_key, failures, tx.now_ms + wait_ms),
    )
    if is_missing:
        suspects.suspect(tx, hub, [model_key], "asked for its details, the hub denied it")


def wanted(db: apsw.Connection, hub: str, now_ms: int, limit: int) -> list[int]:
    """The models whose files are not known, the most wanted first.

    Looks at every model of the hub: seconds at millions.
    """
    rows: list[Any] = db.execute(
        "SELECT m.model_key FROM model m JOIN version v USING (model_key)"
        " LEFT JOIN sync_wish w USING (model_key)"
        " WHERE m.hub = ?1 AND m.hub_state = 'listed' AND v.gone_ms IS NULL"
        " AND v.revision IS NOT NULL AND v.files_revision IS NOT v.revision"
        " AND coalesce(w.retry_ms, 0) <= ?2"
        " ORDER BY m.owned DESC, w.asked_ms IS NULL, w.asked_ms, m.downloads DESC, m.model_key"
        " LIMIT ?3",
        (hub, now_ms, limit),
    ).fetchall()
    return [row[0] for row in rows]


def wished(db: apsw.Connection, hub: str, now_ms: int) -> list[int]:
    """Those that a person asked for in vain."""
    rows: list[Any] = db.execute(
        "SELECT model_key FROM sync_wish JOIN model USING (model_key)"
        " WHERE hub = ? AND asked_ms IS NOT NULL AND retry_ms <= ? ORDER BY asked_ms LIMIT 100",
        (hub, now_ms),
    ).fetchall()
    return [row[0] for row in rows]


def _write_versions(tx: Tx, model_key: int, parsed: ParsedModel) -> bool:
    """Whether the files of a version were written, because its commit is another one."""
    rows: list[Any] = tx.db.execute(
        "SELECT hub_id, version_key, files_revision FROM version WHERE model_key = ?", (model_key,)
    ).fetchall()
    keys = {hub_id: (key, revision) for hub_id, key, revision in rows}
    wrote = False
    for version in parsed.versions:
        if not version.files_known or version.hub_id not in keys:
            continue
        version_key, revision = keys[version.hub_id]
        tx.db.execute(
            "UPDATE version SET revision = ? WHERE version_key = ?",
            (version.revision, version_key),
        )
        if revision is None or revision != version.revision:
            write_files(tx, version_key, version, model_key)
            wrote = True
    return wrote


def _stamp(fetched_ms: int) -> bytes:
    """What stands for a detail document's hash where deltas are told apart."""
    return str(fetched_ms).encode()

"""Sync's units of work and queries: what one page does to the catalog's tables, all or nothing.

Few statements a page, most of them executemany. Nothing is ever deleted: what a document no longer
lists gets a date, a changed document's predecessor becomes a revision.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from modelkeepd.hubs.contract import ListItem, ParsedFile, ParsedModel, ParsedVersion
from modelkeepd.hubs.documents import document_hash
from modelkeepd.store import Tx
from modelkeepd.sync.prepare import MODEL_KIND, Known, OddItem, PreparedModel, PreparedPage

_json = msgspec.json.Encoder()


class PageWrite(msgspec.Struct, frozen=True):
    """A prepared page and the state the crawl is in after it."""

    hub: str
    run_id: int
    view: str
    page: PreparedPage
    state: str
    fetched_ms: int
    seen_since_ms: int | None = None  # see prepare_page
    gaps: int = 0
    is_list_page: bool = True


class PageOutcome(msgspec.Struct, frozen=True):
    """What a page brought."""

    seen: int
    new: int
    changed: int
    odd: int


class _Existing(msgspec.Struct, frozen=True, gc=False):
    model_key: int
    doc_hash: bytes
    seen_ms: int
    gone: bool


def known_models(db: apsw.Connection, hub: str, items: Sequence[ListItem]) -> dict[str, Known]:
    """What the store has of these models; of changed ones the kept document too."""
    digests = {i.hub_id: document_hash(i.raw) for i in items if i.hub_id is not None}
    rows: list[Any] = db.execute(
        "SELECT hub_id, doc_hash, seen_ms, hub_state = 'gone', model_key FROM model"
        " WHERE hub = ? AND hub_id IN (SELECT value FROM json_each(?))",
        (hub, json.dumps(list(digests))),
    ).fetchall()
    changed = [row[4] for row in rows if row[1] != digests[row[0]]]
    kept: list[Any] = db.execute(
        "SELECT model_key, raw, dict_id FROM document"
        " WHERE model_key IN (SELECT value FROM json_each(?))",
        (json.dumps(changed),),
    ).fetchall()
    old = {key: (raw, dict_id) for key, raw, dict_id in kept}
    return {row[0]: Known(row[1], row[2], bool(row[3]), old.get(row[4])) for row in rows}


def apply_page(tx: Tx, write: PageWrite) -> PageOutcome:
    """Bring one page into the catalog, with one event and the crawl's new state."""
    existing = _existing(tx.db, write.hub, [m.hub_id for m in write.page.models])
    new: list[PreparedModel] = []
    changed: list[tuple[int, PreparedModel, bool]] = []
    unchanged: list[int] = []
    odd = list(write.page.odd)
    for model in write.page.models:
        before = existing.get(model.hub_id)
        if before is None:
            if model.parsed is not None:
                new.append(model)
            continue
        if write.seen_since_ms is not None and before.seen_ms >= write.seen_since_ms:
            continue  # the page before this one brought it after this one was prepared
        is_same = before.doc_hash == model.doc_hash
        if model.parsed is None or (is_same and not before.gone):
            unchanged.append(before.model_key)
        elif not model.parsed.versions and (left := _versions_left(tx.db, before.model_key)):
            # the hub's caches lose version lists for hours: the models are still there
            odd.append(_without_versions(model, left))
            unchanged.append(before.model_key)
        else:
            changed.append((before.model_key, model, is_same))
    if new or changed:
        payload = {
            "hub": write.hub, "view": write.view, "count": len(write.page.models),
            "new": len(new), "changed": len(changed),
        }  # fmt: skip
        seq = tx.emit("model", "page", write.hub, payload)
        _insert(tx.db, new, seq, write.fetched_ms)
        _update(tx, changed, seq, write.fetched_ms)
    if unchanged:
        tx.db.execute(
            "UPDATE model SET seen_ms = ? WHERE model_key IN (SELECT value FROM json_each(?))",
            (write.fetched_ms, json.dumps(unchanged)),
        )
    new_odd = _keep_odd(tx, write, odd)
    seen = len(new) + len(changed) + len(unchanged)
    tx.db.execute(
        "UPDATE sync_run SET pages = pages + ?, seen = seen + ?, new = new + ?,"
        " changed = changed + ?, odd = odd + ?, gaps = ? WHERE run_id = ?",
        (write.is_list_page, seen, len(new), len(changed), new_odd, write.gaps, write.run_id),
    )
    save_state(tx, write.hub, write.run_id, write.state)
    return PageOutcome(seen, len(new), len(changed), new_odd)


def save_state(tx: Tx, hub: str, run_id: int, state: str) -> None:
    """Remember where the crawl of a hub stands."""
    tx.db.execute(
        "INSERT INTO sync_state VALUES (?, ?, ?, ?) ON CONFLICT (hub) DO UPDATE SET"
        " run_id = excluded.run_id, state = excluded.state, saved_ms = excluded.saved_ms",
        (hub, run_id, state, tx.now_ms),
    )


def save_dictionary(tx: Tx, hub: str, kind: str, data: bytes) -> int:
    """Keep a trained dictionary; return its id."""
    tx.db.execute(
        "INSERT INTO document_dict (hub, kind, bytes) VALUES (?, ?, ?)", (hub, kind, data)
    )
    return tx.db.last_insert_rowid()


def _existing(db: apsw.Connection, hub: str, hub_ids: Sequence[str]) -> dict[str, _Existing]:
    rows: list[Any] = db.execute(
        "SELECT hub_id, model_key, doc_hash, seen_ms, hub_state = 'gone' FROM model"
        " WHERE hub = ? AND hub_id IN (SELECT value FROM json_each(?))",
        (hub, json.dumps(hub_ids)),
    ).fetchall()
    return {row[0]: _Existing(row[1], row[2], row[3], bool(row[4])) for row in rows}


def _next_key(db: apsw.Connection, table: str) -> int:
    # rows are never deleted and there is one writer: keys are handed out here, so that all
    # tables of a page are filled by one executemany each
    found: Any = db.execute(f"SELECT max({table}_key) FROM {table}").fetchone()
    return 1 + (found[0] or 0)


def _insert(
    db: apsw.Connection, models: Sequence[PreparedModel], seq: int, fetched_ms: int
) -> None:
    if not models:
        return
    key = _next_key(db, "model")
    rows, documents, versions = [], [], []
    for model in models:
        parsed = model.parsed
        assert parsed is not None
        rows.append((key, parsed.hub, parsed.hub_id, *_columns(parsed), fetched_ms, fetched_ms,
                     seq, model.doc_hash))  # fmt: skip
        documents.append((key, model.dict_id, model.blob, fetched_ms))
        versions += [(key, version) for version in parsed.versions]
        key += 1
    db.executemany(
        "INSERT INTO model (model_key, hub, hub_id, ref_id, name, type, creator, base_models, tags,"
        " nsfw_level, downloads, likes, commercial, published_ms, updated_ms, size_bytes,"
        " license, gated, hub_state, first_seen_ms, seen_ms, changed_seq, doc_hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    db.executemany("INSERT INTO document VALUES (?, ?, ?, ?)", documents)
    _insert_versions(db, versions)


def _columns(parsed: ParsedModel) -> tuple[object, ...]:
    return (
        parsed.ref_id,
        parsed.name,
        parsed.type,
        parsed.creator,
        _json.encode(parsed.base_models).decode(),
        _json.encode(parsed.tags).decode(),
        parsed.nsfw_level,
        parsed.downloads,
        parsed.likes,
        parsed.commercial,
        parsed.published_ms,
        parsed.updated_ms,
        parsed.size_bytes,
        parsed.license,
        parsed.gated,
        parsed.hub_state,
    )


def _insert_versions(db: apsw.Connection, versions: Sequence[tuple[int, ParsedVersion]]) -> None:
    if not versions:
        return
    key = _next_key(db, "version")
    rows, files = [], []
    for model_key, version in versions:
        rows.append((key, model_key, *_version_columns(version), version.hub_id))
        files += [(key, model_key, file) for file in version.files]
        key += 1
    db.executemany(
        "INSERT INTO version (version_key, model_key, name, base_model, position, published_ms,"
        " availability, revision, hub_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    _insert_files(db, files)


def _version_columns(version: ParsedVersion) -> tuple[object, ...]:
    return (
        version.name,
        version.base_model,
        version.position,
        version.published_ms,
        version.availability,
        version.revision,
    )


def _insert_files(db: apsw.Connection, files: Iterable[tuple[int, int, ParsedFile]]) -> None:
    db.executemany(
        "INSERT INTO file (version_key, model_key, kind, format, size_bytes, sha256, git_sha1,"
        " is_primary, url, hub_id, name) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (version_key, model_key, *_file_columns(file), file.hub_id, file.name)
            for version_key, model_key, file in files
        ],
    )


def _file_columns(file: ParsedFile) -> tuple[object, ...]:
    return (
        file.kind,
        file.format,
        file.size_bytes,
        file.sha256,
        file.git_sha1,
        file.is_primary,
        file.url,
    )


def _update(
    tx: Tx, changed: Sequence[tuple[int, PreparedModel, bool]], seq: int, fetched_ms: int
) -> None:
    if not changed:
        return
    db = tx.db
    replaced = json.dumps([key for key, _, is_same in changed if not is_same])
    db.execute(
        "INSERT INTO revision (model_key, kind, is_delta, dict_id, raw, seen_ms, replaced_ms)"
        " SELECT model_key, 'model', 0, dict_id, raw, fetched_ms, ? FROM document"
        " WHERE model_key IN (SELECT value FROM json_each(?))",
        (tx.now_ms, replaced),
    )
    rows, documents = [], []
    for model_key, model, _ in changed:
        assert model.parsed is not None
        rows.append((*_columns(model.parsed), fetched_ms, seq, model.doc_hash, model_key))
        documents.append((model_key, model.dict_id, model.blob, fetched_ms))
    db.executemany(
        "UPDATE model SET ref_id = ?, name = ?, type = ?, creator = ?, base_models = ?, tags = ?,"
        " nsfw_level = ?, downloads = ?, likes = ?, commercial = ?, published_ms = ?,"
        " updated_ms = ?, size_bytes = ?, license = ?, gated = ?, hub_state = ?,"
        " gone_ms = NULL, seen_ms = ?, changed_seq = ?, doc_hash = ? WHERE model_key = ?",
        rows,
    )
    db.executemany("REPLACE INTO document VALUES (?, ?, ?, ?)", documents)
    for model_key, model, _ in changed:
        assert model.parsed is not None
        _update_versions(tx, model_key, model.parsed.versions)


def _update_versions(tx: Tx, model_key: int, versions: Sequence[ParsedVersion]) -> None:
    """Keys stay: the library's files hang on them."""
    db = tx.db
    rows: list[Any] = db.execute(
        "SELECT hub_id, version_key FROM version WHERE model_key = ?", (model_key,)
    ).fetchall()
    keys: dict[str, int] = dict(rows)
    kept = [(keys[v.hub_id], v) for v in versions if v.hub_id in keys]
    db.execute(
        "UPDATE version SET gone_ms = ? WHERE model_key = ? AND gone_ms IS NULL",
        (tx.now_ms, model_key),
    )
    db.executemany(
        "UPDATE version SET name = ?, base_model = ?, position = ?, published_ms = ?,"
        " availability = ?, revision = ?, gone_ms = NULL WHERE version_key = ?",
        [(*_version_columns(version), key) for key, version in kept],
    )
    db.execute(
        "UPDATE file SET gone_ms = ?, is_primary = 0 WHERE model_key = ? AND gone_ms IS NULL",
        (tx.now_ms, model_key),
    )
    db.executemany(
        "INSERT INTO file (version_key, model_key, kind, format, size_bytes, sha256, git_sha1,"
        " is_primary, url, hub_id, name) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (version_key, hub_id, name) DO UPDATE SET kind = excluded.kind,"
        " format = excluded.format, size_bytes = excluded.size_bytes, sha256 = excluded.sha256,"
        " git_sha1 = excluded.git_sha1, is_primary = excluded.is_primary, url = excluded.url, gone_ms = NULL",
        [
            (key, model_key, *_file_columns(file), file.hub_id, file.name)
            for key, version in kept
            for file in version.files
        ],
    )
    _insert_versions(db, [(model_key, v) for v in versions if v.hub_id not in keys])


def _versions_left(db: apsw.Connection, model_key: int) -> int:
    found: Any = db.execute(
        "SELECT count(*) FROM version WHERE model_key = ? AND gone_ms IS NULL", (model_key,)
    ).fetchone()
    return int(found[0])


def _without_versions(model: PreparedModel, left: int) -> OddItem:
    reason = f"its version list is empty; the {left} known versions were kept"
    return OddItem(model.hub_id, reason, model.doc_hash, model.blob)


def _keep_odd(tx: Tx, write: PageWrite, odd: Sequence[OddItem]) -> int:
    """Keep odd documents once each; return how many had not been met before."""
    met = 0
    for item in odd:
        tx.db.execute(
            "INSERT OR IGNORE INTO odd_document"
            " (hub, kind, hub_id, reason, raw, doc_hash, fetched_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (write.hub, MODEL_KIND, item.hub_id, item.reason, item.blob, item.doc_hash,
             write.fetched_ms),
        )  # fmt: skip
        if tx.db.changes():
            met += 1
            subject = f"{write.hub}:{item.hub_id or ''}"
            odd_id = tx.db.last_insert_rowid()
            payload = {"kind": MODEL_KIND, "reason": item.reason[:500], "odd_id": odd_id}
            tx.emit("sync", "odd", subject, payload)
    return met

"""Sync's unit of work: what one page of documents does to the catalog, all or nothing.

Few statements a page, most of them executemany. Nothing is ever deleted: what a document no longer
lists gets a date, a changed document's predecessor becomes a revision.
"""

import json
from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from modelkeepd.hubs.contract import ListItem, ParsedModel
from modelkeepd.hubs.documents import document_hash
from modelkeepd.kinds import register, words_used
from modelkeepd.store import Tx
from modelkeepd.sync import facts, suspects
from modelkeepd.sync.facts import Before
from modelkeepd.sync.prepare import (
    MODEL_KIND,
    Known,
    OddItem,
    PreparedModel,
    PreparedPage,
    tells_files,
)
from modelkeepd.sync.rows import (
    Replaced,
    files_left,
    insert_models,
    update_models,
    versions_left,
)
from modelkeepd.sync.suspects import Trust


class PageWrite(msgspec.Struct, frozen=True):
    """A prepared page, and the state the run is in after it. ``run_id`` None: outside of any run.

    ``is_listed``: lists show these models, so nothing is held against them.
    """

    hub: str
    view: str
    page: PreparedPage
    fetched_ms: int
    run_id: int | None = None
    kind: str = ""
    state: str | None = None
    seen_since_ms: int | None = None  # see prepare_page
    gaps: int = 0
    is_list_page: bool = True
    is_listed: bool = True
    trust: Trust = Trust()


class PageOutcome(msgspec.Struct, frozen=True):
    """What a page brought."""

    seen: int
    new: int
    changed: int
    odd: int


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
        "SELECT model_key, raw, dict_id, (SELECT count(*) FROM revision r"
        "   WHERE r.model_key = d.model_key AND r.kind = ?) FROM document d"
        " WHERE model_key IN (SELECT value FROM json_each(?))",
        (MODEL_KIND, json.dumps(changed)),
    ).fetchall()
    old = {key: ((raw, dict_id), revisions) for key, raw, dict_id, revisions in kept}
    nothing = (None, 0)
    return {row[0]: Known(row[1], row[2], bool(row[3]), *old.get(row[4], nothing)) for row in rows}


def apply_page(tx: Tx, write: PageWrite) -> PageOutcome:
    """Bring one page into the catalog, with one event and the run's new state."""
    existing = _existing(tx.db, write.hub, [m.hub_id for m in write.page.models])
    new: list[PreparedModel] = []
    changed: list[tuple[Before, Replaced]] = []
    unchanged: list[int] = []
    doubted: list[int] = []
    odd = list(write.page.odd)
    for model in write.page.models:
        before = existing.get(model.hub_id)
        if before is None:
            if model.parsed is not None:
                new.append(model)
            continue
        if write.seen_since_ms is not None and before.seen_ms >= write.seen_since_ms:
            continue  # the page before this one brought it after this one was prepared
        key, is_same = before.model_key, before.doc_hash == model.doc_hash
        if model.parsed is None or (is_same and before.hub_state != "gone"):
            unchanged.append(key)
        elif (lack := _lack(tx.db, key, model.parsed)) and not suspects.doubt(tx, key, write.trust):
            odd.append(OddItem(model.hub_id, lack, model.doc_hash, model.blob))
            doubted.append(key)
        else:
            changed.append((before, Replaced(key, model, is_same, before.doc_hash)))
    if new or changed:
        payload = {
            "hub": write.hub, "view": write.view, "count": len(write.page.models),
            "new": len(new), "changed": len(changed),
        }  # fmt: skip
        seq = tx.emit("model", "page", write.hub, payload)
        insert_models(tx.db, new, seq, write.fetched_ms)
        update_models(tx, [replaced for _, replaced in changed], seq, write.fetched_ms)
        for before, replaced in changed:
            assert replaced.model.parsed is not None
            facts.note_changes(tx, before, replaced.model.parsed)
        came = [*new, *(replaced.model for _, replaced in changed)]
        register(tx, words_used(write.hub, (m.parsed for m in came if m.parsed is not None)))
    _note_seen(tx, write, [r.model_key for _, r in changed], unchanged, doubted)
    new_odd = _keep_odd(tx, write, odd)
    seen = len(new) + len(changed) + len(unchanged) + len(doubted)
    outcome = PageOutcome(seen, len(new), len(changed), new_odd)
    if write.run_id is not None:
        count(tx, write.run_id, outcome, pages=write.is_list_page, gaps=write.gaps)
        if write.state is not None:
            save_state(tx, write.hub, write.kind, write.run_id, write.state)
    return outcome


def count(tx: Tx, run_id: int, outcome: PageOutcome, *, pages: int, gaps: int) -> None:
    """Add what a page brought to its run."""
    tx.db.execute(
        "UPDATE sync_run SET pages = pages + ?, seen = seen + ?, new = new + ?,"
        " changed = changed + ?, odd = odd + ?, gaps = ? WHERE run_id = ?",
        (pages, outcome.seen, outcome.new, outcome.changed, outcome.odd, gaps, run_id),
    )


def save_state(tx: Tx, hub: str, kind: str, run_id: int, state: str) -> None:
    """Remember where an unfinished run of a hub stands."""
    tx.db.execute(
        "INSERT INTO sync_state VALUES (?, ?, ?, ?, ?) ON CONFLICT (hub, kind) DO UPDATE SET"
        " run_id = excluded.run_id, state = excluded.state, saved_ms = excluded.saved_ms",
        (hub, kind, run_id, state, tx.now_ms),
    )


def save_dictionary(tx: Tx, hub: str, kind: str, data: bytes) -> int:
    """Keep a trained dictionary; return its id."""
    tx.db.execute(
        "INSERT INTO document_dict (hub, kind, bytes) VALUES (?, ?, ?)", (hub, kind, data)
    )
    return tx.db.last_insert_rowid()


def _existing(db: apsw.Connection, hub: str, hub_ids: Sequence[str]) -> dict[str, Before]:
    rows: list[Any] = db.execute(
        "SELECT hub_id, model_key, doc_hash, seen_ms, hub_state, ref_id FROM model"
        " WHERE hub = ? AND hub_id IN (SELECT value FROM json_each(?))",
        (hub, json.dumps(hub_ids)),
    ).fetchall()
    return {row[0]: Before(*row[1:]) for row in rows}


def _note_seen(
    tx: Tx, write: PageWrite, changed: list[int], unchanged: list[int], doubted: list[int]
) -> None:
    if unchanged or doubted:
        tx.db.execute(
            "UPDATE model SET seen_ms = ? WHERE model_key IN (SELECT value FROM json_each(?))",
            (write.fetched_ms, json.dumps(unchanged + doubted)),
        )
    if changed or unchanged:
        suspects.end_doubts(tx, json.dumps(changed + unchanged))
        if write.is_listed:
            suspects.clear_seen(tx, json.dumps(changed + unchanged))


def _lack(db: apsw.Connection, model_key: int, parsed: ParsedModel) -> str | None:
    """What the document leaves out that was known: the hubs lose such lists for hours."""
    if not parsed.versions:
        left = versions_left(db, model_key)
        return f"its version list is empty; the {left} known versions were kept" if left else None
    if tells_files(parsed) or parsed.hub_state != "listed":
        return None
    left = files_left(db, model_key)
    return f"no version of it has a file; the {left} known files were kept" if left else None


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

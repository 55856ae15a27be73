"""Dated facts of a model's life: gone, back, archived, taken down, listed, renamed.

Each is a row of ``model_fact`` and an event, in the transaction that brings it about. A fact is
what no document tells: the day on which the hub's answer changed. Names a model had stay findable
as aliases.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from modelkeepd.hubs.contract import ParsedModel
from modelkeepd.hubs.reference import model_ref
from modelkeepd.store import Tx

Fact = Literal["gone", "back", "archived", "taken_down", "listed", "renamed"]
_STATES: Mapping[str, Fact] = {
    "archived": "archived",
    "taken_down": "taken_down",
    "listed": "listed",
}


class Before(msgspec.Struct, frozen=True, gc=False):
    """A known model as the store has it."""

    model_key: int
    doc_hash: bytes
    seen_ms: int
    hub_state: str
    ref_id: str


def note_changes(tx: Tx, before: Before, now: ParsedModel) -> None:
    """What of a changed model is a fact. Nothing for most."""
    if before.ref_id != now.ref_id:
        _rename(tx, before, now)
    if before.hub_state != now.hub_state:
        if before.hub_state == "gone":
            record(tx, "back", before.model_key, now.hub, now.ref_id, {"name": now.name})
        fact = _STATES.get(now.hub_state)
        # to be listed is what a model is by default
        if fact is not None and not (before.hub_state == "gone" and fact == "listed"):
            payload = {"name": now.name, "from": before.hub_state}
            record(tx, fact, before.model_key, now.hub, now.ref_id, payload)


def record(
    tx: Tx, fact: Fact, model_key: int, hub: str, ref_id: str, detail: Mapping[str, object]
) -> int:
    """Write one fact down and tell it; the event's seq."""
    tx.db.execute(
        "INSERT INTO model_fact (model_key, at_ms, kind, detail) VALUES (?, ?, ?, ?)",
        (model_key, tx.now_ms, fact, msgspec.json.encode(detail).decode()),
    )
    return tx.emit("model", fact, model_ref(hub, ref_id), {"hub": hub, **detail})


def _rename(tx: Tx, before: Before, now: ParsedModel) -> None:
    # of two models that bore one name, the later one is meant by it
    tx.db.execute(
        "REPLACE INTO model_alias (hub, ref_id, model_key, until_ms) VALUES (?, ?, ?, ?)",
        (now.hub, before.ref_id, before.model_key, tx.now_ms),
    )
    tx.db.execute(
        "DELETE FROM model_alias WHERE hub = ? AND ref_id = ? AND model_key = ?",
        (now.hub, now.ref_id, before.model_key),
    )
    detail = {"name": now.name, "from": before.ref_id, "to": now.ref_id}
    record(tx, "renamed", before.model_key, now.hub, now.ref_id, detail)

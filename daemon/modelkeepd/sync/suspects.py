"""Models the lists do not show: how one comes to be looked at, and when its absence is believed.

Owns ``sync_suspect`` and ``sync_doubt``. Rules and units of work; the looking is ``confirm``'s.

A hub shows an existing model as missing for many reasons: not yet rated, a cache, a replica that
lags, a list that hides archived ones, a filter that was changed here. So being missed by a list
proves nothing; it only makes the model a suspect, which is looked at by itself. Only looks that
find it absent, several in a row and spread over days, make it ``gone``. The row stays for as long
as lists do not show the model: one that is there but unlisted, and one that is gone, are looked at
again in long turns. A list that shows it ends all that.

**Documents without versions.** CivitAI's caches answer an empty version list for hours. Where
versions were known such a document is not believed, unless it is met again and again for days:
longer than any cache has been seen to err.
"""

import json
from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from modelkeepd.hubs.contract import Address
from modelkeepd.store import Tx
from modelkeepd.sync import facts

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
# what is gone is looked at again once a year at least
LONGEST_TURN_MS = 365 * _DAY_MS


class Trust(msgspec.Struct, frozen=True):
    """How much it takes until a hub's denial is believed."""

    absences: int = 3
    spread_ms: int = 2 * _DAY_MS
    look_every_ms: int = _DAY_MS
    # a look that proved nothing
    unclear_ms: int = 6 * _HOUR_MS
    # there but not listed (archived, outside the filters); later looks at what is gone come at
    # distances that double from this
    unlisted_every_ms: int = 30 * _DAY_MS
    empty_times: int = 3
    empty_spread_ms: int = 2 * _DAY_MS
    # two meetings closer than this count as one
    empty_apart_ms: int = 12 * _HOUR_MS


class Suspect(msgspec.Struct, frozen=True):
    """A model whose turn to be looked at has come."""

    model_key: int
    address: Address
    absences: int
    first_absent_ms: int | None


def suspect_unseen(tx: Tx, hub: str, since_ms: int) -> int:
    """Every model that a whole walk begun at ``since_ms`` did not meet; how many are new."""
    tx.db.execute(
        "INSERT OR IGNORE INTO sync_suspect (model_key, hub, since_ms, next_look_ms, reason)"
        " SELECT model_key, hub, ?1, ?1, 'the list did not show it' FROM model"
        " WHERE hub = ?2 AND seen_ms < ?3 AND hub_state <> 'gone'",
        (tx.now_ms, hub, since_ms),
    )
    return tx.db.changes()


def suspect(tx: Tx, hub: str, model_keys: Sequence[int], reason: str) -> None:
    """These models were asked for and did not come."""
    tx.db.execute(
        "INSERT OR IGNORE INTO sync_suspect (model_key, hub, since_ms, next_look_ms, reason)"
        " SELECT value, ?1, ?2, ?2, ?3 FROM json_each(?4)",
        (hub, tx.now_ms, reason, json.dumps(list(model_keys))),
    )


def clear_seen(tx: Tx, model_keys: str) -> None:
    """A list shows these models (a JSON array of keys): nothing is held against them."""
    tx.db.execute(
        "DELETE FROM sync_suspect WHERE model_key IN (SELECT value FROM json_each(?))",
        (model_keys,),
    )


def due(db: apsw.Connection, hub: str, now_ms: int, limit: int) -> list[Suspect]:
    """Whose turn it is: owned ones, and those missing for the first time, come first."""
    rows: list[Any] = db.execute(
        "SELECT s.model_key, m.hub_id, m.ref_id, s.absences, s.first_absent_ms,"
        " (SELECT json_group_array(hub_id) FROM (SELECT hub_id FROM version v"
        "   WHERE v.model_key = s.model_key"
        "   ORDER BY gone_ms IS NOT NULL, published_ms DESC, version_key DESC LIMIT 5))"
        " FROM sync_suspect s JOIN model m USING (model_key)"
        " WHERE s.hub = ? AND s.next_look_ms <= ?"
        " ORDER BY m.owned DESC, m.hub_state = 'gone', s.next_look_ms LIMIT ?",
        (hub, now_ms, limit),
    ).fetchall()
    return [
        Suspect(key, Address(hub_id, ref_id, tuple(json.loads(versions))), absences, first)
        for key, hub_id, ref_id, absences, first, versions in rows
    ]


def next_look_ms(db: apsw.Connection, hub: str) -> int | None:
    """When the next suspect's turn comes; None without suspects."""
    row: Any = db.execute(
        "SELECT min(next_look_ms) FROM sync_suspect WHERE hub = ?", (hub,)
    ).fetchone()
    return None if row[0] is None else int(row[0])


def found_present(tx: Tx, model_key: int, hub: str, trust: Trust) -> None:
    """A look found it, though lists may not show it: it is looked at again in a long turn."""
    tx.db.execute(
        "INSERT INTO sync_suspect (model_key, hub, since_ms, looked_ms, next_look_ms, reason)"
        " VALUES (?1, ?2, ?3, ?3, ?4, 'it is there, but the list does not show it')"
        " ON CONFLICT (model_key) DO UPDATE SET absences = 0, first_absent_ms = NULL,"
        " looked_ms = excluded.looked_ms, next_look_ms = excluded.next_look_ms,"
        " reason = excluded.reason",
        (model_key, hub, tx.now_ms, tx.now_ms + trust.unlisted_every_ms),
    )


def found_unclear(tx: Tx, model_key: int, trust: Trust) -> None:
    """A look proved nothing."""
    tx.db.execute(
        "UPDATE sync_suspect SET looked_ms = ?, next_look_ms = ? WHERE model_key = ?",
        (tx.now_ms, tx.now_ms + trust.unclear_ms, model_key),
    )


def found_absent(tx: Tx, hub: str, found: Suspect, reason: str, trust: Trust) -> bool:
    """A look did not find it. True when that makes it gone."""
    row: Any = tx.db.execute(
        "SELECT hub_state, gone_ms, name, ref_id, absences, first_absent_ms, since_ms"
        " FROM model JOIN sync_suspect USING (model_key) WHERE model_key = ?",
        (found.model_key,),
    ).fetchone()
    if row is None:
        return False  # a list showed it meanwhile
    state, gone_ms, name, ref_id, absences, first_ms, since_ms = row
    now = tx.now_ms
    if first_ms is None or first_ms > now:  # or the clock was set back: count from now
        absences, first_ms = 0, now
    absences += 1
    is_believed = absences >= trust.absences and now - first_ms >= trust.spread_ms
    becomes_gone: bool = state != "gone" and is_believed
    if becomes_gone:
        detail = {"name": name, "reason": reason, "looks": absences, "since_ms": since_ms}
        seq = facts.record(tx, "gone", found.model_key, hub, ref_id, detail)
        tx.db.execute(
            "UPDATE model SET hub_state = 'gone', gone_ms = ?, changed_seq = ? WHERE model_key = ?",
            (now, seq, found.model_key),
        )
        state, gone_ms = "gone", now
    if state == "gone":
        wait_ms = min(max(trust.unlisted_every_ms, now - (gone_ms or now)), LONGEST_TURN_MS)
    else:
        wait_ms = trust.look_every_ms
    tx.db.execute(
        "UPDATE sync_suspect SET absences = ?, first_absent_ms = ?, looked_ms = ?,"
        " next_look_ms = ?, reason = ? WHERE model_key = ?",
        (absences, first_ms, now, now + wait_ms, reason[:500], found.model_key),
    )
    return becomes_gone


def doubt(tx: Tx, model_key: int, trust: Trust) -> bool:
    """A document came without the versions it had. True when that is to be believed."""
    row: Any = tx.db.execute(
        "SELECT since_ms, last_ms, times FROM sync_doubt WHERE model_key = ?", (model_key,)
    ).fetchone()
    now = tx.now_ms
    since_ms, last_ms, times = row or (now, now, 0)
    if last_ms > now:  # the clock was set back
        since_ms, last_ms, times = now, now, 0
    if times == 0 or now - last_ms >= trust.empty_apart_ms:
        last_ms, times = now, times + 1
    if times >= trust.empty_times and now - since_ms >= trust.empty_spread_ms:
        tx.db.execute("DELETE FROM sync_doubt WHERE model_key = ?", (model_key,))
        return True
    tx.db.execute(
        "REPLACE INTO sync_doubt VALUES (?, ?, ?, ?)", (model_key, since_ms, last_ms, times)
    )
    return False


def end_doubts(tx: Tx, model_keys: str) -> None:
    """Documents of these models (a JSON array of keys) came with their versions."""
    tx.db.execute(
        "DELETE FROM sync_doubt WHERE model_key IN (SELECT value FROM json_each(?))",
        (model_keys,),
    )

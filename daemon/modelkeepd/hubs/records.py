"""What is remembered of the hubs' treatment, as SQL: units that write, queries that read.

The database and its transactions are handed in: the store is a neighbor.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import apsw
import msgspec

from modelkeepd.hubs.counts import Row
from modelkeepd.hubs.host import BreakerChange

HISTORY_KEPT = 1_000

_COLUMNS = "hub, operation, state, reason, at_ms, until_ms, openings"


class Transaction(Protocol):
    """What a unit is handed (the store's ``Tx``)."""

    @property
    def db(self) -> apsw.Connection: ...

    def emit(self, topic: str, kind: str, subject: str, payload: Mapping[str, object]) -> int: ...


class Remembered(msgspec.Struct, frozen=True):
    """One hub's past."""

    counts: tuple[Row, ...]
    breakers: tuple[BreakerChange, ...]
    history: tuple[BreakerChange, ...]  # oldest first


def add_counts(tx: Transaction, counts: Mapping[str, Iterable[Row]]) -> None:
    """Add to the hubs' counters."""
    tx.db.executemany(
        "INSERT INTO hub_count (hub, day, kind, count) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET count = count + excluded.count",
        [(hub, *row) for hub, rows in counts.items() for row in rows],
    )


def breaker_changed(tx: Transaction, change: BreakerChange) -> None:
    """A breaker changed its state: keep it, and tell."""
    values = msgspec.structs.astuple(change)
    marks = ", ".join("?" * len(values))
    tx.db.execute(f"INSERT OR REPLACE INTO hub_breaker ({_COLUMNS}) VALUES ({marks})", values)
    tx.db.execute(f"INSERT INTO hub_breaker_change ({_COLUMNS}) VALUES ({marks})", values)
    tx.db.execute(
        "DELETE FROM hub_breaker_change"
        " WHERE change_id <= (SELECT max(change_id) FROM hub_breaker_change) - ?",
        (HISTORY_KEPT,),
    )
    payload = {
        "hub": change.hub,
        "operation": change.operation,
        "state": change.state,
        "reason": change.reason,
        "until_ms": change.until_ms,
    }
    tx.emit("sync", "hub.breaker", change.hub, payload)


def remembered(db: apsw.Connection, hub: str, history: int) -> Remembered:
    """All that is to be known when the daemon starts."""
    counts = db.execute("SELECT day, kind, count FROM hub_count WHERE hub = ?", (hub,)).fetchall()
    breakers = db.execute(f"SELECT {_COLUMNS} FROM hub_breaker WHERE hub = ?", (hub,)).fetchall()
    return Remembered(
        msgspec.convert(counts, tuple[Row, ...]),
        tuple(_change(row) for row in breakers),
        breaker_history(db, hub, history),
    )


def breaker_history(db: apsw.Connection, hub: str, limit: int) -> tuple[BreakerChange, ...]:
    """The last changes, oldest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM hub_breaker_change WHERE hub = ? ORDER BY change_id DESC LIMIT ?",
        (hub, limit),
    ).fetchall()
    return tuple(_change(row) for row in reversed(rows))


def _change(row: tuple[object, ...]) -> BreakerChange:
    return msgspec.convert(
        dict(zip(BreakerChange.__struct_fields__, row, strict=True)), BreakerChange
    )

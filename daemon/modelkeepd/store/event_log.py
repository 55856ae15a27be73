"""The durable event log: rows, cursors, retention, and the wake-up for those who follow it.

The log is the truth; a subscriber is a cursor ``epoch:seq`` on it. A cursor of another epoch, or
of rows that retention has removed, is answered with ``fresh``: refetch what you show.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import apsw
import msgpack  # type: ignore[import-untyped,unused-ignore]
import trio

from modelkeepd.store.transaction import Tx


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the log: everything up to and including ``seq`` of ``epoch`` has been seen."""

    epoch: str
    seq: int

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read ``epoch:seq``. Raises ValueError for anything else."""
        epoch, colon, seq = text.rpartition(":")
        # isdecimal() accepts other scripts' digits, int() does as well: ASCII only on the wire
        if not colon or not epoch or not (seq.isascii() and seq.isdecimal()) or len(seq) > 18:
            raise ValueError(f"{text!r} is not a cursor of the form EPOCH:NUMBER")
        return cls(epoch, int(seq))

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event as it was logged."""

    seq: int
    at_ms: int
    topic: str
    kind: str
    subject: str
    payload: dict[str, Any]


class EventFeed:
    """Wakes those who wait for commits that wrote events; holds no events itself."""

    def __init__(self, last_seq: int) -> None:
        self.last_seq = last_seq
        self._wake = trio.Event()

    def publish(self, seq: int) -> None:
        """A commit wrote events up to ``seq``."""
        if seq > self.last_seq:
            self.last_seq = seq
            self._wake.set()
            self._wake = trio.Event()

    async def changed(self, after_seq: int) -> int:
        """Wait until there is an event later than ``after_seq``; return the last one's seq."""
        while self.last_seq <= after_seq:
            await self._wake.wait()
        await trio.lowlevel.checkpoint()
        return self.last_seq


def read_events(
    db: apsw.Connection,
    after_seq: int,
    *,
    topics: Collection[str] = (),
    limit: int = 500,
) -> list[EventRow]:
    """Events later than ``after_seq`` in order, only of ``topics`` when any are given."""
    where, bindings = "", [after_seq]
    if topics:
        where = f" AND topic IN ({','.join('?' * len(topics))})"
    rows: list[Any] = db.execute(
        "SELECT seq, at_ms, topic, kind, subject, payload FROM event_log"
        f" WHERE seq > ?{where} ORDER BY seq LIMIT ?",
        (*bindings, *topics, limit),
    ).fetchall()
    return [
        EventRow(row[0], row[1], row[2], row[3], row[4], msgpack.unpackb(row[5])) for row in rows
    ]


def first_seq(db: apsw.Connection) -> int | None:
    """The oldest event still kept, or None when the log is empty."""
    row = db.execute("SELECT min(seq) FROM event_log").fetchone()
    return None if row is None else row[0]


def last_seq(db: apsw.Connection) -> int:
    """The last seq ever given out, whether or not its row is still kept."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event_log'").fetchone()
    return 0 if row is None else int(row[0])


def is_gap(cursor: Cursor, *, epoch: str, oldest: int | None, newest: int) -> bool:
    """Whether a client with this cursor has missed events that can't be told any more."""
    if cursor.epoch != epoch or cursor.seq > newest:
        return True
    return cursor.seq < (newest if oldest is None else oldest - 1)


def trim(tx: Tx, *, keep_rows: int, keep_ms: float = math.inf) -> int:
    """Delete events beyond ``keep_rows`` or older than ``keep_ms``; return how many went."""
    horizon = last_seq(tx.db) - keep_rows
    if math.isfinite(keep_ms):
        # the log is in the order of seq; the clock may have been set back in between
        young = tx.db.execute(
            "SELECT seq FROM event_log WHERE at_ms >= ? ORDER BY seq LIMIT 1",
            (tx.now_ms - int(keep_ms),),
        ).get
        horizon = max(horizon, last_seq(tx.db) if young is None else int(str(young)) - 1)
    tx.db.execute("DELETE FROM event_log WHERE seq <= ?", (horizon,))
    return tx.db.changes()

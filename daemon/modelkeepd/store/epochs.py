"""Epochs: stretches of the event log within which nothing that was told is taken back.

A NORMAL commit's events are published before they are safe from a power cut. So a start that
finds no clean-stop mark begins a new epoch: a cursor of an older one is answered with ``fresh``,
and a follower with a memory of its own (the search index) asks how far it may trust it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apsw

from modelkeepd.store.event_log import last_seq
from modelkeepd.store.transaction import transaction

# whoever was away for more unclean stops than this starts afresh
KEPT = 100


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch, and the last event that had survived when it began."""

    name: str
    start_seq: int


def begin(db: apsw.Connection, new_name: Callable[[], str], now_ms: int) -> list[Epoch]:
    """Go on with the epoch after a clean stop, begin one otherwise; take the mark away.

    Returns the epochs still remembered, the running one last.
    """
    with transaction(db, "epoch_commit"):
        clean = db.execute("SELECT value FROM meta WHERE key = 'clean_stop'").get
        if not clean:
            db.execute(
                "INSERT INTO epoch (name, start_seq, began_ms) VALUES (?, ?, ?)",
                (new_name(), last_seq(db), now_ms),
            )
            db.execute("DELETE FROM epoch WHERE number <= ?", (db.last_insert_rowid() - KEPT,))
        _set_clean_stop(db, False)
        rows = db.execute("SELECT name, start_seq FROM epoch ORDER BY number").fetchall()
    return [Epoch(str(name), int(str(start_seq))) for name, start_seq in rows]


def mark_clean_stop(db: apsw.Connection) -> None:
    """Say that everything acknowledged so far is on the disk (so: committed with FULL)."""
    with transaction(db, "clean_stop"):
        _set_clean_stop(db, True)


def _set_clean_stop(db: apsw.Connection, clean: bool) -> None:
    db.execute(
        "INSERT INTO meta VALUES ('clean_stop', ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (int(clean),),
    )


def trusted_seq(epochs: Sequence[Epoch], name: str, newest: int) -> int:
    """The last event on which the log and a follower that last saw epoch ``name`` agree.

    Each epoch since then may have begun with events taken back, and given their numbers to
    others: only what is older than the lowest of those beginnings is the same. 0: nothing is.
    """
    for place, epoch in enumerate(epochs):
        if epoch.name == name:
            return min((later.start_seq for later in epochs[place + 1 :]), default=newest)
    return 0

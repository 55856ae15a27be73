"""What a unit of work is handed: the open transaction, its time, and a way to report facts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import apsw
import msgpack  # type: ignore[import-untyped,unused-ignore]

from modelkeepd import failpoints


@dataclass(slots=True)
class Tx:
    """One IMMEDIATE transaction in the writer's thread.

    ``db`` is used synchronously. ``now_ms`` is the wall clock of the transaction, so that all
    rows written together carry one time. A unit must not commit, roll back or keep ``db``.
    """

    db: apsw.Connection
    now_ms: int
    last_seq: int = field(default=0)

    def emit(self, topic: str, kind: str, subject: str, payload: Mapping[str, object]) -> int:
        """Append an event to the log in this transaction and return its ``seq``.

        It is published after the commit and never without it.
        """
        self.db.execute(
            "INSERT INTO event_log (at_ms, topic, kind, subject, payload) VALUES (?, ?, ?, ?, ?)",
            (self.now_ms, topic, kind, subject, msgpack.packb(payload)),
        )
        self.last_seq = self.db.last_insert_rowid()
        return self.last_seq


@contextmanager
def transaction(db: apsw.Connection, name: str = "commit") -> Iterator[None]:
    """All of the body or nothing. ``name`` is that of the fail-points around the commit."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        failpoints.hit(f"store.before_{name}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some failures roll back by themselves
            db.execute("ROLLBACK")
        raise
    failpoints.hit(f"store.after_{name}")

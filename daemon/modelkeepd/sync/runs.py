"""A run's life as rows: begun, resumed, finished, failed. Units of work and their queries.

A hub has one unfinished run of a kind at most. Short tasks (looks, details) are no runs; when they
were last done is kept beside.
"""

from collections.abc import Mapping
from typing import Any

import apsw
import msgspec

from modelkeepd.store import Tx
from modelkeepd.sync import suspects
from modelkeepd.sync.units import save_state

# what is dated later than this was dated by a wrong clock
_FUTURE_MS = 86_400_000


class Run(msgspec.Struct, frozen=True):
    """One row of ``sync_run``."""

    run_id: int
    hub: str
    kind: str
    state: str
    started_ms: int
    finished_ms: int | None
    pages: int
    seen: int
    new: int
    changed: int
    odd: int
    gaps: int
    pass_pages: tuple[int, ...]
    error: str | None


class Resumable(msgspec.Struct, frozen=True):
    """A run that has not finished, and where it stands."""

    run: Run
    state: str


_COLUMNS = (
    "run_id, hub, kind, state, started_ms, finished_ms, pages, seen, new, changed, odd, gaps, "
    "pass_pages, error"
)


def begin_run(tx: Tx, hub: str, kind: str, state: str) -> Run:
    """A new run. Raises nothing: one hub has one service that begins runs."""
    tx.db.execute(
        "INSERT INTO sync_run (hub, kind, state, started_ms) VALUES (?, ?, 'running', ?)",
        (hub, kind, tx.now_ms),
    )
    run_id = tx.db.last_insert_rowid()
    save_state(tx, hub, kind, run_id, state)
    mend_times(tx, hub)
    tx.emit("sync", "run.started", hub, {"run_id": run_id, "kind": kind, "resumed": False})
    return _the_run(tx.db, run_id)


def resume_run(tx: Tx, run: Run) -> None:
    """An unfinished run goes on, after a restart or a failure."""
    tx.db.execute(
        "UPDATE sync_run SET state = 'running', error = NULL WHERE run_id = ?", (run.run_id,)
    )
    payload = {"run_id": run.run_id, "kind": run.kind, "resumed": True}
    tx.emit("sync", "run.started", run.hub, payload)


def finish_run(
    tx: Tx,
    run: Run,
    *,
    pass_pages: tuple[int, ...] = (),
    marks: Mapping[str, int | None] | None = None,
    unseen_since_ms: int | None = None,
) -> Run:
    """The run is complete. ``marks`` are where the next news begins; all models not seen since
    ``unseen_since_ms`` become suspects."""
    db = tx.db
    db.execute(
        "UPDATE sync_run SET state = 'finished', finished_ms = ?, pass_pages = ? WHERE run_id = ?",
        (tx.now_ms, msgspec.json.encode(pass_pages).decode(), run.run_id),
    )
    db.execute("DELETE FROM sync_state WHERE hub = ? AND kind = ?", (run.hub, run.kind))
    note_done(tx, run.hub, run.kind, run.started_ms)
    db.executemany(
        "REPLACE INTO sync_mark VALUES (?, ?, ?)",
        [(run.hub, view, date_ms) for view, date_ms in (marks or {}).items()],
    )
    unseen = 0
    if unseen_since_ms is not None:
        unseen = suspects.suspect_unseen(tx, run.hub, unseen_since_ms)
    found = _the_run(db, run.run_id)
    counts = {n: getattr(found, n) for n in ("pages", "seen", "new", "changed", "odd", "gaps")}
    payload = {"run_id": run.run_id, "kind": run.kind, **counts, "suspects": unseen}
    tx.emit("sync", "run.finished", run.hub, payload)
    return found


def note_done(tx: Tx, hub: str, kind: str, begun_ms: int) -> None:
    """A task came to its end; the schedule goes by it."""
    tx.db.execute("REPLACE INTO sync_done VALUES (?, ?, ?, ?)", (hub, kind, begun_ms, tx.now_ms))


def forget_unfinished(tx: Tx, hub: str, kind: str) -> None:
    """An unfinished run is not gone on with: another takes its place."""
    tx.db.execute(
        "UPDATE sync_run SET state = 'failed', error = coalesce(error, 'given up for a new run')"
        " WHERE run_id = (SELECT run_id FROM sync_state WHERE hub = ?1 AND kind = ?2)",
        (hub, kind),
    )
    tx.db.execute("DELETE FROM sync_state WHERE hub = ? AND kind = ?", (hub, kind))


def fail_run(tx: Tx, run: Run, code: str, message: str, hint: str) -> None:
    """The run can't go on for now; its state is kept and it is resumed later."""
    tx.db.execute(
        "UPDATE sync_run SET state = 'failed', error = ? WHERE run_id = ?", (message, run.run_id)
    )
    payload = {"run_id": run.run_id, "code": code, "message": message, "hint": hint}
    tx.emit("sync", "run.failed", run.hub, payload)


def resumable(db: apsw.Connection, hub: str) -> list[Resumable]:
    """The hub's unfinished runs, one of a kind."""
    rows: list[Any] = db.execute(
        "SELECT run_id, state FROM sync_state WHERE hub = ?", (hub,)
    ).fetchall()
    found = [(_run(db, "run_id = ?", run_id), state) for run_id, state in rows]
    return [Resumable(run, state) for run, state in found if run is not None]


def last_run(db: apsw.Connection, hub: str) -> Run | None:
    """The hub's newest run of those that people start."""
    return _run(db, "hub = ? AND kind IN ('full', 'news') ORDER BY run_id DESC LIMIT 1", hub)


def last_finished(db: apsw.Connection, hub: str, kind: str) -> Run | None:
    """The hub's newest run of this kind that reached its end."""
    where = "hub = ? AND kind = ? AND state = 'finished' ORDER BY run_id DESC LIMIT 1"
    return _run(db, where, hub, kind)


class Done(msgspec.Struct, frozen=True):
    """When a task was last begun, and came to its end."""

    begun_ms: int
    done_ms: int


def last_done(db: apsw.Connection, hub: str) -> dict[str, Done]:
    """By task, when each was last done."""
    rows: list[Any] = db.execute(
        "SELECT kind, begun_ms, done_ms FROM sync_done WHERE hub = ?", (hub,)
    ).fetchall()
    return {kind: Done(begun_ms, done_ms) for kind, begun_ms, done_ms in rows}


def known_marks(db: apsw.Connection, hub: str) -> dict[str, int | None]:
    """The views that were read whole once, and where the news of each begins."""
    rows: list[Any] = db.execute(
        "SELECT view, date_ms FROM sync_mark WHERE hub = ?", (hub,)
    ).fetchall()
    return dict(rows)


class Coverage(msgspec.Struct, frozen=True):
    """How true the mirror of a hub is."""

    models: int = 0
    gone: int = 0
    suspects: int = 0
    oldest_seen_ms: int | None = None
    details: int = 0


def coverage(db: apsw.Connection, hub: str, *, details: bool) -> Coverage:
    """Counts by indexes alone, but for a look at each model that lists do not show."""
    hidden = (
        "SELECT count(*) FROM sync_suspect s JOIN model m USING (model_key) WHERE s.hub = ? AND "
    )
    return Coverage(
        models=_number(db, "SELECT count(*) FROM model WHERE hub = ?", hub) or 0,
        gone=_number(db, hidden + "m.hub_state = 'gone'", hub) or 0,
        suspects=_number(
            db,
            hidden + "m.hub_state <> 'gone' AND (absences > 0 OR next_look_ms <= since_ms)",
            hub,
        )
        or 0,
        oldest_seen_ms=_number(
            db,
            "SELECT seen_ms FROM model WHERE hub = ? AND hub_state <> 'gone'"
            " ORDER BY seen_ms LIMIT 1",
            hub,
        ),
        details=(
            details and _number(db, "SELECT count(*) FROM version WHERE files_revision IS NOT NULL")
        )
        or 0,
    )


def mend_times(tx: Tx, hub: str) -> None:
    """Take back what was dated while the clock was wrong: it would keep a model from its turn."""
    far_ms = tx.now_ms + _FUTURE_MS
    tx.db.execute(
        "UPDATE model SET seen_ms = ? WHERE hub = ? AND seen_ms > ?", (tx.now_ms, hub, far_ms)
    )
    tx.db.execute(
        "UPDATE sync_suspect SET next_look_ms = ?1, looked_ms = NULL WHERE hub = ?2"
        " AND (since_ms > ?3 OR looked_ms > ?3)",
        (tx.now_ms, hub, far_ms),
    )


def _number(db: apsw.Connection, sql: str, *values: str) -> int | None:
    found: Any = db.execute(sql, values).fetchone()
    return None if found is None or found[0] is None else int(found[0])


def _the_run(db: apsw.Connection, run_id: int) -> Run:
    found = _run(db, "run_id = ?", run_id)
    assert found is not None
    return found


def _run(db: apsw.Connection, where: str, *values: str | int) -> Run | None:
    row: Any = db.execute(f"SELECT {_COLUMNS} FROM sync_run WHERE {where}", values).fetchone()
    if row is None:
        return None
    found = dict(zip(_COLUMNS.split(", "), row, strict=True))
    pages = found["pass_pages"]
    found["pass_pages"] = msgspec.json.decode(pages, type=tuple[int, ...]) if pages else ()
    return Run(**found)

"""A crawl's life as rows: begun, resumed, finished, failed. Units of work and their queries."""

from typing import Any

import apsw
import msgspec

from modelkeepd.store import Tx
from modelkeepd.sync.units import save_state


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


def begin_run(tx: Tx, hub: str, kind: str, state: str) -> int:
    """A new run; its id. Raises nothing: one hub has one service that begins runs."""
    tx.db.execute(
        "INSERT INTO sync_run (hub, kind, state, started_ms) VALUES (?, ?, 'running', ?)",
        (hub, kind, tx.now_ms),
    )
    run_id = tx.db.last_insert_rowid()
    save_state(tx, hub, run_id, state)
    tx.emit("sync", "run.started", hub, {"run_id": run_id, "kind": kind, "resumed": False})
    return run_id


def resume_run(tx: Tx, hub: str, run_id: int) -> None:
    """An unfinished run goes on, after a restart or a failure."""
    tx.db.execute("UPDATE sync_run SET state = 'running', error = NULL WHERE run_id = ?", (run_id,))
    tx.emit("sync", "run.started", hub, {"run_id": run_id, "kind": "full", "resumed": True})


def finish_run(tx: Tx, hub: str, run_id: int, pass_pages: tuple[int, ...]) -> None:
    """The crawl is complete."""
    tx.db.execute(
        "UPDATE sync_run SET state = 'finished', finished_ms = ?, pass_pages = ? WHERE run_id = ?",
        (tx.now_ms, msgspec.json.encode(pass_pages).decode(), run_id),
    )
    tx.db.execute("DELETE FROM sync_state WHERE hub = ?", (hub,))
    run = _run(tx.db, "run_id = ?", run_id)
    assert run is not None
    counts = {name: getattr(run, name) for name in ("pages", "seen", "new", "changed", "odd")}
    tx.emit("sync", "run.finished", hub, {"run_id": run_id, **counts, "gaps": run.gaps})


def fail_run(tx: Tx, hub: str, run_id: int, code: str, message: str, hint: str) -> None:
    """The crawl can't go on for now; its state is kept and it is resumed later."""
    tx.db.execute(
        "UPDATE sync_run SET state = 'failed', error = ? WHERE run_id = ?", (message, run_id)
    )
    payload = {"run_id": run_id, "code": code, "message": message, "hint": hint}
    tx.emit("sync", "run.failed", hub, payload)


def resumable(db: apsw.Connection, hub: str) -> Resumable | None:
    """The hub's unfinished run, if there is one."""
    row: Any = db.execute("SELECT run_id, state FROM sync_state WHERE hub = ?", (hub,)).fetchone()
    if row is None:
        return None
    run = _run(db, "run_id = ?", row[0])
    return None if run is None else Resumable(run, row[1])


def last_run(db: apsw.Connection, hub: str) -> Run | None:
    """The newest run of the hub."""
    return _run(db, "hub = ? ORDER BY run_id DESC LIMIT 1", hub)


def last_finished(db: apsw.Connection, hub: str) -> Run | None:
    """The newest run of the hub that reached its end."""
    return _run(db, "hub = ? AND state = 'finished' ORDER BY run_id DESC LIMIT 1", hub)


def _run(db: apsw.Connection, where: str, value: str | int) -> Run | None:
    row: Any = db.execute(f"SELECT {_COLUMNS} FROM sync_run WHERE {where}", (value,)).fetchone()
    if row is None:
        return None
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    pages = values["pass_pages"]
    values["pass_pages"] = msgspec.json.decode(pages, type=tuple[int, ...]) if pages else ()
    return Run(**values)

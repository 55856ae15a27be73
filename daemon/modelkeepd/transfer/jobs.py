"""The job table: its units of work and its queries.

Owns every statement on ``job``. A change of state goes through ``advance``, which asks the pure
table, writes the row and the event in one transaction, and refuses when the job is no longer
where the caller believes it to be: the caller has then been overtaken by a person.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import PurePosixPath

import apsw

from modelkeepd.store import Tx
from modelkeepd.transfer.errors import TransferError
from modelkeepd.transfer.names import safe_name
from modelkeepd.transfer.states import FINAL, RUNNING, Effect, Event, State, Unreachable, step


@dataclass(frozen=True, slots=True)
class NewJob:
    """One file somebody wants."""

    hub: str
    ref: str
    remote_name: str
    root: str
    folder: str
    file_key: int | None = None
    size_bytes: int | None = None
    size_tolerance_bytes: int = 0
    sha256: bytes | None = None
    git_sha1: bytes | None = None
    revision: str | None = None
    priority: int = 0
    name: str = ""  # safe, with the folders it is to lie in; '' for that of ``remote_name``
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A row, as it is."""

    job_id: int
    batch_id: int | None
    state: State
    priority: int
    position: int
    hub: str
    ref: str
    file_key: int | None
    remote_name: str
    name: str
    root: str
    folder: str
    size_bytes: int | None
    size_tolerance_bytes: int
    sha256: bytes | None
    git_sha1: bytes | None
    revision: str | None
    in_place: bool
    part: str
    has_part: bool
    bytes_done: int
    attempts: int
    repaired: bool
    wait_for: str | None
    not_before_ms: int | None
    needed_bytes: int | None
    error_code: str | None
    error_message: str | None
    error_hint: str | None
    found_size_bytes: int | None
    found_sha256: bytes | None
    verification: str | None
    verdict: str | None
    verdict_reasons: str | None
    path: str | None
    device: int | None
    inode: int | None
    mtime_ns: int | None
    created_ms: int
    updated_ms: int
    started_ms: int | None
    finished_ms: int | None

    @property
    def own_folder(self) -> PurePosixPath:
        """Below ``root``: where the file itself goes."""
        return PurePosixPath(self.folder, PurePosixPath(self.name).parent)

    @property
    def own_name(self) -> str:
        """The wished name without folders."""
        return PurePosixPath(self.name).name

    @property
    def hash_known(self) -> bool:
        """The content is promised: what differs from it will be found out."""
        return self.sha256 is not None or self.git_sha1 is not None


_COLUMNS = tuple(column.name for column in fields(Job))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM job"
_FLAGS = frozenset(["has_part", "in_place", "repaired"])
_CHANGEABLE = frozenset(_COLUMNS) - {"job_id", "state", "created_ms", "updated_ms", "part"}


def _job(row: Sequence[object]) -> Job:
    values: dict[str, object] = dict(zip(_COLUMNS, row, strict=True))
    values["state"] = State(str(values["state"]))
    for flag in _FLAGS:
        values[flag] = bool(values[flag])
    return Job(**values)  # type: ignore[arg-type]


# Queries ---------------------------------------------------------------------------------------


def find_jobs(db: apsw.Connection, job_ids: Iterable[int]) -> list[Job]:
    """Those that exist, in the order asked."""
    found = []
    for job_id in job_ids:
        row = db.execute(f"{_SELECT} WHERE job_id = ?", (job_id,)).fetchone()
        if row is not None:
            found.append(_job(row))
    return found


def open_job_for(db: apsw.Connection, ref: str, root: str, folder: str) -> Job | None:
    """The unfinished job that already fetches this file to this place."""
    row = db.execute(
        f"{_SELECT} WHERE ref = ? AND root = ? AND folder = ?"
        " AND state NOT IN ('done', 'failed', 'canceled', 'quarantined') LIMIT 1",
        (ref, root, folder),
    ).fetchone()
    return None if row is None else _job(row)


@dataclass(frozen=True, slots=True)
class JobPage:
    jobs: list[Job]
    next_after: tuple[int, int] | None  # hand it back as ``after`` for the next page


def list_jobs(
    db: apsw.Connection,
    *,
    states: Sequence[State] = (),
    limit: int = 100,
    after: tuple[int, int] | None = None,
) -> JobPage:
    """Jobs in the order of their turn, a page at a time, by key and never by offset."""
    if states:
        # One ordered walk a state, merged: no state's backlog is read for another's page.
        walks = (
            _in_turn(db, "job_turn", "state = ?", (str(state),), limit + 1, after)
            for state in dict.fromkeys(states)
        )
        found = sorted(chain.from_iterable(walks), key=lambda job: (-job.priority, job.position))
    else:
        found = _in_turn(db, "job_order", "1", (), limit + 1, after)
    jobs = found[:limit]
    return JobPage(jobs, (jobs[-1].priority, jobs[-1].position) if len(found) > limit else None)


def _in_turn(
    db: apsw.Connection,
    index: str,
    where: str,
    bindings: tuple[object, ...],
    limit: int,
    after: tuple[int, int] | None,
) -> list[Job]:
    order = "ORDER BY priority DESC, position LIMIT ?"
    sql = f"{_SELECT} INDEXED BY {index} WHERE {where}"
    if after is None:
        rows = db.execute(f"{sql} {order}", (*bindings, limit)).fetchall()
    else:
        # The rest of this priority, then the lower ones: each a plain range of the index.
        rest = f"{sql} AND priority = ? AND position > ? {order}"
        rows = db.execute(rest, (*bindings, *after, limit)).fetchall()
        if len(rows) < limit:
            lower = f"{sql} AND priority < ? {order}"
            rows += db.execute(lower, (*bindings, after[0], limit - len(rows))).fetchall()
    return [_job(row) for row in rows]


def count_states(db: apsw.Connection) -> dict[State, int]:
    """How many jobs there are in each state that has any."""
    rows = db.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall()
    return {State(str(state)): int(str(number)) for state, number in rows}


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the service must look after."""

    for_something: list[Job]  # space or a destination; not all, the first in turn
    due_ms: int | None  # when the first of those that wait for a time is due


_SOONEST = "SELECT min(not_before_ms) FROM job INDEXED BY job_wake WHERE state = 'waiting'"


def waiting(db: apsw.Connection) -> Waiting:
    """A bounded look at the jobs that wait."""
    rows = db.execute(
        f"{_SELECT} WHERE state = 'waiting' AND not_before_ms IS NULL LIMIT 200"
    ).fetchall()
    due = db.execute(_SOONEST).get
    return Waiting([_job(row) for row in rows], None if due is None else int(str(due)))


def leftovers(db: apsw.Connection) -> list[Job]:
    """Jobs at rest whose part file an interrupted run may have left."""
    sql = f"{_SELECT} WHERE has_part = 1 AND state IN ('done', 'canceled', 'quarantined')"
    return [_job(row) for row in db.execute(sql).fetchall()]


def stale_parts(db: apsw.Connection, before_ms: int) -> list[Job]:
    """Jobs that failed before then and still hold what they had fetched."""
    sql = f"{_SELECT} WHERE has_part = 1 AND state = 'failed' AND finished_ms < ? LIMIT 1000"
    return [_job(row) for row in db.execute(sql, (before_ms,)).fetchall()]


def running_jobs(db: apsw.Connection) -> list[Job]:
    marks = ", ".join(f"'{state}'" for state in sorted(RUNNING))
    return [_job(row) for row in db.execute(f"{_SELECT} WHERE state IN ({marks})").fetchall()]


# Units -----------------------------------------------------------------------------------------


def enqueue(tx: Tx, new_jobs: Sequence[NewJob], parts: Sequence[str]) -> list[Job]:
    """Rows for the new jobs; a file already on its way to the same place keeps its job."""
    position = int(str(tx.db.execute("SELECT coalesce(max(position), 0) FROM job").get))
    batch_id: int | None = None
    jobs: list[Job] = []
    for new, part in zip(new_jobs, parts, strict=True):
        job = open_job_for(tx.db, new.ref, new.root, new.folder)
        if job is None:
            position += 1
            job = _insert(tx, new, part, position, batch_id)
        batch_id = batch_id or job.job_id
        jobs.append(job)
    return jobs


def _insert(tx: Tx, new: NewJob, part: str, position: int, batch_id: int | None) -> Job:
    row = tx.db.execute(
        "INSERT INTO job (batch_id, state, priority, position, hub, ref, file_key, remote_name,"
        " name, root, folder, size_bytes, size_tolerance_bytes, sha256, git_sha1, revision,"
        " in_place, part, created_ms, updated_ms)"
        " VALUES (?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        f" RETURNING {', '.join(_COLUMNS)}",
        (
            batch_id,
            new.priority,
            position,
            new.hub,
            new.ref,
            new.file_key,
            new.remote_name,
            new.name or safe_name(new.remote_name),
            new.root,
            new.folder,
            new.size_bytes,
            new.size_tolerance_bytes,
            new.sha256,
            new.git_sha1,
            new.revision,
            int(new.in_place),
            part,
            tx.now_ms,
            tx.now_ms,
        ),
    ).fetchone()
    assert row is not None
    job = _job(row)
    _emit(tx, job, "job.queued")
    return job


def claim(tx: Tx, resting_hubs: Sequence[str]) -> Job | None:
    """The next job in turn whose hub is not resting, now ``resolving``."""
    marks = ", ".join("?" * len(resting_hubs))
    row = tx.db.execute(
        f"SELECT job_id FROM job INDEXED BY job_turn WHERE state = 'queued'"
        f"{f' AND hub NOT IN ({marks})' if marks else ''}"
        " ORDER BY priority DESC, position LIMIT 1",
        tuple(resting_hubs),
    ).fetchone()
    if row is None:
        return None
    return advance(tx, int(str(row[0])), Event.START, {"started_ms": tx.now_ms})[0]


def advance(
    tx: Tx,
    job_id: int,
    event: Event,
    changes: Mapping[str, object] | None = None,
    *,
    expected: State | None = None,
) -> tuple[Job, tuple[Effect, ...]]:
    """Take the job one step on the table, with ``changes`` to its row; emits the event.

    Raises Unreachable when the table has no such step or the job is not in ``expected``.
    """
    row = tx.db.execute(f"{_SELECT} WHERE job_id = ?", (job_id,)).fetchone()
    if row is None:
        raise Unreachable(f"there is no job {job_id}")
    job = _job(row)
    if expected is not None and job.state is not expected:
        raise Unreachable(f"job {job_id} is {job.state} meanwhile, no longer {expected}")
    following, effects = step(job.state, event)
    values = dict(changes or {})
    if following in FINAL:
        values["finished_ms"] = tx.now_ms
    if following is State.QUEUED:
        values |= {"wait_for": None, "not_before_ms": None, "needed_bytes": None}
        values["finished_ms"] = None
    job = _update(tx, job_id, values, following)
    if following is not State(str(row[_COLUMNS.index("state")])):
        _emit(tx, job, _KINDS.get(following, "job.state"))
    return job, effects


_KINDS = {State.DONE: "job.done", State.FAILED: "job.failed"}


def _update(tx: Tx, job_id: int, values: Mapping[str, object], state: State) -> Job:
    unknown = set(values) - _CHANGEABLE
    if unknown:
        raise ValueError(f"no such columns to change: {unknown}")
    assignments = "".join(f", {name} = ?" for name in values)
    bindings = [int(v) if isinstance(v, bool) else v for v in values.values()]
    row = tx.db.execute(
        f"UPDATE job SET state = ?, updated_ms = ?{assignments} WHERE job_id = ?"
        f" RETURNING {', '.join(_COLUMNS)}",
        (str(state), tx.now_ms, *bindings, job_id),
    ).fetchone()
    assert row is not None
    return _job(row)


def note(tx: Tx, job_id: int, changes: Mapping[str, object]) -> None:
    """Facts about a job that are no change of state and no event."""
    row = tx.db.execute("SELECT state FROM job WHERE job_id = ?", (job_id,)).fetchone()
    if row is not None:
        _update(tx, job_id, changes, State(str(row[0])))


def error_columns(error: TransferError) -> dict[str, object]:
    """The error as the row keeps it."""
    return {
        "error_code": error.error_code,
        "error_message": error.message,
        "error_hint": error.hint,
    }


NO_ERROR: dict[str, object] = {"error_code": None, "error_message": None, "error_hint": None}


@dataclass(frozen=True, slots=True)
class Commanded:
    """What a person's command did to one job."""

    job: Job
    changed: bool
    effects: tuple[Effect, ...]


def command(tx: Tx, job_ids: Sequence[int], event: Event) -> list[Commanded]:
    """Pause, resume, cancel or retry many jobs; one that knows no such step stays as it is."""
    outcomes = []
    changes: dict[str, object] = {}
    if event in (Event.RETRY, Event.RESUME):
        changes = {"attempts": 0, "repaired": 0, **NO_ERROR}
    for job in find_jobs(tx.db, job_ids):
        try:
            moved, effects = advance(tx, job.job_id, event, changes)
        except Unreachable:
            outcomes.append(Commanded(job, False, ()))
        else:
            outcomes.append(Commanded(moved, moved.state is not job.state, effects))
    return outcomes


def move(tx: Tx, job_ids: Sequence[int], *, priority: int | None, to_front: bool) -> list[Job]:
    """Another priority, or the front of the queue, in the order given."""
    jobs = find_jobs(tx.db, job_ids)
    first = int(str(tx.db.execute("SELECT coalesce(min(position), 0) FROM job").get))
    moved = []
    for number, job in enumerate(jobs):
        changes: dict[str, object] = {}
        if priority is not None:
            changes["priority"] = priority
        if to_front:
            changes["position"] = first - len(jobs) + number
        moved.append(_update(tx, job.job_id, changes, job.state))
    return moved


def wake_due(tx: Tx, far_ms: int) -> tuple[int, int]:
    """Wake jobs whose time has come; how many, and the time it is.

    One that waits implausibly long was put there by a clock jump and is woken too.
    """
    rows = tx.db.execute(
        "SELECT job_id FROM job INDEXED BY job_wake WHERE state = 'waiting'"
        " AND (not_before_ms <= ? OR not_before_ms > ?)",
        (tx.now_ms, tx.now_ms + far_ms),
    ).fetchall()
    for row in rows:
        advance(tx, int(str(row[0])), Event.WAKE)
    return len(rows), tx.now_ms


def wake(tx: Tx, job_ids: Sequence[int]) -> None:
    """The condition these waited for has come."""
    for job in find_jobs(tx.db, job_ids):
        if job.state is State.WAITING:
            advance(tx, job.job_id, Event.WAKE)


def restart(tx: Tx, job_ids: Sequence[int]) -> None:
    """At the daemon's start: running states fall back to the last safe one."""
    for job in find_jobs(tx.db, job_ids):
        advance(tx, job.job_id, Event.RESTART)


def _emit(tx: Tx, job: Job, kind: str) -> None:
    payload: dict[str, object] = {
        "job_id": job.job_id,
        "ref": job.ref,
        "name": job.name,
        "state": str(job.state),
    }
    if job.path is not None:
        payload["path"] = job.path
    if job.wait_for is not None:
        payload["wait_for"] = job.wait_for
    if job.verdict is not None:
        payload["verdict"] = job.verdict
    if job.error_code is not None:
        payload["error"] = {
            "code": job.error_code,
            "message": job.error_message,
            "hint": job.error_hint,
        }
    tx.emit("transfer", kind, f"job:{job.job_id}", payload)


def reasons_text(reasons: Sequence[Mapping[str, object]]) -> str:
    """A verdict's reasons as the row keeps them, bounded."""
    return json.dumps(list(reasons)[:20], ensure_ascii=False)

"""The SQL of API changes: shapes by version, changes, pauses, and the hubs' lists of values.

Units of work are functions of a Tx; each event is written with what it tells of.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apsw
import msgspec

from modelkeepd.api_changes import shape as shapes
from modelkeepd.api_changes.compare import Change, worst
from modelkeepd.api_changes.lists import KINDS, KnownModel
from modelkeepd.api_changes.shape import Shape
from modelkeepd.kinds.seen import SeenKind
from modelkeepd.store import Tx

KEEP_VERSIONS = 200  # of one endpoint
KEEP_CHANGES = 20_000
EVENT_CHANGES = 10
_LOOK_ROUND, _LAST = 2_000, 2**62


class ApiChange(msgspec.Struct, frozen=True):
    """A change as it is kept."""

    change_id: int
    hub: str
    operation: str
    version: int
    kind: str
    severity: str
    path: str
    before: str
    after: str
    example: str
    suggestion: str
    at_ms: int
    accepted_ms: int | None
    place: tuple[str, ...]


class Pause(msgspec.Struct, frozen=True):
    """An endpoint that is not asked, and why."""

    hub: str
    operation: str
    reason: str
    paused_ms: int


class KeptShape(msgspec.Struct, frozen=True):
    """The newest version of an endpoint's shape; None where its bytes are damaged."""

    hub: str
    operation: str
    version: int
    shape: Shape | None
    first_ms: int
    last_ms: int


class ShapeWrite(msgspec.Struct, frozen=True):
    """A version to be kept: new, or one that has learnt more."""

    hub: str
    operation: str
    version: int
    blob: bytes
    documents: int
    answers: int


_CHANGE_COLUMNS = (
    "change_id, hub, operation, version, kind, severity, path, before, after, example, suggestion,"
    " at_ms, accepted_ms, place"
)


def write_of(hub: str, operation: str, version: int, shape: Shape) -> ShapeWrite:
    """A shape made ready to be kept; compresses, so it is for a thread."""
    blob = shapes.encode(shape)
    return ShapeWrite(hub, operation, version, blob, shape.documents, shape.answers)


def newest_shapes(db: apsw.Connection) -> list[KeptShape]:
    """Every endpoint's newest version."""
    rows: list[Any] = db.execute(
        "SELECT hub, operation, version, shape, first_ms, last_ms FROM api_shape AS s"
        " WHERE version = (SELECT max(version) FROM api_shape"
        " WHERE hub = s.hub AND operation = s.operation)"
    ).fetchall()
    return [KeptShape(row[0], row[1], row[2], _decoded(row[3]), row[4], row[5]) for row in rows]


def shape_at(db: apsw.Connection, hub: str, operation: str, version: int) -> Shape | None:
    """One version of an endpoint's shape."""
    row = db.execute(
        "SELECT shape FROM api_shape WHERE hub = ? AND operation = ? AND version = ?",
        (hub, operation, version),
    ).fetchone()
    return None if row is None else _decoded(row[0])


def _decoded(blob: Any) -> Shape | None:
    try:
        return shapes.decode(blob)
    except ValueError:
        return None


def keep_shapes(tx: Tx, writes: Sequence[ShapeWrite]) -> None:
    """Keep what these endpoints have learnt."""
    for write in writes:
        _keep_shape(tx, write)


def _keep_shape(tx: Tx, write: ShapeWrite) -> None:
    tx.db.execute(
        "INSERT INTO api_shape VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (hub, operation, version) DO UPDATE SET shape = excluded.shape,"
        " documents = excluded.documents, answers = excluded.answers, last_ms = excluded.last_ms",
        (write.hub, write.operation, write.version, write.blob, write.documents, write.answers,
         tx.now_ms, tx.now_ms),
    )  # fmt: skip
    tx.db.execute(
        "DELETE FROM api_shape WHERE hub = ? AND operation = ? AND version <= ?",
        (write.hub, write.operation, write.version - KEEP_VERSIONS),
    )


def record(
    tx: Tx,
    hub: str,
    operation: str,
    version: int,
    changes: Sequence[Change],
    writes: Sequence[ShapeWrite] = (),
    pause: str | None = None,
) -> list[int]:
    """Keep changes with the shapes they led from and to, and tell of them in one event.

    ``pause`` is the reason for which the endpoint is not asked from now on.
    """
    for write in writes:
        _keep_shape(tx, write)
    ids = []
    for change in changes:
        tx.db.execute(
            "INSERT INTO api_change (hub, operation, version, kind, severity, path, place, before,"
            " after, example, suggestion, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (hub, operation, version, change.kind, change.severity, change.path,
             json.dumps(change.place), change.before, change.after, change.example,
             change.suggestion, tx.now_ms),
        )  # fmt: skip
        ids.append(tx.db.last_insert_rowid())
    if ids:
        tx.db.execute("DELETE FROM api_change WHERE change_id <= ?", (ids[-1] - KEEP_CHANGES,))
    subject = f"{hub}:{operation}"
    told = [
        {"change_id": key, "kind": c.kind, "severity": c.severity, "path": c.path}
        for key, c in list(zip(ids, changes, strict=True))[:EVENT_CHANGES]
    ]
    payload: dict[str, object] = {
        "hub": hub, "operation": operation, "version": version, "severity": worst(changes),
        "count": len(ids), "changes": told,
    }  # fmt: skip
    tx.emit("sync", "api.changed", subject, payload)
    if pause is not None:
        tx.db.execute(
            "INSERT OR IGNORE INTO api_pause VALUES (?, ?, ?, ?)",
            (hub, operation, pause, tx.now_ms),
        )
        payload = {"hub": hub, "operation": operation, "reason": pause, "change_id": ids[0]}
        tx.emit("sync", "api.paused", subject, payload)
    return ids


def pauses(db: apsw.Connection) -> list[Pause]:
    """The endpoints that are not asked."""
    rows: list[Any] = db.execute(
        "SELECT hub, operation, reason, paused_ms FROM api_pause ORDER BY hub, operation"
    ).fetchall()
    return [Pause(*row) for row in rows]


def end_pause(tx: Tx, hub: str, operation: str, by: str, writes: Sequence[ShapeWrite] = ()) -> bool:
    """Ask this endpoint again; False when it was not paused. ``by`` is "probe" or "person"."""
    tx.db.execute("DELETE FROM api_pause WHERE hub = ? AND operation = ?", (hub, operation))
    was_paused = tx.db.changes() > 0
    for write in writes:
        _keep_shape(tx, write)
    if was_paused:
        payload = {"hub": hub, "operation": operation, "by": by}
        tx.emit("sync", "api.resumed", f"{hub}:{operation}", payload)
    return was_paused


def accept(tx: Tx, change_id: int) -> None:
    """A person has seen this change and takes it for good."""
    tx.db.execute(
        "UPDATE api_change SET accepted_ms = ? WHERE change_id = ? AND accepted_ms IS NULL",
        (tx.now_ms, change_id),
    )


def change(db: apsw.Connection, change_id: int) -> ApiChange | None:
    """One change."""
    rows: list[Any] = db.execute(
        f"SELECT {_CHANGE_COLUMNS} FROM api_change WHERE change_id = ?", (change_id,)
    ).fetchall()
    return _change(rows[0]) if rows else None


def history(
    db: apsw.Connection,
    hub: str | None,
    severity: str | None,
    limit: int,
    after: int | None,
) -> tuple[list[ApiChange], int]:
    """Changes, the newest first, and how many there are in all.

    ``after`` is the change_id that the page before ended with.
    """
    where = "(?1 IS NULL OR hub = ?1) AND (?2 IS NULL OR severity = ?2)"
    rows: list[Any] = db.execute(
        f"SELECT {_CHANGE_COLUMNS} FROM api_change WHERE {where} AND change_id < ?3"
        " ORDER BY change_id DESC LIMIT ?4",
        (hub, severity, 2**62 if after is None else after, limit),
    ).fetchall()
    total: Any = db.execute(
        f"SELECT count(*) FROM api_change WHERE {where}", (hub, severity)
    ).fetchone()
    return [_change(row) for row in rows], total[0]


def _change(row: Sequence[Any]) -> ApiChange:
    columns = [*row[:-1], tuple(json.loads(row[-1]))]
    return ApiChange(*columns)


def asked_lists(db: apsw.Connection) -> dict[tuple[str, str], int]:
    """When each list was last asked for: (hub, source) -> ms."""
    rows: list[Any] = db.execute("SELECT hub, source, asked_ms FROM api_list").fetchall()
    return {(hub, source): asked_ms for hub, source, asked_ms in rows}


def known_values(db: apsw.Connection, hub: str) -> dict[str, set[str]]:
    """Every value that a hub's lists have held, by list."""
    rows: list[Any] = db.execute(
        "SELECT list, value FROM api_value WHERE hub = ?", (hub,)
    ).fetchall()
    found: dict[str, set[str]] = {}
    for name, value in rows:
        found.setdefault(name, set()).add(value)
    return found


# takes a value of a hub's own list of kinds into ours: (tx, kind, word, hub)
Adopt = Callable[[Tx, SeenKind, str, str], object]


def add_values(
    tx: Tx,
    hub: str,
    source: str,
    lists: Mapping[str, Sequence[str]],
    changes: Sequence[Change],
    adopt: Adopt,
) -> None:
    """Keep what a list holds, with the changes that it made; kinds among it are adopted."""
    tx.db.execute(
        "INSERT INTO api_list VALUES (?, ?, ?) ON CONFLICT (hub, source) DO UPDATE SET"
        " asked_ms = excluded.asked_ms",
        (hub, source, tx.now_ms),
    )
    tx.db.executemany(
        "INSERT OR IGNORE INTO api_value VALUES (?, ?, ?, ?)",
        [(hub, name, value, tx.now_ms) for name, values in lists.items() for value in values],
    )
    for name, values in lists.items():
        if name in KINDS:
            for value in values:
                adopt(tx, KINDS[name], value, hub)
    if changes:
        record(tx, hub, source, 0, changes)


def newest_key(db: apsw.Connection) -> int:
    """The highest key of a model; 0 without any."""
    found: Any = db.execute("SELECT max(model_key) FROM model").fetchone()
    return found[0] or 0


def a_model(db: apsw.Connection, hub: str, near: int = 0) -> KnownModel | None:
    """A model that lists show, the first from the key ``near`` on; one with files if possible."""
    places = ((near, near + _LOOK_ROUND, True), (near, _LAST, False), (0, _LAST, False))
    for first, end, with_files in places:
        rows: list[Any] = db.execute(
            "SELECT hub_id, ref_id, (SELECT v.hub_id FROM version v"
            "  WHERE v.model_key = m.model_key AND v.gone_ms IS NULL ORDER BY v.position LIMIT 1)"
            "  AS version_id FROM model m WHERE hub = ? AND hub_state = 'listed'"
            " AND version_id IS NOT NULL AND model_key >= ? AND model_key < ?"
            " AND (size_bytes IS NOT NULL OR NOT ?) ORDER BY model_key LIMIT 1",
            (hub, first, end, with_files),
        ).fetchall()
        if rows:
            return KnownModel(*rows[0])
    return None

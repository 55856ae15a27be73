"""What a look at the disk can find, and the unit that commits it.

Owns the kinds of difference and how a batch of them is applied: moves first, all names vacated
before any is taken, so that files can swap names; a difference whose row is no longer as it was
seen is dropped, since the next look will see the truth. Touches no disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw

from modelkeepd.library.fingerprint import Stamp
from modelkeepd.library.ownership import refresh_owned
from modelkeepd.library.paths import signed
from modelkeepd.library.records import (
    columns,
    is_expected,
    marks,
    models_of,
    name_of,
    present_row,
    unexpect,
)
from modelkeepd.store import Tx


@dataclass(frozen=True, slots=True)
class Added:
    root_id: int
    path: str
    stamp: Stamp
    fingerprint: bytes
    same_as: int | None = None
    """Another name (hard link) of this row's content: nothing needs to be hashed."""


@dataclass(frozen=True, slots=True)
class Moved:
    file_id: int
    source: str
    root_id: int
    path: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Changed:
    """The content at a known path is another one now."""

    file_id: int
    path: str
    before: Stamp
    stamp: Stamp
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Touched:
    """Same content as far as head, tail and size tell; `rehash`: the middle may differ."""

    file_id: int
    path: str
    before: Stamp
    stamp: Stamp
    rehash: bool


@dataclass(frozen=True, slots=True)
class Gone:
    file_id: int
    path: str


Difference = Added | Moved | Changed | Touched | Gone


@dataclass(slots=True)
class Counts:
    """What a batch or a walk found. `skipped` counts, by reason, what was passed over."""

    seen: int = 0
    new: int = 0
    changed: int = 0
    moved: int = 0
    gone: int = 0
    skipped: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Counts") -> None:
        self.seen += other.seen
        self.new += other.new
        self.changed += other.changed
        self.moved += other.moved
        self.gone += other.gone
        for reason, count in other.skipped.items():
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def as_payload(self) -> dict[str, object]:
        return {
            "seen": self.seen,
            "new": self.new,
            "changed": self.changed,
            "moved": self.moved,
            "gone": self.gone,
            "skipped": dict(self.skipped),
        }


def apply_differences(tx: Tx, differences: Sequence[Difference]) -> Counts:
    """Commit what a look at the disk found. A difference whose row has moved on since is dropped:
    the next look will see the truth."""
    counts = Counts()
    moves = [each for each in differences if isinstance(each, Moved)]
    _move(tx, moves, counts)
    for each in differences:
        match each:
            case Added():
                counts.new += _add(tx, each)
            case Changed():
                counts.changed += _change(tx, each)
            case Touched():
                counts.changed += _touch(tx, each)
            case Gone():
                counts.gone += _lose(tx, each.file_id, each.path)
            case Moved():
                pass
    return counts


def _move(tx: Tx, moves: Sequence[Moved], counts: Counts) -> None:
    # Vacate first, so that names can be swapped: the paths of present rows are unique.
    standing: list[tuple[Moved, tuple[object, ...]]] = []
    for each in moves:
        row = tx.db.execute(
            "UPDATE library_file SET state = 'missing' WHERE file_id = ? AND path = ?"
            " RETURNING missing_ms, sha256, model_key",
            (each.file_id, each.source),
        ).fetchone()
        if row is not None:
            standing.append((each, row))
    for each, (missing_ms, sha256, model_key) in standing:
        displaced_rows: list[Any] = tx.db.execute(
            "SELECT file_id FROM library_file WHERE path = ? AND state = 'present'", (each.path,)
        ).fetchall()
        for (displaced,) in displaced_rows:
            counts.gone += _lose(tx, displaced, each.path)
        tx.db.execute(
            "UPDATE library_file SET state = 'present', missing_ms = NULL, root_id = ?, path = ?,"
            " size_bytes = ?, mtime_ns = ?, inode = ?, device = ?, changed_ms = ?"
            " WHERE file_id = ?",
            (each.root_id, each.path, *columns(each.stamp), tx.now_ms, each.file_id),
        )
        unexpect(tx, each.path)
        counts.moved += 1
        payload: dict[str, object] = {"from": each.source, **name_of(tx.db, each.file_id)}
        if each.source == each.path:
            seq = tx.emit("library", "file.added", each.path, {"returned": True, **payload})
        else:
            seq = tx.emit("library", "file.moved", each.path, payload)
        if missing_ms is not None:
            refresh_owned(tx, models_of(tx.db, sha256, model_key), seq)


def _add(tx: Tx, each: Added) -> int:
    if is_expected(tx, each.path) or present_row(tx.db, each.path) is not None:
        return 0
    same: tuple[object, ...] = (None, None, None, None, None)
    if each.same_as is not None:
        same = (
            tx.db.execute(
                "SELECT sha256, file_key, model_key, verdict, known_by FROM library_file"
                " WHERE file_id = ?",
                (each.same_as,),
            ).fetchone()
            or same
        )
    row = (each.root_id, each.path, *columns(each.stamp), each.fingerprint, *same)
    tx.db.execute(
        "INSERT INTO library_file (root_id, path, size_bytes, mtime_ns, inode, device,"
        " fingerprint, sha256, file_key, model_key, verdict, known_by,"
        f" state, first_seen_ms, changed_ms) VALUES ({marks(row)}, 'present', ?, ?)",
        (*row, tx.now_ms, tx.now_ms),
    )
    name = name_of(tx.db, tx.db.last_insert_rowid())
    tx.emit("library", "file.added", each.path, {"size_bytes": each.stamp.size_bytes, **name})
    return 1


def _change(tx: Tx, each: Changed) -> int:
    row = _as_seen(tx.db, each.file_id, each.path, each.before)
    if row is None or is_expected(tx, each.path):
        return 0
    sha256, model_key = row
    tx.db.execute(
        "UPDATE library_file SET size_bytes = ?, mtime_ns = ?, inode = ?, device = ?,"
        " fingerprint = ?, sha256 = NULL, sha256_before = NULL, file_key = NULL,"
        " model_key = NULL, verdict = NULL, known_by = NULL, trouble = NULL, retry_ms = NULL,"
        " changed_ms = ? WHERE file_id = ?",
        (*columns(each.stamp), each.fingerprint, tx.now_ms, each.file_id),
    )
    seq = tx.emit("library", "file.changed", each.path, {"size_bytes": each.stamp.size_bytes})
    refresh_owned(tx, models_of(tx.db, sha256, model_key), seq)
    return 1


def _touch(tx: Tx, each: Touched) -> int:
    row = _as_seen(tx.db, each.file_id, each.path, each.before)
    if row is None or is_expected(tx, each.path):
        return 0
    tx.db.execute(
        "UPDATE library_file SET size_bytes = ?, mtime_ns = ?, inode = ?, device = ?"
        " WHERE file_id = ?",
        (*columns(each.stamp), each.file_id),
    )
    if each.rehash:
        # The catalog's name stays until the hash has spoken; the hash itself is no longer known.
        tx.db.execute(
            "UPDATE library_file SET sha256_before = coalesce(sha256, sha256_before),"
            " sha256 = NULL, retry_ms = NULL WHERE file_id = ?",
            (each.file_id,),
        )
    return 0


def _lose(tx: Tx, file_id: int, path: str) -> int:
    row = tx.db.execute(
        "UPDATE library_file SET state = 'missing', missing_ms = ?, changed_ms = ?"
        " WHERE file_id = ? AND path = ? AND state = 'present' RETURNING sha256, model_key",
        (tx.now_ms, tx.now_ms, file_id, path),
    ).fetchone()
    if row is None:
        return 0
    seq = tx.emit("library", "file.gone", path, name_of(tx.db, file_id))
    refresh_owned(tx, models_of(tx.db, *row), seq)
    return 1


def _as_seen(
    db: apsw.Connection, file_id: int, path: str, before: Stamp
) -> tuple[bytes | None, int | None] | None:
    row: tuple[bytes | None, int | None] | None = db.execute(
        "SELECT coalesce(sha256, sha256_before), model_key FROM library_file WHERE file_id = ?"
        " AND path = ? AND state = 'present' AND size_bytes = ? AND mtime_ns = ? AND inode = ?",
        (file_id, path, before.size_bytes, before.mtime_ns, signed(before.inode)),
    ).fetchone()
    return row

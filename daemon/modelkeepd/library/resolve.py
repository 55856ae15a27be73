"""Turns raw sightings into differences: what is new, what only moved, what changed, what is gone.

Owns the rules of identity. Pure but for one question about other paths, which is handed in as a
function. A file is the same one when inode, size, time and fingerprint agree, wherever it lies
now; across file systems when size, time and fingerprint agree and the old place no longer has it.
Only a file that is none of the known ones costs a hash.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import apsw

from modelkeepd.library.differences import Added, Changed, Difference, Moved, Touched
from modelkeepd.library.fingerprint import Stamp
from modelkeepd.library.paths import signed


@dataclass(frozen=True, slots=True)
class Known:
    """A row of the library that may be what was seen."""

    file_id: int
    root_id: int | None
    path: str
    stamp: Stamp
    fingerprint: bytes | None
    present: bool
    hashed: bool


@dataclass(frozen=True, slots=True)
class Sighting:
    """A settled regular file on disk; `row` is the present row of the same path."""

    root_id: int
    path: str
    stamp: Stamp
    fingerprint: bytes
    row: Known | None


@dataclass(frozen=True, slots=True)
class Place:
    """What lies at a path now: its stamp, and how many names the file has."""

    stamp: Stamp
    links: int


_COLUMNS = (
    "file_id, root_id, path, size_bytes, mtime_ns, inode, device, fingerprint,"
    " state = 'present', sha256 IS NOT NULL"
)


_BY_INODE = f"SELECT {_COLUMNS} FROM library_file WHERE inode = ? AND size_bytes = ? LIMIT 20"
_BY_CONTENT = f"SELECT {_COLUMNS} FROM library_file WHERE fingerprint = ? AND state = ? LIMIT 20"


def _known(row: tuple[object, ...]) -> Known:
    file_id, root_id, path, size, mtime, inode, device, fingerprint, present, hashed = row
    return Known(
        *(int(str(file_id)), None if root_id is None else int(str(root_id)), str(path)),
        Stamp(int(str(size)), int(str(mtime)), int(str(inode)), int(str(device))),
        fingerprint if isinstance(fingerprint, bytes) else None,
        *(bool(present), bool(hashed)),
    )


def read_at_paths(db: apsw.Connection, paths: Iterable[str]) -> dict[str, Known]:
    """The present rows of these paths."""
    sql = f"SELECT {_COLUMNS} FROM library_file WHERE path = ? AND state = 'present'"
    rows = (db.execute(sql, (path,)).fetchone() for path in paths)
    return {known.path: known for known in (_known(row) for row in rows if row is not None)}


def read_candidates(db: apsw.Connection, stamps: Iterable[tuple[Stamp, bytes]]) -> dict[int, Known]:
    """Rows, present or missing, whose inode or fingerprint is one of those seen.

    Of a content that lies in many places only some are returned: a file that then is not recognized
    costs a hash, nothing else.
    """
    found: dict[int, Known] = {}
    asked: set[bytes] = set()
    for stamp, fingerprint in stamps:
        rows = db.execute(_BY_INODE, (signed(stamp.inode), stamp.size_bytes)).fetchall()
        if fingerprint not in asked:
            asked.add(fingerprint)
            for state in ("missing", "present"):
                rows += db.execute(_BY_CONTENT, (fingerprint, state)).fetchall()
        for row in rows:
            known = _known(row)
            found[known.file_id] = known
    return found


def resolve(
    sightings: Sequence[Sighting],
    candidates: Mapping[int, Known],
    look: Callable[[str], Place | None],
) -> list[Difference]:
    """Decide for each sighting. `look(path)` tells what lies at another path, or None."""
    by_inode: dict[tuple[int, int], list[Known]] = {}
    by_content: dict[bytes, list[Known]] = {}
    for known in candidates.values():
        by_inode.setdefault((known.stamp.inode, known.stamp.size_bytes), []).append(known)
        if known.fingerprint is not None:
            by_content.setdefault(known.fingerprint, []).append(known)
    claimed: set[int] = set()
    differences: list[Difference] = []
    for seen in sightings:
        inode = signed(seen.stamp.inode)
        same_inode = by_inode.get((inode, seen.stamp.size_bytes), [])
        same_content = by_content.get(seen.fingerprint, [])
        difference = _decide(seen, same_inode, same_content, claimed, look)
        if isinstance(difference, Moved):
            claimed.add(difference.file_id)
        if difference is not None:
            differences.append(difference)
    return differences


def _decide(
    seen: Sighting,
    same_inode: Sequence[Known],
    same_content: Sequence[Known],
    claimed: set[int],
    look: Callable[[str], Place | None],
) -> Difference | None:
    row = seen.row
    stamp = Stamp(
        seen.stamp.size_bytes,
        seen.stamp.mtime_ns,
        signed(seen.stamp.inode),
        signed(seen.stamp.device),
    )
    if row is not None and _same_file(row, stamp, seen.fingerprint):
        # Only the device number differs, or the row lacks its fingerprint.
        return None if row.stamp == stamp else _touched(row, seen, rehash=False)
    link: Known | None = None
    for known in same_inode:
        if known.file_id in claimed or (row is not None and known.file_id == row.file_id):
            continue
        if not _same_file(known, stamp, seen.fingerprint):
            continue
        place = look(known.path) if known.present and known.path != seen.path else None
        if place is not None and place.stamp == seen.stamp and place.links > 1:
            link = known if link is None or known.hashed else link
            continue
        # One name only: the other path is gone, or another spelling of this one.
        return _moved(known, seen)
    if row is not None and row.fingerprint == seen.fingerprint:
        return _touched(row, seen, rehash=row.stamp.mtime_ns != stamp.mtime_ns)
    if row is None and link is not None:
        return Added(seen.root_id, seen.path, seen.stamp, seen.fingerprint, link.file_id)
    returned = _moved_across(seen, same_content, claimed, look)
    if returned is not None:
        return _moved(returned, seen)
    if row is not None:
        return Changed(row.file_id, row.path, row.stamp, seen.stamp, seen.fingerprint)
    return Added(seen.root_id, seen.path, seen.stamp, seen.fingerprint)


def _moved_across(
    seen: Sighting,
    same_content: Sequence[Known],
    claimed: set[int],
    look: Callable[[str], Place | None],
) -> Known | None:
    """The one row whose file came here from another file system, or came back from a copy."""
    left = [
        known
        for known in same_content
        if known.file_id not in claimed
        and (seen.row is None or known.file_id != seen.row.file_id)
        and known.stamp.mtime_ns == seen.stamp.mtime_ns
        and (not known.present or _has_left(known, look))
    ]
    left.sort(key=lambda known: (known.path != seen.path, not known.hashed, known.file_id))
    return left[0] if left else None


def _has_left(known: Known, look: Callable[[str], Place | None]) -> bool:
    place = look(known.path)
    return place is None or signed(place.stamp.inode) != known.stamp.inode


def _same_file(known: Known, stamp: Stamp, fingerprint: bytes) -> bool:
    """Inode, size and time agree; the fingerprint guards against a reused inode."""
    return (
        known.stamp.inode == stamp.inode
        and known.stamp.size_bytes == stamp.size_bytes
        and known.stamp.mtime_ns == stamp.mtime_ns
        and known.fingerprint in (None, fingerprint)
    )


def _moved(known: Known, seen: Sighting) -> Moved:
    return Moved(known.file_id, known.path, seen.root_id, seen.path, seen.stamp)


def _touched(row: Known, seen: Sighting, *, rehash: bool) -> Touched:
    return Touched(row.file_id, row.path, row.stamp, seen.stamp, rehash)

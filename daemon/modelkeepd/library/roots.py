"""The watched folders: their rows, and what a look at one says about it.

Owns `library_root` and the rule that tells an absent or foreign folder from an emptied one: rows
of a root that cannot be reached are kept as they are. Units and one pure decision; no disk is
touched here.
"""

import enum
import json
from dataclasses import dataclass

import apsw

from modelkeepd.library.differences import Counts
from modelkeepd.library.ownership import models_with_content, refresh_owned
from modelkeepd.library.paths import below, inside, signed
from modelkeepd.store import Tx


@dataclass(frozen=True, slots=True)
class Root:
    root_id: int
    path: str
    layout: str
    origin: str
    online: bool
    dirty: bool
    device: int | None
    inode: int | None
    has_files: bool = False


class Sight(enum.Enum):
    """What the folder of a root turned out to be."""

    SAME = "same"
    AWAY = "away"
    FOREIGN = "foreign"
    """A folder is there, another one than before, and it holds none of the files we know."""
    REPLACED = "replaced"
    """Another folder (a remount, a restored copy) with our files in it, or we knew of none."""


def recognize(root: Root, seen: tuple[int, int] | None, holds_known_files: bool) -> Sight:
    """Judge a root by the (device, inode) its path has now, None when it is no folder at all."""
    if seen is None:
        return Sight.AWAY
    if root.inode is None or (root.device, root.inode) == seen:
        return Sight.SAME
    return Sight.REPLACED if holds_known_files or not root.has_files else Sight.FOREIGN


_SELECT = """
SELECT root_id, path, layout, origin, state = 'online', dirty, device, inode,
  EXISTS (SELECT 1 FROM library_file f WHERE f.root_id = r.root_id AND f.state = 'present')
FROM library_root r
"""


def read_roots(db: apsw.Connection) -> list[Root]:
    return [_root(row) for row in db.execute(_SELECT + " ORDER BY path")]


def find_root(db: apsw.Connection, path: str) -> Root | None:
    """The root at exactly this path."""
    for row in db.execute(_SELECT + " WHERE path = ?", (path,)):
        return _root(row)
    return None


def _root(row: tuple[object, ...]) -> Root:
    root_id, path, layout, origin, online, dirty, device, inode, files = row
    return Root(
        *(int(str(root_id)), str(path), str(layout), str(origin), bool(online), bool(dirty)),
        *(None if device is None else int(str(device)), None if inode is None else int(str(inode))),
        bool(files),
    )


def known_paths(db: apsw.Connection, root_id: int, limit: int = 50) -> list[str]:
    """Some paths that a root should hold, to recognize it by."""
    rows = db.execute(
        "SELECT path FROM library_file WHERE root_id = ? AND state = 'present' LIMIT ?",
        (root_id, limit),
    )
    return [str(path) for (path,) in rows]


def add_root(tx: Tx, path: str, layout: str, origin: str) -> int:
    """Watch a folder from now on; files of it that are known already become its own."""
    known = find_root(tx.db, path)
    if known is not None:
        tx.db.execute(
            "UPDATE library_root SET layout = ?, origin = ? WHERE root_id = ?",
            (layout, origin, known.root_id),
        )
        return known.root_id
    tx.db.execute(
        "INSERT INTO library_root (path, layout, origin, state, added_ms, state_ms)"
        " VALUES (?, ?, ?, 'offline', ?, ?)",
        (path, layout, origin, tx.now_ms, tx.now_ms),
    )
    root_id = tx.db.last_insert_rowid()
    _redistribute(tx, path)
    tx.emit("library", "root.added", path, {"layout": layout})
    return root_id


def remove_root(tx: Tx, path: str) -> bool:
    """Forget a folder and what is known of its files; the files themselves are not touched."""
    root = find_root(tx.db, path)
    if root is None:
        return False
    outer = [
        other
        for other in read_roots(tx.db)
        if other.root_id != root.root_id and inside(other.path, path)
    ]
    if outer:  # they are still in a watched folder, only under another root
        heir = max(outer, key=lambda other: len(other.path)).root_id
        tx.db.execute("UPDATE library_file SET root_id = ? WHERE root_id = ?", (heir, root.root_id))
    owned: set[int] = set()
    for sha256, model_key in tx.db.execute(
        "SELECT sha256, model_key FROM library_file WHERE root_id = ? AND state = 'present'",
        (root.root_id,),
    ).fetchall():
        owned |= models_with_content(tx.db, sha256 if isinstance(sha256, bytes) else None)
        if isinstance(model_key, int):
            owned.add(model_key)
    tx.db.execute("DELETE FROM library_file WHERE root_id = ?", (root.root_id,))
    tx.db.execute("DELETE FROM library_root WHERE root_id = ?", (root.root_id,))
    seq = tx.emit("library", "root.removed", path, {})
    refresh_owned(tx, owned, seq)
    return True


def _redistribute(tx: Tx, path: str) -> None:
    """Give the files below a new root to it, unless a root between them has them."""
    low, high = below(path)
    inner = [root for root in read_roots(tx.db) if inside(path, root.path)]
    root = find_root(tx.db, path)
    if root is None:
        return
    condition = "".join(" AND NOT (path >= ? AND path < ?)" for _ in inner)
    bounds = [bound for each in inner for bound in below(each.path)]
    tx.db.execute(
        f"UPDATE library_file SET root_id = ? WHERE path >= ? AND path < ?{condition}",
        (root.root_id, low, high, *bounds),
    )


def root_online(tx: Tx, root_id: int, device: int, inode: int) -> None:
    """The folder is there (again); anything may have happened meanwhile, so it is walked next."""
    path, state, old_device = tx.db.execute(
        "SELECT path, state, device FROM library_root WHERE root_id = ?", (root_id,)
    ).fetchone() or (None, None, None)
    if path is None:
        return
    device, inode = signed(device), signed(inode)
    tx.db.execute(
        "UPDATE library_root SET state = 'online', dirty = 1, device = ?, inode = ?, state_ms = ?"
        " WHERE root_id = ?",
        (device, inode, tx.now_ms, root_id),
    )
    if old_device is not None and old_device != device:
        # Device numbers are given anew at each mount; the files are the same.
        tx.db.execute(
            "UPDATE library_file SET device = ? WHERE root_id = ? AND device = ?",
            (device, root_id, old_device),
        )
    if state != "online":
        tx.emit("library", "root.online", str(path), {"root_id": root_id})


def root_offline(tx: Tx, root_id: int, why: str) -> None:
    row = tx.db.execute(
        "UPDATE library_root SET state = 'offline', dirty = 1, state_ms = ?"
        " WHERE root_id = ? AND state <> 'offline' RETURNING path",
        (tx.now_ms, root_id),
    ).fetchone()
    if row is not None:
        tx.emit("library", "root.offline", str(row[0]), {"root_id": root_id, "why": why})


def root_dirty(tx: Tx, root_id: int, why: str) -> None:
    """Events were lost, or may have been: the root is walked again soon."""
    row = tx.db.execute(
        "UPDATE library_root SET dirty = 1 WHERE root_id = ? RETURNING path", (root_id,)
    ).fetchone()
    if row is not None:
        tx.emit("library", "root.dirty", str(row[0]), {"root_id": root_id, "why": why})


def root_warning(tx: Tx, path: str, message: str) -> None:
    tx.emit("library", "root.warning", path, {"message": message})


def walk_finished(tx: Tx, root_id: int, counts: Counts) -> None:
    row = tx.db.execute(
        "UPDATE library_root SET walked_ms = ?, skipped = ? WHERE root_id = ? RETURNING path",
        (tx.now_ms, json.dumps(counts.skipped, sort_keys=True), root_id),
    ).fetchone()
    if row is not None:
        tx.emit("library", "scan.finished", str(row[0]), counts.as_payload())


def walk_begins(tx: Tx, root_id: int) -> None:
    """Cleared before the walk: what is marked while it goes on stays marked."""
    tx.db.execute("UPDATE library_root SET dirty = 0 WHERE root_id = ?", (root_id,))

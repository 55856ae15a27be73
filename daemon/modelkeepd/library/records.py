"""The library's own facts about files: units that other domains and the service commit.

Owns `library_file` and `library_expected`. A row is a file's identity: it keeps its number
through renames and moves, and stays, dated, when the file is gone. No unit touches the disk; who
calls them has looked, and each unit checks that the row is still as it was when they looked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import apsw

from modelkeepd.library.fingerprint import Hashes, Stamp
from modelkeepd.library.ownership import (
    CatalogFile,
    catalog_file,
    file_with_content,
    models_with_content,
    refresh_owned,
)
from modelkeepd.library.paths import inside, signed, to_text
from modelkeepd.store import Tx

EXPECTED_MS = 600_000
"""An announcement of a placing that never came is forgotten after this long."""


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file that a download has just put in its place; verified, so nothing is read again."""

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int
    device: int
    sha256: bytes
    verdict: str
    file_key: int | None
    fingerprint: bytes | None = None


# -- for other domains, inside their own transactions ------------------------------------------


def expect(tx: Tx, path: str) -> None:
    """A download is about to rename a file to `path`: it must not be announced as a stranger."""
    tx.db.execute(
        "INSERT INTO library_expected VALUES (?, ?)"
        " ON CONFLICT (path) DO UPDATE SET since_ms = excluded.since_ms",
        (to_text(path), tx.now_ms),
    )


def unexpect(tx: Tx, path: str) -> None:
    """The placing was given up."""
    tx.db.execute("DELETE FROM library_expected WHERE path = ?", (to_text(path),))


def adopt(tx: Tx, placed: PlacedFile) -> int:
    """Take a placed file in: its row, its model owned, one `file.added`. Safe to repeat."""
    path = to_text(placed.path)
    unexpect(tx, placed.path)
    found = catalog_file(tx.db, placed.file_key) if placed.file_key is not None else None
    found = found or file_with_content(tx.db, placed.sha256)
    models = models_with_content(tx.db, placed.sha256)
    if found is not None:
        models.add(found.model_key)
    known = tx.db.execute(
        "SELECT file_id, sha256, model_key, first_seen_ms FROM library_file"
        " WHERE path = ? AND state = 'present'",
        (path,),
    ).fetchone()
    first_seen_ms = tx.now_ms
    if known is not None:
        models |= models_with_content(tx.db, known[1]) | ({known[2]} if known[2] else set())
        first_seen_ms = known[3]
    root_id = root_of(tx.db, path)
    row = (
        *(root_id, path, placed.size_bytes, placed.mtime_ns, signed(placed.inode)),
        *(signed(placed.device), placed.fingerprint, placed.sha256, "present"),
        *(found.file_key if found else placed.file_key, found.model_key if found else None),
        *(placed.verdict, "placed", first_seen_ms, tx.now_ms),
    )
    columns = (
        "root_id, path, size_bytes, mtime_ns, inode, device, fingerprint, sha256, state,"
        " file_key, model_key, verdict, known_by, first_seen_ms, changed_ms"
    )
    if known is None:
        tx.db.execute(f"INSERT INTO library_file ({columns}) VALUES ({marks(row)})", row)
        file_id = tx.db.last_insert_rowid()
    else:
        file_id = known[0]
        tx.db.execute(
            f"UPDATE library_file SET ({columns}) = ({marks(row)}), sha256_before = NULL,"
            " trouble = NULL, retry_ms = NULL WHERE file_id = ?",
            (*row, file_id),
        )
    payload: dict[str, object] = {
        "size_bytes": placed.size_bytes,
        "sha256": placed.sha256.hex(),
        "placed": True,
    }
    if found is not None:
        payload |= {"ref": found.ref, "name": found.name}
    seq = tx.emit("library", "file.added", path, payload)
    refresh_owned(tx, models, seq)
    return file_id


def register(tx: Tx, path: str, stamp: Stamp) -> bool:
    """Take in a file outside every root that a user's older list names; hashed in its turn.

    False for a file that is known already, or lies in a root, whose walks find it by themselves.
    """
    if present_row(tx.db, path) is not None or root_of(tx.db, path) is not None:
        return False
    tx.db.execute(
        "INSERT INTO library_file (path, size_bytes, mtime_ns, inode, device, state,"
        " first_seen_ms, changed_ms) VALUES (?, ?, ?, ?, ?, 'present', ?, ?)",
        (path, *columns(stamp), tx.now_ms, tx.now_ms),
    )
    tx.emit("library", "file.added", path, {"size_bytes": stamp.size_bytes, "registered": True})
    return True


def content_at(db: apsw.Connection, path: str) -> bytes | None:
    """The sha256 of the file that is present at this path, as far as it is known."""
    row = db.execute(
        "SELECT sha256 FROM library_file WHERE path = ? AND state = 'present'", (to_text(path),)
    ).fetchone()
    return None if row is None or row[0] is None else bytes(row[0])


def owned_path(db: apsw.Connection, sha256: bytes) -> str | None:
    """The path of a present file with this content, on a root that can be reached."""
    row = db.execute(
        "SELECT l.path FROM library_file l LEFT JOIN library_root r USING (root_id)"
        " WHERE l.sha256 = ? AND l.state = 'present'"
        " AND (l.root_id IS NULL OR r.state = 'online') ORDER BY l.file_id LIMIT 1",
        (sha256,),
    ).fetchone()
    return None if row is None else str(row[0])


# -- for the service -----------------------------------------------------------------------------


def root_of(db: apsw.Connection, path: str) -> int | None:
    """The innermost root that a path lies in."""
    best: tuple[int, int] | None = None
    for root_id, root in db.execute("SELECT root_id, path FROM library_root"):
        if inside(root, path) and (best is None or len(root) > best[0]):
            best = len(root), root_id
    return None if best is None else best[1]


def record_hashes(tx: Tx, file_id: int, path: str, hashes: Hashes, verdict: str | None) -> bool:
    """Keep what reading a file told, and what the catalog knows of it; False if it changed."""
    row = tx.db.execute(
        "SELECT sha256_before, model_key FROM library_file WHERE file_id = ? AND path = ?"
        " AND state = 'present' AND size_bytes = ? AND mtime_ns = ? AND inode = ?",
        (file_id, path, hashes.stamp.size_bytes, hashes.stamp.mtime_ns, signed(hashes.stamp.inode)),
    ).fetchone()
    if row is None:
        return False
    before, model_before = row
    found = file_with_content(tx.db, hashes.sha256)
    tx.db.execute(
        "UPDATE library_file SET sha256 = ?, sha256_before = NULL, fingerprint = ?, verdict = ?,"
        " known_by = 'hash', file_key = ?, model_key = ?, trouble = NULL, retry_ms = NULL"
        " WHERE file_id = ?",
        (
            *(hashes.sha256, hashes.fingerprint, verdict),
            *((found.file_key, found.model_key) if found else (None, None)),
            file_id,
        ),
    )
    if before == hashes.sha256 and (found.model_key if found else None) == model_before:
        return True
    seq = 0
    if before is not None and before != hashes.sha256:
        seq = tx.emit("library", "file.changed", path, {"size_bytes": hashes.stamp.size_bytes})
    if found is not None:
        seq = tx.emit("library", "file.identified", path, _identity(found, hashes.sha256))
    if seq:
        models = models_with_content(tx.db, hashes.sha256) | models_of(tx.db, before, model_before)
        refresh_owned(tx, models, seq)
    return True


def record_fingerprint(tx: Tx, file_id: int, stamp: Stamp, fingerprint: bytes) -> bool:
    """Complete a row whose hash came from elsewhere (a placed download); False if it changed."""
    tx.db.execute(
        "UPDATE library_file SET fingerprint = ? WHERE file_id = ? AND size_bytes = ?"
        " AND mtime_ns = ?",
        (fingerprint, file_id, stamp.size_bytes, stamp.mtime_ns),
    )
    return tx.db.changes() > 0


def record_trouble(tx: Tx, file_id: int, trouble: str, retry_ms: int) -> None:
    """The file could not be read; it is tried again at `retry_ms`."""
    tx.db.execute(
        "UPDATE library_file SET trouble = ?, retry_ms = ? WHERE file_id = ?",
        (trouble, retry_ms, file_id),
    )


def _identity(found: CatalogFile, sha256: bytes) -> dict[str, object]:
    return {"ref": found.ref, "name": found.name, "sha256": sha256.hex()}


def columns(stamp: Stamp) -> tuple[int, int, int, int]:
    return stamp.size_bytes, stamp.mtime_ns, signed(stamp.inode), signed(stamp.device)


def marks(row: Sequence[object]) -> str:
    return ", ".join("?" * len(row))


def present_row(db: apsw.Connection, path: str) -> int | None:
    row = db.execute(
        "SELECT file_id FROM library_file WHERE path = ? AND state = 'present'", (path,)
    ).fetchone()
    return None if row is None else int(row[0])


def is_expected(tx: Tx, path: str) -> bool:
    row = tx.db.execute("SELECT since_ms FROM library_expected WHERE path = ?", (path,)).fetchone()
    if row is None:
        return False
    if tx.now_ms - row[0] > EXPECTED_MS:
        tx.db.execute("DELETE FROM library_expected WHERE path = ?", (path,))
        return False
    return True


def models_of(db: apsw.Connection, sha256: object, model_key: object) -> set[int]:
    models = models_with_content(db, sha256 if isinstance(sha256, bytes) else None)
    return models | ({model_key} if isinstance(model_key, int) else set())


def name_of(db: apsw.Connection, file_id: int) -> dict[str, object]:
    """The catalog's name of a row for an event's payload, if it has one."""
    row = db.execute("SELECT file_key FROM library_file WHERE file_id = ?", (file_id,)).fetchone()
    if row is None or row[0] is None:
        return {}
    found = catalog_file(db, row[0])
    return {} if found is None else {"ref": found.ref, "name": found.name}

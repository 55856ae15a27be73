"""What the catalog says of a content, and which models are owned because of it.

Owns the joins between the library's files and the catalog's. Units and queries only; a hub is
never asked. `model.owned` is true while some present file has the content of some file of the
model, and every change of it takes the `changed_seq` of the event that reports it, so that the
search index follows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import apsw

from modelkeepd.hubs.reference import file_ref
from modelkeepd.store import Tx


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """The catalog's name for a content."""

    file_key: int
    model_key: int
    ref: str
    name: str


_CATALOG_FILE = """
SELECT f.file_key, f.model_key, m.hub, m.ref_id, v.hub_id, f.hub_id, f.name, m.name
FROM file f JOIN version v USING (version_key) JOIN model m ON m.model_key = f.model_key
"""
# the same bytes are often published twice; prefer a model that is still listed, then the older one
_PREFERENCE = " ORDER BY m.hub_state <> 'listed', f.is_primary = 0, f.file_key LIMIT 1"


def _catalog_file(rows: Iterable[tuple[object, ...]]) -> CatalogFile | None:
    for file_key, model_key, hub, model, version, file, file_name, name in rows:
        return CatalogFile(
            int(str(file_key)),
            int(str(model_key)),
            file_ref(str(hub), str(model), str(version), str(file or file_name)),
            str(name),
        )
    return None


def catalog_file(db: apsw.Connection, file_key: int) -> CatalogFile | None:
    return _catalog_file(db.execute(_CATALOG_FILE + " WHERE f.file_key = ?", (file_key,)))


def file_with_content(db: apsw.Connection, sha256: bytes) -> CatalogFile | None:
    """The catalog's file with this content, or None while no known model has it."""
    return _catalog_file(db.execute(_CATALOG_FILE + " WHERE f.sha256 = ?" + _PREFERENCE, (sha256,)))


def models_with_content(db: apsw.Connection, sha256: bytes | None) -> set[int]:
    if sha256 is None:
        return set()
    rows = db.execute("SELECT DISTINCT model_key FROM file WHERE sha256 = ?", (sha256,))
    return {int(key) for (key,) in rows}


def refresh_owned(tx: Tx, model_keys: Iterable[int], seq: int) -> int:
    """Make `owned` of these models true to the library; returns how many changed."""
    changed = 0
    for key in set(model_keys):
        tx.db.execute(
            """
            WITH now (owned) AS (SELECT
              EXISTS (SELECT 1 FROM library_file
                      WHERE model_key = :key AND state = 'present')
              OR EXISTS (SELECT 1 FROM file f JOIN library_file l ON l.sha256 = f.sha256
                         WHERE f.model_key = :key AND l.state = 'present'))
            UPDATE model SET owned = (SELECT owned FROM now), changed_seq = :seq
            WHERE model_key = :key AND owned <> (SELECT owned FROM now)
            """,
            {"key": key, "seq": seq},
        )
        changed += tx.db.changes()
    return changed


def match_catalog(tx: Tx, after_file_id: int, limit: int = 500) -> tuple[int, int | None]:
    """Match hashed files anew with a catalog that has learned; a slice at a time.

    Returns how many files were identified and where to go on, None at the end.
    """
    rows: list[Any] = tx.db.execute(
        """
        SELECT l.file_id, l.sha256, l.path, l.model_key FROM library_file l
        WHERE l.file_id > ? AND l.state = 'present' AND l.sha256 IS NOT NULL AND EXISTS (
          SELECT 1 FROM file f JOIN model m ON m.model_key = f.model_key
          WHERE f.sha256 = l.sha256 AND (l.model_key IS NULL OR m.owned = 0))
        ORDER BY l.file_id LIMIT ?
        """,
        (after_file_id, limit),
    ).fetchall()
    identified = 0
    for file_id, sha256, path, model_key in rows:
        found = file_with_content(tx.db, sha256)
        if found is None:
            continue
        seq = tx.emit("library", "file.identified", path, {"ref": found.ref, "name": found.name})
        if model_key is None:
            identified += 1
            tx.db.execute(
                "UPDATE library_file SET file_key = ?, model_key = ? WHERE file_id = ?",
                (found.file_key, found.model_key, file_id),
            )
        refresh_owned(tx, models_with_content(tx.db, sha256), seq)
    return identified, rows[-1][0] if len(rows) == limit else None


def anything_to_match(db: apsw.Connection) -> bool:
    """Would `match_catalog` find work? Cheap enough to ask after every few pages of a sync."""
    row = db.execute(
        """
        SELECT 1 FROM library_file l JOIN file f ON f.sha256 = l.sha256
        JOIN model m ON m.model_key = f.model_key
        WHERE l.state = 'present' AND l.sha256 IS NOT NULL
          AND (l.model_key IS NULL OR m.owned = 0) LIMIT 1
        """
    ).fetchone()
    return row is not None

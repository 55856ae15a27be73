"""The one transaction that takes a models.json in.

Its rows, the tags search finds, the files the library learns of, and the mark that it happened are
committed together: killed at any moment, the next start finds all of it or nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from modelkeepd.legacy.models_json import Entry
from modelkeepd.library.fingerprint import Stamp
from modelkeepd.library.records import register
from modelkeepd.store import Tx

MAX_TAG_CHARS = 200


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that an entry names and that is there: path as the library writes it, and stamp."""

    path: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. ``again``: it had been done before, and nothing was."""

    entries: int = 0
    odd: int = 0
    linked: int = 0
    files: int = 0
    again: bool = False


def import_models(
    tx: Tx, path: str, size_bytes: int, sha256: bytes, entries: Sequence[Entry],
    files: Sequence[FoundFile],
) -> Imported:  # fmt: skip
    """Take in the entries of one file, once for each content."""
    marked = tx.db.execute(
        "INSERT INTO legacy_import VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
        (
            *(sha256, path, size_bytes, len(entries)),
            *(sum(bool(entry.trouble) for entry in entries), tx.now_ms),
        ),
    ).fetchall()
    if not marked:
        return Imported(again=True)
    tx.db.executemany(
        "INSERT INTO legacy_model (import_sha256, position, name, description, size_bytes,"
        " required_memory_bytes, source, repo_id, hub, ref_id, path, artifacts, tags, created_ms,"
        " updated_ms, trouble, raw) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [_row(sha256, entry) for entry in entries],
    )
    tx.db.executemany(
        "INSERT INTO legacy_tag VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [
            (entry.hub, entry.ref_id, tag[:MAX_TAG_CHARS])
            for entry in entries
            if entry.hub is not None
            for tag in entry.tags
        ],
    )
    registered = sum(register(tx, file.path, file.stamp) for file in files)
    named = {(entry.hub, entry.ref_id) for entry in entries if entry.hub is not None}
    result = Imported(
        entries=len(entries),
        odd=sum(bool(entry.trouble) for entry in entries),
        linked=len(named),
        files=registered,
    )
    seq = tx.emit(
        "model",
        "legacy.imported",
        path,
        {
            "entries": result.entries,
            "odd": result.odd,
            "linked": result.linked,
            "files": result.files,
        },
    )
    # search follows changes: what is in the catalog already now has these tags
    tx.db.execute(
        "UPDATE model SET changed_seq = ? WHERE model_key IN (SELECT m.model_key FROM legacy_tag l"
        " JOIN model m ON m.hub = l.hub AND m.ref_id = l.ref_id COLLATE NOCASE)",
        (seq,),
    )
    return result


def report_broken(tx: Tx, path: str, why: str) -> None:
    """A file that could not be imported was found; it stays where it is."""
    tx.emit("model", "legacy.broken", path, {"why": why})


def _row(sha256: bytes, entry: Entry) -> tuple[object, ...]:
    return (
        *(sha256, entry.position, entry.name, entry.description),
        *(entry.size_bytes, entry.required_memory_bytes, entry.source, entry.repo_id),
        *(entry.hub, entry.ref_id, entry.path),
        *(json.dumps(entry.artifacts, ensure_ascii=False), json.dumps(entry.tags)),
        *(entry.created_ms, entry.updated_ms, "; ".join(entry.trouble) or None, entry.raw),
    )

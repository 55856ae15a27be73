"""The rows of models, versions and files, as documents say them: inserted, updated, never deleted.

SQL only. What a document no longer lists gets a date. Keys stay: the library's files hang on them.
Which documents are believed is decided before.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from modelkeepd.hubs.contract import ParsedFile, ParsedModel, ParsedVersion
from modelkeepd.store import Tx
from modelkeepd.sync.prepare import DETAIL_KIND, MODEL_KIND, Delta, PreparedModel

_json = msgspec.json.Encoder()

_DOCUMENT_TABLES = {MODEL_KIND: "document", DETAIL_KIND: "detail_document"}


class Replaced(msgspec.Struct, frozen=True):
    """A known model and the document that takes the place of its own.

    ``is_same``: in content they are one, and only the model's state changes.
    """

    model_key: int
    model: PreparedModel
    is_same: bool
    doc_hash: bytes  # of the replaced one


def insert_models(
    db: apsw.Connection, models: Sequence[PreparedModel], seq: int, fetched_ms: int
) -> None:
    """Models that were not known."""
    if not models:
        return
    key = _next_key(db, "model")
    rows, documents, versions = [], [], []
    for model in models:
        parsed = model.parsed
        assert parsed is not None
        rows.append((key, parsed.hub, parsed.hub_id, *_columns(parsed), fetched_ms, fetched_ms,
                     seq, model.doc_hash))  # fmt: skip
        documents.append((key, model.dict_id, model.blob, fetched_ms))
        versions += [(key, version) for version in parsed.versions]
        key += 1
    db.executemany(
        "INSERT INTO model (model_key, hub, hub_id, ref_id, name, type, creator, base_models, tags,"
        " nsfw_level, downloads, likes, commercial, published_ms, updated_ms, license, gated,"
        " hub_state, size_bytes, first_seen_ms, seen_ms, changed_seq, doc_hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    db.executemany("INSERT INTO document VALUES (?, ?, ?, ?)", documents)
    _insert_versions(db, versions)


def update_models(tx: Tx, replaced: Sequence[Replaced], seq: int, fetched_ms: int) -> None:
    """Known models whose documents changed; what they were becomes revisions."""
    if not replaced:
        return
    db = tx.db
    new = [each for each in replaced if not each.is_same]
    keep_revisions(tx, MODEL_KIND, [(r.model_key, r.model.delta, r.doc_hash) for r in new])
    rows, documents = [], []
    for each in replaced:
        parsed = each.model.parsed
        assert parsed is not None
        *columns, size_bytes = _columns(parsed)
        files_known = all(version.files_known for version in parsed.versions)
        rows.append((*columns, files_known, size_bytes, fetched_ms, seq, each.model.doc_hash,
                     each.model_key))  # fmt: skip
        documents.append((each.model_key, each.model.dict_id, each.model.blob, fetched_ms))
    db.executemany(
        "UPDATE model SET ref_id = ?, name = ?, type = ?, creator = ?, base_models = ?, tags = ?,"
        " nsfw_level = ?, downloads = ?, likes = ?, commercial = ?, published_ms = ?,"
        " updated_ms = ?, license = ?, gated = ?, hub_state = ?,"
        " size_bytes = iif(?, ?, size_bytes), gone_ms = NULL, seen_ms = ?, changed_seq = ?,"
        " doc_hash = ? WHERE model_key = ?",
        rows,
    )
    db.executemany("REPLACE INTO document VALUES (?, ?, ?, ?)", documents)
    for each in replaced:
        assert each.model.parsed is not None
        _update_versions(tx, each.model_key, each.model.parsed.versions)


def keep_revisions(
    tx: Tx, kind: str, replaced: Sequence[tuple[int, Delta | None, bytes | None]]
) -> None:
    """What these models' documents are becomes a revision each, before they are replaced.

    With each comes its delta, if there is one, and the hash of what it has to be of: a page that
    was written after the delta was made leaves a whole copy instead.
    """
    table = _DOCUMENT_TABLES[kind]
    as_delta = {
        key: delta.raw
        for key, delta, doc_hash in replaced
        if delta is not None and delta.of == doc_hash
    }
    whole = [key for key, _, _ in replaced if key not in as_delta]
    tx.db.executemany(
        "INSERT INTO revision (model_key, kind, is_delta, dict_id, raw, seen_ms, replaced_ms)"
        f" SELECT model_key, ?, 1, NULL, ?, fetched_ms, ? FROM {table} WHERE model_key = ?",
        [(kind, raw, tx.now_ms, key) for key, raw in as_delta.items()],
    )
    if whole:
        tx.db.execute(
            "INSERT INTO revision (model_key, kind, is_delta, dict_id, raw, seen_ms, replaced_ms)"
            f" SELECT model_key, ?, 0, dict_id, raw, fetched_ms, ? FROM {table}"
            " WHERE model_key IN (SELECT value FROM json_each(?))",
            (kind, tx.now_ms, json.dumps(whole)),
        )


def write_files(tx: Tx, version_key: int, version: ParsedVersion, model_key: int) -> None:
    """The files of one known version, as a document that has them all says."""
    tx.db.execute(
        "UPDATE version SET files_revision = ? WHERE version_key = ?",
        (version.revision, version_key),
    )
    tx.db.execute(
        "UPDATE file SET gone_ms = ?, is_primary = 0 WHERE version_key = ? AND gone_ms IS NULL",
        (tx.now_ms, version_key),
    )
    _upsert_files(tx.db, [(version_key, model_key, file) for file in version.files])


def versions_left(db: apsw.Connection, model_key: int) -> int:
    """How many versions of a model its last document listed."""
    found: Any = db.execute(
        "SELECT count(*) FROM version WHERE model_key = ? AND gone_ms IS NULL", (model_key,)
    ).fetchone()
    return int(found[0])


def files_left(db: apsw.Connection, model_key: int) -> int:
    """How many files of a model its last document listed."""
    found: Any = db.execute(
        "SELECT count(*) FROM file WHERE model_key = ? AND gone_ms IS NULL", (model_key,)
    ).fetchone()
    return int(found[0])


def _next_key(db: apsw.Connection, table: str) -> int:
    # rows are never deleted and there is one writer: keys are handed out here, so that all
    # tables of a page are filled by one executemany each
    found: Any = db.execute(f"SELECT max({table}_key) FROM {table}").fetchone()
    return 1 + (found[0] or 0)


def _columns(parsed: ParsedModel) -> tuple[object, ...]:
    return (
        parsed.ref_id,
        parsed.name,
        parsed.type,
        parsed.creator,
        _json.encode(parsed.base_models).decode(),
        _json.encode(parsed.tags).decode(),
        parsed.nsfw_level,
        parsed.downloads,
        parsed.likes,
        parsed.commercial,
        parsed.published_ms,
        parsed.updated_ms,
        parsed.license,
        parsed.gated,
        parsed.hub_state,
        parsed.size_bytes,
    )


def _insert_versions(db: apsw.Connection, versions: Sequence[tuple[int, ParsedVersion]]) -> None:
    if not versions:
        return
    key = _next_key(db, "version")
    rows, files = [], []
    for model_key, version in versions:
        rows.append((key, model_key, *_version_columns(version), version.hub_id))
        files += [(key, model_key, file) for file in version.files]
        key += 1
    db.executemany(
        "INSERT INTO version (version_key, model_key, name, base_model, position, published_ms,"
        " availability, revision, files_revision, hub_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    db.executemany(
        "INSERT INTO file (version_key, model_key, kind, format, size_bytes, sha256, git_sha1,"
        " is_primary, url, hub_id, name) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        _file_rows(files),
    )


def _version_columns(version: ParsedVersion) -> tuple[object, ...]:
    return (
        version.name,
        version.base_model,
        version.position,
        version.published_ms,
        version.availability,
        version.revision,
        version.revision if _is_complete(version) else None,
    )


def _is_complete(version: ParsedVersion) -> bool:
    """Whether the document tells of the files all that the hub knows."""
    return version.files_known and all(file.size_bytes is not None for file in version.files)


def _file_rows(files: Iterable[tuple[int, int, ParsedFile]]) -> list[tuple[object, ...]]:
    return [
        (
            version_key,
            model_key,
            file.kind,
            file.format,
            file.size_bytes,
            file.sha256,
            file.git_sha1,
            file.is_primary,
            file.url,
            file.hub_id,
            file.name,
        )
        for version_key, model_key, file in files
    ]


def _update_versions(tx: Tx, model_key: int, versions: Sequence[ParsedVersion]) -> None:
    db = tx.db
    rows: list[Any] = db.execute(
        "SELECT hub_id, version_key, files_revision FROM version WHERE model_key = ?", (model_key,)
    ).fetchall()
    known: dict[str, tuple[int, str | None]] = {row[0]: (row[1], row[2]) for row in rows}
    kept = [(*known[v.hub_id], v) for v in versions if v.hub_id in known]
    db.execute(
        "UPDATE version SET gone_ms = ? WHERE model_key = ? AND gone_ms IS NULL",
        (tx.now_ms, model_key),
    )
    db.executemany(
        "UPDATE version SET name = ?, base_model = ?, position = ?, published_ms = ?,"
        " availability = ?, revision = ?, files_revision = coalesce(?, files_revision),"
        " gone_ms = NULL WHERE version_key = ?",
        [(*_version_columns(version), key) for key, _, version in kept],
    )
    # a document without files says nothing of them; of one commit there is nothing new to say
    left_alone = [
        key
        for key, files_revision, version in kept
        if not version.files_known
        or (files_revision is not None and files_revision == version.revision)
    ]
    db.execute(
        "UPDATE file SET gone_ms = ?, is_primary = 0 WHERE model_key = ? AND gone_ms IS NULL"
        " AND version_key NOT IN (SELECT value FROM json_each(?))",
        (tx.now_ms, model_key, json.dumps(left_alone)),
    )
    _upsert_files(
        db,
        [
            (key, model_key, file)
            for key, _, version in kept
            if key not in left_alone
            for file in version.files
        ],
    )
    _insert_versions(db, [(model_key, v) for v in versions if v.hub_id not in known])


def _upsert_files(db: apsw.Connection, files: Iterable[tuple[int, int, ParsedFile]]) -> None:
    db.executemany(
        "INSERT INTO file (version_key, model_key, kind, format, size_bytes, sha256, git_sha1,"
        " is_primary, url, hub_id, name) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (version_key, hub_id, name) DO UPDATE SET kind = excluded.kind,"
        " format = excluded.format, size_bytes = excluded.size_bytes, sha256 = excluded.sha256,"
        " git_sha1 = excluded.git_sha1, is_primary = excluded.is_primary, url = excluded.url,"
        " gone_ms = NULL",
        _file_rows(files),
    )

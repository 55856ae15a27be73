"""What the library tells others about itself: lists, roots, totals. Queries only."""

from collections.abc import Mapping
from typing import Any

import apsw

from modelkeep_protocol import schema
from modelkeepd.hubs.reference import file_ref

_FILES = """
FROM library_file l
LEFT JOIN library_root r ON r.root_id = l.root_id
LEFT JOIN file f ON f.file_key = l.file_key
LEFT JOIN version v ON v.version_key = f.version_key
LEFT JOIN model m ON m.model_key = f.model_key
"""
_STATE = "CASE WHEN l.state = 'present' AND r.state = 'offline' THEN 'offline' ELSE l.state END"


def read_files(db: apsw.Connection, wanted: schema.ListFiles) -> schema.LibraryFiles:
    """One page, by path. Missing files are listed only when asked for: state `missing` or `all`."""
    conditions = []
    bindings: dict[str, Any] = {"after": wanted.after, "limit": wanted.limit}
    if wanted.state in ("present", "missing", "offline"):
        conditions.append(f"{_STATE} = :state")
        bindings["state"] = wanted.state
    elif wanted.state != "all":
        conditions.append("l.state = 'present'")
    if wanted.text:
        conditions.append("instr(lower(l.path), lower(:text)) > 0")
        bindings["text"] = wanted.text
    if wanted.root:
        conditions.append("r.path = :root")
        bindings["root"] = wanted.root.rstrip("/") or "/"
    where = " WHERE " + " AND ".join(conditions) if conditions else ""
    total: Any = db.execute(f"SELECT count(*) {_FILES}{where}", bindings).fetchone()
    page = f"{where}{' AND ' if where else ' WHERE '}l.path > :after"
    rows: list[Any] = db.execute(
        "SELECT l.path, l.size_bytes, l.sha256, m.hub, m.ref_id, v.hub_id, f.hub_id, f.name,"
        f" m.name, {_STATE}, l.verdict, l.mtime_ns {_FILES}{page} ORDER BY l.path LIMIT :limit",
        bindings,
    ).fetchall()
    return schema.LibraryFiles([_file(row) for row in rows], total[0])


def _file(row: Any) -> schema.LibraryFile:
    path, size, sha256, hub, model, version, file, file_name, name, state, verdict, mtime = row
    return schema.LibraryFile(
        path=path,
        size_bytes=size,
        sha256=None if sha256 is None else sha256.hex(),
        ref=None if hub is None else file_ref(hub, model, version, file or file_name),
        name=name,
        state=state,
        verdict=verdict,
        mtime_ms=mtime // 1_000_000,
    )


def read_root_list(
    db: apsw.Connection, watching: Mapping[int, tuple[str, str | None]]
) -> schema.Roots:
    """The roots; `watching` says by root how each is watched, and a warning."""
    rows: list[Any] = db.execute(
        "SELECT r.root_id, r.path, r.layout, r.state, count(l.file_id),"
        " coalesce(sum(l.size_bytes), 0) FROM library_root r LEFT JOIN library_file l"
        " ON l.root_id = r.root_id AND l.state = 'present' GROUP BY r.root_id ORDER BY r.path"
    ).fetchall()
    items = []
    for root_id, path, layout, state, files, size_bytes in rows:
        how, warning = watching.get(root_id, ("off", None))
        items.append(schema.Root(path, layout, state, files, size_bytes, how, warning))
    return schema.Roots(items)


def read_status(db: apsw.Connection) -> schema.LibraryStatus:
    files: Any = db.execute(
        "SELECT count(*), coalesce(sum(size_bytes), 0), count(model_key),"
        " count(*) - count(sha256) FROM library_file WHERE state = 'present'"
    ).fetchone()
    roots: Any = db.execute(
        "SELECT count(*), count(*) FILTER (WHERE state = 'offline') FROM library_root"
    ).fetchone()
    return schema.LibraryStatus(*files, *roots)

"""From what a person names to the files that are meant: one reference, some files, or a reason.

Owns the choice among a version's files and the queries it needs; asks no hub and queues nothing.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from modelkeep_protocol import errors
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.catalog.detail import model_named
from modelkeepd.hubs.reference import Reference, file_ref, model_ref
from modelkeepd.transfer.service import WantedFile

# what comes with a model but is not the model: never chosen unless named
_COMPANIONS = frozenset(("training data", "config", "archive", "workflow"))


@dataclass(frozen=True, slots=True)
class Offered:
    """One file the catalog knows, with what its destination depends on."""

    hub: str
    model_id: str
    model_type: str
    version_id: str
    base_model: str | None
    file_key: int
    file_id: str
    name: str
    kind: str
    size_bytes: int | None
    sha256: bytes | None
    is_primary: bool

    @property
    def ref(self) -> str:
        """The file's reference; a file without an id is named by its name."""
        return file_ref(self.hub, self.model_id, self.version_id, self.file_id or self.name)


_FILES = """\
SELECT m.hub, m.ref_id, m.type, v.hub_id, v.base_model, f.file_key, f.hub_id, f.name, f.kind,
       f.size_bytes, f.sha256, f.is_primary
FROM file f JOIN version v USING (version_key) JOIN model m ON m.model_key = v.model_key
"""


def find_files(
    db: apsw.Connection,
    reference: Reference,
    *,
    pattern: str = "",
    priority: int = 0,
    to: Path | None = None,
) -> list[WantedFile]:
    """The files ``reference`` means. Raises ModelkeepError when it means none."""
    if reference.kind == "path":
        raise ModelkeepError(
            errors.INVALID,
            f"{reference.path} is a path; get fetches from hubs",
            "name a model, e.g. civitai:1102, a hub's URL, or sha256:HEX",
        )
    if reference.sha256:
        rows = _query(
            db, "WHERE f.sha256 = ? ORDER BY f.gone_ms IS NOT NULL, f.file_key", reference.sha256
        )
        if not rows:
            raise ModelkeepError(
                errors.NOT_FOUND,
                "no file of the catalog has this sha256",
                "modelkeep sync brings the catalog up to date",
            )
        chosen = rows[:1]
    else:
        chosen = choose(_files_of(db, reference), reference.file, pattern)
        if not chosen:
            raise ModelkeepError(
                errors.NOT_FOUND,
                f"no file matches {pattern or reference.file!r}",
                "modelkeep show lists the files there are",
            )
    return [
        WantedFile(
            hub=file.hub,
            ref=file.ref,
            name=file.name,
            file_key=file.file_key,
            model_type=file.model_type,
            file_kind=file.kind,
            base_model=file.base_model,
            size_bytes=file.size_bytes or None,
            sha256=file.sha256,
            priority=priority,
            to=to,
        )
        for file in chosen
    ]


def choose(files: Sequence[Offered], file_id: str | None, pattern: str) -> list[Offered]:
    """Which of a version's files are meant: the one named, those that match, or the primary one."""
    if file_id is not None:
        return [file for file in files if file_id in (file.file_id, file.name)][:1]
    if pattern:
        wanted = pattern.casefold()
        return [file for file in files if fnmatch.fnmatchcase(file.name.casefold(), wanted)]
    primary = [file for file in files if file.is_primary]
    models = [file for file in files if file.kind.casefold() not in _COMPANIONS]
    return (primary or models or list(files))[:1]


def _query(db: apsw.Connection, where: str, *bindings: object) -> list[Offered]:
    rows = db.execute(_FILES + where, bindings).fetchall()
    return [Offered(*row[:11], bool(row[11])) for row in rows]  # type: ignore[arg-type, call-arg]


def _files_of(db: apsw.Connection, reference: Reference) -> list[Offered]:
    """All files of the version meant: the one named, else the first that has any."""
    hub, model_id = reference.hub, reference.model
    version_id = reference.version
    if model_id is None:
        row = db.execute(
            "SELECT m.ref_id FROM version v JOIN model m USING (model_key)"
            " WHERE v.hub_id = ? AND m.hub = ?",
            (version_id, hub),
        ).fetchone()
        model_id = None if row is None else str(row[0])
    model = None
    if hub is not None and model_id is not None:
        model = db.execute(
            "SELECT model_key, hub_state FROM model WHERE model_key = ?",
            (model_named(db, hub, model_id),),
        ).fetchone()
    if model is None or hub is None or model_id is None:
        raise ModelkeepError(
            errors.NOT_FOUND,
            f"{reference} is not in the catalog",
            "modelkeep sync brings the catalog up to date; modelkeep search finds what is there",
        )
    files = _query(
        db,
        # a file or version the hub lists no longer is fetched only when nothing else is left
        "WHERE m.model_key = ? ORDER BY f.gone_ms IS NOT NULL OR v.gone_ms IS NOT NULL,"
        " v.position, f.is_primary DESC, f.file_key",
        model[0],
    )
    ref = model_ref(hub, model_id)
    if version_id is None:
        if not files:
            raise _no_files(ref, str(model[1]))
        version_id = files[0].version_id
    known = db.execute(
        "SELECT 1 FROM version WHERE model_key = ? AND hub_id = ?", (model[0], version_id)
    ).fetchone()
    if known is None:
        raise ModelkeepError(
            errors.NOT_FOUND,
            f"{ref} has no version {version_id}",
            f"modelkeep show {ref} lists its versions",
        )
    of_version = [file for file in files if file.version_id == version_id]
    if not of_version:
        raise _no_files(f"{ref}@{version_id}", str(model[1]))
    return of_version


def _no_files(ref: str, hub_state: str) -> ModelkeepError:
    if hub_state in ("archived", "taken_down", "gone"):
        word = {"archived": "archived", "taken_down": "taken down", "gone": "gone"}[hub_state]
        return ModelkeepError(
            errors.NOT_FOUND,
            f"{ref} is {word} on the hub: it offers no files any more",
            "its description stays in the catalog; modelkeep library list may have the file",
        )
    return ModelkeepError(
        errors.NOT_FOUND,
        f"{ref} has no files in the catalog",
        "the hub may list them later; modelkeep sync looks again",
    )

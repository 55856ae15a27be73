"""From what a person names to the files that are meant: one reference, some files, or a reason.

Owns the choice among a version's files and the queries it needs; asks no hub and queues nothing.
Where the catalog does not know enough to choose, ``DetailsNeeded`` says what of: whoever can ask
the hub does so and comes again.
"""

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import apsw

from modelkeep_protocol import errors
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.catalog.detail import model_named
from modelkeepd.hubs.huggingface_files import kind_of
from modelkeepd.hubs.reference import HUGGINGFACE, Reference, file_ref, model_ref
from modelkeepd.transfer import repository
from modelkeepd.transfer.places import folder_name
from modelkeepd.transfer.repository import Ambiguous, Choice, Entry
from modelkeepd.transfer.wanted import WantedFile

# what comes with a model but is not the model: never chosen unless named
_COMPANIONS = frozenset(("training data", "config", "archive", "workflow"))
_MAIN = "main"
_CHOICES_SHOWN = 30
_NOT_ASKED_FOR = "not asked for: the model is one file"


class DetailsNeeded(Exception):
    """The hub must be asked first. ``usable``: without an answer, what is known will do."""

    def __init__(self, hub: str, ref_id: str, *, usable: bool = False) -> None:
        super().__init__(f"details of {hub} {ref_id}")
        self.hub = hub
        self.ref_id = ref_id
        self.usable = usable


@dataclass(frozen=True, slots=True)
class Offered:
    """One file the catalog knows, with what its destination depends on."""

    hub: str
    model_id: str
    model_type: str
    version_id: str
    base_model: str | None
    file_key: int | None
    file_id: str
    name: str
    kind: str
    format: str | None
    size_bytes: int | None
    sha256: bytes | None
    git_sha1: bytes | None
    revision: str | None  # the commit that size and hashes are true for
    is_primary: bool
    is_gone: bool = False

    @property
    def ref(self) -> str:
        """The file's reference; a file without an id is named by its name."""
        return file_ref(self.hub, self.model_id, self.version_id, self.file_id or self.name)

    @property
    def entry(self) -> Entry:
        return Entry(self.file_id or self.name, self.size_bytes, self.kind, self.format)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Files of a repository that are not fetched, and why."""

    ref: str
    why: str
    names: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    files: list[WantedFile]
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Wish:
    """How the files are wanted, beside which."""

    pattern: str = ""
    priority: int = 0
    to: Path | None = None


_FILES = """\
SELECT m.hub, m.ref_id, m.type, v.hub_id, v.base_model, f.file_key, f.hub_id, f.name, f.kind,
       f.format, f.size_bytes, f.sha256, f.git_sha1, v.files_revision, f.is_primary,
       f.gone_ms IS NOT NULL
FROM file f JOIN version v USING (version_key) JOIN model m ON m.model_key = v.model_key
"""


def find_files(
    db: apsw.Connection,
    reference: Reference,
    wish: Wish,
    *,
    askable: Collection[str] = (),
) -> Found:
    """The files ``reference`` means. Raises ModelkeepError when it means none.

    ``askable``: the hubs that may be asked for more; DetailsNeeded is raised for those alone.
    """
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
        return Found([_wanted(rows[0], wish)])
    if reference.hub == HUGGINGFACE:
        return _of_repository(db, reference, wish, askable)
    chosen = choose(_files_of(db, reference, askable), reference.file, wish.pattern)
    if not chosen:
        raise _no_match(wish.pattern or str(reference.file))
    return Found([_wanted(file, wish) for file in chosen])


def _wanted(file: Offered, wish: Wish, *, whole: bool = False) -> WantedFile:
    """``whole``: one of several files of a repository, which keep their places."""
    is_repository = file.hub == HUGGINGFACE
    in_folder = is_repository and (whole or file.kind != repository.MODEL)
    name = file.file_id or file.name
    save_as = ""
    if is_repository and not in_folder:
        save_as = PurePosixPath(name).name
        if repository.standard_name(name):
            # every repository has a model.safetensors: the name must tell whose
            save_as = f"{folder_name(file.model_id)}-{save_as}"
    return WantedFile(
        hub=file.hub,
        ref=file.ref,
        name=name if is_repository else file.name,
        save_as=save_as,
        file_key=file.file_key,
        model_type=file.model_type,
        file_kind="" if in_folder else file.kind,
        base_model=file.base_model,
        size_bytes=file.size_bytes or None,
        sha256=file.sha256,
        git_sha1=file.git_sha1,
        revision=(file.revision or file.version_id) if is_repository else None,
        repository=file.model_id if in_folder else "",
        priority=wish.priority,
        to=wish.to,
    )


def _no_match(what: str) -> ModelkeepError:
    return ModelkeepError(
        errors.NOT_FOUND, f"no file matches {what!r}", "modelkeep show lists the files there are"
    )


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


# Repositories ----------------------------------------------------------------------------------


def _of_repository(
    db: apsw.Connection, reference: Reference, wish: Wish, askable: Collection[str]
) -> Found:
    """Files of ``main``; of any other revision the one that is named."""
    ref_id = str(reference.model)
    row = db.execute(
        "SELECT m.model_key, m.ref_id, m.type, m.hub_state, v.base_model, v.revision,"
        " v.files_revision FROM model m LEFT JOIN version v"
        " ON v.model_key = m.model_key AND v.hub_id = ? WHERE m.model_key = ?",
        (_MAIN, model_named(db, HUGGINGFACE, ref_id)),
    ).fetchone()
    can_ask = HUGGINGFACE in askable
    if row is None:
        if can_ask:
            raise DetailsNeeded(HUGGINGFACE, ref_id)
        raise _not_in_catalog(reference)
    model_key, ref_id, model_type, state, base_model, head, known_at = row
    version = reference.version or _MAIN
    if version != _MAIN and not _is_commit(version, known_at):
        if can_ask and _is_commit(version, head):
            raise DetailsNeeded(HUGGINGFACE, ref_id)
        return _at_revision(reference, ref_id, model_type, base_model, wish)
    files = _query(db, "WHERE m.model_key = ? AND f.gone_ms IS NULL ORDER BY f.file_key", model_key)
    sized = [file for file in files if file.size_bytes is not None]
    current = known_at is not None and (head is None or head == known_at)
    if can_ask and state == "listed" and not (current and len(sized) == len(files) > 0):
        usable = bool(sized) and known_at is not None
        raise DetailsNeeded(HUGGINGFACE, ref_id, usable=usable)
    if not files:
        raise _no_files(model_ref(HUGGINGFACE, ref_id), str(state))
    return _chosen(files, reference, ref_id, wish)


def _is_commit(version: str, commit: object) -> bool:
    """Whether this names that commit; people shorten them."""
    return len(version) >= 7 and str(commit or "").startswith(version.lower())


def _at_revision(
    reference: Reference, ref_id: str, model_type: str, base_model: str | None, wish: Wish
) -> Found:
    """The catalog knows ``main`` alone: of another revision the hub itself names the content."""
    if reference.file is None:
        ref = model_ref(HUGGINGFACE, ref_id)
        raise ModelkeepError(
            errors.UNSUPPORTED,
            f"the catalog has the files of {ref}@main, not those of {reference.version}",
            f"name the file: modelkeep get '{ref}@{reference.version}#PATH'; or leave the revision",
        )
    path = reference.file
    file = Offered(
        hub=HUGGINGFACE, model_id=ref_id, model_type=model_type,
        version_id=str(reference.version), base_model=base_model, file_key=None, file_id=path,
        name=path, kind=kind_of(path), format=None, size_bytes=None, sha256=None, git_sha1=None,
        revision=reference.version, is_primary=False,
    )  # fmt: skip
    return Found([_wanted(file, wish)])


def _chosen(files: Sequence[Offered], reference: Reference, ref_id: str, wish: Wish) -> Found:
    by_path = {file.entry.path: file for file in files}
    if reference.file is not None:
        if reference.file not in by_path:
            raise _no_match(reference.file)
        return Found([_wanted(by_path[reference.file], wish)])
    if wish.pattern:
        matching = [file for file in files if _matches(file.entry.path, wish.pattern)]
        if not matching:
            raise _no_match(wish.pattern)
        return Found([_wanted(file, wish, whole=len(matching) > 1) for file in matching])
    ref = model_ref(HUGGINGFACE, ref_id)
    primary = [file for file in files if file.is_primary]
    if len(primary) == 1:
        others = [file.entry for file in files if not file.is_primary]
        return Found([_wanted(primary[0], wish)], _told(ref, {_NOT_ASKED_FOR: others}))
    try:
        selection = repository.usable_set([file.entry for file in files])
    except Ambiguous as several:
        raise _which(ref, several.choices) from None
    chosen = [by_path[entry.path] for entry in selection.chosen]
    if not chosen:
        raise ModelkeepError(
            errors.NOT_FOUND,
            f"{ref} holds no weights and no configuration that a program loads",
            "modelkeep show lists its files; get one with --file PATTERN",
        )
    whole = len(chosen) > 1
    return Found(
        [_wanted(file, wish, whole=whole) for file in chosen], _told(ref, selection.left_out)
    )


def _matches(path: str, pattern: str) -> bool:
    folded, wanted = path.casefold(), pattern.casefold()
    return any(fnmatch.fnmatchcase(name, wanted) for name in (folded, folded.rpartition("/")[2]))


def _told(ref: str, left_out: Mapping[str, Iterable[Entry]]) -> list[LeftOut]:
    told = []
    for why, entries in left_out.items():
        files = list(entries)
        if files:
            size = sum(file.size_bytes or 0 for file in files)
            told.append(LeftOut(ref, why, tuple(file.path for file in files), size))
    return told


def _which(ref: str, choices: Sequence[Choice]) -> ModelkeepError:
    shown = [f"{choice.path} ({_size(choice.size_bytes)})" for choice in choices[:_CHOICES_SHOWN]]
    if len(choices) > _CHOICES_SHOWN:
        shown.append(f"and {len(choices) - _CHOICES_SHOWN} more")
    first = choices[0]
    command = f"modelkeep get '{ref}#{first.path}'"
    if first.pattern is not None:
        command = f"modelkeep get {ref} --file '{first.pattern}'"
    return ModelkeepError(
        errors.INVALID,
        f"{ref} holds {len(choices)} models or editions and does not say which is meant: "
        + ", ".join(shown),
        f"name one: {command}; or several with --file PATTERN",
    )


def _size(size_bytes: int) -> str:
    value = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


# Queries ---------------------------------------------------------------------------------------


def _query(db: apsw.Connection, where: str, *bindings: object) -> list[Offered]:
    rows = db.execute(_FILES + where, bindings).fetchall()
    return [Offered(*row[:14], bool(row[14]), bool(row[15])) for row in rows]  # type: ignore[arg-type, call-arg]


def _files_of(db: apsw.Connection, reference: Reference, askable: Collection[str]) -> list[Offered]:
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
        if hub is not None and model_id is not None and hub in askable:
            raise DetailsNeeded(hub, model_id)
        raise _not_in_catalog(reference)
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


def _not_in_catalog(reference: Reference) -> ModelkeepError:
    return ModelkeepError(
        errors.NOT_FOUND,
        f"{reference} is not in the catalog",
        "modelkeep sync brings the catalog up to date; modelkeep search finds what is there",
    )


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

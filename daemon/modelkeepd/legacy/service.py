"""Looks for a models.json at the start, takes it in once, and renames it.

The order is the promise: read, commit with a mark of its content, rename. Killed between the last
two, the next start finds the mark, imports nothing and renames. Whatever can't be imported is left
exactly as it is, with a warning that says what to do.
"""

import hashlib
import logging
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from modelkeepd import failpoints
from modelkeepd.legacy.models_json import MAX_BYTES, BrokenFile, Entry, read_entries
from modelkeepd.legacy.units import FoundFile, Imported, import_models, report_broken
from modelkeepd.library.fingerprint import NotRegular, Stamp, open_regular
from modelkeepd.library.paths import to_text
from modelkeepd.store import Durability, Store, StoreError

log = logging.getLogger(__name__)

NAME = "models.json"
MIGRATED = "models.json.migrated"


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as it was read."""

    path: Path
    stamp: Stamp
    sha256: bytes
    entries: list[Entry]
    files: list[FoundFile]


class LegacyService:
    """Runs after the library, so that its roots are known. Ready at once: nothing waits for it."""

    name = "legacy"
    essential = False

    def __init__(self, store: Store, folders: Sequence[Path]) -> None:
        self._store = store
        # a folder may be named twice: settings and state share one on some systems
        self._folders = tuple(dict.fromkeys(folders))
        self.imported: Imported | None = None
        self.warnings: list[str] = []
        self.looked = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Import what is there, then have nothing to do."""
        self.warnings = []
        task_status.started()
        for folder in self._folders:
            await self._take_in(folder / NAME)
        self.looked.set()
        await trio.sleep_forever()

    async def _take_in(self, path: Path) -> None:
        done: Imported | None = None
        try:
            # the paths in it may be on a disk that hangs: stopping does not wait for that
            read = await trio.to_thread.run_sync(_read, path, abandon_on_cancel=True)
            if read is None:
                return
            self.imported = done = await self._store.apply(
                partial(
                    import_models,
                    path=to_text(str(path)),
                    size_bytes=read.stamp.size_bytes,
                    sha256=read.sha256,
                    entries=read.entries,
                    files=read.files,
                ),
                durability=Durability.FULL,
                name="legacy.import",
            )
            failpoints.hit("legacy.before_rename")
            await trio.to_thread.run_sync(_set_aside, read)
            failpoints.hit("legacy.after_rename")
        except BrokenFile as exc:
            await self._leave(path, str(exc))
            return
        except StoreError as exc:
            self._warn(f"{path} could not be imported: {exc}; it is tried again at the next start")
            return
        except OSError as exc:
            self._warn(
                f"{path} was imported and can't be renamed: {exc}; rename it to {MIGRATED}"
                if done is not None
                else f"{path} can't be read: {exc}; it is tried again at the next start"
            )
            return
        log.info(
            "models.json imported",
            extra={
                "facts": {
                    "path": str(path), "entries": done.entries, "odd": done.odd,
                    "linked": done.linked, "files": done.files, "again": done.again,
                }
            },
        )  # fmt: skip
        if done.odd:
            self._warn(
                f"{done.odd} of {done.entries} entries of {path} have fields that could not be"
                f" read; they are kept as they were, also in {MIGRATED}"
            )

    async def _leave(self, path: Path, why: str) -> None:
        self._warn(
            f"{path} was not imported: {why}. It was left as it is; mend it and restart, or"
            f" rename it to {MIGRATED} to do without it"
        )
        try:
            await self._store.apply(
                partial(report_broken, path=to_text(str(path)), why=why),
                durability=Durability.NORMAL,
                name="legacy.report",
            )
        except StoreError as exc:
            log.warning("store", extra={"facts": {"error": str(exc)}})

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        log.warning("models.json", extra={"facts": {"warning": text}})


def _read(path: Path) -> _Read | None:
    """The file, read whole; None when there is none to import. Raises BrokenFile, OSError."""
    if not os.path.lexists(path):
        return None
    if os.path.lexists(path.with_name(MIGRATED)):
        log.info("models.json is passed over", extra={"facts": {"beside": MIGRATED}})
        return None
    if path.is_symlink():
        raise BrokenFile("it is a link; put the file itself there")
    try:
        with open_regular(str(path)) as handle:
            stamp = Stamp.of(os.fstat(handle))
            data = _whole(handle)
    except NotRegular as exc:
        raise BrokenFile("it is no regular file") from exc
    entries = read_entries(data)
    return _Read(path, stamp, hashlib.sha256(data).digest(), entries, list(_files(entries)))


def _whole(handle: int) -> bytes:
    """All of a small file; of a larger one so much that its size is seen."""
    parts: list[bytes] = []
    left = MAX_BYTES + 1
    while left > 0 and (part := os.read(handle, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _files(entries: Sequence[Entry]) -> "dict[FoundFile, None]":
    """The regular files that entries name by whole paths, and artifacts in the folders named."""
    found: dict[FoundFile, None] = {}
    for entry in entries:
        if entry.path is None:
            continue
        try:
            place = Path(entry.path).expanduser()
            if not place.is_absolute():
                entry.trouble.append("path is not absolute")
                continue
            # links resolved, as the library does: both must call a file by one name
            place = Path(os.path.realpath(place))
            entry.path = to_text(str(place))
            wanted = [place]
            if place.is_dir():
                wanted = [place / name for name in entry.artifacts if _is_inside(name)]
        except (OSError, ValueError, RuntimeError):
            continue  # no path at all: the entry says what stood there
        for file in wanted:
            with suppress(OSError, ValueError):  # not there
                status = os.lstat(file)
                if stat.S_ISREG(status.st_mode):
                    found[FoundFile(to_text(str(file)), Stamp.of(status))] = None
    return found


def _is_inside(name: str) -> bool:
    parts = Path(name).parts
    return bool(parts) and not Path(name).is_absolute() and ".." not in parts


def _set_aside(read: _Read) -> None:
    """Rename what was read, if it is still that. Raises OSError."""
    if Stamp.of(os.lstat(read.path)) != read.stamp:
        log.warning("models.json changed while it was imported; the next start looks again")
        return
    aside = read.path.with_name(MIGRATED)
    if os.path.lexists(aside):
        raise FileExistsError(f"{aside} exists")
    read.path.rename(aside)
    folder = os.open(read.path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""Where wanted files are to go, decided before they are queued.

Owns the type's folder, the folder of a repository in it, the names in that folder, and whether a
file lies at its place already. What is planned holds no links, so that no later step follows one.
Only looks at the disk; makes nothing.
"""

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import apsw
import trio

from modelkeepd.store import Store
from modelkeepd.transfer.digests import git_sha1
from modelkeepd.transfer.errors import DestinationRefused
from modelkeepd.transfer.links import real_place
from modelkeepd.transfer.names import MAX_NAME_BYTES, safe_name
from modelkeepd.transfer.place import check_root
from modelkeepd.transfer.ports import Ports, TransferSettings
from modelkeepd.transfer.wanted import WantedFile

_MARK_CHARACTERS = 10
_COMMIT_CHARACTERS = 12
# a repository's folders below this depth are one: paths must stay usable everywhere
_MAX_DEPTH = 12
# plain files of a git repository are small; hashing them costs less than asking
_MOST_HASHED_BYTES = 64 << 20

T = TypeVar("T")
Known = Mapping[str, bytes]  # sha256 by path, as the library has it


@dataclass(frozen=True, slots=True)
class Place:
    """``root/folder/name``, without links. ``holds``: this very content is there already."""

    root: Path
    folder: PurePosixPath
    name: str
    in_place: bool = False
    holds: bool = False

    @property
    def path(self) -> str:
        return str(self.root / self.folder / self.name)


class Places:
    """Plans places; made once by the service."""

    def __init__(
        self, store: Store, settings: TransferSettings, ports: Ports, disk: trio.CapacityLimiter
    ) -> None:
        self._store = store
        self._settings = settings
        self._ports = ports
        self._disk = disk

    async def plan(self, wanted: Sequence[WantedFile]) -> dict[WantedFile, Place]:
        """A place for each; raises DestinationOffline or DestinationRefused when one can't be."""
        roots = [Path(path) for path in await self._store.read(self._ports.roots)]
        files = list(dict.fromkeys(wanted))
        folders = await self._thread(partial(self._folders, files, roots))
        places = {file: Place(*folders[file], _wished_name(file)) for file in files}
        groups: dict[tuple[Path, PurePosixPath, str], list[WantedFile]] = defaultdict(list)
        for file in files:
            if file.repository:
                groups[(*folders[file], file.repository)].append(file)
        for (root, folder, repository), members in groups.items():
            places |= await self._repository(root, folder, repository, members)
        return places

    def _folders(
        self, files: Sequence[WantedFile], roots: Sequence[Path]
    ) -> dict[WantedFile, tuple[Path, PurePosixPath]]:
        """Root and folder of each file's type; blocks."""
        layout: str | None = None
        known: dict[tuple[Path, PurePosixPath], tuple[Path, PurePosixPath]] = {}
        folders: dict[WantedFile, tuple[Path, PurePosixPath]] = {}
        for file in files:
            if file.to is not None:
                # whoever names a folder means where its links lead; the library knows it by that
                asked = Path(os.path.realpath(file.to)), PurePosixPath()
            else:
                root = self._root()
                layout = layout or self._layout(root)
                kinds = file.model_type, file.file_kind, file.base_model
                asked = root, self._ports.folder_for(layout, *kinds)
            if asked not in known:
                known[asked] = real_place(*asked, roots)
                check_root(known[asked][0])
            folders[file] = known[asked]
        return folders

    def _root(self) -> Path:
        root = self._settings.root
        if root is None:
            raise DestinationRefused(
                "no destination is configured",
                "set transfer.root in config.toml, or name a folder with --to",
            )
        return root

    def _layout(self, root: Path) -> str:
        if self._settings.layout != "auto":
            return self._settings.layout
        check_root(root)
        return self._ports.detect_layout([entry.name for entry in root.iterdir()])

    async def _repository(
        self, root: Path, folder: PurePosixPath, repository: str, files: Sequence[WantedFile]
    ) -> dict[WantedFile, Place]:
        """One folder for all; another one for this commit when files of another are in the way."""
        home = folder_name(repository)
        revision = files[0].revision or ""
        for name in (home, safe_name(f"{home}@{revision[:_COMMIT_CHARACTERS]}")):
            places = {
                file: Place(root, folder / name, path_in_folder(file.name), in_place=True)
                for file in files
            }
            known = await self._store.read(partial(self._content, places=list(places.values())))
            states = await self._thread(partial(_compare, places, known))
            if all(state is not False for state in states.values()):
                break
        return {
            file: Place(root, place.folder, place.name, in_place=True, holds=bool(states[file]))
            for file, place in places.items()
        }

    def _content(self, db: apsw.Connection, places: Sequence[Place]) -> Known:
        found = {place.path: self._ports.content_at(db, place.path) for place in places}
        return {path: sha256 for path, sha256 in found.items() if sha256 is not None}

    async def _thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._disk)


def folder_name(repository: str) -> str:
    """One component for ``org/name``; two repositories never share one."""
    plain = repository.replace("/", "--")
    safe = safe_name(plain)
    if safe == plain:
        return safe
    # changed or shortened: a mark of the whole name keeps it apart from its neighbors
    mark = hashlib.sha256(repository.encode("utf-8", "surrogatepass")).hexdigest()
    cut = safe.encode()[: MAX_NAME_BYTES - _MARK_CHARACTERS - 1].decode("utf-8", "ignore")
    return safe_name(f"{cut}-{mark[:_MARK_CHARACTERS]}")


def path_in_folder(path: str) -> str:
    """A repository's path with each component made safe; never absolute, never upward."""
    parts = path.split("/")
    if len(parts) > _MAX_DEPTH:
        parts = [*parts[: _MAX_DEPTH - 2], "_".join(parts[_MAX_DEPTH - 2 : -1]), parts[-1]]
    return "/".join(safe_name(part) for part in parts)


def _wished_name(file: WantedFile) -> str:
    return safe_name(file.save_as or file.name)


def _compare(places: Mapping[WantedFile, Place], known: Known) -> dict[WantedFile, bool | None]:
    return {file: _holds(file, place, known) for file, place in places.items()}


def _holds(file: WantedFile, place: Place, known: Known) -> bool | None:
    """Whether the very content is there; None when nothing is, or it can't be told."""
    try:
        found = os.lstat(place.path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    if file.size_bytes is not None and found.st_size != file.size_bytes:
        return False
    if file.sha256 is not None:
        sha256 = known.get(place.path)
        return None if sha256 is None else sha256 == file.sha256
    if file.git_sha1 is None or found.st_size > _MOST_HASHED_BYTES:
        return None
    try:
        opened = os.open(place.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(opened, "rb") as content:
            return git_sha1(content.read(found.st_size + 1)) == file.git_sha1
    except OSError:
        return None

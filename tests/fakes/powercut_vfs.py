"""An SQLite VFS that logs what is asked of the disk, and rebuilds disks as a power cut leaves them.

The files exist on the real disk too, so WAL with its shared memory works as ever. What counts is
the log: of each file all that was written before its last sync is kept, of what came later a
random part, some of it torn at 512 bytes. Folder entries have their own rules: a new journal or
WAL syncs its folder at its first sync, as SQLite's unix VFS does.

The same VFS lets a test fail any single call.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import apsw

SECTOR_BYTES = 512
LOGGED = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL
SYNC_FOLDER_ONCE = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL

Disk = dict[str, bytes]
"""File contents by name."""


@dataclass(frozen=True, slots=True)
class Write:
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    inode: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Sync:
    inode: int
    folder: bool


@dataclass(frozen=True, slots=True)
class Link:
    """A file appears under a name."""

    name: str
    inode: int


@dataclass(frozen=True, slots=True)
class Unlink:
    name: str
    synced: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """What the workload knows at this point: a unit was acknowledged, the store was stopped."""

    fact: object


Op = Write | Truncate | Sync | Link | Unlink | Mark


class PowerCutVFS(apsw.VFS):
    """Logs the writes, truncations, syncs and deletions of the databases in one folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log: list[Op] = []
        # called with the method's name before each logged call; what it raises is the disk's answer
        self.before_call: Callable[[str], None] | None = None
        self.before_read: Callable[[str], None] | None = None
        self._inodes: dict[str, int] = {}
        self._made = 0
        for path in sorted(folder.iterdir()):
            inode = self._new_inode(path.name)
            self.log += [Write(inode, 0, path.read_bytes()), Sync(inode, folder=True)]
        # a cut before this point is no disk that ever was
        self.first_cut = len(self.log)
        super().__init__(name, "")

    def mark(self, fact: object) -> None:
        """Note a fact at this point of the log."""
        self.log.append(Mark(fact))

    def syncs(self, suffix: str) -> int:
        """How often files whose name ends so were synced since the VFS was made."""
        files = {op.inode for op in self.log if isinstance(op, Link) and op.name.endswith(suffix)}
        later = self.log[self.first_cut :]
        return sum(isinstance(op, Sync) and op.inode in files for op in later)

    def call(self, method: str) -> None:
        if self.before_call is not None:
            self.before_call(method)

    def _new_inode(self, name: str) -> int:
        self._inodes[name] = self._made
        self.log.append(Link(name, self._made))
        self._made += 1
        return self._inodes[name]

    def xOpen(  # noqa: N802
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        if name is None or not flags[0] & LOGGED:
            return apsw.VFSFile("", name, flags)
        self.call("xOpen")
        path = Path(name if isinstance(name, str) else name.filename())
        fresh = not path.exists()
        opened = _LoggedFile(self, name, flags)
        if fresh:
            opened.inode = self._new_inode(path.name)
            opened.folder_is_dirty = bool(flags[0] & SYNC_FOLDER_ONCE)
        else:
            opened.inode = self._inodes[path.name]
        return opened

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.call("xDelete")
        super().xDelete(filename, False)
        name = Path(filename).name
        del self._inodes[name]
        self.log.append(Unlink(name, syncdir))


class _LoggedFile(apsw.VFSFile):
    inode: int
    folder_is_dirty = False

    def __init__(
        self, vfs: PowerCutVFS, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__("", name, flags)
        self._vfs = vfs

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        if self._vfs.before_read is not None:
            self._vfs.before_read("xRead")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._vfs.call("xWrite")
        super().xWrite(data, offset)
        self._vfs.log.append(Write(self.inode, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._vfs.call("xTruncate")
        super().xTruncate(newsize)
        self._vfs.log.append(Truncate(self.inode, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._vfs.call("xSync")
        # not passed on: only the log decides what a power cut leaves
        self._vfs.log.append(Sync(self.inode, self.folder_is_dirty))
        self.folder_is_dirty = False


class Platters:
    """What is on the disk for good and what is on its way, as a log is played back."""

    def __init__(self) -> None:
        self._kept: dict[int, bytearray] = {}
        self._pending: dict[int, list[Write | Truncate]] = {}
        self._names: dict[str, int] = {}
        self._pending_names: list[Link | Unlink] = []

    def play(self, op: Op) -> None:
        """The next thing that was asked of the disk."""
        match op:
            case Write() | Truncate():
                self._pending[op.inode].append(op)
            case Sync():
                for pending in self._pending[op.inode]:
                    _apply(self._kept[op.inode], pending)
                self._pending[op.inode].clear()
                if op.folder:
                    self._sync_folder()
            case Link():
                self._kept[op.inode] = bytearray()
                self._pending[op.inode] = []
                self._pending_names.append(op)
            case Unlink():
                self._pending_names.append(op)
                if op.synced:
                    self._sync_folder()
            case Mark():
                pass

    def _sync_folder(self) -> None:
        for pending in self._pending_names:
            _rename(self._names, pending)
        self._pending_names.clear()

    def after_kill(self) -> Disk:
        """The disk after the process was killed here: the system still writes everything."""
        return self._disk(lambda op: [op], lambda _: True)

    def after_power_cut(self, rng: random.Random) -> Disk:
        """One of the disks a power cut here may leave."""
        kept = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        torn = rng.choice((0.0, 0.2, 1.0))

        def survivors(op: Write | Truncate) -> Iterable[Write | Truncate]:
            if rng.random() >= kept:
                return ()
            if isinstance(op, Write) and rng.random() < torn:
                return _tear(op, rng)
            return (op,)

        return self._disk(survivors, lambda _: rng.random() < kept)

    def _disk(
        self,
        survivors: Callable[[Write | Truncate], Iterable[Write | Truncate]],
        survives: Callable[[Link | Unlink], bool],
    ) -> Disk:
        names = dict(self._names)
        for change in self._pending_names:
            if survives(change):
                _rename(names, change)
        disk = {}
        for name, inode in names.items():
            content = bytearray(self._kept[inode])
            for op in self._pending[inode]:
                for part in survivors(op):
                    _apply(content, part)
            disk[name] = bytes(content)
        return disk


def _apply(content: bytearray, op: Write | Truncate) -> None:
    if isinstance(op, Truncate):
        del content[op.size_bytes :]
        content.extend(bytes(op.size_bytes - len(content)))
        return
    if op.offset > len(content):
        content.extend(bytes(op.offset - len(content)))
    content[op.offset : op.offset + len(op.data)] = op.data


def _rename(names: dict[str, int], change: Link | Unlink) -> None:
    if isinstance(change, Link):
        names[change.name] = change.inode
    else:
        names.pop(change.name, None)


def _tear(op: Write, rng: random.Random) -> Iterable[Write]:
    """Some of the sectors of a write, and now and then one full of noise."""
    end = op.offset + len(op.data)
    start = op.offset
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        dice = rng.random()
        if dice < 0.5:
            yield Write(op.inode, start, op.data[start - op.offset : stop - op.offset])
        elif dice < 0.55:
            yield Write(op.inode, start, rng.randbytes(stop - start))
        start = stop


def write_disk(disk: Disk, folder: Path) -> None:
    """Put the files of ``disk`` into ``folder``, which must be empty."""
    for name, content in disk.items():
        (folder / name).write_bytes(content)

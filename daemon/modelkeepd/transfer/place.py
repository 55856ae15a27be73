"""The destination: folders reached without following links, and the one moment of publishing.

Owns the hidden work folder (``ROOT/.modelkeep``: ``parts``, ``quarantine``), the walk from the
root to the folder of a file, and the rename that never replaces anything. Methods block and run
in threads. The root itself is never made: a root that is missing is a volume that is not mounted.
"""

import contextlib
import ctypes
import errno
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from modelkeepd import failpoints
from modelkeepd.transfer.errors import (
    DestinationOffline,
    DestinationRefused,
    TransferError,
    disk_error,
)
from modelkeepd.transfer.names import fold
from modelkeepd.transfer.part import Identity, PartFile

WORK_FOLDER = ".modelkeep"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class NameTaken(Exception):
    """Something of that name is there already: choose another."""


# held from the look at a folder's names until ours is among them
_publishing = threading.Lock()


class Destination:
    """An open root with the folder a file will go to and the folder of its part."""

    def __init__(self, root: Path, folder: PurePosixPath) -> None:
        self.root, self.folder = root, folder
        self._fds: list[int] = []
        try:
            self._root_fd = self._keep(_open_root(root))
            self._folder_fd = self._keep(_walk(self._root_fd, root, folder, make=True))
            # A folder that is another volume (a bind mount) needs its work folder on that volume.
            same_volume = os.fstat(self._folder_fd).st_dev == os.fstat(self._root_fd).st_dev
            home = PurePosixPath() if same_volume else folder
            self._work = root / home / WORK_FOLDER
            self._home_fd = self._root_fd if same_volume else self._folder_fd
            self.parts_fd = self._keep(
                _walk(self._home_fd, root / home, PurePosixPath(WORK_FOLDER, "parts"), make=True)
            )
        except BaseException:
            self.close()
            raise

    def _keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def __enter__(self) -> "Destination":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def path_of(self, name: str) -> Path:
        return self.root / self.folder / name

    def taken(self) -> set[str]:
        """The folded names in the folder."""
        with os.scandir(self._folder_fd) as entries:
            return {fold(entry.name) for entry in entries}

    def publish(self, part: PartFile, name: str, identity: Identity) -> Identity:
        """Rename the verified part to its name, durably. Raises NameTaken, never replaces.

        A name that differs from another only by case or Unicode form counts as taken.
        """
        part.check_still(identity)
        self._check_still()
        try:
            # two jobs may have chosen their names before either was there
            with _publishing:
                if fold(name) in self.taken():
                    raise NameTaken(name)
                failpoints.hit("transfer.before_rename")
                rename_new(self.parts_fd, part.name + ".part", self._folder_fd, name)
            failpoints.hit("transfer.after_rename")
            failpoints.hit("transfer.before_folder_fsync")
            os.fsync(self._folder_fd)
            os.fsync(self.parts_fd)
            failpoints.hit("transfer.after_folder_fsync")
        except FileExistsError:
            raise NameTaken(name) from None
        except OSError as error:
            raise disk_error(error) from error
        part.forget_map()
        return part.identity()

    def sync_folder(self) -> None:
        """Before the library learns of a file whose rename a former run may not have synced."""
        os.fsync(self._folder_fd)

    def find(self, name: str) -> Identity | None:
        """What lies under that name in the folder, if it is a plain file."""
        try:
            found = os.stat(name, dir_fd=self._folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def quarantine_path(self, part_name: str, shown_name: str) -> Path:
        """Where ``quarantine`` moves this part."""
        return self._work / "quarantine" / f"{shown_name}.{part_name[-8:]}.quarantined"

    def quarantine(self, part_name: str, shown_name: str) -> None:
        """Move a part where nothing loads it; repeatable."""
        target = self.quarantine_path(part_name, shown_name)
        folder = PurePosixPath(WORK_FOLDER, "quarantine")
        fd = _walk(self._home_fd, self._work.parent, folder, make=True)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.chmod(part_name + ".part", 0o600, dir_fd=self.parts_fd)
                os.rename(part_name + ".part", target.name, src_dir_fd=self.parts_fd, dst_dir_fd=fd)
                os.fsync(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part_name + ".map", dir_fd=self.parts_fd)
        finally:
            os.close(fd)

    def _check_still(self) -> None:
        """The path leads to the folder we hold: nobody swapped it for a link meanwhile."""
        root_fd = _open_root(self.root)
        try:
            fd = _walk(root_fd, self.root, self.folder, make=False)
            try:
                now, held = os.fstat(fd), os.fstat(self._folder_fd)
            finally:
                os.close(fd)
        finally:
            os.close(root_fd)
        if (now.st_dev, now.st_ino) != (held.st_dev, held.st_ino):
            raise DestinationRefused(
                f"the folder {self.root / self.folder} was replaced during the download",
                "retry the job to use the new folder",
            )


@contextlib.contextmanager
def open_root(root: Path) -> Iterator[int]:
    """A descriptor of the root; raises DestinationOffline or DestinationRefused."""
    fd = _open_root(root)
    try:
        yield fd
    finally:
        os.close(fd)


def check_root(root: Path) -> None:
    """Raises what would stop every download into this root, before one is queued."""
    with open_root(root) as fd:
        if os.fstatvfs(fd).f_flag & os.ST_RDONLY or not os.access(root, os.W_OK | os.X_OK):
            raise DestinationRefused(
                f"{root} is read-only for this user", "choose another transfer.root, or mend it"
            )


def _open_root(root: Path) -> int:
    try:
        return os.open(root, _FOLDER)
    except FileNotFoundError:
        raise DestinationOffline(
            f"the destination {root} is not there", "mount its volume or make the folder"
        ) from None
    except OSError as error:
        raise _folder_error(error, root) from error


def _walk(start_fd: int, start: Path, folder: PurePosixPath, *, make: bool) -> int:
    """Open ``folder`` below ``start_fd`` one component at a time, following no link."""
    fd, where = os.dup(start_fd), start
    try:
        for component in folder.parts:
            if component in ("/", "..", "."):
                raise DestinationRefused(f"the folder {folder} leaves the root")
            where = where / component
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(component, 0o700 if component == WORK_FOLDER else 0o777, dir_fd=fd)
            below = os.open(component, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
    except OSError as error:
        os.close(fd)
        raise _folder_error(error, where) from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def _folder_error(error: OSError, where: Path) -> TransferError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return DestinationRefused(
            f"{where} is a link or not a folder", "name the real folder as the destination"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DestinationRefused(
            f"{where} is not writable ({error.strerror})", "mend its permissions or the mount"
        )
    if error.errno in (errno.ENOENT, errno.ESTALE, errno.ENODEV, errno.ENOTCONN):
        return DestinationOffline(f"{where} is not there", "is its volume mounted?")
    return disk_error(error)


# A rename that never replaces ------------------------------------------------------------------

_RENAME_NOREPLACE = 1
_RENAME_EXCL = 4
_NOT_KNOWN = frozenset([errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])


def rename_new(from_fd: int, from_name: str, to_fd: int, to_name: str) -> None:
    """Move within one volume; raises FileExistsError when the name is taken."""
    if _rename_exclusive(from_fd, from_name, to_fd, to_name):
        return
    try:
        os.link(from_name, to_name, src_dir_fd=from_fd, dst_dir_fd=to_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
    else:
        os.unlink(from_name, dir_fd=from_fd)
        return
    # Neither (exFAT): take the name with an empty file of ours, then rename over that.
    os.close(os.open(to_name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=to_fd))
    os.rename(from_name, to_name, src_dir_fd=from_fd, dst_dir_fd=to_fd)


def _rename_exclusive(from_fd: int, from_name: str, to_fd: int, to_name: str) -> bool:
    """By the system's own call; False where it, or this file system, has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "renameat2" if sys.platform == "linux" else "renameatx_np", None)
    if call is None:
        return False
    flag = _RENAME_NOREPLACE if sys.platform == "linux" else _RENAME_EXCL
    if call(from_fd, os.fsencode(from_name), to_fd, os.fsencode(to_name), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_KNOWN:
        return False
    raise OSError(code, os.strerror(code), to_name)

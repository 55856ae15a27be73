"""The part file: bytes on their way, hashed while they are written.

Owns one open part file and its segment map. It is the sink of fetches; its methods block and run
in threads. The running hashes follow the gapless front of the file: bytes that come in order are
hashed from memory, everything else (a resumed prefix, a segment fetched early) is read back once,
because the state of a running hash cannot be saved. Refuses links, foreign files and files that
another process holds.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from modelkeepd import failpoints
from modelkeepd.transfer.digests import Digests
from modelkeepd.transfer.errors import NoSpace, PartBusy, PartLost, TransferError, disk_error
from modelkeepd.transfer.response import Accepted, Validator
from modelkeepd.transfer.segments import (
    SegmentMap,
    add_range,
    boot_id,
    clip,
    frontier,
    read_map,
    write_map,
)

MAP_EVERY_BYTES = 4 * 1024 * 1024
SPACE_EVERY_BYTES = 16 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Identity:
    """The very file, at one moment."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int


class PartFile:
    """Open with ``PartFile.open``; close always; ``unlink`` or publish ends its life."""

    def __init__(self, folder_fd: int, name: str, fd: int, map_fd: int, reserve_bytes: int) -> None:
        self.folder_fd = folder_fd
        self.name = name
        self.fd = fd
        self._map_fd = map_fd
        self._reserve = reserve_bytes
        self._lock = threading.Lock()
        self._map = SegmentMap()
        self._digests = Digests()
        self._wants_git = False
        self._since_map = 0
        self._since_space = 0
        self._restarts = 0
        self.poisoned = False

    @classmethod
    def open(cls, folder_fd: int, name: str, *, reserve_bytes: int = 0) -> "PartFile":
        """Create it, or continue what a former run left under this name."""
        fd = _open_own(folder_fd, name + ".part")
        try:
            map_fd = _open_own(folder_fd, name + ".map")
        except BaseException:
            os.close(fd)
            raise
        part = cls(folder_fd, name, fd, map_fd, reserve_bytes)
        try:
            part._load()
        except BaseException:
            part.close()
            raise
        return part

    def _load(self) -> None:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise PartBusy("another process is writing this download") from None
            # Some network file systems know no locks; the name is ours alone all the same.
        state = read_map(self._map_fd)
        same_boot = bool(state.boot) and state.boot == boot_id()
        size = os.fstat(self.fd).st_size
        held = clip(state.written if same_boot else state.durable, size)
        self._map = SegmentMap(
            state.validator, state.total_bytes, held, list(held), boot_id(), state.generation
        )

    # What is there ------------------------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """The gapless front: where a resumed fetch starts."""
        with self._lock:
            return frontier(self._map.written)

    @property
    def validator(self) -> Validator | None:
        return self._map.validator

    @property
    def total_bytes(self) -> int | None:
        """The whole length, as the source of the held bytes announced it."""
        return self._map.total_bytes

    def identity(self) -> Identity:
        found = os.fstat(self.fd)
        return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def want_git(self, total_bytes: int | None) -> None:
        """Hash as git does as well; the length, once an answer tells it, if it is not known yet."""
        self._wants_git = True
        if total_bytes is not None:
            self._hash_as_git(total_bytes)

    def _hash_as_git(self, total_bytes: int) -> None:
        if self._wants_git and self._digests.git_bytes != total_bytes:
            self._digests = Digests(total_bytes)

    # The sink -----------------------------------------------------------------------------

    def begin(self, accepted: Accepted) -> None:
        """The answer's first byte is due: whose it is, and room for all of them."""
        if accepted.restarted:
            self.restart()
        if accepted.total is not None:
            self.reserve(accepted.total)
            self._hash_as_git(accepted.total)
        with self._lock:
            self._map.validator, self._map.total_bytes = accepted.validator, accepted.total
            self._save()

    def restart(self) -> None:
        """Forget everything: the file remote or local is not what it was."""
        with self._lock:
            self._restarts += 1
            self._map.written, self._map.durable = [], []
            self._map.validator, self._map.total_bytes = None, None
            self._digests = Digests(self._digests.git_bytes)
            self._save()

    def write(self, position: int, data: memoryview) -> None:
        self._room_for(len(data))
        view, at = data, position
        while view:
            done = os.pwrite(self.fd, view, at)
            view, at = view[done:], at + done
        if position == self._digests.hashed:
            self._digests.update(data)
        with self._lock:
            self._map.written = add_range(self._map.written, position, at)
            self._since_map += len(data)
            if self._since_map >= MAP_EVERY_BYTES:
                self._save()
        failpoints.hit("transfer.after_write")

    def _room_for(self, size: int) -> None:
        # A file of announced length was preallocated; for the others look now and then.
        if self._map.total_bytes is not None:
            return
        self._since_space += size
        if self._since_space >= SPACE_EVERY_BYTES:
            self._since_space = 0
            check_space(self.fd, size, self._reserve)

    def _save(self) -> None:
        self._since_map = 0
        write_map(self._map_fd, self._map)

    # Between ------------------------------------------------------------------------------

    def reserve(self, total_bytes: int) -> None:
        """Room for the whole file, now; raises NoSpace saying how much is missing."""
        allocated = os.fstat(self.fd).st_blocks * 512
        check_space(self.fd, max(0, total_bytes - allocated), self._reserve)
        try:
            if allocated < total_bytes:
                _preallocate(self.fd, total_bytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(
                    f"the destination volume has no room for {total_bytes} bytes",
                    "free some space; it resumes by itself",
                    needed_bytes=total_bytes - allocated,
                ) from None
            raise disk_error(error) from error

    def catch_up(self, check_canceled: Callable[[], None]) -> None:
        """Hash by reading what is there and was not hashed from memory."""
        digests = self._digests
        while (end := self.held_bytes) > digests.hashed:
            check_canceled()
            try:
                data = os.pread(self.fd, min(_READ_BYTES, end - digests.hashed), digests.hashed)
            except OSError as error:
                self.poisoned = True
                raise disk_error(error) from error
            if not data:
                raise PartLost("the part file became shorter under us", "starting anew")
            digests.update(data)
        with self._lock:
            self._save()

    def checkpoint(self) -> None:
        """Make what is written durable and remember that it is."""
        with self._lock:
            written, restarts = list(self._map.written), self._restarts
        self._sync(os.fdatasync if hasattr(os, "fdatasync") else os.fsync)
        with self._lock:
            if restarts == self._restarts:
                self._map.durable = written
            self._save()

    def park(self) -> None:
        """Before leaving it for later: remember every byte that is there."""
        if not self.poisoned:
            with contextlib.suppress(TransferError, OSError):
                self.checkpoint()

    # The end ------------------------------------------------------------------------------

    def finish(self, total_bytes: int) -> bytes:
        """Cut to length, sync, and the sha256 of the whole; every byte must be there."""
        if self.held_bytes < total_bytes or self._digests.hashed < total_bytes:
            raise PartLost(f"the part file holds {self.held_bytes} of {total_bytes} bytes")
        try:
            if os.fstat(self.fd).st_size != total_bytes:
                os.ftruncate(self.fd, total_bytes)
        except OSError as error:
            raise disk_error(error) from error
        failpoints.hit("transfer.before_file_fsync")
        self._sync(os.fsync)
        failpoints.hit("transfer.after_file_fsync")
        with self._lock:
            self._map.durable = list(self._map.written)
            self._save()
        if self._wants_git and self._digests.git_bytes != total_bytes:
            # no answer told the length: now it is known, and the file is a small one
            self._hash_as_git(total_bytes)
            self.catch_up(lambda: None)
        return self._digests.sha256

    @property
    def git_sha1(self) -> bytes | None:
        """After ``finish``, where it was wanted."""
        return self._digests.git_sha1

    def _sync(self, sync: Callable[[int], None]) -> None:
        try:
            sync(self.fd)
        except OSError as error:
            # After a failed sync the kernel may have dropped the pages: never trust this file.
            self.poisoned = True
            raise disk_error(error) from error

    def check_still(self, identity: Identity) -> None:
        """The open file is what it was, and the name still leads to it."""
        if self.identity() != identity:
            raise PartLost("the part file changed after it was verified", "starting anew")
        try:
            named = os.stat(self.name + ".part", dir_fd=self.folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            raise PartLost("the part file was removed under us", "starting anew") from None
        if (named.st_dev, named.st_ino) != (identity.device, identity.inode):
            raise PartLost("the part file was replaced under us", "starting anew")

    def forget_map(self) -> None:
        """The bytes have left for their place."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.name + ".map", dir_fd=self.folder_fd)

    def unlink(self) -> None:
        drop_part(self.folder_fd, self.name)

    def close(self) -> None:
        for fd in (self.fd, self._map_fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self._map_fd = -1


def drop_part(folder_fd: int, name: str) -> None:
    """Remove a part and its map; repeatable. The map goes last: it explains the part."""
    for suffix in (".part", ".map"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name + suffix, dir_fd=folder_fd)


def check_space(fd: int, needed_bytes: int, reserve_bytes: int) -> None:
    """Raises NoSpace when so many bytes more would leave less than the reserve."""
    free = free_bytes(fd)
    missing = needed_bytes + reserve_bytes - free
    if needed_bytes > 0 and missing > 0:
        raise NoSpace(
            f"the destination volume is {missing} bytes short: {needed_bytes} are needed, "
            f"{free} are free and {reserve_bytes} stay in reserve",
            "free some space; it resumes by itself",
            needed_bytes=needed_bytes,
        )


def free_bytes(fd: int) -> int:
    """What this user may still write to the volume."""
    volume = os.fstatvfs(fd)
    return volume.f_bavail * volume.f_frsize


def _open_own(folder_fd: int, name: str) -> int:
    try:
        return os.open(name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder_fd)
    except FileExistsError:
        pass
    except OSError as error:
        raise disk_error(error) from error
    try:
        fd = os.open(name, _FLAGS | os.O_NONBLOCK, dir_fd=folder_fd)
    except OSError as error:
        raise PartLost(f"{name} cannot be opened ({error.strerror}): is it a link?") from None
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(fd)
        raise PartLost(f"{name} is not a plain file of ours")
    return fd


def _preallocate(fd: int, total_bytes: int) -> None:
    # The C library's posix_fallocate writes zeros where the file system cannot reserve: minutes
    # on a USB stick. So the system call itself, and a sparse file where it is not known.
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        while libc.fallocate(fd, 0, 0, total_bytes) != 0:
            code = ctypes.get_errno()
            if code == errno.EINTR:
                continue
            if code in (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV):
                break
            raise OSError(code, os.strerror(code))
        else:
            return
    if os.fstat(fd).st_size < total_bytes:
        os.ftruncate(fd, total_bytes)

"""Reads files for what identifies them: a quick fingerprint, and the sha256 in one read.

Owns how a file is opened (never through a link, never anything but a regular file, so that a FIFO
cannot hang it) and what happens when it changes under the reader: the result is thrown away, not
kept. Plain synchronous functions for worker threads; `check` is called between chunks and may
raise to stop.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

EDGE_BYTES = 64 << 10
CHUNK_BYTES = 1 << 20
LOOK_BYTES = 256 << 20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotRegular(OSError):
    """The path names a link, a folder, a FIFO, a socket or a device."""


class ChangedWhileRead(Exception):
    """The file changed between the first and the last byte read; what was read means nothing."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What `stat` says of a file's identity and age, in the system's own unsigned numbers."""

    size_bytes: int
    mtime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


@dataclass(frozen=True, slots=True)
class Hashes:
    stamp: Stamp
    fingerprint: bytes
    sha256: bytes


@contextmanager
def open_regular(path: str) -> Iterator[int]:
    """A descriptor of the regular file at `path`. Raises NotRegular or OSError."""
    handle = os.open(path, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise NotRegular(f"{path!r} is not a regular file")
        yield handle
    finally:
        os.close(handle)


def quick_fingerprint(path: str) -> tuple[Stamp, bytes]:
    """The file's stamp and a digest of its size, head and tail: 128 KiB read, whatever its size."""
    with open_regular(path) as handle:
        stamp = Stamp.of(os.fstat(handle))
        return stamp, fingerprint_of(handle, stamp.size_bytes)


def fingerprint_of(handle: int, size_bytes: int) -> bytes:
    """The digest of an open file's size, head and tail."""
    head = _read_at(handle, 0, EDGE_BYTES)
    tail_at = max(len(head), size_bytes - EDGE_BYTES)
    tail = _read_at(handle, tail_at, size_bytes - tail_at)
    return _fingerprint(size_bytes, head, tail)


def _fingerprint(size_bytes: int, head: bytes, tail: bytes) -> bytes:
    digest = hashlib.blake2b(size_bytes.to_bytes(8, "little"), digest_size=16)
    digest.update(head)
    digest.update(tail)
    return digest.digest()


def _read_at(handle: int, offset: int, length: int) -> bytes:
    parts: list[bytes] = []
    while length > 0:
        part = os.pread(handle, length, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)


def _altered(handle: int, before: Stamp) -> bool:
    status = os.fstat(handle)
    return status.st_nlink == 0 or Stamp.of(status) != before


def read_hashes(path: str, check: Callable[[], None] = lambda: None) -> Hashes:
    """Fingerprint and sha256 of one file in one sequential read.

    Raises NotRegular, OSError, ChangedWhileRead, or whatever `check` raises.
    """
    with open_regular(path) as handle:
        before = Stamp.of(os.fstat(handle))
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        whole = hashlib.sha256()
        # One byte more than a small file needs, so that its growing is noticed.
        buffer = bytearray(min(CHUNK_BYTES, before.size_bytes + 1))
        view = memoryview(buffer)
        done = 0
        while count := os.readv(handle, [buffer]):
            check()
            whole.update(view[:count])
            done += count
            # Given up early when it grows, or is replaced or deleted, in the middle of a long read.
            if done > before.size_bytes or (done % LOOK_BYTES < count and _altered(handle, before)):
                raise ChangedWhileRead(f"{path!r} changed while it was read")
        head = _read_at(handle, 0, EDGE_BYTES)
        tail_at = max(len(head), before.size_bytes - EDGE_BYTES)
        tail = _read_at(handle, tail_at, before.size_bytes - tail_at)
        after = Stamp.of(os.fstat(handle))
        if before != after or done != before.size_bytes:
            raise ChangedWhileRead(f"{path!r} changed while it was read")
        return Hashes(before, _fingerprint(before.size_bytes, head, tail), whole.digest())

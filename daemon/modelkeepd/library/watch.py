"""Watches folders with watchdog and passes what it says on as hints.

Owns watchdog's observer, its threads and its silences: a lost event is only a line in its log, a
folder over the system's limit is not watched and nobody is told, a root that was replaced stays
silent. So the log is listened to, the watches that the kernel really holds are counted, and
threads are asked whether they live. Whether to poll instead is the service's decision.
"""

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Collection
from pathlib import Path

from watchdog import events
from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from modelkeepd.library import names
from modelkeepd.library.inbox import Inbox
from modelkeepd.library.paths import from_text, to_text

_EVENTS: list[type[FileSystemEvent]] = [
    *(FileCreatedEvent, FileModifiedEvent, FileDeletedEvent, FileMovedEvent, FileClosedEvent),
    *(DirCreatedEvent, DirDeletedEvent, DirMovedEvent),
]
if hasattr(events, "FileAttribEvent"):  # times set by hand; watchdog tells them apart from 7 on
    _EVENTS.append(events.FileAttribEvent)
_LIMIT_FILE = Path("/proc/sys/fs/inotify/max_user_watches")


class _Handler(FileSystemEventHandler):
    """Filters by name and puts hints in; runs on watchdog's thread."""

    def __init__(self, inbox: Inbox, root_id: int, root: str) -> None:
        self._inbox = inbox
        self._root_id = root_id
        self._root = root

    def dispatch(self, event: FileSystemEvent) -> None:
        closed = isinstance(event, FileClosedEvent)
        for raw in (event.src_path, event.dest_path):
            if raw:
                self._hint(to_text(os.fsdecode(raw)), event.is_directory, closed)

    def _hint(self, path: str, is_folder: bool, closed: bool) -> None:
        if names.skipped_on_the_way(self._root, path):
            return
        name = path.rpartition("/")[2]
        if is_folder:
            if path == self._root or names.enters(name):
                self._inbox.put(self._root_id, path)
        elif names.suffix(name) == "aria2":
            # the mark of an unfinished neighbor came or went
            self._inbox.put(self._root_id, path.removesuffix(".aria2"))
        elif names.is_model(name):
            self._inbox.put(self._root_id, path, closed=closed)


class _LogListener(logging.Handler):
    """Hears of lost events where watchdog tells of them: in its log."""

    def __init__(self, watcher: "Watcher") -> None:
        super().__init__(logging.WARNING)
        self._watcher = watcher

    def emit(self, record: logging.LogRecord) -> None:
        self._watcher.lost(f"the watcher lost events: {record.getMessage()}")


class Watcher:
    """All methods may block on the disk: call them in a worker thread."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._lock = threading.Lock()
        self._observer: BaseObserver | None = None
        self._watches: dict[int, ObservedWatch] = {}
        self._listener = _LogListener(self)
        logging.getLogger("watchdog.observers").addHandler(self._listener)

    def arm(self, root_id: int, path: str) -> str | None:
        """Watch a root; returns why it cannot be, None when it is."""
        with self._lock:
            self._disarm(root_id)
            try:
                if self._observer is None:
                    self._observer = Observer()
                    self._observer.start()
                self._watches[root_id] = self._observer.schedule(
                    _Handler(self._inbox, root_id, path),
                    from_text(path),
                    recursive=True,
                    event_filter=_EVENTS,
                )
            except OSError as error:
                return _explain(error)
        return None

    def disarm(self, root_id: int) -> None:
        with self._lock:
            self._disarm(root_id)

    def _disarm(self, root_id: int) -> None:
        watch = self._watches.pop(root_id, None)
        if watch is not None and self._observer is not None:
            with contextlib.suppress(KeyError, OSError):
                self._observer.unschedule(watch)

    def alive(self, root_id: int) -> bool:
        """Does the thread of this root's watch still run?"""
        with self._lock:
            watch = self._watches.get(root_id)
            observer = self._observer
            if watch is None or observer is None or not observer.is_alive():
                return False
            return any(each.watch == watch and each.is_alive() for each in observer.emitters)

    def lost(self, why: str) -> None:
        """Events may be missing: every watched root has to be walked."""
        for root_id in list(self._watches):
            self._inbox.mark_dirty(root_id, why)

    def stop(self) -> None:
        logging.getLogger("watchdog.observers").removeHandler(self._listener)
        with self._lock:
            observer, self._observer = self._observer, None
            self._watches.clear()
        if observer is not None:
            observer.stop()
            observer.join(2.0)


def _explain(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EMFILE):
        return f"the system's limit for watching folders is reached ({error.strerror})"
    return f"the folder cannot be watched ({error.strerror or error})"


def unwatched(folders: Collection[int]) -> int:
    """How many of these folders (inodes) the kernel does not watch for this process.

    0 where the system does not tell. The list is the kernel's own, so it also shows what was
    refused without a word.
    """
    watched: set[int] = set()
    try:
        for handle in Path("/proc/self/fd").iterdir():
            try:
                if str(handle.readlink()) != "anon_inode:inotify":
                    continue
                with (handle.parent.with_name("fdinfo") / handle.name).open() as lines:
                    for line in lines:
                        if line.startswith("inotify "):
                            watched.add(int(line.split(" ino:", 1)[1].split(" ", 1)[0], 16))
            except (OSError, IndexError, ValueError):
                continue
    except OSError:
        return 0
    return sum(1 for inode in folders if inode not in watched)


def shortage(missing: int, needed: int) -> str:
    """What to tell the user when the system's limit leaves folders unwatched."""
    try:
        limit = _LIMIT_FILE.read_text().strip()
    except OSError:
        limit = "unknown"
    return (
        f"{missing} of {needed} folders cannot be watched: the system allows {limit} watches."
        " Until then the folder is looked through regularly. To mend it, raise the limit:"
        f" sysctl fs.inotify.max_user_watches={max(needed * 2, 65_536)}"
    )


_REMOTE_TYPES = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"),
        *("fuse.sshfs", "fuse.rclone", "fuse.s3fs", "davfs", "fuse.davfs2", "vboxsf", "drvfs"),
    )
)


def without_events(path: str, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The type of a path's file system, if changes made elsewhere cause no events there."""
    best, kind = "", ""
    try:
        with mounts.open(encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                _, where, type_, *_ = line.split(" ")
                where = where.encode().decode("unicode_escape") if "\\" in where else where
                base = where.rstrip("/") + "/"
                if (path + "/").startswith(base) and len(base) >= len(best):
                    best, kind = base, type_
    except (OSError, ValueError):
        return None
    return kind if kind in _REMOTE_TYPES else None

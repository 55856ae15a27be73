"""The watches of all roots: which kind there is, whether they live, what they could not cover.

Owns the choice of the watcher and the words for its limits. Whether to poll instead is decided by
who asks. All methods may block on the disk: they are called in worker threads.
"""

import contextlib
import errno
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from modelkeepd.library.inbox import Inbox
from modelkeepd.library.paths import from_text

_LIMIT_FILE = Path("/proc/sys/fs/inotify/max_user_watches")
_REMOTE_TYPES = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"),
        *("fuse.sshfs", "fuse.rclone", "fuse.s3fs", "davfs", "fuse.davfs2", "vboxsf", "drvfs"),
    )
)


class Watch(Protocol):
    """One root's watch."""

    refused: set[bytes]

    @property
    def watched(self) -> int: ...
    def start(self, path: str) -> None: ...
    def alive(self) -> bool: ...
    def stop(self) -> None: ...


MakeWatch = Callable[[Inbox, int, str], Watch]


def system_watch(inbox: Inbox, root_id: int, root: str) -> Watch:
    """The watch for this system. Imported late: each needs what the other's system lacks."""
    if sys.platform == "linux":
        from modelkeepd.library.inotify import TreeWatch

        return TreeWatch(inbox, root_id, root)
    from modelkeepd.library.watchdog_watch import WatchdogWatch

    return WatchdogWatch(inbox, root_id, root)


class Watches:
    def __init__(self, inbox: Inbox, make: MakeWatch) -> None:
        self._inbox = inbox
        self._make = make
        self._lock = threading.Lock()
        self._watches: dict[int, Watch] = {}

    def arm(self, root_id: int, root: str) -> str | None:
        """Watch a root (text), anew if it was; returns why it is not or not wholly watched."""
        with self._lock:
            self._disarm(root_id)
            watch = self._make(self._inbox, root_id, root)
            try:
                watch.start(from_text(root))
            except OSError as error:
                watch.stop()
                return _explain(error)
            self._watches[root_id] = watch
        return self.shortage(root_id)

    def disarm(self, root_id: int) -> None:
        with self._lock:
            self._disarm(root_id)

    def _disarm(self, root_id: int) -> None:
        watch = self._watches.pop(root_id, None)
        if watch is not None:
            with contextlib.suppress(OSError):
                watch.stop()

    def alive(self, root_id: int) -> bool:
        watch = self._watches.get(root_id)
        return watch is not None and watch.alive()

    def shortage(self, root_id: int) -> str | None:
        """What to tell the user when the system's limit leaves folders of a root unwatched."""
        watch = self._watches.get(root_id)
        refused = len(watch.refused) if watch is not None else 0
        if watch is None or not refused:
            return None
        needed = watch.watched + refused
        try:
            limit = _LIMIT_FILE.read_text().strip()
        except OSError:
            limit = "too few"
        return (
            f"{refused} of {needed} folders cannot be watched: the system allows {limit} watches."
            " The folder is looked through regularly instead. To mend it, raise the limit:"
            f" sysctl fs.inotify.max_user_watches={max(needed * 2, 65_536)}"
        )

    def stop(self) -> None:
        with self._lock:
            for root_id in list(self._watches):
                self._disarm(root_id)


def _explain(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return (
            "the system's limit of watched folders is reached; the folder is looked through"
            " regularly instead. To mend it, raise the limit:"
            " sysctl fs.inotify.max_user_watches=524288"
        )
    if error.errno == errno.EMFILE:
        return (
            "the system's limit of watchers is reached; the folder is looked through regularly"
            " instead. To mend it, raise the limit: sysctl fs.inotify.max_user_instances=512"
        )
    return f"the folder cannot be watched ({error.strerror or error}); it is looked through"


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

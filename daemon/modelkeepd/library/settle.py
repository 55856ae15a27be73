"""Decides when a file that changed is quiet enough to be looked at. Pure: the clock is handed in.

A file is ready when its size and time have stayed the same for a while: a short one after its
writer closed it, none at all if its time says that it has long been at rest (it was moved here).
A file that keeps growing is asked after less and less often, never hashed. A vanished path waits
a moment too, so that its new name can arrive first and the two be told as one move.
"""

import enum
import heapq
from dataclasses import dataclass

GONE_GRACE_S = 0.8
CLOSED_QUIET_S = 0.2
LONGEST_WAIT_S = 60.0


class Ready(enum.Enum):
    NOW = "now"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at a path: a file's size and time, and how long ago it says it changed."""

    size_bytes: int
    mtime_ns: int
    age_s: float


@dataclass(slots=True)
class _Pending:
    due: float
    since: float
    closed: bool = False
    look: Look | None = None
    gone_since: float | None = None
    changes: int = 0
    asked: bool = False
    stale: bool = False


class Settler:
    """Paths that something happened to, and when to look at each."""

    def __init__(self, quiet_s: float) -> None:
        self._quiet_s = quiet_s
        self._closed_quiet_s = min(quiet_s, CLOSED_QUIET_S)
        self._pending: dict[str, _Pending] = {}
        self._queue: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._pending)

    def note(self, path: str, now: float, *, closed: bool = False) -> None:
        """Something happened to `path`; `closed` says that a writer has just closed it."""
        pending = self._pending.get(path)
        if pending is None:
            self._pending[path] = _Pending(due=now, since=now, closed=closed)
            heapq.heappush(self._queue, (now, path))
            return
        if closed:
            # What it is now, not what it was while it was written, has to stay the same.
            pending.closed, pending.look, pending.changes = True, None, 0
            pending.stale = pending.asked
            self._schedule(path, pending, min(pending.due, now))

    def next_due(self) -> float | None:
        """When to call `due` next, None while nothing is pending."""
        while self._queue:
            when, path = self._queue[0]
            pending = self._pending.get(path)
            if pending is not None and pending.due == when:
                return when
            heapq.heappop(self._queue)
        return None

    def due(self, now: float, limit: int = 512) -> list[str]:
        """Paths to look at now; each is answered by `looked`."""
        paths: list[str] = []
        while len(paths) < limit:
            when = self.next_due()
            if when is None or when > now:
                break
            path = heapq.heappop(self._queue)[1]
            self._pending[path].asked = True
            paths.append(path)
        return paths

    def looked(self, path: str, look: Look | None, now: float) -> Ready:
        """Tell what lies at a due path (None: nothing). NOW ends its waiting."""
        pending = self._pending.get(path)
        if pending is None:
            return Ready.NOW
        stale, pending.asked, pending.stale = pending.stale, False, False
        if stale:  # it was closed while we looked: what we saw may be from before
            self._schedule(path, pending, now)
            return Ready.LATER
        if look is None:
            if pending.gone_since is None:
                pending.gone_since = now
            if now - pending.gone_since >= GONE_GRACE_S:
                return self._finish(path)
            self._schedule(path, pending, pending.gone_since + GONE_GRACE_S)
            return Ready.LATER
        pending.gone_since = None
        same = pending.look is not None and (
            (pending.look.size_bytes, pending.look.mtime_ns) == (look.size_bytes, look.mtime_ns)
        )
        if not same:
            if pending.look is not None:  # written again, by the same writer or another
                pending.changes += 1
                pending.closed = False
            pending.look, pending.since = look, now
        quiet_s = self._closed_quiet_s if pending.closed else self._quiet_s
        # A time in the future proves nothing; a long past one means it was not written just now.
        if look.age_s >= quiet_s or (same and now - pending.since >= quiet_s):
            return self._finish(path)
        wait = min(LONGEST_WAIT_S, quiet_s * 1.5 ** min(pending.changes, 20))
        self._schedule(path, pending, now + max(wait, 0.01))
        return Ready.LATER

    def forget(self, prefix: str) -> None:
        """Drop what lies below a folder that is no longer ours."""
        for path in [path for path in self._pending if path.startswith(prefix)]:
            del self._pending[path]

    def _finish(self, path: str) -> Ready:
        del self._pending[path]
        return Ready.NOW

    def _schedule(self, path: str, pending: _Pending, due: float) -> None:
        pending.due = due
        heapq.heappush(self._queue, (due, path))

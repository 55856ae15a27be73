"""Takes hints from the watcher's threads into trio, bounded and coalesced.

Owns the meeting of two worlds: any thread may `put`, the one consumer drains. Paths are coalesced
by key; over the bound a root's hints are dropped and the root is marked dirty instead, which
costs a walk and loses nothing. The wake-up never raises, whatever state the loop is in.
"""

import threading
from dataclasses import dataclass, field

import trio

BOUND = 20_000
"""Hints kept at once; above it a walk is cheaper than looking at each."""


@dataclass(slots=True)
class Hints:
    """Paths by root (true: a writer closed it), and roots to be walked, with the reason."""

    paths: dict[tuple[int, str], bool] = field(default_factory=dict)
    dirty: dict[int, str] = field(default_factory=dict)


class Inbox:
    """Made inside a trio run; any thread may put hints in, also after the run has ended."""

    def __init__(self, bound: int = BOUND) -> None:
        self._bound = bound
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._hints = Hints()
        self._wake = trio.Event()
        self.taken = 0

    def put(self, root_id: int, path: str, *, closed: bool = False) -> None:
        with self._lock:
            self.taken += 1
            hints = self._hints
            if root_id in hints.dirty:
                return
            key = (root_id, path)
            if key in hints.paths:
                hints.paths[key] = hints.paths[key] or closed
                return
            if len(hints.paths) >= self._bound:
                self._drop(root_id, "more happened at once than is kept")
            else:
                hints.paths[key] = closed
        self._kick()

    def mark_dirty(self, root_id: int, why: str) -> None:
        with self._lock:
            self._drop(root_id, why)
        self._kick()

    def _drop(self, root_id: int, why: str) -> None:
        hints = self._hints
        hints.dirty.setdefault(root_id, why)
        for key in [key for key in hints.paths if key[0] == root_id]:
            del hints.paths[key]

    def _kick(self) -> None:
        try:
            self._token.run_sync_soon(self._notice, idempotent=True)
        except trio.RunFinishedError:
            return  # the daemon has stopped before its watcher's thread: nobody wants the hint

    def _notice(self) -> None:
        self._wake.set()

    async def drain(self) -> Hints:
        """Wait for hints and take them all."""
        await self._wake.wait()
        self._wake = trio.Event()
        with self._lock:
            hints, self._hints = self._hints, Hints()
        return hints

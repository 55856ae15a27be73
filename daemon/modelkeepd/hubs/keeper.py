"""Remembers how the hubs are treated over restarts: breakers at once, counters now and then.

A service: it starts before all that asks hubs, and ends after it. It decides nothing.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import apsw
import trio

from modelkeepd.hubs import records
from modelkeepd.hubs.host import BreakerChange
from modelkeepd.hubs.opening import Hubs

T = TypeVar("T")

# a counter that a killed daemon loses is no harm; a write a request would be
WRITE_EVERY_S = 300.0
_HISTORY = 20
# changes that wait while the disk is full; the oldest go first
_MAX_WAITING = 1_000


class Write(Protocol):
    """Runs a unit in one transaction of the store."""

    def __call__(self, unit: Callable[[Any], T], *, name: str) -> Awaitable[T]: ...


class Read(Protocol):
    """Runs a query in one snapshot of the store."""

    def __call__(self, query: Callable[[apsw.Connection], T]) -> Awaitable[T]: ...


class HubKeeper:
    """See the module. ``write`` and ``read`` are the store's."""

    name = "hubs"
    essential = False

    def __init__(self, hubs: Hubs, write: Write, read: Read) -> None:
        self._hosts = hubs.hosts
        self._write = write
        self._read = read
        self._waiting: deque[BreakerChange] = deque(maxlen=_MAX_WAITING)
        self._news = trio.Event()
        self._has_recalled = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until canceled; then what is left is written. Ready when the past is known."""
        await self._recall()
        task_status.started()
        try:
            while True:
                # before waiting: a life before this one may have left something
                self._news = trio.Event()
                await self._write_changes()
                await self._write_counts()
                with trio.move_on_after(WRITE_EVERY_S):
                    await self._news.wait()
        finally:
            # the supervisor has its own patience for services that end
            with trio.CancelScope(shield=True):
                await self._write_changes()
                await self._write_counts()

    async def _recall(self) -> None:
        if self._has_recalled:  # a second life after a crash: the past is here already
            return
        for host in self._hosts.values():
            past = await self._read(partial(records.remembered, hub=host.name, history=_HISTORY))
            host.counts.load(past.counts, host.clocks.wall_ms())
            for change in past.breakers:
                host.restore(change)
            # what happened since the start comes after it
            host.history.extendleft(reversed(past.history))
            host.on_change = self._changed
        self._has_recalled = True

    def _changed(self, change: BreakerChange) -> None:
        self._waiting.append(change)
        self._news.set()

    async def _write_changes(self) -> None:
        while self._waiting:
            change = self._waiting[0]
            await self._write(partial(records.breaker_changed, change=change), name="hubs.breaker")
            if self._waiting and self._waiting[0] is change:
                self._waiting.popleft()

    async def _write_counts(self) -> None:
        counts = {name: host.counts.take_unsaved() for name, host in self._hosts.items()}
        if not any(counts.values()):
            return
        try:
            await self._write(partial(records.add_counts, counts=counts), name="hubs.counts")
        except BaseException:
            for name, rows in counts.items():
                self._hosts[name].counts.give_back(rows)
            raise

"""What jobs wait for: a time, room on a volume, a destination, a source that rests.

Owns the looking after it: whoever's time or condition has come goes back into the queue. What a
job waits for is in its row; which sources rest is in memory only, a restart asks them anew.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from modelkeepd.store import Durability, Store, StoreError
from modelkeepd.transfer import jobs
from modelkeepd.transfer.errors import TransferError
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.part import check_space
from modelkeepd.transfer.place import open_root
from modelkeepd.transfer.ports import TransferSettings

log = logging.getLogger(__name__)

_FAR_MS = 24 * 3600 * 1000
_STORE_RETRY_S = 2.0


class WaitingRoom:
    """``run`` for as long as the service runs; ``offer`` is called when jobs were woken."""

    def __init__(
        self,
        store: Store,
        settings: TransferSettings,
        disk: trio.CapacityLimiter,
        offer: Callable[[], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._disk = disk
        self._offer = offer
        self._resting: dict[str, float] = {}
        self._kick = trio.Event()

    def rest(self, hub: str, seconds: float) -> None:
        """Nothing more is asked of this hub for so long."""
        self._resting[hub] = trio.current_time() + seconds

    def resting_hubs(self) -> list[str]:
        return [hub for hub, until in self._resting.items() if until > trio.current_time()]

    def look_again(self) -> None:
        """A job has begun to wait."""
        self._kick.set()

    async def run(self) -> None:
        """Jobs whose time, space, destination or source is back go to the queue again."""
        while True:
            kick = self._kick = trio.Event()
            try:
                pause_s = await self._wake_once()
            except StoreError as error:
                log.error(
                    "database trouble", extra={"facts": {"during": "wake", "error": str(error)}}
                )
                await trio.sleep(_STORE_RETRY_S)
                continue
            with trio.move_on_after(pause_s):
                await kick.wait()

    async def _wake_once(self) -> float:
        """Wake what is due; seconds until the next look."""
        woken, now_ms = await self._store.apply(
            partial(jobs.wake_due, far_ms=_FAR_MS),
            durability=Durability.NORMAL,
            name="transfer.wake",
        )
        waiting = await self._store.read(jobs.waiting)
        ready = [
            job.job_id
            for job in waiting.for_something
            if await trio.to_thread.run_sync(self._can_go_on, job, limiter=self._disk)
        ]
        if ready:
            await self._store.apply(
                partial(jobs.wake, job_ids=ready),
                durability=Durability.NORMAL,
                name="transfer.wake",
            )
        now = trio.current_time()
        rested = [hub for hub, until in self._resting.items() if until <= now]
        for hub in rested:
            del self._resting[hub]
        if woken or ready or rested:
            self._offer()
        pauses = [until - now for until in self._resting.values()]
        if waiting.for_something:
            pauses.append(self._settings.poll_s)
        if waiting.due_ms is not None:
            # At most the poll's period at once: the wall clock may jump meanwhile.
            pauses.append(min((waiting.due_ms - now_ms) / 1000, self._settings.poll_s))
        return max(0.0, min(pauses, default=float("inf")))

    def _can_go_on(self, job: Job) -> bool:
        """Whether the volume is there, and has the room that was missing."""
        try:
            with open_root(Path(job.root)) as fd:
                check_space(fd, job.needed_bytes or 1, self._settings.reserve_bytes)
        except TransferError:
            return False
        return True

"""Housekeeping of the store: the event log is kept to its size and age."""

from functools import partial

import trio

from modelkeepd.settings import Events
from modelkeepd.store import Durability, Store
from modelkeepd.store.event_log import trim

EVERY_S = 3600.0
DAY_MS = 86_400_000


class MaintenanceService:
    """Trims the event log at the start and every hour."""

    name = "maintenance"
    essential = False

    def __init__(self, store: Store, settings: Events) -> None:
        self._store = store
        self._settings = settings

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until canceled."""
        task_status.started()
        unit = partial(
            trim, keep_rows=self._settings.keep_rows, keep_ms=self._settings.keep_days * DAY_MS
        )
        while True:
            await self._store.apply(unit, durability=Durability.NORMAL, name="store.trim")
            await trio.sleep(EVERY_S)

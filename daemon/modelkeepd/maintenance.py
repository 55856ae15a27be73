"""Housekeeping of the store: the event log is kept to its size and age, free pages go back."""

from functools import partial

import trio

from modelkeepd.settings import Events
from modelkeepd.store import Durability, Store, Tx
from modelkeepd.store.event_log import trim

EVERY_S = 3600.0
DAY_MS = 86_400_000


# 4 MiB of pages an hour: the file shrinks without the writer being held up
FREED_PAGES = 1024


def tidy(tx: Tx, *, keep_rows: int, keep_ms: float) -> None:
    """Forget old events; give some unused pages back to the file system."""
    trim(tx, keep_rows=keep_rows, keep_ms=keep_ms)
    # one page a step: all must be fetched
    tx.db.execute(f"PRAGMA incremental_vacuum({FREED_PAGES})").fetchall()


class MaintenanceService:
    """Tidies at the start and every hour."""

    name = "maintenance"
    essential = False

    def __init__(self, store: Store, settings: Events) -> None:
        self._store = store
        self._settings = settings

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until canceled."""
        task_status.started()
        unit = partial(
            tidy, keep_rows=self._settings.keep_rows, keep_ms=self._settings.keep_days * DAY_MS
        )
        while True:
            await self._store.apply(unit, durability=Durability.NORMAL, name="store.tidy")
            await trio.sleep(EVERY_S)

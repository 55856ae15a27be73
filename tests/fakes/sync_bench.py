"""A lane of sync with its hub in memory, under a clock set by hand.

Tasks run to their end before anything is looked at.
"""

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from modelkeepd.hubs.contract import parse_model
from modelkeepd.hubs.documents import DocumentCodec, read_document
from modelkeepd.store import Store, open_store, read_events
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.lane import Lane, Ports, SyncSettings
from modelkeepd.sync.patience import Waits
from modelkeepd.sync.progress import SyncStatus
from modelkeepd.sync.schedule import Cadence
from tests.fakes.changing_hub import ChangingHub
from tests.fakes.clocks import FakeClocks
from tests.fakes.living_hub import START_MS, LivingHub, Manner

DAY_S = 86_400.0
FAR_S = 10_000 * DAY_S
# nothing but the first crawl and what a test asks for
ALONE = Cadence(news_s=FAR_S, refetch_s=FAR_S, sweep_s=FAR_S, rare_sweep_s=FAR_S)
NEWS = msgspec.structs.replace(ALONE, news_s=DAY_S)
REFETCH = msgspec.structs.replace(ALONE, refetch_s=DAY_S)


class Bench:
    """One lane over one hub."""

    def __init__(self, store: Store, hub: LivingHub, clocks: FakeClocks, **options: Any) -> None:
        self.store, self.hub, self.clocks = store, hub, clocks
        self.budget: int | None = None
        self.quiet = False
        ports = options.pop("ports", None) or Ports(lambda: self.quiet, self._left)
        cadence = options.pop("cadence", NEWS)
        settings = SyncSettings(
            cadence=cadence, waits=Waits(0.0, 0.0), wake_jitter_s=0.0, **options
        )
        name = hub.name
        intake = Intake(store, name, DocumentCodec(), partial(parse_model, name, texts=False))
        self.lane = Lane(hub, intake, settings, ports, clocks, random.Random(1))

    def _left(self) -> int | None:
        return None if self.budget is None else self.budget - len(self.hub.requests)

    async def days(self, count: float = 1) -> Counter[str]:
        """A day passes and what is due is done; the requests it took."""
        self.hub.requests.clear()
        whole = max(1, round(count))
        for _ in range(whole):
            self.clocks.advance(count / whole * DAY_S + 1)
            self.hub.now_ms = max(self.hub.now_ms, self.clocks.wall_ms())
            await self.lane.work()
        return Counter(self.hub.requests)

    async def rows(self, sql: str, *bindings: Any) -> list[Any]:
        return await self.store.read(lambda db: db.execute(sql, bindings).fetchall())

    async def one(self, sql: str, *bindings: Any) -> Any:
        ((found,),) = await self.rows(sql, *bindings)
        return found

    async def document(self, hub_id: str) -> Any:
        key = await self.one("SELECT model_key FROM model WHERE hub_id = ?", hub_id)
        raw = await self.store.read(lambda db: read_document(db, DocumentCodec(), key))
        assert raw is not None
        return json.loads(raw)

    async def state(self, hub_id: str) -> str:
        return str(await self.one("SELECT hub_state FROM model WHERE hub_id = ?", hub_id))

    async def facts(self, hub_id: str) -> list[str]:
        return [
            row[0]
            for row in await self.rows(
                "SELECT kind FROM model_fact JOIN model USING (model_key) WHERE hub_id = ?"
                " ORDER BY fact_id",
                hub_id,
            )
        ]

    async def events(self, *kinds: str) -> list[Any]:
        found = await self.store.read(lambda db: read_events(db, 0, topics=["model", "sync"]))
        return [event for event in found if event.kind in kinds]

    @property
    def status(self) -> SyncStatus:
        return self.lane.status()


@asynccontextmanager
async def bench(
    tmp_path: Path,
    manner: Manner = "civitai",
    *,
    models: int = 12,
    page_size: int = 5,
    hub: LivingHub | None = None,
    **options: Any,
) -> AsyncIterator[Bench]:
    """A bench whose first crawl is over."""
    hub = hub or ChangingHub(manner, models=models, page_size=page_size)
    clocks = FakeClocks(wall_ms=max(hub.now_ms, START_MS) + 60_000)
    async with open_store(tmp_path / "db", clocks=clocks) as store:
        made = Bench(store, hub, clocks, **options)
        await made.lane.recall()
        await made.lane.work()
        yield made


MANNERS: list[Manner] = ["civitai", "huggingface"]

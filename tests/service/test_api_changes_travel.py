"""The detector beside real syncs of simulated hubs, while their APIs go through the years."""

import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from modelkeepd.api_changes.answer import see
from modelkeepd.api_changes.compare import Change
from modelkeepd.api_changes.endpoint import Endpoint
from modelkeepd.api_changes.learner import ApiSettings
from modelkeepd.api_changes.rows import a_model
from modelkeepd.hubs.breaker import BreakerPolicy
from modelkeepd.hubs.contract import HubError, HubUnavailable, PageRequest, parse_model
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.hubs.host import Manners, Sample
from modelkeepd.hubs.opening import HubConfig, open_hubs
from modelkeepd.hubs.retry import RetryPolicy
from modelkeepd.kinds.seen import seen_words
from modelkeepd.store import Store, read_events
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.lane import Lane, Ports, SyncSettings
from modelkeepd.sync.patience import Waits
from modelkeepd.wiring import watch_apis
from tests.fakes.api_answers import a_model as a_listed_model
from tests.fakes.api_answers import answer, pages
from tests.fakes.clocks import FakeClocks
from tests.hubsim import Hub, open_hubsim

MODELS = 60
MANNERS = Manners(retry=RetryPolicy(attempts=1, patience_s=0.5), breaker=BreakerPolicy(open_s=0.01))
SYNC = SyncSettings(auto=False, waits=Waits(base_s=0.001, cap_s=0.002))
# each set of changes at once: here years pass in seconds
WATCH = ApiSettings(version_ms=0, look_ms=1_000)
ENUMS, TAGS = "/api/v1/enums", "/api/models-tags-by-type"
HOUR = 3_600.0


class World:
    """A hub, its catalog here, and the service that hears every answer."""

    def __init__(
        self, hub: Hub, dialect: str, hubs: Any, store: Store, clocks: FakeClocks, page: int
    ) -> None:
        self.sim, self.hubs, self.store, self.clocks = hub, hubs, store, clocks
        self.client = hubs.background[dialect]
        self.client.page_limit = page
        self.service = watch_apis(store, hubs, clocks, WATCH)
        self._heard: list[Sample] = []
        hubs.listen(self._heard.append)
        parse = partial(parse_model, dialect, texts=False)
        intake = Intake(store, dialect, DocumentCodec(), parse)
        self._lane = Lane(self.client, intake, SYNC, Ports(), clocks, random.Random(1))
        self._is_known = False

    async def sync(self) -> None:
        """A whole walk of the list into the catalog."""
        if not self._is_known:
            await self._lane.recall()
            self._is_known = True
        self.clocks.advance(HOUR)
        await self._lane.start(full=True)
        await self._lane.work()
        runs = await self.rows("SELECT state, error FROM sync_run ORDER BY run_id")
        assert runs[-1] == ("finished", None)

    async def learn(self) -> list[tuple[str, Change]]:
        """What the service makes of the answers since the last time, by operation."""
        found = []
        while self._heard:
            sample = self._heard.pop(0)
            changes = await self.service.learn(sample)
            found += [(sample.operation, change) for change in changes]
        return found

    async def rows(self, sql: str) -> list[Any]:
        return await self.store.read(lambda db: db.execute(sql).fetchall())

    async def kept(self) -> tuple[Any, ...]:
        """What of the catalog no change of form may touch."""
        return (
            sorted(await self.rows("SELECT hub_id FROM model WHERE hub_state <> 'gone'")),
            sorted(await self.rows("SELECT hub_id, base_model FROM version WHERE gone_ms IS NULL")),
            sorted(
                await self.rows("SELECT hub_id, name, sha256, kind FROM file WHERE gone_ms IS NULL")
            ),
            await self.rows("SELECT count(*) FROM odd_document"),
        )


@asynccontextmanager
async def opened(
    store: Store, clocks: FakeClocks, dialect: str = "civitai", *, page: int = 4, **options: Any
) -> AsyncIterator[World]:
    async with open_hubsim(dialect=dialect, models=MODELS, **options) as hub:
        config = HubConfig(dialect, hub.base_url, requests_per_second=10_000)
        async with open_hubs([config], manners=MANNERS, rng=random.Random(1)) as hubs:
            yield World(hub, dialect, hubs, store, clocks, page)


async def events(store: Store, topic: str) -> list[Any]:
    return await store.read(lambda db: read_events(db, 0, topics=[topic]))


# -- CivitAI through the years -------------------------------------------------------------------

# a date, and some of what must be told then: operation, kind, severity, path
Told = tuple[str, str, str, str]
VERSION = "items[].modelVersions[]"
YEARS: dict[str, set[Told]] = {
    "2023-12": {
        ("version", "field_added", "harmless", "files[].hashes.AutoV3"),
        ("ids", "type_changed", "adopted", "items[].allowCommercialUse"),
    },
    "2024-03": {
        ("list", "field_added", "adopted", "metadata.nextCursor"),
        ("list", "field_gone", "harmless", "metadata.totalItems"),
        ("list", "field_gone", "degraded", f"{VERSION}.createdAt"),
        ("list", "field_added", "adopted", f"{VERSION}.publishedAt"),
        ("ids", "field_added", "adopted", "items[].stats.thumbsUpCount"),
    },
    "2024-04": {("list", "cursor_changed", "degraded", "metadata.nextCursor")},
    "2024-08": {
        ("list", "cursor_changed", "degraded", "metadata.nextCursor"),
        ("version", "field_added", "harmless", "earlyAccessEndsAt"),
    },
    "2025-06": {("list", "field_added", "harmless", "items[].sfwOnly")},
    "2025-09-22": set(),
    "2025-11-24": {
        ("list", "type_changed", "adopted", "items[].allowCommercialUse"),
        ("list", "field_gone", "degraded", "items[].stats.favoriteCount"),
        ("model", "field_gone", "harmless", "modelVersions[].stats.rating"),
    },
    "2026-01-15": {("model", "field_added", "adopted", "baseModels")},
    "2026-07-27": {("list", "field_added", "harmless", f"{VERSION}.paidAccess")},
    "2026-08-05": {("list", "type_changed", "adopted", "items[].allowCommercialUse")},
    "2026-08-12": set(),
    "2026-08-13": {("version", "url_shape_changed", "adopted", "files[].downloadUrl")},
}


async def ask_by_id(world: World, ids: Sequence[int]) -> None:
    """These models in bulk, and each alone with a version of it."""
    for start in range(0, len(ids), 3):
        await world.client.models_by_ids([str(k) for k in ids[start : start + 3]], "mature")
    for hub_id in ids:
        await world.client.model(str(hub_id))
        try:
            await world.client.version(str(world.sim.version_ids(hub_id)[0]))
        except HubError as error:  # a fresh one, which its own endpoint denies
            assert error.status == 404


async def test_every_year_of_the_hub_is_read_and_what_changed_is_told(
    store: Store, clocks: FakeClocks
) -> None:
    async with opened(store, clocks, era="2023-07", page=100) as world:
        truth = world.sim.truth(digests=False)
        ids = [hub_id for hub_id, entry in truth.items() if entry["mature"]]

        async def visit() -> list[tuple[str, Change]]:
            await world.sync()
            await ask_by_id(world, ids)
            return await world.learn()

        # its lists had numbered pages, and we know no other than the first
        for _ in range(60):
            await world.client.list_page(PageRequest(view="mature", limit=3))
        assert await visit() + await visit() == []
        before = await world.kept()
        assert before[0] == sorted((str(hub_id),) for hub_id in truth)
        for date, wanted in YEARS.items():
            world.sim.set_era(date)
            world.client.page_limit = 100 if date < "2024-03" else 3
            found = await visit()
            told = {(op, c.kind, c.severity, c.path) for op, c in found}
            print(date, sorted(wanted - told), sorted(told)[:20] if not wanted else '')
            assert all(c.severity != "breaking" and c.suggestion for _, c in found), date
            assert await world.kept() == before, date
        assert {info.paused for info in await world.service.shapes()} == {None}
        kinds = {event.kind for event in await events(store, "sync")}
        assert "api.changed" in kinds
        assert not {"api.paused", "odd"} & kinds

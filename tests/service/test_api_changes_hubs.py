"""The detector on real lines to simulated hubs: what it hears of a crawl, and what a pause does."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from modelkeepd.api_changes.service import ApiChangesService
from modelkeepd.hubs.breaker import BreakerPolicy
from modelkeepd.hubs.contract import HubUnavailable, PageRequest
from modelkeepd.hubs.host import Manners, Sample
from modelkeepd.hubs.opening import HubConfig, Hubs, open_hubs
from modelkeepd.hubs.retry import RetryPolicy
from modelkeepd.store import Store
from modelkeepd.wiring import watch_apis
from tests.fakes.clocks import FakeClocks
from tests.hubsim import Hub, open_hubsim

PAGE = 12
MANNERS = Manners(retry=RetryPolicy(attempts=1, patience_s=0.5), breaker=BreakerPolicy(open_s=0.01))


@asynccontextmanager
async def opened(dialect: str) -> AsyncIterator[tuple[Hub, Hubs]]:
    async with open_hubsim(dialect=dialect, models=130) as hub:
        config = HubConfig(dialect, hub.base_url, requests_per_second=10_000)
        async with open_hubs([config], manners=MANNERS, rng=random.Random(1)) as hubs:
            yield hub, hubs


class Crawl:
    """Walks the list and lets the service learn each answer, in order."""

    def __init__(self, hubs: Hubs, name: str, service: ApiChangesService) -> None:
        self.heard: list[Sample] = []
        hubs.listen(self.heard.append)
        self._client = hubs.background[name]
        self._service = service

    async def walk(self, most: int = 1_000) -> list[str]:
        """The severities of what was found."""
        found, cursor = [], None
        for _ in range(most):
            view = self._client.views[0]
            request = PageRequest(view=view, cursor=cursor, limit=PAGE)
            answered = await self._client.list_page(request)
            while self.heard:
                found += await self._service.learn(self.heard.pop(0))
            cursor = answered.next_cursor
            if cursor is None:
                break
        return [f"{change.severity} {change.path}" for change in found]


def every_model(hub: Hub, **fields: object) -> dict[str, object]:
    return {"set": dict.fromkeys(hub.world.catalog.ids(), fields)}


@pytest.mark.parametrize("dialect", ["civitai", "huggingface"])
async def test_a_crawl_and_another_one_are_no_news(dialect: str, store: Store) -> None:
    async with opened(dialect) as (_, hubs):
        service = watch_apis(store, hubs, FakeClocks())
        crawl = Crawl(hubs, dialect, service)
        assert await crawl.walk() + await crawl.walk() == []
        infos = await service.shapes()
        assert {info.operation for info in infos} == {"list"}
        assert infos[0].documents > 100


async def test_a_hub_that_breaks_is_left_alone_until_it_is_mended(
    store: Store, clocks: FakeClocks
) -> None:
    async with opened("civitai") as (hub, hubs):
        service = watch_apis(store, hubs, clocks)
        crawl = Crawl(hubs, "civitai", service)
        await crawl.walk()
        hub.change(every_model(hub, modelVersions="moved"))
        with pytest.raises(HubUnavailable, match="modelVersions"):
            await crawl.walk()
        ((change,), _) = await service.history()
        assert (change.severity, change.path) == ("breaking", "items[].modelVersions")
        assert change.example == '"moved"'
        # other operations go on
        await hubs.background["civitai"].probe()
        clocks.advance(3_600)
        await service.tick()
        with pytest.raises(HubUnavailable):
            await crawl.walk(1)
    async with opened("civitai") as (_, hubs):
        again = watch_apis(store, hubs, clocks)
        await again.recall()
        crawl = Crawl(hubs, "civitai", again)
        with pytest.raises(HubUnavailable):
            await crawl.walk(1)
        clocks.advance(3_600)
        await again.tick()
        assert await crawl.walk() == []


async def test_the_hubs_own_lists_are_had_with_one_request_each(
    store: Store, clocks: FakeClocks
) -> None:
    async with opened("civitai") as (_, hubs):
        service = watch_apis(store, hubs, clocks)
        await service.recall()
        await service.tick()
        await service.tick()
        assert hubs.lines["civitai", "background"].requests_sent == 1
    rows = await store.read(
        lambda db: db.execute("SELECT DISTINCT list FROM api_value ORDER BY list").fetchall()
    )
    assert ("ModelType",) in rows
    assert ("BaseModel",) in rows

"""The lane as a service: it begins by itself, naps, is woken, and does not rush on waking up."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from modelkeepd.hubs.contract import HubUnavailable
from modelkeepd.store import Store
from modelkeepd.sync.patience import Waits
from modelkeepd.sync.progress import SyncStatus
from modelkeepd.sync.service import Ports, SyncService, SyncSettings
from tests.fakes.changing_hub import ChangingHub
from tests.fakes.clocks import FakeClocks
from tests.fakes.living_hub import LivingHub

DAY_S = 86_400.0
SETTINGS = SyncSettings(nap_s=0.005, wake_jitter_s=0.0, waits=Waits(0.0, 0.0))


@asynccontextmanager
async def serving(
    store: Store, hub: LivingHub, clocks: FakeClocks, settings: SyncSettings, **options: Any
) -> AsyncIterator[SyncService]:
    service = SyncService(
        store, {hub.name: hub}, settings, clocks=clocks, rng=random.Random(1), **options
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        yield service
        nursery.cancel_scope.cancel()


async def until(service: SyncService, holds: Callable[[SyncStatus], bool]) -> SyncStatus:
    with trio.fail_after(30):
        while not holds(status := service.status()[0]):  # noqa: ASYNC110
            await trio.sleep(0.002)
    return status


def idle(kind: str) -> Callable[[SyncStatus], bool]:
    return lambda status: (status.state, status.kind) == ("idle", kind)


async def test_it_crawls_at_the_first_start_and_brings_news_each_day(
    store: Store, clocks: FakeClocks
) -> None:
    hub = ChangingHub("civitai", models=8, page_size=5)
    async with serving(store, hub, clocks, SETTINGS) as service:
        first = await until(service, idle("full"))
        clocks.advance(DAY_S)
        second = await until(service, idle("news"))
        clocks.advance(DAY_S)
        await until(service, lambda s: (s.run_id or 0) > (second.run_id or 0))
        assert first.run_id != second.run_id


async def test_a_second_life_goes_by_the_plan_of_the_first(
    store: Store, clocks: FakeClocks
) -> None:
    hub = ChangingHub("civitai", models=8, page_size=5)
    async with serving(store, hub, clocks, SETTINGS) as service:
        told = await until(service, idle("full"))
    clocks.advance(DAY_S / 2)
    hub.requests.clear()
    async with serving(store, hub, clocks, SETTINGS) as service:
        (status,) = service.status()
        assert status.next_sync_ms == told.next_sync_ms
        assert hub.requests == []


async def test_what_is_overdue_does_not_begin_in_the_moment_of_waking_up(
    store: Store, clocks: FakeClocks
) -> None:
    hub = ChangingHub("civitai", models=8, page_size=5)
    settings = SyncSettings(nap_s=0.005, wake_jitter_s=1_000.0)
    async with serving(store, hub, clocks, settings) as service:
        await until(service, idle("full"))
        hub.requests.clear()
        clocks.suspend(3 * DAY_S)
        held = await until(service, lambda s: (s.next_sync_ms or 0) > clocks.wall_ms())
        assert (held.next_sync_ms or 0) - clocks.wall_ms() <= 1_000_000
        assert hub.requests == []
        clocks.advance(1_000)
        await until(service, idle("news"))
    # and not in that of a start
    clocks.advance(3 * DAY_S)
    hub.requests.clear()
    async with serving(store, hub, clocks, settings) as service:
        assert 0 < (service.status()[0].next_sync_ms or 0) - clocks.wall_ms() <= 1_000_000
        assert hub.requests == []
        await service.start("civitai")  # but a person does not wait
        await until(service, idle("news"))


async def test_a_person_cuts_a_wait_for_the_hub(store: Store, clocks: FakeClocks) -> None:
    hub = ChangingHub("civitai", models=8, page_size=5)

    def down(_operation: str, _hub: LivingHub) -> None:
        raise HubUnavailable("it is down", retry_after_s=600.0)

    hub.before = down
    async with serving(store, hub, clocks, SETTINGS) as service:
        status = await until(service, lambda s: s.state == "waiting")
        assert status.error == "it is down"
        assert 599 < (status.waiting_s or 0) <= 600
        hub.before = lambda _operation, _hub: None
        asked = await service.start("civitai")
        assert asked.run_id == status.run_id
        assert (await until(service, idle("full"))).error is None


async def test_without_auto_nothing_begins_by_itself_and_what_was_begun_ends(
    store: Store, clocks: FakeClocks
) -> None:
    hub = ChangingHub("huggingface", models=8, page_size=5)
    settings = SyncSettings(auto=False, nap_s=0.005)
    async with serving(store, hub, clocks, settings) as service:
        assert service.status()[0].state == "never"
        await service.start("huggingface")
    # canceled before or after some page
    async with serving(store, hub, clocks, settings) as service:
        status = await until(service, idle("full"))
        assert status.next_sync_ms is None
        hub.requests.clear()
        clocks.advance(40 * DAY_S)
        for _ in range(5):
            await trio.sleep(0.006)
        assert hub.requests == []


async def test_the_end_of_quiet_hours_is_noticed(store: Store, clocks: FakeClocks) -> None:
    hub = ChangingHub("civitai", models=8, page_size=5)
    quiet = True
    ports = {"civitai": Ports(is_quiet=lambda: quiet)}
    async with serving(store, hub, clocks, SETTINGS, ports=ports) as service:
        assert service.status()[0].is_quiet
        assert hub.requests == []
        quiet = False
        await until(service, idle("full"))


async def test_each_hub_has_its_own_pace(store: Store, clocks: FakeClocks, tmp_path: Path) -> None:
    one = ChangingHub("civitai", models=8, page_size=5)
    other = ChangingHub("huggingface", models=8, page_size=5)

    def down(_operation: str, _hub: LivingHub) -> None:
        raise HubUnavailable("it is down", retry_after_s=600.0)

    one.before = down
    service = SyncService(
        store,
        {"civitai": one, "huggingface": other},
        {"huggingface": SyncSettings(nap_s=0.005), "civitai": SETTINGS},
        clocks=clocks,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        with trio.fail_after(30):
            while service.status("huggingface")[0].coverage.details < 8:  # noqa: ASYNC110
                await trio.sleep(0.002)
        assert service.status("civitai")[0].state == "waiting"
        nursery.cancel_scope.cancel()

"""What is remembered of the hubs over restarts: breakers, their history, and counters."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock

from modelkeepd.hubs import records
from modelkeepd.hubs.breaker import BreakerPolicy
from modelkeepd.hubs.contract import HubUnavailable, PageRequest
from modelkeepd.hubs.host import Manners
from modelkeepd.hubs.keeper import WRITE_EVERY_S, HubKeeper
from modelkeepd.hubs.opening import HubConfig, Hubs, open_hubs
from modelkeepd.hubs.retry import RetryPolicy
from modelkeepd.hubs.turns import NotAsked
from modelkeepd.store import Durability, Store, StoreFull, open_store, read_events
from tests.fakes.clocks import FakeClocks

T = TypeVar("T")
HASTY = Manners(retry=RetryPolicy(attempts=1))
NOBODY = "http://127.0.0.1:9"


@asynccontextmanager
async def daemon(path: Path, clocks: FakeClocks) -> AsyncIterator[tuple[Hubs, Store]]:
    """The part of a daemon that keeps hubs, for one life of it."""
    config = HubConfig("civitai", NOBODY, None, 1_000, background_per_day=100)
    async with (
        open_store(path, clocks=clocks) as store,
        open_hubs([config], clocks=clocks, rng=random.Random(1), manners=HASTY) as hubs,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(keeper(hubs, store).run)
        yield hubs, store
        nursery.cancel_scope.cancel()


def keeper(hubs: Hubs, store: Store) -> HubKeeper:
    return HubKeeper(hubs, partial(store.apply, durability=Durability.NORMAL), store.read)


async def written(store: Store, changes: int) -> list[Any]:
    """Rows of the history, once there are so many."""
    with trio.fail_after(10):
        while True:
            rows = await store.read(partial(records.breaker_history, hub="civitai", limit=100))
            if len(rows) >= changes:
                return list(rows)
            await trio.sleep(0.005)


def list_page(hubs: Hubs) -> Awaitable[object]:
    return hubs.background["civitai"].list_page(PageRequest("mature"))


async def test_a_paused_operation_stays_paused_over_a_restart(
    tmp_path: Path, clocks: FakeClocks
) -> None:
    async with daemon(tmp_path / "db", clocks) as (hubs, store):
        hubs.hosts["civitai"].pause("list", "the field items is gone")
        await written(store, 1)
        [event] = await store.read(partial(read_events, after_seq=0, topics=["sync"]))
        assert (event.kind, event.subject) == ("hub.breaker", "civitai")
        assert event.payload == {
            "hub": "civitai",
            "operation": "list",
            "state": "paused",
            "reason": "the field items is gone",
            "until_ms": None,
        }
    clocks.advance(90 * 86_400)
    async with daemon(tmp_path / "db", clocks) as (hubs, store):
        with pytest.raises(HubUnavailable, match="the field items is gone"):
            await list_page(hubs)
        hubs.hosts["civitai"].resume("list")
        assert [change.state for change in await written(store, 2)] == ["paused", "closed"]
    async with daemon(tmp_path / "db", clocks) as (hubs, store):
        standing = hubs.standing("civitai")
        assert standing.breakers == ()
        assert [change.state for change in standing.history] == ["paused", "closed"]


async def test_a_hub_that_failed_is_left_alone_after_a_restart_as_long_as_before_it(
    tmp_path: Path, clocks: FakeClocks
) -> None:
    async with daemon(tmp_path / "db", clocks) as (hubs, store):
        for _ in range(10):
            with pytest.raises(HubUnavailable):
                await list_page(hubs)
        [change] = await written(store, 1)
        assert (change.state, change.openings) == ("open", 1)
        assert "did not answer" in change.reason
    left_s = (change.until_ms - clocks.wall_ms()) / 1000
    clocks.advance(10)
    async with daemon(tmp_path / "db", clocks) as (hubs, _):
        with pytest.raises(NotAsked) as caught:
            await list_page(hubs)
        assert caught.value.retry_after_s == pytest.approx(left_s - 10, abs=1)
    clocks.set_the_clock(-86_400 * 365)
    async with daemon(tmp_path / "db", clocks) as (hubs, _):
        with pytest.raises(NotAsked) as caught:
            await list_page(hubs)
        # whatever the clock says now, it is tried again within the longest time there is
        assert (caught.value.retry_after_s or 0) <= 1.2 * BreakerPolicy().longest_s


async def test_counters_add_up_over_restarts_and_begin_anew_each_day(
    tmp_path: Path, clocks: FakeClocks
) -> None:
    for life in range(1, 4):
        async with daemon(tmp_path / "db", clocks) as (hubs, _):
            host = hubs.hosts["civitai"]
            host.sent("background")
            host.sent("interactive")
            hubs.saved("civitai", "cached", 5)
            hubs.saved("no such hub", "cached")
            standing = hubs.standing("civitai")
            assert (standing.sent_today, standing.saved_today) == (2 * life, {"cached": 5 * life})
            assert standing.background_left == 100 - life
    clocks.advance(86_400)
    async with daemon(tmp_path / "db", clocks) as (hubs, store):
        standing = hubs.standing("civitai")
        assert (standing.sent_today, standing.sent, standing.background_left) == (0, 6, 100)
        assert standing.saved == {"cached": 15}
        rows = await store.read(lambda db: db.execute("SELECT count(*) FROM hub_count").get)
        assert rows == 3


async def test_counters_are_written_once_in_a_while_and_at_the_end(
    autojump_clock: MockClock,
) -> None:
    writes: list[float] = []

    async def write(unit: object, *, name: str) -> Any:
        await trio.lowlevel.checkpoint()
        writes.append(trio.current_time())

    async def read(query: object) -> Any:
        await trio.lowlevel.checkpoint()
        return records.Remembered((), (), ())

    async with (
        open_hubs([HubConfig("civitai", NOBODY)]) as hubs,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(HubKeeper(hubs, write, read).run)
        for _ in range(10_000):
            hubs.hosts["civitai"].sent("background")
            await trio.sleep(0.1)
        assert writes == [pytest.approx(n * WRITE_EVERY_S, abs=0.2) for n in (1, 2, 3)]
        nursery.cancel_scope.cancel()
    assert len(writes) == 4


async def test_a_store_that_fails_loses_no_count_and_no_change(
    tmp_path: Path, clocks: FakeClocks
) -> None:
    """The supervisor starts the service anew: it must not recall the past a second time."""
    async with (
        open_store(tmp_path / "db", clocks=clocks) as store,
        open_hubs([HubConfig("civitai", NOBODY)], clocks=clocks) as hubs,
    ):
        is_full = True

        async def write(unit: Callable[[Any], T], *, name: str) -> T:
            if is_full:
                raise StoreFull("no room")
            return await store.apply(unit, durability=Durability.NORMAL, name=name)

        service = HubKeeper(hubs, write, store.read)
        host = hubs.hosts["civitai"]
        with pytest.RaisesGroup(StoreFull):
            async with trio.open_nursery() as nursery:
                await nursery.start(service.run)
                host.sent("background")
                host.pause("list", "changed")
        is_full = False
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            assert [change.state for change in await written(store, 1)] == ["paused"]
            nursery.cancel_scope.cancel()
        assert hubs.standing("civitai").sent == 1
        rows = await store.read(
            lambda db: db.execute("SELECT kind, count FROM hub_count").fetchall()
        )
        assert rows == [("sent_background", 1)]

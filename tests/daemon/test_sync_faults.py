"""A hub that misbehaves: calls are answered, and it ends with the catalog or says why."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from modelkeep_protocol import schema
from tests.daemon.house import RATE, House, open_house
from tests.hubsim import Hub, open_hubsim
from tests.hubsim.messages import canonical

LIST = "/api/v1/models"
MODELS = 260


@asynccontextmanager
async def answering(house: House) -> AsyncIterator[None]:
    """All the while inside, calls are answered."""
    answered = 0

    async def ask() -> None:
        nonlocal answered
        while True:
            await house.call("daemon.ping")
            await house.call("catalog.search", query="", limit=1)
            await house.call("daemon.status")
            answered += 1
            await trio.sleep(0.2 * RATE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        yield
        nursery.cancel_scope.cancel()
    assert answered > 0


async def the_hubs_catalog(house: House, hub: Hub) -> None:
    """Nothing lost, nothing doubled, every document as the hub shows it."""
    truth = hub.truth()
    rows = house.rows("SELECT hub_id, hub_state FROM model")
    assert sorted(hub_id for hub_id, _ in rows) == sorted(map(str, truth))
    assert {state for _, state in rows} <= {"listed", "taken_down"}
    for hub_id in list(truth)[::7]:
        shown = await house.call("catalog.show", ref=f"civitai:{hub_id}", raw=True)
        digest = hashlib.sha256(canonical(shown.raw)).hexdigest()
        assert digest in truth[hub_id].values(), hub_id


Fault = tuple[Mapping[str, Any], Mapping[str, Any]]
PASSING: dict[str, list[Fault]] = {
    "no answer that is one": [
        ({"html200": True}, {"times": 2}),
        ({"cut": 3000}, {"times": 1}),
        ({"hang_up": True}, {"times": 1}),
        ({"garbage": True}, {"times": 1}),
        ({"maintenance": 200}, {"times": 1}),
        ({"gzip": {"bomb": 100_000_000}}, {"times": 1}),
    ],
    "HTML with 200": [({"html200": True}, {"times": 4})],
    "truncated JSON": [({"truncated_json": 5000}, {"times": 4})],
    "a page again and again": [({"repeat_page": True}, {"after": 1, "times": 3})],
    "a cursor that leads back": [({"cursor_loop": "first"}, {"after": 2, "times": 1})],
    "a cursor that stays": [({"cursor_loop": "same"}, {"after": 1, "times": 1})],
    "empty pages with a cursor": [({"empty_page": True}, {"after": 1, "times": 2})],
    "429": [
        ({"status": 429}, {"times": 2}),
        ({"status": {"code": 429, "retry_after": 2}}, {"times": 2}),
        ({"status": {"code": 429, "retry_after": "soon"}}, {"times": 1}),
    ],
    "500": [({"status": 500}, {"times": 5})],
    "500 and 503 at times": [
        ({"status": 500}, {"chance": 0.3, "times": 6}),
        ({"status": 503}, {"chance": 0.3, "times": 6}),
    ],
}


@pytest.mark.parametrize("fault", PASSING)
async def test_a_fault_that_passes_costs_nothing_but_time(
    tmp_path: Path, fast_time: MockClock, fault: str
) -> None:
    async with open_hubsim(models=MODELS) as hub:
        for do, match in PASSING[fault]:
            hub.fail(LIST, do, **match)
        async with open_house(tmp_path / "home", hub) as house, answering(house):
            run = await house.synced()
            assert (run.state, run.error) == ("finished", None)
            assert all(item.used for item in hub.faults.items), "a fault was never applied"
            await the_hubs_catalog(house, hub)
            await house.search_caught_up()
            found = await house.call("catalog.search", query="", limit=1)
            assert found.total == len(hub.truth(digests=False))


STAYING: dict[str, tuple[Mapping[str, Any], str, str]] = {
    "HTML with 200": ({"html200": True}, "waiting", "web page"),
    "500": ({"status": 500}, "waiting", "500"),
    "429 until 2090": (
        {"status": {"code": 429, "retry_after": "Sat, 01 Jul 2090 12:00:00 GMT"}}, "waiting", "429"
    ),
    "401": ({"status": 401}, "failed", "401"),
    "451": ({"status": 451}, "failed", "451"),
}  # fmt: skip


@pytest.mark.parametrize("fault", STAYING)
async def test_a_fault_that_stays_is_waited_for_or_told_and_then_overcome(
    tmp_path: Path, fast_time: MockClock, fault: str
) -> None:
    do, state, word = STAYING[fault]
    async with open_hubsim(models=MODELS) as hub:
        # two pages come first: they must be kept
        hub.fail(LIST, do, after=2, times=0)
        async with open_house(tmp_path / "home", hub) as house, answering(house):

            async def told() -> schema.SyncRun | None:
                run = await house.run()
                return run if run.state == state and run.error else None

            run = await house.until(f"the sync is {state}", told)
            assert run is not None
            assert word in str(run.error), run
            if state == "failed":
                assert run.hint
            else:
                assert run.waiting_s is not None
                # however long the hub asks for, it is asked again within the hour
                assert 0 <= run.waiting_s <= 3600

            async def kept() -> bool:
                return len(house.rows("SELECT 1 FROM model")) >= 150

            await house.until("what came before is kept", kept)
            status = await house.call("daemon.status")
            assert status.hubs[0].sync.error == run.error
            hub.faults.clear()
            await house.call("sync.start")
            if state == "waiting":
                fast_time.jump(float(run.waiting_s or 0))
            await house.synced()
            await the_hubs_catalog(house, hub)


async def test_a_hub_that_is_not_there_is_waited_for_and_the_rest_works(
    tmp_path: Path, fast_time: MockClock
) -> None:
    async with open_hubsim(models=60) as hub, open_house(tmp_path / "home", hub) as house:
        await house.synced()
        await house.search_caught_up()
    async with open_house(tmp_path / "home", "http://127.0.0.1:9") as house:
        await house.call("sync.start")

        async def waits() -> bool:
            run = await house.run()
            return run.state == "waiting" and bool(run.error)

        await house.until("the sync waits", waits)
        found = await house.call("catalog.search", query="", limit=3)
        assert found.total > 50
        shown = await house.call("catalog.show", ref=found.items[0].ref, raw=True)
        assert shown.raw["name"] == shown.name
        # a download is taken on and waits as well
        [job] = await house.get(found.items[0].ref)
        [job] = await house.ended([job], frozenset({"waiting", "failed"}))
        assert job.state == "waiting"
        assert job.error is not None
        assert job.error.code == "unavailable"

"""One model of CivitAI looked at over real HTTP: what is still there, and what really is not."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from modelkeepd.hubs.contract import Address, HubUnavailable, NotFoundOnHub, parse_model
from modelkeepd.hubs.contract import Hub as HubClient
from modelkeepd.hubs.host import Manners
from modelkeepd.hubs.opening import HubConfig, Hubs, open_hubs
from modelkeepd.hubs.retry import RetryPolicy
from tests.hubsim import Hub, open_hubsim

QUICK = RetryPolicy(attempts=2, base_s=0.001, cap_s=0.002, patience_s=0.5)


@asynccontextmanager
async def opened(sim: Hub) -> AsyncIterator[Hubs]:
    config = HubConfig("civitai", sim.base_url, requests_per_second=10_000)
    manners = Manners(retry=QUICK, retry_interactive=QUICK)
    async with open_hubs([config], manners=manners, rng=random.Random(1)) as hubs:
        yield hubs


def address(sim: Hub, hub_id: int) -> Address:
    versions = tuple(str(version) for version in sim.version_ids(hub_id))
    return Address(str(hub_id), str(hub_id), versions)


async def state(hub: HubClient, where: Address) -> str:
    return (await hub.look(where)).state


async def test_what_is_there_is_present_with_its_document_in_whatever_view() -> None:
    async with open_hubsim(models=200) as sim, opened(sim) as hubs:
        hub = hubs.background["civitai"]
        for special in ("gated", "minor", "mature_only", "japanese"):
            hub_id = sim.catalog.special(special)
            seen = await hub.look(address(sim, hub_id))
            assert (seen.state, seen.item and seen.item.hub_id) == ("present", str(hub_id)), special
        # not in the lists, but by id
        for special, hub_state in (("archived", "archived"), ("taken_down", "taken_down")):
            hub_id = sim.catalog.special(special)
            seen = await hub.look(address(sim, hub_id))
            assert seen.state == "present", special
            assert seen.item is not None
            assert parse_model("civitai", seen.item.raw).hub_state == hub_state


async def test_what_all_witnesses_deny_is_absent() -> None:
    async with open_hubsim(models=200) as sim, opened(sim) as hubs:
        hub = hubs.background["civitai"]
        [hub_id] = sim.change({"edit": 1})["edit"]
        where = address(sim, hub_id)
        assert await state(hub, where) == "present"
        sim.change({"remove": [hub_id]})
        seen = await hub.look(where)
        assert seen.state == "absent"
        assert f"No model with id {hub_id}" in seen.reason
        # nothing known that could be asked as well: not enough to believe it
        assert await state(hub, Address(str(hub_id), str(hub_id))) == "unclear"


@pytest.mark.parametrize(
    ("path", "do"),
    [
        ("/api/v1/models/{id}", {"status": {"code": 404, "body": "gone from this edge"}}),
        ("/api/v1/models/{id}", {"status": 451}),
        ("/api/v1/models/{id}", {"body": '{"name": "no id"}'}),
        ("/api/v1/models/{id}", {"body": '{"id": 1, "name": "another"}'}),
    ],
)
async def test_what_is_neither_there_nor_denied_is_unclear(path: str, do: object) -> None:
    async with open_hubsim(models=200) as sim, opened(sim) as hubs:
        hub_id = sim.catalog.special("archived")
        sim.fail(path.format(id=hub_id), do, times=0)
        seen = await hubs.background["civitai"].look(address(sim, hub_id))
        assert seen.state == "unclear"
        assert seen.reason


async def test_a_model_whose_version_answers_is_not_absent() -> None:
    async with open_hubsim(models=200) as sim, opened(sim) as hubs:
        hub_id = sim.catalog.special("archived")
        words = json.dumps({"error": f"No model with id {hub_id}"})
        sim.fail(f"/api/v1/models/{hub_id}", {"status": {"code": 404, "body": words}}, times=0)
        seen = await hubs.background["civitai"].look(address(sim, hub_id))
        assert (seen.state, "is there" in seen.reason) == ("unclear", True)


async def test_a_hub_that_is_down_says_nothing_about_a_model() -> None:
    async with open_hubsim(models=60) as sim, opened(sim) as hubs:
        [hub_id] = sim.change({"edit": 1})["edit"]
        sim.fail("*", {"status": 503}, times=0)
        with pytest.raises(HubUnavailable):
            await hubs.background["civitai"].look(address(sim, hub_id))


async def test_details_have_the_form_of_the_list_where_a_list_shows_the_model() -> None:
    async with open_hubsim(models=200) as sim, opened(sim) as hubs:
        hub = hubs.interactive["civitai"]
        [hub_id] = sim.change({"edit": 1})["edit"]
        [item] = await hub.models_by_ids([str(hub_id)], "mature")
        assert await hub.details(address(sim, hub_id)) == item.raw
        archived = sim.catalog.special("archived")
        raw = await hub.details(address(sim, archived))
        assert parse_model("civitai", raw).hub_state == "archived"
        sim.change({"remove": [hub_id]})
        with pytest.raises(NotFoundOnHub):
            await hub.details(address(sim, hub_id))
        with pytest.raises(NotFoundOnHub):
            await hub.details(Address("../me", "../me"))

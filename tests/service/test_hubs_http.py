"""HTTP to a hub over real sockets: bounds, redirects, and where the token goes."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from modelkeepd.hubs.contract import (
    HubRejected,
    HubUnavailable,
    NotFoundOnHub,
    PageRequest,
    WantedFile,
)
from modelkeepd.hubs.host import Manners
from modelkeepd.hubs.http import USER_AGENT, HubHttp
from modelkeepd.hubs.opening import HubConfig, open_hubs
from modelkeepd.hubs.retry import RetryPolicy
from modelkeepd.secrets import Secret
from tests.hubsim import open_hubsim

TOKEN = Secret("canary-token")
PATH = "/api/v1/models"


@asynccontextmanager
async def opened(
    base_url: str, token: Secret | None = TOKEN, **how: float
) -> AsyncIterator[HubHttp]:
    http = HubHttp(base_url, token, **how)
    try:
        yield http
    finally:
        await http.aclose()


async def test_the_hub_sees_our_own_name_and_the_token() -> None:
    async with open_hubsim(models=3) as hub, opened(hub.base_url) as http:
        answer = await http.get(PATH, [("limit", "1")])
        assert (answer.status, answer.content_type) == (200, "application/json")
        headers = hub.log[0].headers
        assert headers["user-agent"] == USER_AGENT
        assert headers["authorization"] == "Bearer canary-token"
        assert "cookie" not in headers


async def test_cookies_are_not_kept() -> None:
    async with open_hubsim(models=3) as hub, opened(hub.base_url) as http:
        hub.fail(PATH, {"headers": {"Set-Cookie": "session=1; Path=/"}})
        await http.get(PATH)
        await http.get(PATH)
        assert "cookie" not in hub.log[1].headers


async def test_a_redirect_within_the_hub_is_followed() -> None:
    async with open_hubsim(models=3) as hub, opened(hub.base_url) as http:
        hub.fail(PATH, {"redirect": f"{PATH}?limit=1"})
        answer = await http.get(PATH, [("limit", "2")])
        assert answer.status == 200
        assert hub.log[1].target.endswith("limit=1")


@pytest.mark.parametrize(
    "to", ["STORAGE/x", "http://example.invalid/", "https://127.0.0.1/", "file:///etc/passwd", ""]
)
async def test_a_redirect_elsewhere_is_refused_and_the_token_stays(to: str) -> None:
    async with open_hubsim(models=3) as hub, opened(hub.base_url) as http:
        hub.fail(PATH, {"redirect": to.replace("STORAGE", hub.storage_url)})
        with pytest.raises(HubRejected) as caught:
            await http.get(PATH)
        assert "canary" not in str(caught.value)
        assert [entry.storage for entry in hub.log] == [False]


async def test_a_redirect_loop_ends() -> None:
    async with open_hubsim(models=3) as hub, opened(hub.base_url) as http:
        hub.fail("*", "redirect_loop", times=0)
        with pytest.raises(HubUnavailable):
            await http.get(PATH)
        assert len(hub.log) < 10


async def test_an_answer_that_never_ends_is_given_up() -> None:
    async with open_hubsim(models=3) as hub:
        hub.fail(PATH, "endless")
        async with opened(hub.base_url, max_body_bytes=1 << 20) as http:
            with pytest.raises(HubUnavailable, match="more than 1 MiB"):
                await http.get(PATH)
            assert (await http.get(PATH)).status == 200


async def test_an_answer_that_stalls_is_given_up() -> None:
    async with open_hubsim(models=3) as hub, opened(hub.base_url, deadline_s=0.2) as http:
        hub.fail(PATH, {"stall": {"seconds": 600}})
        with pytest.raises(HubUnavailable, match="no whole answer"):
            await http.get(PATH)


async def test_nobody_listening_is_unavailable() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    async with opened(f"http://127.0.0.1:{port}") as http:
        with pytest.raises(HubUnavailable) as caught:
            await http.get(PATH)
        assert not caught.value.answered


async def test_documents_plans_and_the_probe_come_from_the_hub() -> None:
    manners = Manners(retry=RetryPolicy(base_s=0.001, cap_s=0.001))
    async with open_hubsim(models=50) as sim:
        config = HubConfig("civitai", sim.base_url, TOKEN, requests_per_second=1_000)
        other = HubConfig("unheard-of", sim.base_url)
        async with open_hubs([config, other], manners=manners, rng=random.Random(1)) as hubs:
            assert list(hubs.background) == list(hubs.interactive) == ["civitai"]
            hub = hubs.background["civitai"]
            await hub.probe()
            page = await hub.list_page(PageRequest("mature", limit=5))
            hub_id = str(page.items[0].hub_id)
            assert f'"id":{hub_id}'.encode() in (await hub.model(hub_id)).replace(b" ", b"")
            assert [i.hub_id for i in await hub.models_by_ids([hub_id], "mature")] == [hub_id]
            with pytest.raises(NotFoundOnHub):
                await hub.model("2147483000")
            with pytest.raises(NotFoundOnHub):
                await hub.model("../me")
            url = "https://civitai.com/api/download/models/7?type=VAE"
            plan = await hub.download_plan(WantedFile("1", "7", "9", "x.pt", url))
            assert plan.url == f"{sim.base_url}/api/download/models/7?fileId=9"
            assert plan.fallback_url == f"{sim.base_url}/api/download/models/7?type=VAE"
            assert plan.token is TOKEN
            assert "canary" not in repr(plan)
            bare = await hub.download_plan(WantedFile("1", "7", "", "x.pt"))
            assert (bare.url, bare.fallback_url) == (f"{sim.base_url}/api/download/models/7", None)

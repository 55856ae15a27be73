"""Opens the hub clients that the settings ask for, and closes their connections again."""

import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.civitai import Civitai
from modelkeepd.hubs.contract import Hub
from modelkeepd.hubs.http import HubHttp
from modelkeepd.hubs.limiter import Bucket, Limiter
from modelkeepd.hubs.retry import RetryPolicy
from modelkeepd.secrets import Secret

# the average is what a hub minds: a person's two or three requests need not queue
_BURST_S = 2.0
_BURST_MAX = 5.0


@dataclass(frozen=True, slots=True)
class HubConfig:
    """How one hub is reached."""

    name: str
    base_url: str
    token: Secret | None = None
    requests_per_second: float = 1.5


@asynccontextmanager
async def open_hubs(
    configs: Iterable[HubConfig],
    *,
    clocks: Clocks | None = None,
    rng: random.Random | None = None,
    policy: RetryPolicy | None = None,
) -> AsyncIterator[dict[str, Hub]]:
    """The clients by hub name. Names that no client speaks for are left out."""
    hubs: dict[str, Hub] = {}
    opened: list[HubHttp] = []
    try:
        for config in configs:
            if config.name == Civitai.name:
                http = HubHttp(config.base_url, config.token)
                opened.append(http)
                burst = min(_BURST_MAX, max(1.0, config.requests_per_second * _BURST_S))
                hubs[config.name] = Civitai(
                    http,
                    Limiter(Bucket(config.requests_per_second, burst)),
                    token=config.token,
                    clocks=clocks,
                    rng=rng,
                    policy=policy,
                )
        yield hubs
    finally:
        with trio.move_on_after(2, shield=True):
            for http in opened:
                await http.aclose()

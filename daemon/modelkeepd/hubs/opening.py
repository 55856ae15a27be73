"""Opens the hub clients that the settings ask for, and closes their connections again."""

import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.civitai import Civitai
from modelkeepd.hubs.contract import Hub
from modelkeepd.hubs.host import HostState, Manners, Sample
from modelkeepd.hubs.http import HubHttp
from modelkeepd.hubs.huggingface import HuggingFace
from modelkeepd.hubs.huggingface_errors import refusal as huggingface_refusal
from modelkeepd.hubs.line import Line
from modelkeepd.hubs.standing import HubStanding, standing_of
from modelkeepd.hubs.window import Urgency
from modelkeepd.secrets import Secret


@dataclass(frozen=True, slots=True)
class HubConfig:
    """How one hub is reached. ``filters`` are what of it is mirrored; none: all."""

    name: str
    base_url: str
    token: Secret | None = None
    requests_per_second: float = 1.5
    background_per_day: int = 0
    filters: tuple[str, ...] = ()
    page_size: int = 1000


@dataclass(slots=True)
class Hubs:
    """The hubs in use, twice: as background work asks them, and as people do."""

    background: dict[str, Hub] = field(default_factory=dict)
    interactive: dict[str, Hub] = field(default_factory=dict)
    lines: dict[tuple[str, Urgency], Line] = field(default_factory=dict)
    hosts: dict[str, HostState] = field(default_factory=dict)

    def standing(self, name: str) -> HubStanding:
        """How the hub is asked, and what it would not mind yet. Raises KeyError."""
        return standing_of(self.hosts[name])

    def saved(self, name: str, kind: str, count: int = 1) -> None:
        """So many requests were not necessary; see ``HostState.saved``."""
        if name in self.hosts:
            self.hosts[name].saved(kind, count)

    def listen(self, on_answer: Callable[[Sample], None]) -> None:
        """Hand every whole answer of every hub to ``on_answer``, on the loop: be quick."""
        for host in self.hosts.values():
            host.on_answer = on_answer


@asynccontextmanager
async def open_hubs(
    configs: Iterable[HubConfig],
    *,
    clocks: Clocks | None = None,
    rng: random.Random | None = None,
    manners: Manners | None = None,
) -> AsyncIterator[Hubs]:
    """The clients by hub name. Names that no client speaks for are left out."""
    hubs = Hubs()
    opened: list[HubHttp] = []
    try:
        for config in configs:
            if config.name not in _CLIENTS:
                continue
            http = HubHttp(config.base_url, config.token)
            opened.append(http)
            host = HostState(
                config.name,
                config.requests_per_second,
                manners=manners,
                background_per_day=config.background_per_day,
                clocks=clocks,
                rng=rng,
            )
            hubs.hosts[config.name] = host
            _open_both(hubs, config, http, host)
        yield hubs
    finally:
        with trio.move_on_after(2, shield=True):
            for http in opened:
                await http.aclose()


def _open_both(hubs: Hubs, config: HubConfig, http: HubHttp, host: HostState) -> None:
    both: tuple[tuple[Urgency, dict[str, Hub]], ...] = (
        ("background", hubs.background),
        ("interactive", hubs.interactive),
    )
    for urgency, clients in both:
        clients[config.name], line = _CLIENTS[config.name](config, http, host, urgency)
        hubs.lines[config.name, urgency] = line


def _civitai(
    config: HubConfig, http: HubHttp, host: HostState, urgency: Urgency
) -> tuple[Hub, Line]:
    line = Line(http, host, urgency, token=config.token)
    return Civitai(line), line


def _huggingface(
    config: HubConfig, http: HubHttp, host: HostState, urgency: Urgency
) -> tuple[Hub, Line]:
    line = Line(http, host, urgency, token=config.token, refusal=huggingface_refusal)
    return HuggingFace(line, filters=config.filters, page_limit=config.page_size), line


_CLIENTS: dict[str, Callable[[HubConfig, HubHttp, HostState, Urgency], tuple[Hub, Line]]] = {
    Civitai.name: _civitai,
    HuggingFace.name: _huggingface,
}

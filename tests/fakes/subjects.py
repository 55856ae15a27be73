"""Every hub there is, opened for the conformance suite: the client, and the world behind it.

The real clients speak HTTP to the simulated hub; the fake ones are LivingHub in both manners. A
World tells what a client ought to find and changes it.
"""

import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from modelkeepd.hubs.contract import Hub
from modelkeepd.hubs.host import Manners
from modelkeepd.hubs.opening import HubConfig, open_hubs
from modelkeepd.hubs.retry import RetryPolicy
from modelkeepd.secrets import Secret
from tests.fakes.living_hub import LivingHub
from tests.hubsim import Hub as HubSim
from tests.hubsim import open_hubsim

TOKEN = Secret("canary-token")
MODELS = 120


class World(Protocol):
    """What is behind a hub. ``publish`` is a change that the order of news shows."""

    def visible(self) -> set[str]: ...
    def ref_id(self, hub_id: str) -> str: ...
    def add(self) -> str: ...
    def publish(self, hub_id: str) -> None: ...
    def remove(self, hub_id: str) -> None: ...
    def rename(self, hub_id: str) -> str: ...
    def take_name_of(self, hub_id: str) -> str: ...
    def sent(self) -> int: ...


@dataclass
class Subject:
    """A hub under test. ``sim`` is None for the fakes: nothing of HTTP can be tried with them."""

    hub: Hub
    world: World
    sim: HubSim | None = None

    def fail(self, do: object, *, times: int = 1) -> None:
        """What the hub does to its next API answers."""
        assert self.sim is not None
        self.sim.fail("/api/*", do, times=times)


class _Living:
    def __init__(self, hub: LivingHub) -> None:
        self._hub = hub
        self.add, self.publish, self.rename = hub.add, hub.publish, hub.rename
        self.remove = hub.remove

    def visible(self) -> set[str]:
        return set(self._hub.truth())

    def ref_id(self, hub_id: str) -> str:
        return self._hub.lives[hub_id].ref_id

    def take_name_of(self, hub_id: str) -> str:
        return self._hub.add(name=self._hub.lives[hub_id].ref_id)

    def sent(self) -> int:
        return len(self._hub.requests)


class _Simulated:
    def __init__(self, sim: HubSim) -> None:
        self._sim = sim

    def visible(self) -> set[str]:
        return {str(hub_id) for hub_id in self._sim.truth(digests=False)}

    def ref_id(self, hub_id: str) -> str:
        return hub_id

    def add(self) -> str:
        return str(self._change("add", 1))

    def publish(self, hub_id: str) -> None:
        self._change("new_version", [int(hub_id)])

    def remove(self, hub_id: str) -> None:
        self._change("remove", [int(hub_id)])

    def rename(self, hub_id: str) -> str:
        raise NotImplementedError

    def take_name_of(self, hub_id: str) -> str:
        raise NotImplementedError

    def sent(self) -> int:
        return len(self._sim.log)

    def _change(self, word: str, what: object) -> Any:
        return self._sim.change({word: what})[word][0]


class _SimulatedNames(_Simulated):
    """Hugging Face: keys are text, and names may change."""

    def ref_id(self, hub_id: str) -> str:
        document: Any = self._sim.document(hub_id)
        return str(document["id"])

    def visible(self) -> set[str]:
        truth = self._sim.truth(digests=False)
        return {key for key, entry in truth.items() if entry["state"] in ("listed", "disabled")}

    def publish(self, hub_id: str) -> None:
        self._change("new_file", [hub_id])

    def remove(self, hub_id: str) -> None:
        self._change("remove", [hub_id])

    def rename(self, hub_id: str) -> str:
        self._change("rename", [hub_id])
        return self.ref_id(hub_id)

    def take_name_of(self, hub_id: str) -> str:
        return str(self._change("reuse_name", [hub_id]))


@asynccontextmanager
async def _fake(manner: Any, **_: Any) -> AsyncIterator[Subject]:
    hub = LivingHub(manner, models=MODELS, token=TOKEN)
    yield Subject(hub, _Living(hub))


@asynccontextmanager
async def _real(name: str, *, attempts: int = 3, **more: Any) -> AsyncIterator[Subject]:
    manners = Manners(retry=RetryPolicy(attempts=attempts, base_s=0.001, cap_s=0.001))
    async with open_hubsim(dialect=name, models=MODELS, tokens=[TOKEN.reveal()], **more) as sim:
        config = HubConfig(name, sim.base_url, TOKEN, requests_per_second=10_000)
        async with open_hubs([config], manners=manners, rng=random.Random(1)) as hubs:
            world = _Simulated(sim) if name == "civitai" else _SimulatedNames(sim)
            yield Subject(hubs.background[name], world, sim)


REAL = ("civitai", "huggingface")
FAKE = ("fake civitai", "fake huggingface")


def open_subject(name: str, **how: Any) -> AbstractAsyncContextManager[Subject]:
    """One of REAL or FAKE. ``attempts`` is how often a real client tries."""
    if name in REAL:
        return _real(name, **how)
    return _fake(name.removeprefix("fake "), **how)

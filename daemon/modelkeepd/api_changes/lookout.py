"""What is asked for by the clock: the hubs' own lists, and endpoints that are paused.

Owns when, and what is made of the answers. The requests themselves are made by what it is handed,
one at a time and as background work.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial

import msgspec
import trio

from modelkeepd.api_changes import rows
from modelkeepd.api_changes.compare import Change, made
from modelkeepd.api_changes.endpoint import Endpoint
from modelkeepd.api_changes.learner import ApiSettings, Learner
from modelkeepd.api_changes.lists import ENDPOINTS, ListSource, cheapest
from modelkeepd.api_changes.rows import Adopt
from modelkeepd.api_changes.wording import tidy
from modelkeepd.clocks import Clocks
from modelkeepd.hubs.contract import HubError
from modelkeepd.hubs.host import Sample
from modelkeepd.store import Durability, Store, StoreError

log = logging.getLogger(__name__)

# hub, path, parameters -> the body of a good answer. Raises HubError
Ask = Callable[[str, str, Sequence[tuple[str, str]]], Awaitable[bytes]]


class Lookout:
    """Asks what is due."""

    def __init__(
        self,
        store: Store,
        learner: Learner,
        *,
        ask: Ask,
        sources: Sequence[ListSource],
        adopt: Adopt,
        settings: ApiSettings,
        clocks: Clocks,
        rng: random.Random,
    ) -> None:
        self._store = store
        self._learner = learner
        self._ask, self._adopt = ask, adopt
        self._sources = sources
        self._settings = settings
        self._clocks = clocks
        self._rng = rng
        self._list_retry_ms: dict[tuple[str, str], int] = {}

    async def recall(self) -> None:
        """Learn which values have been seen."""
        for hub in {source.hub for source in self._sources}:
            values = await self._store.read(partial(rows.known_values, hub=hub))
            self._learner.known[hub] = values

    async def run(self) -> None:
        wait_s = self._settings.first_tick_s
        while True:
            await trio.sleep(wait_s)
            wait_s = self._settings.tick_s
            try:
                await self.tick()
            except StoreError as exc:
                log.warning("API lists could not be kept yet", extra={"facts": {"error": str(exc)}})

    async def tick(self) -> None:
        """Ask for the lists that are due, and look at the endpoints that are paused."""
        asked = await self._store.read(rows.asked_lists)
        now_ms = self._clocks.wall_ms()
        for source in self._sources:
            key = (source.hub, source.name)
            due_ms = asked[key] + source.every_ms if key in asked else 0
            # a clock that was set back must not keep us from asking for years
            is_due = not (now_ms < due_ms <= now_ms + source.every_ms)
            if is_due and now_ms >= self._list_retry_ms.get(key, 0):
                self._list_retry_ms[key] = now_ms + self._settings.retry_ms
                await self._ask_list(source)
        for key, endpoint in list(self._learner.endpoints.items()):
            since_ms = now_ms - self._learner.paused_ms.get(key, 0)
            if endpoint.is_paused and not 0 <= since_ms < self._settings.look_ms:
                self._learner.paused_ms[key] = now_ms
                await self._look(endpoint)

    async def _ask_list(self, source: ListSource) -> None:
        facts: dict[str, object] = {"hub": source.hub, "list": source.name}
        try:
            body = await self._ask(source.hub, source.path, source.params)
            lists = await trio.to_thread.run_sync(source.read, body)
        except (HubError, ValueError) as exc:
            facts["error"] = str(exc)
            log.info("a hub's list of values could not be read", extra={"facts": facts})
            return
        known = self._learner.known.setdefault(source.hub, {})
        changes = _news(source, lists, known)
        await self._store.apply(
            partial(
                rows.add_values,
                hub=source.hub,
                source=source.name,
                lists=lists,
                changes=changes,
                adopt=self._adopt,
            ),
            durability=Durability.NORMAL,
            name="api_changes.values",
        )
        for name, values in lists.items():
            known.setdefault(name, set()).update(values)
        if changes:
            facts["new"] = len(changes)
            log.info("a hub's list of values has grown", extra={"facts": facts})

    async def _look(self, endpoint: Endpoint) -> None:
        """Whether a paused endpoint answers as it used to."""
        hub, operation = endpoint.hub, endpoint.operation
        # another each time: this one may be gone at the hub, and no look would ever succeed
        near = self._rng.randint(0, await self._store.read(rows.newest_key))
        model = await self._store.read(partial(rows.a_model, hub=hub, near=near))
        request = cheapest(hub, operation, model)
        if request is None:
            return
        try:
            body = await self._ask(hub, *request)
        except HubError as exc:
            facts = {"hub": hub, "operation": operation, "error": str(exc)}
            log.info("a paused endpoint does not answer yet", extra={"facts": facts})
            return
        async with self._learner.lock:
            answer = Sample(hub, operation, 200, {}, body)
            seen = await trio.to_thread.run_sync(self._learner.see, answer, 5)
            if endpoint.is_paused and endpoint.heals(seen):
                await self._learner.end_pause(endpoint, "probe")


def _news(
    source: ListSource, lists: Mapping[str, Sequence[str]], known: Mapping[str, Collection[str]]
) -> list[Change]:
    """The changes in a list that was known before; the first time everything is known to be."""
    found: list[Change] = []
    for name, values in lists.items():
        before = known.get(name)
        if before is None:
            continue
        fresh = [value for value in values if value not in before]
        count = f"{len(before)} values"
        for value in fresh[:50]:
            if name == ENDPOINTS:
                change = made("endpoint_new", "harmless", (value,), "unread", count, value)
            else:
                change = made("enum_value_new", "adopted", (name,), "read", count, value)
            found.append(msgspec.structs.replace(change, example=tidy(value)))
    return found

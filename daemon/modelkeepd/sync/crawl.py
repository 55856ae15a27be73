"""One crawl under way: fetch, prepare and write as a pipeline, in order.

While a page is written, the one behind it is parsed and the next is fetched: two pages are in
memory beside the one being written, no more. The state saved with a page is the state after that
page, so the fetcher's lead is forgotten by a kill and nothing else is.
"""

import logging
import random
from collections.abc import Callable
from functools import partial

import msgspec
import trio

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.contract import (
    Hub,
    HubError,
    HubUnavailable,
    ListItem,
    PageRequest,
    ParsedModel,
)
from modelkeepd.hubs.documents import (
    TRAIN_AFTER_DOCUMENTS,
    DocumentCodec,
    train_dictionary,
)
from modelkeepd.hubs.retry import LONGEST_PAUSE_S, jitter_s
from modelkeepd.store import Durability, Store
from modelkeepd.sync import plan
from modelkeepd.sync.plan import Ask, CrawlState, Step
from modelkeepd.sync.prepare import MODEL_KIND, PreparedPage, prepare_page
from modelkeepd.sync.units import PageOutcome, PageWrite, apply_page, known_models, save_dictionary

log = logging.getLogger(__name__)

# failed rounds (each of several tries) before the hub is asked for something else: if it answers
# that, it is this page and not the hub
ROUNDS_BEFORE_PROBE = 3


class Waits(msgspec.Struct, frozen=True):
    """How long an outage is waited for between two rounds."""

    base_s: float = 2.0
    cap_s: float = 300.0


class _Fetched(msgspec.Struct, frozen=True):
    ask: Ask
    items: tuple[ListItem, ...]
    after: CrawlState
    fetched_ms: int
    seen_since_ms: int | None


class _Prepared(msgspec.Struct, frozen=True):
    fetched: _Fetched
    page: PreparedPage


class Crawl:
    """A run from its saved state to its end. ``run`` returns when nothing is left to ask."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        codec: DocumentCodec,
        run_id: int,
        state: CrawlState,
        *,
        parse: Callable[[bytes], ParsedModel],
        clocks: Clocks,
        rng: random.Random,
        waits: Waits,
        on_page: Callable[[PageOutcome, CrawlState, bool], None],
        on_wait: Callable[[HubError | None, float | None], None],
    ) -> None:
        self.state = state  # as last written
        self._store = store
        self._hub = hub
        self._codec = codec
        self._run_id = run_id
        self._parse = parse
        self._clocks = clocks
        self._rng = rng
        self._waits = waits
        self._on_page = on_page
        self._on_wait = on_wait
        self._threads = trio.CapacityLimiter(1)
        self._samples: list[bytes] | None = []
        self._refusal: HubError | None = None

    async def run(self) -> CrawlState:
        """Crawl to the end. Raises the HubError that makes going on pointless for now."""
        # nothing waits in a channel: each stage holds one page
        to_prepare, fetched = trio.open_memory_channel[_Fetched](0)
        to_write, prepared = trio.open_memory_channel[_Prepared](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fetch_all, to_prepare)
            nursery.start_soon(self._prepare_all, fetched, to_write)
            nursery.start_soon(self._write_all, prepared)
        if self._refusal is not None:
            raise self._refusal
        return self.state

    async def _fetch_all(self, to_prepare: trio.MemorySendChannel[_Fetched]) -> None:
        async with to_prepare:
            state = self.state
            while (ask := plan.next_ask(state)) is not None:
                try:
                    items, step = await self._answered(state, ask)
                except HubError as refusal:
                    # pages before it are written first: leaving closes the pipeline behind them
                    self._refusal = refusal
                    return
                for note in step.notes:
                    log.warning("crawl", extra={"facts": {"hub": self._hub.name, "note": note}})
                first_view = state.phase % len(state.views) == 0
                seen_since = None if first_view or plan.is_head(state) else state.started_ms
                state = step.state
                await to_prepare.send(
                    _Fetched(ask, items, state, self._clocks.wall_ms(), seen_since)
                )

    async def _answered(self, state: CrawlState, ask: Ask) -> tuple[tuple[ListItem, ...], Step]:
        """Ask until there is an answer, or the plan knows what to do without one."""
        rounds = 0
        while True:
            try:
                if isinstance(ask, PageRequest):
                    page = await self._hub.list_page(ask)
                    return page.items, plan.on_page(state, page, self._clocks.wall_ms())
                items = await self._hub.models_by_ids(ask.ids, ask.view)
                return items, plan.on_ids(state, ask, self._clocks.wall_ms())
            except HubUnavailable as error:
                rounds += 1
                if rounds >= ROUNDS_BEFORE_PROBE and await self._answers_others(error):
                    now = self._clocks.wall_ms()
                    return (), plan.on_failure(state, ask, error.message, now)
                await self._wait_out(error, rounds)

    async def _answers_others(self, error: HubUnavailable) -> bool:
        if not error.answered or error.status == 429:
            return False
        try:
            await self._hub.probe()
        except HubUnavailable:
            return False
        return True

    async def _wait_out(self, error: HubUnavailable, rounds: int) -> None:
        wait = jitter_s(rounds, self._waits.base_s, self._waits.cap_s, self._rng)
        if error.retry_after_s is not None:
            wait += min(error.retry_after_s, LONGEST_PAUSE_S)
        facts = {"hub": self._hub.name, "wait_s": round(wait, 1), "why": error.message}
        log.warning("hub unavailable", extra={"facts": facts})
        self._on_wait(error, wait)
        await trio.sleep(wait)
        self._on_wait(None, None)

    async def _prepare_all(
        self,
        fetched: trio.MemoryReceiveChannel[_Fetched],
        to_write: trio.MemorySendChannel[_Prepared],
    ) -> None:
        async with fetched, to_write:
            async for item in fetched:
                await self._train(item.items)
                known = await self._store.read(
                    partial(known_models, hub=self._hub.name, items=item.items)
                )
                page = await trio.to_thread.run_sync(
                    partial(
                        prepare_page,
                        self._hub.name,
                        item.items,
                        known,
                        parse=self._parse,
                        codec=self._codec,
                        seen_since_ms=item.seen_since_ms,
                    ),
                    limiter=self._threads,
                )
                await to_write.send(_Prepared(item, page))

    async def _write_all(self, prepared: trio.MemoryReceiveChannel[_Prepared]) -> None:
        async with prepared:
            async for item in prepared:
                await self._write(item)

    async def _write(self, item: _Prepared) -> None:
        is_list_page = isinstance(item.fetched.ask, PageRequest)
        write = PageWrite(
            hub=self._hub.name,
            run_id=self._run_id,
            view=item.fetched.ask.view,
            page=item.page,
            state=msgspec.json.encode(item.fetched.after).decode(),
            fetched_ms=item.fetched.fetched_ms,
            seen_since_ms=item.fetched.seen_since_ms,
            gaps=item.fetched.after.gaps,
            is_list_page=is_list_page,
        )
        outcome = await self._store.apply(
            partial(apply_page, write=write), durability=Durability.NORMAL, name="sync.page"
        )
        self.state = item.fetched.after
        self._on_page(outcome, self.state, is_list_page)

    async def _train(self, items: tuple[ListItem, ...]) -> None:
        """Once there are samples enough, make the dictionary that new documents are kept with."""
        if self._samples is None:
            return
        if self._codec.dictionary_for(self._hub.name, MODEL_KIND) is not None:
            self._samples = None
            return
        self._samples += [item.raw for item in items]
        if len(self._samples) < TRAIN_AFTER_DOCUMENTS:
            return
        samples, self._samples = self._samples, None
        data = await trio.to_thread.run_sync(train_dictionary, samples, limiter=self._threads)
        if data is not None:
            dict_id = await self._store.apply(
                partial(save_dictionary, hub=self._hub.name, kind=MODEL_KIND, data=data),
                durability=Durability.NORMAL,
                name="sync.dictionary",
            )
            self._codec.add(dict_id, self._hub.name, MODEL_KIND, data)

"""One walk of a hub's list under way: fetch, prepare and write as a pipeline, in order.

While a page is written, the one behind it is parsed and the next is fetched: two pages are in
memory beside the one being written, no more. The state saved with a page is the state after that
page, so the fetcher's lead is forgotten by a kill and nothing else is.
"""

import logging
from collections.abc import Callable
from functools import partial

import msgspec
import trio

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.contract import Hub, HubError, ListItem, PageRequest
from modelkeepd.store import StoreError
from modelkeepd.sync import plan
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.patience import Patience, Unanswerable
from modelkeepd.sync.plan import Ask, CrawlState, Step
from modelkeepd.sync.prepare import PreparedPage
from modelkeepd.sync.suspects import Trust
from modelkeepd.sync.units import PageOutcome, PageWrite

log = logging.getLogger(__name__)


class _Fetched(msgspec.Struct, frozen=True):
    ask: Ask
    items: tuple[ListItem, ...]
    after: CrawlState
    fetched_ms: int
    seen_since_ms: int | None
    horizon_ms: int | None


class _Prepared(msgspec.Struct, frozen=True):
    fetched: _Fetched
    page: PreparedPage


class Crawl:
    """A run from its saved state to its end, or for as long as it ``may_go_on``."""

    def __init__(
        self,
        hub: Hub,
        intake: Intake,
        patience: Patience,
        run_id: int,
        state: CrawlState,
        *,
        clocks: Clocks,
        trust: Trust,
        may_go_on: Callable[[], bool],
        on_page: Callable[[PageOutcome, CrawlState, bool], None],
    ) -> None:
        self.state = state  # as last written
        self._hub = hub
        self._intake = intake
        self._patience = patience
        self._run_id = run_id
        self._clocks = clocks
        self._trust = trust
        self._may_go_on = may_go_on
        self._on_page = on_page
        self._refusal: HubError | None = None

    async def run(self) -> CrawlState:
        """Crawl. Raises the HubError that makes going on pointless for now, or StoreError."""
        # nothing waits in a channel: each stage holds one page
        to_prepare, fetched = trio.open_memory_channel[_Fetched](0)
        to_write, prepared = trio.open_memory_channel[_Prepared](0)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._fetch_all, to_prepare)
                nursery.start_soon(self._prepare_all, fetched, to_write)
                nursery.start_soon(self._write_all, prepared)
        except ExceptionGroup as group:
            # an error comes out of the pipeline as itself
            leaves = list(_leaves(group))
            if all(isinstance(error, StoreError) for error in leaves):
                raise leaves[0] from group
            raise
        if self._refusal is not None:
            raise self._refusal
        return self.state

    async def _fetch_all(self, to_prepare: trio.MemorySendChannel[_Fetched]) -> None:
        async with to_prepare:
            state = self.state
            while (ask := plan.next_ask(state)) is not None and self._may_go_on():
                try:
                    items, step = await self._answered(state, ask)
                except HubError as refusal:
                    # pages before it are written first: leaving closes the pipeline behind them
                    self._refusal = refusal
                    return
                for note in step.notes:
                    log.warning("crawl", extra={"facts": {"hub": self._hub.name, "note": note}})
                is_first_view = state.phase == 0
                # rows of this run are never older than it, though the clock be set back meanwhile
                fetched_ms = max(self._clocks.wall_ms(), state.started_ms)
                fetched = _Fetched(
                    ask,
                    items,
                    step.state,
                    fetched_ms,
                    None if is_first_view else state.started_ms,
                    None if is_first_view else plan.horizon_of(state),
                )
                state = step.state
                await to_prepare.send(fetched)

    async def _answered(self, state: CrawlState, ask: Ask) -> tuple[tuple[ListItem, ...], Step]:
        """Ask until there is an answer, or the plan knows what to do without one."""
        try:
            if isinstance(ask, PageRequest):
                page = await self._patience.ask(partial(self._hub.list_page, ask))
                return page.items, plan.on_page(state, page)
            ids = partial(self._hub.models_by_ids, ask.ids, ask.view)
            items = await self._patience.ask(ids)
            return items, plan.on_ids(state, ask)
        except Unanswerable as refused:
            return (), plan.on_failure(state, ask, refused.reason)

    async def _prepare_all(
        self,
        fetched: trio.MemoryReceiveChannel[_Fetched],
        to_write: trio.MemorySendChannel[_Prepared],
    ) -> None:
        async with fetched, to_write:
            async for item in fetched:
                page = await self._intake.prepare(
                    item.items, seen_since_ms=item.seen_since_ms, horizon_ms=item.horizon_ms
                )
                await to_write.send(_Prepared(item, page))

    async def _write_all(self, prepared: trio.MemoryReceiveChannel[_Prepared]) -> None:
        async with prepared:
            async for item in prepared:
                await self._write(item)

    async def _write(self, item: _Prepared) -> None:
        is_list_page = isinstance(item.fetched.ask, PageRequest)
        after = item.fetched.after
        outcome = await self._intake.write(
            PageWrite(
                hub=self._hub.name,
                view=item.fetched.ask.view,
                page=item.page,
                fetched_ms=item.fetched.fetched_ms,
                run_id=self._run_id,
                kind=after.kind,
                state=msgspec.json.encode(after).decode(),
                seen_since_ms=item.fetched.seen_since_ms,
                gaps=after.gaps,
                is_list_page=is_list_page,
                trust=self._trust,
            )
        )
        self.state = after
        self._on_page(outcome, self.state, is_list_page)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found

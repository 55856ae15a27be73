"""One hub's lane: does its tasks one after another, each when it is due, and knows how it stands.

At most one task of a hub runs at a time. Each task can be stopped before any request and goes on
where it was, so a task that a person asked for waits for one request at most. When a task is due
is ``schedule``'s, what it does is its module's.
"""

import logging
import random
from collections.abc import Callable
from functools import partial

import msgspec
import trio

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.contract import Hub, HubError
from modelkeepd.store import StoreError
from modelkeepd.sync import plan, refetch, runs, schedule, suspects
from modelkeepd.sync.confirm import Confirm
from modelkeepd.sync.crawl import Crawl
from modelkeepd.sync.details import Details
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.ledger import MAIN, Active, Ledger
from modelkeepd.sync.patience import Patience, Waits
from modelkeepd.sync.plan import CrawlState
from modelkeepd.sync.progress import Pace, SyncStatus, status_of
from modelkeepd.sync.refetch import Refetch
from modelkeepd.sync.schedule import NEVER, Book, Cadence, Choice, Task
from modelkeepd.sync.suspects import Trust
from modelkeepd.sync.units import PageOutcome

log = logging.getLogger(__name__)

# a refetch asks for this many models at most: they are queued in one transaction
_REFETCH_MODELS = 400_000
# a machine that slept this long wakes to many things at once
_SLEPT_S = 30.0
# asked again whether details are wanted that could not be had
_DETAILS_AGAIN_S = 6 * 3_600.0
_COUNT_EVERY_S = 600.0


class SyncSettings(msgspec.Struct, frozen=True):
    """When syncs run, and how much a hub's denials are trusted. How fast it is asked is its
    client's affair."""

    auto: bool = True
    cadence: Cadence = Cadence()
    trust: Trust = Trust()
    # a refusal (token, region, API change) rarely passes by itself, but it may
    retry_failed_s: float = 3_600.0
    # a full disk or the like: the run goes on from its last page
    retry_store_s: float = 60.0
    waits: Waits = Waits()
    # requests a background task makes before others have their turn
    slice_requests: int = 25
    # clocks, quiet hours and budgets are looked at this often
    nap_s: float = 30.0
    # after sleep, and at a start, what is overdue begins within this
    wake_jitter_s: float = 60.0


class Ports(msgspec.Struct, frozen=True):
    """What a lane asks others: whether its hub is in quiet hours now, and how many requests of
    today's budget are left for the background (None: no budget)."""

    is_quiet: Callable[[], bool] = lambda: False
    budget_left: Callable[[], int | None] = lambda: None


class Lane:
    """One hub's tasks."""

    def __init__(
        self,
        hub: Hub,
        intake: Intake,
        settings: SyncSettings,
        ports: Ports,
        clocks: Clocks,
        rng: random.Random,
    ) -> None:
        self._hub = hub
        self._intake = intake
        self._settings = settings
        self._ports = ports
        self._clocks = clocks
        self._rng = rng
        self._patience = Patience(hub, rng, settings.waits, self._waits)
        self._ledger = Ledger(hub, intake, clocks)
        self._wanted = trio.Event()
        self._manual: set[str] = set()  # what a person asked for
        self._look_s: float | None = None
        self._details_s: float | None = NEVER
        self._last_turn = ""
        self._hold_s = NEVER
        self._asleep_s = clocks.boot() - clocks.monotonic()
        self._task: Task | None = None
        self._left_in_slice = 0
        self._pace = Pace()
        self._waiting: tuple[float, float] | None = None  # since, seconds
        self._error: HubError | StoreError | None = None
        self._coverage = runs.Coverage()
        self._counted_s = NEVER
        self._details = Details(
            hub,
            intake,
            self._patience,
            clocks=clocks,
            trust=settings.trust,
            may_go_on=lambda: self._may_go_on("details"),
        )
        self._confirm = Confirm(
            hub,
            intake,
            self._patience,
            clocks=clocks,
            trust=settings.trust,
            may_go_on=lambda: self._may_go_on("confirm"),
        )

    # --- what others ask ---

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do what is due, for ever. Ready means that its state is known."""
        await self.recall()
        task_status.started()
        while True:
            await self.work()
            await self._nap()

    async def recall(self) -> None:
        """Learn from the store what was going on."""
        await self._intake.store.read(self._intake.codec.load)
        await self._ledger.recall()
        await self._note_suspects()
        await self._count()
        # what a person may be waiting for goes on at once
        goes_on = self._ledger.needs_full or not self._ledger.active.keys().isdisjoint(MAIN)
        if not goes_on and self._choose().task is not None:
            self._settle_down()

    async def work(self) -> None:
        """Do everything that is due now."""
        did = False
        while True:
            self._notice_sleep()  # with nothing between it and the choice
            task = self._choose().task
            if task is None:
                break
            await self._perform(task)
            did = True
            if task in MAIN or self._clocks.boot() - self._counted_s > _COUNT_EVERY_S:
                await self._count()
        if did:
            await self._count()
        await trio.lowlevel.checkpoint()

    async def start(self, full: bool) -> None:
        """A person wants news, or a full crawl: now, whatever the hour and the budget."""
        ledger = self._ledger
        kind: Task = "full" if full or "full" in ledger.active or ledger.needs_full else "news"
        if kind not in ledger.active:
            await ledger.begin(kind)
        self._manual.add(kind)
        self._hold_s = NEVER
        self._patience.hurry()
        self._wanted.set()

    def hurry(self) -> None:
        """Whatever kept the hub from answering is over: ask now."""
        self._patience.hurry()

    def status(self) -> SyncStatus:
        """How it stands, from memory."""
        ledger = self._ledger
        active = ledger.active.get("full") or ledger.active.get("news")
        run = ledger.last if active is None else active.run
        waiting = None
        if self._waiting is not None:
            since, seconds = self._waiting
            waiting = max(0.0, since + seconds - self._clocks.monotonic())
        error = self._error
        status = status_of(
            self._hub.name,
            run,
            None if active is None else active.crawl,
            self._pace,
            ledger.earlier.get("" if run is None else run.kind, ()),
            waiting_s=waiting,
            error=None if error is None else str(error),
            hint=error.hint if isinstance(error, HubError) else None,
        )
        return msgspec.structs.replace(
            status,
            task=self._task,
            is_quiet=self._ports.is_quiet(),
            next_sync_ms=self._next_sync_ms(),
            last_full_ms=ledger.finished_ms.get("full"),
            last_news_ms=ledger.finished_ms.get("news"),
            last_sweep_ms=ledger.finished_ms.get("sweep"),
            last_refetch_ms=ledger.finished_ms.get("refetch"),
            coverage=self._coverage,
        )

    # --- whose turn it is ---

    def _book(self) -> Book:
        offers = {"sweep"}
        if self._hub.bulk_ids:
            offers.add("refetch")
        if self._hub.details_apart:
            offers.add("details")
        return Book(
            needs_full=self._ledger.needs_full,
            offers=frozenset(offers),
            unfinished=frozenset(self._ledger.active),
            manual=frozenset(self._manual),
            done=self._ledger.done,
            look_s=self._look_s,
            details_s=self._details_s,
            last_turn=self._last_turn,
            hold_s=self._hold_s,
        )

    def _choose(self) -> Choice:
        return schedule.choose(
            self._book(),
            self._clocks.boot(),
            self._settings.cadence,
            auto=self._settings.auto,
            is_quiet=self._ports.is_quiet(),
            budget_left=self._ports.budget_left(),
        )

    def _may_go_on(self, task: Task) -> bool:
        """Asked before each request of a task."""
        if task in self._manual:
            return True
        if self._manual and task != "full":
            return False  # somebody waits
        if self._ports.is_quiet():
            return False
        if task in MAIN:
            return True
        left = self._ports.budget_left()
        if left is not None and left <= 0:
            return False
        if task in schedule.TURNS:
            self._left_in_slice -= 1
            return self._left_in_slice >= 0
        return True

    def _next_sync_ms(self) -> int | None:
        if not self._settings.auto:
            return None
        at_s = max(schedule.news_at(self._book(), self._settings.cadence), self._hold_s)
        wait_s = max(0.0, at_s - self._clocks.boot())
        return self._clocks.wall_ms() + round(wait_s * 1000)

    async def _nap(self) -> None:
        """Until somebody asks, or something may be due."""
        at_s = self._choose().at_s
        seconds = self._settings.nap_s
        if at_s is not None:
            seconds = min(seconds, max(0.0, at_s - self._clocks.boot()))
        with trio.move_on_after(seconds):
            await self._wanted.wait()
        self._wanted = trio.Event()

    def _notice_sleep(self) -> None:
        asleep_s = self._clocks.boot() - self._clocks.monotonic()
        if asleep_s - self._asleep_s > _SLEPT_S:
            self._settle_down()
        self._asleep_s = asleep_s

    def _settle_down(self) -> None:
        """Not everything at once, on waking up."""
        jitter_s = self._rng.uniform(0.0, self._settings.wake_jitter_s)
        self._hold_s = max(self._hold_s, self._clocks.boot() + jitter_s)

    async def _note_suspects(self) -> None:
        """When the next suspect's turn comes."""
        query = partial(suspects.next_look_ms, hub=self._hub.name)
        next_ms = await self._intake.store.read(query)
        self._look_s = None
        if next_ms is not None:
            wait_ms = max(0, next_ms - self._clocks.wall_ms())
            self._look_s = self._clocks.boot() + wait_ms / 1000

    async def _count(self) -> None:
        counted = partial(runs.coverage, hub=self._hub.name, details=self._hub.details_apart)
        self._coverage = await self._intake.store.read(counted)
        self._counted_s = self._clocks.boot()

    # --- doing it ---

    async def _perform(self, task: Task) -> None:
        self._task = task
        self._left_in_slice = self._settings.slice_requests
        if task in schedule.TURNS:
            self._last_turn = task
        if task in MAIN and task not in self._ledger.active:
            self._pace = Pace()
        try:
            await self._do(task)
            if self._waiting is not None:
                self._waits(None, None)
        except HubError as error:
            facts = {"hub": self._hub.name, "task": task, "why": error.message}
            log.error("sync failed", extra={"facts": facts})
            self._error = error
            self._hold(self._settings.retry_failed_s)
            await self._note_failure(task, error)
        except StoreError as error:
            self._stopped_by_store(error)
        finally:
            self._task = None

    async def _do(self, task: Task) -> None:
        if task == "confirm":
            await self._confirm.run()
            await self._note_suspects()
        elif task == "details":
            is_over = await self._details.run()
            self._details_s = self._clocks.boot() + _DETAILS_AGAIN_S if is_over else NEVER
        elif task == "refetch":
            await self._refetch()
        else:
            await self._crawl(task)

    async def _note_failure(self, task: Task, error: HubError) -> None:
        try:
            await self._ledger.fail(task, error)
        except StoreError as trouble:
            self._stopped_by_store(trouble)

    def _stopped_by_store(self, error: StoreError) -> None:
        log.error("sync stopped by the store", extra={"facts": {"error": str(error)}})
        self._error = error
        self._hold(self._settings.retry_store_s)
        # it goes on by itself; until then it says why it waits
        self._waits(None, self._settings.retry_store_s)

    def _hold(self, seconds: float) -> None:
        self._manual.clear()
        self._hold_s = self._clocks.boot() + seconds

    async def _crawl(self, kind: Task) -> None:
        active = await self._ledger.going(kind)
        assert active.crawl is not None
        crawl = Crawl(
            self._hub,
            self._intake,
            self._patience,
            active.run.run_id,
            active.crawl,
            clocks=self._clocks,
            trust=self._settings.trust,
            may_go_on=lambda: self._may_go_on(kind),
            on_page=partial(self._page_written, active),
        )
        last = await crawl.run()
        if not plan.is_finished(last):
            return
        if await self._ledger.finish_crawl(active, last):
            await self._note_suspects()
        self._finished(kind)
        self._details_s = NEVER  # rows may stand at new commits

    async def _refetch(self) -> None:
        ledger, hub = self._ledger, self._hub
        active = await ledger.going("refetch")
        if self._clocks.boot() - active.chosen_s >= self._settings.cadence.refetch_s:
            # or the last choice was more than a day's budget: today begins with what is owned
            left = self._ports.budget_left()
            most = _REFETCH_MODELS if left is None else min(left * hub.bulk_ids, _REFETCH_MODELS)
            chosen = await self._intake.store.read(
                partial(
                    refetch.choose,
                    hub=hub.name,
                    now_ms=self._clocks.wall_ms(),
                    most=most,
                    bulk=hub.bulk_ids,
                    trust=self._settings.trust,
                )
            )
            queue = partial(
                refetch.queue, hub=hub.name, run_id=active.run.run_id, model_keys=chosen
            )
            await self._intake.apply(queue, "sync.queue")
            active.chosen_s = self._clocks.boot()
        asking = Refetch(
            hub,
            self._intake,
            self._patience,
            active.run.run_id,
            clocks=self._clocks,
            trust=self._settings.trust,
            may_go_on=lambda: self._may_go_on("refetch"),
            on_batch=active.add,
        )
        if await asking.run():
            await ledger.finish(active)
            self._finished("refetch")
        await self._note_suspects()

    def _finished(self, kind: Task) -> None:
        self._manual.discard(kind)
        self._error = None

    # --- what tasks tell ---

    def _page_written(
        self, active: Active, outcome: PageOutcome, state: CrawlState, is_list_page: bool
    ) -> None:
        active.crawl = state
        if self._waiting is None:  # the fetcher is ahead: it may be waiting already
            self._error = None
        active.add(outcome, is_list_page, state.gaps)
        if is_list_page and state.kind in MAIN:
            self._pace.page_written(self._clocks.monotonic(), outcome.seen)

    def _waits(self, error: HubError | None, seconds: float | None) -> None:
        if error is not None:
            self._error = error
        self._waiting = None if seconds is None else (self._clocks.monotonic(), seconds)

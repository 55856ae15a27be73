"""The sync service: one lane per hub, which crawls when asked, on the first start, or to resume.

Owns when a sync runs and what is told about it. A hub that is down keeps only its own lane
waiting. Wanted by the composition root: ``run``; by the handlers: ``start`` and ``status``.
"""

import logging
import random
from collections.abc import Mapping
from functools import partial

import msgspec
import trio

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.contract import Hub, HubError, parse_model
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.store import Durability, Store, StoreError
from modelkeepd.sync import plan, runs
from modelkeepd.sync.crawl import Crawl, Waits
from modelkeepd.sync.plan import CrawlState
from modelkeepd.sync.progress import Pace, SyncStatus, status_of
from modelkeepd.sync.units import PageOutcome

log = logging.getLogger(__name__)


class SyncSettings(msgspec.Struct, frozen=True):
    """When syncs run. How fast a hub is asked is its client's affair."""

    auto: bool = True
    # a refusal (token, region, API change) rarely passes by itself, but it may
    retry_failed_s: float = 3_600.0
    # a full disk or the like: the run goes on from its last page
    retry_store_s: float = 60.0
    waits: Waits = Waits()


class UnknownHub(LookupError):
    """No such hub is configured."""

    code = "not_found"


class SyncService:
    """Keeps the catalog of every configured hub."""

    name = "sync"
    essential = False

    def __init__(
        self,
        store: Store,
        hubs: Mapping[str, Hub],
        settings: SyncSettings | None = None,
        *,
        clocks: Clocks | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._lanes = {
            name: _Lane(
                store, hub, settings or SyncSettings(), clocks or Clocks(), rng or random.Random()
            )
            for name, hub in hubs.items()
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until canceled. Ready means that ``start`` and ``status`` can be asked."""
        async with trio.open_nursery() as nursery:
            for lane in self._lanes.values():
                await nursery.start(lane.run)
            task_status.started()
            await trio.sleep_forever()

    async def start(self, hub: str, full: bool = False) -> SyncStatus:
        """Start a sync, or show the one that runs. Raises UnknownHub.

        Until increments exist every sync is a full crawl, and ``full`` only says so.
        """
        del full
        lane = self._lane(hub)
        await lane.start()
        return lane.status()

    def status(self, hub: str | None = None) -> list[SyncStatus]:
        """How every hub's sync stands, or one hub's."""
        if hub is not None:
            return [self._lane(hub).status()]
        return [lane.status() for lane in self._lanes.values()]

    def _lane(self, hub: str) -> "_Lane":
        try:
            return self._lanes[hub]
        except KeyError:
            known = ", ".join(self._lanes) or "none"
            raise UnknownHub(f"no hub {hub!r} is configured (there is: {known})") from None


class _Lane:
    """One hub: at most one run at a time."""

    def __init__(
        self, store: Store, hub: Hub, settings: SyncSettings, clocks: Clocks, rng: random.Random
    ) -> None:
        self._store = store
        self._hub = hub
        self._settings = settings
        self._clocks = clocks
        self._rng = rng
        self._codec = DocumentCodec()
        self._wanted = trio.Event()
        self._run: runs.Run | None = None
        self._crawl: CrawlState | None = None
        self._earlier: tuple[int, ...] = ()
        self._pace = Pace()
        self._waiting: tuple[float, float] | None = None  # since, seconds
        self._error: HubError | StoreError | None = None
        self._starting = trio.Lock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self._recall()
        task_status.started()
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            while self._crawl is not None and not await self._go_on():
                pass

    async def start(self) -> None:
        async with self._starting:
            if self._crawl is None:
                state = plan.begin(self._hub.views, self._clocks.wall_ms())
                run_id = await self._store.apply(
                    partial(
                        runs.begin_run,
                        hub=self._hub.name,
                        kind="full",
                        state=msgspec.json.encode(state).decode(),
                    ),
                    durability=Durability.NORMAL,
                    name="sync.begin",
                )
                finished = await self._store.read(partial(runs.last_finished, hub=self._hub.name))
                self._earlier = finished.pass_pages if finished else ()
                self._run = runs.Run(
                    run_id, self._hub.name, "full", "running", state.started_ms, None,
                    0, 0, 0, 0, 0, 0, (), None,
                )  # fmt: skip
                self._pace = Pace()
                self._crawl = state
        self._wanted.set()

    def status(self) -> SyncStatus:
        if self._run is None:
            return SyncStatus(self._hub.name, "never")
        waiting = None
        if self._waiting is not None:
            since, seconds = self._waiting
            waiting = max(0.0, since + seconds - self._clocks.monotonic())
        error = self._error
        return status_of(
            self._run,
            self._crawl,
            self._pace,
            self._earlier,
            waiting_s=waiting,
            error=None if error is None else str(error),
            hint=error.hint if isinstance(error, HubError) else None,
        )

    async def _recall(self) -> None:
        """Learn from the store what was going on; begin or resume what is due."""
        name = self._hub.name
        await self._store.read(self._codec.load)
        self._run = await self._store.read(partial(runs.last_run, hub=name))
        finished = await self._store.read(partial(runs.last_finished, hub=name))
        self._earlier = finished.pass_pages if finished else ()
        unfinished = await self._store.read(partial(runs.resumable, hub=name))
        if unfinished is not None:
            self._run = unfinished.run
            self._crawl = msgspec.json.decode(unfinished.state, type=CrawlState)
            self._wanted.set()
        elif self._run is None and self._settings.auto:
            await self.start()
            return
        if unfinished is not None:
            await self._resume(unfinished.run)

    async def _resume(self, run: runs.Run) -> None:
        await self._store.apply(
            partial(runs.resume_run, hub=self._hub.name, run_id=run.run_id),
            durability=Durability.NORMAL,
            name="sync.resume",
        )
        self._run = msgspec.structs.replace(run, state="running", error=None)

    async def _go_on(self) -> bool:
        """Crawl as far as it goes; False when it is to be tried again at once."""
        assert self._run is not None
        assert self._crawl is not None
        if self._run.state == "failed":
            await self._resume(self._run)
        crawl = Crawl(
            self._store,
            self._hub,
            self._codec,
            self._run.run_id,
            self._crawl,
            parse=partial(parse_model, self._hub.name, texts=False),
            clocks=self._clocks,
            rng=self._rng,
            waits=self._settings.waits,
            on_page=self._page_written,
            on_wait=self._waits,
        )
        try:
            last = await _unwrapped(crawl)
            await self._finish(last)
        except HubError as error:
            self._error = error
            await self._fail(error)
            return await self._pause(self._settings.retry_failed_s)
        except StoreError as error:
            log.error("sync stopped by the store", extra={"facts": {"error": str(error)}})
            self._error = error
            self._waits(None, self._settings.retry_store_s)
            await self._pause(self._settings.retry_store_s)
            self._waits(None, None)
            return False
        return True

    async def _pause(self, seconds: float) -> bool:
        """Wait, or until somebody asks for the sync; always False: it goes on."""
        with trio.move_on_after(seconds):
            await self._wanted.wait()
            self._wanted = trio.Event()
        return False

    async def _finish(self, last: CrawlState) -> None:
        assert self._run is not None
        pass_pages = last.pass_pages[: len(last.views)]
        await self._store.apply(
            partial(
                runs.finish_run,
                hub=self._hub.name,
                run_id=self._run.run_id,
                pass_pages=pass_pages,
            ),
            durability=Durability.NORMAL,
            name="sync.finish",
        )
        self._run = await self._store.read(partial(runs.last_run, hub=self._hub.name))
        self._earlier, self._crawl, self._error = pass_pages, None, None

    async def _fail(self, error: HubError) -> None:
        assert self._run is not None
        log.error("sync failed", extra={"facts": {"hub": self._hub.name, "why": error.message}})
        await self._store.apply(
            partial(
                runs.fail_run,
                hub=self._hub.name,
                run_id=self._run.run_id,
                code=error.code,
                message=error.message,
                hint=error.hint,
            ),
            durability=Durability.NORMAL,
            name="sync.fail",
        )
        self._run = msgspec.structs.replace(self._run, state="failed", error=error.message)

    def _page_written(self, outcome: PageOutcome, state: CrawlState, is_list_page: bool) -> None:
        assert self._run is not None
        run = self._run
        self._crawl = state
        if self._waiting is None:  # the fetcher is ahead: it may be waiting already
            self._error = None
        self._run = msgspec.structs.replace(
            run,
            pages=run.pages + is_list_page,
            seen=run.seen + outcome.seen,
            new=run.new + outcome.new,
            changed=run.changed + outcome.changed,
            odd=run.odd + outcome.odd,
            gaps=state.gaps,
        )
        if is_list_page:
            self._pace.page_written(self._clocks.monotonic(), outcome.seen)

    def _waits(self, error: HubError | None, seconds: float | None) -> None:
        if error is not None:
            self._error = error
        self._waiting = None if seconds is None else (self._clocks.monotonic(), seconds)


async def _unwrapped(crawl: Crawl) -> CrawlState:
    """Run the crawl; an error comes out of its pipeline's nursery as itself."""
    try:
        return await crawl.run()
    except ExceptionGroup as group:
        found = [e for e in _leaves(group) if isinstance(e, (HubError, StoreError))]
        if len(found) == len(list(_leaves(group))):
            raise found[0] from group
        raise


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found

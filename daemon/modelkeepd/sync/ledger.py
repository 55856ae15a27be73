"""The runs of one hub: begun, resumed, finished, failed; and what they leave for the schedule.

Memory of what ``runs`` keeps in rows, so that status and schedule need not ask the store. Decides
nothing.
"""

from collections.abc import Mapping
from functools import partial

import msgspec
import trio

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.contract import Hub, HubError
from modelkeepd.sync import plan, refetch, runs
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.plan import CrawlState
from modelkeepd.sync.runs import Run
from modelkeepd.sync.schedule import NEVER, Done, Task, since
from modelkeepd.sync.units import PageOutcome

CRAWLS = frozenset({"full", "news", "sweep"})
# of those that people start
MAIN = ("full", "news")


class Active(msgspec.Struct):
    """A run that is not finished. ``is_announced``: that it goes on was told in this process.

    ``chosen_s`` is the boot time at which a refetch chose its models.
    """

    run: Run
    crawl: CrawlState | None = None
    is_announced: bool = True
    chosen_s: float = NEVER

    def add(self, outcome: PageOutcome, pages: int = 0, gaps: int | None = None) -> None:
        """Count what a page brought, as its row does."""
        run = self.run
        self.run = msgspec.structs.replace(
            run,
            pages=run.pages + pages,
            seen=run.seen + outcome.seen,
            new=run.new + outcome.new,
            changed=run.changed + outcome.changed,
            odd=run.odd + outcome.odd,
            gaps=run.gaps if gaps is None else gaps,
        )


class Ledger:
    """See the module's prose."""

    def __init__(self, hub: Hub, intake: Intake, clocks: Clocks) -> None:
        self.active: dict[str, Active] = {}
        self.marks: dict[str, int | None] = {}
        self.done: dict[str, Done] = {}
        self.finished_ms: dict[str, int] = {}
        self.earlier: dict[str, tuple[int, ...]] = {}  # pages of each pass, for estimates
        self.last: Run | None = None
        self._hub = hub
        self._intake = intake
        self._clocks = clocks
        self._beginning = trio.Lock()

    @property
    def needs_full(self) -> bool:
        """Whether some view was never read whole."""
        return not set(self._hub.views) <= self.marks.keys()

    async def recall(self) -> None:
        """Learn from the store what was going on."""
        name, store = self._hub.name, self._intake.store
        await self._intake.apply(partial(runs.mend_times, hub=name), "sync.mend")
        self.last = await store.read(partial(runs.last_run, hub=name))
        self.marks = await store.read(partial(runs.known_marks, hub=name))
        for kind in CRAWLS:
            finished = await store.read(partial(runs.last_finished, hub=name, kind=kind))
            if finished is not None:
                self.earlier[kind] = finished.pass_pages
        now_ms, boot_s = self._clocks.wall_ms(), self._clocks.boot()
        for kind, done in (await store.read(partial(runs.last_done, hub=name))).items():
            begun_s = since(done.begun_ms, now_ms, boot_s)
            self.done[kind] = Done(begun_s, since(done.done_ms, now_ms, boot_s))
            self.finished_ms[kind] = done.done_ms
        for unfinished in await store.read(partial(runs.resumable, hub=name)):
            await self._take_up(unfinished)

    async def _take_up(self, unfinished: runs.Resumable) -> None:
        run, crawl = unfinished.run, None
        if run.kind in CRAWLS:
            try:
                crawl = msgspec.json.decode(unfinished.state, type=CrawlState)
            except msgspec.MsgspecError:  # of another release
                crawl = None
            if crawl is None or not set(crawl.views) <= set(self._hub.views):
                await self.forget(run.kind)
                return
        self.active[run.kind] = active = Active(run, crawl, is_announced=False)
        if run.kind == refetch.KIND:
            chosen_ms = refetch.chosen_ms(unfinished.state)
            boot_s, now_ms = self._clocks.boot(), self._clocks.wall_ms()
            active.chosen_s = NEVER if chosen_ms is None else since(chosen_ms, now_ms, boot_s)

    async def begin(self, kind: Task) -> None:
        """See that a run of this kind is under way, if only by its row."""
        async with self._beginning:
            if kind not in self.active:
                await self._begin(kind)

    async def going(self, kind: Task) -> Active:
        """The run of this kind that is not finished, announced, or a new one."""
        await self.begin(kind)
        active = self.active[kind]
        if not active.is_announced:
            await self._intake.apply(partial(runs.resume_run, run=active.run), "sync.resume")
            active.run = msgspec.structs.replace(active.run, state="running", error=None)
            active.is_announced = True
        return active

    async def _begin(self, kind: Task) -> None:
        crawl = self._plan(kind, self._clocks.wall_ms()) if kind in CRAWLS else None
        state = "{}" if crawl is None else msgspec.json.encode(crawl).decode()
        begin = partial(runs.begin_run, hub=self._hub.name, kind=kind, state=state)
        run = await self._intake.apply(begin, "sync.begin")
        self.active[kind] = Active(run, crawl)
        if kind in MAIN:
            self.last = run

    def _plan(self, kind: Task, now_ms: int) -> CrawlState:
        hub = self._hub
        if kind == "news":
            marks = {view: self.marks.get(view) for view in hub.views}
            return plan.begin_news(marks, now_ms, order=hub.news_order, page_limit=hub.page_limit)
        # views that were added are read alone
        new = tuple(view for view in hub.views if view not in self.marks)
        crawl = plan.begin(
            new if kind == "full" and new else hub.views,
            now_ms,
            page_limit=hub.page_limit,
            has_oldest=hub.news_order == "newest",
        )
        return plan.begin_sweep(crawl) if kind == "sweep" else crawl

    async def finish_crawl(self, active: Active, last: CrawlState) -> bool:
        """The end of a list was reached. True when it may have left suspects."""
        kind, marks = active.run.kind, None
        if kind == "full" or (kind == "news" and last.gaps == 0):
            marks = plan.marks(last)
        is_whole = last.gaps == 0 and set(last.views) == set(self._hub.views)
        misses = is_whole and kind != "news"
        await self.finish(
            active,
            pass_pages=last.pass_pages,
            marks=marks,
            unseen_since_ms=last.started_ms if misses else None,
        )
        self.earlier[kind] = last.pass_pages
        self.marks |= marks or {}
        return misses

    async def finish(
        self,
        active: Active,
        *,
        pass_pages: tuple[int, ...] = (),
        marks: Mapping[str, int | None] | None = None,
        unseen_since_ms: int | None = None,
    ) -> None:
        """The run is complete."""
        run = await self._intake.apply(
            partial(
                runs.finish_run,
                run=active.run,
                pass_pages=pass_pages,
                marks=marks,
                unseen_since_ms=unseen_since_ms,
            ),
            "sync.finish",
        )
        del self.active[run.kind]
        boot_s = self._clocks.boot()
        begun_s = since(run.started_ms, self._clocks.wall_ms(), boot_s)
        self.done[run.kind] = Done(begun_s, boot_s)
        if run.finished_ms is not None:
            self.finished_ms[run.kind] = run.finished_ms
        if run.kind in MAIN:
            self.last = run

    async def fail(self, kind: Task, error: HubError) -> None:
        """The run of this kind can't go on for now. Only a full crawl is kept: begun anew the
        others cost little, and a cursor that has become stale would stay so."""
        active = self.active.get(kind)
        if active is None:
            return
        failed = partial(
            runs.fail_run,
            run=active.run,
            code=error.code,
            message=error.message,
            hint=error.hint,
        )
        await self._intake.apply(failed, "sync.fail")
        active.run = msgspec.structs.replace(active.run, state="failed", error=error.message)
        active.is_announced = False
        if kind == "news":
            self.last = active.run
        if kind != "full":
            await self.forget(kind)

    async def forget(self, kind: str) -> None:
        """The unfinished run of this kind is given up."""
        self.active.pop(kind, None)
        forget = partial(runs.forget_unfinished, hub=self._hub.name, kind=kind)
        await self._intake.apply(forget, "sync.forget")

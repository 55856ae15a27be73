"""How long silent edits and removals stay unseen, by the requests a day that background work may
make. Part of ``benchmarks.increment``.

Sync's own lane with a real store, over a hub in memory and clocks set by hand, a quarter of a day
at a time. The hub is small, its pages are smaller still: as many *requests* are needed for a walk
as the stated share of what a million models need, and the budget is the same share. What does not
depend on pages (looks at single models) has its numbers cut by that share too.

**Silent** is what no list of news shows: CivitAI's every edit of a model's words, Hugging Face's
counters. An edit is *seen* when the catalog's row has it. A removal is *missed* when the model
becomes a suspect and *believed* when it is gone. Of edits two kinds are told apart: of any model,
and of the most used twentieth. A crawl of the whole list precedes, then one whole turn of the
background's work, so that what is measured is its steady state.

News costs a request for each view at least: more of a small budget here than of a real one.
"""

import random
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

import apsw
import msgspec
import trio

from modelkeepd.hubs.contract import Address, ListItem, Presence, parse_model
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.store import Store, open_store
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.lane import Lane, Ports, SyncSettings
from modelkeepd.sync.patience import Waits
from tests.fakes.clocks import FakeClocks
from tests.fakes.living_hub import START_MS, LivingHub, Manner

DAY_MS = 86_400_000
STEP_MS = DAY_MS // 4
EDITS_A_DAY = 24
MOST_USED = 20  # one in so many
LONGEST_DAYS = 400
_TRIES = 20
# models on a hub of a million, of which a day removes so many; an assumption
REMOVED_A_DAY = 100


class Scene(msgspec.Struct, frozen=True):
    """One hub, small. ``page`` stands for pages of ``real_page``; ``turn`` is how many requests a
    whole turn of the background takes on a hub of a million models."""

    manner: Manner
    models: int
    page: int
    real_page: int
    budgets: tuple[int, ...]
    added_a_day: int  # per million
    published_a_day: int
    # of each pass beside the first: the share of models that it alone shows
    second_alone: float
    turn: int
    least_days: int

    @property
    def share(self) -> float:
        """Of the requests that a million models take."""
        return (self.models / self.page) / (1_000_000 / self.real_page)

    def turn_days(self, budget: int) -> int:
        """How long the background takes to have seen everything once, about."""
        return max(self.least_days, -(-self.turn // budget))


SCENES = (
    # both halves of the refetch; a batch costs a second request when one of its models is shown
    # by the second view alone: of a hundred real ones (2 %) as often as of twenty here (10 %)
    Scene("civitai", 3_000, 20, 100, (2_000, 5_000, 20_000), 590, 590, 0.1, 40_000, 4),
    # a weekly sweep of the list, by turns with details
    Scene("huggingface", 1_000, 8, 1_000, (1_000, 3_000, 10_000), 1_500, 1_500, 0.0, 2_000, 8),
)
# of the models above
SIZES = {"small": 1, "full": 5}


class ScaledHub(LivingHub):
    """The living hub with small pages, its views in the real proportions, and quick look-ups."""

    def __init__(self, scene: Scene, rng: random.Random) -> None:
        self._scene, self._rng = scene, rng
        # the past has what the days to come will have
        a_day = (scene.added_a_day + scene.published_a_day) * scene.models / 1_000_000
        self._between_ms = round(DAY_MS / a_day)
        super().__init__(scene.manner, page_size=scene.page)
        for _ in range(scene.models):
            self.now_ms += self._between_ms
            self.add()
        self.page_limit = scene.page
        self.bulk_ids = scene.page if scene.manner == "civitai" else 0

    def add(self, views: Sequence[str] | None = None, *, name: str | None = None) -> str:
        scene, draw = self._scene, self._rng.random()
        shown = self.views
        if scene.manner == "civitai":
            alone = scene.second_alone
            shown = ("sfw",) if draw < alone else self.views if draw < 0.6 else ("mature",)
        hub_id = super().add(shown, name=name)
        self.lives[hub_id].downloads = int(self._rng.lognormvariate(5.5, 1.8))
        return hub_id

    async def models_by_ids(self, ids: Sequence[str], view: str) -> tuple[ListItem, ...]:
        self._asked("ids")
        lives = [self.lives[hub_id] for hub_id in ids]
        return tuple(
            self._item(life)
            for life in lives
            if view in life.views and life.is_listed and not life.is_gone
        )

    async def look(self, address: Address) -> Presence:
        found = await super().look(address)
        if self.name == "civitai":
            # both views, then by its id, then two of its versions
            more = 1 if found.state == "present" else 4
            self.requests += ["look"] * more
        return found

    def _asked(self, operation: str) -> None:
        self.requests.append(operation)


class Pending(msgspec.Struct):
    """A change that the catalog has not seen yet."""

    hub_id: str
    at_ms: int
    kind: str  # any, used, removal
    wanted: int = 0  # how many edits, or downloads


class Found(msgspec.Struct):
    """Delays in days, by kind."""

    days: dict[str, list[float]]
    unseen: int = 0


class World:
    """The hub, the lane and time."""

    def __init__(self, scene: Scene, budget: int, store: Store, clocks: FakeClocks) -> None:
        self.scene, self.clocks, self.store = scene, clocks, store
        self.rng = random.Random(f"{scene.manner} {budget}")
        self.hub = ScaledHub(scene, self.rng)
        self.budget = round(budget * scene.share)
        self.found = Found({"any": [], "used": [], "missed": [], "believed": []})
        self.pending: list[Pending] = []
        self.today, self.spent_before = 0, 0
        self._owed: dict[str, float] = {}
        name = self.hub.name
        intake = Intake(store, name, DocumentCodec(), partial(parse_model, name, texts=False))
        settings = SyncSettings(
            waits=Waits(0.0, 0.0),
            wake_jitter_s=0.0,
            slice_requests=max(1, round(SyncSettings().slice_requests * scene.share)),
        )
        ports = Ports(budget_left=self._left)
        self.lane = Lane(self.hub, intake, settings, ports, clocks, self.rng)

    def _left(self) -> int:
        today = self.clocks.wall_ms() // DAY_MS
        if today != self.today:
            self.today, self.spent_before = today, len(self.hub.requests)
        return max(0, self.budget - (len(self.hub.requests) - self.spent_before))

    async def begin(self) -> None:
        """The first crawl, which needs no budget."""
        self.clocks.set_wall_ms = self.hub.now_ms + 60_000
        await self.lane.recall()
        await self.lane.work()

    async def step(self, *, silent: bool) -> None:
        """A quarter of a day: the hub changes, then what is due is done and looked at."""
        before_ms = self.clocks.wall_ms()
        self._news()
        if silent:
            self._silent(before_ms)
        self.clocks.advance(STEP_MS / 1000)
        self.hub.now_ms = max(self.hub.now_ms, self.clocks.wall_ms())
        await self.lane.work()
        await self._look()

    def _times(self, what: str, a_day: float) -> int:
        """How often it happens in this step; fractions add up."""
        owed = self._owed.get(what, 0.0) + a_day * STEP_MS / DAY_MS
        self._owed[what] = owed - int(owed)
        return int(owed)

    def _news(self) -> None:
        of_a_million = self.scene.models / 1_000_000
        for _ in range(self._times("add", self.scene.added_a_day * of_a_million)):
            self.hub.add()
        for _ in range(self._times("publish", self.scene.published_a_day * of_a_million)):
            if (hub_id := self._pick(list(self.hub.lives))) is not None:
                self.hub.publish(hub_id)

    def _silent(self, before_ms: int) -> None:
        hub, now = self.hub, partial(self.rng.randrange, before_ms, before_ms + STEP_MS)
        settled = [life for life in hub.lives.values() if life.created_ms < before_ms - 2 * DAY_MS]
        settled.sort(key=lambda life: life.downloads, reverse=True)
        ranked = [life.hub_id for life in settled]
        kinds = {"any": ranked, "used": ranked[: len(ranked) // MOST_USED]}
        for kind, among in kinds.items():
            for _ in range(self._times(kind, EDITS_A_DAY / 2)):
                if (hub_id := self._pick(among)) is None:
                    continue
                if self.scene.manner == "civitai":
                    hub.lives[hub_id].edits += 1
                    wanted = hub.lives[hub_id].edits
                else:
                    hub.count(hub_id)
                    wanted = hub.lives[hub_id].downloads
                self.pending.append(Pending(hub_id, now(), kind, wanted))
        for _ in range(self._times("removal", REMOVED_A_DAY * self.scene.share)):
            if (hub_id := self._pick(ranked)) is None:
                continue
            hub.remove(hub_id)
            hub.add()
            self.pending.append(Pending(hub_id, now(), "removal"))

    def _pick(self, among: Sequence[str]) -> str | None:
        """A model that is there and waits for nothing; None where few are left that don't."""
        waiting = {each.hub_id for each in self.pending}
        for hub_id in self.rng.choices(among, k=_TRIES):
            if hub_id not in waiting and not self.hub.lives[hub_id].is_gone:
                return hub_id
        return None

    async def _look(self) -> None:
        if not self.pending:
            return
        asked = [each.hub_id for each in self.pending]
        known = await self.store.read(partial(_known, hub_ids=asked))
        now_ms, left = self.clocks.wall_ms(), []
        for each in self.pending:
            downloads, tags, state, is_suspect = known[each.hub_id]
            days = (now_ms - each.at_ms) / DAY_MS
            if each.kind == "removal":
                if is_suspect and not each.wanted:
                    self.found.days["missed"].append(days)
                    each.wanted = 1
                if state == "gone":
                    self.found.days["believed"].append(days)
                    continue
            else:
                shown = downloads
                if self.scene.manner == "civitai":
                    shown = int(str(msgspec.json.decode(tags)[0]).rpartition("-")[2])
                if shown >= each.wanted:
                    self.found.days[each.kind].append(days)
                    continue
            left.append(each)
        self.pending = left


def _known(db: apsw.Connection, hub_ids: Sequence[str]) -> dict[str, tuple[int, str, str, bool]]:
    rows: list[Any] = db.execute(
        "SELECT hub_id, downloads, tags, hub_state, s.model_key IS NOT NULL"
        " FROM model LEFT JOIN sync_suspect s USING (model_key)"
        " WHERE hub_id IN (SELECT value FROM json_each(?))",
        (msgspec.json.encode(hub_ids).decode(),),
    ).fetchall()
    return {row[0]: row[1:] for row in rows}


async def watch(scene: Scene, budget: int, folder: Path) -> Found:
    """The delays of one hub at one budget."""
    clocks = FakeClocks(wall_ms=START_MS)
    async with open_store(folder / "db", clocks=clocks) as store:
        world = World(scene, budget, store, clocks)
        await world.begin()
        days = scene.turn_days(budget)
        for _ in range(days * 4):
            await world.step(silent=False)
        for _ in range(2 * days * 4):
            await world.step(silent=True)
        for _ in range(LONGEST_DAYS * 4):
            if not world.pending:
                break
            await world.step(silent=False)
        world.found.unseen = len(world.pending)
        return world.found


def measure(size: str) -> Iterator[dict[str, Any]]:
    """A line of results for each hub and budget; a table is printed."""
    print(
        "days until seen, median / p95          edits: any   most used   removals: missed  believed"
    )
    for small in SCENES:
        scene = msgspec.structs.replace(small, models=small.models * SIZES[size])
        for budget in scene.budgets:
            with tempfile.TemporaryDirectory(prefix="mk-delay-") as folder:
                found = trio.run(watch, scene, budget, Path(folder))
            yield _row(scene, budget, found)


def _row(scene: Scene, budget: int, found: Found) -> dict[str, Any]:
    cuts = {kind: quantiles(days, n=100) for kind, days in found.days.items()}
    median = {kind: round(cut[49], 2) for kind, cut in cuts.items()}
    p95 = {kind: round(cut[94], 2) for kind, cut in cuts.items()}
    cells = (f"{median[kind]:5.1f} / {p95[kind]:4.1f}" for kind in cuts)
    print(f"{scene.manner:12} {budget:6} requests a day a million   {'  '.join(cells)}", flush=True)
    counts = ", ".join(f"{len(days)} {kind}" for kind, days in found.days.items())
    return {
        "name": f"increment.delay.{scene.manner}.{budget}",
        "workload": f"{budget} requests a day for a million models: median days until a silent edit"
        f" is seen ({scene.share:.3f} of that size; {counts}; {found.unseen} never)",
        "ours": median["any"],
        "theirs": None,
        "unit": "days",
        "ratio": None,
        "goal": "reported",
        "met": None,
        "edit_p95": p95["any"],
        "used_edit": median["used"],
        "used_edit_p95": p95["used"],
        "removal_missed": median["missed"],
        "removal_missed_p95": p95["missed"],
        "removal_believed": median["believed"],
        "removal_believed_p95": p95["believed"],
    }

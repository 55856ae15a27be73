"""What news and the refetch bring into the catalog, and what they cost; people, hours, budgets."""

import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelkeepd import failpoints
from modelkeepd.hubs.contract import HubRefused, HubUnavailable
from modelkeepd.store import Durability, StoreFull, open_store
from modelkeepd.sync import refetch
from modelkeepd.sync.schedule import Cadence
from tests.fakes.changing_hub import ChangingHub
from tests.fakes.clocks import FakeClocks
from tests.fakes.living_hub import START_MS, LivingHub, Manner
from tests.fakes.sync_bench import ALONE, DAY_S, FAR_S, MANNERS, NEWS, REFETCH, Bench, bench

# --- news ---


@pytest.mark.parametrize("manner", MANNERS)
async def test_a_days_news_costs_a_few_requests(tmp_path: Path, manner: Manner) -> None:
    hub = ChangingHub(manner, models=400, page_size=20)
    for age, life in enumerate(reversed(hub.lives.values())):
        at_ms = START_MS - age * 3 * 3_600_000
        life.created_ms = life.changed_ms = at_ms
        life.dates_ms = [at_ms]
    async with bench(tmp_path, hub=hub) as it:
        first = it.hub.add()
        it.hub.publish(sorted(it.hub.lives)[3])
        used = await it.days(3)
        assert used["list"] <= 3 * 2 * len(it.hub.views)
        truth = it.hub.truth()
        assert await it.document(first) == truth[first]
        old = sorted(it.hub.lives)[3]
        assert await it.document(old) == truth[old]
        assert await it.rows("SELECT kind, state FROM sync_run ORDER BY run_id") == [
            ("full", "finished"), *[("news", "finished")] * 3
        ]  # fmt: skip


async def test_an_edit_with_a_date_is_news(tmp_path: Path) -> None:
    async with bench(tmp_path, "huggingface", models=60) as it:
        edited = sorted(it.hub.lives)[3]
        it.hub.edit(edited)
        await it.days()
        assert await it.document(edited) == it.hub.truth()[edited]


async def test_many_changes_between_two_news_are_all_found(tmp_path: Path) -> None:
    async with bench(tmp_path, models=30) as it:
        rng = random.Random(5)
        for _ in range(6):
            for _ in range(rng.randrange(25)):
                it.hub.add()
            await it.days()
            truth = it.hub.truth()
            known = {row[0] for row in await it.rows("SELECT hub_id FROM model")}
            assert truth.keys() <= known


async def test_a_model_that_is_shown_late_is_found_below_the_top(tmp_path: Path) -> None:
    async with bench(tmp_path, models=40) as it:
        late = it.hub.add(views=("mature", "sfw"))
        it.hub.unlist(late)  # published, and not yet rated
        for _ in range(20):
            it.hub.add()
        await it.days()
        it.hub.restore(late)
        await it.days(0.5)
        await it.days(0.6)
        assert await it.document(late) == it.hub.truth()[late]


@pytest.mark.parametrize("manner", MANNERS)
async def test_the_first_news_begins_where_the_full_crawl_began(
    tmp_path: Path, manner: Manner
) -> None:
    hub = ChangingHub(manner, models=40, page_size=4)
    changed: list[str] = []

    def meanwhile(operation: str, _: LivingHub) -> None:
        # a model of the far end comes to the top while the walk is under way
        if operation == "list" and len(hub.requests) == 4:
            changed.append(sorted(hub.lives)[1])
            hub.publish(changed[0])
            it.clocks.advance(3_600)

    hub.before = meanwhile
    clocks = FakeClocks(wall_ms=hub.now_ms + 60_000)
    async with open_store(tmp_path / "db", clocks=clocks) as store:
        it = Bench(store, hub, clocks, cadence=ALONE)
        await it.lane.recall()
        await it.lane.work()
        kinds = [row[0] for row in await it.rows("SELECT kind FROM sync_run ORDER BY run_id")]
        assert kinds == ["full", "news"]
        assert await it.document(changed[0]) == hub.truth()[changed[0]]


async def test_the_fuller_views_document_is_never_replaced_by_the_other_views(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, models=90) as it:
        for _ in range(3):
            it.hub.add()
            await it.days()
        assert await it.one("SELECT count(*) FROM revision") == 0
        truth = it.hub.truth()
        for hub_id in it.hub.lives:
            assert await it.document(hub_id) == truth[hub_id]


async def test_a_news_walk_with_a_gap_does_not_move_the_mark(tmp_path: Path) -> None:
    async with bench(tmp_path, models=60) as it:
        before = await it.rows("SELECT view, date_ms FROM sync_mark")
        for _ in range(30):
            it.hub.add()
        asked = 0

        def stuck(operation: str, _: LivingHub) -> None:
            nonlocal asked
            asked += operation == "list"
            if operation == "list" and asked > 1:
                raise HubUnavailable("rubbish", status=500, answered=True)

        it.hub.before = stuck
        await it.days()
        assert it.status.gaps > 0
        assert await it.rows("SELECT view, date_ms FROM sync_mark") == before
        it.hub.before = lambda _operation, _hub: None
        await it.days()
        known = {row[0] for row in await it.rows("SELECT hub_id FROM model")}
        assert it.hub.truth().keys() <= known


async def test_a_refused_news_is_begun_anew_after_a_while(tmp_path: Path) -> None:
    async with bench(tmp_path, retry_failed_s=600) as it:

        def refuse(_operation: str, _hub: LivingHub) -> None:
            raise HubRefused("401", why="auth", hint="a token")

        it.hub.before = refuse
        await it.days()
        assert (it.status.state, it.status.error, it.status.hint) == ("failed", "401", "a token")
        assert it.status.next_sync_ms == it.clocks.wall_ms() + 600_000
        asked = len(it.hub.requests)
        await it.lane.work()
        assert len(it.hub.requests) == asked
        it.hub.before = lambda _operation, _hub: None
        await it.days(601 / DAY_S)
        assert (it.status.state, it.status.kind, it.status.error) == ("idle", "news", None)
        states = await it.rows("SELECT state FROM sync_run WHERE kind = 'news'")
        assert states == [("failed",), ("finished",)]


async def test_a_new_filter_is_read_whole_and_alone(tmp_path: Path) -> None:
    hub = ChangingHub("huggingface", models=12, page_size=5)
    async with bench(tmp_path, hub=hub, models=0) as it:
        hub.views = ("all", "new")
        hidden = hub.add(views=("new",))
        other = Bench(it.store, hub, it.clocks)
        await other.lane.recall()
        hub.requests.clear()
        await other.lane.work()
        assert await other.one("SELECT count(*) FROM model WHERE hub_id = ?", hidden) == 1
        assert other.status.kind == "full"
        assert len(hub.requests) == 1 + 1  # one page, one detail
        assert await it.one("SELECT count(*) FROM sync_suspect") == 0


# --- refetch ---


async def test_an_edit_without_a_trace_is_found_by_the_next_refetch(tmp_path: Path) -> None:
    async with bench(tmp_path, models=250, page_size=100, cadence=Cadence()) as it:
        edited = sorted(it.hub.lives)[7]
        it.hub.edit(edited)
        used = await it.days()
        assert await it.document(edited) == it.hub.truth()[edited]
        # a hundred a request; those that only the second view shows are asked for twice
        assert used["ids"] <= 2 * 3


async def test_owned_models_are_asked_first_then_by_turns_the_used_and_the_oldest(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, models=60, page_size=100) as it:
        ids = sorted(it.hub.lives)
        owned, popular = ids[0], ids[1:11]

        def furnish(tx: Any) -> None:
            tx.db.execute("UPDATE model SET downloads = 0, seen_ms = 1000 + model_key")
            for rank, hub_id in enumerate(popular):
                tx.db.execute(
                    "UPDATE model SET downloads = ? WHERE hub_id = ?", (9_000 - rank, hub_id)
                )
            # the library keeps the mark, for every model that publishes a content it has
            tx.db.execute("UPDATE model SET owned = 1 WHERE hub_id = ?", (owned,))

        await it.store.apply(furnish, durability=Durability.NORMAL, name="test")
        keys = await it.store.read(
            partial(refetch.choose, hub="civitai", now_ms=it.clocks.wall_ms(), most=41, bulk=10,
                    trust=it.lane._settings.trust)
        )  # fmt: skip
        names = dict(await it.rows("SELECT model_key, hub_id FROM model"))
        chosen = [names[key] for key in keys]
        oldest = [
            row[0] for row in await it.rows("SELECT hub_id FROM model ORDER BY seen_ms LIMIT 10")
        ]
        assert chosen[0] == owned
        assert chosen[1:11] == popular
        assert set(oldest) - {owned} - set(popular) <= set(chosen[11:21])
        assert len(chosen) == len(set(chosen)) <= 41


async def test_a_refetch_that_is_killed_goes_on_with_the_batch_after(tmp_path: Path) -> None:
    hub = ChangingHub("civitai", models=30, page_size=10)
    hub.bulk_ids = 5
    async with bench(tmp_path, hub=hub, models=0, cadence=REFETCH) as it:
        failpoints.configure("sync.refetch.after_commit=raise:3")
        try:
            with pytest.raises(failpoints.FailpointReached):
                await it.days()
        finally:
            failpoints.configure("")
        left = await it.one("SELECT count(*) FROM sync_refetch")
        assert left == 15
        other = Bench(it.store, hub, it.clocks, cadence=REFETCH)
        await other.lane.recall()
        hub.requests.clear()
        await other.lane.work()
        assert await it.one("SELECT count(*) FROM sync_refetch") == 0
        assert Counter(hub.requests)["ids"] <= 2 * 3
        ((runs, state),) = await it.rows(
            "SELECT count(*), min(state) FROM sync_run WHERE kind = 'refetch'"
        )
        assert (runs, state) == (1, "finished")


async def test_what_a_days_budget_did_not_reach_is_chosen_anew_the_next_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = ChangingHub("civitai", models=60, page_size=10)
    hub.bulk_ids = 5
    choices = 0
    real = refetch.choose

    def counted(*args: Any, **options: Any) -> list[int]:
        nonlocal choices
        choices += 1
        return real(*args, **options)

    monkeypatch.setattr(refetch, "choose", counted)
    async with bench(tmp_path, hub=hub, models=0, cadence=REFETCH, slice_requests=2) as it:
        it.budget = 12  # a day of 60 models is more: some are asked for in both views
        for day in range(1, 6):
            used = await it.days()
            assert used["ids"] <= 12 + 1
            assert choices == day
        assert it.status.coverage.oldest_seen_ms is not None
        assert it.clocks.wall_ms() - it.status.coverage.oldest_seen_ms < 3 * 86_400_000


async def test_a_batch_that_can_not_be_answered_is_taken_apart(tmp_path: Path) -> None:
    hub = ChangingHub("civitai", models=30, page_size=10)
    async with bench(tmp_path, hub=hub, models=0, cadence=REFETCH) as it:
        poison = sorted(hub.lives)[11]
        real = hub.models_by_ids

        async def poisoned(ids: Any, view: str) -> Any:
            if poison in ids:
                raise HubUnavailable("rubbish", status=500, answered=True)
            return await real(ids, view)

        hub.models_by_ids = poisoned  # type: ignore[method-assign]
        edited = sorted(hub.lives)[12]
        hub.edit(edited)
        await it.days()
        assert await it.document(edited) == hub.truth()[edited]
        run = await it.rows("SELECT state, gaps FROM sync_run WHERE kind = 'refetch'")
        assert run == [("finished", 1)]
        assert await it.one("SELECT count(*) FROM sync_suspect") == 0


# --- a person, quiet hours, budgets ---


async def test_a_person_is_not_held_back_by_quiet_hours_or_a_budget(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.quiet, it.budget = True, 0
        added = it.hub.add()
        assert await it.days(3) == Counter()
        assert it.status.is_quiet
        await it.lane.start(full=False)
        assert (it.status.state, it.status.kind) == ("running", "news")
        await it.lane.work()
        assert (it.status.state, it.status.kind) == ("idle", "news")
        assert await it.document(added) == it.hub.truth()[added]
        await it.lane.start(full=True)
        await it.lane.work()
        assert (it.status.state, it.status.kind) == ("idle", "full")
        assert await it.days(3) == Counter()


async def test_quiet_hours_stop_a_full_crawl_between_two_pages(tmp_path: Path) -> None:
    hub = ChangingHub("civitai", models=60, page_size=5)
    clocks = FakeClocks(wall_ms=hub.now_ms)
    async with open_store(tmp_path / "db", clocks=clocks) as store:
        it = Bench(store, hub, clocks)

        def evening(_operation: str, _hub: LivingHub) -> None:
            it.quiet = len(hub.requests) >= 6

        hub.before = evening
        await it.lane.recall()
        await it.lane.work()
        assert len(hub.requests) == 6
        assert it.status.state == "running"
        hub.before = lambda _operation, _hub: None
        it.quiet = False
        await it.lane.work()
        assert it.status.state == "idle"
        known = {row[0] for row in await it.rows("SELECT hub_id FROM model")}
        assert known == hub.truth().keys()


async def test_who_asks_while_a_sweep_runs_waits_for_one_request(tmp_path: Path) -> None:
    cadence = msgspec.structs.replace(NEWS, sweep_s=2 * DAY_S, news_s=FAR_S)
    async with bench(
        tmp_path, "huggingface", models=100, cadence=cadence, slice_requests=1_000
    ) as it:
        order: list[str | None] = []

        def ask(operation: str, _: LivingHub) -> None:
            order.append(it.status.task)
            if len(order) == 3:
                it.lane._manual.add("news")

        it.hub.before = ask
        await it.days(2)
        # the pages that were fetched ahead are not thrown away
        assert order[:3] == ["sweep"] * 3
        assert order.index("news") <= 4
        assert order[-1] == "sweep"


async def test_a_disk_that_is_full_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, retry_store_s=60) as it:
        real = it.store.apply

        async def full(unit: Any, *, durability: Any, name: str) -> Any:
            if name == "sync.page":
                raise StoreFull("the disk is full")
            return await real(unit, durability=durability, name=name)

        monkeypatch.setattr(it.store, "apply", full)
        added = it.hub.add()
        await it.days()
        status = it.status
        assert (status.state, status.error) == ("waiting", "the disk is full")
        assert status.waiting_s == 60
        monkeypatch.undo()
        await it.days(61 / DAY_S)
        assert (it.status.state, it.status.error) == ("idle", None)
        assert await it.document(added) == it.hub.truth()[added]


async def test_the_status_says_what_was_done_and_what_comes(tmp_path: Path) -> None:
    async with bench(tmp_path, cadence=Cadence()) as it:
        full_ms = it.clocks.wall_ms()
        assert it.status.last_full_ms == full_ms
        assert it.status.next_sync_ms == full_ms + 86_400_000
        await it.days()
        status = it.status
        assert (status.last_news_ms, status.last_refetch_ms) == (it.clocks.wall_ms(),) * 2
        assert status.next_sync_ms == it.clocks.wall_ms() + 86_400_000
        assert status.coverage.models == len(it.hub.lives)
        assert status.coverage.oldest_seen_ms == it.clocks.wall_ms()
        other = Bench(it.store, it.hub, it.clocks, cadence=Cadence())
        await other.lane.recall()
        told = other.status
        assert (told.last_full_ms, told.next_sync_ms) == (full_ms, status.next_sync_ms)
        assert told.coverage == status.coverage


async def test_what_a_wrong_clock_has_dated_is_mended(tmp_path: Path) -> None:
    async with bench(tmp_path, cadence=Cadence()) as it:
        it.clocks.set_the_clock(80 * 365 * DAY_S)
        it.hub.unlist(sorted(it.hub.lives)[2])
        await it.days()
        it.clocks.set_the_clock(-80 * 365 * DAY_S)
        await it.days(2)
        newest = await it.one("SELECT max(seen_ms) FROM model")
        assert newest <= it.clocks.wall_ms()
        removed = sorted(it.hub.lives)[4]
        it.hub.remove(removed)
        await it.days(4)
        assert await it.state(removed) == "gone"
        looked = await it.one("SELECT max(next_look_ms) FROM sync_suspect")
        assert looked < it.clocks.wall_ms() + 40 * 86_400_000

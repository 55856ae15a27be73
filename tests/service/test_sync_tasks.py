"""What each task brings into the catalog, and what it costs: news, refetch, sweep, looks, details.

The hub is in memory and changes by command; time is a clock set by hand, and tasks run to their
end before anything is looked at.
"""

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelkeepd import failpoints
from modelkeepd.catalog.detail import model_named
from modelkeepd.hubs.contract import HubRefused, HubUnavailable, parse_model
from modelkeepd.hubs.documents import DocumentCodec, read_document
from modelkeepd.store import Durability, Store, StoreFull, open_store, read_events
from modelkeepd.sync import refetch
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.lane import Lane, Ports, SyncSettings
from modelkeepd.sync.patience import Waits
from modelkeepd.sync.progress import SyncStatus
from modelkeepd.sync.schedule import Cadence
from tests.fakes.changing_hub import ChangingHub
from tests.fakes.clocks import FakeClocks
from tests.fakes.living_hub import START_MS, LivingHub, Manner

DAY_S = 86_400.0
FAR_S = 10_000 * DAY_S
# nothing but the first crawl and what a test asks for
ALONE = Cadence(news_s=FAR_S, refetch_s=FAR_S, sweep_s=FAR_S, rare_sweep_s=FAR_S)
NEWS = msgspec.structs.replace(ALONE, news_s=DAY_S)
REFETCH = msgspec.structs.replace(ALONE, refetch_s=DAY_S)


class Bench:
    """One lane over one hub."""

    def __init__(self, store: Store, hub: LivingHub, clocks: FakeClocks, **options: Any) -> None:
        self.store, self.hub, self.clocks = store, hub, clocks
        self.budget: int | None = None
        self.quiet = False
        ports = options.pop("ports", None) or Ports(lambda: self.quiet, self._left)
        cadence = options.pop("cadence", NEWS)
        settings = SyncSettings(
            cadence=cadence, waits=Waits(0.0, 0.0), wake_jitter_s=0.0, **options
        )
        name = hub.name
        intake = Intake(store, name, DocumentCodec(), partial(parse_model, name, texts=False))
        self.lane = Lane(hub, intake, settings, ports, clocks, random.Random(1))

    def _left(self) -> int | None:
        return None if self.budget is None else self.budget - len(self.hub.requests)

    async def days(self, count: float = 1) -> Counter[str]:
        """A day passes and what is due is done; the requests it took."""
        self.hub.requests.clear()
        whole = max(1, round(count))
        for _ in range(whole):
            self.clocks.advance(count / whole * DAY_S + 1)
            self.hub.now_ms = max(self.hub.now_ms, self.clocks.wall_ms())
            await self.lane.work()
        return Counter(self.hub.requests)

    async def rows(self, sql: str, *bindings: Any) -> list[Any]:
        return await self.store.read(lambda db: db.execute(sql, bindings).fetchall())

    async def one(self, sql: str, *bindings: Any) -> Any:
        ((found,),) = await self.rows(sql, *bindings)
        return found

    async def document(self, hub_id: str) -> Any:
        key = await self.one("SELECT model_key FROM model WHERE hub_id = ?", hub_id)
        raw = await self.store.read(lambda db: read_document(db, DocumentCodec(), key))
        assert raw is not None
        return json.loads(raw)

    async def state(self, hub_id: str) -> str:
        return str(await self.one("SELECT hub_state FROM model WHERE hub_id = ?", hub_id))

    async def facts(self, hub_id: str) -> list[str]:
        return [
            row[0]
            for row in await self.rows(
                "SELECT kind FROM model_fact JOIN model USING (model_key) WHERE hub_id = ?"
                " ORDER BY fact_id",
                hub_id,
            )
        ]

    async def events(self, *kinds: str) -> list[Any]:
        found = await self.store.read(lambda db: read_events(db, 0, topics=["model", "sync"]))
        return [event for event in found if event.kind in kinds]

    @property
    def status(self) -> SyncStatus:
        return self.lane.status()


@asynccontextmanager
async def bench(
    tmp_path: Path,
    manner: Manner = "civitai",
    *,
    models: int = 12,
    page_size: int = 5,
    hub: LivingHub | None = None,
    **options: Any,
) -> AsyncIterator[Bench]:
    """A bench whose first crawl is over."""
    hub = hub or ChangingHub(manner, models=models, page_size=page_size)
    clocks = FakeClocks(wall_ms=max(hub.now_ms, START_MS) + 60_000)
    async with open_store(tmp_path / "db", clocks=clocks) as store:
        made = Bench(store, hub, clocks, **options)
        await made.lane.recall()
        await made.lane.work()
        yield made


MANNERS: list[Manner] = ["civitai", "huggingface"]


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
            tx.db.execute(
                "INSERT INTO library_file (path, size_bytes, mtime_ns, inode, device, state,"
                " first_seen_ms, changed_ms, model_key) SELECT '/x', 1, 1, 1, 1, 'present', 1, 1,"
                " model_key FROM model WHERE hub_id = ?",
                (owned,),
            )

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


# --- absence ---


async def test_a_removal_is_believed_after_three_looks_over_two_days(tmp_path: Path) -> None:
    async with bench(tmp_path, cadence=Cadence()) as it:
        removed = sorted(it.hub.lives)[4]
        document = await it.document(removed)
        it.hub.remove(removed)
        states = []
        for _ in range(4):
            await it.days()
            states.append(await it.state(removed))
        assert states == ["listed", "listed", "gone", "gone"]
        assert it.status.coverage.gone == 1
        assert await it.facts(removed) == ["gone"]
        assert await it.document(removed) == document
        assert (
            await it.one(
                "SELECT count(*) FROM version JOIN model USING (model_key)"
                " WHERE model.hub_id = ? AND version.gone_ms IS NULL",
                removed,
            )
            == 1
        )
        [event] = await it.events("gone")
        assert event.subject == f"civitai:{removed}"
        assert event.payload["looks"] == 3
        assert await it.one(
            "SELECT changed_seq FROM model WHERE hub_id = ?", removed
        ) == event.seq  # fmt: skip
        it.hub.restore(removed)
        for _ in range(31):
            await it.days()
        assert await it.state(removed) == "listed"
        assert await it.facts(removed) == ["gone", "back"]
        assert await it.one("SELECT gone_ms FROM model WHERE hub_id = ?", removed) is None
        assert it.status.coverage.gone == it.status.coverage.suspects == 0


async def test_a_model_that_is_hidden_for_a_day_is_not_gone(tmp_path: Path) -> None:
    async with bench(tmp_path, cadence=Cadence()) as it:
        hidden = sorted(it.hub.lives)[4]
        for _ in range(3):
            it.hub.remove(hidden)
            await it.days(2)
            it.hub.restore(hidden)
            await it.days()
        assert (await it.state(hidden), await it.facts(hidden)) == ("listed", [])


async def test_what_is_there_but_in_no_list_is_looked_at_once_a_month(tmp_path: Path) -> None:
    async with bench(tmp_path, cadence=Cadence()) as it:
        it.hub.unlist(sorted(it.hub.lives)[2])
        looks = 0
        for _ in range(40):
            looks += (await it.days())["look"]
        assert looks == 2
        assert it.status.coverage.suspects == 0


async def test_a_sweep_leaves_as_suspects_what_it_did_not_meet(tmp_path: Path) -> None:
    cadence = msgspec.structs.replace(NEWS, sweep_s=2 * DAY_S)
    async with bench(tmp_path, "huggingface", models=40, cadence=cadence) as it:
        removed = sorted(it.hub.lives)[4]
        it.hub.remove(removed)
        await it.days()
        assert await it.one("SELECT count(*) FROM sync_suspect") == 0
        used = await it.days()
        assert used["look"] == 1
        assert (await it.days(2))["look"] == 2
        assert await it.state(removed) == "gone"


async def test_a_sweep_goes_a_few_pages_at_a_time_within_the_budget(tmp_path: Path) -> None:
    cadence = msgspec.structs.replace(NEWS, sweep_s=5 * DAY_S, news_s=FAR_S)
    async with bench(tmp_path, "huggingface", models=100, cadence=cadence) as it:
        it.budget = 6
        pages = []
        for _ in range(9):
            pages.append((await it.days())["list"])
        assert pages == [0, 0, 0, 0, 6, 6, 6, 2, 0]
        ((count, total),) = await it.rows(
            "SELECT count(*), sum(pages) FROM sync_run WHERE kind = 'sweep'"
        )
        assert (count, total) == (1, 20)


async def test_a_lists_lost_row_costs_a_look_and_nothing_else(tmp_path: Path) -> None:
    cadence = msgspec.structs.replace(NEWS, sweep_s=2 * DAY_S)
    async with bench(tmp_path, "huggingface", models=40, cadence=cadence) as it:
        hub = it.hub
        assert isinstance(hub, ChangingHub)
        await it.days()
        hub.faults = ["lost_row"] * 10
        used = await it.days()
        assert 1 <= used["look"] <= 10
        hub.calm_down()
        await it.days(4)
        assert await it.one("SELECT count(*) FROM model WHERE hub_state = 'gone'") == 0
        assert await it.one("SELECT count(*) FROM sync_suspect") == 0


# --- names and modes ---


async def test_a_renamed_model_keeps_its_key_and_is_found_by_either_name(tmp_path: Path) -> None:
    async with bench(tmp_path, "huggingface") as it:
        hub_id = sorted(it.hub.lives)[3]
        old = it.hub.lives[hub_id].ref_id
        key = await it.one("SELECT model_key FROM model WHERE hub_id = ?", hub_id)
        new = it.hub.rename(hub_id)
        it.hub.edit(hub_id)
        await it.days()
        for name in (old, new, old.upper()):
            found = await it.store.read(partial(model_named, hub="huggingface", ref_id=name))
            assert found == key
        assert await it.facts(hub_id) == ["renamed"]
        [event] = await it.events("renamed")
        assert event.subject == f"hf:{new}"
        assert (event.payload["from"], event.payload["to"]) == (old, new)


async def test_a_name_that_another_model_took_is_another_model(tmp_path: Path) -> None:
    cadence = msgspec.structs.replace(NEWS, sweep_s=2 * DAY_S)
    async with bench(tmp_path, "huggingface", cadence=cadence) as it:
        first = sorted(it.hub.lives)[3]
        name = it.hub.lives[first].ref_id
        it.hub.remove(first)
        second = it.hub.add(name=name)
        await it.days(6)
        assert (await it.state(first), await it.state(second)) == ("gone", "listed")
        key = await it.one("SELECT model_key FROM model WHERE hub_id = ?", second)
        found = await it.store.read(partial(model_named, hub="huggingface", ref_id=name))
        assert found == key


async def test_takedown_and_archiving_are_dated_facts_and_the_metadata_stays(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, cadence=Cadence()) as it:
        hub = it.hub
        assert isinstance(hub, ChangingHub)
        down, archived = sorted(hub.lives)[3:5]
        hub.set_mode(down, "TakenDown")
        hub.set_mode(archived, "Archived")
        await it.days(2)
        assert (await it.state(down), await it.state(archived)) == ("taken_down", "archived")
        assert await it.facts(down) == ["taken_down"]
        assert await it.facts(archived) == ["archived"]
        assert [e.subject for e in await it.events("taken_down", "archived")] == [
            f"civitai:{down}", f"civitai:{archived}"
        ]  # fmt: skip
        assert (await it.document(down))["name"]
        hub.set_mode(archived, None)
        await it.days(32)
        assert await it.facts(archived) == ["archived", "listed"]


@pytest.mark.parametrize("lost", ["version", "file"])
async def test_a_list_that_is_suddenly_empty_is_believed_only_after_days(
    tmp_path: Path, lost: str
) -> None:
    async with bench(tmp_path, cadence=Cadence()) as it:
        hub = it.hub
        assert isinstance(hub, ChangingHub)
        lasting, passing = sorted(hub.lives)[3:5]
        without = {"version": hub.versionless, "file": hub.fileless}[lost]
        without |= {lasting, passing}
        left = f"SELECT count(*) FROM {lost} t JOIN model m ON m.model_key = t.model_key"
        left += " WHERE m.hub_id = ? AND t.gone_ms IS NULL"
        await it.days(2)
        assert [await it.one(left, i) for i in (lasting, passing)] == [1, 1]
        without.discard(passing)
        await it.days(1)
        without.add(passing)
        await it.days(1)
        assert [await it.one(left, i) for i in (lasting, passing)] == [0, 1]
        without.clear()
        await it.days(1)
        assert [await it.one(left, i) for i in (lasting, passing)] == [1, 1]
        assert await it.one("SELECT count(*) FROM sync_doubt") == 0


# --- revisions ---


@pytest.mark.parametrize("kind", ["model", "detail"])
async def test_replaced_documents_are_kept_as_deltas_that_lead_back(
    tmp_path: Path, kind: str
) -> None:
    async with bench(tmp_path, "huggingface", models=4) as it:
        hub_id = sorted(it.hub.lives)[1]
        table = {"model": "document", "detail": "detail_document"}[kind]
        codec = DocumentCodec()
        seen = []
        for _ in range(4):
            ((raw, dict_id),) = await it.rows(
                f"SELECT raw, dict_id FROM {table} JOIN model USING (model_key) WHERE hub_id = ?",
                hub_id,
            )
            seen.append(codec.decompress(raw, dict_id))
            it.hub.publish(hub_id)
            await it.days()
        ((raw, dict_id),) = await it.rows(
            f"SELECT raw, dict_id FROM {table} JOIN model USING (model_key) WHERE hub_id = ?",
            hub_id,
        )
        newer = codec.decompress(raw, dict_id)
        revisions = await it.rows(
            "SELECT is_delta, raw FROM revision JOIN model USING (model_key)"
            " WHERE hub_id = ? AND kind = ? ORDER BY revision_id DESC",
            hub_id,
            kind,
        )
        back = []
        for is_delta, delta in revisions:
            assert is_delta
            newer = codec.apply_delta(newer, delta)
            back.append(newer)
        assert back == seen[::-1]


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

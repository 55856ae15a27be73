"""Details: fresh for people, stale when the hub fails, in the background the most wanted."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from modelkeepd.hubs.contract import HubRefused, HubUnavailable, NotFoundOnHub
from modelkeepd.store import Durability
from modelkeepd.sync.details import DEADLINE_S, DetailService, Freshness
from modelkeepd.sync.suspects import Trust
from tests.fakes.changing_hub import ChangingHub
from tests.fakes.living_hub import LivingHub, Manner
from tests.service.test_sync_tasks import ALONE, MANNERS, NEWS, Bench, bench


class Desk:
    """The detail service beside a bench's lane."""

    def __init__(self, it: Bench) -> None:
        self.it = it
        self.saved: Counter[str] = Counter()
        self.service = DetailService(
            {it.hub.name: it.hub},
            {it.hub.name: it.lane._intake},
            clocks=it.clocks,
            trust=Trust(),
            saved=lambda _hub, kind: self.saved.update([kind]),
        )

    async def key(self, hub_id: str) -> int:
        return int(await self.it.one("SELECT model_key FROM model WHERE hub_id = ?", hub_id))

    async def fresh(self, hub_id: str, **options: Any) -> Freshness:
        found = await self.service.fresh(self.it.hub.name, await self.key(hub_id), **options)
        assert found is not None
        return found

    async def named(self, name: str) -> Freshness:
        return await self.service.fresh_named(self.it.hub.name, name)

    async def files(self, hub_id: str) -> list[Any]:
        return await self.it.rows(
            "SELECT f.name, f.size_bytes, hex(f.sha256) FROM file f JOIN model m"
            " ON m.model_key = f.model_key WHERE m.hub_id = ? AND f.gone_ms IS NULL ORDER BY 1",
            hub_id,
        )


def refuse(error: Exception) -> Any:
    def before(_operation: str, _hub: LivingHub) -> None:
        raise error

    return before


# --- for people ---


@pytest.mark.parametrize("manner", MANNERS)
async def test_what_is_young_is_answered_from_the_store(tmp_path: Path, manner: Manner) -> None:
    async with bench(tmp_path, manner) as it:
        desk, hub_id = Desk(it), sorted(it.hub.lives)[2]
        it.hub.requests.clear()
        it.clocks.advance(599)
        found = await desk.fresh(hub_id)
        assert (found.age_s, found.stale, found.error) == (599, False, None)
        assert it.hub.requests == []
        assert desk.saved == {"cached": 1}


@pytest.mark.parametrize("manner", MANNERS)
async def test_what_is_older_is_asked_for_and_kept(tmp_path: Path, manner: Manner) -> None:
    async with bench(tmp_path, manner) as it:
        desk, hub_id = Desk(it), sorted(it.hub.lives)[2]
        it.hub.publish(hub_id)
        it.hub.count(hub_id, 7)
        it.clocks.advance(600)
        it.hub.requests.clear()
        found = await desk.fresh(hub_id)
        assert (found.age_s, found.stale) == (0, False)
        assert it.hub.requests == ["details"]
        assert len(await desk.files(hub_id)) == 2 + (manner == "huggingface")
        assert await it.one("SELECT downloads FROM model WHERE hub_id = ?", hub_id) == 7
        assert (await desk.fresh(hub_id)).age_s == 0
        assert it.hub.requests == ["details"]
        assert (await desk.fresh(hub_id, ttl_s=0.0)).age_s == 0
        assert it.hub.requests == ["details"] * 2


@pytest.mark.parametrize("manner", MANNERS)
async def test_a_hub_that_fails_gives_a_stale_answer_with_its_age(
    tmp_path: Path, manner: Manner
) -> None:
    async with bench(tmp_path, manner) as it:
        desk, hub_id = Desk(it), sorted(it.hub.lives)[2]
        it.clocks.advance(3_600)
        it.hub.before = refuse(HubUnavailable("it is down"))
        found = await desk.fresh(hub_id)
        assert (found.age_s, found.stale, found.error) == (3_600, True, "it is down")
        it.hub.before = refuse(HubRefused("403", why="blocked"))
        assert (await desk.fresh(hub_id)).error == "403"


async def test_a_hub_that_takes_too_long_is_not_waited_for(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with bench(tmp_path, "huggingface") as it:
        desk, hub_id = Desk(it), sorted(it.hub.lives)[2]
        it.clocks.advance(3_600)
        asked = trio.Event()

        async def never(_address: Any) -> bytes:
            asked.set()
            await trio.sleep_forever()
            raise AssertionError

        it.hub.details = never  # type: ignore[method-assign]
        found: list[Freshness] = []
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                found.append(await desk.fresh(hub_id))

            nursery.start_soon(ask)
            await asked.wait()
            mock_clock.jump(DEADLINE_S + 1)
        assert found[0].stale
        assert "8 s" in (found[0].error or "")


async def test_equal_questions_at_one_time_are_one_request(tmp_path: Path) -> None:
    async with bench(tmp_path, "huggingface") as it:
        desk, hub_id = Desk(it), sorted(it.hub.lives)[2]
        it.clocks.advance(3_600)
        real, go = it.hub.details, trio.Event()

        async def slowly(address: Any) -> bytes:
            await go.wait()
            return await real(address)

        it.hub.details = slowly  # type: ignore[method-assign]
        it.hub.requests.clear()
        found: list[Freshness] = []

        async def ask() -> None:
            found.append(await desk.fresh(hub_id))

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as gone_away:
                async with trio.open_nursery() as first:
                    first.start_soon(ask)
                    while not desk.service._flights:
                        await trio.lowlevel.checkpoint()
                    for _ in range(4):
                        nursery.start_soon(ask)
                    for _ in range(50):
                        await trio.lowlevel.checkpoint()
                    gone_away.cancel()
            go.set()
        assert len(found) == 4
        assert {(f.age_s, f.stale) for f in found} == {(0.0, False)}
        assert it.hub.requests == ["details"]
        assert desk.saved.total() == 3


@pytest.mark.parametrize("manner", MANNERS)
async def test_a_model_that_is_not_in_the_catalog_is_fetched_into_it(
    tmp_path: Path, manner: Manner
) -> None:
    async with bench(tmp_path, manner) as it:
        desk = Desk(it)
        hub_id = it.hub.add()
        it.hub.unlist(hub_id)  # as one outside the filters
        name = it.hub.lives[hub_id].ref_id
        found = await desk.named(name)
        assert (found.model_key, found.stale) == (await desk.key(hub_id), False)
        assert len(await desk.files(hub_id)) == 1 + (manner == "huggingface")
        it.hub.requests.clear()
        assert await desk.named(name.upper()) == Freshness(found.model_key, 0.0)
        assert it.hub.requests == []


async def test_a_model_that_nobody_knows_is_not_found_or_can_not_be_told(tmp_path: Path) -> None:
    async with bench(tmp_path, "huggingface") as it:
        desk = Desk(it)
        with pytest.raises(NotFoundOnHub):
            await desk.named("no/body")
        with pytest.raises(NotFoundOnHub):
            await desk.service.fresh_named("nowhere", "no/body")
        assert await desk.service.fresh("nowhere", 1) is None
        assert await desk.service.fresh("huggingface", 10**6) is None
        it.hub.before = refuse(HubUnavailable("it is down"))
        with pytest.raises(HubUnavailable):
            await desk.named("no/body")


async def test_a_model_that_the_hub_denies_a_person_is_a_suspect_and_not_gone(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, "huggingface", cadence=ALONE) as it:
        desk, hub_id = Desk(it), sorted(it.hub.lives)[2]
        it.clocks.advance(3_600)
        it.hub.remove(hub_id)
        found = await desk.fresh(hub_id)
        assert found.stale
        assert "no model" in (found.error or "")
        assert await it.state(hub_id) == "listed"
        assert await it.one("SELECT count(*) FROM sync_suspect") == 1


async def test_a_name_that_another_took_does_not_overwrite_a_model(tmp_path: Path) -> None:
    async with bench(tmp_path, "huggingface", cadence=ALONE) as it:
        desk, hub_id = Desk(it), sorted(it.hub.lives)[2]
        it.clocks.advance(3_600)
        other = it.hub.add()
        full = json.dumps(it.hub.full_document(it.hub.lives[other])).encode()

        async def others(_address: Any) -> bytes:
            return full

        it.hub.details = others  # type: ignore[method-assign]
        before = await desk.files(hub_id)
        found = await desk.fresh(hub_id)
        assert found.stale
        assert "another model" in (found.error or "")
        assert await desk.files(hub_id) == before
        assert await it.one("SELECT count(*) FROM sync_suspect") == 1


@pytest.mark.parametrize("junk", [b"[]", b"{}", b'{"_id": "x"}', b"nonsense"])
async def test_details_that_are_none_change_nothing(tmp_path: Path, junk: bytes) -> None:
    async with bench(tmp_path, "huggingface", cadence=ALONE) as it:
        desk, hub_id = Desk(it), sorted(it.hub.lives)[2]
        it.clocks.advance(3_600)

        async def rubbish(_address: Any) -> bytes:
            return junk

        it.hub.details = rubbish  # type: ignore[method-assign]
        before = await desk.files(hub_id)
        assert (await desk.fresh(hub_id)).stale
        assert await desk.files(hub_id) == before


async def test_a_gone_model_that_answers_is_back(tmp_path: Path) -> None:
    async with bench(tmp_path, "huggingface", cadence=ALONE) as it:
        desk, hub_id = Desk(it), sorted(it.hub.lives)[2]

        def bury(tx: Any) -> None:
            tx.db.execute(
                "UPDATE model SET hub_state = 'gone', gone_ms = 1 WHERE hub_id = ?", (hub_id,)
            )

        await it.store.apply(bury, durability=Durability.NORMAL, name="test")
        it.clocks.advance(3_600)
        await desk.fresh(hub_id)
        assert await it.state(hub_id) == "listed"
        assert await it.facts(hub_id) == ["back"]


# --- in the background ---


async def test_rows_without_files_leave_the_known_files_and_their_commit_alone(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, "huggingface", cadence=NEWS) as it:
        desk, hub_id = Desk(it), sorted(it.hub.lives)[2]
        before = await desk.files(hub_id)
        size = await it.one("SELECT size_bytes FROM model WHERE hub_id = ?", hub_id)
        revisions = "SELECT revision, files_revision FROM version JOIN model USING (model_key)"
        ((old, files_of),) = await it.rows(revisions + " WHERE model.hub_id = ?", hub_id)
        assert old == files_of
        it.hub.publish(hub_id)
        real = it.hub.details
        it.hub.details = _failing  # type: ignore[method-assign]
        await it.days()
        ((new, files_of),) = await it.rows(revisions + " WHERE model.hub_id = ?", hub_id)
        assert new != old == files_of
        assert await desk.files(hub_id) == before
        assert await it.one("SELECT size_bytes FROM model WHERE hub_id = ?", hub_id) == size
        it.hub.details = real  # type: ignore[method-assign]
        await it.days()
        ((new, files_of),) = await it.rows(revisions + " WHERE model.hub_id = ?", hub_id)
        assert new == files_of
        assert len(await desk.files(hub_id)) == len(before) + 1
        [*_, event] = await it.events("details")
        assert event.subject == f"hf:{it.hub.lives[hub_id].ref_id}"


async def _failing(_address: Any) -> bytes:
    raise NotFoundOnHub("a replica lags")


async def test_the_most_wanted_come_first_within_the_budget(tmp_path: Path) -> None:
    hub = ChangingHub("huggingface", models=12, page_size=20)
    ids = sorted(hub.lives)
    for rank, hub_id in enumerate(ids):
        hub.count(hub_id, rank)
    asked: list[str] = []
    real = hub.details

    async def noted(address: Any) -> bytes:
        asked.append(address.hub_id)
        return await real(address)

    hub.details = noted  # type: ignore[method-assign]
    async with bench(tmp_path, hub=hub, auto=False) as other:
        other.budget = 0
        it = Bench(other.store, hub, other.clocks)
        await other.lane.start(full=True)
        await other.lane.work()

        def furnish(tx: Any) -> None:
            tx.db.execute("UPDATE model SET owned = 1 WHERE hub_id = ?", (ids[3],))

        await it.store.apply(furnish, durability=Durability.NORMAL, name="test")
        hub.before = refuse(HubUnavailable("it is down"))
        assert (await Desk(it).fresh(ids[5])).stale  # somebody asked in vain
        hub.before = lambda _operation, _hub: None
        await it.lane.recall()
        asked.clear()
        hub.requests.clear()
        it.budget = 4
        await it.lane.work()
        assert asked == [ids[5], ids[3], ids[11], ids[10]]
        assert it.status.coverage.details == 4
        it.budget = None
        await it.lane.work()
        assert it.status.coverage.details == 12
        assert len(asked) == 12


async def test_details_that_refuse_to_come_are_not_asked_for_again_at_once(
    tmp_path: Path,
) -> None:
    hub = ChangingHub("huggingface", models=5, page_size=20)
    hub.details = _failing  # type: ignore[method-assign]
    async with bench(tmp_path, hub=hub, cadence=NEWS) as it:
        assert it.status.coverage.details == 0
        tried = "SELECT sum(failures) FROM sync_wish"
        assert await it.one(tried) == 5
        await it.lane.work()
        assert await it.one(tried) == 5
        await it.days(0.3)
        assert await it.one(tried) == 10
        # the looks that follow a denial find them all
        assert await it.one("SELECT count(*) FROM model WHERE hub_state = 'gone'") == 0


@pytest.mark.parametrize("why", ["gated", "blocked"])
async def test_a_repository_that_is_refused_costs_itself_and_not_the_rest(
    tmp_path: Path, why: Any
) -> None:
    hub = ChangingHub("huggingface", models=5, page_size=20)
    first = sorted(hub.lives)[0]
    real = hub.details

    async def closed(address: Any) -> bytes:
        if address.hub_id == first:
            raise HubRefused("not for you", why=why)
        return await real(address)

    hub.details = closed  # type: ignore[method-assign]
    async with bench(tmp_path, hub=hub, cadence=NEWS) as it:
        assert it.status.coverage.details == 4
        assert it.status.error is None
        # a bad token is refused everything
        hub.publish(sorted(hub.lives)[1])
        await it.lane.start(full=False)
        hub.before = lambda operation, _hub: (
            None if operation == "list" else refuse(HubRefused("bad token", why="auth"))("", hub)
        )
        await it.lane.work()
        assert it.status.error == "bad token"

"""What is not shown any more: looks, sweeps, renames, takedowns, lists that are suddenly empty."""

from functools import partial
from pathlib import Path

import msgspec
import pytest

from modelkeepd.catalog.detail import model_named
from modelkeepd.sync.schedule import Cadence
from tests.fakes.changing_hub import ChangingHub
from tests.fakes.sync_bench import DAY_S, FAR_S, NEWS, bench

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

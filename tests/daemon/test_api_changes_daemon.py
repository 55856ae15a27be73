"""A hub whose API breaks under a whole daemon: it is left alone, told of, and taken up again."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from modelkeep_protocol import schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd import wiring
from modelkeepd.api_changes.learner import ApiSettings
from tests.daemon.house import House, open_house
from tests.fakes.command import Ran, keep
from tests.hubsim import Hub, open_hubsim

LIST = {"civitai": "/api/v1/models", "huggingface": "/api/models"}
BREAKS = {
    "items": ("civitai", {"rename_json": {"items": "results"}}),
    "items[].id": ("civitai", {"rename_json": {"items.*.id": "key"}}),
    "[].lastModified": ("huggingface", {"drop_json": ["*.lastModified"]}),
}
MODELS = {"civitai": 500, "huggingface": 90}


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how often the daemon looks at paused endpoints."""

    def set_to(**settings: Any) -> None:
        watching = partial(wiring.watch_apis, settings=ApiSettings(**settings))
        monkeypatch.setattr(wiring, "watch_apis", watching)

    return set_to


async def cli(house: House, *words: str) -> Ran:
    return await trio.to_thread.run_sync(
        partial(keep, Path(house.paths.config_dir), "api-changes", *words)
    )


async def learned(house: House, syncs: int) -> None:
    """The daemon knows what the lists look like."""
    await house.synced()
    for _ in range(syncs):
        await house.sync_again()


async def paused(house: House) -> list[schema.Breaker]:
    status: schema.Status = await house.call("daemon.status")
    return [b for hub in status.hubs for b in hub.breakers if b.state == "paused"]


async def told(house: House, since: str) -> list[schema.Event]:
    """The events about APIs since then."""
    found: list[schema.Event] = []
    while (page := await house.call("events.read", since=since, topics=["sync"])).events:
        found += [event for event in page.events if event.kind.startswith("api.")]
        since = page.cursor
    return found


async def now(house: House) -> str:
    page: schema.EventPage = await house.call("events.read")
    return page.cursor


def rows(house: House) -> list[Any]:
    """The catalog as it is."""
    tables = ("model", "version", "file", "document")
    return [house.rows(f"SELECT * FROM {table} ORDER BY 1") for table in tables]


def there(house: House) -> set[tuple[Any, ...]]:
    """What is in the catalog and not gone."""
    found = {
        ("model", *row)
        for row in house.rows(
            "SELECT model_key, hub_id, name, type, hub_state FROM model WHERE gone_ms IS NULL"
        )
    }
    found |= {
        ("version", *row)
        for row in house.rows(
            "SELECT version_key, hub_id, base_model FROM version WHERE gone_ms IS NULL"
        )
    }
    return found | {("file", *row) for row in house.rows(
        "SELECT file_key, hub_id, name, sha256 FROM file WHERE gone_ms IS NULL")}  # fmt: skip


async def ended(house: House, run_id: int) -> schema.SyncRun:
    """A person asks; the run that waited, or one after it, comes to its end."""
    await house.call("sync.start")
    return await house.synced(run_id - 1)


def asked(hub: Hub, path: str) -> int:
    return sum(entry.path == path for entry in hub.log)


@pytest.mark.parametrize("path", ["items", "[].lastModified"])
async def test_a_broken_list_is_paused_over_a_restart_until_its_old_shape_is_back(
    tmp_path: Path, fast_time: MockClock, watch: Any, path: str
) -> None:
    dialect, do = BREAKS[path]
    watch(look_ms=5_000, first_tick_s=5, tick_s=5)
    home = partial(open_house, tmp_path / "home", name=dialect)
    async with open_hubsim(dialect=dialect, models=MODELS[dialect], largest_page=10) as hub:
        async with home(hub) as house:
            await learned(house, 4)
            before, known, since = rows(house), there(house), await now(house)
            last = (await house.run()).run_id
            hub.fail(LIST[dialect], do, times=0)
            await house.call("sync.start", full=True)
            (breaker,) = await house.until("a pause", partial(paused, house))
            assert breaker.operation == "list"
            assert path in breaker.reason
            changed, stopped = await told(house, since)
            assert (changed.kind, changed.payload["severity"]) == ("api.changed", "breaking")
            assert (stopped.kind, stopped.subject) == ("api.paused", f"{dialect}:list")
            assert stopped.payload["reason"] == breaker.reason
            # details of single models go on
            assert rows(house) == before if dialect == "civitai" else there(house) >= known
        async with home(hub) as house:
            (breaker,) = await paused(house)
            assert path in breaker.reason
            infos = (await house.call("api.endpoints")).items
            assert {i.paused for i in infos if i.operation == "list"} == {breaker.reason}

            async def waits() -> bool:
                return (await house.run()).waiting_s is not None

            await house.call("sync.start")
            await house.until("it waits", waits)
            assert path in ((await house.run()).error or "")
            assert there(house) >= known
            await house.search_caught_up()
            found = await house.call("catalog.search", query="", limit=1)
            assert found.total == len({row for row in known if row[0] == "model"})
            hub.faults.items.clear()

            async def healed() -> bool:
                return not await paused(house)

            await house.until("the pause ends", healed)
            *_, resumed = await told(house, since)
            assert resumed.payload == {"hub": dialect, "operation": "list", "by": "probe"}
            assert (await ended(house, last + 1)).error is None
            assert there(house) >= known


async def test_a_person_lists_resumes_and_accepts_what_broke(
    tmp_path: Path, fast_time: MockClock, watch: Any
) -> None:
    path = "items[].id"
    watch()
    async with (
        open_hubsim(models=MODELS["civitai"]) as hub,
        open_house(tmp_path / "home", hub) as house,
    ):
        await learned(house, 4)
        assert (await cli(house)).stderr.startswith("no change of a hub's API was seen")
        before, known, since = rows(house), there(house), await now(house)
        last = (await house.run()).run_id
        hub.fail(LIST["civitai"], BREAKS[path][1], times=0)
        await house.call("sync.start", full=True)
        await house.until("a pause", partial(paused, house))

        # the new field beside the one that is gone may have been told by then, or not yet
        listed = await cli(house, "list", "civitai", "--severity", "breaking", "--json")
        (item,) = listed.json["items"]
        assert (item["severity"], item["path"], item["accepted_ms"]) == ("breaking", path, None)
        assert '"key":' in item["example"]
        shown = await cli(house, "endpoints")
        assert f"its answers have changed: {path}" in shown.stdout
        # what broke it is no version of it
        differs = await cli(house, "diff", "civitai", "list")
        assert differs.code == 0
        assert path not in differs.stdout

        # asked again, it answers as before
        requests = asked(hub, LIST["civitai"])
        assert (await cli(house, "resume", "civitai", "list")).code == 0
        await house.call("sync.start")

        async def paused_again() -> bool:
            return (await house.call("api.changes", severity="breaking")).total == 2

        await house.until("another pause", paused_again)
        assert [b.operation for b in await paused(house)] == ["list"]
        assert asked(hub, LIST["civitai"]) > requests
        assert rows(house) == before
        not_paused = await cli(house, "resume", "civitai", "ids")
        assert not_paused.code != 0
        assert "is not paused" in not_paused.stderr

        hub.faults.items.clear()
        changes: schema.ApiChanges = await house.call("api.changes", severity="breaking")
        assert changes.total == 2
        accepted: schema.ApiChange = await house.call("api.accept", id=changes.items[0].id)
        assert accepted.accepted_ms
        assert await paused(house) == []
        diff: schema.ApiChanges = await house.call("api.diff", hub="civitai", operation="list")
        assert [(c.kind, c.path) for c in diff.items] == [("field_gone", path)]
        assert (await cli(house, "accept", str(item["id"]), "--json")).json["accepted_ms"]
        with pytest.raises(ModelkeepError, match="no change 999"):
            await house.call("api.accept", id=999)
        assert (await ended(house, last + 1)).error is None
        of_breaks = [
            e.kind
            for e in await told(house, since)
            if e.payload.get("severity", "breaking") == "breaking"
        ]
        assert of_breaks == ["api.changed", "api.paused", "api.resumed"] * 2
        assert there(house) == known

"""Whole crawls of the simulated hub: everything it has arrives, whatever it does on the way."""

import hashlib
import json
import random
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trio

from modelkeepd import failpoints
from modelkeepd.hubs.breaker import BreakerPolicy
from modelkeepd.hubs.contract import Hub, PageRequest
from modelkeepd.hubs.documents import DocumentCodec, read_document
from modelkeepd.hubs.host import Manners
from modelkeepd.hubs.opening import HubConfig, open_hubs
from modelkeepd.hubs.retry import RetryPolicy
from modelkeepd.store import Store, open_store, read_events
from modelkeepd.sync import plan
from modelkeepd.sync.patience import Waits
from modelkeepd.sync.progress import SyncStatus
from modelkeepd.sync.service import SyncService, SyncSettings, UnknownHub
from tests.hubsim import open_hubsim

PAGE = 10

QUICK = RetryPolicy(attempts=2, base_s=0.001, cap_s=0.002, patience_s=0.5)
SETTINGS = SyncSettings(retry_failed_s=3600, waits=Waits(base_s=0.001, cap_s=0.002))


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of ten: as many pages for a tenth of the models."""
    monkeypatch.setattr(plan, "LIMITS", (PAGE / 100, PAGE / 100 - 0.01, 0.03))


@asynccontextmanager
async def opened_hubs(base_url: str, policy: RetryPolicy = QUICK) -> AsyncIterator[dict[str, Hub]]:
    config = HubConfig("civitai", base_url, requests_per_second=10_000)
    # what a breaker does is tested elsewhere; here it must not make a test wait
    manners = Manners(retry=policy, breaker=BreakerPolicy(open_s=0.01, longest_s=0.02))
    async with open_hubs([config], manners=manners, rng=random.Random(1)) as hubs:
        yield hubs.background


async def until(service: SyncService, *states: str) -> SyncStatus:
    with trio.fail_after(60):
        while True:
            (status,) = service.status("civitai")
            if status.state in states:
                return status
            await trio.sleep(0.005)


async def sync_once(store: Store, hubs: Mapping[str, Hub], *, again: bool = False) -> SyncStatus:
    service = SyncService(store, hubs, SETTINGS)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        if again:
            await service.start("civitai", full=True)
        status = await until(service, "idle", "failed")
        nursery.cancel_scope.cancel()
    return status


def canonical(raw: bytes) -> str:
    text = json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


async def mirrored(store: Store) -> dict[int, str]:
    """Digest of the kept document by the hub's id."""
    codec = DocumentCodec()

    def query(db: Any) -> dict[int, str]:
        found = {}
        for key, hub_id in db.execute("SELECT model_key, hub_id FROM model").fetchall():
            raw = read_document(db, codec, key)
            assert raw is not None
            found[int(hub_id)] = canonical(raw)
        return found

    return await store.read(query)


def expected(hub: Any) -> dict[int, str]:
    return {
        hub_id: entry["mature_sha256"] or entry["sfw_sha256"]
        for hub_id, entry in hub.truth().items()
    }


async def count(store: Store, table: str) -> int:
    return int(
        await store.read(lambda db: db.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])
    )


async def test_a_full_crawl_brings_in_the_whole_catalog(tmp_path: Path) -> None:
    async with (
        open_hubsim(models=420) as hub,
        open_store(tmp_path / "db") as store,
        opened_hubs(hub.base_url) as hubs,
    ):
        status = await sync_once(store, hubs)
        assert status.state == "idle"
        assert status.gaps == 0
        assert await mirrored(store) == expected(hub)
        assert status.seen == status.new == len(hub.truth(digests=False))
        # a page per hundred of each view, one request more for the rows lost at their borders
        assert len(hub.log) <= 2 * 5 + 2


FAULTS: dict[str, list[dict[str, Any]]] = {
    "a web page with status 200": [{"match": {"nth": 3}, "do": "html200"}],
    "a maintenance note with status 200": [{"match": {"nth": 2}, "do": "maintenance"}],
    "JSON that is cut off": [{"match": {"nth": 2, "times": 3}, "do": "truncated_json"}],
    "a body shorter than announced": [{"match": {"nth": 2}, "do": "truncate"}],
    "a connection reset in mid-body": [{"match": {"nth": 4}, "do": "cut"}],
    "a connection closed without an answer": [{"match": {"nth": 4}, "do": "hang_up"}],
    "bytes that are no HTTP": [{"match": {"nth": 4}, "do": "garbage"}],
    "a repeated page": [{"match": {"nth": 3}, "do": "repeat_page"}],
    "the page repeated twice": [{"match": {"nth": 3, "times": 2}, "do": "repeat_page"}],
    "a cursor that stands still": [{"match": {"nth": 3}, "do": {"cursor_loop": "same"}}],
    "a cursor that goes back to the start": [{"match": {"nth": 4}, "do": {"cursor_loop": "first"}}],
    "a cursor loop at one place for ever": [
        {"match": {"regex": "CURSOR", "times": 0}, "do": {"cursor_loop": "first"}}
    ],
    "an empty page with a cursor": [{"match": {"nth": 3}, "do": "empty_page"}],
    "an empty first page with a cursor": [{"match": {"nth": 1}, "do": "empty_page"}],
    "429 without Retry-After": [{"match": {"nth": 3}, "do": {"status": 429}}],
    "429 with Retry-After": [
        {"match": {"nth": 3}, "do": {"status": {"code": 429, "retry_after": "0"}}}
    ],
    "500, 502, 503 and 524 in a row": [
        {"match": {"nth": 2}, "do": {"status": code}} for code in (500, 502, 503, 524)
    ],
    "a page that fails for ever": [
        {"match": {"regex": "CURSOR", "times": 0}, "do": {"status": 500}}
    ],
    "rows by id that fail at first": [{"match": {"regex": "ids=3", "times": 8}, "do": "html200"}],
    "a quarter of everything fails": [{"match": {"chance": 0.25}, "do": {"status": 503}}],
    "nested compression": [{"match": {"nth": 2}, "do": {"gzip": 2}}],
    "a compression bomb": [{"match": {"nth": 2}, "do": {"gzip": {"bomb": 40 << 20}}}],
    "compressed pages": [{"match": {"times": 0}, "do": {"gzip": 1}}],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("small_pages")
async def test_nothing_the_hub_does_loses_or_doubles_a_model(tmp_path: Path, fault: str) -> None:
    async with open_hubsim(models=60) as hub, open_store(tmp_path / "db") as store:
        async with opened_hubs(hub.base_url) as hubs:
            first = await hubs["civitai"].list_page(PageRequest("mature", limit=PAGE))
            second = await hubs["civitai"].list_page(
                PageRequest("mature", cursor=first.next_cursor, limit=PAGE)
            )
        place = re.escape(urlencode({"cursor": second.next_cursor}))
        for spec in FAULTS[fault]:
            match = {"path": "/api/v1/models", **spec["match"]}
            if "regex" in match:
                match["regex"] = match["regex"].replace("CURSOR", place)
            hub.faults.extend([{"match": match, "do": spec["do"]}])
        async with opened_hubs(hub.base_url) as hubs:
            status = await sync_once(store, hubs)
        assert any(entry.fault for entry in hub.log)
        assert (status.state, status.gaps) == ("idle", 0)
        assert await mirrored(store) == expected(hub)
        assert await count(store, "model") == await count(store, "document") == status.new


@pytest.mark.usefixtures("small_pages")
async def test_a_retry_after_far_in_the_future_is_waited_for_a_quarter_of_an_hour_at_most(
    tmp_path: Path,
) -> None:
    fault = {"status": {"code": 429, "retry_after": "Fri, 01 Jan 2090 00:00:00 GMT"}}
    async with open_hubsim(models=60) as hub, open_store(tmp_path / "db") as store:
        hub.fail("/api/v1/models", fault, nth=2)
        async with opened_hubs(hub.base_url) as hubs, trio.open_nursery() as nursery:
            service = SyncService(store, hubs, SETTINGS)
            await nursery.start(service.run)
            status = await until(service, "waiting")
            assert status.waiting_s is not None
            assert 800 < status.waiting_s <= 901
            assert "429" in (status.error or "")
            nursery.cancel_scope.cancel()
        async with opened_hubs(hub.base_url) as hubs:  # the daemon is started again
            await sync_once(store, hubs)
        assert await mirrored(store) == expected(hub)


@pytest.mark.parametrize("pages", [1, 2, 5, 11])
@pytest.mark.usefixtures("small_pages")
async def test_a_crawl_that_is_killed_goes_on_with_the_page_after(
    tmp_path: Path, pages: int
) -> None:
    async with open_hubsim(models=60) as hub, opened_hubs(hub.base_url) as hubs:
        failpoints.configure(f"sync.page.after_commit=raise:{pages}")
        try:
            async with open_store(tmp_path / "db") as store:
                with pytest.RaisesGroup(failpoints.FailpointReached, flatten_subgroups=True):
                    await sync_once(store, hubs)
        finally:
            failpoints.configure("")
        asked = len(hub.log)
        async with open_store(tmp_path / "db") as store:
            status = await sync_once(store, hubs)
            assert await mirrored(store) == expected(hub)
            assert await count(store, "sync_run") == 1
            kinds = [
                e.kind for e in await store.read(lambda db: read_events(db, 0, topics=["sync"]))
            ]
            assert kinds == ["run.started", "run.started", "run.finished"]
            assert status.new == await count(store, "model")
        cursors = [entry.target for entry in hub.log]
        # what had been fetched ahead of the last commit is fetched again, nothing else
        assert len(set(cursors)) >= len(cursors) - 2
        assert len(cursors) > asked


@pytest.mark.parametrize("pages", [1, 3, 7])
@pytest.mark.usefixtures("small_pages")
async def test_a_page_whose_commit_failed_is_fetched_again(tmp_path: Path, pages: int) -> None:
    async with open_hubsim(models=60) as hub, opened_hubs(hub.base_url) as hubs:
        failpoints.configure(f"sync.page.before_commit=raise:{pages}")
        try:
            async with open_store(tmp_path / "db") as store:
                with pytest.RaisesGroup(failpoints.FailpointReached, flatten_subgroups=True):
                    await sync_once(store, hubs)
        finally:
            failpoints.configure("")
        async with open_store(tmp_path / "db") as store:
            await sync_once(store, hubs)
            assert await mirrored(store) == expected(hub)


@pytest.mark.usefixtures("small_pages")
async def test_a_stop_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    async with open_hubsim(models=60) as hub:
        rng = random.Random(7)
        done = False
        while not done:
            async with open_store(tmp_path / "db") as store, opened_hubs(hub.base_url) as hubs:
                with trio.move_on_after(rng.uniform(0.02, 0.2)):
                    done = (await sync_once(store, hubs)).state == "idle"
                if done:
                    assert await mirrored(store) == expected(hub)
                    assert await count(store, "sync_run") == 1


@pytest.mark.usefixtures("small_pages")
async def test_a_document_that_is_no_model_is_kept_counted_and_reported(tmp_path: Path) -> None:
    odd = {"set_json": {"items.3.id": "abc", "items.5": [1, 2], "items.7.name": {"x": 1}}}
    async with (
        open_hubsim(models=60) as hub,
        open_store(tmp_path / "db") as store,
        opened_hubs(hub.base_url) as hubs,
    ):
        hub.fail("/api/v1/models", odd, nth=2)
        status = await sync_once(store, hubs)
        assert status.odd == 2
        events = await store.read(lambda db: read_events(db, 0, topics=["sync"]))
        assert [e.kind for e in events] == ["run.started", "odd", "odd", "run.finished"]
        rows = await store.read(
            lambda db: db.execute("SELECT hub_id, reason, raw FROM odd_document").fetchall()
        )
        assert all(reason for _, reason, _ in rows)
        assert any(
            json.loads(DocumentCodec().decompress(raw, None)) == [1, 2] for _, _, raw in rows
        )
        # the two may still come through the other view; the wrong name loses itself alone
        missing = expected(hub).keys() - (await mirrored(store)).keys()
        assert len(missing) <= 2


@pytest.mark.usefixtures("small_pages")
async def test_a_second_crawl_of_an_unchanged_hub_writes_no_model(tmp_path: Path) -> None:
    async with (
        open_hubsim(models=60) as hub,
        open_store(tmp_path / "db") as store,
        opened_hubs(hub.base_url) as hubs,
    ):
        await sync_once(store, hubs)
        before = await store.read(lambda db: read_events(db, 0, topics=["model"]))
        # the same documents written in another manner
        hub.fail("/api/v1/models", {"set_json": {"other": 1}}, nth=2, times=3)
        status = await sync_once(store, hubs, again=True)
        assert (status.new, status.changed, status.seen) == (0, 0, len(hub.truth(digests=False)))
        assert await store.read(lambda db: read_events(db, 0, topics=["model"])) == before
        assert await count(store, "revision") == 0


@pytest.mark.usefixtures("small_pages")
async def test_changes_between_two_crawls_become_revisions_and_keep_keys(tmp_path: Path) -> None:
    async with (
        open_hubsim(models=60) as hub,
        open_store(tmp_path / "db") as store,
        opened_hubs(hub.base_url) as hubs,
    ):
        await sync_once(store, hubs)
        keys = (
            "SELECT m.hub_id, v.hub_id, v.version_key FROM version v JOIN model m USING (model_key)"
        )
        before = set(await store.read(lambda db: db.execute(keys).fetchall()))
        done = hub.change({"edit": 3, "new_version": 2, "add": 4, "remove": 2, "archive": 1})
        status = await sync_once(store, hubs, again=True)
        touched = {i for w in ("edit", "new_version", "archive") for i in done[w]}
        left = expected(hub)
        assert status.new == len(set(done["add"]) & left.keys()) > 0
        assert status.changed == len(touched & left.keys())
        assert await count(store, "revision") == status.changed
        after = set(await store.read(lambda db: db.execute(keys).fetchall()))
        assert before <= after
        kept = await mirrored(store)
        # what the hub does not list any more stays
        assert {i: kept[i] for i in left} == left
        assert set(done["remove"]) <= kept.keys()


@pytest.mark.usefixtures("small_pages")
async def test_an_empty_version_list_is_not_believed(tmp_path: Path) -> None:
    async with (
        open_hubsim(models=60) as hub,
        open_store(tmp_path / "db") as store,
        opened_hubs(hub.base_url) as hubs,
    ):
        await sync_once(store, hubs)
        before, versions = await mirrored(store), await count(store, "version")
        hub.fail("/api/v1/models", {"set_json": {"items.4.modelVersions": []}}, nth=1)
        status = await sync_once(store, hubs, again=True)
        assert (status.odd, status.changed) == (1, 0)
        assert await mirrored(store) == before
        assert await count(store, "version") == versions


async def test_documents_are_compressed_with_a_trained_dictionary(tmp_path: Path) -> None:
    async with (
        open_hubsim(models=520) as hub,
        open_store(tmp_path / "db") as store,
        opened_hubs(hub.base_url) as hubs,
    ):
        await sync_once(store, hubs)
        query = (
            "SELECT avg(length(raw)) FILTER (WHERE dict_id IS NULL),"
            " avg(length(raw)) FILTER (WHERE dict_id IS NOT NULL) FROM document"
        )
        ((without, with_dictionary),) = await store.read(lambda db: db.execute(query).fetchall())
        assert with_dictionary < 0.8 * without
        assert await count(store, "document_dict") == 1
        assert await mirrored(store) == expected(hub)


async def test_the_first_start_syncs_by_itself_only_when_told_so(tmp_path: Path) -> None:
    async with (
        open_hubsim(models=50) as hub,
        open_store(tmp_path / "db") as store,
        opened_hubs(hub.base_url) as hubs,
        trio.open_nursery() as nursery,
    ):
        service = SyncService(store, hubs, SyncSettings(auto=False))
        await nursery.start(service.run)
        assert service.status()[0].state == "never"
        assert hub.log == []
        first = await service.start("civitai")
        second = await service.start("civitai", full=True)
        assert first.state == second.state == "running"
        assert first.run_id == second.run_id
        assert (await until(service, "idle")).run_id == first.run_id
        assert (await service.start("civitai")).run_id != first.run_id
        await until(service, "idle")
        with pytest.raises(UnknownHub):
            await service.start("nowhere")
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("small_pages")
async def test_a_hub_that_is_down_is_waited_for(tmp_path: Path) -> None:
    async with (
        open_hubsim(models=60) as hub,
        open_store(tmp_path / "db") as store,
        opened_hubs(hub.base_url) as hubs,
        trio.open_nursery() as nursery,
    ):
        hub.fail("*", {"status": 503}, times=0)
        service = SyncService(store, hubs, SETTINGS)
        await nursery.start(service.run)
        status = await until(service, "waiting")
        assert "503" in (status.error or "")
        while len(hub.log) < 20:  # noqa: ASYNC110 - the hub under test has no event to wait for
            await trio.sleep(0.005)
        hub.faults.clear()
        status = await until(service, "idle")
        assert (status.gaps, status.error) == (0, None)
        assert await mirrored(store) == expected(hub)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("code", [401, 403, 451, 400])
@pytest.mark.usefixtures("small_pages")
async def test_a_refusal_fails_the_run_and_a_start_resumes_it(tmp_path: Path, code: int) -> None:
    async with (
        open_hubsim(models=60) as hub,
        open_store(tmp_path / "db") as store,
        opened_hubs(hub.base_url) as hubs,
        trio.open_nursery() as nursery,
    ):
        hub.fail("/api/v1/models", {"status": code}, nth=2)
        service = SyncService(store, hubs, SETTINGS)
        await nursery.start(service.run)
        failed = await until(service, "failed")
        assert str(code) in (failed.error or "")
        resumed = await service.start("civitai")
        assert resumed.run_id == failed.run_id
        status = await until(service, "idle")
        assert status.error is None
        assert await mirrored(store) == expected(hub)
        nursery.cancel_scope.cancel()


async def test_every_recorded_model_goes_in_and_both_states_of_one(tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "fixtures" / "civitai"
    async with (
        open_hubsim(models=0, folder=folder) as hub,
        open_store(tmp_path / "db") as store,
        opened_hubs(hub.base_url) as hubs,
    ):
        first = await sync_once(store, hubs)
        assert (first.odd, first.gaps) == (0, 0)
        assert (await mirrored(store)).keys() == expected(hub).keys()
        old = (await mirrored(store))[1102]
        second = await sync_once(store, hubs, again=True)
        assert second.new == 0
        assert second.changed >= 1
        assert (await mirrored(store))[1102] != old
        revisions = await store.read(
            lambda db: db.execute(
                "SELECT r.is_delta, r.raw, d.raw, d.dict_id FROM revision r"
                " JOIN model USING (model_key) JOIN document d USING (model_key)"
                " WHERE hub_id = '1102'"
            ).fetchall()
        )
        ((is_delta, delta, *now),) = revisions
        assert is_delta
        codec = DocumentCodec()
        assert canonical(codec.apply_delta(codec.decompress(*now), delta)) == old

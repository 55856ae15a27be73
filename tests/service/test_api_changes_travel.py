"""The detector beside real syncs of simulated hubs, while their APIs go through the years."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest

from modelkeepd.api_changes.answer import see
from modelkeepd.api_changes.compare import Change
from modelkeepd.api_changes.endpoint import Endpoint
from modelkeepd.api_changes.learner import ApiSettings
from modelkeepd.api_changes.rows import a_model
from modelkeepd.hubs.breaker import BreakerPolicy
from modelkeepd.hubs.contract import HubUnavailable, NotFoundOnHub, PageRequest, parse_model
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.hubs.host import Manners, Sample
from modelkeepd.hubs.opening import HubConfig, open_hubs
from modelkeepd.hubs.retry import RetryPolicy
from modelkeepd.kinds.seen import seen_words
from modelkeepd.store import Store, read_events
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.lane import Lane, Ports, SyncSettings
from modelkeepd.sync.patience import Waits
from modelkeepd.wiring import watch_apis
from tests.fakes.api_answers import a_model as a_listed_model
from tests.fakes.api_answers import answer, pages
from tests.fakes.clocks import FakeClocks
from tests.hubsim import Hub, open_hubsim

MODELS = 60
MANNERS = Manners(retry=RetryPolicy(attempts=1, patience_s=0.5), breaker=BreakerPolicy(open_s=0.01))
SYNC = SyncSettings(auto=False, waits=Waits(base_s=0.001, cap_s=0.002))
# each set of changes at once: here years pass in seconds
WATCH = ApiSettings(version_ms=0, look_ms=1_000)
ENUMS, TAGS = "/api/v1/enums", "/api/models-tags-by-type"
HOUR = 3_600.0


class World:
    """A hub, its catalog here, and the service that hears every answer."""

    def __init__(
        self, hub: Hub, dialect: str, hubs: Any, store: Store, clocks: FakeClocks, page: int
    ) -> None:
        self.sim, self.hubs, self.store, self.clocks = hub, hubs, store, clocks
        self.client = hubs.background[dialect]
        self.client.page_limit = page
        self.service = watch_apis(store, hubs, clocks, WATCH)
        self._heard: list[Sample] = []
        hubs.listen(self._heard.append)
        parse = partial(parse_model, dialect, texts=False)
        intake = Intake(store, dialect, DocumentCodec(), parse)
        self._lane = Lane(self.client, intake, SYNC, Ports(), clocks, random.Random(1))
        self._is_known = False

    async def sync(self) -> None:
        """A whole walk of the list into the catalog."""
        if not self._is_known:
            await self._lane.recall()
            self._is_known = True
        self.clocks.advance(HOUR)
        await self._lane.start(full=True)
        await self._lane.work()
        runs = await self.rows("SELECT state, error FROM sync_run ORDER BY run_id")
        assert runs[-1] == ("finished", None)

    async def sync_once(self) -> None:
        """The first request of a walk."""
        await self.client.list_page(PageRequest(view=self.client.views[0], limit=2))

    async def learn(self) -> list[tuple[str, Change]]:
        """What the service makes of the answers since the last time, by operation."""
        found = []
        while self._heard:
            sample = self._heard.pop(0)
            changes = await self.service.learn(sample)
            found += [(sample.operation, change) for change in changes]
        return found

    async def rows(self, sql: str) -> list[Any]:
        return await self.store.read(lambda db: db.execute(sql).fetchall())

    async def kept(self) -> tuple[Any, ...]:
        """What of the catalog no change of form may touch."""
        return (
            await self.rows("SELECT hub_id FROM model WHERE hub_state <> 'gone' ORDER BY hub_id"),
            await self.rows(
                "SELECT model_key, hub_id, base_model FROM version WHERE gone_ms IS NULL"
                " ORDER BY model_key, hub_id"
            ),
            await self.rows(
                "SELECT model_key, hub_id, name, sha256, kind FROM file WHERE gone_ms IS NULL"
                " ORDER BY model_key, hub_id, name"
            ),
            await self.rows("SELECT count(*) FROM odd_document"),
        )


@asynccontextmanager
async def opened(
    store: Store, clocks: FakeClocks, dialect: str = "civitai", *, page: int = 4, **options: Any
) -> AsyncIterator[World]:
    async with open_hubsim(dialect=dialect, models=MODELS, **options) as hub:
        config = HubConfig(dialect, hub.base_url, requests_per_second=10_000)
        async with open_hubs([config], manners=MANNERS, rng=random.Random(1)) as hubs:
            yield World(hub, dialect, hubs, store, clocks, page)


async def events(store: Store, topic: str) -> list[Any]:
    return await store.read(lambda db: read_events(db, 0, topics=[topic]))


# -- CivitAI through the years -------------------------------------------------------------------

# a date, and some of what must be told then: operation, kind, severity, path
Told = tuple[str, str, str, str]
VERSION = "items[].modelVersions[]"
YEARS: dict[str, set[Told]] = {
    "2023-12": {
        ("version", "field_added", "harmless", "files[].hashes.AutoV3"),
        ("ids", "type_changed", "adopted", "items[].allowCommercialUse"),
    },
    "2024-03": {
        ("list", "field_added", "adopted", "metadata.nextCursor"),
        ("list", "field_gone", "degraded", f"{VERSION}.createdAt"),
        ("list", "field_added", "adopted", f"{VERSION}.publishedAt"),
        ("ids", "field_added", "adopted", "items[].stats.thumbsUpCount"),
    },
    "2024-04": {
        # of the frame there is but one in an answer: it takes some more of them
        ("list", "field_gone", "harmless", "metadata.totalItems"),
        ("list", "cursor_changed", "degraded", "metadata.nextCursor"),
    },
    "2024-08": {
        ("list", "cursor_changed", "degraded", "metadata.nextCursor"),
        ("version", "field_added", "harmless", "earlyAccessEndsAt"),
    },
    "2025-06": {("list", "field_added", "harmless", "items[].sfwOnly")},
    "2025-09-22": set(),
    "2025-11-24": {
        ("list", "type_changed", "adopted", "items[].allowCommercialUse"),
        ("list", "field_gone", "degraded", "items[].stats.favoriteCount"),
        ("model", "field_gone", "harmless", "modelVersions[].stats.rating"),
    },
    "2026-01-15": {("model", "field_added", "adopted", "baseModels")},
    "2026-07-27": {("list", "field_added", "harmless", f"{VERSION}.paidAccess")},
    "2026-08-05": {("list", "type_changed", "adopted", "items[].allowCommercialUse")},
    "2026-08-13": {
        # few counters are hidden: this is certain only now
        ("list", "became_nullable", "adopted", "items[].stats.downloadCount"),
        ("version", "url_shape_changed", "adopted", "files[].downloadUrl"),
    },
}


async def ask_by_id(world: World, ids: Sequence[int]) -> None:
    """These models in bulk, and each alone with a version of it."""
    for start in range(0, len(ids), 3):
        await world.client.models_by_ids([str(k) for k in ids[start : start + 3]], "mature")
    for hub_id in ids:
        await world.client.model(str(hub_id))
        with suppress(NotFoundOnHub):  # a fresh one, which its own endpoint denies
            await world.client.version(str(world.sim.version_ids(hub_id)[0]))


async def test_every_year_of_the_hub_is_read_and_what_changed_is_told(
    store: Store, clocks: FakeClocks
) -> None:
    async with opened(store, clocks, era="2023-07", page=100) as world:
        truth = world.sim.truth(digests=False)
        ids = [hub_id for hub_id, entry in truth.items() if entry["mature"]]

        async def visit() -> list[tuple[str, Change]]:
            await world.sync()
            await ask_by_id(world, ids)
            return await world.learn()

        # its lists had numbered pages, and we know no other than the first
        for _ in range(60):
            await world.client.list_page(PageRequest(view="mature", limit=3))
        assert await visit() + await visit() == []
        before = await world.kept()
        assert before[0] == sorted((str(hub_id),) for hub_id in truth)  # ids of one length
        for date, wanted in YEARS.items():
            world.sim.set_era(date)
            world.client.page_limit = 100 if date < "2024-03" else 3
            found = await visit()
            told = {(op, c.kind, c.severity, c.path) for op, c in found}
            assert wanted <= told, (date, wanted - told)
            assert bool(told) == bool(wanted), (date, told)
            assert all(c.severity != "breaking" and c.suggestion for _, c in found), date
            assert await world.kept() == before, date
        assert {info.paused for info in await world.service.shapes()} == {None}
        kinds = {event.kind for event in await events(store, "sync")}
        assert "api.changed" in kinds
        assert not {"api.paused", "odd"} & kinds


# -- what a pause depends on ---------------------------------------------------------------------


async def test_archived_models_in_a_row_do_not_pause_what_answers_by_id(
    store: Store, clocks: FakeClocks
) -> None:
    """By id they have no files, and suspects are mostly archived ones."""
    async with opened(store, clocks) as world:
        # one without files has no versions there
        usual = [hub_id for hub_id in world.sim.truth() if _has_files(world.sim, hub_id)]
        for hub_id in usual * 2:
            await world.client.model(str(hub_id))
        assert await world.learn() == []
        for hub_id in world.sim.change({"archive": usual[:8]})["archive"]:
            assert b'"files"' not in await world.client.model(str(hub_id))
        assert await world.learn() == []
        world.sim.fail("/api/v1/models/*", {"drop_json": ["modelVersions.*.files"]}, times=0)
        for hub_id in usual[20:40]:
            await world.client.model(str(hub_id))
        ((operation, change),) = await world.learn()
        assert (operation, change.severity) == ("model", "breaking")
        assert change.path == "modelVersions[].files"
        assert change.example.startswith("without it: {")
        world.sim.faults.items.clear()
        await world.sync()
        clocks.advance(HOUR)
        await world.service.tick()
        assert {info.paused for info in await world.service.shapes()} == {None}


def _has_files(hub: Hub, hub_id: int) -> bool:
    document = hub.document(hub_id) or {}
    return "mode" not in document and any(v["files"] for v in document["modelVersions"])


async def test_a_model_to_look_with_has_files_and_is_not_always_the_same(
    store: Store, clocks: FakeClocks
) -> None:
    async with opened(store, clocks) as world:
        assert await store.read(partial(a_model, hub="civitai")) is None
        await world.sync()
        found = {
            await store.read(partial(a_model, hub="civitai", near=key)) for key in (0, 20, 1 << 40)
        }
        assert len(found) == 2  # beyond the last it begins again
        for model in found:
            assert model is not None
            assert _has_files(world.sim, int(model.hub_id))


async def test_a_list_that_no_longer_leads_on_is_paused(store: Store, clocks: FakeClocks) -> None:
    """Each page would look like the last, and new models would be missed without a word."""
    async with opened(store, clocks, page=2) as world:
        await world.sync()
        assert await world.learn() == []
        world.sim.fail("/api/v1/models", {"drop_json": ["metadata.nextCursor"]}, times=0)
        for _ in range(6):
            await world.client.list_page(PageRequest(view="mature", limit=2))
        ((_, change),) = await world.learn()
        assert (change.severity, change.path) == ("breaking", "metadata.nextCursor")
        with pytest.raises(HubUnavailable, match="nextCursor"):
            await world.sync_once()


def test_a_page_of_many_mib_whose_items_are_called_otherwise_is_seen() -> None:
    padding = "x" * (3 << 20)
    page = {"results": [{"id": 1, "description": padding}], "metadata": {"nextCursor": "1|2"}}
    seen = see(answer(page), range)
    assert (seen.status, seen.shape.documents) == ("200", 1)
    body = seen.shape.statuses["200"].keys["body"]
    assert set(body.keys) == {"results", "metadata"}
    assert body.keys["results"].types == {"array": 1}
    whole = see(answer({"items": padding, "metadata": padding, "next": {"a": padding}}), range)
    types = {key: node.types for key, node in whole.shape.statuses["200"].keys["body"].keys.items()}
    assert types == {"items": {"string": 1}, "metadata": {"string": 1}, "next": {"object": 1}}


# -- changes that begin anywhere -----------------------------------------------------------------


def learned(endpoint: Endpoint, samples: Sequence[Sample]) -> list[tuple[str, str]]:
    found = []
    for sample in samples:
        changes = endpoint.learn(see(sample, range))
        found += [(change.kind, change.path) for change in changes]
        if changes:
            endpoint.adopt(endpoint.settled(changes))
    return found


@pytest.mark.parametrize("before", range(20, 62, 6))
def test_a_change_is_told_whole_wherever_in_a_window_it_begins(before: int) -> None:
    def renamed(model: dict[str, Any]) -> None:
        model["poiLevel"] = model.pop("poi")
        model["allowDerivatives"] = str(model["allowDerivatives"])

    assert {"poi", "allowDerivatives"} <= set(a_listed_model())
    endpoint = Endpoint("civitai", "list")
    assert learned(endpoint, pages(before)) == []
    assert sorted(learned(endpoint, pages(50, renamed))) == [
        ("field_added", "items[].poiLevel"),
        ("field_gone", "items[].poi"),
        ("type_changed", "items[].allowDerivatives"),
    ]
    assert learned(endpoint, pages(30, renamed)) == []


def test_a_break_that_came_over_half_of_the_machines_first_is_still_one() -> None:
    endpoint = Endpoint("civitai", "list")
    learned(endpoint, pages(40))
    bad = pages(80, lambda model: model.pop("modelVersions"))
    mixed = [sample for pair in zip(pages(40), bad[:40], strict=True) for sample in pair]
    assert ("field_rarer", "items[].modelVersions") in learned(endpoint, mixed)
    found = [change for sample in bad[40:] for change in endpoint.learn(see(sample, range))]
    assert found[0].severity == "breaking"


# -- Hugging Face --------------------------------------------------------------------------------


async def test_huggingface_is_followed_and_left_alone_when_it_breaks(
    store: Store, clocks: FakeClocks
) -> None:
    async with opened(store, clocks, "huggingface", page=6) as world:

        async def after(do: dict[str, object], syncs: int = 2) -> list[tuple[str, str, str]]:
            world.sim.faults.items.clear()
            world.sim.fail("/api/models", do, times=0)
            for _ in range(syncs):
                await world.sync()
            found = [(c.kind, c.severity, c.path) for _, c in await world.learn()]
            assert (await world.kept())[0] == before[0]
            assert (await world.kept())[3] == [(0,)]
            return found

        for _ in range(2):
            await world.sync()
        assert await world.learn() == []
        before = await world.kept()
        assert len(before[0]) > 50
        hot = {"set_json": {"*.trendingScore": 3}}
        assert await after(hot) == [("field_added", "harmless", "[].trendingScore")]
        text = {"set_json": {"*.trendingScore": 3, "*.downloads": "12"}}
        assert await after(text) == [("type_changed", "adopted", "[].downloads")]
        many = {"set_json": {"*.trendingScore": 3, "*.downloads": "12", "*.likes": {"all": 3}}}
        assert await after(many) == [("type_changed", "degraded", "[].likes")]
        assert await world.kept() == before
        gone = {**many, "drop_json": ["*.lastModified"]}
        assert await after(gone) == [("field_gone", "breaking", "[].lastModified")]
        with pytest.raises(HubUnavailable, match="lastModified"):
            await world.sync_once()
        clocks.advance(HOUR)
        await world.service.tick()
        assert {info.paused for info in await world.service.shapes()} != {None}
        world.sim.faults.items.clear()
        world.sim.fail("/api/models", many, times=0)
        clocks.advance(HOUR)
        await world.service.tick()
        assert {info.paused for info in await world.service.shapes()} == {None}
        assert await after(many) == []
        assert await world.kept() == before


async def test_a_single_model_is_looked_at_in_the_form_in_which_it_is_asked_for(
    store: Store, clocks: FakeClocks
) -> None:
    """Without its files: what an answer never had, it need not have to be whole again."""
    async with opened(store, clocks, "huggingface", page=30) as world:
        await world.sync()
        names = [row[0] for row in await world.rows("SELECT ref_id FROM model LIMIT 40")]
        for name in names * 2:
            await world.client.model(name)
        assert await world.learn() == []
        world.sim.fail("/api/models/*", {"rename_json": {"_id": "uid"}}, times=0)
        for name in names[:5]:
            await world.client.model(name)
        ((operation, change),) = await world.learn()
        assert (operation, change.severity, change.path) == ("model", "breaking", "_id")
        for is_mended in (False, True):
            if is_mended:
                world.sim.faults.items.clear()
            clocks.advance(HOUR)
            await world.service.tick()
            paused = {i.operation for i in await world.service.shapes() if i.paused}
            assert paused == (set() if is_mended else {"model"})


async def test_a_list_of_huggingface_that_no_longer_leads_on_is_told(
    store: Store, clocks: FakeClocks
) -> None:
    """Whether a list is one page long is nobody's fault, so it is not paused."""
    async with opened(store, clocks, "huggingface", page=2) as world:
        for _ in range(2):
            await world.sync()
        assert await world.learn() == []
        world.sim.fail("/api/models", {"headers": {"Link": None}}, times=0)
        for _ in range(40):
            await world.client.list_page(PageRequest(view="all", limit=2))
        found = [(c.kind, c.severity, c.path) for _, c in await world.learn()]
        assert found == [("header_changed", "degraded", "headers.link")]


# -- the hubs' own lists -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "path", "place", "word", "list_name"),
    [
        ("civitai", ENUMS, "ModelType.0", "DreamModule", "ModelType"),
        ("huggingface", TAGS, "pipeline_tag.0.id", "text-to-hologram", "pipeline_tag"),
    ],
)
async def test_a_new_value_in_the_hubs_list_is_adopted_the_next_day(
    store: Store,
    clocks: FakeClocks,
    dialect: str,
    path: str,
    place: str,
    word: str,
    list_name: str,
) -> None:
    async with opened(store, clocks, dialect) as world:
        await world.service.recall()
        await world.service.tick()
        world.sim.fail(path, {"set_json": {place: word}}, times=0)
        clocks.advance(23 * HOUR)
        await world.service.tick()
        assert await world.service.history() == ([], 0)
        clocks.advance(2 * HOUR)
        await world.service.tick()
        (change,), _ = await world.service.history()
        assert (change.kind, change.severity) == ("enum_value_new", "adopted")
        assert (change.path, change.after) == (list_name, word)
    (told,) = [event for event in await events(store, "sync") if event.kind == "api.changed"]
    assert told.payload["severity"] == "adopted"
    new = [event.subject for event in await events(store, "model") if event.kind == "kind.new"]
    is_kind = dialect == "civitai"  # a task is no type of ours: it is a tag, and searched as one
    assert (word in new) == is_kind
    assert (word in {seen.word for seen in await store.read(seen_words)}) == is_kind

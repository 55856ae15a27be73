"""The service against a real store: what it keeps, pauses and asks, and what a restart finds."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from modelkeepd import failpoints
from modelkeepd.api_changes.learner import ApiSettings
from modelkeepd.api_changes.lists import SOURCES
from modelkeepd.api_changes.service import ApiChangesService, UnknownApi
from modelkeepd.hubs.contract import HubUnavailable
from modelkeepd.kinds.seen import seen_words
from modelkeepd.store import Durability, Store, Tx, open_store, read_events
from tests.fakes.api_answers import Json, a_model, answer, page, pages
from tests.fakes.clocks import FakeClocks

ENUMS: Json = {"ModelType": ["LORA", "VAE"], "BaseModel": ["SD 1.5"], "ModelFileType": ["Model"]}
HOUR = 3_600.0


class World:
    """What the service is handed, and what it did with it."""

    def __init__(self) -> None:
        self.paused: dict[tuple[str, str], str] = {}
        self.asked: list[tuple[str, str]] = []
        self.answers: dict[str, object] = {"/api/v1/enums": ENUMS}
        self.was_paused = trio.Event()

    async def ask(self, hub: str, path: str, params: Sequence[tuple[str, str]]) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append((hub, path))
        found = self.answers.get(path)
        if found is None:
            raise HubUnavailable(f"{path} is down")
        return found if isinstance(found, bytes) else json.dumps(found).encode()

    def pause(self, hub: str, operation: str, reason: str) -> None:
        self.paused[hub, operation] = reason
        self.was_paused.set()

    def resume(self, hub: str, operation: str) -> None:
        self.paused.pop((hub, operation), None)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def made(store: Store, world: World, clocks: FakeClocks) -> Callable[..., ApiChangesService]:
    def make(on: Store = store, **settings: Any) -> ApiChangesService:
        return ApiChangesService(
            on,
            ask=world.ask,
            pause=world.pause,
            resume=world.resume,
            hubs=("civitai",),
            settings=ApiSettings(**settings),
            clocks=clocks,
        )

    return make


async def learn(service: ApiChangesService, samples: Sequence[Any]) -> list[str]:
    return [change.kind for sample in samples for change in await service.learn(sample)]


async def events(store: Store) -> list[tuple[str, str, dict[str, Any]]]:
    found = await store.read(lambda db: read_events(db, 0, topics=["sync"]))
    return [(e.kind, e.subject, e.payload) for e in found]


def without_versions(model: Json) -> None:
    model.pop("modelVersions")


async def test_a_change_is_kept_and_told_in_one_event(made, store):
    service = made()
    assert await learn(service, pages(30)) == []

    def two_new(model: Json) -> None:
        model.update(userId=7, baseModels=["SD 1.5"])

    assert await learn(service, pages(20, two_new)) == ["field_added", "field_added"]
    ((kind, subject, payload),) = await events(store)
    assert (kind, subject) == ("api.changed", "civitai:list")
    assert payload["severity"] == "adopted"
    assert [c["path"] for c in payload["changes"]] == ["items[].baseModels", "items[].userId"]
    changes, total = await service.history("civitai")
    assert total == len(changes) == 2
    assert {change.version for change in changes} == {2}
    older, total = await service.history(limit=1, after=changes[0].change_id)
    assert (older, total) == ([changes[1]], 2)
    assert (await service.history("huggingface")) == ([], 0)
    assert [c.path for c in (await service.history(severity="adopted"))[0]] == [
        "items[].baseModels"
    ]


async def test_versions_can_be_compared(made):
    service = made()
    await learn(service, pages(30))
    await learn(service, pages(20, lambda model: model.update(userId=7)))
    (info,) = await service.shapes()
    assert (info.hub, info.operation, info.version, info.paused) == ("civitai", "list", 2, None)
    (change,) = await service.diff("civitai", "list")
    assert (change.kind, change.path) == ("field_added", "items[].userId")
    (change,) = await service.diff("civitai", "list", 2, 1)
    assert (change.kind, change.path) == ("field_gone", "items[].userId")
    for hub, operation, version in (("civitai", "list", 7), ("civitai", "x", 1), ("x", "list", 1)):
        with pytest.raises(UnknownApi):
            await service.diff(hub, operation, version)


async def test_what_cannot_be_read_is_paused_and_nothing_more_is_learnt(made, store, world):
    service = made()
    await learn(service, pages(30))
    assert await learn(service, pages(9, without_versions)) == ["field_gone"]
    assert "modelVersions" in world.paused["civitai", "list"]
    assert [kind for kind, _, _ in await events(store)] == ["api.changed", "api.paused"]
    (change,), _ = await service.history(severity="breaking")
    assert change.example
    (info,) = await service.shapes()
    assert info.paused == world.paused["civitai", "list"]


async def test_a_pause_ends_by_itself_when_the_old_shape_is_back(made, store, world, clocks):
    service = made(look_ms=1_000)
    await learn(service, pages(30))
    await learn(service, pages(9, without_versions))
    looks = ("civitai", "/api/v1/models")
    await service.tick()
    assert looks not in world.asked  # it has only just been paused
    for still in (None, b"<html>", {"items": [], "metadata": {}}, {"items": [{"id": 1}]}):
        clocks.advance(2)
        if still is not None:
            world.answers["/api/v1/models"] = still
        await service.tick()
        assert ("civitai", "list") in world.paused
    assert world.asked.count(looks) == 4
    clocks.advance(2)
    world.answers["/api/v1/models"] = {"items": [a_model()], "metadata": {"nextCursor": "1|2|3"}}
    await service.tick()
    assert world.paused == {}
    assert (await events(store))[-1][::2] == (
        "api.resumed", {"hub": "civitai", "operation": "list", "by": "probe"},
    )  # fmt: skip
    assert await learn(service, pages(20)) == []


async def test_a_person_may_accept_a_break(made, world, clocks):
    service = made()
    await learn(service, pages(30))
    await learn(service, pages(3, without_versions))
    (change,), _ = await service.history()
    accepted = await service.accept(change.change_id)
    assert accepted.accepted_ms == clocks.wall_ms()
    assert world.paused == {}
    (info,) = await service.shapes()
    assert info.version == 2
    assert await learn(service, pages(40, without_versions)) == []
    assert await service.accept(change.change_id) == accepted
    with pytest.raises(UnknownApi):
        await service.accept(999)


async def test_resuming_without_accepting_pauses_again(made, world):
    service = made()
    await learn(service, pages(30))
    await learn(service, pages(3, without_versions))
    assert await service.resume("civitai", "list") is True
    assert world.paused == {}
    assert await service.resume("civitai", "list") is False
    assert await learn(service, pages(3, without_versions)) == ["field_gone"]
    assert ("civitai", "list") in world.paused
    with pytest.raises(UnknownApi):
        await service.resume("civitai", "nothing")


async def test_a_restart_goes_on_with_shapes_and_pauses(made, store, world):
    first = made(save_ms=0)
    await learn(first, pages(30))
    await learn(first, pages(20, lambda model: model.update(userId=7)))
    await learn(first, [answer({"error": "x"}, operation="model", status=404)])
    second = made()
    await second.recall()
    assert await learn(second, pages(40, lambda model: model.update(userId=7))) == []
    assert await learn(second, pages(3, without_versions)) == ["field_gone"]
    world.paused.clear()
    third = made()
    await third.recall()
    assert set(world.paused) == {("civitai", "list")}
    assert {(i.operation, i.version) for i in await third.shapes()} == {("list", 2), ("model", 1)}


async def test_stopping_keeps_what_was_learnt(made, store):
    service = made()
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        await learn(service, pages(5))
        nursery.cancel_scope.cancel()
    again = made()
    await again.recall()
    (info,) = await again.shapes()
    assert info.documents == 15


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_around_the_commit_of_a_change_loses_nothing(made, store, world, moment):
    first = made(save_ms=0)
    await learn(first, pages(30))
    failpoints.configure(f"api_changes.record.{moment}_commit=raise")
    try:
        with pytest.raises(failpoints.FailpointReached):
            await learn(first, pages(3, without_versions))
    finally:
        failpoints.configure("")
    second = made()
    await second.recall()
    await learn(second, pages(3, without_versions))
    assert ("civitai", "list") in world.paused
    assert (await second.history())[1] == 1
    assert [kind for kind, _, _ in await events(store)] == ["api.changed", "api.paused"]


async def test_a_damaged_shape_is_learnt_anew(made, store, caplog):
    first = made(save_ms=0)
    await learn(first, pages(8))

    def damage(tx: Tx) -> None:
        tx.db.execute("UPDATE api_shape SET shape = x'00'")

    await store.apply(damage, durability=Durability.NORMAL, name="test")
    second = made()
    await second.recall()
    assert "learnt anew" in caplog.text
    assert await learn(second, pages(30)) == []


async def test_a_hub_that_goes_to_and_fro_does_not_fill_the_history(made, clocks):
    service = made()
    await learn(service, pages(30))
    for turn in range(4):
        field = f"turn{turn}"
        await learn(service, pages(30, lambda model, f=field: model.update({f: 1})))
    assert (await service.history())[1] == 1
    clocks.advance(HOUR)
    await learn(service, pages(30, lambda model: model.update(turn3=1)))
    assert (await service.history())[1] > 1


# -- the hubs' own lists -------------------------------------------------------------------------


async def test_values_of_the_hubs_own_lists_are_adopted_once_a_day(made, store, world, clocks):
    service = made()
    await service.recall()
    await service.tick()
    assert world.asked == [("civitai", "/api/v1/enums")]
    assert await events(store) == []  # the first time everything is known to be
    world.answers["/api/v1/enums"] = ENUMS | {
        "ModelType": ["LORA", "VAE", "HoloModule"], "Mood": ["glad"],
    }  # fmt: skip
    clocks.advance(23 * HOUR)
    await service.tick()
    assert len(world.asked) == 1
    clocks.advance(2 * HOUR)
    await service.tick()
    assert len(world.asked) == 2
    ((kind, subject, payload),) = await events(store)
    assert (kind, subject, payload["severity"]) == ("api.changed", "civitai:enums", "adopted")
    (change,), _ = await service.history()
    assert (change.path, change.after, change.example) == ("ModelType", "HoloModule", "HoloModule")
    words = await store.read(seen_words)
    assert [(word.kind, word.word, word.hub) for word in words] == [
        ("type", "HoloModule", "civitai")
    ]
    again = made()
    await again.recall()
    clocks.advance(25 * HOUR)
    await again.tick()
    assert (await again.history())[1] == 1


async def test_a_list_that_cannot_be_had_is_asked_again_later(made, world, clocks):
    service = made()
    world.answers.clear()
    for body in (None, b"<html>", {}, {"ModelType": "LORA"}, {"ModelType": [1, None]}):
        if body is not None:
            world.answers["/api/v1/enums"] = body
        await service.tick()
        await service.tick()
        clocks.advance(2 * HOUR)
    assert len(world.asked) == 5
    clocks.set_the_clock(-100 * 24 * HOUR)
    world.answers["/api/v1/enums"] = ENUMS
    await service.tick()
    assert len(world.asked) == 5  # patience was promised by that clock
    clocks.advance(200 * 24 * HOUR)
    await service.tick()
    assert len(world.asked) == 6


def test_what_other_hubs_list_is_read():
    tags, description = [source for source in SOURCES if source.hub == "huggingface"]
    body = {"pipeline_tag": [{"id": "text-to-image", "label": "x"}, {"label": "no id"}, 7]}
    assert tags.read(json.dumps(body).encode()) == {"pipeline_tag": ["text-to-image"]}
    body = {"paths": {"/api/models": {}, "/api/models/{id}": {}, "/api/datasets": {}}}
    assert description.read(json.dumps(body).encode()) == {
        "endpoints": ["/api/models", "/api/models/{id}"]
    }


async def test_values_that_the_hub_lists_are_no_news_in_its_documents(made, world):
    service = made()
    world.answers["/api/v1/enums"] = ENUMS | {"ModelType": ["LORA", "HoloModule"]}
    await service.recall()
    await service.tick()
    await learn(service, pages(30))
    assert await learn(service, pages(30, lambda m: m.update(type="HoloModule"))) == []


# -- the tap -------------------------------------------------------------------------------------


@asynccontextmanager
async def running(service: ApiChangesService) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        yield
        nursery.cancel_scope.cancel()


async def test_what_is_heard_is_learnt(made, world):
    service = made(share=1.0)  # these clocks stand still: it would rest for ever
    await learn(service, pages(30))
    async with running(service):
        for sample in pages(3, without_versions):
            service.heard(sample)
        with trio.fail_after(30):
            await world.was_paused.wait()
    assert service.counts.dropped == 0


async def test_more_than_can_be_learnt_is_dropped_not_waited_for(made):
    service = made()
    for sample in pages(30):
        service.heard(sample)
    service.heard(answer(b"[" + b" " * (17 << 20) + b"]"))
    service.heard(answer({}, operation="probe"))
    assert (service.counts.dropped, service.counts.too_large) == (22, 1)


async def test_after_a_lesson_the_learner_rests_but_not_from_what_is_new(made, clocks):
    service = made(share=1e-6)
    await learn(service, pages(30))
    service.heard(page([a_model()]))
    assert service.counts.rested == 1
    service.heard(answer({"error": "x"}, status=451))
    service.heard(page([a_model()]))
    assert service.counts.rested == 2
    clocks.advance(1e7)
    service.heard(page([a_model()]))
    assert service.counts.rested == 2


async def test_a_full_store_stops_neither_the_service_nor_its_end(made, tmp_path: Path, caplog):
    async with open_store(tmp_path / "other.db") as other:
        service = made(other)
        await service.recall()
        await learn(service, pages(30))

        def drop(tx: Tx) -> None:
            tx.db.execute("CREATE TRIGGER full BEFORE INSERT ON api_shape BEGIN"
                          " SELECT RAISE(FAIL, 'no'); END")  # fmt: skip

        await other.apply(drop, durability=Durability.NORMAL, name="test")
        with pytest.raises(Exception, match="no"):
            await learn(service, pages(3, without_versions))
        assert ("civitai", "list") not in service._learner.paused_ms

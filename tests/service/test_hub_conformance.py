"""One suite for every hub: what contract.py promises, over the real clients and over the fakes."""

import itertools
from dataclasses import dataclass, field

import pytest

from modelkeepd.hubs.contract import (
    Address,
    Hub,
    HubError,
    HubPage,
    HubRefused,
    HubRejected,
    HubUnavailable,
    NotFoundOnHub,
    Order,
    PageRequest,
    ParsedModel,
    WantedFile,
    parse_model,
)
from modelkeepd.hubs.http import origin_of
from modelkeepd.hubs.reference import file_ref, model_ref, parse_reference, version_ref
from tests.fakes.subjects import FAKE, REAL, TOKEN, Subject, open_subject

ALL = (*REAL, *FAKE)
# those whose models have names that may change
NAMED = tuple(name for name in ALL if name.endswith("huggingface"))
every_hub = pytest.mark.parametrize("name", ALL)
every_named_hub = pytest.mark.parametrize("name", NAMED)
every_real_hub = pytest.mark.parametrize("name", REAL)


@dataclass
class Walk:
    """What one pass through a view brought."""

    pages: list[HubPage] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    recovered: int = 0


async def walk(hub: Hub, view: str, *, order: Order = "newest", limit: int = 17) -> Walk:
    """Follow the cursors to the end; rows that the order loses are fetched by id."""
    done, cursor = Walk(), None
    lost: list[str] = []
    while True:
        page = await hub.list_page(PageRequest(view, order, cursor, limit))
        done.pages.append(page)
        ids = [item.hub_id for item in page.items if item.hub_id is not None]
        lost = [hub_id for hub_id in lost if hub_id not in ids]
        done.ids += ids
        if page.boundary_id is not None:
            lost.append(page.boundary_id)
        if page.next_cursor is None:
            break
        assert page.next_cursor not in (cursor, "")
        cursor = page.next_cursor
        assert len(done.pages) < 1_000
    lost = [hub_id for hub_id in lost if hub_id not in done.ids]
    if lost:
        assert hub.bulk_ids >= len(lost), "a row was lost that can't be fetched"
        items = await hub.models_by_ids(lost, view)
        done.recovered = len(items)
        done.ids += [str(item.hub_id) for item in items]
    return done


async def some_models(subject: Subject, count: int = 12) -> list[ParsedModel]:
    hub = subject.hub
    page = await hub.list_page(PageRequest(hub.views[0], limit=count))
    return [parse_model(hub.name, item.raw) for item in page.items]


def address_of(model: ParsedModel) -> Address:
    return Address(model.hub_id, model.ref_id, tuple(v.hub_id for v in model.versions))


async def ordinary(subject: Subject) -> ParsedModel:
    """A new model: nothing is special about it."""
    hub_id = subject.world.add()
    raw = await subject.hub.model(subject.world.ref_id(hub_id))
    return parse_model(subject.hub.name, raw)


@every_hub
async def test_the_union_of_the_views_is_everything(name: str) -> None:
    async with open_subject(name) as subject:
        seen: set[str] = set()
        for view in subject.hub.views:
            found = await walk(subject.hub, view)
            assert len(found.ids) == len(set(found.ids))
            seen |= set(found.ids)
        assert seen == subject.world.visible()


@every_hub
async def test_every_row_says_what_model_it_is(name: str) -> None:
    async with open_subject(name) as subject:
        page = await subject.hub.list_page(PageRequest(subject.hub.views[0], limit=100))
        assert len(page.items) > 50
        for item in page.items:
            model = parse_model(subject.hub.name, item.raw)
            assert (model.hub, model.hub_id) == (subject.hub.name, item.hub_id)
            assert model.ref_id == subject.world.ref_id(model.hub_id)


@every_hub
@pytest.mark.parametrize("order", ["newest", "news"])
async def test_the_same_request_brings_the_same_page(name: str, order: str) -> None:
    async with open_subject(name) as subject:
        hub, cursor = subject.hub, None
        sort: Order = hub.news_order if order == "news" else "newest"
        for _ in range(3):
            request = PageRequest(hub.views[0], sort, cursor, 17)
            page = await hub.list_page(request)
            assert await hub.list_page(request) == page
            cursor = page.next_cursor


@every_hub
@pytest.mark.parametrize("order", ["newest", "news"])
async def test_cursors_lead_on_and_their_positions_fall(name: str, order: str) -> None:
    async with open_subject(name) as subject:
        hub = subject.hub
        sort: Order = hub.news_order if order == "news" else "newest"
        pages = (await walk(hub, hub.views[0], order=sort)).pages
        cursors = [page.next_cursor for page in pages]
        assert len(set(cursors)) == len(cursors) > 3
        positions = [p.next_position for p in pages if p.next_position is not None]
        assert len(positions) >= len(pages) - 2
        assert all(one > other for one, other in itertools.pairwise(positions))


@every_hub
async def test_another_limit_at_the_same_place_goes_on_from_there(name: str) -> None:
    async with open_subject(name) as subject:
        hub = subject.hub
        first = await hub.list_page(PageRequest(hub.views[0], limit=20))
        many = await hub.list_page(PageRequest(hub.views[0], "newest", first.next_cursor, 20))
        few = await hub.list_page(PageRequest(hub.views[0], "newest", first.next_cursor, 5))
        assert 0 < len(few.items) < len(many.items)
        assert few.items == many.items[: len(few.items)]


@every_hub
async def test_rows_lost_between_pages_are_named_and_can_be_fetched(name: str) -> None:
    async with open_subject(name) as subject:
        found = await walk(subject.hub, subject.hub.views[0], limit=11)
        loses = subject.hub.name == "civitai"
        assert (found.recovered > 3) == loses
        if subject.hub.bulk_ids == 0:
            assert all(page.boundary_id is None for page in found.pages)


@every_hub
async def test_models_come_by_id_where_the_hub_offers_that(name: str) -> None:
    async with open_subject(name) as subject:
        hub = subject.hub
        models = await some_models(subject)
        ids = [model.hub_id for model in models]
        items = await hub.models_by_ids([*ids, "999999999"], hub.views[0])
        assert {item.hub_id for item in items} == (set(ids) if hub.bulk_ids else set())


@every_hub
async def test_what_changed_last_is_first_in_the_news(name: str) -> None:
    async with open_subject(name) as subject:
        hub = subject.hub
        oldest = min(await some_models(subject, 100), key=lambda m: m.updated_ms or 0)
        new_id = subject.world.add()
        subject.world.publish(oldest.hub_id)
        page = await hub.list_page(PageRequest(hub.views[0], hub.news_order, limit=5))
        ids = [item.hub_id for item in page.items]
        assert ids[0] == oldest.hub_id
        if hub.name == "huggingface" or new_id in ids:
            assert ids[1] == new_id
        now = parse_model(hub.name, page.items[0].raw)
        assert now.versions != oldest.versions


@every_hub
async def test_a_look_at_what_is_there_brings_its_row(name: str) -> None:
    async with open_subject(name) as subject:
        hub = subject.hub
        page = await hub.list_page(PageRequest(hub.views[0], limit=5))
        for item in page.items:
            found = await hub.look(address_of(parse_model(hub.name, item.raw)))
            assert (found.state, found.item) == ("present", item)


@every_hub
async def test_a_look_at_what_was_removed_says_so_in_the_hubs_words(name: str) -> None:
    async with open_subject(name) as subject:
        model = await ordinary(subject)
        subject.world.remove(model.hub_id)
        found = await subject.hub.look(address_of(model))
        assert (found.state, found.item) == ("absent", None)
        assert found.reason
        with pytest.raises(NotFoundOnHub):
            await subject.hub.model(model.ref_id)
        with pytest.raises(NotFoundOnHub):
            await subject.hub.details(address_of(model))


@every_named_hub
async def test_a_renamed_model_is_found_by_either_name(name: str) -> None:
    async with open_subject(name) as subject:
        model = await ordinary(subject)
        new_name = subject.world.rename(model.hub_id)
        assert new_name != model.ref_id
        for ref_id in (model.ref_id, new_name):
            found = await subject.hub.look(Address(model.hub_id, ref_id))
            assert found.state == "present"
            assert found.item is not None
            now = parse_model(subject.hub.name, found.item.raw)
            assert (now.hub_id, now.ref_id) == (model.hub_id, new_name)
            # in the form that the list has, whichever way it came
            assert now.versions == model.versions
            full = parse_model(
                subject.hub.name, await subject.hub.details(Address(model.hub_id, ref_id))
            )
            assert full.ref_id == new_name
            assert all(file.size_bytes is not None for file in full.versions[0].files)


@every_named_hub
async def test_a_name_that_another_model_took_over_is_no_sign_of_life(name: str) -> None:
    async with open_subject(name) as subject:
        model = await ordinary(subject)
        subject.world.remove(model.hub_id)
        other = subject.world.take_name_of(model.hub_id)
        found = await subject.hub.look(address_of(model))
        assert (found.state, found.item) == ("absent", None)
        assert "another" in found.reason
        with pytest.raises(NotFoundOnHub):
            await subject.hub.details(address_of(model))
        assert (await subject.hub.look(Address(other, model.ref_id))).state == "present"


@every_hub
async def test_details_have_the_size_and_a_checksum_of_every_file(name: str) -> None:
    async with open_subject(name) as subject:
        hub = subject.hub
        model = await ordinary(subject)
        full = parse_model(hub.name, await hub.details(address_of(model)))
        assert full.hub_id == model.hub_id
        files = [file for version in full.versions for file in version.files]
        assert files
        assert all(version.files_known for version in full.versions)
        assert all((f.sha256 is None) != (f.git_sha1 is None) for f in files)
        assert all(f.size_bytes is not None for f in files)
        listed = parse_model(hub.name, await hub.model(model.ref_id))
        assert listed.versions[0].files_known == (not hub.details_apart)
        assert listed.versions[0].revision == full.versions[0].revision


@every_hub
async def test_names_read_back_as_what_they_name(name: str) -> None:
    async with open_subject(name) as subject:
        hub = subject.hub
        for model in await some_models(subject, 40):
            reference = parse_reference(model_ref(hub.name, model.ref_id))
            assert (reference.hub, reference.model) == (hub.name, model.ref_id)
            full = parse_model(hub.name, await hub.details(address_of(model)))
            for version in full.versions[:1]:
                parts = (hub.name, model.ref_id, version.hub_id)
                reference = parse_reference(version_ref(*parts))
                assert (reference.hub, reference.model, reference.version) == parts
                for file in version.files[:5]:
                    reference = parse_reference(file_ref(*parts, file.hub_id))
                    assert (reference.version, reference.file) == (version.hub_id, file.hub_id)


@every_hub
async def test_a_download_goes_to_the_hub_with_the_token_and_all_that_is_to_be_checked(
    name: str,
) -> None:
    async with open_subject(name) as subject:
        hub = subject.hub
        model = await ordinary(subject)
        full = parse_model(hub.name, await hub.details(address_of(model)))
        version = full.versions[0]
        for file in version.files:
            plan = await hub.download_plan(
                WantedFile(
                    full.hub_id, version.hub_id, file.hub_id, file.name, file.url, file.size_bytes,
                    file.sha256, file.git_sha1, full.ref_id, version.revision,
                )
            )  # fmt: skip
            assert (plan.size_bytes, plan.sha256) == (file.size_bytes, file.sha256)
            assert (plan.git_sha1, plan.name) == (file.git_sha1, file.name)
            assert plan.token is TOKEN
            assert TOKEN.reveal() not in f"{plan.url} {plan.fallback_url} {plan!r}"
            if subject.sim is not None:
                assert origin_of(plan.url) == origin_of(subject.sim.base_url)


@every_hub
@pytest.mark.parametrize(
    "ref_id", ["../me", "no-such-org/no-such-model", "a b", "", "a/b/c", "%2e"]
)
async def test_what_is_no_model_is_not_found(name: str, ref_id: str) -> None:
    async with open_subject(name) as subject:
        with pytest.raises(NotFoundOnHub):
            await subject.hub.model(ref_id)
        with pytest.raises(NotFoundOnHub):
            await subject.hub.version(ref_id)


@every_hub
async def test_the_probe_is_one_request_and_every_request_is_counted(name: str) -> None:
    async with open_subject(name) as subject:
        hub, world = subject.hub, subject.world
        await hub.probe()
        assert hub.requests_sent == world.sent() == 1
        model = await ordinary(subject)
        await walk(hub, hub.views[0])
        await hub.look(address_of(model))
        await hub.details(address_of(model))
        assert hub.requests_sent == world.sent() > 8


ANSWERS: list[tuple[object, type[HubError], str]] = [
    ({"status": {"code": 400, "body": '{"error":"no"}'}}, HubRejected, "unsupported"),
    ({"status": 403}, HubRefused, "denied"),
    ({"status": {"code": 451, "body": "{}"}}, HubRefused, "denied"),
    ({"status": {"code": 429, "retry_after": 1000}}, HubUnavailable, "unavailable"),
    ({"status": 500}, HubUnavailable, "unavailable"),
    ({"status": 503}, HubUnavailable, "unavailable"),
    ({"status": 504}, HubUnavailable, "unavailable"),
    ("html200", HubUnavailable, "unavailable"),
    ("maintenance", HubUnavailable, "unavailable"),
    ({"truncated_json": 40}, HubUnavailable, "unavailable"),
    ({"body": "{}"}, HubUnavailable, "unavailable"),
    ({"body": ""}, HubUnavailable, "unavailable"),
    ({"truncate": 20}, HubUnavailable, "unavailable"),
    ("hang_up", HubUnavailable, "unavailable"),
    ("garbage", HubUnavailable, "unavailable"),
    ({"redirect": "https://elsewhere.example/"}, HubRejected, "unsupported"),
]


@every_real_hub
@pytest.mark.parametrize(("do", "error", "code"), ANSWERS, ids=str)
async def test_an_answer_that_is_none_becomes_the_error_it_means(
    name: str, do: object, error: type[HubError], code: str
) -> None:
    async with open_subject(name, attempts=1) as subject:
        hub = subject.hub
        subject.fail(do)
        with pytest.raises(error) as caught:
            await hub.list_page(PageRequest(hub.views[0], limit=10))
        assert (type(caught.value), caught.value.code) == (error, code)
        assert TOKEN.reveal() not in f"{caught.value.message} {caught.value.hint}"


@every_real_hub
async def test_a_wrong_token_is_the_users_to_mend(name: str) -> None:
    async with open_subject(name, attempts=1) as subject:
        subject.fail({"status": 401})
        with pytest.raises(HubRefused) as caught:
            await subject.hub.list_page(PageRequest(subject.hub.views[0], limit=10))
        assert caught.value.why == "auth"
        assert "token" in caught.value.hint


@every_real_hub
@pytest.mark.parametrize(
    "do", [{"status": 500}, "html200", {"truncated_json": 40}, {"status": {"code": 429}}], ids=str
)
async def test_a_look_that_gets_no_answer_proves_nothing(name: str, do: object) -> None:
    async with open_subject(name, attempts=1) as subject:
        (model, *_) = await some_models(subject)
        subject.fail(do, times=0)
        with pytest.raises(HubUnavailable):
            await subject.hub.look(address_of(model))


@every_real_hub
async def test_a_look_that_is_refused_proves_nothing(name: str) -> None:
    async with open_subject(name, attempts=1) as subject:
        (model, *_) = await some_models(subject)
        subject.fail({"status": 403}, times=0)
        assert await _state(subject.hub, model) == "unclear"


async def _state(hub: Hub, model: ParsedModel) -> str:
    try:
        return (await hub.look(address_of(model))).state
    except HubRefused:
        return "unclear"


@every_real_hub
async def test_the_hubs_own_wish_for_a_pause_is_told(name: str) -> None:
    async with open_subject(name, attempts=1) as subject:
        subject.fail({"status": {"code": 429, "retry_after": 77}})
        with pytest.raises(HubUnavailable) as caught:
            await subject.hub.probe()
        assert caught.value.retry_after_s is not None
        assert 70 <= caught.value.retry_after_s <= 900


@every_real_hub
async def test_a_passing_fault_is_not_the_callers_business(name: str) -> None:
    async with open_subject(name) as subject:
        hub = subject.hub
        subject.fail({"status": 502}, times=2)
        page = await hub.list_page(PageRequest(hub.views[0], limit=10))
        assert len(page.items) == 10
        assert hub.requests_sent == subject.world.sent() == 3


@every_real_hub
async def test_an_empty_page_with_a_cursor_is_no_end(name: str) -> None:
    async with open_subject(name) as subject:
        hub = subject.hub
        first = await hub.list_page(PageRequest(hub.views[0], limit=10))
        subject.fail("empty_page")
        request = PageRequest(hub.views[0], "newest", first.next_cursor, 10)
        empty = await hub.list_page(request)
        assert empty.items == ()
        assert empty.next_cursor is not None
        assert len((await hub.list_page(request)).items) == 10

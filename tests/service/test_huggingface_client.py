"""The Hugging Face client over real HTTP: its questions, its names and keys, its files."""

import hashlib
import json
import random
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import trio

from modelkeepd.hubs.contract import (
    Address,
    Hub,
    HubRefused,
    HubRejected,
    HubUnavailable,
    NotFoundOnHub,
    PageRequest,
    ParsedModel,
    ParsedVersion,
    WantedFile,
    parse_model,
)
from modelkeepd.hubs.host import Manners
from modelkeepd.hubs.huggingface import EXPANDED
from modelkeepd.hubs.opening import HubConfig, open_hubs
from modelkeepd.hubs.retry import RetryPolicy
from modelkeepd.secrets import Secret
from tests.hubsim import Hub as HubSim
from tests.hubsim import open_hubsim

FIXTURES = Path(__file__).parents[1] / "fixtures" / "huggingface"
TOKEN = Secret("canary-token")
LIST = "/api/models"


@asynccontextmanager
async def client(
    sim: HubSim, token: Secret | None = TOKEN, *, attempts: int = 1, **more: Any
) -> AsyncIterator[Hub]:
    manners = Manners(retry=RetryPolicy(attempts=attempts, base_s=0.001, cap_s=0.001))
    config = HubConfig("huggingface", sim.base_url, token, requests_per_second=10_000, **more)
    async with open_hubs([config], manners=manners, rng=random.Random(1)) as hubs:
        yield hubs.background["huggingface"]


@asynccontextmanager
async def hub_and_client(
    *, token: Secret | None = TOKEN, models: int = 100, **options: Any
) -> AsyncIterator[tuple[HubSim, Hub]]:
    options.setdefault("tokens", [TOKEN.reveal()])
    async with (
        open_hubsim(dialect="huggingface", models=models, **options) as sim,
        client(sim, token) as hub,
    ):
        yield sim, hub


def special(sim: HubSim, word: str) -> Address:
    key = str(sim.specials()[word])
    document: Any = sim.document(key)
    return Address(key, document["id"])


async def whole(hub: Hub, address: Address) -> ParsedModel:
    return parse_model("huggingface", await hub.details(address))


async def walk(hub: Hub, view: str, limit: int = 1_000) -> list[str]:
    ids: list[str] = []
    cursor = None
    while True:
        page = await hub.list_page(PageRequest(view, "newest", cursor, limit))
        ids += [str(item.hub_id) for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return ids


async def test_the_list_is_asked_for_exactly_what_is_kept() -> None:
    async with hub_and_client() as (sim, hub):
        page = await hub.list_page(PageRequest("all", "updated", None, 7))
        await hub.list_page(PageRequest("all", "updated", page.next_cursor, 9))
        first, second = (parse_qsl(urlsplit(entry.target).query) for entry in sim.log)
        expand = [("expand", field) for field in EXPANDED]
        assert first == [("sort", "lastModified"), ("limit", "7"), *expand]
        assert second[: len(first)] == [("sort", "lastModified"), ("limit", "9"), *expand]
        assert [name for name, _ in second[len(first) :]] == ["cursor"]
        assert set(json.loads(page.items[0].raw)) <= {"_id", "id", *EXPANDED}


async def test_there_is_no_list_from_the_other_end() -> None:
    async with hub_and_client() as (sim, hub):
        with pytest.raises(HubRejected):
            await hub.list_page(PageRequest("all", "oldest"))
        assert sim.log == []


async def test_filters_are_views_and_commas_ask_for_all_of_them() -> None:
    views = ("gguf", "lora,diffusers")
    async with hub_and_client(models=300) as (sim, _), client(sim, filters=views) as hub:
        assert hub.views == views
        tags = {
            key: set(entry["tags"])
            for key, entry in sim.truth(digests=False).items()
            if entry["state"] in ("listed", "disabled")
        }
        for view, all_of in zip(views, ({"gguf"}, {"lora", "diffusers"}), strict=True):
            found = await walk(hub, view, limit=10)
            assert set(found) == {key for key, some in tags.items() if all_of <= some}
            assert len(found) > 10


@pytest.mark.parametrize(("asked", "limit"), [(50, 50), (5_000, 1_000), (0, 1)])
async def test_the_page_size_is_the_users_within_the_hubs(asked: int, limit: int) -> None:
    async with hub_and_client() as (sim, _), client(sim, page_size=asked) as hub:
        assert hub.page_limit == limit


@pytest.mark.parametrize(
    "link",
    [
        "https://elsewhere.example/api/models?limit=3&cursor={}",
        "http://127.0.0.1:1/api/models?cursor={}",
    ],
)
async def test_the_next_page_is_asked_of_the_same_hub_whatever_the_link_names(link: str) -> None:
    async with hub_and_client() as (sim, hub):
        true = await hub.list_page(PageRequest("all", limit=5))
        cursor = dict(parse_qsl(true.next_cursor or ""))["cursor"]
        sim.fail(LIST, {"headers": {"Link": f'<{link.format(cursor)}>; rel="next"'}})
        page = await hub.list_page(PageRequest("all", limit=5))
        assert page == true
        await hub.list_page(PageRequest("all", "newest", page.next_cursor, 5))
        assert len(sim.log) == 3


async def test_a_link_that_leads_astray_is_an_answer_that_is_none() -> None:
    async with hub_and_client() as (sim, hub):
        sim.fail(LIST, {"headers": {"Link": '<https://x.example/logout?cursor=a>; rel="next"'}})
        with pytest.raises(HubUnavailable) as caught:
            await hub.list_page(PageRequest("all", limit=5))
        assert caught.value.answered


async def test_the_files_of_every_kind_of_repository_are_known_by_size_and_checksum() -> None:
    async with hub_and_client() as (sim, hub):
        for key, entry in sim.truth().items():
            if entry["state"] != "listed":
                continue
            model = await whole(hub, Address(key, str(entry["id"])))
            (version,) = model.versions
            assert (model.hub_id, version.revision) == (key, entry["sha"])
            files = sorted(
                [f.hub_id, f.size_bytes, (f.sha256 or f.git_sha1 or b"").hex()]
                for f in version.files
            )
            text = json.dumps(files, ensure_ascii=False, separators=(",", ":"))
            assert hashlib.sha256(text.encode()).hexdigest() == entry["files_sha256"], model.ref_id


@pytest.mark.parametrize("word", ["disabled", "private"])
async def test_what_the_hub_shuts_away_is_absent(word: str) -> None:
    async with hub_and_client() as (sim, hub):
        found = await hub.look(special(sim, word))
        assert (found.state, found.item) == ("absent", None)
        assert found.reason


async def test_without_a_token_what_is_denied_may_not_exist() -> None:
    async with hub_and_client(token=None) as (sim, hub):
        with pytest.raises(NotFoundOnHub) as caught:
            await hub.model("no-such-org/no-such-model")
        assert caught.value.status == 401
        assert "private" in caught.value.hint
        assert (await hub.look(special(sim, "private"))).state == "absent"
        assert (await hub.look(special(sim, "gated_manual"))).state == "present"


async def test_a_wrong_token_says_nothing_about_any_model() -> None:
    async with hub_and_client(token=Secret("wrong")) as (sim, hub):
        found = await hub.look(special(sim, "single_file"))
        assert (found.state, found.item) == ("unclear", None)
        with pytest.raises(HubRefused) as caught:
            await hub.list_page(PageRequest("all"))
        assert caught.value.why == "auth"
        assert "wrong" not in caught.value.message


async def test_a_model_whose_name_is_not_known_is_neither_there_nor_gone() -> None:
    async with hub_and_client(models=1) as (sim, hub):
        for name in ("6" * 24, "", "a b", "../x"):
            assert (await hub.look(Address("6" * 24, name))).state == "unclear"
        assert sim.log == []


async def test_gated_models_are_shown_whole_and_say_that_they_are_gated() -> None:
    async with hub_and_client() as (sim, hub):
        for word, gated in (("gated_auto", "auto"), ("gated_manual", "manual")):
            model = await whole(hub, special(sim, word))
            assert model.gated == gated
            assert all(file.size_bytes is not None for file in model.versions[0].files)


async def test_names_of_one_part_and_in_another_case_lead_to_the_model() -> None:
    async with hub_and_client() as (sim, hub):
        for word in ("one_part", "mixed_case", "renamed"):
            address = special(sim, word)
            assert parse_model("huggingface", await hub.model(address.ref_id)).hub_id == (
                address.hub_id
            )
            other = address.ref_id.swapcase()
            model = parse_model("huggingface", await hub.model(other))
            assert (model.hub_id, model.ref_id) == (address.hub_id, address.ref_id)


async def test_a_model_renamed_again_and_again_is_found_by_its_first_name() -> None:
    async with hub_and_client() as (sim, hub):
        address = special(sim, "lora")
        for name in ("other/first", "other/second", "third/name"):
            sim.change({"rename": {address.hub_id: name}})
        found = await hub.look(address)
        assert found.item is not None
        assert parse_model("huggingface", found.item.raw).ref_id == "third/name"
        assert (await whole(hub, address)).ref_id == "third/name"


async def test_the_hubs_own_limit_is_told_as_a_pause() -> None:
    async with hub_and_client(quotas={"api": 2}) as (_, hub):
        await hub.probe()
        await hub.probe()
        with pytest.raises(HubUnavailable) as caught:
            await hub.list_page(PageRequest("all"))
        assert caught.value.retry_after_s is not None
        assert 250 < caught.value.retry_after_s <= 302


def wanted(model: ParsedModel, version: ParsedVersion, path: str) -> WantedFile:
    file = next(f for f in version.files if f.hub_id == path)
    return WantedFile(
        model.hub_id, version.hub_id, file.hub_id, file.name, file.url, file.size_bytes,
        file.sha256, file.git_sha1, model.ref_id, version.revision,
    )  # fmt: skip


async def fetched(url: str) -> bytes:
    def fetch() -> bytes:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bytes(answer.read())

    return await trio.to_thread.run_sync(fetch)


@pytest.mark.parametrize("word", ["odd_paths", "empty_file", "text_in_lfs", "single_file", "gguf"])
async def test_a_plan_leads_to_the_bytes_that_it_promises(word: str) -> None:
    async with hub_and_client(token=None) as (sim, hub):
        model = await whole(hub, special(sim, word))
        (version,) = model.versions
        for file in version.files:
            plan = await hub.download_plan(wanted(model, version, file.hub_id))
            content = await fetched(plan.url)
            assert len(content) == plan.size_bytes
            if plan.sha256 is not None:
                assert hashlib.sha256(content).digest() == plan.sha256
            else:
                blob = b"blob %d\0%s" % (len(content), content)
                assert hashlib.sha1(blob, usedforsecurity=False).digest() == plan.git_sha1


async def test_a_plan_is_for_the_commit_whose_checksums_it_bears() -> None:
    async with hub_and_client(token=None) as (sim, hub):
        model = await whole(hub, special(sim, "single_file"))
        (version,) = model.versions
        path = next(f.hub_id for f in version.files if f.sha256 is not None)
        plan = await hub.download_plan(wanted(model, version, path))
        sim.change({"replace_file": {model.hub_id: path}, "rename": {model.hub_id: "new/name"}})
        content = await fetched(plan.url)
        assert hashlib.sha256(content).digest() == plan.sha256
        changed = await whole(hub, Address(model.hub_id, model.ref_id))
        assert changed.versions[0].revision != version.revision
        newer = await hub.download_plan(wanted(changed, changed.versions[0], path))
        assert (newer.url != plan.url, newer.sha256 != plan.sha256) == (True, True)


@pytest.mark.parametrize(
    ("ref_id", "revision", "path"),
    [("a/b", None, "../x"), ("a/b", None, "/x"), ("a/b", None, ""), ("a/b", "..", "x"),
     ("a/b", "v1..2", "x"), ("../b", None, "x"), ("", None, "x"), ("a/b?c", None, "x"),
     ("a/b", "a\nb", "x"), ("a/b", None, "x\r\ny")],
)  # fmt: skip
async def test_no_plan_leads_out_of_a_repository(
    ref_id: str, revision: str | None, path: str
) -> None:
    async with hub_and_client(models=1) as (_, hub):
        file = WantedFile("0" * 24, "main", path, path, ref_id=ref_id, revision=revision)
        with pytest.raises(NotFoundOnHub):
            await hub.download_plan(file)


async def test_a_revision_is_one_part_of_the_address() -> None:
    async with hub_and_client(models=1) as (sim, hub):
        file = WantedFile("0" * 24, "main", "a b/ü#?.bin", "a b/ü#?.bin", ref_id="org/name",
                          revision="refs/pr/1")  # fmt: skip
        plan = await hub.download_plan(file)
        assert plan.url == (f"{sim.base_url}/org/name/resolve/refs%2Fpr%2F1/a%20b/%C3%BC%23%3F.bin")


async def test_recorded_repositories_are_listed_and_shown_whole() -> None:
    async with hub_and_client(models=0, folder=FIXTURES, tokens=()) as (sim, hub):
        ids = await walk(hub, "all", limit=3)
        assert len(ids) == len(set(ids)) >= 10
        for key in ids:
            document: Any = sim.document(key)
            model = await whole(hub, Address(key, document["id"]))
            listed = await hub.look(Address(key, document["id"]))
            assert listed.state == "present"
            assert model.hub_id == key

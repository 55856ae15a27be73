"""The simulated hub's lists over the wire: every oddity a crawl has to cope with really shows."""

import hashlib
import json

import httpx
import pytest

from tests.hubsim import Hub, HubOptions, open_hubsim
from tests.hubsim.messages import Request, canonical


async def page(http, hub, **params):
    return await http.get(f"{hub.base_url}/api/v1/models", params=params)


async def crawl(http, hub, **params):
    """All items by id, all cursors, and the number of items of each page."""
    items, cursors, sizes = {}, [], []
    while True:
        answer = await page(http, hub, **params)
        if answer.status_code == 400 and cursors and cursors[-1].startswith("|"):
            return items, cursors, sizes
        assert answer.status_code == 200, answer.text
        document = answer.json()
        items |= {item["id"]: item for item in document["items"]}
        sizes.append(len(document["items"]))
        cursor = document["metadata"].get("nextCursor")
        if cursor is None:
            return items, cursors, sizes
        cursors.append(cursor)
        params["cursor"] = cursor


async def rescue(http, hub, items, cursors, **params):
    """Fetch the rows that `Newest` lost, by the ids in the cursors."""
    lost = [cursor.rpartition("|")[2] for cursor in cursors]
    lost = [hub_id for hub_id in lost if int(hub_id) not in items]
    for start in range(0, len(lost), 100):
        answer = await page(http, hub, ids=",".join(lost[start : start + 100]), **params)
        items |= {item["id"]: item for item in answer.json()["items"]}
    return lost


async def test_newest_loses_the_row_its_cursor_names_and_both_views_give_the_whole():
    async with open_hubsim(models=500) as hub, httpx.AsyncClient() as http:
        seen = {"true": {}, "false": {}}
        for nsfw, items in seen.items():
            found, cursors, _ = await crawl(http, hub, sort="Newest", nsfw=nsfw, limit=30)
            assert len(cursors) > 10
            assert not {int(c.rpartition("|")[2]) for c in cursors} & set(found)
            items |= found
            assert await rescue(http, hub, items, cursors, nsfw=nsfw)
        truth = hub.truth()
        for nsfw, view in (("true", "mature"), ("false", "sfw")):
            assert set(seen[nsfw]) == {hub_id for hub_id, entry in truth.items() if entry[view]}
            for hub_id, item in seen[nsfw].items():
                digest = hashlib.sha256(canonical(item)).hexdigest()
                assert digest == truth[hub_id][f"{view}_sha256"]
        assert set(seen["true"]) - set(seen["false"])
        assert hub.catalog.special("minor") in set(seen["false"]) - set(seen["true"])


async def test_newest_is_complete_when_told_so():
    async with (
        open_hubsim(models=200, newest_loses_rows=False) as hub,
        httpx.AsyncClient() as http,
    ):
        found, _, _ = await crawl(http, hub, sort="Newest", nsfw="true", limit=30)
        assert set(found) == {i for i, entry in hub.truth().items() if entry["mature"]}


@pytest.mark.parametrize("sort", ["Oldest", "Highest Rated", "Most Downloaded", "Most Liked"])
async def test_the_other_orders_lose_nothing(sort):
    async with open_hubsim(models=200) as hub, httpx.AsyncClient() as http:
        hub.change({"add": 3, "new_version": 2})
        found, cursors, _ = await crawl(http, hub, sort=sort, nsfw="true", limit=17)
        truth = {hub_id for hub_id, entry in hub.truth().items() if entry["mature"]}
        # A model without a date can be lost at the very end of Oldest.
        assert truth - set(found) <= ({hub.catalog.special("null_date")} & {*truth})
        assert all(cursor.count("|") == (1 if sort == "Oldest" else 2) for cursor in cursors)


async def test_oldest_repeats_ties_at_the_edge():
    async with open_hubsim(models=100) as hub, httpx.AsyncClient() as http:
        low, high = sorted(hub.catalog.special(name) for name in ("tied_a", "tied_b"))
        stamp = hub.document(low)["modelVersions"][0]["publishedAt"][:-1].replace("T", " ")
        after_the_first = await page(http, hub, sort="Oldest", limit=2, cursor=f"{stamp}|{high}")
        assert [item["id"] for item in after_the_first.json()["items"]] == [low, high]


async def test_popularity_lists_drift_when_told_so():
    async with open_hubsim(models=200, drift=2) as hub, httpx.AsyncClient() as http:
        found, _, sizes = await crawl(http, hub, sort="Most Downloaded", nsfw="true", limit=20)
        truth = {hub_id for hub_id, entry in hub.truth().items() if entry["mature"]}
        assert sum(sizes) > len(found) or set(found) < truth


async def test_pages_come_short_and_wholly_empty_with_a_cursor():
    async with open_hubsim(models=4000) as hub, httpx.AsyncClient() as http:
        found, cursors, sizes = await crawl(http, hub, sort="Newest", nsfw="true", limit=100)
        assert 0 in sizes[:-1]
        assert any(0 < size < 100 for size in sizes[:-1])
        await rescue(http, hub, found, cursors, nsfw="true")
        truth = hub.truth(digests=False)
        assert set(found) == {hub_id for hub_id, entry in truth.items() if entry["mature"]}


async def test_the_row_without_a_date_ends_newest_with_a_refused_cursor():
    async with open_hubsim(models=60) as hub, httpx.AsyncClient() as http:
        everything = await page(http, hub, sort="Newest", nsfw="true", limit=100)
        items = everything.json()["items"]
        assert items[-1]["id"] == hub.catalog.special("null_date")
        # Some rows of the query have no visible version and yield no item: count rows, not items.
        cursors = []
        for limit in range(len(items) - 1, len(items) + 5):
            answer = await page(http, hub, sort="Newest", nsfw="true", limit=limit)
            cursors.append(answer.json()["metadata"].get("nextCursor"))
        cursor = f"|{hub.catalog.special('null_date')}"
        assert cursor in cursors
        refused = await page(http, hub, sort="Newest", nsfw="true", cursor=cursor)
        assert refused.status_code == 400
        assert "Invalid cursor: unparseable" in refused.json()["error"]


async def test_the_default_view_is_cut_to_pictures_for_everybody():
    async with open_hubsim(models=200) as hub, httpx.AsyncClient() as http:
        both = [(await crawl(http, hub, nsfw=nsfw))[0] for nsfw in ("true", "false")]
        levels = [
            {
                image["nsfwLevel"]
                for item in items.values()
                for version in item["modelVersions"]
                for image in version["images"]
            }
            for items in both
        ]
        assert levels[1] == {1}
        assert levels[0] > {1, 16}
        assert all(item["nsfwLevel"] & 1 for item in both[1].values())
        assert hub.catalog.special("mature_only") in both[0]
        for name in ("poi", "level_zero", "archived", "no_visible_version"):
            assert not any(hub.catalog.special(name) in items for items in both)


async def test_page_is_ignored_but_shown_and_refused_far_out():
    async with open_hubsim(models=60) as hub, httpx.AsyncClient() as http:
        first = (await page(http, hub, limit=5)).json()
        second = (await page(http, hub, limit=5, page=2)).json()
        assert second["items"] == first["items"]
        assert second["metadata"]["currentPage"] == 2
        assert "page=2" in second["metadata"]["nextPage"]
        far = await page(http, hub, limit=100, page=11)
        assert far.status_code == 429
        assert "use cursors instead" in far.json()["error"]
        assert "retry-after" not in far.headers


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"limit": 101}, 400),
        ({"limit": "many"}, 400),
        ({"sort": "Best"}, 400),
        ({"period": "Decade"}, 400),
        ({"types": "LORA,Checkpoint"}, 400),
        ({"nsfw": "X"}, 400),
        ({"tag": ["anime", "style"]}, 400),
        ({"query": "anime", "page": 1}, 400),
        ({"fileFormats": "GGUF"}, 400),
        ({"allowNoCredit": "true"}, 400),
        ({"cursor": "1|2"}, 400),
        ({"sort": "Newest", "cursor": "yesterday"}, 400),
        ({"ids": "a,b"}, 400),
        ({"favorites": "false"}, 401),
        ({"username": "nobody at all"}, 404),
        ({"type": "LORA", "rating": 5, "unheard": "of"}, 200),
    ],
)
async def test_bad_parameters_are_answered_as_the_hub_does(params, status):
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        assert (await page(http, hub, **params)).status_code == status


async def test_filters():
    async with open_hubsim(models=300) as hub, httpx.AsyncClient() as http:

        async def items(**params):
            return (await page(http, hub, nsfw="true", **params)).json()["items"]

        assert {i["type"] for i in await items(types=["Checkpoint", "VAE"])} <= {
            "Checkpoint",
            "VAE",
        }
        assert all("anime" in item["tags"] for item in await items(tag="Anime"))
        assert await items(tag="no such tag") == await items()
        by_base = await items(baseModels="Pony")
        assert by_base
        assert {v["baseModel"] for i in by_base for v in i["modelVersions"]} == {"Pony"}
        assert await items(baseModels="Pony,Illustrious") == []
        creator = by_base[0]["creator"]["username"]
        assert {i["creator"]["username"] for i in await items(username=creator.upper())} == {
            creator
        }
        day = await items(period="Month", limit=100)
        assert 0 < len(day) < 100
        assert len(await items(limit=0)) == 1
        archived = hub.catalog.special("archived")
        assert archived in {item["id"] for item in await items(ids=archived, archived="true")}
        found = await items(query="リアル系 背景")
        assert hub.catalog.special("japanese") in {item["id"] for item in found}


async def test_lists_echo_the_host_and_by_id_answers_do_not():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        other = hub.base_url.replace("127.0.0.1", "localhost")
        host = {"Host": other.removeprefix("http://")}
        listed = await http.get(f"{hub.base_url}/api/v1/models?limit=3", headers=host)
        item = listed.json()["items"][0]
        assert item["modelVersions"][0]["downloadUrl"].startswith(other)
        assert listed.json()["metadata"]["nextPage"].startswith(other)
        by_id = await http.get(f"{hub.base_url}/api/v1/models/{item['id']}", headers=host)
        assert by_id.json()["modelVersions"][0]["downloadUrl"].startswith(hub.base_url)


async def test_by_id_shape_differs_from_the_list():
    async with open_hubsim(models=60) as hub, httpx.AsyncClient() as http:

        async def model(name):
            hub_id = hub.catalog.special(name)
            return await http.get(f"{hub.base_url}/api/v1/models/{hub_id}")

        plain = (await model("no_description")).json()
        assert "description" not in plain
        version = plain["modelVersions"][0]
        assert version["status"] == "Published"
        assert "vaeId" not in version
        assert all("id" not in image for image in version.get("images", ()))
        file = version["files"][0]
        assert file["downloadUrl"].endswith(f"/{version['id']}?fileId={file['id']}")
        assert (await model("minor")).status_code == 200
        assert (await model("archived")).json()["mode"] == "Archived"
        for name in ("poi", "level_zero"):
            missing = await model(name)
            assert (missing.status_code, "No model with id" in missing.text) == (404, True)
        for wrong in ("0", "2147483648", "x"):
            answer = await http.get(f"{hub.base_url}/api/v1/models/{wrong}")
            assert answer.status_code == 400


async def test_versions_and_hashes():
    async with open_hubsim(models=60) as hub, httpx.AsyncClient() as http:
        api = f"{hub.base_url}/api/v1/model-versions"
        item = hub.document(hub.catalog.special("checkpoint"))
        version = item["modelVersions"][0]
        shown = (await http.get(f"{api}/{version['id']}")).json()
        assert shown["modelId"] == item["id"]
        assert shown["air"].endswith(f":checkpoint:civitai:{item['id']}@{version['id']}")
        assert shown["files"][0]["primary"] is True
        hashes = version["files"][0]["hashes"]
        for name in ("SHA256", "AutoV2", "AutoV3", "CRC32"):
            found = await http.get(f"{api}/by-hash/{hashes[name].lower()}")
            assert found.json()["id"] == version["id"]
        assert (await http.get(f"{api}/by-hash/{'0' * 64}")).status_code == 404
        bulk = await http.post(f"{api}/by-hash/ids", json=[hashes["SHA256"], "0" * 64])
        assert bulk.json() == [
            {
                "modelVersionId": version["id"],
                "modelId": item["id"],
                "hash": hashes["SHA256"],
            }
        ]
        whole = await http.post(f"{api}/by-hash", json=[hashes["SHA256"]])
        assert whole.json()[0]["id"] == version["id"]
        assert (await http.post(f"{api}/by-hash", json=["short"])).status_code == 400
        fresh = hub.document(hub.catalog.special("fresh"))["modelVersions"][0]["id"]
        assert (await http.get(f"{api}/{fresh}")).status_code == 404
        assert (await http.post(f"{api}/{version['id']}")).status_code == 405


async def test_the_small_endpoints_answer():
    async with open_hubsim(models=60) as hub, httpx.AsyncClient() as http:
        api = f"{hub.base_url}/api/v1"
        assert "HoloModule" in (await http.get(f"{api}/enums")).json()["ModelType"]
        tags = await http.get(f"{api}/tags", params={"query": "anime"})
        assert tags.json()["items"][0]["name"] == "anime"
        assert (await http.get(f"{api}/creators?limit=5")).json()["metadata"]["pageSize"] == 5
        version = hub.version_ids(hub.catalog.special("checkpoint"))[0]
        images = await http.get(f"{api}/images", params={"modelVersionId": version})
        assert images.status_code == 200
        assert (await http.get(f"{api}/me")).status_code == 401
        assert (await http.get(f"{api}/nothing")).status_code == 404
        refused = await http.get(f"{api}/models", headers={"User-Agent": "Python-urllib/3.11"})
        assert (refused.status_code, refused.text) == (403, "error code: 1010")


async def test_cache_faults_can_be_played():
    async with open_hubsim(models=60) as hub, httpx.AsyncClient() as http:
        hub_id = hub.change({"empty_versions": 1})["empty_versions"][0]
        url = f"{hub.base_url}/api/v1/models/{hub_id}"
        assert (await http.get(url)).json()["modelVersions"] == []
        hub.change({"restore": [hub_id]})
        assert (await http.get(url)).json()["modelVersions"]
        hub.change({"unpublish": [hub_id]})
        assert (await http.get(url)).status_code == 404


def test_the_dialect_needs_no_socket():
    hub = Hub(HubOptions(models=45))
    request = Request("GET", "/api/v1/models?limit=2", [("host", "sim")])
    answer = hub.dialect.answer(request)
    assert len(json.loads(bytes(answer.body.read(0, answer.body.size)))["items"]) == 2

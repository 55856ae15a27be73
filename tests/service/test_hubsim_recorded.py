"""Recorded documents in the simulated hub: all of them reachable, their bytes real."""

import json
from pathlib import Path

import httpx
import pytest

from tests.hubsim import open_hubsim
from tests.hubsim.bytes import describe_bytes

FOLDER = Path(__file__).parents[1] / "fixtures" / "civitai"


def recorded():
    return {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def recorded_models():
    """Every recorded model document: [(file name, document)]."""
    found = []
    for name, tree in recorded().items():
        for item in tree.get("items", [tree]):
            if "modelVersions" in item:
                found.append((name, item))
    return found


def without_bytes(document):
    """The document less what points to bytes."""
    document = json.loads(json.dumps(document))
    for version in document.get("modelVersions", [document]):
        version.pop("downloadUrl", None)
        for file in version.get("files", ()):
            for key in ("sizeKB", "hashes", "downloadUrl"):
                file.pop(key, None)
    return document


async def listed(hub, http, **params):
    items = []
    while True:
        answer = await http.get(f"{hub.base_url}/api/v1/models", params=params)
        document = answer.json()
        items += document["items"]
        cursor = document["metadata"].get("nextCursor")
        if cursor is None:
            return {item["id"]: item for item in items}
        params["cursor"] = cursor


async def test_every_document_is_listed_in_both_views_and_served_by_id():
    async with open_hubsim(folder=FOLDER) as hub, httpx.AsyncClient() as http:
        expected = {item["id"] for _, item in recorded_models()}
        for nsfw in ("true", "false"):
            items = await listed(hub, http, nsfw=nsfw, limit=100, sort="Newest")
            assert set(items) == expected == set(hub.truth())
        for hub_id in expected:
            answer = await http.get(f"{hub.base_url}/api/v1/models/{hub_id}")
            assert answer.json() == items[hub_id]


async def test_each_recorded_state_is_served_as_it_was_in_the_order_of_dates():
    async with open_hubsim(folder=FOLDER) as hub, httpx.AsyncClient() as http:
        served = []
        for _state in range(2):
            items = await listed(hub, http, nsfw="true", limit=100)
            served += [without_bytes(item) for item in items.values()]
            hub.advance()
        missing = [name for name, item in recorded_models() if without_bytes(item) not in served]
        assert missing == []
        both = [item for item in served if item["id"] == 1102]
        assert [type(item["allowCommercialUse"]) for item in both] == [str, list]


async def test_the_second_sync_sees_the_second_state():
    async with open_hubsim(folder=FOLDER) as hub, httpx.AsyncClient() as http:

        async def licence(nsfw):
            items = await listed(hub, http, nsfw=nsfw, limit=7, sort="Oldest")
            return type(items[1102]["allowCommercialUse"])

        # A sync walks both views; a walk broken off half-way moves nothing on.
        await http.get(f"{hub.base_url}/api/v1/models", params={"nsfw": "true", "limit": 7})
        assert [await licence("true"), await licence("false")] == [str, str]
        assert [await licence("true"), await licence("false")] == [list, list]


async def test_version_and_image_documents_are_at_their_endpoints():
    async with open_hubsim(folder=FOLDER) as hub, httpx.AsyncClient() as http:
        trees = recorded()
        version = trees["model-version-2024-03-399893.json"]
        answer = await http.get(f"{hub.base_url}/api/v1/model-versions/{version['id']}")
        assert without_bytes(answer.json()) == without_bytes(version)
        image = trees["image-2023-11-2805533.json"]
        answer = await http.get(f"{hub.base_url}/api/v1/images", params={"imageId": image["id"]})
        assert answer.json()["items"] == [image]
        inside = await http.get(f"{hub.base_url}/api/v1/model-versions/1144")
        assert (inside.status_code, inside.json()["modelId"]) == (200, 1102)


async def test_every_recorded_file_can_be_fetched_and_is_what_the_document_says():
    async with open_hubsim(folder=FOLDER) as hub, httpx.AsyncClient() as http:
        documents = list((await listed(hub, http, nsfw="true", limit=100)).values())
        answer = await http.get(f"{hub.base_url}/api/v1/model-versions/399893")
        documents.append({"modelVersions": [answer.json()]})
        checked = 0
        for document in documents:
            if document.get("mode") == "Archived":
                continue
            for version in document["modelVersions"]:
                for file in version["files"]:
                    url = f"{hub.base_url}/api/download/models/{version['id']}"
                    if file.get("id"):
                        url += f"?fileId={file['id']}"
                    else:
                        url = file["downloadUrl"]
                    answer = await http.get(url, follow_redirects=True)
                    facts = describe_bytes(answer.content)
                    assert file["hashes"].items() <= facts.hashes().items()
                    # A published size of zero is one of the oddities kept.
                    assert file["sizeKB"] in (0, facts.size_bytes / 1024)
                    checked += 1
        assert checked > 150


async def test_documents_can_be_left_as_recorded_and_visibility_made_real():
    options = {"folder": FOLDER, "as_recorded": True, "strict_visibility": True}
    async with open_hubsim(**options) as hub, httpx.AsyncClient() as http:
        items = await listed(hub, http, nsfw="true", limit=100)
        models = {item["id"]: item for name, item in recorded_models() if "2023-07" in name}
        assert items[42] == models[42]
        assert 24636 not in items  # archived


async def test_recorded_and_synthetic_models_stand_in_one_list():
    async with open_hubsim(folder=FOLDER, models=60) as hub, httpx.AsyncClient() as http:
        items = await listed(hub, http, nsfw="true", limit=9, sort="Most Downloaded")
        truth = {hub_id for hub_id, entry in hub.truth().items() if entry["mature"]}
        assert set(items) == truth
        assert {1102, hub.catalog.special("checkpoint")} <= truth


async def test_a_folder_without_documents_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no recorded documents"):
        async with open_hubsim(folder=tmp_path):
            pass

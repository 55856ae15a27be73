"""Time travel: the simulated CivitAI answers in the shapes that were recorded in those years."""

import json
from pathlib import Path

import httpx
import pytest

from tests.hubsim import open_hubsim
from tests.hubsim.civitai_eras import STEPS, Era

FOLDER = Path(__file__).parents[1] / "fixtures" / "civitai"


def recorded(name):
    document = json.loads((FOLDER / name).read_bytes())
    return document.get("items", [document])


def key_sets(items):
    """The keys of each kind of object in models, over all of them."""
    found = {kind: set() for kind in ("model", "stats", "version", "counts", "file", "image")}
    for item in items:
        found["model"] |= set(item)
        found["stats"] |= set(item["stats"])
        for version in item["modelVersions"]:
            found["version"] |= set(version)
            found["counts"] |= set(version["stats"])
            for kind in ("file", "image"):
                for inner in version.get(f"{kind}s", ()):
                    found[kind] |= set(inner)
    return found


async def items_of(http, hub, **params):
    answer = await http.get(f"{hub.base_url}/api/v1/models", params={"nsfw": "true", **params})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"], answer.json()["metadata"]


@pytest.mark.parametrize(
    ("era", "name", "known"),
    [
        # what the synthetic models have and the one recording has not, or the other way round
        ("2023-07", "model-2023-07-9251-controlnet.json", {"mode"}),
        ("2024-08", "models-list-2024-08-page.json", {"mode", "earlyAccessEndsAt"}),
        ("2025-08", "models-list-2025-08-page.json", {"mode", "earlyAccessEndsAt"}),
        ("2026-08-20", "model-list-item-2026-08-2851602.json", {"mode", "downloadUrl"}),
    ],
)
async def test_an_era_has_the_keys_that_were_recorded_then(era, name, known):
    async with open_hubsim(models=120, era=era) as hub, httpx.AsyncClient() as http:
        items, _ = await items_of(http, hub)
        ours, theirs = key_sets(items), key_sets(recorded(name))
        known = known | {"earlyAccessConfig"}
        assert not {kind: odd for kind in ours if (odd := (ours[kind] ^ theirs[kind]) - known)}


async def test_the_four_eras_of_commercial_use():
    async with open_hubsim(models=120) as hub, httpx.AsyncClient() as http:
        seen = {}
        for era in ("2023-07", "2024-05", "2025-12", None):
            hub.set_era(era)
            items, _ = await items_of(http, hub)
            seen[era] = {item["id"]: item["allowCommercialUse"] for item in items}
        for hub_id, now in seen[None].items():
            assert seen["2024-05"][hub_id] == now
            assert seen["2025-12"][hub_id] == "{" + ",".join(now) + "}"
            assert seen["2023-07"][hub_id] in ("None", "Image", "Rent", "Sell")
        assert len(set(map(str, seen["2023-07"].values()))) > 2


@pytest.mark.parametrize(
    ("era", "form"), [("2024-03", "Z"), ("2024-04", ":"), ("2024-06", "|"), (None, "|")]
)
@pytest.mark.parametrize("sort", ["Newest", "Most Downloaded"])
async def test_every_form_of_cursor_leads_through_the_whole_list(era, form, sort):
    options = {"models": 300, "era": era, "newest_loses_rows": False}
    async with open_hubsim(**options) as hub, httpx.AsyncClient() as http:
        seen, cursor = set(), {}
        while True:
            answer = await http.get(
                f"{hub.base_url}/api/v1/models",
                params={"nsfw": "true", "sort": sort, "limit": 40, **cursor},
            )
            if answer.status_code == 400 and "Invalid cursor" in answer.text:
                break  # the one without a date
            items, metadata = answer.json()["items"], answer.json()["metadata"]
            seen |= {item["id"] for item in items}
            if "nextCursor" not in metadata:
                break
            cursor = {"cursor": metadata["nextCursor"]}
            assert (":" if form == "Z" and sort != "Newest" else form) in metadata["nextCursor"]
        missing = {k for k, entry in hub.truth(digests=False).items() if entry["mature"]} - seen
        assert missing <= {hub.catalog.special("null_date")}


async def test_lists_had_page_numbers_and_totals():
    async with open_hubsim(models=120, era="2023-07") as hub, httpx.AsyncClient() as http:
        seen, url = [], f"{hub.base_url}/api/v1/models?nsfw=true&limit=30&sort=Newest"
        while url:
            metadata = (answer := (await http.get(url)).json())["metadata"]
            seen += [item["id"] for item in answer["items"]]
            assert set(metadata) - {"nextPage"} == {
                "totalItems", "currentPage", "pageSize", "totalPages",
            }  # fmt: skip
            url = metadata.get("nextPage")
        assert len(seen) == len(set(seen))
        truth = hub.truth(digests=False)
        assert set(seen) == {hub_id for hub_id, entry in truth.items() if entry["mature"]}


async def test_early_access_and_single_versions_in_their_time():
    async with open_hubsim(models=120) as hub, httpx.AsyncClient() as http:
        model = hub.catalog.special("early_access")
        version_id = hub.version_ids(model)[0]

        async def versions(era):
            hub.set_era(era)
            items, _ = await items_of(http, hub, ids=model)
            single = await http.get(f"{hub.base_url}/api/v1/model-versions/{version_id}")
            by_id = await http.get(f"{hub.base_url}/api/v1/models/{model}")
            return items[0]["modelVersions"][0], single.json(), by_id.json()["modelVersions"][0]

        listed, single, by_id = await versions(None)
        assert listed["paidAccess"]["endsAt"]
        assert (listed["availability"], "air" in single) == ("Public", True)
        assert "?fileId=" in by_id["files"][0]["downloadUrl"]
        listed, single, by_id = await versions("2026-01")
        assert listed["earlyAccessEndsAt"] == single["earlyAccessEndsAt"]
        assert "paidAccess" not in {*listed, *single}
        assert listed["availability"] == "EarlyAccess"
        assert (
            "?fileId=" not in by_id["files"][0]["downloadUrl"] + single["files"][0]["downloadUrl"]
        )
        listed, single, _ = await versions("2024-05")
        assert not {"earlyAccessEndsAt", "paidAccess"} & {*listed, *single}
        assert single["earlyAccessTimeFrame"] == 0
        _, single, _ = await versions("2024-04")
        assert "air" not in single


async def test_errors_have_the_envelope_of_their_time():
    async with open_hubsim(models=60) as hub, httpx.AsyncClient() as http:
        url = f"{hub.base_url}/api/v1/models"

        async def refused():
            hub.fail("/api/v1/enums", {"status": 500})
            crash = await http.get(f"{hub.base_url}/api/v1/enums")
            return (await http.get(f"{url}?limit=101")).json()["error"], crash.json()

        error, crash = await refused()
        assert (set(error), crash["code"]) == ({"name", "message"}, "INTERNAL_SERVER_ERROR")
        hub.set_era("2025-06")
        error, crash = await refused()
        assert error["issues"][0]["path"] == ["limit"]
        assert crash == {"message": "An unexpected error occurred", "error": {}}


async def test_truth_and_digests_are_of_the_era_and_recordings_of_their_own_time():
    from tests.hubsim.messages import canonical

    async with open_hubsim(models=60, folder=FOLDER, era="2024-05") as hub:
        before = hub.truth()
        item = hub.document(hub.catalog.special("checkpoint"))
        assert "rating" in item["stats"]
        assert "userId" not in item
        assert "userId" in hub.document(2851602)
        hub.set_era(None)
        moved = {hub_id for hub_id, entry in hub.truth().items() if entry != before[hub_id]}
        assert moved == {hub_id for hub_id in before if hub_id >= 3_000_000}
        assert canonical(hub.document(2851602))


async def test_an_era_is_set_from_outside_and_must_be_a_date():
    async with open_hubsim(models=60) as hub, httpx.AsyncClient() as http:
        good = await http.post(f"{hub.base_url}/_sim/era", json={"era": "2024-05"})
        assert good.json() == {"era": "2024-05"}
        assert "sfwOnly" not in (await items_of(http, hub))[0][0]
        bad = await http.post(f"{hub.base_url}/_sim/era", json={"era": "yesterday"})
        assert (bad.status_code, "2024-05" in bad.json()["error"]) == (400, True)
        with pytest.raises(ValueError, match="knows no eras"):
            async with open_hubsim(dialect="huggingface", models=5, era="2024-05"):
                pass


def test_steps_are_told_newest_first_and_an_era_undoes_those_after_it():
    dates = [step.since for step in STEPS]
    assert dates == sorted(dates, reverse=True)
    assert len(STEPS) > 15
    assert Era("2030").shown({"id": 1}, "list") == {"id": 1}


async def test_fields_and_envelopes_can_change_by_faults():
    async with open_hubsim(models=60) as hub, httpx.AsyncClient() as http:
        path = "/api/v1/models"
        hub.fail(path, {"drop_json": ["items.*.type", "items.*.modelVersions.*.files"]})
        items, _ = await items_of(http, hub)
        assert not any("type" in item for item in items)
        assert not any("files" in v for item in items for v in item["modelVersions"])
        hub.fail(path, {"set_json": {"items.*.type": "Hologram", "items.0.extra": {"a": 1}}})
        items, _ = await items_of(http, hub)
        assert {item["type"] for item in items} == {"Hologram"}
        assert ["extra" in item for item in items[:2]] == [True, False]
        hub.fail(path, {"rename_json": {"items": "results", "items.*.name": "title"}})
        answer = (await http.get(hub.base_url + path)).json()
        assert set(answer) == {"results", "metadata"}
        assert all("title" in item and "name" not in item for item in answer["results"])

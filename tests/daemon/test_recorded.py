"""Every recorded document of the real hub goes in, is shown, and comes out as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.hubs.civitai import read_page
from modelkeepd.hubs.civitai_documents import parse_civitai_image, parse_civitai_version
from modelkeepd.hubs.contract import parse_model
from tests.daemon.house import open_house
from tests.hubsim import open_hubsim
from tests.hubsim.messages import canonical

FIXTURES = Path(__file__).parents[1] / "fixtures" / "civitai"


def _documents() -> dict[str, Any]:
    return {
        path.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(FIXTURES.glob("*.json"))
    }


def _models() -> dict[int, list[dict[str, Any]]]:
    """Every recorded model with its states, in no order."""
    found: dict[int, list[dict[str, Any]]] = {}
    for tree in _documents().values():
        for item in tree.get("items", [tree] if "modelVersions" in tree else []):
            found.setdefault(int(item["id"]), []).append(item)
    return found


async def test_every_recorded_model_is_synced_shown_and_kept_as_it_was_served(
    tmp_path: Path, fast_time: MockClock
) -> None:
    models = _models()
    async with (
        open_hubsim(folder=FIXTURES) as hub,
        open_house(tmp_path / "home", hub) as house,
    ):
        run = await house.synced()
        assert (run.odd, run.error) == (0, None)
        truth = hub.truth()
        assert set(truth) == set(models)
        for hub_id, states in models.items():
            ref = f"civitai:{hub_id}"
            shown = await house.call("catalog.show", ref=ref, raw=True)
            served = hub.document(hub_id)
            assert served is not None
            assert canonical(shown.raw) == canonical(served), ref
            names = {state["name"] for state in states}
            assert shown.name in names, ref
            assert shown.type == served["type"]
            # every version and file, in the hub's order
            assert [v.ref for v in shown.versions] == [
                f"{ref}@{version['id']}" for version in served["modelVersions"]
            ]
            for version, theirs in zip(shown.versions, served["modelVersions"], strict=True):
                assert version.base_model == theirs.get("baseModel")
                assert len(version.files) == len(theirs.get("files", [])), version.ref
                assert {(file.name, file.sha256) for file in version.files} == {
                    (file["name"], (file.get("hashes") or {}).get("SHA256", "").lower() or None)
                    for file in theirs.get("files", [])
                }
            assert isinstance(shown.description, str)
            assert "<p>" not in shown.description
        await house.search_caught_up()
        everything = await house.call("catalog.search", query="", limit=1000)
        assert everything.total == len(models)
        for words, hub_id in (
            ("平涂り風", 24387), ("몰루", 30626), ("Панельки", 4196), ("シラカバ", 71170),
        ):  # fmt: skip
            found = await house.call("catalog.search", query=words)
            assert f"civitai:{hub_id}" in [item.ref for item in found.items], words


async def test_the_two_states_of_one_model_are_two_revisions_after_two_syncs(
    tmp_path: Path, fast_time: MockClock
) -> None:
    async with (
        open_hubsim(folder=FIXTURES) as hub,
        open_house(tmp_path / "home", hub) as house,
    ):
        await house.synced()
        first = await house.call("catalog.show", ref="civitai:1102", raw=True)
        assert first.revisions == 0
        states = {hub_id: hub.document(hub_id) for hub_id in _models()}
        before = states[1102]
        assert canonical(first.raw) == canonical(before)
        hub.advance()
        await house.sync_again()
        second = await house.call("catalog.show", ref="civitai:1102", raw=True)
        after = hub.document(1102)
        assert before is not None
        assert after is not None
        assert canonical(before) != canonical(after)
        assert canonical(second.raw) == canonical(after)
        assert second.revisions == 1
        # nor is the same document twice a change of it
        changed = {
            str(hub_id)
            for hub_id in states
            if canonical(states[hub_id]) != canonical(hub.document(hub_id))
        }
        assert "1102" in changed
        revised = "SELECT m.hub_id FROM revision JOIN model m USING (model_key)"
        assert sorted(hub_id for (hub_id,) in house.rows(revised)) == sorted(changed)
        await house.sync_again()
        assert len(house.rows(revised)) == len(changed)


async def test_unknown_types_values_and_fields_survive(
    tmp_path: Path, fast_time: MockClock
) -> None:
    odd = {
        "type": "HyperSphere9",
        "allowCommercialUse": {"new": ["shape"]},
        "nsfwLevel": 2**40,
        "futureField": {"deep": [1, 2.5, None, "漢字", {"x": True}]},
        "mode": "Hibernating",
        "tags": ["ok", "tag with spaces", "🔥"],
    }
    async with open_hubsim(folder=FIXTURES) as hub:
        hub.change({"set": {"9251": odd}})
        async with open_house(tmp_path / "home", hub) as house:
            run = await house.synced()
            assert run.odd == 0
            shown = await house.call("catalog.show", ref="civitai:9251", raw=True)
            assert {key: shown.raw[key] for key in odd} == odd
            assert shown.type == "HyperSphere9"
            assert shown.tags == odd["tags"]
            await house.search_caught_up()
            found = await house.call("catalog.search", query="type:hypersphere9")
            assert [item.ref for item in found.items] == ["civitai:9251"]


async def test_a_document_that_does_not_fit_is_kept_counted_and_stops_nothing(
    tmp_path: Path, fast_time: MockClock
) -> None:
    async with open_hubsim(models=150) as hub:
        # one without an id, one that is no object, one whose versions are a text
        do = {"set_json": {"items.3.id": None, "items.5": "nonsense", "items.7.modelVersions": "?"}}
        hub.fail("/api/v1/models", do, times=0)
        async with open_house(tmp_path / "home", hub) as house:
            run = await house.synced()
            assert run.odd > 0
            status = await house.call("daemon.status")
            assert status.catalog.odd_documents >= 3
            assert status.catalog.models > 120
            reasons = house.rows("SELECT DISTINCT reason FROM odd_document")
            assert all(reason for (reason,) in reasons)
            kinds = house.rows("SELECT count(*) FROM event_log WHERE kind = 'odd'")
            assert kinds != [(0,)]
            hub.faults.clear()
            await house.sync_again()
            total = house.rows("SELECT count(*) FROM model")
            assert total == [(len(hub.truth(digests=False)),)]


@pytest.mark.parametrize("name", [name for name, tree in _documents().items() if "items" in tree])
def test_recorded_pages_go_through_the_page_parser(name: str) -> None:
    raw = (FIXTURES / name).read_bytes()
    page = read_page(raw, newest=True)
    tree = json.loads(raw)
    assert [item.hub_id for item in page.items] == [str(item["id"]) for item in tree["items"]]
    assert page.next_cursor == tree["metadata"].get("nextCursor")
    for item in page.items:
        assert parse_model("civitai", item.raw).hub_id == item.hub_id


def test_recorded_version_and_image_documents_go_through_their_parsers() -> None:
    version = "model-version-2024-03-399893.json"
    parsed = parse_civitai_version((FIXTURES / version).read_bytes())
    tree = _documents()[version]
    assert parsed.hub_id == str(tree["modelId"])
    assert [found.hub_id for found in parsed.versions] == [str(tree["id"])]
    assert {file.name for file in parsed.versions[0].files} == {f["name"] for f in tree["files"]}
    image = "image-2023-11-2805533.json"
    picture = parse_civitai_image((FIXTURES / image).read_bytes())
    assert picture.hub_id == str(_documents()[image]["id"])
    assert picture.meta == _documents()[image]["meta"]


async def test_a_reference_nobody_has_is_not_found_with_a_hint(
    tmp_path: Path, fast_time: MockClock
) -> None:
    async with (
        open_hubsim(folder=FIXTURES) as hub,
        open_house(tmp_path / "home", hub) as house,
    ):
        await house.synced()
        for ref, code in (
            ("civitai:999999999", "not_found"),
            ("civitai:1102@1", "not_found"),
            ("sha256:" + "0" * 64, "not_found"),
            ("civitai:../../etc", "invalid"),
            ("\x00", "invalid"),
            ("", "invalid"),
        ):
            with pytest.raises(ModelkeepError) as refused:
                await house.call("catalog.show", ref=ref)
            assert refused.value.code == code, (ref, refused.value)
            assert refused.value.message
            assert refused.value.hint, ref

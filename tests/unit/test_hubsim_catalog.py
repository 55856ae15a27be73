"""The synthetic catalog: deterministic, seekable in every order, with the real hub's shares."""

import collections
import itertools

import msgspec
import pytest

from tests.hubsim import Hub, HubOptions
from tests.hubsim.bytes import Contents
from tests.hubsim.catalog import Catalog
from tests.hubsim.population import SPECIALS
from tests.hubsim.strands import Bound, Order
from tests.hubsim.synthetic_source import SyntheticSource


def catalog(count, seed=1):
    contents = Contents(seed)
    return Catalog([SyntheticSource(count, seed, contents)], contents, seed=seed)


def encoded(catalog, hub_id):
    return msgspec.json.encode(catalog.document(hub_id))


@pytest.mark.parametrize("count", [1, 39, 64, 300])
@pytest.mark.parametrize("order", Order)
def test_every_order_holds_each_model_once_and_starts_anywhere(count, order):
    models = catalog(count)
    models.change({"add": 2, "new_version": 1})
    rows = list(models.rows(order, None))
    assert sorted(hub_id for _, hub_id in rows) == sorted(models.ids())
    keys = [key for key, _ in rows]
    assert keys == sorted(keys, reverse=order is not Order.OLDEST)
    for at in range(0, len(rows), 11):
        assert list(models.rows(order, Bound(keys[at], inclusive=True))) == rows[at:]
        if order is Order.NEWEST:
            assert list(models.rows(order, Bound(keys[at], inclusive=False))) == rows[at + 1 :]


def test_dates_and_counts_of_documents_agree_with_the_orders():
    models = catalog(200)
    for key, hub_id in models.rows(Order.RATED, None):
        stats = models.document(hub_id)["stats"]
        assert stats["thumbsUpCount"] == key[0]
        assert stats["downloadCount"] in (key[1], None)
    newest = [
        max(version["publishedAt"] for version in models.document(hub_id)["modelVersions"])
        for key, hub_id in models.rows(Order.NEWEST, None)
        if key[0] >= 0 and models.document(hub_id)["modelVersions"]
    ]
    assert newest == sorted(newest, reverse=True)


def test_the_same_seed_makes_the_same_catalog():
    one, same, other = catalog(60, 7), catalog(60, 7), catalog(60, 8)
    # Asked for in another order: nothing may depend on what was made before.
    backwards = {hub_id: encoded(same, hub_id) for hub_id in reversed(same.ids())}
    assert {hub_id: encoded(one, hub_id) for hub_id in one.ids()} == backwards
    assert any(encoded(one, hub_id) != encoded(other, hub_id) for hub_id in one.ids())


def test_a_million_models_are_there_at_once():
    hub = Hub(HubOptions(models=1_000_000))
    rows = itertools.islice(hub.catalog.rows(Order.NEWEST, Bound((1_700_000_000_000, 0), True)), 50)
    documents = [hub.catalog.document(hub_id) for _, hub_id in rows]
    dates = [version["publishedAt"] for item in documents for version in item["modelVersions"][:1]]
    assert max(dates) < "2023-11-15"


def test_shares_are_about_the_real_hubs():
    models = catalog(3000)
    items = [item for hub_id in models.ids() if (item := models.document(hub_id))]
    types = collections.Counter(item["type"] for item in items)
    assert 0.88 < types["LORA"] / len(items) < 0.94
    assert types["Checkpoint"] > 50
    multiple = sum(len(item["modelVersions"]) > 1 for item in items)
    assert 0.10 < multiple / len(items) < 0.22
    names = [item["name"] for item in items]
    han_or_kana = sum(any("\u3040" <= letter <= "\u9fff" for letter in name) for name in names)
    assert 0.10 < han_or_kana / len(items) < 0.18
    assert any("\uac00" <= letter <= "\ud7a3" for name in names for letter in name)
    assert any("\u0400" <= letter <= "\u04ff" for name in names for letter in name)
    lengths = sorted(len(item["description"] or "") for item in items)
    assert 200 < lengths[len(lengths) // 2] < 900
    assert lengths[-1] > 3000
    hashes = collections.Counter(
        file["hashes"].get("SHA256")
        for item in items
        for version in item["modelVersions"]
        for file in version["files"]
    )
    files = sum(hashes.values())
    assert 0.02 < (files - len(hashes)) / files < 0.08
    bytes_each = sum(len(msgspec.json.encode(item)) for item in items) / len(items)
    assert 2_500 < bytes_each < 8_000


@pytest.mark.parametrize("words", ["anime style", "リアル系", "背景", "国风"])
def test_searches_people_make_find_models(words):
    models = catalog(200)
    found = [
        hub_id
        for hub_id in models.ids()
        if words in f"{models.document(hub_id)['name']}".casefold()
    ]
    assert found


def test_special_models_are_what_they_are_called():
    models = catalog(60)
    items = {name: models.document(models.special(name)) for name in SPECIALS}
    files = {
        name: item["modelVersions"][0]["files"]
        for name, item in items.items()
        if item["modelVersions"]
    }
    assert items["null_date"]["modelVersions"][0]["publishedAt"] is None
    assert items["archived"]["mode"] == "Archived"
    assert files["archived"] == []
    assert items["taken_down"]["mode"] == "TakenDown"
    assert items["taken_down"]["modelVersions"][0]["images"] == []
    assert files["fresh"][0]["hashes"] == {}
    assert files["size_zero"][0]["sizeKB"] == 0
    assert len({file["name"] for file in files["duplicate_names"]}) < len(files["duplicate_names"])
    assert files["pickle"][0]["name"].endswith(".ckpt")
    assert files["zip"][0]["name"].endswith(".zip")
    assert "AutoV3" in files["zip"][0]["hashes"]
    assert files["gguf"][0]["name"].endswith(".gguf")
    assert items["no_visible_version"]["modelVersions"] == []
    assert files["whole_kilobytes"][0]["sizeKB"] == int(files["whole_kilobytes"][0]["sizeKB"])
    assert len(items["many_versions"]["modelVersions"]) == 31
    assert "creator" not in items["no_creator"]
    assert items["numeric_creator"]["creator"]["username"] == 20240117
    assert "/" in items["slash_in_name"]["name"]
    assert len(files["soft_variants"]) >= 2
    assert items["unknown_type"]["type"] == "HoloModule"
    assert "AutoV1" in files["two_mebibytes"][0]["hashes"]
    assert items["null_stats"]["stats"]["downloadCount"] is None
    twins = [files[name][0]["hashes"] for name in ("twin_a", "twin_b")]
    assert twins[0]["AutoV3"] == twins[1]["AutoV3"]
    assert twins[0]["SHA256"] != twins[1]["SHA256"]
    assert files["reuploaded_a"][0]["hashes"] == files["reuploaded_b"][0]["hashes"]
    assert items["no_description"]["description"] is None
    tied = [items[name]["modelVersions"][0]["publishedAt"] for name in ("tied_a", "tied_b")]
    assert tied[0] == tied[1]


def test_changes_touch_what_they_name_and_nothing_else():
    models = catalog(100)
    before = {hub_id: encoded(models, hub_id) for hub_id in models.ids()}
    done = models.change({"add": 2, "edit": 2, "new_version": 1, "remove": 1})
    touched = {hub_id for ids in done.values() for hub_id in ids}
    assert len(touched) == 6
    for hub_id, old in before.items():
        document = models.document(hub_id)
        if hub_id in done["remove"]:
            assert document is None
        else:
            assert (msgspec.json.encode(document) != old) == (hub_id in touched)
    newest = [hub_id for _, hub_id in itertools.islice(models.rows(Order.NEWEST, None), 3)]
    assert newest == [*done["new_version"], *reversed(done["add"])]
    edited = msgspec.json.decode(before[done["new_version"][0]])
    after = models.document(done["new_version"][0])
    assert after["modelVersions"][1:] == [
        {**version, "index": version["index"] + 1} for version in edited["modelVersions"]
    ]


def test_changes_can_be_taken_back_and_misnamed_ones_are_refused():
    models = catalog(60)
    hub_id = models.change({"remove": 1})["remove"][0]
    models.change({"restore": [hub_id]})
    assert models.document(hub_id) is not None
    with pytest.raises(ValueError, match="unknown change: delete"):
        models.change({"delete": 1})
    with pytest.raises(ValueError, match="no such models"):
        models.change({"edit": [1]})


def test_documents_and_file_names_can_be_set():
    models = catalog(60)
    hub_id = models.special("checkpoint")
    file_id = models.document(hub_id)["modelVersions"][0]["files"][0]["id"]
    models.change(
        {"set": {hub_id: {"name": 7, "new": []}}, "file_names": {file_id: "../../.bashrc"}}
    )
    item = models.document(hub_id)
    assert (item["name"], item["new"]) == (7, [])
    assert item["modelVersions"][0]["files"][0]["name"] == "../../.bashrc"


def test_a_dialect_that_is_not_there_yet_is_refused_in_words():
    with pytest.raises(ValueError, match="does not speak 'klingon'"):
        Hub(HubOptions(dialect="klingon"))

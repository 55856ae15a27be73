"""An endpoint through time: silent while nothing changes, brief when something does."""

import json
import random

import pytest

from modelkeepd.api_changes.answer import see
from modelkeepd.api_changes.endpoint import NEW_VERSION_DOCUMENTS, REMEMBERED_DOCUMENTS, Endpoint
from modelkeepd.api_changes.shape import halve
from tests.fakes.api_answers import answer, page, pages, recorded
from tests.hubsim.bytes import Contents
from tests.hubsim.catalog import Catalog
from tests.hubsim.civitai import Civitai
from tests.hubsim.messages import Request
from tests.hubsim.synthetic_source import SyntheticSource


def learn(endpoint, samples, most=100, rng=None):
    """Every change found, each adopted at once unless it breaks."""
    rng = rng or random.Random(1)
    found = []
    for sample in samples:

        def pick(count):
            return range(count) if count <= most else rng.sample(range(count), most)

        changes = endpoint.learn(see(sample, pick))
        found += changes
        if changes and changes[0].severity != "breaking":
            endpoint.adopt(endpoint.settled(changes))
    return found


def described(changes):
    return [(change.kind, change.path, change.severity) for change in changes]


def grown(count=40):
    endpoint = Endpoint("civitai", "list")
    assert learn(endpoint, pages(count)) == []
    assert not endpoint.is_new
    return endpoint


def test_no_alarm_in_a_crawl_of_one_era():
    """Twenty pages learnt, two hundred more: rare fields, odd models, sampled as in real life."""
    contents = Contents(1)
    catalog = Catalog([SyntheticSource(11_000, 1, contents)], contents, seed=1)
    hub = Civitai(catalog, wall_s=lambda: 1.8e9)
    hub.base_url = "http://hub.test"
    endpoint, rng, found, cursor = Endpoint("civitai", "list"), random.Random(2), [], ""
    for _ in range(220):
        target = f"/api/v1/models?limit=45&sort=Newest&nsfw=true{cursor}"
        response = hub.answer(Request("GET", target, [("host", "hub.test")]))
        body = bytes(response.body.read(0, response.body.size))
        most = 50 if endpoint.is_new else 3
        found += learn(endpoint, [answer(body)], most, rng)
        cursor = "&cursor=" + json.loads(body)["metadata"]["nextCursor"].replace(" ", "%20")
    assert described(found) == []
    assert endpoint.version == 1
    assert not endpoint.is_suspect


def test_a_new_field_is_told_once():
    endpoint = grown()
    found = learn(endpoint, pages(100, lambda model: model.update(userId=7)))
    assert described(found) == [("field_added", "items[].userId", "harmless")]
    assert endpoint.version == 2
    assert found[0].example == "7"


def test_a_field_that_comes_and_goes_again_is_told_twice():
    endpoint = grown()
    more = pages(300, lambda model: model.update(userId=7))
    found = learn(endpoint, [*more, *pages(60)])
    assert described(found) == [
        ("field_added", "items[].userId", "harmless"),
        ("field_gone", "items[].userId", "harmless"),
    ]


def test_a_type_that_changes_and_changes_back_is_told_twice():
    def words(model):
        model["allowCommercialUse"] = "{Image}"

    endpoint = grown()
    found = learn(endpoint, [*pages(60, words), *pages(60)])
    changed = ("type_changed", "items[].allowCommercialUse", "adopted")
    assert described(found) == [changed, changed]


def test_a_read_field_that_goes_degrades_and_the_rest_goes_on():
    endpoint = grown()
    found = learn(endpoint, pages(60, lambda model: model.pop("stats")))
    assert described(found) == [("field_gone", "items[].stats", "degraded")]
    assert found[0].example.startswith("without it: {")


def test_a_break_is_certain_after_a_few_answers():
    endpoint = grown()
    found = learn(endpoint, pages(3, lambda model: model.pop("modelVersions")))
    assert described(found) == [("field_gone", "items[].modelVersions", "breaking")]
    assert endpoint.version == 1
    assert "paused" not in found[0].suggestion
    assert "api" not in found[0].example


def test_odd_pages_between_good_ones_break_nothing():
    endpoint = grown()
    bad = pages(2, lambda model: model.pop("modelVersions"))
    for good in pages(6):
        assert learn(endpoint, [*bad, good]) == []


def test_what_was_never_there_is_not_missed():
    """Lists of Hugging Face hold what is asked for; without it an answer is as good."""
    endpoint = Endpoint("huggingface", "list")
    rows = [answer([{"_id": f"{i:024x}", "id": f"a/{i}"}], hub="huggingface") for i in range(90)]
    assert learn(endpoint, rows) == []
    assert not endpoint.is_suspect


def test_pages_without_items_say_nothing_of_items():
    endpoint = grown()
    empty = [page([]) for _ in range(50)]
    found = learn(endpoint, empty)
    assert all(change.severity == "harmless" for change in found)
    assert not endpoint.is_suspect


@pytest.mark.parametrize(
    "answers",
    [
        [answer(b"<html>Be back soon", headers={"content-type": "text/html"})] * 60,
        [answer({"error": "busy"}, status=503)] * 60,
        [answer(b'{"items":[{"id":1')] * 60,
        [answer(b"", status=502)] * 60,
    ],
    ids=["a maintenance page", "busy", "cut off", "empty"],
)
def test_an_outage_is_no_break(answers):
    found = learn(grown(), answers)
    assert [change.kind for change in found] == ["status_new"]
    assert found[0].severity in ("harmless", "degraded")


def test_models_without_checksums_for_hours_are_no_break():
    """The hub's scanner is behind: the newest models have an empty object."""

    def unscanned(model):
        for version in model["modelVersions"]:
            for file in version["files"]:
                file["hashes"] = {}

    found = learn(grown(), pages(40, unscanned))
    assert all(change.severity != "breaking" for change in found)


def test_archived_models_in_a_row_are_no_break():
    """By id, an archived model has no files; three of them prove nothing."""
    endpoint = Endpoint("civitai", "model")
    documents = [d for d in recorded("model-2023-07-*") if d["modelVersions"]] * 8
    archived = [d for d in documents if d.get("mode") == "Archived"][:4]
    for document in archived:
        for version in document["modelVersions"]:
            version.pop("files", None)
    found = learn(endpoint, [answer(d, operation="model") for d in [*documents, *archived]])
    assert found == []


def test_an_endpoint_heals_only_when_all_is_back():
    endpoint = grown()
    (good,), (bad,) = pages(1), pages(1, lambda model: model.pop("modelVersions"))
    assert endpoint.heals(see(good, range))
    for other in (bad, page([]), answer({"error": "x"}, status=500), answer(b"<html>")):
        assert not endpoint.heals(see(other, range))


def test_an_accepted_break_is_expected_from_then_on():
    endpoint = grown()
    bad = pages(40, lambda model: model.pop("modelVersions"))
    (change,) = learn(endpoint, bad[:3])
    endpoint.adopt(endpoint.without(change.place))
    assert learn(endpoint, bad) == []


def test_the_past_is_forgotten_slowly_and_a_new_version_begins_small():
    endpoint = grown()
    while endpoint.base.documents < REMEMBERED_DOCUMENTS:
        endpoint.base.documents *= 2
    halve(endpoint.base)
    learn(endpoint, pages(40))
    assert endpoint.base.documents < REMEMBERED_DOCUMENTS
    learn(endpoint, pages(30, lambda model: model.update(userId=7)))
    assert endpoint.version == 2
    assert endpoint.base.documents <= 4 * NEW_VERSION_DOCUMENTS + 100

"""Shapes of answers: sums that no order changes, bounds that no document breaks."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.api_changes import shape as shapes
from modelkeepd.api_changes.answer import MAX_PAGE_BYTES, see
from modelkeepd.api_changes.endpoint import Endpoint
from modelkeepd.api_changes.places import size_of
from modelkeepd.api_changes.shape import Node, Shape, address_parts, form_of, merged, shape_of
from modelkeepd.api_changes.wording import example_of, tidy
from tests.fakes.api_answers import answer, learnt, page, recorded

NAMES = st.sampled_from(
    ["id", "type", "meta", "nextCursor", "parameters", "files", "url", "a", "ü", ""]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["Model", "VAE", "https://a.example/x?b=1&a=2", "5|7", "x" * 60, "\ud800"])
    | st.text(max_size=4)
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=20,
)
BODIES = DOCUMENTS | st.fixed_dictionaries({"items": st.lists(DOCUMENTS, max_size=4)})


def total(nodes):
    whole = Node()
    for node in nodes:
        shapes.add(whole, node)
    return whole


@given(st.lists(DOCUMENTS, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=120, deadline=None)
def test_the_order_of_documents_does_not_matter(documents, rng):
    shuffled = rng.sample(documents, len(documents))
    assert total(map(shape_of, documents)) == total(map(shape_of, shuffled))


@given(st.lists(BODIES, min_size=3, max_size=3))
@settings(max_examples=120, deadline=None)
def test_adding_shapes_is_associative_and_commutative(bodies):
    one, two, three = (learnt([answer(json.dumps(body).encode())]) for body in bodies)
    assert merged(merged(one, two), three) == merged(one, merged(two, three))
    assert merged(one, two) == merged(two, one)


def test_a_map_is_the_same_map_however_its_keys_arrive():
    rng = random.Random(3)
    documents = [
        {"scores": {f"key {rng.randrange(900)}": {"n": 1, "of": i % 3 or None} for _ in range(9)}}
        for i in range(40)
    ]
    whole = total(map(shape_of, documents))
    halves = total([total(map(shape_of, documents[20:])), total(map(shape_of, documents[:20]))])
    assert whole == halves
    scores = whole.keys["scores"]
    assert scores.is_map
    assert scores.keys == {}
    assert scores.any_key is not None
    assert set(scores.any_key.keys) == {"n", "of"}


@given(st.binary(max_size=60) | BODIES.map(lambda body: json.dumps(body).encode()))
@settings(max_examples=150, deadline=None)
def test_nothing_that_a_hub_sends_raises(body):
    for status in (200, 500):
        seen = see(answer(body, status=status, headers={"link": "<", "retry-after": ""}), range)
        kept = shapes.encode(seen.shape)
        assert shapes.decode(kept) == seen.shape


def _deep(levels):
    return b'{"items":' + b"[" * levels + b"]" * levels + b',"metadata":{}}'


HOSTILE = {
    "a hundred thousand keys": json.dumps({f"k{i}": i for i in range(100_000)}).encode(),
    "keys within keys": json.dumps(
        {f"a{i}": {f"b{j}": {f"c{k}": 1 for k in range(30)} for j in range(30)} for i in range(30)}
    ).encode(),
    "a hundred thousand items": b'{"items":[' + b"1," * 99_999 + b'1],"metadata":{}}',
    "ten thousand levels": _deep(10_000),
    "a hundred levels": _deep(100),
    "a key of a megabyte": json.dumps({"k" * 1_000_000: 1}).encode(),
    "a text of a megabyte": json.dumps({"type": "t" * 1_000_000}).encode(),
    "a number without end": b'{"id": ' + b"9" * 5_000 + b"}",
    "NaN": b'{"items":[{"id":NaN}],"metadata":{}}',
    "a lone surrogate": b'{"items":[{"type":"\\ud800"}],"metadata":{}}',
    "a key twice": b'{"items":[],"items":[{"id":1}],"metadata":{}}',
    "cut off": b'{"items":[{"id":1},',
    "items that are none": b'{"items":{"id":1},"metadata":[]}',
    "a web page": b"<!doctype html><p>Back soon",
    "a sentence": b"We are adjusting a few things",
    "nothing": b"",
    "blanks": b"    ",
    "too much": b"[" + b" " * MAX_PAGE_BYTES + b"]",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer_stays_small(body):
    endpoint = Endpoint("civitai", "list")
    for _ in range(3):
        endpoint.learn(see(answer(body), lambda count: range(min(count, 100))))
    whole = endpoint.whole()
    assert size_of(whole) <= shapes.MAX_NODES
    assert len(shapes.encode(whole)) < 200_000


def test_one_odd_document_does_not_make_a_map_of_all():
    odd = [page([{f"key {i}": i for i in range(500)} | {"id": 1}])]
    item = learnt([page([{"id": i}]) for i in range(30)] + odd).statuses["200"].keys["body"]
    element = item.keys["items"].element
    assert element is not None
    assert element.types == {"object": 30, "map": 1}
    assert element.keys["id"].docs == 30


def test_many_different_documents_stay_within_the_bound():
    """Each is modest; no two have a key in common."""
    whole = Shape()
    for i in range(60):
        body = {f"a{i}": {f"b{i}-{j}": {f"c{i}-{k}": 1 for k in range(12)} for j in range(12)}}
        shapes.add_shape(whole, learnt([answer(body)]))
    assert size_of(whole) <= shapes.MAX_NODES


def test_many_statuses_stay_within_the_bound():
    whole = merged(*(learnt([answer({}, status=code)]) for code in range(400, 600)))
    assert len(whole.statuses) == shapes.MAX_STATUSES
    assert whole.answers == 200


def test_a_field_with_few_words_is_an_enumeration_and_one_with_many_is_not():
    samples = [
        page([{"type": f"T{i % 5}", "format": f"F{i}", "name": f"N{i % 5}"}]) for i in range(90)
    ]
    item = learnt(samples).statuses["200"].keys["body"].keys["items"].element
    assert item is not None
    assert item.keys["type"].sets == {"values": {f"T{i}": 18 for i in range(5)}}
    assert item.keys["format"].sets == {"values": None}
    assert item.keys["name"].sets == {}  # of people: never kept


def test_counts_are_of_documents_not_of_occurrences():
    item = recorded("models-list-2025-08-page.json")[0]
    assert len(item["modelVersions"]) > 1
    node = shape_of(item)
    versions = node.keys["modelVersions"].element
    assert versions is not None
    assert versions.keys["id"].docs == versions.docs == 1


def test_addresses_are_known_by_host_and_by_what_they_ask():
    url = "https://User:pw@Civitai.com:443/api/download/models/1?type=VAE&format=a&token=secret#x?y"
    assert address_parts(url) == ("civitai.com", "format&token&type")
    assert address_parts("http://") == ("", "")


@pytest.mark.parametrize(
    ("cursor", "form"),
    [
        ("37169|338034|122359", "9|9|9"),
        ("12:34:56", "9:9:9"),
        ("2024-03-14T12:00:00.000Z", "9-9-9a9:9:9.9a"),
        ("2025-08-01 00:00:00.000|123", "9-9-9 9:9:9.9|9"),
        ("|123", "|9"),
        ("eyJfaWQiOnsiJGd0IjoiNjIxZmZkYzAzNjQ2OGQ3MDlmMTc0MzQ2In19", "opaque"),
    ],
)
def test_a_cursor_is_known_by_its_form(cursor, form):
    assert form_of(cursor) == form


def test_a_kept_shape_that_is_damaged_is_told_from_a_good_one():
    kept = shapes.encode(learnt([page([{"id": 1}])]))
    for damaged in (b"", kept[:-4], kept[:10] + b"x" + kept[11:], b"x" * 50):
        with pytest.raises(ValueError, match="kept shape"):
            shapes.decode(damaged)


def test_half_of_the_past_keeps_everything_that_was_ever_seen():
    whole = learnt([page([{"id": 1, "mode": "Archived"}])] + [page([{"id": 1}])] * 9)
    before = size_of(whole)
    for _ in range(5):
        shapes.halve(whole)
    assert size_of(whole) == before
    assert whole.documents == 1


def test_an_example_is_short_one_line_and_without_secrets():
    raw = json.dumps(
        {"files": [{"url": "https://h/x?token=abcdefghijklmnop&a=1", "note": "a\u202eb\n" * 200}]}
    ).encode()
    assert "abcdefghijklmnop" not in example_of([raw], ("files", "[]", "url"))
    note = example_of([raw], ("files", "[]", "note"))
    assert len(note) <= 200
    assert "\n" not in note
    assert "\u202e" not in note
    assert example_of([raw], ("files", "[]", "gone")).startswith("without it: ")
    assert example_of([b"rubbish", raw], ("nowhere", "at all")) == ""
    assert len(tidy("x" * 5_000)) == 200

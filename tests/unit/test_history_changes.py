"""What changed between two documents, as people read it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.catalog.changes import (
    MAX_FIELDS,
    MAX_TEXT,
    Difference,
    differences,
    excerpts,
    read_state,
)
from modelkeepd.hubs.contract import parse_model

FIXTURES = Path(__file__).parents[1] / "fixtures"
CIVITAI = json.loads((FIXTURES / "civitai" / "model-list-item-2026-08-2851602.json").read_bytes())
HUGGINGFACE = json.loads(
    (FIXTURES / "huggingface" / "model-bert-base-uncased-2025.json").read_bytes()
)


def compare(hub: str, old: Any, new: Any, kind: str = "model") -> list[Difference]:
    states = [read_state(hub, json.dumps(doc).encode(), parse_model) for doc in (old, new)]
    return differences(hub, *states, kind=kind)


def edited(document: Any, edit: Callable[[Any], object]) -> Any:
    other = copy.deepcopy(document)
    edit(other)
    return other


VERSION, FILE = "3220243", "Pocahontas_Krea2_byKonan.safetensors"
OLD_SHA = "96a7fb4abc026b628ec2c28fb91086a5f5557aa14244ec329581b27cb53096cd"
NEW_SHA = "5" * 64


def put(value: Any, *path: Any) -> Callable[[Any], object]:
    def edit(document: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        document[path[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (put("Other", "name"), Difference("name", "name", CIVITAI["name"], "Other")),
        (put("Checkpoint", "type"), Difference("type", "type", "LORA", "Checkpoint")),
        (put("TakenDown", "mode"), Difference("state", "state", "listed", "taken_down")),
        (
            put(["woman", "disney", "new"], "tags"),
            Difference("tags", "tags", ["pocahontas", "character", "cartoon"], ["new"]),
        ),
        (
            put(99, "stats", "downloadCount"),
            Difference("statistics", "statistics", {"downloads": 0}, {"downloads": 99}),
        ),
        (
            put(["pocahontas", "braid"], "modelVersions", 0, "trainedWords"),
            Difference(
                "words", "trigger words", ["pocahontas, a native american woman"],
                ["pocahontas", "braid"], VERSION,
            ),
        ),
        (
            put("EarlyAccess", "modelVersions", 0, "availability"),
            Difference("version", "availability", "Public", "EarlyAccess", VERSION),
        ),
        (
            put(NEW_SHA, "modelVersions", 0, "files", 0, "hashes", "SHA256"),
            Difference(
                "file", "file replaced",
                {"name": FILE, "size_bytes": 228588904, "sha256": OLD_SHA},
                {"name": FILE, "size_bytes": 228588904, "sha256": NEW_SHA}, VERSION,
            ),
        ),
        (
            put("b.safetensors", "modelVersions", 0, "files", 0, "name"),
            Difference("file", "file renamed", FILE, "b.safetensors", VERSION),
        ),
        (
            put("Danger", "modelVersions", 0, "files", 0, "pickleScanResult"),
            Difference(
                "scan", "modelVersions[3220243].files[3102175].pickleScanResult", "Success",
                "Danger",
            ),
        ),
        (put(False, "allowNoCredit"), Difference("license", "allowNoCredit", True, False)),
        (put({"a": [1]}, "surprise"), Difference("field", "surprise", None, '{"a": [1]}')),
    ],
    ids=lambda value: value.what if isinstance(value, Difference) else "",
)  # fmt: skip
def test_one_edit_is_one_difference(edit: Callable[[Any], object], expected: Difference) -> None:
    assert compare("civitai", CIVITAI, edited(CIVITAI, edit)) == [expected]


def test_commercial_use_is_told_in_our_words_and_in_the_hubs() -> None:
    found = compare("civitai", CIVITAI, edited(CIVITAI, put([], "allowCommercialUse")))
    assert found == [
        Difference("license", "commercial use", True, False),
        Difference("license", "allowCommercialUse", '["Image", "RentCivit"]', "[]"),
    ]


def test_versions_come_and_go_as_wholes() -> None:
    second = edited(CIVITAI["modelVersions"][0], put(7, "id"))
    second = edited(second, put("v2", "name"))
    both = edited(CIVITAI, lambda doc: doc["modelVersions"].insert(0, second))
    added = compare("civitai", CIVITAI, both)
    assert added == [Difference("version", "version added", None, "v2", "7")]
    gone = compare("civitai", both, CIVITAI)
    assert gone == [Difference("version", "version withdrawn", "v2", None, "7")]


def test_a_hash_that_one_side_does_not_know_replaces_nothing() -> None:
    unknown = edited(CIVITAI, put({}, "modelVersions", 0, "files", 0, "hashes"))
    assert compare("civitai", unknown, CIVITAI) == []
    # the size is a rounded one: the hash decides
    other = edited(CIVITAI, put(223231.4, "modelVersions", 0, "files", 0, "sizeKB"))
    assert compare("civitai", CIVITAI, other) == []
    found = compare("civitai", unknown, other)
    assert [d.what for d in found] == ["file replaced"]


def test_a_long_description_shows_the_place_that_changed() -> None:
    words = " ".join(f"word{n}" for n in range(500))
    changed = words.replace("word250 ", "CHANGED ")
    before, after = excerpts(words, changed)
    assert "word250" in before
    assert "CHANGED" in after
    assert before.startswith("…")
    assert before.endswith("…")
    assert len(before) < 100
    assert excerpts("", "x" * 9_999) == ("", "x" * (MAX_TEXT - 1) + "…")


@settings(max_examples=60, deadline=None)
@given(st.text("ab", max_size=40), st.text("ab", max_size=40))
def test_excerpts_differ_where_the_texts_do(old: str, new: str) -> None:
    before, after = excerpts(old, new)
    assert (before == after) == (old == new)


def test_counters_and_renames_on_the_other_hub() -> None:
    new = edited(HUGGINGFACE, put(2070, "likes"))
    new = edited(new, put("google/bert", "id"))
    new = edited(new, put("manual", "gated"))
    new = edited(new, put("e" * 40, "sha"))
    found = {d.kind: d for d in compare("huggingface", HUGGINGFACE, new)}
    assert found["statistics"].after == {"likes": 2070}
    assert found["gating"].after == "manual"
    assert found["renamed"].before == "google-bert/bert-base-uncased"
    assert found["commit"].after == "e" * 40


def test_of_a_detail_document_only_what_list_rows_lack_is_told() -> None:
    new = edited(HUGGINGFACE, put(2070, "likes"))
    new = edited(new, lambda doc: doc["siblings"].append({"rfilename": "new.safetensors"}))
    new = edited(new, put("mit", "cardData", "license"))
    found = compare("huggingface", HUGGINGFACE, new, kind="detail")
    assert [(d.kind, d.what) for d in found] == [
        ("file", "file added"),
        ("field", "cardData.license"),
    ]


def test_unknown_fields_are_bounded_in_number_and_length() -> None:
    new = {**CIVITAI, **{f"field{n}": "x" * 9_000 for n in range(100)}}
    found = compare("civitai", CIVITAI, new)
    assert len(found) == MAX_FIELDS + 1
    assert found[-1].what == "60 more fields"
    assert all(len(str(d.after)) <= MAX_TEXT for d in found)


HOSTILE = [
    b"", b"null", b"[]", b'{"id":1', b'{"id":NaN}', b'{"a":NaN}', b'{"id":1,"tags":"\\ud800"}',
    b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900, b'{"a":' * 900 + b"2" + b"}" * 900,
    b'{"id":1,"modelVersions":[{"id":1},{"id":1},{"id":{}}]}',
    b'{"id":1,"modelVersions":[null,{"files":[{},{}]}]}',
    json.dumps({"k" * 100_000: {str(n): n for n in range(2_000)}}).encode(),
    json.dumps({"k" * 100_000: {str(n): -n for n in range(2_000)}}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("hub", ["civitai", "huggingface"])
def test_no_pair_of_documents_is_too_odd(hub: str) -> None:
    states = [read_state(hub, raw, parse_model) for raw in HOSTILE]
    for old in states:
        for new in states:
            found = differences(hub, old, new)
            assert len(found) < 100
            assert len(str(found)) < 1_000_000
        assert differences(hub, old, old) == []


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "Model"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["id", "name", "files", "modelVersions", "tags", "stats", "siblings"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(_json, _json, st.sampled_from(["civitai", "huggingface"]))
def test_any_two_documents_are_compared(old: Any, new: Any, hub: str) -> None:
    old, new = ({**doc, "id": 1} if isinstance(doc, dict) else doc for doc in (old, new))
    compare(hub, old, new)
    assert compare(hub, new, new) == []

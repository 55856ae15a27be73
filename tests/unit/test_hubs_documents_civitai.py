"""CivitAI's documents of four years: each one parses, and no odd field costs a model."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.hubs.civitai import read_page
from modelkeepd.hubs.civitai_documents import (
    parse_civitai_image,
    parse_civitai_model,
    parse_civitai_version,
)
from modelkeepd.hubs.civitai_wire import WireModel
from modelkeepd.hubs.contract import OddDocument, ParsedModel, parse_model
from modelkeepd.hubs.wire import lenient

FIXTURES = Path(__file__).parents[1] / "fixtures" / "civitai"

# file -> what must come of it, by the field
MODELS: dict[str, dict[str, Any]] = {
    "model-2023-03-1102-old-shape": {
        "hub_id": "1102", "type": "Checkpoint", "commercial": True, "nsfw_level": None,
        "likes": 2540, "downloads": 15347, "hub_state": "listed",
    },
    "model-2023-07-12035-takendown": {"hub_state": "taken_down", "type": "LORA"},
    "model-2023-07-24387-slash-in-name": {
        "name": "Aniflatmix - Anime Flat Color Style Mix (平涂り風/平涂风)", "commercial": False,
    },
    "model-2023-07-24636-archived": {"hub_state": "archived", "size_bytes": None},
    "model-2023-07-30626-korean-name": {"name": "몰루", "description": "", "tags": ()},
    "model-2023-07-3819-pickle-error": {"base_models": ("SD 2.0",)},
    "model-2023-07-4196-cyrillic-name": {
        "name": "Панельки | Soviet buildings doomers mood",
    },
    "model-2023-07-42-pickle-danger": {"name": "Robo-Diffusion"},
    "model-2023-07-54-size-zero": {"hub_id": "54"},
    "model-2023-07-67463-aesthetic-gradient": {"type": "AestheticGradient", "size_bytes": 60323},
    "model-2023-07-71170-japanese-filename": {"type": "LORA"},
    "model-2023-07-9251-controlnet": {"type": "Controlnet", "hub_id": "9251"},
    "model-2023-07-96216-no-versions": {"versions": (), "published_ms": None, "base_models": ()},
    "model-2025-08-1102-new-shape": {"hub_id": "1102", "nsfw_level": 7, "likes": 3182},
    "model-list-item-2025-07-1799688-many-tags": {"commercial": False},
    "model-list-item-2025-07-1803319-early-access": {"creator": "KarotConCarne"},
    "model-list-item-2025-07-1804853-chinese-filename": {"nsfw_level": 1},
    "model-list-item-2025-07-1805265-korean-mixed": {"base_models": ("Illustrious",)},
    "model-list-item-2025-07-1807297-no-commercial-use": {"commercial": False},
    "model-list-item-2025-07-1809693-emoji-video": {
        "name": "🐻 MoonToon – Retro Comic Style 📕✒️ [Illustrious]",
    },
    "model-list-item-2025-07-1809791-japanese-training-data": {"hub_id": "1809791"},
    "model-list-item-2026-08-2851602": {
        "hub_id": "2851602", "base_models": ("Krea 2",), "commercial": True, "downloads": 0,
        "size_bytes": 228588904, "description": "Trained on Krea2.",
    },
}  # fmt: skip
PAGES = {
    "models-list-2024-08-page": (3, "41291|348916|4468"),
    "models-list-2025-08-page": (10, "37169|338034|122359"),
    "models-list-single-page": (1, None),
}


def raw(name: str) -> bytes:
    return (FIXTURES / f"{name}.json").read_bytes()


def test_every_recorded_file_is_in_a_table_here() -> None:
    there = {path.stem for path in FIXTURES.glob("*.json")}
    assert there == {*MODELS, *PAGES, "image-2023-11-2805533", "model-version-2024-03-399893"}


@pytest.mark.parametrize("name", MODELS)
def test_a_recorded_model_parses_to_what_it_says(name: str) -> None:
    parsed = parse_model("civitai", raw(name))
    for field, value in MODELS[name].items():
        found = getattr(parsed, field)
        if field == "name" and isinstance(value, str) and name.endswith(("emoji-video",)):
            assert found.startswith("🐻 MoonToon")
        else:
            assert found == value, field
    document = json.loads(raw(name))
    assert len(parsed.versions) == len(document["modelVersions"])
    for version, source in zip(parsed.versions, document["modelVersions"], strict=True):
        assert version.hub_id == str(source["id"])
        assert version.published_ms
        assert [f.hub_id for f in version.files] == [str(f["id"]) for f in source["files"]]
        for file, origin in zip(version.files, source["files"], strict=True):
            assert file.size_bytes == round(origin["sizeKB"] * 1024)
            digest = origin["hashes"].get("SHA256")
            assert file.sha256 == (bytes.fromhex(digest) if digest else None)


@pytest.mark.parametrize("name", MODELS)
def test_the_forgiving_road_leads_to_the_same_model(name: str) -> None:
    document = json.loads(raw(name))
    document["minor"] = float("nan")  # makes the strict decoder refuse the whole document
    assert parse_civitai_model(json.dumps(document).encode()) == parse_civitai_model(raw(name))


@pytest.mark.parametrize("name", PAGES)
def test_a_recorded_page_is_read_item_by_item(name: str) -> None:
    count, cursor = PAGES[name]
    page = read_page(raw(name), newest=False)
    assert (len(page.items), page.next_cursor) == (count, cursor)
    for item in page.items:
        assert parse_civitai_model(item.raw).hub_id == item.hub_id


def test_a_recorded_version_tells_its_model() -> None:
    parsed = parse_civitai_version(raw("model-version-2024-03-399893"))
    assert (parsed.hub_id, parsed.type) == ("357756", "LORA")
    assert parsed.name.startswith("布川 ミク pony版")
    (version,) = parsed.versions
    assert (version.hub_id, version.base_model) == ("399893", "Pony")
    assert version.files[0].sha256 is not None


def test_a_recorded_image_parses() -> None:
    image = parse_civitai_image(raw("image-2023-11-2805533"))
    assert (image.hub_id, image.creator, image.nsfw_level) == ("2805533", "Merjic", 1)
    assert image.meta["Model"] == "majicmix7"


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("None", False), ("Image", True), ("Rent", True), ("Sell", True), ([], False),
        (["None"], False), (["Image", "RentCivit"], True), (["RentCivit"], False), ("{}", False),
        ("{Image,RentCivit}", True), ("{RentCivit}", False), ('{"Sell"}', True), (None, None),
        ("Perhaps", None), (["Perhaps"], None), ("", None), (7, None),
    ],
)  # fmt: skip
def test_commercial_use_is_understood_in_all_its_eras(value: object, allowed: bool | None) -> None:
    document = {"id": 1, "allowCommercialUse": value}
    assert parse_civitai_model(json.dumps(document).encode()).commercial is allowed


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[]", b"null", b"7", b"{}", b'{"id":0}', b'{"id":-4}', b'{"id":null}',
     b'{"id":"x"}', b'{"id":true}', b'{"id":1.5}', b'{"id":[1]}', b"\xff", b"[" * 100_000,
     b'{"id":99999999999999999999999}', b"<html>"],
)  # fmt: skip
def test_a_document_without_a_usable_id_is_odd(document: bytes) -> None:
    with pytest.raises(OddDocument):
        parse_civitai_model(document)


@pytest.mark.parametrize("value", ["7", 7.0, "  7 "])
def test_an_id_of_another_type_is_still_an_id(value: object) -> None:
    assert parse_civitai_model(json.dumps({"id": value}).encode()).hub_id == "7"


def test_what_no_row_can_hold_is_made_harmless() -> None:
    document = (
        b'{"id":7,"name":"a\\u0000b\\ud800c\\u202ed\\r\\n e ","tags":["x","x",null,5,{}],'
        b'"stats":{"downloadCount":1e999,"thumbsUpCount":99999999999999999999999999},'
        b'"creator":{"username":12345},"modelVersions":[{"id":1,"publishedAt":"0001-01-01T00:00Z",'
        b'"files":[{"id":2,"sizeKB":-4},{"id":2,"name":"file-2"},{"sizeKB":NaN,"primary":1}]},'
        b'{"id":1,"name":"again"},{"name":"no id"},"no version"]}'
    )
    parsed = parse_civitai_model(document)
    assert parsed.name == "ab\ufffdcd e"
    assert parsed.tags == ("x", "x", "5")
    assert (parsed.downloads, parsed.likes, parsed.creator) == (None, None, "12345")
    assert [v.hub_id for v in parsed.versions] == ["1", "~2"]
    first = parsed.versions[0]
    assert first.published_ms is None
    assert [(f.hub_id, f.name, f.size_bytes) for f in first.files] == [
        ("2", "file-2", None),
        ("", "file~2", None),
    ]
    msgspec.json.encode(parsed.name)


def test_enormous_fields_are_bounded() -> None:
    document = {
        "id": 7, "name": "n" * 10**6, "description": "<p>d</p>" * 10**5, "tags": ["t"] * 10**5,
        "modelVersions": [{"id": n, "trainedWords": ["w" * 3_000]} for n in range(1, 5_100)],
    }  # fmt: skip
    parsed = parse_civitai_model(json.dumps(document).encode())
    assert len(parsed.name) <= 1_000
    assert len(parsed.description) <= 64_000
    assert len(parsed.tags) <= 1_000
    assert len(parsed.versions) <= 5_000
    assert max(len(w) for v in parsed.versions for w in v.trained_words) <= 2_000


def _places(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [at] if at else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += _places(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:3]):
            found += _places(inner, (*at, index))
    return found


_STRANGE = [
    None, True, 0, -1, 2**70, 1.5, "", "text", "\ud800", [], {}, [None], [[[]]], {"a": {"b": 1}},
    ["x"] * 50, "9" * 400, float("nan"), float("inf"),
]  # fmt: skip
_SMALL = [name for name in MODELS if len((FIXTURES / f"{name}.json").read_bytes()) < 14_000]


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_any_one_field_removed_nulled_or_of_another_type_costs_no_model(
    data: st.DataObject,
) -> None:
    name = data.draw(st.sampled_from(_SMALL))
    document = json.loads(raw(name))
    place = data.draw(st.sampled_from(_places(document)))
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    remove = data.draw(st.booleans())
    if remove:
        del inner[place[-1]]
    else:
        inner[place[-1]] = data.draw(st.sampled_from(_STRANGE))
    changed = json.dumps(document).encode()
    if place == ("id",):
        return  # the one field a model can't do without
    before, parsed = parse_civitai_model(raw(name)), parse_civitai_model(changed)
    assert parsed.hub_id == before.hub_id
    _can_be_stored(parsed)
    if place[0] != "modelVersions":
        assert parsed.versions == before.versions
    if place[0] != "name":
        assert parsed.name == before.name
    if place[0] != "tags":
        assert parsed.tags == before.tags


def _can_be_stored(parsed: ParsedModel) -> None:
    """All text is UTF-8 and every number fits a row."""
    tree = msgspec.to_builtins(parsed)
    todo = [tree]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += list(value.values())
        elif isinstance(value, list | tuple):
            todo += list(value)
        elif isinstance(value, str):
            value.encode()
        elif isinstance(value, int):
            assert -(2**63) <= value < 2**63


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["id", "files", "modelVersions", "tags", "stats", "hashes", "name"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_the_forgiving_decoder_never_raises(value: object) -> None:
    lenient(value, WireModel)
    try:
        parsed = parse_civitai_model(json.dumps(value).encode())
    except OddDocument:
        return
    _can_be_stored(parsed)

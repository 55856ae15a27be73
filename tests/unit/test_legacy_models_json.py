"""A models.json is read field by field; only what is no list of models is refused as a whole."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.legacy.models_json import MAX_BYTES, BrokenFile, Entry, read_entries

WHOLE: dict[str, Any] = {
    "name": "SDXL",
    "description": "Stable Diffusion XL\nbase",
    "size": 6_938_078_334,
    "required_memory": 8,
    "source": "huggingface",
    "path": "/models/sd_xl_base_1.0.safetensors",
    "repo_id": "stabilityai/stable-diffusion-xl-base-1.0",
    "artifacts": ["sd_xl_base_1.0.safetensors", {"path": "vae/config.json"}],
    "created_at": "2023-07-26T12:00:00Z",
    "updated_at": 1_690_372_800,
    "tags": ["portraits", "favorite"],
}


def one(value: Any) -> Entry:
    [entry] = read_entries(json.dumps([value]).encode())
    return entry


def test_a_whole_entry_is_read_whole() -> None:
    entry = one(WHOLE)
    assert entry == Entry(
        position=0,
        raw=json.dumps(WHOLE),
        name="SDXL",
        description="Stable Diffusion XL\nbase",
        size_bytes=6_938_078_334,
        required_memory_bytes=8_000_000_000,
        source="huggingface",
        repo_id="stabilityai/stable-diffusion-xl-base-1.0",
        hub="huggingface",
        ref_id="stabilityai/stable-diffusion-xl-base-1.0",
        path="/models/sd_xl_base_1.0.safetensors",
        artifacts=("sd_xl_base_1.0.safetensors", "vae/config.json"),
        tags=("portraits", "favorite"),
        created_ms=1_690_372_800_000,
        updated_ms=1_690_372_800_000,
    )


@pytest.mark.parametrize(
    "document",
    [
        [{"name": "a"}, {"name": "b"}],
        {"models": [{"name": "a"}, {"name": "b"}], "version": 2},
        {"models": {"a": {}, "b": {"name": "b"}}},
        {"a": {}, "b": {}},
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_and_objects_in_any_unicode_are_lists(document: Any, encoding: str) -> None:
    entries = read_entries(json.dumps(document, ensure_ascii=False).encode(encoding))
    assert [entry.name for entry in entries] == ["a", "b"]
    assert [entry.position for entry in entries] == [0, 1]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[{]", "no JSON"),
        (b"{" * 100_000, "no JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "no JSON"),
        (b'"models"', "no list"),
        (b"3", "no list"),
        (b"null", "no list"),
        (b'{"models": 3, "x": 1}', "no list"),
        (b" " * (MAX_BYTES + 1), "larger than"),
        (b"[" + b"0," * 100_000 + b"0]", "100001 entries"),
    ],
)
def test_what_is_no_list_of_models_is_refused_with_the_reason(data: bytes, says: str) -> None:
    with pytest.raises(BrokenFile, match=says):
        read_entries(data)


@pytest.mark.parametrize(
    ("field", "value", "bytes_"),
    [
        ("size", 4.2, 4_200_000_000),
        ("size", 6_900, 6_900_000_000),
        ("size", 6_938_078_334, 6_938_078_334),
        ("size", "6.9 GB", 6_900_000_000),
        ("size", "2GiB", 2 << 30),
        ("size", "150MB", 150_000_000),
        ("size", "8", 8_000_000_000),
        ("size_bytes", 12, 12),
        ("required_memory", "16g", 16_000_000_000),
        ("required_memory", 0, 0),
        ("size", "large", None),
        ("size", -1, None),
        ("size", True, None),
        ("size", [], None),
        ("size", 1e400, None),
        ("size", 10**30, None),
    ],
)
def test_sizes_of_any_spelling(field: str, value: Any, bytes_: int | None) -> None:
    entry = one({field: value})
    found = entry.size_bytes if field.startswith("size") else entry.required_memory_bytes
    assert found == bytes_
    assert bool(entry.trouble) == (bytes_ is None)


@pytest.mark.parametrize(
    ("source", "repo_id", "hub", "ref_id"),
    [
        (None, "org/name", "huggingface", "org/name"),
        ("hf", "org/name", "huggingface", "org/name"),
        ("civitai", 1102, "civitai", "1102"),
        ("https://civitai.com/models/1102/x", None, "civitai", "1102"),
        ("https://huggingface.co/org/name/tree/main", None, "huggingface", "org/name"),
        ("civitai", "civitai:7", "civitai", "7"),
        ("local", None, None, None),
        (None, "1102", None, None),
        ("civitai", "org/name", None, None),
        ("/mnt/models", "../../etc", None, None),
        ("https://example.org/x", None, None, None),
    ],
)
def test_an_entry_names_a_model_where_it_does(
    source: str | None, repo_id: Any, hub: str | None, ref_id: str | None
) -> None:
    entry = one({"source": source, "repo_id": repo_id})
    assert (entry.hub, entry.ref_id) == (hub, ref_id)


@pytest.mark.parametrize("field", list(WHOLE))
@pytest.mark.parametrize(
    "odd", [None, 3, -1.5, True, "", "\ud800\0x", "x" * 100_000, [], [[]], {}, {"a": [1]}, 10**400]
)
def test_a_field_of_another_type_costs_that_field_alone(field: str, odd: Any) -> None:
    entry = one({**WHOLE, field: odd})
    others = one({key: value for key, value in WHOLE.items() if key != field})
    for name in ("name", "description", "size_bytes", "path", "tags", "artifacts", "created_ms"):
        if not name.startswith({"size": "size_", "created_at": "created"}.get(field, field)):
            assert getattr(entry, name) == getattr(others, name)
    texts = (entry.name, entry.description, entry.path, *entry.tags, *entry.artifacts)
    for text in filter(None, texts):
        text.encode()
        assert "\0" not in text
    assert json.loads(entry.raw).keys() == WHOLE.keys()


@pytest.mark.parametrize("value", [3, "a", None, [], True, [{"name": "a"}]])
def test_an_entry_that_is_no_object_is_kept_and_counted(value: Any) -> None:
    entry = one(value)
    assert json.loads(entry.raw) == value
    assert entry.trouble


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*WHOLE, "models", "x"]), inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(_JSON)
def test_any_json_is_entries_or_broken(document: Any) -> None:
    try:
        entries = read_entries(json.dumps(document).encode())
    except BrokenFile:
        return
    assert [entry.position for entry in entries] == list(range(len(entries)))
    for entry in entries:
        entry.raw.encode()

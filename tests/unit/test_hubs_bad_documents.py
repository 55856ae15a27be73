"""Bad input, all of it: every recorded document with each field spoiled, one at a time.

Removed, null, of another type, enormous: nothing stops, and nothing is lost. The model keeps its
key, every field that does not come from the spoiled one keeps its value, and the document is kept
as the hub wrote it. Every field is removed, nulled and given one other type; which one, and which
are made enormous, is drawn with a seed. By night all are tried everywhere.
"""

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelkeepd.hubs.civitai import read_page as read_civitai_page
from modelkeepd.hubs.civitai_documents import parse_civitai_image, parse_civitai_version
from modelkeepd.hubs.contract import (
    HubPage,
    ListItem,
    OddDocument,
    ParsedImage,
    ParsedModel,
    parse_model,
)
from modelkeepd.hubs.documents import DocumentCodec, document_hash
from modelkeepd.hubs.http import Answer
from modelkeepd.hubs.huggingface import read_page as read_huggingface_page
from modelkeepd.hubs.wire import load_json
from modelkeepd.sync.prepare import Known, prepare_page

FIXTURES = Path(__file__).parents[1] / "fixtures"
SEED = int(os.environ.get("BAD_INPUT_SEED", "7"))
Place = tuple[str | int, ...]
Parsed = ParsedModel | ParsedImage

CHANGED = {
    "a bool": b"true", "zero": b"0", "negative": b"-1", "a fraction": b"1.5",
    "no text": b'""', "a text": b'"text"', "half a character": b'"\\ud800"', "no list": b"[]",
    "no object": b"{}", "a list of null": b"[null]", "nested lists": b'[[["a"]]]',
    "an object": b'{"a":{"b":1}}', "no number": b"NaN", "infinite": b"-Infinity",
    "65 bits": b"18446744073709551616",
}  # fmt: skip
ENORMOUS = {
    "a long text": b'"' + b"x" * 10**6 + b'"',
    "a long list": b"[" + b"7," * 10**5 + b"7]",
    "a list of objects": b"[" + b'{"id":1,"name":"n"},' * 10**4 + b"{}]",
    "deep lists": b"[" * 10**5 + b"]" * 10**5,
    "deep objects": b'{"a":' * 10**5 + b"1" + b"}" * 10**5,
    "a huge number": b"9" * 10**5,
    "beyond floats": b"1e999999999",
}

# what may change when a field is spoiled; a field that is not here changes nothing
DERIVED: dict[str, dict[str, str]] = {
    "civitai": {
        "name": "name", "description": "description", "type": "type", "nsfwLevel": "nsfw_level",
        "allowCommercialUse": "commercial", "mode": "hub_state", "stats": "downloads likes",
        "creator": "creator", "tags": "tags", "baseModels": "base_models",
        "modelVersions": "versions base_models published_ms updated_ms size_bytes",
    },
    "huggingface": {
        "id": "ref_id name creator type", "modelId": "ref_id name creator type",
        "author": "creator", "sha": "versions", "createdAt": "published_ms updated_ms versions",
        "lastModified": "updated_ms versions", "disabled": "hub_state", "gated": "gated",
        "downloads": "downloads", "likes": "likes", "pipeline_tag": "tags type",
        "library_name": "tags type", "siblings": "versions size_bytes",
        "tags": "tags type base_models license commercial nsfw_level versions",
        "cardData": "license commercial base_models versions description",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A recorded document and the way it is read. ``key`` names its id."""

    name: str
    hub: str
    key: str
    parse: Callable[[bytes], Parsed]
    document: dict[str, Any]

    @property
    def raw(self) -> bytes:
        return json.dumps(self.document).encode()


def _sources() -> Iterator[Source]:
    def civitai(raw: bytes) -> ParsedModel:
        return parse_model("civitai", raw)

    def huggingface(raw: bytes) -> ParsedModel:
        return parse_model("huggingface", raw)

    for path in sorted((FIXTURES / "civitai").glob("*.json")):
        document = json.loads(path.read_bytes())
        if path.stem.startswith("image"):
            yield Source(path.stem, "civitai", "id", parse_civitai_image, document)
        elif path.stem.startswith("model-version"):
            yield Source(path.stem, "civitai", "modelId", parse_civitai_version, document)
        elif path.stem.startswith("models-list"):
            # of a page's rows the first; whole pages are read below
            yield Source(path.stem, "civitai", "id", civitai, document["items"][0])
        else:
            yield Source(path.stem, "civitai", "id", civitai, document)
    for path in sorted((FIXTURES / "huggingface").glob("*.json")):
        if not path.stem.endswith(".http") and not path.stem.startswith("error"):
            document = json.loads(path.read_bytes())
            yield Source(path.stem, "huggingface", "_id", huggingface, document)


SOURCES = list(_sources())
MODELS = [s for s in SOURCES if not s.name.startswith(("image", "model-version"))]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every field at any depth; of a list the first two elements, which have what others have."""
    if at:
        yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:2]):
            yield from places(inner, (*at, index))


def _holder(document: dict[str, Any], place: Place) -> Any:
    for key in place[:-1]:
        document = document[key]  # type: ignore[index]
    return document


def around(document: dict[str, Any], place: Place) -> tuple[bytes, bytes]:
    """What stands in the document before and after the value at this place."""
    holder, last = _holder(document, place), place[-1]
    old, holder[last] = holder[last], "\ue000"
    before, _, after = json.dumps(document).encode().partition(b'"\\ue000"')
    holder[last] = old
    return before, after


def without(document: dict[str, Any], place: Place) -> bytes:
    """The document with this field removed."""
    holder, last = _holder(document, place), place[-1]
    old = holder.pop(last)
    raw = json.dumps(document).encode()
    if isinstance(holder, list):
        holder.insert(int(last), old)
    else:
        holder[last] = old
    return raw


def judge(source: Source, place: Place, what: str, raw: bytes, sound: Parsed) -> None:
    """Read it; whatever is wrong with what comes of it is an assertion that says where."""
    where = f"{source.name} {place} {what}"
    try:
        found = source.parse(raw)
    except OddDocument as odd:
        if place != (source.key,):
            raise AssertionError(f"{where}: {odd.reason}") from odd
        return
    _can_be_stored(found, where)
    if place == (source.key,):
        return
    assert found.hub_id == sound.hub_id, where
    if not isinstance(found, ParsedModel) or source.key == "modelId":
        return
    allowed = DERIVED[source.hub].get(str(place[0]), "").split()
    if source.hub == "civitai" and place[0] == "modelVersions" and len(place) > 3:
        # one version's field: the others stay
        assert len(found.versions) == len(sound.versions), where  # type: ignore[union-attr]
    for field in ParsedModel.__struct_fields__:
        if field not in allowed:
            assert getattr(found, field) == getattr(sound, field), f"{where}: {field}"


def _can_be_stored(found: Parsed, where: str) -> None:
    """All text is UTF-8, every number fits a row, and nothing is boundless."""
    tree = msgspec.to_builtins(found if isinstance(found, ParsedModel) else _without_meta(found))
    todo: list[Any] = [tree]
    size = 0
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list | tuple):
            todo += value
        elif isinstance(value, str):
            size += len(value.encode())
        elif isinstance(value, int):
            assert -(2**63) <= value < 2**63, where
    assert size < 8 << 20, where


def _without_meta(image: ParsedImage) -> ParsedImage:
    return msgspec.structs.replace(image, meta={})


def spoil(source: Source, rng: random.Random, changes: int, enormous: float) -> None:
    """Every field removed, nulled, given so many other types, and made enormous now and then."""
    sound = source.parse(source.raw)
    for place in list(places(source.document)):
        judge(source, place, "removed", without(source.document, place), sound)
        before, after = around(source.document, place)
        judge(source, place, "null", before + b"null" + after, sound)
        for what in rng.sample(sorted(CHANGED), changes):
            judge(source, place, what, before + CHANGED[what] + after, sound)
        for what, value in ENORMOUS.items():
            if rng.random() < enormous:
                judge(source, place, what, before + value + after, sound)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_spoiled_field_costs_that_field_alone(source: Source) -> None:
    spoil(source, random.Random(f"{SEED} {source.name}"), changes=1, enormous=0.005)


@pytest.mark.nightly
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_field_spoiled_in_every_way_costs_that_field_alone(source: Source) -> None:
    spoil(source, random.Random(SEED), changes=len(CHANGED), enormous=1.0)


def _spoiled_pages(hub: str, rng: random.Random) -> Iterator[tuple[str, list[bytes]]]:
    """For each way to spoil, a page of all models of the hub, each spoiled at some place.

    Of the enormous ways one model is enough.
    """
    sources = list({s.document[s.key]: s for s in MODELS if s.hub == hub}.values())
    for what, value in {**CHANGED, **ENORMOUS}.items():
        rows = []
        one = rng.choice(sources)
        for source in sources:
            if what in ENORMOUS and source is not one:
                rows.append(source.raw)
                continue
            place = rng.choice([p for p in places(source.document) if p != (source.key,)])
            before, after = around(source.document, place)
            rows.append(before + value + after)
        yield what, rows


def _page(hub: str, rows: list[bytes]) -> HubPage:
    body = b"[" + b",".join(rows) + b"]"
    if hub == "civitai":
        return read_civitai_page(b'{"items":%s,"metadata":{}}' % body, newest=True)
    return read_huggingface_page(Answer(200, {}, body), "createdAt", set())


@pytest.mark.parametrize("hub", ["civitai", "huggingface"])
def test_a_page_of_spoiled_models_is_kept_whole_whatever_was_known_before(hub: str) -> None:
    rng, codec = random.Random(f"{SEED} {hub}"), DocumentCodec()
    sound = {
        s.parse(s.raw).hub_id: Known(
            document_hash(s.raw), 0, False, (codec.compress(s.raw, None), None)
        )
        for s in MODELS
        if s.hub == hub
    }  # fmt: skip
    for what, rows in _spoiled_pages(hub, rng):
        page = _page(hub, rows)
        assert [item.raw for item in page.items] == rows, what
        assert {item.hub_id for item in page.items} == set(sound), what
        for known in ({}, sound):
            made = prepare_page(
                hub, page.items, known, parse=lambda raw: parse_model(hub, raw), codec=codec
            )
            assert made.odd == (), what
            kept = {
                model.hub_id: codec.decompress(model.blob, model.dict_id)
                for model in made.models
                if model.parsed is not None
            }
            same = {model.hub_id for model in made.models if model.parsed is None}
            assert set(kept) | same == set(sound), what
            for item in page.items:
                if item.hub_id not in same:
                    assert kept[str(item.hub_id)] == item.raw, what


@pytest.mark.parametrize("hub", ["civitai", "huggingface"])
def test_a_model_that_lost_its_key_is_kept_as_an_odd_document(hub: str) -> None:
    codec = DocumentCodec()
    source = next(s for s in MODELS if s.hub == hub)
    before, after = around(source.document, (source.key,))
    values = [v for what, v in {**CHANGED, **ENORMOUS}.items() if what not in ("65 bits",)]
    rows = [before + value + after for value in values]
    rows.append(without(source.document, (source.key,)))
    page = _page(hub, [*rows, source.raw])
    made = prepare_page(hub, page.items, {}, parse=lambda raw: parse_model(hub, raw), codec=codec)
    assert [codec.decompress(odd.blob, None) for odd in made.odd] == rows
    assert len({odd.doc_hash for odd in made.odd}) == len(rows)
    assert all(odd.reason for odd in made.odd)
    assert [model.hub_id for model in made.models] == [page.items[-1].hub_id]


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (
            b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b',"b":[1,{"c":"]\\"["}]}',
            ["b", [1, {"c": ']"['}]],
        ),
        (b'{"a":' + b"9" * 10_000 + b',"b":-7}', ["b", -7]),
    ],
)  # fmt: skip
def test_what_is_too_deep_or_too_long_is_left_out_and_the_rest_is_read(
    raw: bytes, value: list[Any]
) -> None:
    assert load_json(raw)[value[0]] == value[1]


def test_items_keep_the_hubs_own_bytes_when_a_page_has_to_be_taken_apart() -> None:
    rows = [b'{ "id" : 5, "x": NaN }', b'{"id":6,"n":"\\ud800 ,]}\\""}', b'{"id":7,"e":[]}']
    body = b' {"metadata" : {"nextCursor": "1|2"} , "items": [ %s ] } ' % b" ,\n".join(rows)
    page = read_civitai_page(body, newest=True)
    assert page.items == tuple(ListItem(i, raw) for i, raw in zip("567", rows, strict=True))
    assert page.next_cursor == "1|2"

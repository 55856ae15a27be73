"""CivitAI's documents, all eras of them, read into the contract's shapes.

Owns what CivitAI's fields mean. Two roads lead to one result: a strict decode, which nearly every
document passes, and for the rest a field-by-field one that drops what does not fit. Raw bytes are
kept elsewhere, so what is dropped here is not lost.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from modelkeepd.hubs.civitai_wire import (
    WireFile,
    WireImage,
    WireModel,
    WireVersion,
    WireVersionDocument,
)
from modelkeepd.hubs.contract import (
    OddDocument,
    ParsedFile,
    ParsedImage,
    ParsedModel,
    ParsedVersion,
)
from modelkeepd.hubs.plain_text import plain_text
from modelkeepd.hubs.wire import (
    MAX_NAME,
    MAX_TAGS,
    count,
    lenient,
    load_json,
    sha256_of,
    text_of,
    texts_of,
    time_ms,
)

HUB = "civitai"
MAX_VERSIONS = 5_000
MAX_FILES = 2_000
MAX_WORDS = 2_000
MAX_WORD = 2_000
MAX_URL = 4_000

_STATES = {"Archived": "archived", "TakenDown": "taken_down"}
# selling pictures, or anything beyond it. RentCivit alone allows generation on their site only
_COMMERCIAL = frozenset({"Image", "Rent", "Sell"})
_USES = frozenset({"None", "Image", "RentCivit", "Rent", "Sell"})
_LEVEL_WORDS = {"None": 1, "Soft": 2, "Mature": 4, "X": 8, "XXX": 16, "Blocked": 32}

_model_decoder = msgspec.json.Decoder(WireModel)
_version_decoder = msgspec.json.Decoder(WireVersionDocument)


def parse_civitai_model(raw: bytes, *, texts: bool = True) -> ParsedModel:
    """A document of ``/models/{id}`` or one element of a list page, of any era.

    ``texts=False`` leaves the descriptions empty: sync stores none, and stripping their HTML is
    a third of the work. Raises OddDocument when there is no usable id.
    """
    try:
        wire = _model_decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        wire = lenient(load_json(raw), WireModel)
    return _model(wire, texts)


def parse_civitai_version(raw: bytes) -> ParsedModel:
    """A document of ``/model-versions/{id}``: its model with this one version.

    What the document does not tell about the model (tags, creator, licence) is empty.
    """
    try:
        wire = _version_decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        wire = lenient(load_json(raw), WireVersionDocument)
    hub_id = _id(wire.model_id)
    if hub_id is None:
        raise OddDocument("a version document without a usable model id", _id(wire.id))
    inner = wire.model
    model = WireModel(
        id=wire.model_id,
        name=inner.name if inner else None,
        type=inner.type if inner else None,
        mode=inner.mode if inner else None,
        model_versions=[wire],
    )
    return _model(model, texts=True)


def parse_civitai_image(raw: bytes) -> ParsedImage:
    """One element of ``/images``. Raises OddDocument when it has no usable id."""
    try:
        wire = msgspec.json.decode(raw, type=WireImage)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        wire = lenient(load_json(raw), WireImage)
    hub_id = _id(wire.id)
    if hub_id is None:
        raise OddDocument("an image without a usable id")
    level = wire.browsing_level
    if level is None:
        word = wire.nsfw_level
        level = word if isinstance(word, int) else _LEVEL_WORDS.get(str(word))
    return ParsedImage(
        hub_id=hub_id,
        url=text_of(wire.url, MAX_URL) or "",
        width=count(wire.width),
        height=count(wire.height),
        nsfw_level=count(level),
        created_ms=time_ms(wire.created_at),
        creator=text_of(wire.username, MAX_NAME),
        meta=wire.meta if isinstance(wire.meta, dict) else {},
    )


def document_id(raw: bytes) -> str | None:
    """A model document's id without parsing the rest, or None."""
    try:
        return _id(_id_decoder.decode(raw).id)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        try:
            document = load_json(raw)
        except OddDocument:
            return None
        return _id(document.get("id")) if isinstance(document, dict) else None


class _OnlyId(msgspec.Struct):
    id: Any = None


_id_decoder = msgspec.json.Decoder(_OnlyId)


def _model(wire: WireModel, texts: bool) -> ParsedModel:
    hub_id = _id(wire.id)
    if hub_id is None:
        raise OddDocument("no usable id")
    versions = _versions(wire.model_versions or (), texts)
    dates = [v.published_ms for v in versions if v.published_ms is not None]
    bases = dict.fromkeys(v.base_model for v in versions if v.base_model)
    if not bases and wire.base_models:
        bases = dict.fromkeys(filter(None, (text_of(b, MAX_NAME) for b in wire.base_models)))
    stats = wire.stats
    likes = None
    if stats is not None:
        likes = stats.thumbs_up_count if stats.thumbs_up_count is not None else stats.favorite_count
    creator = wire.creator.username if wire.creator is not None else None
    return ParsedModel(
        hub=HUB,
        hub_id=hub_id,
        ref_id=hub_id,
        name=text_of(wire.name, MAX_NAME) or f"civitai:{hub_id}",
        type=text_of(wire.type, MAX_NAME) or "Other",
        creator=text_of(creator, MAX_NAME),
        tags=tuple(texts_of(wire.tags, MAX_TAGS, MAX_NAME)),
        description=plain_text(wire.description) if texts and wire.description else "",
        nsfw_level=count(wire.nsfw_level),
        downloads=count(stats.download_count) if stats is not None else None,
        likes=count(likes),
        commercial=_commercial(wire.allow_commercial_use),
        hub_state=_STATES.get(wire.mode or "", "listed"),
        versions=versions,
        base_models=tuple(bases),
        published_ms=min(dates, default=None),
        updated_ms=max(dates, default=None),
        size_bytes=_primary_size(versions),
    )


def _versions(wires: Iterable[WireVersion], texts: bool) -> tuple[ParsedVersion, ...]:
    found: dict[str, ParsedVersion] = {}
    for position, wire in enumerate(wires):
        if position >= MAX_VERSIONS:
            break
        # the hub's id is what our rows are keyed on; one without any keeps its place as key
        hub_id = _id(wire.id) or f"~{position}"
        if hub_id in found:
            continue
        found[hub_id] = ParsedVersion(
            hub_id=hub_id,
            name=text_of(wire.name, MAX_NAME) or "",
            base_model=text_of(wire.base_model, MAX_NAME),
            position=position,
            published_ms=time_ms(wire.published_at) or time_ms(wire.created_at),
            availability=text_of(wire.availability, MAX_NAME),
            description=plain_text(wire.description) if texts and wire.description else "",
            trained_words=tuple(texts_of(wire.trained_words, MAX_WORDS, MAX_WORD)),
            files=_files(wire.files or ()),
            image_urls=tuple([i.url for i in wire.images if i.url]) if wire.images else (),
        )
    return tuple(found.values())


def _files(wires: Iterable[WireFile]) -> tuple[ParsedFile, ...]:
    found: dict[tuple[str, str], ParsedFile] = {}
    for position, wire in enumerate(wires):
        if position >= MAX_FILES:
            break
        hub_id = _id(wire.id) or ""
        name = text_of(wire.name, MAX_NAME) or (f"file-{hub_id}" if hub_id else f"file~{position}")
        if (hub_id, name) in found:
            continue
        metadata, hashes = wire.metadata, wire.hashes
        found[hub_id, name] = ParsedFile(
            hub_id=hub_id,
            name=name,
            kind=text_of(wire.type, MAX_NAME) or "Other",
            format=text_of(metadata.format, MAX_NAME) if metadata is not None else None,
            size_bytes=_size_bytes(wire.size_kb),
            sha256=sha256_of(hashes.sha256) if hashes is not None else None,
            is_primary=wire.primary is True,
            url=text_of(wire.download_url, MAX_URL),
        )
    return tuple(found.values())


def _primary_size(versions: tuple[ParsedVersion, ...]) -> int | None:
    if not versions or not versions[0].files:
        return None
    files = versions[0].files
    return next((f for f in files if f.is_primary), files[0]).size_bytes


def _commercial(value: list[str] | str | None) -> bool | None:
    if value is None:
        return None
    if isinstance(value, str):
        # one word until 2023, the text of a Postgres array from 2025-11 to 2026-08
        inner = value[1:-1] if value.startswith("{") and value.endswith("}") else value
        words = {word.strip(' "') for word in inner.split(",")} - {""}
        empty_means_none = value.startswith("{")
    else:
        words, empty_means_none = set(value), True
    if words & _COMMERCIAL:
        return True
    if words & _USES or (not words and empty_means_none):
        return False
    return None


def _id(value: object) -> str | None:
    """An id as text: a positive number, also one that came as text or as a whole float."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        value = value.strip()
        if not (value.isascii() and value.isdecimal() and len(value) <= 18):
            return None
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63:
        return str(value)
    return None


def _size_bytes(size_kb: float | None) -> int | None:
    if size_kb is None or not 0 <= size_kb < 2**43:
        return None
    return round(size_kb * 1024)

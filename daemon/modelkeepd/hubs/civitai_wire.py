"""The JSON of CivitAI's documents as msgspec structures, and a decoder that forgives.

Only the fields modelkeep reads are named; all others are skipped here and survive in the raw
bytes. Owns types and coercion, no meaning.
"""

import types
import typing
from typing import Any, TypeVar, get_args, get_origin

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


class WireStats(msgspec.Struct, rename="camel", gc=False):
    """Counters of a model; any of them may be null since 2026-07."""

    download_count: int | None = None
    thumbs_up_count: int | None = None
    favorite_count: int | None = None


class WireCreator(msgspec.Struct, gc=False):
    """Absent for the house account; ``username`` null for deleted users, once a number."""

    username: str | None = None


class WireFileMetadata(msgspec.Struct, gc=False):
    """``{}`` up to six keys; only the format matters to us."""

    format: str | None = None


class WireHashes(msgspec.Struct, gc=False):
    """Any subset; ``{}`` for minutes after an upload."""

    sha256: str | None = msgspec.field(name="SHA256", default=None)


class WireFile(msgspec.Struct, rename="camel"):
    """One file of a version."""

    id: int | None = None
    size_kb: float | None = msgspec.field(name="sizeKB", default=None)
    name: str | None = None
    type: str | None = None
    metadata: WireFileMetadata | None = None
    hashes: WireHashes | None = None
    download_url: str | None = None
    primary: bool | None = None


class WirePicture(msgspec.Struct, gc=False):
    """A preview picture of a version."""

    url: str | None = None


class WireVersion(msgspec.Struct, rename="camel"):
    """One element of ``modelVersions``; by-id documents drop every empty key."""

    id: int | None = None
    name: str | None = None
    base_model: str | None = None
    published_at: str | None = None
    created_at: str | None = None
    availability: str | None = None
    description: str | None = None
    trained_words: list[str] | None = None
    files: list[WireFile] | None = None
    images: list[WirePicture] | None = None


class WireModel(msgspec.Struct, rename="camel"):
    """A list item or a by-id document, 2022 to 2026."""

    id: int | None = None
    name: str | None = None
    description: str | None = None
    type: str | None = None
    allow_commercial_use: list[str] | str | None = None
    nsfw_level: int | None = None
    mode: str | None = None
    base_models: list[str] | None = None
    stats: WireStats | None = None
    creator: WireCreator | None = None
    tags: list[str] | None = None
    model_versions: list[WireVersion] | None = None


class WireVersionsModel(msgspec.Struct, gc=False):
    """What a version document tells about its model."""

    name: str | None = None
    type: str | None = None
    mode: str | None = None


class WireVersionDocument(WireVersion, rename="camel"):
    """``/model-versions/{id}``"""

    model_id: int | None = None
    model: WireVersionsModel | None = None


class WireImage(msgspec.Struct, rename="camel"):
    """One element of ``/images``: ``nsfwLevel`` is a word there and a number elsewhere."""

    id: int | None = None
    url: str | None = None
    width: int | None = None
    height: int | None = None
    nsfw_level: int | str | None = None
    browsing_level: int | None = None
    created_at: str | None = None
    username: str | None = None
    meta: Any = None


class WirePage(msgspec.Struct):
    """A list page; the items stay bytes."""

    items: list[msgspec.Raw]
    metadata: Any = None


def lenient(value: object, wanted: type[S]) -> S:
    """``value`` as ``wanted`` with every field that does not fit left at its default.

    Never raises: a value that is no object at all gives an empty structure.
    """
    made = wanted()
    if isinstance(value, dict):
        hints = _hints(wanted)
        for field in msgspec.structs.fields(wanted):
            found = value.get(field.encode_name)
            if found is not None:
                setattr(made, field.name, _coerce(found, hints[field.name]))
    return made


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(wanted: type) -> dict[str, Any]:
    found = _HINTS.get(wanted)
    if found is None:
        found = _HINTS[wanted] = typing.get_type_hints(wanted)
    return found


def _coerce(value: Any, hint: Any) -> Any:
    """``value`` as one of the hint's types, else None."""
    if hint is Any:
        return value
    for option in get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
        if option is type(None):
            continue
        found = _coerce_one(value, option)
        if found is not None:
            return found
    return None


def _coerce_one(value: Any, option: Any) -> Any:
    if get_origin(option) is list:
        if not isinstance(value, list):
            return None
        (inner,) = get_args(option)
        return [c for c in (_coerce_one(v, inner) for v in value) if c is not None]
    if isinstance(option, type) and issubclass(option, msgspec.Struct):
        return lenient(value, option) if isinstance(value, dict) else None
    if option is bool:
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if option is int:
        return _whole(value)
    if option is float:
        return _number(value)
    # a purely numeric user name came as a JSON number once
    if option is str and isinstance(value, (str, int, float)):
        text = value if isinstance(value, str) else repr(value)
        # pairs of surrogates become their character, a lone one the replacement character
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return None


def _whole(value: Any) -> int | None:
    number = _number(value)
    if number is None or not number.is_integer() or abs(number) >= 2**62:
        return None
    return value if isinstance(value, int) else int(number)


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, (int, float, str)) else None
    except (ValueError, OverflowError):
        return None
    # NaN and infinity compare unequal to every bound
    return number if number is not None and abs(number) < 2**80 else None

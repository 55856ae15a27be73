"""The hubs' own lists of values and endpoints: the cheapest look at what is new.

Pure. Owns which lists are asked for, how often, and how their answers are read; one request each.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from modelkeepd.hubs.huggingface import EXPANDED
from modelkeepd.kinds.seen import SeenKind

DAY_MS = 86_400_000
MAX_LISTS = 40
MAX_VALUES = 3_000
MAX_VALUE_CHARS = 200
ENDPOINTS = "endpoints"

# which of the hubs' lists name kinds that we have a table of
KINDS: Mapping[str, SeenKind] = {
    "ModelType": "type",
    "BaseModel": "base",
    "ActiveBaseModel": "base",
    "ModelFileType": "file_type",
}

Lists = dict[str, list[str]]


class ListSource(msgspec.Struct, frozen=True):
    """One request and how its answer is read. ``read`` raises ValueError of what is none."""

    hub: str
    name: str
    path: str
    read: Callable[[bytes], Lists]
    params: Sequence[tuple[str, str]] = ()
    every_ms: int = DAY_MS


def read_enums(body: bytes) -> Lists:
    """CivitAI's ``/enums``: names with arrays of words."""
    document = _object(body)
    found = {name: _words(values) for name, values in list(document.items())[:MAX_LISTS]}
    return _some({name: words for name, words in found.items() if words})


def read_tags(body: bytes) -> Lists:
    """Hugging Face's tags by type: arrays of objects with an id."""
    document = _object(body)
    found = {}
    for name, values in list(document.items())[:MAX_LISTS]:
        if isinstance(values, list):
            found[name] = _words([v.get("id") for v in values if isinstance(v, dict)])
    return _some({name: words for name, words in found.items() if words})


def read_endpoints(body: bytes) -> Lists:
    """The paths of an OpenAPI description; only those of the API about models."""
    paths = _object(body).get("paths")
    if not isinstance(paths, dict):
        raise ValueError("no description of endpoints")
    return _some({ENDPOINTS: _words([p for p in paths if p.startswith("/api/models")])})


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(f"no JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise ValueError("no object")
    return document


def _words(values: object) -> list[str]:
    if not isinstance(values, list):
        return []
    words = [v for v in values if isinstance(v, str) and 0 < len(v) <= MAX_VALUE_CHARS]
    return list(dict.fromkeys(words))[:MAX_VALUES]


def _some(lists: Lists) -> Lists:
    if not any(lists.values()):
        raise ValueError("an answer without any list of values")
    return lists


SOURCES: tuple[ListSource, ...] = (
    ListSource("civitai", "enums", "/api/v1/enums", read_enums),
    ListSource(
        "huggingface",
        "pipeline tags",
        "/api/models-tags-by-type",
        read_tags,
        (("type", "pipeline_tag"),),
    ),
    # far larger than the others, and it rarely changes
    ListSource(
        "huggingface",
        "description",
        "/.well-known/openapi.json",
        read_endpoints,
        every_ms=7 * DAY_MS,
    ),
)


class KnownModel(msgspec.Struct, frozen=True):
    """A model and a version of it that the catalog has, to look at an endpoint with."""

    hub_id: str
    ref_id: str
    version_id: str | None


def cheapest(
    hub: str, operation: str, model: KnownModel | None
) -> tuple[str, Sequence[tuple[str, str]]] | None:
    """Path and parameters of the smallest request that shows what an endpoint looks like now."""
    if hub == "civitai":
        if operation == "list":
            return "/api/v1/models", (("limit", "5"), ("sort", "Newest"), ("nsfw", "true"))
        if model is None:
            return None
        if operation == "ids":
            return "/api/v1/models", (("ids", model.hub_id), ("limit", "5"), ("nsfw", "true"))
        if operation == "version":
            version = model.version_id
            return None if version is None else (f"/api/v1/model-versions/{version}", ())
        return f"/api/v1/models/{model.hub_id}", ()
    if hub == "huggingface":
        # what is not asked for is left out there
        expand = tuple(("expand", name) for name in EXPANDED)
        if operation == "list":
            return "/api/models", (("limit", "5"), ("sort", "createdAt"), *expand)
        if model is not None:
            how = expand if operation == "model" else (("blobs", "true"),)
            return f"/api/models/{quote(model.ref_id, safe='/')}", how
    return None

"""A model as search sees it: the one shape that is indexed and that live filters look at.

Built from the store's row and the document's texts; knows neither SQL nor the index. The keys by
which fields are compared are made here alone, so that the index and the evaluator can't differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from modelkeepd.catalog.text import loose_key, squeeze, tag_key
from modelkeepd.kinds import canonical_base, canonical_topic, canonical_type, family_of, topics_of

KEYWORD_FIELDS = ("tag", "topic", "type", "base", "family", "creator", "hub", "state")
NUMBER_FIELDS = ("nsfw", "downloads", "likes", "published", "updated", "size")
FLAG_FIELDS = ("commercial", "owned", "supported")
# their words have synonyms
_OF_KINDS = ("topic", "type", "base", "family")

_HUB_ALIASES = {"hf": "huggingface"}


def nsfw_level(mask: int | None) -> int | None:
    """The highest level in a hub's set of levels (bits 1 2 4 8 16 32): 3 means up to 2."""
    if mask is None or mask <= 0:
        return None if mask is None else 0
    return 1 << (mask.bit_length() - 1)


@lru_cache(1_000)
def type_key(name: str) -> str:
    """How types are compared: ``Textual Inversion`` and ``embedding`` are TextualInversion."""
    return loose_key(canonical_type(name))


@lru_cache(10_000)
def base_key(name: str) -> str:
    """How base models are compared: ``sdxl_base_v1-0`` is SDXL 1.0."""
    return loose_key(canonical_base(name))


@lru_cache(100)
def hub_key(name: str) -> str:
    """How hubs are compared: ``hf`` is huggingface."""
    key = loose_key(name)
    return _HUB_ALIASES.get(key, key)


# tags recur from model to model
_tag_key = lru_cache(10_000)(tag_key)

_KEY_OF: dict[str, Callable[[str], str]] = {
    "tag": _tag_key,
    "topic": lambda name: loose_key(canonical_topic(name)),
    "type": type_key,
    "base": base_key,
    "family": lambda name: loose_key(family_of(name)),
    "creator": squeeze,
    "hub": hub_key,
    "state": loose_key,
}


def keyword_key(field: str, value: str) -> str:
    """The key under which ``value`` is found in a keyword field."""
    return _KEY_OF[field](value)


def keyword_beginning(field: str, value: str) -> str:
    """How the keys begin of what begins with ``value``: a beginning has no synonyms."""
    return loose_key(value) if field in _OF_KINDS else keyword_key(field, value)


@dataclass(frozen=True, slots=True)
class Projection:
    """What is searchable of a model. Missing numbers match no comparison."""

    model_key: int
    changed_seq: int
    hub: str
    name: str
    type: str
    creator: str | None = None
    tags: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()  # description, trigger words, names of versions and files
    nsfw: int | None = None  # the highest level, see nsfw_level()
    downloads: int | None = None
    likes: int | None = None
    published_ms: int | None = None
    updated_ms: int | None = None
    size_bytes: int | None = None
    commercial: bool | None = None
    owned: bool = False
    supported: bool = False
    state: str = "listed"

    def parts(self) -> tuple[str, ...]:
        """The texts a word is looked for in; a phrase never reaches over two of them."""
        creator = (self.creator,) if self.creator else ()
        return (self.name, *creator, *self.tags, *self.texts)

    def keys(self, field: str) -> tuple[str, ...]:
        """The keys of a keyword field."""
        if field == "tag":
            return tuple(_tag_key(tag) for tag in self.tags)
        if field == "topic":
            return tuple(map(loose_key, topics_of(self.tags)))
        if field == "base":
            return tuple(map(base_key, self.base_models))
        if field == "family":
            return tuple(dict.fromkeys(keyword_key(field, base) for base in self.base_models))
        if field == "creator":
            return (squeeze(self.creator),) if self.creator else ()
        value = {"type": self.type, "hub": self.hub, "state": self.state}[field]
        return (keyword_key(field, value),)

    def number(self, field: str) -> int | None:
        """The value of a number field."""
        match field:
            case "nsfw":
                return self.nsfw
            case "downloads":
                return self.downloads
            case "likes":
                return self.likes
            case "published":
                return self.published_ms
            case "updated":
                return self.updated_ms
            case "size":
                return self.size_bytes
        raise ValueError(f"{field!r} is no number field")

    def flag(self, field: str) -> bool | None:
        """The value of a flag field; None is unknown."""
        if field not in FLAG_FIELDS:
            raise ValueError(f"{field!r} is no flag field")
        return {
            "commercial": self.commercial,
            "owned": self.owned,
            "supported": self.supported,
        }[field]

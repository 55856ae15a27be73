"""Finding and showing models."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from modelkeep_protocol.schema.common import Count, Limit, RefText, ShortText


class Search(Struct, frozen=True):
    """A query in the language of docs/search.md, and which page of its answer."""

    query: Annotated[str, Meta(max_length=20_000)] = ""
    sort: ShortText = ""
    limit: Limit = 20
    offset: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    facets: bool = False


class SearchItem(Struct, frozen=True):
    """A model as a line of a list."""

    ref: str
    name: str
    hub: str
    type: str
    base_model: str | None
    creator: str | None
    tags: list[str]
    downloads: int | None
    nsfw_level: int | None
    owned: bool
    updated_ms: int | None
    size_bytes: int | None
    hub_state: str


class SearchPage(Struct, frozen=True, omit_defaults=True):
    """One page of an answer; ``total`` counts all of it."""

    total: int
    items: list[SearchItem]
    facets: dict[str, dict[str, int]] = {}


class Show(Struct, frozen=True):
    """Which model, version or file; ``raw`` adds the hub's own document."""

    ref: RefText
    raw: bool = False
    fresh: bool = False  # ask the hub now, however young the answer here is


class FileDetail(Struct, frozen=True):
    """One file of a version, and where it lies if it is owned."""

    ref: str
    name: str
    kind: str
    format: str | None
    size_bytes: int | None
    sha256: str | None
    primary: bool
    owned_path: str | None


class VersionDetail(Struct, frozen=True):
    """One version of a model."""

    ref: str
    name: str
    base_model: str | None
    published_ms: int | None
    availability: str | None
    trained_words: list[str]
    description: str
    files: list[FileDetail]


class ModelDetail(Struct, frozen=True, omit_defaults=True):
    """A model as the catalog has it; ``versions`` only the one asked for, when one was."""

    ref: str
    name: str
    hub: str
    type: str
    creator: str | None
    tags: list[str]
    base_models: list[str]
    description: str
    nsfw_level: int | None
    downloads: int | None
    likes: int | None
    commercial: bool | None
    hub_state: str
    owned: bool
    published_ms: int | None
    updated_ms: int | None
    fetched_ms: int
    url: str
    versions: list[VersionDetail]
    raw: Any = None
    revisions: int = 0
    license: str | None = None
    gated: str | None = None  # auto, manual: the content must be asked for on the hub
    revision: str | None = None  # the commit, on a hub that has commits
    gone_ms: int | None = None  # since when the hub denies it
    memory_gb: float | None = None  # what a well-known model needs, as people say
    age_s: float | None = None  # of the files' facts, where the hub was asked for them
    stale: bool = False  # they are older than they should be: the hub did not answer
    stale_why: str | None = None


class ShowHistory(Struct, frozen=True):
    """Which model's changes to list, the newest first."""

    ref: RefText
    limit: Limit = 50
    before_ms: Count | None = None  # the page before this time
    statistics: bool = False  # counters too


class HistoryChange(Struct, frozen=True):
    """One change: ``what`` was ``before`` and is ``after``."""

    at_ms: int  # when it was seen here: it happened after seen_ms
    kind: str  # license, words, file, version, statistics, state, name …
    what: str
    before: Any
    after: Any
    version: str | None  # the version's reference, where it is about one
    seen_ms: int | None = None  # when what was before was fetched


class Statistic(Struct, frozen=True):
    """A counter at both ends of what a page of changes was made of."""

    name: str
    before: int | None
    after: int | None
    since_ms: int
    until_ms: int


class History(Struct, frozen=True):
    """One page of changes. ``damaged``: what is older can't be read any more."""

    ref: str
    items: list[HistoryChange]
    more: bool  # there is a page behind this one, even if this one is empty
    damaged: bool
    next_before_ms: int | None = None  # asks for it
    name: str = ""
    statistics: list[Statistic] = []


class Complete(Struct, frozen=True):
    """What to complete, and what stands there already."""

    kind: ShortText  # tags, types, creators, bases, jobs, roots, refs
    prefix: ShortText = ""
    limit: Limit = 50


class Completions(Struct, frozen=True):
    """Values that begin with the prefix."""

    items: list[str]

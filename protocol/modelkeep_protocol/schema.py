"""Parameters and results of every method, as msgspec Structs, and the table that joins them.

Times are integer milliseconds since the epoch (``_ms``), sizes bytes, hashes lower-case hex.
Fields are only ever added, with defaults: unknown ones are ignored by old readers.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from modelkeep_protocol import methods

Count = Annotated[int, Meta(ge=0, le=2**53)]
Limit = Annotated[int, Meta(ge=0, le=1000)]
ShortText = Annotated[str, Meta(max_length=200)]
PathText = Annotated[str, Meta(max_length=4096)]
RefText = Annotated[str, Meta(max_length=4096)]
Ids = Annotated[list[Count], Meta(max_length=10_000)]


class Empty(Struct, frozen=True):
    """No parameters, or nothing to say."""


class Problem(Struct, frozen=True, omit_defaults=True):
    """An error of one thing among several: see ``errors``."""

    code: str
    message: str
    hint: str = ""
    ref: str = ""


# -- daemon -----------------------------------------------------------------------------------


class Pong(Struct, frozen=True):
    """The daemon's clock when it answered."""

    at_ms: int


class DaemonStatus(Struct, frozen=True):
    """The process itself."""

    version: str
    pid: int
    uptime_s: float
    started_ms: int
    epoch: str
    home: str
    protocol: str
    services: dict[str, str]  # name -> running, restarting …


class CatalogStatus(Struct, frozen=True):
    """What of the hubs is mirrored."""

    models: int
    versions: int
    files: int
    odd_documents: int
    indexed: bool  # search has caught up with the catalog


class QueueStatus(Struct, frozen=True):
    """Downloads, counted by what they do."""

    active: int
    waiting: int
    failed: int
    paused: int
    quarantined: int
    rate_bytes_per_s: float


class LibraryStatus(Struct, frozen=True):
    """Files on disk."""

    files: int
    size_bytes: int
    identified: int
    unhashed: int
    roots: int
    offline_roots: int


class SyncRun(Struct, frozen=True):
    """One crawl. ``state``: running, waiting, finished, failed, interrupted."""

    hub: str
    run_id: int
    kind: str  # full …
    state: str
    phase: str  # which pass it is in
    started_ms: int
    ended_ms: int | None
    pages: int
    requests: int
    models_seen: int
    models_new: int
    models_changed: int
    odd: int
    total_estimate: int | None
    eta_s: float | None
    error: str | None
    hint: str | None = None
    fraction: float | None = None  # of the whole run, where it can be told
    models_per_s: float | None = None
    waiting_s: float | None = None  # until the hub is asked again
    gaps: int = 0  # places where the hub's list could not be followed


class HubStatus(Struct, frozen=True):
    """One hub as it is used here."""

    name: str
    base_url: str
    has_token: bool
    last_sync_ms: int | None
    sync: SyncRun | None


class Status(Struct, frozen=True):
    """Everything at a glance. ``warnings`` are for a person: unknown settings and the like."""

    daemon: DaemonStatus
    catalog: CatalogStatus
    queue: QueueStatus
    library: LibraryStatus
    hubs: list[HubStatus]
    warnings: list[str]


# -- sync -------------------------------------------------------------------------------------


class SyncStart(Struct, frozen=True):
    """Which hub to sync, and how."""

    hub: ShortText = ""  # empty: all
    full: bool = False


class SyncRuns(Struct, frozen=True):
    """One run for each hub asked for."""

    runs: list[SyncRun]


# -- catalog ----------------------------------------------------------------------------------


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


class Complete(Struct, frozen=True):
    """What to complete, and what stands there already."""

    kind: ShortText  # tags, types, creators, bases, jobs, roots, refs
    prefix: ShortText = ""
    limit: Limit = 50


class Completions(Struct, frozen=True):
    """Values that begin with the prefix."""

    items: list[str]


# -- transfer ---------------------------------------------------------------------------------


class Get(Struct, frozen=True):
    """What to download."""

    refs: Annotated[list[RefText], Meta(min_length=1, max_length=10_000)]
    file: ShortText = ""  # pattern of file names; empty: the primary file
    to: PathText = ""  # folder; empty: by layout and type
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    dry_run: bool = False


class Job(Struct, frozen=True):
    """One file's way into the library. ``id`` is 0 for a file that is owned already."""

    id: int
    ref: str
    name: str
    state: str
    size_bytes: int | None
    done_bytes: int
    rate_bytes_per_s: float
    eta_s: float | None
    priority: int
    attempts: int
    path: str | None
    sha256: str | None
    verdict: str | None
    warning: str | None
    error: Problem | None
    created_ms: int
    updated_ms: int


class GetResult(Struct, frozen=True):
    """A job for each file, an error for each reference that has none."""

    jobs: list[Job]
    errors: list[Problem]
    total_bytes: int


class ListJobs(Struct, frozen=True):
    """Which jobs to list; empty lists stand for all."""

    ids: Ids = []
    states: Annotated[list[ShortText], Meta(max_length=20)] = []
    limit: Limit = 100
    after_id: Count = 0  # the page after this job, in queue order


class Jobs(Struct, frozen=True):
    """Jobs in queue order; ``total`` counts those of other pages too."""

    jobs: list[Job]
    total: int = 0


class PickJobs(Struct, frozen=True):
    """Which jobs a command is for: by id, or all it makes sense for."""

    ids: Ids = []
    all: bool = False


class MoveJobs(Struct, frozen=True):
    """Jobs and the priority they get; higher goes first."""

    ids: Ids
    priority: Annotated[int, Meta(ge=-100, le=100)]


# -- library ----------------------------------------------------------------------------------


class ListFiles(Struct, frozen=True):
    """Which files to list; empty texts stand for all."""

    text: ShortText = ""  # part of the path
    state: ShortText = ""
    root: PathText = ""
    limit: Limit = 100
    after: PathText = ""  # the page after this path


class LibraryFile(Struct, frozen=True):
    """A file on disk and what is known of it."""

    path: str
    size_bytes: int
    sha256: str | None
    ref: str | None
    name: str | None
    state: str
    verdict: str | None
    mtime_ms: int


class LibraryFiles(Struct, frozen=True):
    """One page of files."""

    items: list[LibraryFile]
    total: int


class Root(Struct, frozen=True):
    """One watched folder."""

    path: str
    layout: str
    state: str
    files: int
    size_bytes: int
    watching: str  # events, polling, off
    warning: str | None


class Roots(Struct, frozen=True):
    """All watched folders."""

    items: list[Root]


class AddRoot(Struct, frozen=True):
    """A folder to watch."""

    path: PathText
    layout: ShortText = "auto"


class PickRoot(Struct, frozen=True):
    """One watched folder, or all."""

    path: PathText = ""  # empty: all


class ScanCounts(Struct, frozen=True):
    """What one walk found, against what was known."""

    path: str
    seen: int
    new: int
    changed: int
    moved: int
    gone: int
    skipped: dict[str, int]


class ScanResult(Struct, frozen=True):
    """One walk for each folder."""

    items: list[ScanCounts]


# -- events -----------------------------------------------------------------------------------


class ReadEvents(Struct, frozen=True):
    """Where to read on in the event log."""

    since: ShortText = ""  # a cursor; empty: from now on
    topics: Annotated[list[ShortText], Meta(max_length=20)] = []
    limit: Limit = 100
    wait_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0  # wait this long for the first one


class WatchEvents(Struct, frozen=True):
    """Where to follow the event log from."""

    since: ShortText = ""
    topics: Annotated[list[ShortText], Meta(max_length=20)] = []


class Event(Struct, frozen=True):
    """One fact. Which kinds there are stands in ``events``."""

    cursor: str
    at_ms: int
    topic: str
    kind: str
    subject: str
    payload: dict[str, Any]


class EventPage(Struct, frozen=True):
    """``fresh``: events were missed for good; fetch anew what you show."""

    events: list[Event]
    cursor: str
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the method table. A stream's result is the type of its items."""

    name: str
    params: type[Struct]
    result: type[Struct]
    doc: str
    stream: bool = False
    changes_state: bool = False
    since: str = "1.0"


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(methods.DAEMON_PING, Empty, Pong, "Is it there?"),
        Method(methods.DAEMON_STATUS, Empty, Status, "Everything at a glance."),
        Method(methods.DAEMON_STOP, Empty, Empty, "Stop cleanly.", changes_state=True),
        Method(
            methods.SYNC_START,
            SyncStart,
            SyncRuns,
            "Begin a sync, or show the one under way.",
            changes_state=True,
        ),
        Method(methods.SYNC_STATUS, Empty, SyncRuns, "The last or current run of each hub."),
        Method(methods.CATALOG_SEARCH, Search, SearchPage, "Find models; see docs/search.md."),
        Method(methods.CATALOG_SHOW, Show, ModelDetail, "One model by reference."),
        Method(methods.CATALOG_COMPLETE, Complete, Completions, "Values for completion."),
        Method(
            methods.TRANSFER_GET,
            Get,
            GetResult,
            "Queue files for download; owned ones are answered as done.",
            changes_state=True,
        ),
        Method(methods.TRANSFER_LIST, ListJobs, Jobs, "Jobs with their progress."),
        Method(methods.TRANSFER_PAUSE, PickJobs, Jobs, "Pause jobs.", changes_state=True),
        Method(methods.TRANSFER_RESUME, PickJobs, Jobs, "Resume jobs.", changes_state=True),
        Method(methods.TRANSFER_CANCEL, PickJobs, Jobs, "Cancel jobs.", changes_state=True),
        Method(methods.TRANSFER_RETRY, PickJobs, Jobs, "Try again.", changes_state=True),
        Method(methods.TRANSFER_MOVE, MoveJobs, Jobs, "Set the priority.", changes_state=True),
        Method(methods.LIBRARY_LIST, ListFiles, LibraryFiles, "Files on disk."),
        Method(methods.LIBRARY_ROOTS, Empty, Roots, "Watched folders."),
        Method(methods.LIBRARY_ADD, AddRoot, Roots, "Watch a folder.", changes_state=True),
        Method(methods.LIBRARY_REMOVE, PickRoot, Roots, "Stop watching.", changes_state=True),
        Method(methods.LIBRARY_SCAN, PickRoot, ScanResult, "Walk the folders now."),
        Method(methods.EVENTS_READ, ReadEvents, EventPage, "Events after a cursor."),
        Method(
            methods.EVENTS_WATCH,
            WatchEvents,
            EventPage,
            "Follow events; needs credit.",
            stream=True,
        ),
    )
}


def decode_params(method: Method, params: dict[str, Any]) -> Struct:
    """Typed parameters from a decoded map. Raises msgspec.ValidationError with the place."""
    return msgspec.convert(params, method.params)

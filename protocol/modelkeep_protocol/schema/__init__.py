"""Parameters and results of every method, as msgspec Structs, and the table that joins them.

Times are integer milliseconds since the epoch (``_ms``), sizes bytes, hashes lower-case hex.
Fields are only ever added, with defaults: unknown ones are ignored by old readers.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from modelkeep_protocol import methods
from modelkeep_protocol.schema.api import (
    ApiChange,
    ApiChanges,
    ApiEndpoint,
    ApiEndpoints,
    DiffApi,
    ListApiChanges,
    PickApi,
)
from modelkeep_protocol.schema.catalog import (
    Complete,
    Completions,
    FileDetail,
    History,
    HistoryChange,
    ModelDetail,
    Search,
    SearchItem,
    SearchPage,
    Show,
    ShowHistory,
    Statistic,
    VersionDetail,
)
from modelkeep_protocol.schema.common import Empty, Problem
from modelkeep_protocol.schema.daemon import (
    CatalogStatus,
    DaemonStatus,
    HubStatus,
    LibraryStatus,
    Pong,
    QueueStatus,
    Status,
)
from modelkeep_protocol.schema.events import Event, EventPage, ReadEvents, WatchEvents
from modelkeep_protocol.schema.kinds import (
    ConfirmKind,
    Kind,
    KindGuess,
    KindGuesses,
    Kinds,
    ListKinds,
    PickFile,
)
from modelkeep_protocol.schema.library import (
    AddRoot,
    LibraryFile,
    LibraryFiles,
    ListFiles,
    PickRoot,
    Root,
    Roots,
    ScanCounts,
    ScanResult,
)
from modelkeep_protocol.schema.snapshot import ExportCatalog, ImportCatalog, SnapshotTask
from modelkeep_protocol.schema.sync import (
    Breaker,
    BreakerChange,
    Coverage,
    Requests,
    SyncRun,
    SyncRuns,
    SyncStart,
)
from modelkeep_protocol.schema.transfer import (
    Get,
    GetResult,
    Job,
    Jobs,
    LeftOut,
    ListJobs,
    MoveJobs,
    PickJobs,
)

__all__ = [
    "METHODS",
    "AddRoot",
    "ApiChange",
    "ApiChanges",
    "ApiEndpoint",
    "ApiEndpoints",
    "Breaker",
    "BreakerChange",
    "CatalogStatus",
    "Complete",
    "Completions",
    "ConfirmKind",
    "Coverage",
    "DaemonStatus",
    "DiffApi",
    "Empty",
    "Event",
    "EventPage",
    "ExportCatalog",
    "FileDetail",
    "Get",
    "GetResult",
    "History",
    "HistoryChange",
    "HubStatus",
    "ImportCatalog",
    "Job",
    "Jobs",
    "Kind",
    "KindGuess",
    "KindGuesses",
    "Kinds",
    "LeftOut",
    "LibraryFile",
    "LibraryFiles",
    "LibraryStatus",
    "ListApiChanges",
    "ListFiles",
    "ListJobs",
    "ListKinds",
    "Method",
    "ModelDetail",
    "MoveJobs",
    "PickApi",
    "PickFile",
    "PickJobs",
    "PickRoot",
    "Pong",
    "Problem",
    "QueueStatus",
    "ReadEvents",
    "Requests",
    "Root",
    "Roots",
    "ScanCounts",
    "ScanResult",
    "Search",
    "SearchItem",
    "SearchPage",
    "Show",
    "ShowHistory",
    "SnapshotTask",
    "Statistic",
    "Status",
    "SyncRun",
    "SyncRuns",
    "SyncStart",
    "VersionDetail",
    "WatchEvents",
    "decode_params",
]


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
        Method(methods.CATALOG_HISTORY, ShowHistory, History, "How a model changed."),
        Method(methods.API_CHANGES, ListApiChanges, ApiChanges, "How the hubs' APIs changed."),
        Method(methods.API_ENDPOINTS, Empty, ApiEndpoints, "What is known of the hubs' APIs."),
        Method(methods.API_DIFF, DiffApi, ApiChanges, "Two versions of an endpoint's answers."),
        Method(
            methods.API_ACCEPT,
            PickApi,
            ApiChange,
            "A person has seen a change.",
            changes_state=True,
        ),
        Method(
            methods.API_RESUME,
            PickApi,
            ApiEndpoints,
            "Ask a paused endpoint again.",
            changes_state=True,
        ),
        Method(methods.KINDS_LIST, ListKinds, Kinds, "Known types and base models."),
        Method(methods.KINDS_GUESS, PickFile, KindGuesses, "What a file without a type may be."),
        Method(
            methods.KINDS_CONFIRM,
            ConfirmKind,
            KindGuesses,
            "What a file really is.",
            changes_state=True,
        ),
        Method(
            methods.SNAPSHOT_EXPORT,
            ExportCatalog,
            SnapshotTask,
            "Begin to write the catalog to a file.",
            changes_state=True,
        ),
        Method(
            methods.SNAPSHOT_IMPORT,
            ImportCatalog,
            SnapshotTask,
            "Begin to merge a file into the catalog.",
            changes_state=True,
        ),
        Method(methods.SNAPSHOT_STATUS, Empty, SnapshotTask, "The export or import, or the last."),
        Method(
            methods.SNAPSHOT_CANCEL,
            Empty,
            SnapshotTask,
            "End an export or import.",
            changes_state=True,
        ),
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

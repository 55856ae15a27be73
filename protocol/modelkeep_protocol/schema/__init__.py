"""Parameters and results of every method, as msgspec Structs, and the table that joins them.

Times are integer milliseconds since the epoch (``_ms``), sizes bytes, hashes lower-case hex.
Fields are only ever added, with defaults: unknown ones are ignored by old readers.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from modelkeep_protocol import methods
from modelkeep_protocol.schema.catalog import (
    Complete,
    Completions,
    FileDetail,
    ModelDetail,
    Search,
    SearchItem,
    SearchPage,
    Show,
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
from modelkeep_protocol.schema.sync import SyncRun, SyncRuns, SyncStart
from modelkeep_protocol.schema.transfer import (
    Get,
    GetResult,
    Job,
    Jobs,
    ListJobs,
    MoveJobs,
    PickJobs,
)

__all__ = [
    "METHODS",
    "AddRoot",
    "CatalogStatus",
    "Complete",
    "Completions",
    "DaemonStatus",
    "Empty",
    "Event",
    "EventPage",
    "FileDetail",
    "Get",
    "GetResult",
    "HubStatus",
    "Job",
    "Jobs",
    "LibraryFile",
    "LibraryFiles",
    "LibraryStatus",
    "ListFiles",
    "ListJobs",
    "Method",
    "ModelDetail",
    "MoveJobs",
    "PickJobs",
    "PickRoot",
    "Pong",
    "Problem",
    "QueueStatus",
    "ReadEvents",
    "Root",
    "Roots",
    "ScanCounts",
    "ScanResult",
    "Search",
    "SearchItem",
    "SearchPage",
    "Show",
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

"""Crawls of the hubs."""

from msgspec import Struct

from modelkeep_protocol.schema.common import ShortText


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


class SyncStart(Struct, frozen=True):
    """Which hub to sync, and how."""

    hub: ShortText = ""  # empty: all
    full: bool = False


class SyncRuns(Struct, frozen=True):
    """One run for each hub asked for."""

    runs: list[SyncRun]

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


class Requests(Struct, frozen=True):
    """How a hub is asked, and what it would not mind yet."""

    per_s: float  # the pace now
    left: int | None  # in the hub's own window, where it tells
    resets_s: float | None  # until that window ends
    background_left: int | None  # of today's budget for background work
    sent_today: int
    sent: int
    saved_today: int  # answered from here instead
    saved: int


class Breaker(Struct, frozen=True):
    """An operation that a hub is not asked for now, or only tried."""

    operation: str
    state: str  # open, half_open, paused
    reason: str
    until_ms: int | None


class BreakerChange(Struct, frozen=True):
    """What happened to an operation of a hub, and when."""

    operation: str
    state: str
    reason: str
    at_ms: int


class Coverage(Struct, frozen=True):
    """How true the mirror of a hub is."""

    models: int
    gone: int  # that the hub denies by now
    suspects: int  # that it did not show lately; being looked at
    oldest_seen_ms: int | None  # the model that was looked at the longest ago
    details: int  # models whose files are known in full, where lists leave them out


class SyncStart(Struct, frozen=True):
    """Which hub to sync, and how."""

    hub: ShortText = ""  # empty: all
    full: bool = False


class SyncRuns(Struct, frozen=True):
    """One run for each hub asked for."""

    runs: list[SyncRun]

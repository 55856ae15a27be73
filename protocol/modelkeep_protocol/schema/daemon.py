"""The process, and everything at a glance."""

from msgspec import Struct

from modelkeep_protocol.schema.sync import Breaker, BreakerChange, Coverage, Requests, SyncRun


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


class HubStatus(Struct, frozen=True):
    """One hub as it is used here."""

    name: str
    base_url: str
    has_token: bool
    last_sync_ms: int | None
    sync: SyncRun | None
    next_sync_ms: int | None = None
    is_quiet: bool = False  # it is in its quiet hours
    requests: Requests | None = None
    breakers: list[Breaker] = []
    breaker_history: list[BreakerChange] = []  # the last ones, the oldest first
    coverage: Coverage | None = None


class Status(Struct, frozen=True):
    """Everything at a glance. ``warnings`` are for a person: unknown settings and the like."""

    daemon: DaemonStatus
    catalog: CatalogStatus
    queue: QueueStatus
    library: LibraryStatus
    hubs: list[HubStatus]
    warnings: list[str]

"""What the transfer domain is handed from outside: settings and the functions of its neighbors."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import apsw
import trio

from modelkeepd.library.records import PlacedFile
from modelkeepd.scan.verdicts import Report
from modelkeepd.secrets import Secret
from modelkeepd.store import Tx
from modelkeepd.transfer.contract import USER_AGENT
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.origin import Header
from modelkeepd.transfer.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """Where a job's bytes are asked for. ``token`` goes to the origin of ``home`` alone."""

    url: str
    home: str  # the hub's base URL
    token: Secret | None = None
    headers: tuple[Header, ...] = ()
    size_bytes: int | None = None
    size_tolerance_bytes: int = 0
    sha256: bytes | None = None
    git_sha1: bytes | None = None
    revision: str | None = None  # what the address asks for, where a hub has commits
    user_agent: str = USER_AGENT
    fallback_url: str | None = None  # tried when ``url`` answers 404

    @property
    def all_headers(self) -> tuple[Header, ...]:
        if self.token is None:
            return self.headers
        return (*self.headers, ("Authorization", Secret(f"Bearer {self.token.reveal()}")))


async def _no_turn(_hub: str) -> None:
    await trio.lowlevel.checkpoint()


async def _nothing_newer(_job: Job) -> None:
    await trio.lowlevel.checkpoint()


def _not_heard(_hub: str, _status: int, _headers: Mapping[str, str]) -> None:
    pass


def _no_roots(_db: apsw.Connection) -> Sequence[str]:
    return ()


def _unknown(_db: apsw.Connection, _path: str) -> bytes | None:
    return None


@dataclass(frozen=True, slots=True)
class Ports:
    """The neighbors' functions. Those that ask a hub raise HubError."""

    resolve: Callable[[Job], Awaitable[SourcePlan]]  # a promise the job has wins over the catalog's
    scan: Callable[[int, str], Report]  # descriptor, name; blocks; never raises
    expect: Callable[[Tx, str], None]
    adopt: Callable[[Tx, PlacedFile], int]
    owned_path: Callable[[apsw.Connection, bytes], str | None]
    folder_for: Callable[[str, str, str, str | None], PurePosixPath]
    detect_layout: Callable[[list[str]], str]
    refresh: Callable[[Job], Awaitable[None]] = _nothing_newer  # the catalog's facts of its model
    turn: Callable[[str], Awaitable[None]] = _no_turn  # before the hub of that name is asked
    heard: Callable[[str, int, Mapping[str, str]], None] = _not_heard  # and what came of it
    roots: Callable[[apsw.Connection], Sequence[str]] = _no_roots  # where links may lead
    content_at: Callable[[apsw.Connection, str], bytes | None] = _unknown  # sha256 of what is there


@dataclass(frozen=True, slots=True)
class TransferSettings:
    root: Path | None  # where new files go; None: nothing is configured
    layout: str = "auto"
    parallel_files: int = 3
    reserve_bytes: int = 512 << 20
    review: str = "quarantine"  # or "place": what cannot be proven safe is placed with a warning
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    poll_s: float = 5.0  # how often a full or missing volume is looked at again
    checkpoint_s: float = 5.0  # how often bytes on their way are made durable

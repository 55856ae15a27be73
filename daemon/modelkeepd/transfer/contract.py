"""The contract of the byte engine.

``Fetcher.fetch`` gets one span of one remote file into a sink: it follows redirects under
``origin``'s policy, judges the answer by ``response`` before one byte is written, and returns or
raises one typed error. It makes a single attempt; trying again is the caller's business. Several
spans of one file may be fetched at once into the same sink, and a span's end may be moved down
while it is being fetched. Cancellation ends the connection within milliseconds; when ``fetch``
has returned or raised, the sink is not touched any more.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import trio

from modelkeepd.transfer.linked import Linked
from modelkeepd.transfer.origin import Header
from modelkeepd.transfer.response import Accepted, Validator

USER_AGENT = "modelkeep/1"  # no browser's word in it: a hub answers browsers with login pages


@dataclass(slots=True, eq=False)
class Span:
    """The bytes wanted: ``end`` (exclusive, None for the file's end) may be lowered at any time."""

    start: int = 0
    end: int | None = None


class Sink(Protocol):
    """Where bytes go. Both are called outside trio's thread, one at a time."""

    def begin(self, accepted: Accepted) -> None:
        """Once an answer, before its first byte. ``restarted``: forget what was held; else what
        comes continues it. Raises to refuse the bytes (no room for ``total``)."""

    def write(self, position: int, data: memoryview) -> None:
        """Store all of ``data`` at ``position``; raises OSError or TransferError."""


@dataclass(slots=True, eq=False)
class Progress:
    """Plain counters the engine moves and anybody may read."""

    received_bytes: int = 0
    position: int = 0


async def _no_turn() -> None:
    await trio.lowlevel.checkpoint()


def _not_heard(_status: int, _headers: Mapping[str, str]) -> None:
    pass


async def _not_linked(_linked: Linked) -> None:
    await trio.lowlevel.checkpoint()


@dataclass(frozen=True, slots=True)
class Manners:
    """How the hub's own origin is asked; the storage hosts behind it are none of this."""

    turn: Callable[[], Awaitable[None]] = _no_turn
    """Waited for before the first request of an attempt."""
    heard: Callable[[int, Mapping[str, str]], None] = _not_heard
    """What came of that turn, once: status and headers, or 0 when no answer came."""
    linked: Callable[[Linked], Awaitable[None]] = _not_linked
    """What a redirect of its own says of the content; raises to have nothing fetched."""


@dataclass(frozen=True, slots=True)
class FetchRequest:
    url: str
    home: str  # the hub's base URL: headers go to its origin only, and never after leaving it
    headers: tuple[Header, ...] = ()
    span: Span = field(default_factory=Span)
    file_name: str = ""
    expected_bytes: int | None = None
    tolerance_bytes: int = 0
    validator: Validator | None = None  # of the bytes already held
    user_agent: str = USER_AGENT
    insist_on_range: bool = False  # a whole body in answer to a range is an error, not a restart
    sha256: bytes | None = None  # what the content is promised to be
    git_sha1: bytes | None = None
    manners: Manners = Manners()

    @property
    def hash_known(self) -> bool:
        """A blend would be found out: another host may continue the file."""
        return self.sha256 is not None or self.git_sha1 is not None


@dataclass(frozen=True, slots=True)
class FetchResult:
    start: int  # 0 when the server sent the whole file in answer to a range
    end: int
    total_bytes: int | None
    validator: Validator
    certain_end: bool  # False: the connection closed and nothing told that this was the end
    hops: tuple[str, ...]  # without queries
    http_version: str
    linked: Linked | None = None  # what the hub itself said of the content


class Fetcher(Protocol):
    async def fetch(self, request: FetchRequest, sink: Sink, progress: Progress) -> FetchResult: ...

"""The byte engine's contract, carried out by libcurl.

Owns the hops of one attempt: each is an order to the engine, whose answer is judged before its
first byte is written. Headers go to the hub's own origin alone; what that origin says of the
content is compared with the promise before another host is asked for it.
"""

import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import certifi
import pycurl
import trio

from modelkeepd.secrets import Secret
from modelkeepd.transfer.contract import (
    FetchRequest,
    FetchResult,
    Manners,
    Progress,
    Sink,
)
from modelkeepd.transfer.engine import Engine
from modelkeepd.transfer.errors import (
    NetworkLost,
    Stalled,
    TlsRefused,
    TransferError,
    WrongSize,
    disk_error,
    quoted,
)
from modelkeepd.transfer.linked import Linked, check_promise, linked_of
from modelkeepd.transfer.order import Ending, Order
from modelkeepd.transfer.origin import (
    Header,
    Url,
    checked_addresses,
    classes_of_home,
    literal_address,
    next_hop,
    parse_url,
    proxy_for,
    travelling_headers,
)
from modelkeepd.transfer.refusals import refusal
from modelkeepd.transfer.response import (
    REDIRECTS,
    Accepted,
    Asked,
    Head,
    judge,
    refuse_page_body,
)

_LEFT = 499  # we went away before an answer came: nobody's fault
_TLS_CODES = frozenset([35, 53, 54, 58, 59, 60, 66, 77, 80, 82, 83, 90, 91, 98])

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class FetchLimits:
    connect_timeout_s: float = 20.0
    low_speed_bytes_per_s: int = 1024
    low_speed_s: int = 30
    resolve_timeout_s: float = 20.0


class _Turn:
    """A turn at the hub's own origin; what came of it is told once, as soon as it is known."""

    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self._is_owed = False

    async def take(self) -> None:
        await self._manners.turn()
        self._is_owed = True

    def tell(self, status: int, headers: Mapping[str, str]) -> None:
        if self._is_owed:
            self._is_owed = False
            self._manners.heard(status, headers)


class _Hop:
    """Receives one hop: the file, or the text of a refusal."""

    def __init__(
        self,
        asked: Asked,
        url: Url,
        request: FetchRequest,
        sink: Sink,
        progress: Progress,
        *,
        trusted: bool,
        heard: Callable[[int, Mapping[str, str]], None],
    ) -> None:
        self._asked, self._url, self._request, self._sink = asked, url, request, sink
        self._span = request.span
        self._progress = progress
        self._trusted, self._heard = trusted, heard
        self.head = Head(0, ())
        self.linked: Linked | None = None
        self.accepted: Accepted | None = None
        self._limit: int | None = None
        self.sink_begun = False

    def begin(self, status: int, headers: list[tuple[str, str]], version: str) -> int | None:
        self.head = Head(status, headers, version)
        self._heard(status, dict(headers))
        if self._trusted and status < 400:
            self.linked = linked_of(self.head)
            if self.linked is not None:
                promise = self._request.sha256, self._request.git_sha1
                check_promise(self.linked, *promise, self._request.file_name)
        if not 200 <= status < 300:
            return None
        accepted = judge(self.head, self._asked, self._url)
        self.accepted = accepted
        if accepted.length is not None:
            self._limit = accepted.position + accepted.length
        elif self._asked.expected_bytes is not None:
            # One byte of room shows an endless or overlong body; it is never written.
            self._limit = self._asked.expected_bytes + self._asked.tolerance_bytes
        self._progress.position = accepted.position
        return accepted.position

    def limit(self) -> int | None:
        end = self._span.end if self.accepted and not self.accepted.restarted else None
        if end is None or self._limit is None:
            return self._limit if end is None else end
        return min(end, self._limit)

    def check_first(self, first: bytes) -> None:
        if self.accepted is not None and self.accepted.position == 0:
            refuse_page_body(first, self._asked, self._url)

    def begin_sink(self) -> None:
        if not self.sink_begun and self.accepted is not None:
            self.sink_begun = True
            self._sink.begin(self.accepted)

    def write(self, position: int, data: memoryview) -> None:
        self.begin_sink()
        self._sink.write(position, data)
        self._progress.received_bytes += len(data)
        self._progress.position = position + len(data)


class CurlFetcher:
    """Fetches through libcurl; made by ``open_fetcher``."""

    def __init__(
        self,
        engine: Engine,
        *,
        limits: FetchLimits,
        ca_file: str,
        environ: Mapping[str, str],
        resolver: Resolver,
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._ca_file = ca_file
        self._environ = environ
        self._resolver = resolver

    async def fetch(self, request: FetchRequest, sink: Sink, progress: Progress) -> FetchResult:
        """One attempt at one span."""
        home = parse_url(request.home)
        first = parse_url(request.url)
        allowed = await self._classes(home)
        turn = _Turn(request.manners)
        if first.origin == home.origin:
            await turn.take()
        try:
            return await self._follow(first, home, allowed, turn, request, sink, progress)
        except trio.Cancelled:
            turn.tell(_LEFT, {})
            raise
        finally:
            turn.tell(0, {})

    async def _follow(
        self,
        first: Url,
        home: Url,
        allowed: frozenset[str],
        turn: _Turn,
        request: FetchRequest,
        sink: Sink,
        progress: Progress,
    ) -> FetchResult:
        """Hop by hop to the file."""
        token = trio.lowlevel.current_trio_token()

        def heard(status: int, headers: Mapping[str, str]) -> None:
            token.run_sync_soon(turn.tell, status, headers)

        chain = [first]
        linked: Linked | None = None
        while True:
            url = chain[-1]
            headers = travelling_headers(request.headers, chain, home.origin)
            asked = _asked(request, url, at_home=url.origin == home.origin)
            # what comes by way of a foreign host is not the hub's word any more
            trusted = all(each.origin == home.origin for each in chain)
            hop = _Hop(asked, url, request, sink, progress, trusted=trusted, heard=heard)
            order = await self._order(url, headers, asked, allowed, hop, request.user_agent)
            ending = await self._perform(order)
            if ending.error is not None:
                raise _own_error(ending.error)
            if ending.curl_code != 0:
                raise _network_error(ending, url)
            linked = hop.linked or linked
            if hop.head.status in REDIRECTS:
                chain.append(next_hop(chain, hop.head.get("location")))
                if hop.linked is not None:
                    await request.manners.linked(hop.linked)
                continue
            if hop.accepted is None:
                now_ms = time.time_ns() // 1_000_000
                raise refusal(hop.head, ending.aside, asked, url, now_ms)
            if not hop.sink_begun:  # an empty body
                await trio.to_thread.run_sync(hop.begin_sink)
            return _result(hop, hop.accepted, ending, request, chain, linked)

    async def _classes(self, home: Url) -> frozenset[str]:
        if proxy_for(home, self._environ) is not None and literal_address(home.origin.host) is None:
            return frozenset()
        return classes_of_home(await self._resolve(home))

    async def _resolve(self, url: Url) -> Sequence[str]:
        host = url.origin.host
        if literal_address(host) is not None:
            return [host]
        with trio.move_on_after(self._limits.resolve_timeout_s):
            found = await self._resolver(host, url.origin.port)
            if found:
                return found
        raise NetworkLost(f"the name {host} was not found", "is the network up?")

    async def _order(
        self,
        url: Url,
        headers: Sequence[Header],
        asked: Asked,
        allowed: frozenset[str],
        hop: _Hop,
        user_agent: str,
    ) -> Order:
        proxy = proxy_for(url, self._environ)
        resolve, addresses = None, None
        if proxy is None or literal_address(url.origin.host) is not None:
            checked = checked_addresses(url, await self._resolve(url), allowed)
            if proxy is None:
                addresses = frozenset(str(address) for address in checked)
                joined = ",".join(f"[{a}]" if a.version == 6 else str(a) for a in checked)
                if literal_address(url.origin.host) is None:
                    resolve = f"{url.origin.host}:{url.origin.port}:{joined}"
        return Order(
            url.text,
            hop,
            headers=_header_lines(headers, asked, user_agent),
            resolve=resolve,
            addresses=addresses,
            proxy=proxy,
            ca_file=self._ca_file,
            connect_timeout_s=self._limits.connect_timeout_s,
            low_speed_bytes_per_s=self._limits.low_speed_bytes_per_s,
            low_speed_s=self._limits.low_speed_s,
        )

    async def _perform(self, order: Order) -> Ending:
        token = trio.lowlevel.current_trio_token()
        done = trio.Event()
        endings: list[Ending] = []

        def finished(ending: Ending) -> None:
            endings.append(ending)
            token.run_sync_soon(done.set)

        order.finished = finished
        await trio.lowlevel.checkpoint_if_cancelled()
        self._engine.submit(order)
        try:
            await done.wait()
        except trio.Cancelled:
            self._engine.cancel(order)
            # The sink must not be written after we have left: a few milliseconds.
            with trio.CancelScope(shield=True):
                await done.wait()
            raise
        return endings[0]


def _asked(request: FetchRequest, url: Url, *, at_home: bool) -> Asked:
    span, validator = request.span, request.validator
    start, end = span.start, span.end
    same_host = validator is not None and validator.origin == str(url.origin)
    strong = validator is not None and validator.if_range is not None
    if start > 0 and not request.hash_known and not (same_host and strong):
        # Without a hash only one host's own word, by a strong validator, joins two halves.
        start, end = 0, None
    return Asked(
        start=start,
        end=end,
        held=span.start,
        ranged=start > 0 or end is not None,
        insist_on_range=request.insist_on_range and start > 0,
        expected_bytes=request.expected_bytes,
        tolerance_bytes=request.tolerance_bytes,
        validator=validator,
        if_range=validator.if_range if same_host and validator and start > 0 else None,
        file_name=request.file_name,
        is_text=request.git_sha1 is not None,
        has_token=bool(request.headers),
        at_home=at_home,
    )


def _header_lines(headers: Sequence[Header], asked: Asked, user_agent: str) -> list[str]:
    lines = [f"User-Agent: {user_agent}", "Accept: */*", "Accept-Encoding: identity"]
    if asked.ranged:
        lines.append(f"Range: bytes={asked.start}-{'' if asked.end is None else asked.end - 1}")
    if asked.if_range is not None:
        lines.append(f"If-Range: {asked.if_range}")
    for name, value in headers:
        text = value.reveal() if isinstance(value, Secret) else value
        if not (name + text).isascii() or not (name + text).isprintable():
            raise TransferError(
                f"the header {quoted(name, 40)} holds characters that cannot be sent",
                "is the token complete, without line breaks?",
                code="invalid",
            )
        lines.append(f"{name}: {text}")
    return lines


def _own_error(error: BaseException) -> BaseException:
    if isinstance(error, OSError):
        return disk_error(error)
    return error


def _network_error(ending: Ending, url: Url) -> TransferError:
    code, text = ending.curl_code, quoted(ending.curl_text, 160)
    where = str(url.origin)
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return Stalled(f"{where} was silent or too slow for too long ({text})", "trying again")
    if code in _TLS_CODES:
        return TlsRefused(
            f"no trustworthy connection to {where}: {text}",
            "check the clock, the proxy and the CA settings; certificate errors are never ignored",
        )
    return NetworkLost(f"the connection to {where} was lost or refused: {text}", "trying again")


def _result(
    hop: _Hop,
    accepted: Accepted,
    ending: Ending,
    request: FetchRequest,
    chain: Sequence[Url],
    linked: Linked | None,
) -> FetchResult:
    end = accepted.position + ending.body_bytes
    url = chain[-1]
    if accepted.length is None and ending.stopped_at_limit:
        span_end = request.span.end
        if span_end is None or end < span_end:
            raise WrongSize(
                f"{url.origin} sent more than the {request.expected_bytes} bytes expected",
                "the file was replaced or this is not the file; sync, then get it again",
            )
    if accepted.length is not None and not ending.stopped_at_limit:
        missing = accepted.length - ending.body_bytes
        if missing > 0:
            raise NetworkLost(f"{url.origin} closed {missing} bytes early", "continuing from there")
    return FetchResult(
        start=accepted.position,
        end=end,
        total_bytes=accepted.total,
        validator=accepted.validator,
        certain_end=accepted.framed,
        hops=tuple(hop_url.shown for hop_url in chain),
        http_version=ending.http_version,
        linked=linked,
    )


async def system_resolver(host: str, port: int) -> list[str]:
    """The machine's own resolver, in a thread."""
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@asynccontextmanager
async def open_fetcher(
    *,
    limits: FetchLimits | None = None,
    ca_file: str | None = None,
    environ: Mapping[str, str] | None = None,
    resolver: Resolver = system_resolver,
    pool_blocks: int = 32,
) -> AsyncIterator[CurlFetcher]:
    """A running fetcher; on leaving, its threads end."""
    environ = os.environ if environ is None else environ
    engine = Engine(pool_blocks=pool_blocks)
    engine.start()
    try:
        yield CurlFetcher(
            engine,
            limits=limits or FetchLimits(),
            ca_file=ca_file or environ.get("SSL_CERT_FILE") or certifi.where(),
            environ=environ,
            resolver=resolver,
        )
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(engine.stop)

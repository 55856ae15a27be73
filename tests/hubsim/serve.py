"""The simulated hub on real loopback sockets: an API port and a storage port.

Owns sockets, HTTP/1.1 framing (h11) and the request log. Honest responses go through h11; a
response that lies about itself is written by hand and its connection ends with it.
"""

from __future__ import annotations

import http
import math
import socket
import struct
import sys
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import h11
import trio

from tests.hubsim.messages import Request, Response, text

_CHUNK_SIZE = 1 << 18
_LOG_LIMIT = 200_000
Answer = Callable[[Request, "LogEntry"], Response]


@dataclass(slots=True)
class LogEntry:
    """One request as it arrived; status and bytes are filled in as it is answered."""

    storage: bool
    method: str
    target: str
    path: str
    headers: dict[str, str]
    connection: int
    at_s: float  # on trio's clock
    status: int | None = None
    fault: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    finished: bool = False

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


class Server:
    """Serves `answer` on two listeners until its scope is canceled."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._connections = 0
        self.log: deque[LogEntry] = deque(maxlen=_LOG_LIMIT)

    async def serve(self, listener: trio.SocketListener, *, storage: bool) -> None:
        async def handle(stream: trio.SocketStream) -> None:
            self._connections += 1
            try:
                await self._handle(stream, self._connections, storage)
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
                pass  # the client went away or talks no HTTP: its own affair
            finally:
                # Never wait for a FIN that will not be read: the scope may be canceled already.
                with trio.CancelScope(shield=True, deadline=trio.current_time()):
                    await stream.aclose()

        await trio.serve_listeners(handle, [listener])

    async def _handle(self, stream: trio.SocketStream, number: int, storage: bool) -> None:
        parser = h11.Connection(h11.SERVER)
        while True:
            request = await _read_request(stream, parser, storage)
            if request is None:
                return
            entry = LogEntry(
                storage,
                request.method,
                request.target,
                request.path,
                dict(request.headers),
                number,
                trio.current_time(),
            )
            if not request.path.startswith("/_sim/"):
                self.log.append(entry)
            response = self._answered(request, entry)
            entry.status = response.status
            delivery = response.delivery
            if delivery.stall_before_s:
                await trio.sleep(delivery.stall_before_s)
            if delivery.lies or _by_hand_only(response):
                await _deliver_by_hand(stream, request, response, entry)
                return
            await _deliver(stream, parser, request, response, entry)
            if parser.our_state is not h11.DONE or parser.their_state is not h11.DONE:
                return
            parser.start_next_cycle()

    def _answered(self, request: Request, entry: LogEntry) -> Response:
        """A mistake of ours is a 500 with the traceback, as the hub it plays would answer."""
        try:
            return self._answer(request, entry)
        except Exception:
            report = traceback.format_exc()
            print(report, file=sys.stderr)
            return text(500, report)


async def _read_request(
    stream: trio.SocketStream, parser: h11.Connection, storage: bool
) -> Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            if parser.they_are_waiting_for_100_continue:
                go = h11.InformationalResponse(status_code=100, headers=[])
                await stream.send_all(parser.send(go) or b"")
            parser.receive_data(await stream.receive_some(1 << 16))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in head.headers]
            method, target = head.method.decode("ascii"), head.target.decode("latin-1")
            return Request(method, target, headers, bytes(body), storage)
        else:
            return None


def _by_hand_only(response: Response) -> bool:
    """Whether a fault set what h11 refuses to send."""
    odd = any(ord(letter) < 32 for _, value in response.headers for letter in value)
    return odd or not 200 <= response.status <= 999


def _head(response: Response) -> list[tuple[bytes, bytes]]:
    # Raw UTF-8 in header values, as the real storage sends file names.
    return [(name.encode("ascii"), value.encode()) for name, value in response.headers]


async def _deliver(
    stream: trio.SocketStream,
    parser: h11.Connection,
    request: Request,
    response: Response,
    entry: LogEntry,
) -> None:
    headers = _head(response)
    if response.delivery.chunked:
        headers.append((b"Transfer-Encoding", b"chunked"))
    elif response.status >= 200 and response.status not in (204, 304):
        headers.append((b"Content-Length", str(response.body.size).encode()))
    reason = _reason(response.status)
    event = h11.Response(status_code=response.status, headers=headers, reason=reason)
    start = parser.send(event) or b""
    if request.method == "HEAD" or response.status in (204, 304):
        await stream.send_all(start + (parser.send(h11.EndOfMessage()) or b""))
        entry.finished = True
        return
    body, paced = response.body, response.delivery.bytes_per_second or response.delivery.stall_at
    if not paced and body.size <= _CHUNK_SIZE:
        # Head and body in one segment: what most answers are, and what keeps pages fast.
        data = body.read(0, body.size)
        if len(data) == body.size:
            pieces = parser.send_with_data_passthrough(h11.Data(data=cast(bytes, data))) or []
            entry.sent_bytes = body.size
            end = parser.send(h11.EndOfMessage()) or b""
            await stream.send_all(b"".join([start, *pieces, end]))
            entry.finished = True
            return
    await stream.send_all(start)

    async def send(data: bytes | memoryview) -> None:
        for piece in parser.send_with_data_passthrough(h11.Data(data=cast(bytes, data))) or []:
            await stream.send_all(piece)

    await _send_body(response, body.size, send, entry)
    await stream.send_all(parser.send(h11.EndOfMessage()) or b"")
    entry.finished = True


async def _deliver_by_hand(
    stream: trio.SocketStream, request: Request, response: Response, entry: LogEntry
) -> None:
    delivery, body = response.delivery, response.body
    if delivery.raw is not None:
        await stream.send_all(delivery.raw)
    elif not delivery.hang_up:
        headers = _head(response)
        if not delivery.no_length:
            length = body.size if delivery.declared_length is None else delivery.declared_length
            headers.append((b"Content-Length", str(length).encode()))
        headers.append((b"Connection", b"close"))
        lines = [b"HTTP/1.1 %d %s" % (response.status, _reason(response.status))]
        lines += [b"%s: %s" % pair for pair in headers]
        await stream.send_all(b"\r\n".join(lines) + b"\r\n\r\n")
        if request.method != "HEAD":
            stop = body.size if delivery.stop_after is None else delivery.stop_after
            while True:
                await _send_body(response, stop, stream.send_all, entry)
                if not delivery.endless or not stop:
                    break
            if delivery.extra:
                await stream.send_all(delivery.extra)
                entry.sent_bytes += len(delivery.extra)
    if delivery.reset:
        # Closing with a linger time of zero sends RST: what was sent may be lost on the way too.
        linger = struct.pack("ii", 1, 0)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        stream.socket.close()
    else:
        await stream.send_eof()


async def _send_body(
    response: Response,
    stop: int,
    send: Callable[[bytes | memoryview], Awaitable[None]],
    entry: LogEntry,
) -> None:
    """Send the body up to `stop`, at the pace the delivery asks for."""
    delivery, body, at = response.delivery, response.body, 0
    rate = delivery.bytes_per_second
    size = delivery.chunk_size or (max(1, math.ceil(rate / 20)) if rate else _CHUNK_SIZE)
    stall_at, stall_s = delivery.stall_at or (None, 0.0)
    while True:
        if stall_at is not None and at >= stall_at:
            stall_at = None
            await trio.sleep(stall_s)
        if at >= stop:
            return
        most = min(size, stop - at)
        if stall_at is not None:
            most = min(most, stall_at - at)
        data = body.read(at, most)
        if not len(data):
            return
        await send(data)
        at += len(data)
        entry.sent_bytes += len(data)
        if rate:
            await trio.sleep(len(data) / rate)


def _reason(status: int) -> bytes:
    try:
        return http.HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"


async def listen(port: int) -> trio.SocketListener:
    return (await trio.open_tcp_listeners(port, host="127.0.0.1"))[0]


def url_of(listener: trio.SocketListener, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{listener.socket.getsockname()[1]}"

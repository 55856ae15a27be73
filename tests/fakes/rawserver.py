"""A scripted server on a raw socket: it says exactly the bytes it is told, so that it can lie.

Each connection is read up to the end of a request's head; the script decides what is written and
whether the connection stays open. No HTTP library, on purpose.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio


@dataclass(frozen=True, slots=True)
class Heard:
    """One request."""

    method: str
    target: str
    headers: dict[str, str]
    connection: int

    @property
    def range(self) -> tuple[int, int | None] | None:
        text = self.headers.get("range")
        if text is None:
            return None
        first, _, last = text.removeprefix("bytes=").partition("-")
        return int(first), int(last) if last else None


class Wire:
    """The script's hand on one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def head(self, status: str, **headers: object) -> None:
        """A status line and headers; ``content_length=5`` becomes ``content-length: 5``."""
        lines = [f"HTTP/1.1 {status}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def silence(self) -> None:
        """Until the other side gives up."""
        while await self._stream.receive_some(65536):
            pass


Script = Callable[[Heard, Wire], Awaitable[bool | None]]


@dataclass(slots=True)
class RawServer:
    """``script`` may be replaced at any time; true from it keeps the connection."""

    script: Script
    port: int = 0
    scheme: str = "http"
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def _serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        number = self.connections
        buffer = b""
        try:
            while True:
                while b"\r\n\r\n" not in buffer:
                    more = await stream.receive_some(65536)
                    if not more:
                        return
                    buffer += more
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ", 2)
                pairs = (line.partition(":") for line in lines[1:])
                headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
                heard = Heard(method, target, headers, number)
                self.heard.append(heard)
                if not await self.script(heard, Wire(stream)):
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            with trio.move_on_after(0.2, shield=True):
                await stream.aclose()


@asynccontextmanager
async def open_rawserver(
    script: Script, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serve on a free loopback port for the length of the block."""
    server = RawServer(script, scheme="https" if tls else "http")
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.port = listener.socket.getsockname()[1]
    accepting: trio.abc.Listener[trio.abc.Stream] = listener
    if tls is not None:
        accepting = trio.SSLListener(listener, tls, https_compatible=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server._serve, [accepting])
        yield server
        nursery.cancel_scope.cancel()


def serving(content: bytes, *, etag: str = '"v1"', ranges: bool = True) -> Script:
    """An honest server of one file."""

    async def script(heard: Heard, wire: Wire) -> bool:
        wanted = heard.range if ranges else None
        if_range = heard.headers.get("if-range")
        if wanted is None or (if_range is not None and if_range != etag):
            await wire.head("200 OK", content_length=len(content), etag=etag)
            await wire.send(content)
            return True
        first = wanted[0]
        last = len(content) - 1 if wanted[1] is None else wanted[1]
        if first >= len(content):
            await wire.head(
                "416 Range Not Satisfiable",
                content_length=0,
                content_range=f"bytes */{len(content)}",
            )
            return True
        await wire.head(
            "206 Partial Content",
            content_length=last - first + 1,
            content_range=f"bytes {first}-{last}/{len(content)}",
            etag=etag,
        )
        await wire.send(content[first : last + 1])
        return True

    return script

"""Requests and responses as plain data, between the server, the dialect and the faults.

A `Response` also says how it is to be delivered, honestly or not: a dialect never touches a
socket, and a lie on the wire is a field here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

import msgspec

from tests.hubsim.bytes import Body, BytesBody


@dataclass(slots=True)
class Tweaks:
    """What a fault asks the dialect itself to do otherwise."""

    ignore_range: bool = False
    etag_suffix: str = ""
    flip: tuple[int, int] | None = None  # offset and count of inverted bytes in the whole file
    expired: bool = False
    repeat_page: bool = False
    empty_page: bool = False
    cursor_loop: str | None = None


@dataclass(slots=True)
class Request:
    method: str
    target: str
    headers: list[tuple[str, str]]  # names in lower case
    body: bytes = b""
    storage: bool = False
    path: str = ""
    query: list[tuple[str, str]] = field(default_factory=list)
    tweaks: Tweaks = field(default_factory=Tweaks)
    marks: list[tuple[str, str]] = field(default_factory=list)  # headers its answer must bear
    # How the hub words a status that a fault asks for, if it has words of its own.
    refusal: Callable[[Request, int], Response | None] = lambda request, status: None

    def __post_init__(self) -> None:
        # Not urlsplit: a server gets a path and a query, and must not stumble over "//[".
        path, _, query = self.target.partition("?")
        self.path = unquote(path)
        self.query = parse_qsl(query, keep_blank_values=True)

    def header(self, name: str) -> str | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def arg(self, name: str) -> str | None:
        for key, value in self.query:
            if key == name:
                return value
        return None

    def args(self, name: str) -> list[str]:
        return [value for key, value in self.query if key == name]


@dataclass(slots=True)
class Delivery:
    """How the bytes go out. All defaults: an honest HTTP/1.1 response."""

    stall_before_s: float = 0
    stall_at: tuple[int, float] | None = None  # after so many body bytes, so many seconds
    bytes_per_second: float | None = None
    chunk_size: int | None = None
    stop_after: int | None = None  # body bytes sent before the connection ends
    reset: bool = False  # it ends with RST rather than FIN
    declared_length: int | None = None  # a Content-Length that is not the body's
    chunked: bool = False  # honest, but of a length that nobody says beforehand
    no_length: bool = False  # neither length nor chunks: the end of the connection ends the body
    extra: bytes = b""  # sent after the body
    endless: bool = False  # the body starts over for ever
    hang_up: bool = False  # close without a word
    raw: bytes | None = None  # these bytes instead of a response

    @property
    def lies(self) -> bool:
        return bool(
            self.stop_after is not None
            or self.declared_length is not None
            or self.no_length
            or self.extra
            or self.endless
            or self.hang_up
            or self.raw is not None
        )


@dataclass(slots=True)
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: Body
    delivery: Delivery = field(default_factory=Delivery)

    def header(self, name: str) -> str | None:
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return None

    def set_header(self, name: str, value: str | None) -> None:
        self.headers = [(key, old) for key, old in self.headers if key.lower() != name.lower()]
        if value is not None:
            self.headers.append((name, value))


class Refused(Exception):
    """The request is answered with this response instead of what it asked for."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def raw(status: int, body: bytes, content_type: str, *headers: tuple[str, str]) -> Response:
    return Response(status, [("Content-Type", content_type), *headers], BytesBody(body))


def encoded(status: int, body: bytes, *headers: tuple[str, str]) -> Response:
    """A response of JSON that is encoded already."""
    return raw(status, body, "application/json; charset=utf-8", *headers)


def document(status: int, value: object, *headers: tuple[str, str]) -> Response:
    return encoded(status, msgspec.json.encode(value), *headers)


def text(status: int, value: str, *headers: tuple[str, str]) -> Response:
    return raw(status, value.encode(), "text/plain; charset=utf-8", *headers)


def html(status: int, value: str, *headers: tuple[str, str]) -> Response:
    return raw(status, value.encode(), "text/html; charset=utf-8", *headers)


def canonical(value: object) -> bytes:
    """JSON with sorted keys, no blanks, no escapes beyond need: what digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

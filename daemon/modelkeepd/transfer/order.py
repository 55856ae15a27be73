"""What the byte engine is asked and what it answers: one hop of one request.

Owns the order's translation into libcurl's options. What may be asked is decided before an order
is made; here nothing is allowed or refused but the address that is connected to.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pycurl


class Receiver(Protocol):
    """What an answer is delivered to. ``begin`` and ``refuse`` run in the curl thread, ``write``
    in the writer thread; an exception from any of them ends the transfer and is its outcome."""

    def begin(self, status: int, headers: list[tuple[str, str]], version: str) -> int | None:
        """Called once, before the body: where its first byte belongs, None to hear it aside."""

    def limit(self) -> int | None:
        """The position to stop at; asked at every piece, so that it may move down meanwhile."""

    def check_first(self, first: bytes) -> None:
        """The body's first bytes, before any of them is written."""

    def write(self, position: int, data: memoryview) -> None: ...


@dataclass(slots=True, eq=False)
class Order:
    """One hop: a request that goes to checked addresses, and its receiver."""

    url: str
    receiver: Receiver
    headers: Sequence[str] = ()
    resolve: str | None = None  # "host:port:address,address" for CURLOPT_RESOLVE
    addresses: frozenset[str] | None = None  # None: a proxy resolves
    proxy: str | None = None
    ca_file: str | None = None
    connect_timeout_s: float = 20.0
    low_speed_bytes_per_s: int = 1024
    low_speed_s: int = 30
    finished: Callable[["Ending"], None] = lambda ending: None
    canceled: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How an order ended: curl's code (0 is good), its text, an exception of the receiver's."""

    curl_code: int
    curl_text: str
    error: BaseException | None
    aside: bytes  # the body when the receiver did not want it written: an error's text
    body_bytes: int
    stopped_at_limit: bool
    http_version: str = ""
    address: str = ""


class _Handed(socket.socket):
    """pycurl duplicates the descriptor of the socket it is given and drops the object."""

    def __del__(self) -> None:
        self.close()


def configure(handle: Any, order: Order) -> None:
    """Set a clean curl handle up for the order."""
    handle.setopt(pycurl.URL, order.url)
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.FOLLOWLOCATION, 0)
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    handle.setopt(pycurl.NETRC, pycurl.NETRC_IGNORED)
    handle.setopt(pycurl.HTTPHEADER, list(order.headers))
    handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
    handle.setopt(pycurl.BUFFERSIZE, 256 * 1024)
    handle.setopt(pycurl.CONNECTTIMEOUT_MS, int(order.connect_timeout_s * 1000))
    handle.setopt(pycurl.LOW_SPEED_LIMIT, order.low_speed_bytes_per_s)
    handle.setopt(pycurl.LOW_SPEED_TIME, order.low_speed_s)
    handle.setopt(pycurl.TCP_KEEPALIVE, 1)
    handle.setopt(pycurl.SSL_VERIFYPEER, 1)
    handle.setopt(pycurl.SSL_VERIFYHOST, 2)
    if order.ca_file is not None:
        handle.setopt(pycurl.CAINFO, order.ca_file)
    handle.setopt(pycurl.PROXY, order.proxy or "")
    handle.setopt(pycurl.NOPROXY, "")
    if order.resolve is not None:
        handle.setopt(pycurl.RESOLVE, ["+" + order.resolve])
    if order.addresses is not None:
        allowed = order.addresses

        def open_checked(
            _purpose: int, where: tuple[int, int, int, tuple[Any, ...]]
        ) -> socket.socket | int:
            # The last guard: whatever resolved the name, no other address is connected to.
            family, kind, protocol, address = where
            if str(address[0]).partition("%")[0] not in allowed:
                return int(pycurl.SOCKET_BAD)
            return _Handed(family, kind, protocol)

        handle.setopt(pycurl.OPENSOCKETFUNCTION, open_checked)

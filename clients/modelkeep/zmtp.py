"""ZMTP 3.0 with the NULL mechanism, as a DEALER on a unix socket: what one needs of ZeroMQ to ask.

:class:`Wire` is the protocol without input or output; :class:`Dealer` puts it on a blocking
socket. Messages are single frames, as modelkeep's are. No reconnecting, no queues, no other
mechanism: whoever wants those wants pyzmq, whose import alone costs four bare Python starts.
"""

from __future__ import annotations

import os
import time
from _socket import AF_UNIX, SOCK_STREAM, socket

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
# the signature's ten bytes, the major version, the minor one, the mechanism
_SIGNATURE_END = 10
_MECHANISM = slice(12, 32)
MORE, LONG, COMMAND = 1, 2, 4
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
MAX_COMMAND_BYTES = 4096
_RECEIVE_BYTES = 1 << 18


class WireError(Exception):
    """The other end does not speak ZMTP as we do, or has hung up; the text says what it did."""


class TimedOut(Exception):
    """The deadline passed first."""


class Wire:
    """The bytes of one connection: :meth:`feed` what came, send what is in :attr:`outgoing`."""

    def __init__(self, max_message_bytes: int) -> None:
        self.outgoing = bytearray(GREETING)
        self.is_ready = False  # the peer's greeting has come: messages may be sent
        self._max_message_bytes = max_message_bytes
        self._incoming = bytearray()
        self._position = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes from the peer."""
        if self._position > _RECEIVE_BYTES or self._position == len(self._incoming):
            del self._incoming[: self._position]
            self._position = 0
        self._incoming += data
        if not self.is_ready:
            self._read_greeting()

    def send(self, message: bytes) -> None:
        """Queue a message. A peer drops one that comes before its own greeting was read."""
        if not self.is_ready:
            raise WireError("a message before the greeting")
        self.outgoing += _frame(0, message)

    def receive(self) -> bytes | None:
        """The next complete message, or None until more bytes come. Answers pings on the way."""
        while self.is_ready:
            frame = self._next_frame()
            if frame is None:
                return None
            flags, body = frame
            if flags & COMMAND:
                self._take_command(body)
            elif flags & MORE:
                raise WireError("a message of several frames")
            else:
                return body
        return None

    def _read_greeting(self) -> None:
        came = self._incoming
        if came and (came[0] != 0xFF or (len(came) > 9 and came[9] != 0x7F)):
            raise WireError("something else than ZeroMQ answers")
        if len(came) <= _SIGNATURE_END:
            return
        if came[_SIGNATURE_END] < 3:
            raise WireError("an older protocol than ZMTP 3 answers")
        if len(came) < len(GREETING):
            return
        mechanism = bytes(came[_MECHANISM]).rstrip(b"\0")
        if mechanism != b"NULL":
            raise WireError(f"it wants the mechanism {mechanism.decode('ascii', 'replace')}")
        self._position = len(GREETING)
        self.is_ready = True
        self.outgoing += _frame(COMMAND, READY)

    def _next_frame(self) -> tuple[int, bytes] | None:
        came, start = self._incoming, self._position
        if len(came) < start + 2:
            return None
        flags = came[start]
        if flags & ~(MORE | LONG | COMMAND):
            raise WireError(f"a frame with flags 0x{flags:02x}")
        head = 9 if flags & LONG else 2
        if len(came) < start + head:
            return None
        length = int.from_bytes(came[start + 1 : start + head], "big")
        if length > (MAX_COMMAND_BYTES if flags & COMMAND else self._max_message_bytes):
            raise WireError(f"a frame of {length} bytes")
        end = start + head + length
        if len(came) < end:
            return None
        body = bytes(memoryview(came)[start + head : end])
        self._position = end
        return flags, body

    def _take_command(self, body: bytes) -> None:
        name = body[1 : 1 + body[0]] if body else b""
        if name == b"ERROR":
            raise WireError(f"it refuses: {body[7:].decode('ascii', 'replace')}")
        if name == b"PING":
            # the ping's time to live, two bytes, is not sent back; its context is
            self.outgoing += _frame(COMMAND, b"\x04PONG" + body[7:])


def _frame(flags: int, body: bytes) -> bytes:
    if len(body) > 255:
        return bytes((flags | LONG,)) + len(body).to_bytes(8, "big") + body
    return bytes((flags, len(body))) + body


class Dealer:
    """One blocking connection. Raises OSError when there is nobody, WireError and TimedOut."""

    def __init__(self, path: str, *, deadline_s: float, max_message_bytes: int) -> None:
        self._wire = Wire(max_message_bytes)
        self._socket = socket(AF_UNIX, SOCK_STREAM)
        deadline = time.monotonic() + deadline_s
        try:
            self._socket.settimeout(deadline_s)
            try:
                self._socket.connect(os.fsencode(path))
            except TimeoutError:
                raise TimedOut from None
            self._flush(deadline)
            while not self._wire.is_ready:
                self._read(deadline)
        except BaseException:
            self._socket.close()
            raise

    def send(self, message: bytes, *, deadline_s: float) -> None:
        """Send one message."""
        self._wire.send(message)
        self._flush(time.monotonic() + deadline_s)

    def receive(self, *, deadline_s: float) -> bytes:
        """The next message."""
        deadline = time.monotonic() + deadline_s
        while (message := self._wire.receive()) is None:
            self._flush(deadline)
            self._read(deadline)
        return message

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _flush(self, deadline: float) -> None:
        while outgoing := self._wire.outgoing:
            self._set_timeout(deadline)
            try:
                sent = self._socket.send(outgoing)
            except TimeoutError:
                raise TimedOut from None
            except OSError as exc:
                raise WireError(f"it has hung up ({exc.strerror})") from None
            del outgoing[:sent]

    def _read(self, deadline: float) -> None:
        self._set_timeout(deadline)
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError:
            raise TimedOut from None
        except OSError as exc:
            raise WireError(f"it has hung up ({exc.strerror})") from None
        if not data:
            raise WireError("it has hung up")
        self._wire.feed(data)

    def _set_timeout(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimedOut
        self._socket.settimeout(left)

"""Both ends of the conversation without any input or output: messages in, decisions out.

A transport feeds frames in and sends the frames it is handed; no decision about the protocol is
taken anywhere else. A call's id is free again once its reply, end or error was sent.
"""

from dataclasses import dataclass, field
from typing import Any, TypeGuard

import msgspec

from modelkeep_protocol import PROTOCOL_MAJOR, PROTOCOL_MINOR, codec, envelope, errors
from modelkeep_protocol.codec import BadFrame
from modelkeep_protocol.errors import ModelkeepError

MAX_OPEN_CALLS = 64
MAX_METHOD_CHARS = 64
MAX_DEADLINE_MS = 24 * 3600 * 1000
# a refused frame longer than this is not even searched for its id
MAX_REFUSED_BYTES = 4096


@dataclass(frozen=True, slots=True)
class CallStarted:
    """The peer asks for a method."""

    call_id: int
    method: str
    params: dict[str, Any]
    deadline_ms: int | None


@dataclass(frozen=True, slots=True)
class CallCanceled:
    """The peer no longer wants the answer."""

    call_id: int


@dataclass(frozen=True, slots=True)
class CreditGiven:
    """The peer is ready for ``count`` more items of a stream."""

    call_id: int
    count: int


ServerEvent = CallStarted | CallCanceled | CreditGiven


@dataclass(slots=True)
class ServerSession:
    """The daemon's side of one peer."""

    epoch: str
    server: str = "modelkeepd"
    capabilities: tuple[str, ...] = ()
    open_calls: set[int] = field(default_factory=set)

    def receive(self, frame: bytes) -> tuple[list[bytes], list[ServerEvent]]:
        """Take one frame; return frames to send at once, and what the peer wants.

        Never raises: whatever is wrong is answered by one error message. An error with an id ends
        that call, so a message that is wrong about an open one is answered without.
        """
        call_id: int | None = None
        try:
            message = codec.unpack(frame)
            if not isinstance(message, dict):
                raise BadFrame("a message is a map")
            if _is_id(found := message.get("id")) and found not in self.open_calls:
                call_id = found
            return self._take(message)
        except BadFrame as exc:
            error = ModelkeepError(
                errors.INVALID, f"bad message: {exc}", "see docs/protocol.md for the form"
            )
        except ModelkeepError as exc:
            error = exc
        return [codec.pack({"t": envelope.ERROR, "id": call_id, **error.to_map()})], []

    def refuse(self, frame: bytes, error: ModelkeepError) -> bytes:
        """The answer to a frame that is not taken at all; names its call where that is cheap."""
        call_id = None
        if len(frame) <= MAX_REFUSED_BYTES:
            try:
                message = codec.unpack(frame)
                if _is_id(found := message.get("id")) and found not in self.open_calls:
                    call_id = found
            except (BadFrame, AttributeError):
                pass
        return codec.pack({"t": envelope.ERROR, "id": call_id, **error.to_map()})

    def _take(self, message: dict[str, Any]) -> tuple[list[bytes], list[ServerEvent]]:
        kind = message.get("t")
        if kind == envelope.PING:
            return [codec.pack({"t": envelope.PONG})], []
        if kind == envelope.HELLO:
            _check_version(message)
            welcome = {
                "t": envelope.WELCOME,
                "v": PROTOCOL_MAJOR,
                "minor": PROTOCOL_MINOR,
                "server": self.server,
                "epoch": self.epoch,
                "capabilities": list(self.capabilities),
                "limits": {
                    "request_bytes": codec.MAX_REQUEST_BYTES,
                    "depth": codec.MAX_DEPTH,
                    "items": codec.MAX_ITEMS,
                    "open_calls": MAX_OPEN_CALLS,
                },
            }
            return [codec.pack(welcome)], []
        if kind == envelope.CALL:
            return [], [self._start(message)]
        if kind in (envelope.CANCEL, envelope.CREDIT):
            call_id = message.get("id")
            if not _is_id(call_id):
                raise BadFrame(f"{kind} without a usable id")
            if call_id not in self.open_calls:
                return [], []  # it ended meanwhile: the two messages crossed
            if kind == envelope.CANCEL:
                return [], [CallCanceled(call_id)]
            count = message.get("n")
            if type(count) is not int or not 1 <= count <= envelope.MAX_CREDIT:
                raise BadFrame(f"credit is a number from 1 to {envelope.MAX_CREDIT}")
            return [], [CreditGiven(call_id, count)]
        raise BadFrame(f"unknown message type {str(kind)[:20]!r}")

    def _start(self, message: dict[str, Any]) -> CallStarted:
        _check_version(message)
        call_id, method = message.get("id"), message.get("m")
        params, deadline_ms = message.get("p", {}), message.get("deadline_ms")
        if not _is_id(call_id):
            raise BadFrame(f"a call needs an id from 0 to {envelope.MAX_ID}")
        if not isinstance(method, str) or not 0 < len(method) <= MAX_METHOD_CHARS:
            raise BadFrame("a call needs a method's name in m")
        if not isinstance(params, dict):
            raise BadFrame("a call's p is a map")
        if deadline_ms is not None and not (
            type(deadline_ms) is int and 0 < deadline_ms <= MAX_DEADLINE_MS
        ):
            raise BadFrame(f"deadline_ms is a number from 1 to {MAX_DEADLINE_MS}")
        if call_id in self.open_calls:
            raise BadFrame(f"the id {call_id} is already in use")
        if len(self.open_calls) >= MAX_OPEN_CALLS:
            raise ModelkeepError(
                errors.BUSY,
                f"{MAX_OPEN_CALLS} calls are open already",
                "wait for one of them, or cancel it",
                retryable=True,
            )
        self.open_calls.add(call_id)
        return CallStarted(call_id, method, params, deadline_ms)

    def reply(self, call_id: int, result: Any) -> bytes:
        """The answer of a unary call, a Struct or plain values; ends it. Raises BadFrame."""
        frame = _pack_result({"t": envelope.REPLY, "id": call_id, "r": result})
        self.open_calls.discard(call_id)
        return frame

    def item(self, call_id: int, value: Any) -> bytes:
        """One item of a stream. The caller keeps count of the credit. Raises BadFrame."""
        return _pack_result({"t": envelope.ITEM, "id": call_id, "r": value})

    def end(self, call_id: int) -> bytes:
        """The stream is complete; ends the call."""
        self.open_calls.discard(call_id)
        return codec.pack({"t": envelope.END, "id": call_id})

    def error(self, call_id: int, error: ModelkeepError) -> bytes:
        """The call failed; ends it."""
        self.open_calls.discard(call_id)
        message = {"t": envelope.ERROR, "id": call_id, **error.to_map()}
        try:
            return codec.pack(message)
        except BadFrame:
            # the error is worth more than its particulars
            return codec.pack({**message, "data": {}})


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The daemon has introduced itself."""

    minor: int
    epoch: str
    capabilities: tuple[str, ...]
    server: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a unary call, or one item of a stream."""

    call_id: int
    value: Any
    is_last: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """A stream is complete."""

    call_id: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A call failed. ``call_id`` is None when the daemon could not tell which."""

    call_id: int | None
    error: ModelkeepError


@dataclass(frozen=True, slots=True)
class Ponged:
    """The daemon's answer to a ping."""


ClientEvent = Welcomed | Answer | Ended | Failed | Ponged


@dataclass(slots=True)
class ClientSession:
    """The client's side."""

    next_id: int = 1

    def hello(self, client: str) -> bytes:
        """Introduce oneself; the answer is Welcomed or Failed."""
        return codec.pack(envelope.hello(client))

    def call(
        self, method: str, params: dict[str, Any], deadline_ms: int | None = None
    ) -> tuple[int, bytes]:
        """Begin a call: its id and the frame to send."""
        call_id = self.next_id
        self.next_id += 1
        return call_id, codec.pack(envelope.call(call_id, method, params, deadline_ms))

    def cancel(self, call_id: int) -> bytes:
        """Tell the daemon that the answer is no longer wanted."""
        return codec.pack({"t": envelope.CANCEL, "id": call_id})

    def credit(self, call_id: int, count: int) -> bytes:
        """Allow ``count`` more items of a stream."""
        return codec.pack({"t": envelope.CREDIT, "id": call_id, "n": count})

    def receive(self, frame: bytes) -> ClientEvent | None:
        """Take one frame; None for a message of a later minor version that can be ignored.

        Raises BadFrame when it is no message at all.
        """
        message = codec.unpack_trusted(frame)
        if not isinstance(message, dict):
            raise BadFrame("a message is a map")
        kind, call_id = message.get("t"), message.get("id")
        if kind == envelope.ERROR:
            data = message.get("data")
            error = ModelkeepError(
                str(message.get("code", errors.INTERNAL)),
                str(message.get("message", "the daemon gave no reason")),
                str(message.get("hint", "")),
                retryable=bool(message.get("retryable", False)),
                data=data if isinstance(data, dict) else None,
            )
            return Failed(call_id if _is_id(call_id) else None, error)
        if kind in (envelope.REPLY, envelope.ITEM, envelope.END) and not _is_id(call_id):
            raise BadFrame(f"{kind} without an id")
        if kind == envelope.REPLY:
            return Answer(message["id"], message.get("r"), True)
        if kind == envelope.ITEM:
            return Answer(message["id"], message.get("r"), False)
        if kind == envelope.END:
            return Ended(message["id"])
        if kind == envelope.PONG:
            return Ponged()
        if kind == envelope.WELCOME:
            minor, capabilities = message.get("minor", 0), message.get("capabilities", [])
            if type(minor) is not int or not isinstance(capabilities, list):
                raise BadFrame("a welcome of a wrong form")
            return Welcomed(
                minor,
                str(message.get("epoch", "")),
                tuple(map(str, capabilities)),
                str(message.get("server", "")),
            )
        return None


# Structs go to the wire as they are; the frames are those of codec.pack (a test compares them)
_encoder = msgspec.msgpack.Encoder()


def _pack_result(message: dict[str, Any]) -> bytes:
    try:
        try:
            frame = _encoder.encode(message)
        except UnicodeEncodeError:
            frame = codec.pack(msgspec.to_builtins(message))
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise BadFrame(f"can't be sent: {exc}") from exc
    if len(frame) > codec.MAX_REPLY_BYTES:
        raise BadFrame(f"a frame of {len(frame)} bytes; the limit is {codec.MAX_REPLY_BYTES}")
    return frame


def _is_id(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= envelope.MAX_ID


def _check_version(message: dict[str, Any]) -> None:
    version = message.get("v")
    if version != PROTOCOL_MAJOR or type(version) is not int:
        raise ModelkeepError(
            errors.UNSUPPORTED,
            f"this daemon speaks protocol {PROTOCOL_MAJOR}, not {str(version)[:20]!r}",
            "update the older of the two: client or daemon",
            data={"major": PROTOCOL_MAJOR, "minor": PROTOCOL_MINOR},
        )

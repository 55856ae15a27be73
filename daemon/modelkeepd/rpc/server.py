"""Sessions of peers and the calls they make: starts, bounds, cancels and answers them.

A handler is a plain function (answered at once, inside the pump) or an async one (its own task and
cancel scope), or an async stream that is handed a :class:`Stream` to send on. Everything a peer
can do wrong ends in one error message to that peer.
"""

import inspect
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import trio
from msgspec import Struct

from modelkeep_protocol import codec, errors, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.session import (
    CallCanceled,
    CallStarted,
    CreditGiven,
    ServerSession,
)
from modelkeepd import logs
from modelkeepd.rpc.port import Port

log = logging.getLogger(__name__)

DEFAULT_DEADLINE_MS = 120_000
# there is no disconnect signal: a peer without open calls is forgotten after this silence
LEASE_S = 120.0
# a stream whose client has not been heard of for this long is given up; clients ping or credit
STREAM_LEASE_S = 900.0
MAX_PEERS = 2_000
# requests a second a peer may send for long, and how many at once
PEER_RATE = 2_000.0
PEER_BURST = 4_000.0

Handler = Callable[..., Struct | Awaitable[Struct | None]]
MapError = Callable[[Exception], ModelkeepError | None]


class Stream:
    """The sending end of one streaming call; waits for the client's credit."""

    def __init__(self, send: Callable[[Struct], None]) -> None:
        self._send = send
        self._credit = 0
        self._given = trio.Event()

    def give(self, count: int) -> None:
        """The client is ready for more."""
        self._credit = min(self._credit + count, 100_000)
        self._given.set()

    async def ready(self) -> None:
        """Wait until an item may be sent."""
        while self._credit == 0:
            self._given = trio.Event()
            await self._given.wait()

    async def send(self, item: Struct) -> None:
        """Send one item, waiting for credit first."""
        await self.ready()
        self._credit -= 1
        self._send(item)


@dataclass(slots=True)
class Peer:
    """What is known of one connection."""

    session: ServerSession
    heard: float
    tokens: float = PEER_BURST
    scopes: dict[int, trio.CancelScope] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)


class RpcService:
    """The service that answers clients."""

    name = "rpc"
    essential = True

    def __init__(
        self,
        socket_path: Path,
        epoch: str,
        handlers: Mapping[str, Handler],
        *,
        map_error: MapError = lambda exc: None,
        clock: Callable[[], float] = time.monotonic,
        allowed_uids: frozenset[int] | None = None,
    ) -> None:
        unknown = set(handlers) ^ set(schema.METHODS)
        if unknown:
            raise ValueError(f"methods without a handler, or the reverse: {sorted(unknown)}")
        self._handlers = handlers
        self._is_async = {name: inspect.iscoroutinefunction(h) for name, h in handlers.items()}
        self._map_error = map_error
        self._epoch = epoch
        self._clock = clock
        self._allowed_uids = allowed_uids or frozenset({0, os.getuid()})
        self._peers: dict[bytes, Peer] = {}
        self._nursery: trio.Nursery | None = None
        self.port = Port(socket_path, codec.MAX_REQUEST_BYTES, self._on_frame, self._on_gone)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until canceled; calls still open then are told that the daemon stops."""
        async with trio.open_nursery() as calls:
            self._nursery = calls
            try:
                async with trio.open_nursery() as pump:
                    await pump.start(self.port.run)
                    pump.start_soon(self._expire)
                    task_status.started()
            finally:
                self._nursery = None
                self._peers.clear()
                calls.cancel_scope.cancel(reason="shutdown")

    async def _expire(self) -> None:
        while True:
            await trio.sleep(LEASE_S / 4)
            now = self._clock()
            for peer_id, peer in list(self._peers.items()):
                silent_s = now - peer.heard
                if silent_s > STREAM_LEASE_S or (silent_s > LEASE_S and not peer.scopes):
                    self._on_gone(peer_id)

    def _on_gone(self, peer_id: bytes) -> None:
        peer = self._peers.pop(peer_id, None)
        if peer is not None:
            for scope in peer.scopes.values():
                scope.cancel(reason="peer gone")

    def _on_frame(self, peer_id: bytes, uid: int | None, frame: bytes) -> None:
        now = self._clock()
        peer = self._peers.get(peer_id)
        if peer is None:
            if len(self._peers) >= MAX_PEERS:
                self._make_room()
            peer = Peer(ServerSession(self._epoch, capabilities=("events.cursor", "streams")), now)
            self._peers[peer_id] = peer
        peer.tokens = min(PEER_BURST, peer.tokens + (now - peer.heard) * PEER_RATE)
        peer.heard = now
        if uid is not None and uid not in self._allowed_uids:
            log.warning("call of another user refused", extra={"facts": {"uid": uid}})
            self._refuse(
                peer_id,
                ModelkeepError(
                    errors.DENIED,
                    f"this daemon belongs to another user (you are uid {uid})",
                    "start your own: modelkeepd",
                ),
            )
            return
        if peer.tokens < 1:
            self._refuse(
                peer_id,
                ModelkeepError(errors.BUSY, "too many requests", "slow down", retryable=True),
            )
            return
        peer.tokens -= 1
        frames, events = peer.session.receive(frame)
        for answer in frames:
            self.port.post(peer_id, answer)
        for event in events:
            if isinstance(event, CallStarted):
                self._start(peer_id, peer, event)
            elif isinstance(event, CallCanceled):
                if event.call_id in peer.scopes:
                    peer.scopes[event.call_id].cancel(reason="canceled by the client")
            elif isinstance(event, CreditGiven) and event.call_id in peer.streams:
                peer.streams[event.call_id].give(event.count)

    def _make_room(self) -> None:
        idle = min(
            (item for item in self._peers.items() if not item[1].scopes),
            key=lambda item: item[1].heard,
            default=None,
        )
        if idle is not None:
            del self._peers[idle[0]]

    def _refuse(self, peer_id: bytes, error: ModelkeepError) -> None:
        self.port.post(peer_id, codec.pack({"t": "error", "id": None, **error.to_map()}))

    def _start(self, peer_id: bytes, peer: Peer, call: CallStarted) -> None:
        method = schema.METHODS.get(call.method)
        if method is None:
            self._fail(
                peer_id,
                peer,
                call,
                ModelkeepError(
                    errors.UNSUPPORTED,
                    f"this daemon has no method {logs.printable(call.method)!r}",
                    "update the daemon, or see docs/protocol.md for what there is",
                ),
            )
            return
        try:
            params = schema.decode_params(method, call.params)
        except (msgspec.ValidationError, RecursionError) as exc:
            error = ModelkeepError(
                errors.INVALID,
                f"{call.method}: {logs.printable(str(exc))}",
                "see docs/protocol.md for its parameters",
            )
            self._fail(peer_id, peer, call, error)
            return
        handler = self._handlers[call.method]
        if not self._is_async[call.method]:
            try:
                result = handler(params)
                self._answer(peer_id, peer, call, result)
            except Exception as exc:
                self._fail(peer_id, peer, call, self._as_error(call, exc))
            return
        if self._nursery is None:
            stopping = ModelkeepError(errors.UNAVAILABLE, "the daemon is stopping")
            self._fail(peer_id, peer, call, stopping)
            return
        # the scope exists before the task runs, so that a cancel right behind finds it
        scope = trio.CancelScope()
        peer.scopes[call.call_id] = scope
        stream = None
        if method.stream:
            stream = Stream(lambda item: self._send_item(peer_id, peer, call, item))
            peer.streams[call.call_id] = stream
        self._nursery.start_soon(self._run, peer_id, peer, call, params, handler, scope, stream)

    async def _run(
        self,
        peer_id: bytes,
        peer: Peer,
        call: CallStarted,
        params: Struct,
        handler: Handler,
        scope: trio.CancelScope,
        stream: Stream | None,
    ) -> None:
        error: ModelkeepError | None = None
        deadline_ms = call.deadline_ms
        if deadline_ms is None and stream is None:
            deadline_ms = DEFAULT_DEADLINE_MS
        result: Any = None
        try:
            with scope:
                if deadline_ms is not None:
                    scope.deadline = trio.current_time() + deadline_ms / 1000
                call_args = (params,) if stream is None else (params, stream)
                result = await handler(*call_args)  # type: ignore[misc]
            if scope.cancelled_caught:
                timed_out = trio.current_time() >= scope.deadline
                error = ModelkeepError(
                    errors.DEADLINE if timed_out else errors.CANCELED,
                    f"{call.method}: {'the deadline passed' if timed_out else 'canceled'}",
                )
        except Exception as exc:
            error = self._as_error(call, exc)
        except trio.Cancelled:
            self._fail(
                peer_id, peer, call, ModelkeepError(errors.UNAVAILABLE, "the daemon is stopping")
            )
            raise
        finally:
            peer.scopes.pop(call.call_id, None)
            peer.streams.pop(call.call_id, None)
        if error is not None:
            self._fail(peer_id, peer, call, error)
        elif stream is not None:
            self._post(peer_id, peer, peer.session.end(call.call_id))
        else:
            self._answer(peer_id, peer, call, result)

    def _as_error(self, call: CallStarted, exc: Exception) -> ModelkeepError:
        if isinstance(exc, ModelkeepError):
            return exc
        mapped = self._map_error(exc)
        if mapped is not None:
            return mapped
        log.error("call failed", exc_info=exc, extra={"facts": {"method": call.method}})
        return ModelkeepError(
            errors.INTERNAL,
            f"{call.method} failed inside the daemon ({type(exc).__name__})",
            "the daemon's log has the details",
        )

    def _answer(self, peer_id: bytes, peer: Peer, call: CallStarted, result: Any) -> None:
        self._post(peer_id, peer, peer.session.reply(call.call_id, schema.encode_result(result)))

    def _send_item(self, peer_id: bytes, peer: Peer, call: CallStarted, item: Struct) -> None:
        self._post(peer_id, peer, peer.session.item(call.call_id, schema.encode_result(item)))

    def _fail(self, peer_id: bytes, peer: Peer, call: CallStarted, error: ModelkeepError) -> None:
        with suppress(codec.BadFrame):
            self._post(peer_id, peer, peer.session.error(call.call_id, error))

    def _post(self, peer_id: bytes, peer: Peer, frame: bytes) -> None:
        # a peer that was forgotten meanwhile gets nothing: its id may be someone else's by now
        if self._peers.get(peer_id) is peer:
            self.port.post(peer_id, frame)

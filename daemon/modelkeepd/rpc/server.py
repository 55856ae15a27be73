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
MAX_STREAM_CREDIT = 100_000
# requests a second a peer may send for long, and how many at once; a large one counts for several.
# Whoever waits for each answer before the next question does not get there.
PEER_RATE = 10_000.0
PEER_BURST = 10_000.0
BYTES_PER_TOKEN = 4096

CAPABILITIES = ("events.cursor", "streams")

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
        self._credit = min(self._credit + count, MAX_STREAM_CREDIT)
        self._given.set()

    async def ready(self) -> None:
        """Wait until an item may be sent."""
        # with much credit nothing else would wait: the pump must have its turn between items
        await trio.lowlevel.checkpoint()
        while self._credit == 0:
            self._given = trio.Event()
            await self._given.wait()

    async def send(self, item: Struct) -> None:
        """Send one item, waiting for credit first."""
        await self.ready()
        self._credit -= 1
        self._send(item)


@dataclass(slots=True)
class OpenCall:
    """One async call under way."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stream: Stream | None = None
    is_canceled: bool = False


@dataclass(slots=True)
class Peer:
    """What is known of one connection."""

    session: ServerSession
    heard: float
    tokens: float = PEER_BURST
    calls: dict[int, OpenCall] = field(default_factory=dict)


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
        self._allowed_uids = frozenset({0, os.getuid()}) if allowed_uids is None else allowed_uids
        self._strangers: set[int] = set()
        self._peers: dict[bytes, Peer] = {}
        self._nursery: trio.Nursery | None = None
        self.port = Port(socket_path, codec.MAX_REQUEST_BYTES, self._on_frame, self._on_lost)

    @property
    def peers(self) -> int:
        """How many connections are known."""
        return len(self._peers)

    @property
    def open_calls(self) -> int:
        """How many calls are under way."""
        return sum(len(peer.calls) for peer in self._peers.values())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until canceled; calls still open then are told that the daemon stops."""
        # the pump outlives the calls, so that their last words leave
        pumping = trio.CancelScope(shield=True)
        async with trio.open_nursery() as pump:
            await pump.start(self._run_port, pumping)
            try:
                async with trio.open_nursery() as calls:
                    self._nursery = calls
                    calls.start_soon(self._expire)
                    task_status.started()
                    try:
                        await trio.sleep_forever()
                    finally:
                        self._nursery = None
            finally:
                pumping.cancel(reason="shutdown")
                self._peers.clear()

    async def _run_port(
        self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]
    ) -> None:
        with scope:
            await self.port.run(task_status=task_status)

    async def _expire(self) -> None:
        while True:
            await trio.sleep(LEASE_S / 4)
            now = self._clock()
            for peer_id, peer in list(self._peers.items()):
                silent_s = now - peer.heard
                if silent_s > STREAM_LEASE_S or (silent_s > LEASE_S and not peer.calls):
                    self._on_lost(peer_id, connected=False)

    def _on_lost(self, peer_id: bytes, connected: bool) -> None:
        peer = self._peers.pop(peer_id, None)
        if peer is None:
            return
        for call in peer.calls.values():
            call.scope.cancel(reason="peer gone")
        if connected:
            # it begins anew, but not with a new allowance: or not reading would be the way to one
            fresh = Peer(ServerSession(self._epoch, capabilities=CAPABILITIES), peer.heard)
            fresh.tokens = peer.tokens
            self._peers[peer_id] = fresh
            too_slow = ModelkeepError(
                errors.BUSY,
                "too many answers were waiting to be read: they were thrown away, and open calls"
                " with them",
                "read faster, or give less credit; then ask again",
                retryable=True,
            )
            self._refuse(peer_id, too_slow)

    def _on_frame(self, peer_id: bytes, uid: int | None, frame: bytes) -> None:
        if uid is not None and uid not in self._allowed_uids:
            self._refuse_stranger(peer_id, uid)
            return
        now = self._clock()
        peer = self._peers.get(peer_id) or self._admit(peer_id, now)
        if peer is None:
            crowded = ModelkeepError(
                errors.BUSY, f"{MAX_PEERS} clients are connected", "close some", retryable=True
            )
            self._refuse(peer_id, crowded)
            return
        peer.tokens = min(PEER_BURST, peer.tokens + (now - peer.heard) * PEER_RATE)
        peer.heard = now
        if peer.tokens < 1:
            flood = ModelkeepError(errors.BUSY, "too many requests", "slow down", retryable=True)
            self.port.post(peer_id, peer.session.refuse(frame, flood))
            return
        peer.tokens -= 1 + len(frame) // BYTES_PER_TOKEN
        frames, events = peer.session.receive(frame)
        for answer in frames:
            self.port.post(peer_id, answer)
        for event in events:
            if isinstance(event, CallStarted):
                self._start(peer_id, peer, event)
                continue
            call = peer.calls.get(event.call_id)
            if call is None:
                continue
            if isinstance(event, CallCanceled):
                call.is_canceled = True
                call.scope.cancel(reason="canceled by the client")
            elif isinstance(event, CreditGiven) and call.stream is not None:
                call.stream.give(event.count)

    def _admit(self, peer_id: bytes, now: float) -> Peer | None:
        """A new peer; with too many, in place of the idle one that was silent the longest."""
        if len(self._peers) >= MAX_PEERS:
            idle = min(
                (item for item in self._peers.items() if not item[1].calls),
                key=lambda item: item[1].heard,
                default=None,
            )
            if idle is None:
                return None
            del self._peers[idle[0]]
        peer = Peer(ServerSession(self._epoch, capabilities=CAPABILITIES), now)
        self._peers[peer_id] = peer
        return peer

    def _refuse_stranger(self, peer_id: bytes, uid: int) -> None:
        if uid not in self._strangers:
            self._strangers.add(uid)
            log.warning("calls of another user refused", extra={"facts": {"uid": uid}})
        stranger = ModelkeepError(
            errors.DENIED,
            f"this daemon belongs to another user (you are uid {uid})",
            "start your own: modelkeepd",
        )
        self._refuse(peer_id, stranger)

    def _refuse(self, peer_id: bytes, error: ModelkeepError) -> None:
        self.port.post(peer_id, codec.pack({"t": "error", "id": None, **error.to_map()}))

    def _start(self, peer_id: bytes, peer: Peer, call: CallStarted) -> None:
        try:
            method, params = _typed(call)
            handler = self._handlers[call.method]
            if not self._is_async[call.method]:
                self._post(peer_id, peer, peer.session.reply(call.call_id, handler(params)))
                return
            if self._nursery is None:
                raise _stopping()
        except Exception as exc:
            self._fail(peer_id, peer, call, exc)
            return
        # the scope exists before the task runs, so that a cancel right behind finds it
        open_call = peer.calls[call.call_id] = OpenCall()
        deadline_ms = call.deadline_ms
        if deadline_ms is None and not method.stream:
            deadline_ms = DEFAULT_DEADLINE_MS
        if deadline_ms is not None:
            # from the receipt, however long the task waits for its turn
            open_call.scope.deadline = trio.current_time() + deadline_ms / 1000
        if method.stream:

            def send(item: Struct) -> None:
                self._post(peer_id, peer, peer.session.item(call.call_id, item))

            open_call.stream = Stream(send)
        self._nursery.start_soon(self._run, peer_id, peer, call, params, handler, open_call)

    async def _run(
        self,
        peer_id: bytes,
        peer: Peer,
        call: CallStarted,
        params: Struct,
        handler: Handler,
        open_call: OpenCall,
    ) -> None:
        scope, stream = open_call.scope, open_call.stream
        args: tuple[Any, ...] = (params,) if stream is None else (params, stream)
        result: Any = None
        try:
            with scope:
                result = await handler(*args)  # type: ignore[misc]
            if scope.cancelled_caught:
                raise _given_up(call, open_call)
            if stream is None:
                frame = peer.session.reply(call.call_id, result)
            else:
                frame = peer.session.end(call.call_id)
        except Exception as exc:
            self._fail(peer_id, peer, call, exc)
        except BaseException:  # canceled, perhaps within a group
            self._fail(peer_id, peer, call, _stopping())
            raise
        else:
            self._post(peer_id, peer, frame)
        finally:
            peer.calls.pop(call.call_id, None)

    def _fail(self, peer_id: bytes, peer: Peer, call: CallStarted, exc: Exception) -> None:
        error = self._as_error(call, exc)
        self._post(peer_id, peer, peer.session.error(call.call_id, error))

    def _as_error(self, call: CallStarted, exc: Exception) -> ModelkeepError:
        # a handler's nursery wraps what one of its tasks raised
        while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
            exc = exc.exceptions[0]
        if isinstance(exc, ModelkeepError):
            return exc
        mapped = self._map_error(exc)
        if mapped is not None:
            return mapped
        log.error("call failed", exc_info=exc, extra={"facts": {"method": call.method}})
        if isinstance(exc, codec.BadFrame):
            return ModelkeepError(
                errors.INTERNAL, f"{call.method}: the answer {exc}", "ask for less at once"
            )
        return ModelkeepError(
            errors.INTERNAL,
            f"{call.method} failed inside the daemon ({type(exc).__name__})",
            "the daemon's log has the details",
        )

    def _post(self, peer_id: bytes, peer: Peer, frame: bytes) -> None:
        # a peer that was forgotten meanwhile gets nothing: its id may be someone else's by now
        if self._peers.get(peer_id) is peer:
            self.port.post(peer_id, frame)


def _typed(call: CallStarted) -> tuple[schema.Method, Struct]:
    method = schema.METHODS.get(call.method)
    if method is None:
        raise ModelkeepError(
            errors.UNSUPPORTED,
            f"this daemon has no method {logs.printable(call.method)!r}",
            "update the daemon, or see docs/protocol.md for what there is",
        )
    try:
        return method, schema.decode_params(method, call.params)
    except (msgspec.ValidationError, RecursionError) as exc:
        raise ModelkeepError(
            errors.INVALID,
            f"{call.method}: {logs.printable(str(exc))}",
            "see docs/protocol.md for its parameters",
        ) from exc


def _given_up(call: CallStarted, open_call: OpenCall) -> ModelkeepError:
    if open_call.is_canceled:
        return ModelkeepError(errors.CANCELED, f"{call.method}: canceled")
    return ModelkeepError(
        errors.DEADLINE, f"{call.method}: the deadline passed", "allow more time", retryable=True
    )


def _stopping() -> ModelkeepError:
    return ModelkeepError(
        errors.UNAVAILABLE, "the daemon is stopping", "start it again: modelkeepd", retryable=True
    )

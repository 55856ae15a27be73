"""An RpcService with handlers of the test's own, and a client that does exactly as it is told.

The client is no model of a good one: it can be silent, flood, or never read. It waits on the
socket's descriptor, so that service and client may share one trio loop.
"""

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio
import zmq

from modelkeep_protocol import codec, errors, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.session import ClientSession
from modelkeepd.rpc.server import Handler, RpcService


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A private folder with a short name: socket paths end at 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="mk-") as folder:
        yield Path(folder)


def all_handlers(own: Mapping[str, Handler] | None = None) -> dict[str, Handler]:
    """A handler for each method: the test's own ones, pings answered, the rest refused."""

    def unused(params: Any) -> schema.Empty:
        raise ModelkeepError(errors.CONFLICT, f"nothing for {type(params).__name__} here")

    handlers: dict[str, Handler] = dict.fromkeys(schema.METHODS, unused)
    handlers["daemon.ping"] = lambda _params: schema.Pong(1)
    return handlers | dict(own or {})


@asynccontextmanager
async def serving(
    path: Path, handlers: Mapping[str, Handler] | None = None, **options: Any
) -> AsyncIterator[RpcService]:
    """The service, running; stopped on leaving."""
    service = RpcService(path, "epoch1", all_handlers(handlers), **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: service.run(task_status=task_status))
        yield service
        nursery.cancel_scope.cancel()


class Peer:
    """One DEALER connection."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", path: Path) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        # little room on this side, so that not reading is felt on the other
        self.socket.rcvhwm = 1
        self.socket.connect(f"ipc://{path}")
        self.session = ClientSession()
        self._fd = int(self.socket.getsockopt(zmq.FD))

    async def send(self, frame: bytes, *more: bytes) -> None:
        """Send a message, waiting for room."""
        while True:
            try:
                self.socket.send_multipart((frame, *more), zmq.DONTWAIT)
                return
            except zmq.Again:
                await self._moved()

    async def receive(self) -> dict[str, Any]:
        """The next message, decoded."""
        while True:
            try:
                message = codec.unpack_trusted(self.socket.recv(zmq.DONTWAIT))
            except zmq.Again:
                await self._moved()
            else:
                assert isinstance(message, dict)
                return message

    async def _moved(self) -> None:
        # any call may eat the descriptor's edge
        if int(self.socket.getsockopt(zmq.EVENTS)) & (zmq.POLLIN | zmq.POLLOUT):
            await trio.lowlevel.checkpoint()
            if int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return
        await trio.lowlevel.wait_readable(self._fd)

    async def start(
        self, method: str, params: Mapping[str, Any] | None = None, deadline_ms: int | None = None
    ) -> int:
        """Send a call; its id."""
        call_id, frame = self.session.call(method, dict(params or {}), deadline_ms)
        await self.send(frame)
        return call_id

    async def ask(
        self, method: str, params: Mapping[str, Any] | None = None, deadline_ms: int | None = None
    ) -> dict[str, Any]:
        """Call, and wait for the message that answers it; others are thrown away."""
        call_id = await self.start(method, params, deadline_ms)
        while (message := await self.receive()).get("id") != call_id:
            pass
        return message

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


@contextmanager
def peers_of(path: Path) -> Iterator[Callable[[], Peer]]:
    """Makes clients; closes them on leaving."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[Peer] = []

    def connect() -> Peer:
        made.append(Peer(context, path))
        return made[-1]

    try:
        yield connect
    finally:
        for peer in made:
            peer.close()
        context.term()

"""The ROUTER socket and the one task that touches it.

Owns binding, receiving, sending and the bounded outbox of each peer. Knows nothing of messages.
A peer that does not read loses its session, with notice in the log; the others go on.
"""

import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

import trio
import zmq

log = logging.getLogger(__name__)

# frames taken from the socket before anything else gets its turn
BURST = 64
OUTBOX_FRAMES = 256
OUTBOX_BYTES = 8 << 20
# a stuck peer makes no room with notice: look again this often
STUCK_RETRY_S = 0.05
HANDSHAKE_MS = 2_000

OnFrame = Callable[[bytes, int | None, bytes], None]
OnGone = Callable[[bytes], None]


class Port:
    """One bound ROUTER socket.

    ``on_frame(peer, uid, frame)`` is called for each message of exactly one frame and must not
    block. ``uid`` is the peer's user on ipc, None where the system does not tell.
    ``on_gone(peer)`` is called when a peer was found to be gone or was dropped.
    """

    def __init__(
        self, path: Path, max_frame_bytes: int, on_frame: OnFrame, on_gone: OnGone
    ) -> None:
        self._path = path
        self._max_frame_bytes = max_frame_bytes
        self._on_frame = on_frame
        self._on_gone = on_gone
        self._outboxes: dict[bytes, deque[bytes]] = {}
        self._outbox_bytes: dict[bytes, int] = {}
        self._wake: trio.CancelScope | None = None
        self.dropped_peers = 0

    def post(self, peer: bytes, frame: bytes) -> None:
        """Queue a frame for a peer; drops the peer when it has too many unread ones."""
        outbox = self._outboxes.get(peer)
        if outbox is None:
            outbox = self._outboxes[peer] = deque()
            self._outbox_bytes[peer] = 0
        waiting = self._outbox_bytes[peer]
        # one frame of any size may always wait, or large answers could never be sent
        if outbox and (len(outbox) >= OUTBOX_FRAMES or waiting + len(frame) > OUTBOX_BYTES):
            self.dropped_peers += 1
            log.warning("peer dropped: it does not read", extra={"facts": {"frames": len(outbox)}})
            self._forget(peer)
            return
        outbox.append(frame)
        self._outbox_bytes[peer] = waiting + len(frame)
        if self._wake is not None:
            self._wake.cancel()

    def _forget(self, peer: bytes) -> None:
        self._outboxes.pop(peer, None)
        self._outbox_bytes.pop(peer, None)
        self._on_gone(peer)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Bind, then receive and send until canceled; what is queued then is sent if it can be.

        The caller holds the instance lock: a second bind on an ipc path steals it silently.
        """
        context = zmq.Context(io_threads=1)
        socket = context.socket(zmq.ROUTER)
        try:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            socket.setsockopt(zmq.LINGER, 200)
            socket.setsockopt(zmq.MAXMSGSIZE, self._max_frame_bytes)
            socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
            socket.setsockopt(zmq.SNDHWM, 64)
            socket.setsockopt(zmq.RCVHWM, 256)
            socket.setsockopt(zmq.BACKLOG, 256)
            # the socket file's mode follows the umask; its folder is 0700 already
            before = os.umask(0o177)
            try:
                socket.bind(f"ipc://{self._path}")
            finally:
                os.umask(before)
            task_status.started()
            await self._pump(socket)
        finally:
            if not socket.closed:
                self._flush(socket)
                socket.close()
            # LINGER bounds this; in a thread, because term waits for the sends to leave
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(context.term)

    async def _pump(self, socket: "zmq.Socket[bytes]") -> None:
        fd = int(socket.getsockopt(zmq.FD))
        while True:
            received = self._receive(socket)
            self._flush(socket)
            # the descriptor is edge-triggered and any call may eat the edge: ask EVENTS last
            if received == BURST or int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                await trio.lowlevel.checkpoint()
                continue
            with trio.CancelScope() as self._wake:
                if self._outboxes:
                    with trio.move_on_after(STUCK_RETRY_S):
                        await trio.lowlevel.wait_readable(fd)
                else:
                    await trio.lowlevel.wait_readable(fd)
            self._wake = None

    def _receive(self, socket: "zmq.Socket[bytes]") -> int:
        for count in range(BURST):
            try:
                parts = socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return count
            if len(parts) != 2:
                log.warning("message of a wrong form", extra={"facts": {"parts": len(parts)}})
                continue
            self._on_frame(parts[0].bytes, _uid(parts[1]), parts[1].bytes)
        return BURST

    def _flush(self, socket: "zmq.Socket[bytes]") -> int:
        sent = 0
        for peer in list(self._outboxes):
            outbox = self._outboxes.get(peer)
            while outbox:
                try:
                    socket.send_multipart((peer, outbox[0]), zmq.DONTWAIT)
                except zmq.Again:
                    break
                except zmq.ZMQError as exc:
                    if exc.errno != errno.EHOSTUNREACH:
                        raise
                    self._forget(peer)
                    break
                self._outbox_bytes[peer] -= len(outbox.popleft())
                sent += 1
            if not outbox:
                self._outboxes.pop(peer, None)
                self._outbox_bytes.pop(peer, None)
        return sent


def _uid(frame: zmq.Frame) -> int | None:
    """The sender's uid: libzmq gives ``host:uid:gid:pid`` on ipc where the kernel tells it."""
    try:
        address = str(frame.get("Peer-Address"))
    except zmq.ZMQError:
        return None
    parts = address.split(":")
    return int(parts[1]) if len(parts) == 4 and parts[1].isdecimal() else None

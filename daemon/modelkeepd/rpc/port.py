"""The ROUTER socket and the one task that touches it.

Owns binding, receiving, sending and the bounded outbox of each peer. Knows nothing of messages.
A peer that does not read loses what was queued for it, with notice; the others go on.
"""

import errno
import functools
import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

import trio
import zmq

log = logging.getLogger(__name__)

# taken from the socket before anything else in the daemon gets its turn
BURST_FRAMES = 64
BURST_BYTES = 256 << 10
OUTBOX_FRAMES = 256
OUTBOX_BYTES = 8 << 20
# room at a stuck peer is not always told: look again, less and less often
STUCK_RETRY_S = 0.02
LONGEST_STUCK_RETRY_S = 0.5
HANDSHAKE_MS = 2_000

# plain numbers: pyzmq's flags are enums, whose arithmetic costs more than the call
_DONTWAIT = int(zmq.DONTWAIT)
_SNDMORE = int(zmq.SNDMORE | zmq.DONTWAIT)
_POLLIN = int(zmq.POLLIN)

OnFrame = Callable[[bytes, int | None, bytes], None]
OnLost = Callable[[bytes, bool], None]


class Port:
    """One bound ROUTER socket.

    ``on_frame(peer, uid, frame)`` is called for each message of exactly one frame and must not
    block. ``uid`` is the peer's user on ipc, None where the system does not tell.
    ``on_lost(peer, connected)`` is called when a peer was found to be gone, or when frames for it
    were thrown away because it is there and does not read.
    """

    def __init__(
        self, path: Path, max_frame_bytes: int, on_frame: OnFrame, on_lost: OnLost
    ) -> None:
        self._path = path
        self._max_frame_bytes = max_frame_bytes
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._outboxes: dict[bytes, deque[bytes]] = {}
        self._outbox_bytes: dict[bytes, int] = {}
        self._asleep_on: int | None = None
        self.dropped_peers = 0
        self.malformed_messages = 0

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
            if _is_worth_a_line(self.dropped_peers):
                facts = {"frames": len(outbox), "bytes": waiting, "dropped": self.dropped_peers}
                log.warning("peer dropped: it does not read", extra={"facts": facts})
            self._forget(peer, connected=True)
            return
        outbox.append(frame)
        self._outbox_bytes[peer] = waiting + len(frame)
        if self._asleep_on is not None:
            # wakes the pump as a cancel scope would, without the price of one for each message
            trio.lowlevel.notify_closing(self._asleep_on)
            self._asleep_on = None

    def _forget(self, peer: bytes, *, connected: bool) -> None:
        self._outboxes.pop(peer, None)
        self._outbox_bytes.pop(peer, None)
        self._on_lost(peer, connected)

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
            self._flush(socket)
            socket.close()
            # LINGER bounds this; in a thread, because term waits for the sends to leave
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(context.term)

    async def _pump(self, socket: "zmq.Socket[bytes]") -> None:
        fd = int(socket.getsockopt(zmq.FD))
        retry_s = STUCK_RETRY_S
        while True:
            # the descriptor is edge-triggered and any call may eat the edge: whatever comes last
            # must be a look for messages
            more = self._receive(socket)
            if self._outboxes:
                moved = self._flush(socket)
                retry_s = STUCK_RETRY_S if moved else min(retry_s * 2, LONGEST_STUCK_RETRY_S)
                more = more or _has_message(socket)
            if more:
                await trio.lowlevel.checkpoint()
                continue
            self._asleep_on = fd
            try:
                if self._outboxes:
                    with trio.move_on_after(retry_s):
                        await trio.lowlevel.wait_readable(fd)
                else:
                    await trio.lowlevel.wait_readable(fd)
            except trio.ClosedResourceError:
                pass  # post() has something to send
            finally:
                self._asleep_on = None

    def _receive(self, socket: "zmq.Socket[bytes]") -> bool:
        """Take a burst of messages; True when it ended before the messages did."""
        taken_bytes = 0
        for _ in range(BURST_FRAMES):
            try:
                peer = socket.recv(_DONTWAIT)
            except zmq.Again:
                return False
            # the parts of a message come together: none of these can be missing
            part = socket.recv(_DONTWAIT, copy=False)
            taken_bytes += len(part)
            if part.more:
                taken_bytes += self._skip_rest(socket)
            else:
                self._on_frame(peer, _uid(part), part.bytes)
                # the usual answer is there already: it need not wait for the burst's end
                self._send_waiting(socket, peer)
            if not _has_message(socket):
                return False
            if taken_bytes >= BURST_BYTES:
                break
        return True

    def _skip_rest(self, socket: "zmq.Socket[bytes]") -> int:
        """A message of several frames is no message of ours."""
        skipped_bytes, more = 0, True
        while more:
            part = socket.recv(_DONTWAIT, copy=False)
            skipped_bytes += len(part)
            more = part.more
        self.malformed_messages += 1
        if _is_worth_a_line(self.malformed_messages):
            facts = {"messages": self.malformed_messages}
            log.warning("message of several frames ignored", extra={"facts": facts})
        return skipped_bytes

    def _flush(self, socket: "zmq.Socket[bytes]") -> int:
        return sum(self._send_waiting(socket, peer) for peer in list(self._outboxes))

    def _send_waiting(self, socket: "zmq.Socket[bytes]", peer: bytes) -> int:
        """Send what one peer has room for; the number of frames that left."""
        outbox = self._outboxes.get(peer)
        sent = 0
        while outbox:
            try:
                socket.send(peer, _SNDMORE)
                socket.send(outbox[0], _DONTWAIT)
            except zmq.Again:
                return sent
            except zmq.ZMQError as exc:
                if exc.errno != errno.EHOSTUNREACH:
                    raise
                self._forget(peer, connected=False)
                return sent
            self._outbox_bytes[peer] -= len(outbox.popleft())
            sent += 1
        if outbox is not None:
            del self._outboxes[peer], self._outbox_bytes[peer]
        return sent


def _has_message(socket: "zmq.Socket[bytes]") -> bool:
    return bool(int(socket.get(zmq.EVENTS)) & _POLLIN)


def _is_worth_a_line(count: int) -> bool:
    # the first, the second, the fourth: a peer that repeats itself must not fill the log
    return count & (count - 1) == 0


def _uid(frame: zmq.Frame) -> int | None:
    """The sender's uid: libzmq gives ``host:uid:gid:pid`` on ipc where the kernel tells it."""
    try:
        return _uid_in(str(frame.get("Peer-Address")))
    except zmq.ZMQError:
        return None


@functools.lru_cache(maxsize=256)
def _uid_in(address: str) -> int | None:
    parts = address.split(":")
    return int(parts[1]) if len(parts) == 4 and parts[1].isdecimal() else None

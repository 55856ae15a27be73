"""The byte engine: one thread drives every connection, a second one writes and hashes.

Owns a CurlMulti, its descriptors and a fixed pool of blocks. It carries out one hop of one request
at a time and knows nothing of jobs, redirects or policy: what may be asked is in the order, what
the answer means is the receiver's business.

The curl thread only copies into blocks; full blocks go to the writer thread, which calls the
receiver's ``write`` (positional write, running hash). When no block is free the transfer is
paused: memory is bounded by the pool however many transfers there are.
"""

import contextlib
import os
import selectors
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import pycurl

from modelkeepd.transfer.order import Ending, Order, configure

BLOCK_BYTES = 256 * 1024
POOL_BLOCKS = 32
_MAX_HEADERS = 200
_IDLE_HANDLES = 16


@dataclass(slots=True, eq=False)
class _Transfer:
    order: Order
    handle: Any
    headers: list[tuple[str, str]] = field(default_factory=list)
    status: int = 0
    version: str = ""
    head_ended: bool = False
    begun: bool = False
    position: int | None = None
    block: bytearray | None = None
    filled: int = 0
    block_position: int = 0
    first_checked: bool = False
    aside: bytearray = field(default_factory=bytearray)
    body_bytes: int = 0
    error: BaseException | None = None
    stopped: bool = False
    paused: bool = False


_ASIDE_LIMIT = 64 * 1024


class Engine:
    """Start once, submit from any thread, stop once."""

    def __init__(
        self, *, pool_blocks: int = POOL_BLOCKS, max_connections_per_host: int = 16
    ) -> None:
        self._pool_blocks = pool_blocks
        self._per_host = max_connections_per_host
        self._commands: deque[tuple[str, Order | None]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)
        self._free: deque[bytearray] = deque()
        self._blocks_made = 0
        self._writes: deque[tuple[_Transfer, bytearray, int, int] | tuple[_Transfer, Ending]]
        self._writes = deque()
        self._writes_ready = threading.Semaphore(0)
        self._starved = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="transfer-curl", daemon=True)
        self._writer = threading.Thread(target=self._write, name="transfer-write", daemon=True)
        self._started = False

    # Any thread ---------------------------------------------------------------------------

    def start(self) -> None:
        self._started = True
        self._thread.start()
        self._writer.start()

    def submit(self, order: Order) -> None:
        """``order.finished`` is called from an engine thread, after the last write."""
        self._commands.append(("add", order))
        self._wake()

    def cancel(self, order: Order) -> None:
        """End the order soon; its ``finished`` is called all the same."""
        order.canceled = True
        self._commands.append(("cancel", order))
        self._wake()

    def stop(self) -> None:
        """Cancel everything, finish the writes, end both threads."""
        if self._started:
            self._commands.append(("stop", None))
            self._wake()
            self._thread.join()
            self._writes_ready.release()
            self._writer.join()
            self._started = False
        for fd in (self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(fd)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    # The curl thread ----------------------------------------------------------------------

    def _run(self) -> None:
        self._multi: Any = pycurl.CurlMulti()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._deadline: float | None = None
        self._running: dict[Any, _Transfer] = {}
        self._by_order: dict[Order, _Transfer] = {}
        self._idle: list[Any] = []
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, self._per_host)
        try:
            while not self._stopping:
                self._turn()
        finally:
            for transfer in list(self._running.values()):
                self._end(transfer, pycurl.E_ABORTED_BY_CALLBACK, "the engine stops")
            while self._commands:
                _, order = self._commands.popleft()
                if order is not None and not order.canceled:
                    order.finished(Ending(42, "the engine stops", None, b"", 0, False))
            for handle in self._idle:
                handle.close()
            self._multi.close()
            self._selector.close()

    def _turn(self) -> None:
        timeout = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        for key, mask in self._selector.select(timeout):
            if key.fd == self._wake_read:
                self._take_commands()
                continue
            action = (pycurl.CSELECT_IN if mask & selectors.EVENT_READ else 0) | (
                pycurl.CSELECT_OUT if mask & selectors.EVENT_WRITE else 0
            )
            self._multi.socket_action(key.fd, action)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._deadline = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._collect()

    def _on_socket(self, what: int, fd: int, _multi: object, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(fd)
            return
        events = (selectors.EVENT_READ if what & pycurl.POLL_IN else 0) | (
            selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0
        )
        try:
            self._selector.modify(fd, events)
        except KeyError:
            self._selector.register(fd, events)

    def _on_timer(self, timeout_ms: int) -> None:
        self._deadline = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    def _take_commands(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while self._commands:
            what, order = self._commands.popleft()
            if what == "stop":
                self._stopping = True
                return
            if what == "resume":
                for transfer in self._running.values():
                    if transfer.paused:
                        transfer.paused = False
                        transfer.handle.pause(pycurl.PAUSE_CONT)
                continue
            assert order is not None
            if what == "add":
                self._add(order)
            elif order in self._by_order:
                self._end(self._by_order[order], pycurl.E_ABORTED_BY_CALLBACK, "canceled")

    def _add(self, order: Order) -> None:
        if order.canceled:
            order.finished(Ending(42, "canceled", None, b"", 0, False))
            return
        handle = self._idle.pop() if self._idle else pycurl.Curl()
        transfer = _Transfer(order, handle)
        try:
            configure(handle, order)
            handle.setopt(pycurl.HEADERFUNCTION, lambda line: _on_header(transfer, line))
            handle.setopt(pycurl.WRITEFUNCTION, lambda data: self._on_body(transfer, data))
            self._multi.add_handle(handle)
        except (pycurl.error, UnicodeError, ValueError) as error:
            handle.close()
            order.finished(Ending(-1, str(error), error, b"", 0, False))
            return
        self._running[handle] = transfer
        self._by_order[order] = transfer

    def _on_body(self, transfer: _Transfer, data: bytes) -> int | None:
        try:
            if not transfer.begun:
                self._begin(transfer)
            if transfer.position is None:
                transfer.aside += data[: _ASIDE_LIMIT - len(transfer.aside)]
                transfer.stopped = len(transfer.aside) >= _ASIDE_LIMIT
                return 0 if transfer.stopped else None
            limit = transfer.order.receiver.limit()
            if limit is not None and transfer.position + len(data) > limit:
                data = data[: max(0, limit - transfer.position)]
                transfer.stopped = True
            if not self._room(transfer, len(data)):
                transfer.paused, transfer.stopped = True, False
                return int(pycurl.WRITEFUNC_PAUSE)
            block = transfer.block
            assert block is not None
            block[transfer.filled : transfer.filled + len(data)] = data
            transfer.filled += len(data)
            transfer.position += len(data)
            transfer.body_bytes += len(data)
            return 0 if transfer.stopped else None
        except BaseException as error:
            transfer.error = error
            return 0

    def _begin(self, transfer: _Transfer) -> None:
        transfer.begun = True
        transfer.position = transfer.order.receiver.begin(
            transfer.status, transfer.headers, transfer.version
        )

    def _room(self, transfer: _Transfer, size: int) -> bool:
        """A block with room for the piece; hands the full one to the writer first."""
        if transfer.block is not None and transfer.filled + size <= BLOCK_BYTES:
            return True
        self._flush(transfer)
        try:
            transfer.block = self._free.popleft()
        except IndexError:
            if self._blocks_made >= self._pool_blocks:
                self._starved = True
                # The writer may have freed one between the two looks: then take it.
                if not self._free:
                    return False
                transfer.block = self._free.popleft()
            else:
                self._blocks_made += 1
                transfer.block = bytearray(BLOCK_BYTES)
        assert transfer.position is not None
        transfer.filled, transfer.block_position = 0, transfer.position
        return True

    def _flush(self, transfer: _Transfer) -> None:
        block = transfer.block
        if block is None:
            return
        transfer.block = None
        if transfer.filled and not transfer.first_checked:
            transfer.first_checked = True
            try:
                transfer.order.receiver.check_first(bytes(block[: min(512, transfer.filled)]))
            except BaseException:
                self._free.append(block)
                raise
        self._writes.append((transfer, block, transfer.block_position, transfer.filled))
        self._writes_ready.release()

    def _collect(self) -> None:
        """Hand finished transfers on."""
        while True:
            queued, good, bad = self._multi.info_read()
            for handle in good:
                self._end(self._running[handle], 0, "")
            for handle, code, text in bad:
                self._end(self._running[handle], code, text)
            if not queued:
                break
        for transfer in [t for t in self._running.values() if t.error is not None]:
            self._end(transfer, pycurl.E_WRITE_ERROR, "refused")

    def _end(self, transfer: _Transfer, code: int, text: str) -> None:
        handle = transfer.handle
        del self._running[handle]
        del self._by_order[transfer.order]
        self._multi.remove_handle(handle)
        if code == 0 and not transfer.head_ended:
            code, text = pycurl.E_GOT_NOTHING, "the answer ended in its head"
        try:
            if code == 0 and not transfer.begun:
                self._begin(transfer)
            self._flush(transfer)
        except BaseException as error:
            transfer.error = transfer.error or error
        address = handle.getinfo(pycurl.PRIMARY_IP) or ""
        ending = Ending(
            0 if transfer.stopped and transfer.error is None else code,
            text,
            transfer.error,
            bytes(transfer.aside),
            transfer.body_bytes,
            transfer.stopped,
            transfer.version,
            address,
        )
        handle.reset()
        if len(self._idle) < _IDLE_HANDLES:
            self._idle.append(handle)
        else:
            handle.close()
        self._writes.append((transfer, ending))
        self._writes_ready.release()

    # The writer thread --------------------------------------------------------------------

    def _write(self) -> None:
        while True:
            self._writes_ready.acquire()
            if not self._writes:
                return  # released once more than there were items: the engine stops
            item = self._writes.popleft()
            if len(item) == 2:
                transfer, ending = item
                if transfer.error is not ending.error:
                    ending = replace(ending, error=transfer.error)
                transfer.order.finished(ending)
                continue
            transfer, block, position, filled = item
            if transfer.error is None and filled:
                try:
                    transfer.order.receiver.write(position, memoryview(block)[:filled])
                except BaseException as error:
                    transfer.error = error
                    self._wake()
            self._free.append(block)
            if self._starved:
                self._starved = False
                self._commands.append(("resume", None))
                self._wake()


def _on_header(transfer: _Transfer, raw: bytes) -> int | None:
    if transfer.begun:
        return None  # trailers
    line = _decoded(raw).rstrip("\r\n")
    if line.startswith("HTTP/"):
        # A new block: after a 1xx, or after a proxy's answer to CONNECT.
        version, _, rest = line.partition(" ")
        status = rest[:3]
        transfer.status = int(status) if status.isascii() and status.isdigit() else 0
        transfer.version = version.removeprefix("HTTP/")
        transfer.headers = []
        transfer.head_ended = False
        return None
    if not line:
        transfer.head_ended = True
    name, colon, value = line.partition(":")
    if colon:
        if len(transfer.headers) >= _MAX_HEADERS:
            return 0
        transfer.headers.append((name.strip().lower(), value.strip()))
    return None


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")

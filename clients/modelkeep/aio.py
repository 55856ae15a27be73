"""The client library for trio: many calls at once on one connection, and streams with credit.

>>> async with aio.open_client() as keeper:
...     status = await keeper.status()
...     async with keeper.watch(topics=["transfer"]) as pages:
...         async for page in pages:
...             print(page.events)

One task reads the connection; a call that is canceled is canceled in the daemon too. When the
daemon goes away the open calls fail, the next call connects again, and a watch goes on by itself
with its cursor.
"""

import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import trio
from msgspec import Struct

from modelkeep import connect
from modelkeep.client import CREDIT, QUIET_S, to_map, to_result
from modelkeep.connect import NoDaemon
from modelkeep.zmtp import TimedOut, Wire, WireError
from modelkeep_protocol import codec, errors, methods, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.paths import find_paths
from modelkeep_protocol.session import Answer, ClientSession, Ended, Failed

if sys.platform == "win32":
    raise ImportError("modelkeep's socket is a unix socket")

__all__ = ["AsyncClient", "EventStream", "ModelkeepError", "NoDaemon", "open_client"]

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_RECEIVE_BYTES = 1 << 18


@asynccontextmanager
async def open_client(socket_path: str | None = None) -> AsyncIterator["AsyncClient"]:
    """A client of the daemon of this home, or of the one at ``socket_path``.

    Connects with the first call, so that it can be opened before the daemon is there.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        client = AsyncClient(socket_path or find_paths().socket, nursery)
        try:
            yield client
        except Exception as error:  # raised below: the nursery would wrap the caller's own error
            failure = error
        finally:
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class _Call:
    """What came for one call, and the news that something did."""

    def __init__(self) -> None:
        self.items: deque[Any] = deque()  # never longer than the credit given
        self.is_over = False
        self.error: ModelkeepError | None = None
        self.news = trio.Event()

    def tell(self) -> None:
        self.news.set()
        self.news = trio.Event()


class _Link:
    """One connection: its stream, its session and the calls that wait for something."""

    def __init__(self, stream: trio.SocketStream, path: str) -> None:
        self.stream = stream
        self.path = path
        self.session = ClientSession()
        self.calls: dict[int, _Call] = {}
        self.is_up = True
        self._wire = Wire(codec.MAX_REPLY_BYTES)
        self._sending = trio.Lock()
        self._heard = True

    async def greet(self) -> None:
        """Exchange greetings. Raises WireError."""
        await self._flush()
        while not self._wire.is_ready:
            await self._read()

    async def send(self, *frames: bytes) -> None:
        """Send frames, all or none of them."""
        for frame in frames:
            self._wire.send(frame)
        await self._flush()

    async def run(self) -> None:
        """Read until the connection ends; then nothing waits for it any more."""
        gone: Exception = WireError("it has hung up")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_alive)
                await self._receive()
        except* (WireError, codec.BadFrame, trio.BrokenResourceError) as group:
            gone = group.exceptions[0]
        finally:
            self.is_up = False
            error = connect.no_daemon(self.path, gone)
            for call in self.calls.values():
                call.error = call.error or error
                call.tell()
            self.calls.clear()
            with trio.CancelScope(shield=True):
                await self.stream.aclose()

    async def _receive(self) -> None:
        while True:
            while (frame := self._wire.receive()) is not None:
                self._take(frame)
            await self._flush()
            await self._read()
            self._heard = True

    def _take(self, frame: bytes) -> None:
        event = self.session.receive(frame)
        if isinstance(event, Failed) and event.call_id is None:
            raise WireError(f"it did not understand us: {event.error.message}")
        if not isinstance(event, Answer | Ended | Failed):
            return
        call = self.calls.get(event.call_id)  # type: ignore[arg-type]
        if call is None:
            return  # it was canceled meanwhile
        if isinstance(event, Answer):
            call.items.append(event.value)
            call.is_over = event.is_last
        else:
            call.is_over = True
            call.error = event.error if isinstance(event, Failed) else None
        call.tell()

    async def _keep_alive(self) -> None:
        """Streams are leases, and a daemon that hangs never hangs up."""
        while True:
            await trio.sleep(QUIET_S)
            if not self._heard:
                raise WireError("it has been silent for too long")
            self._heard = False
            await self.send(codec.pack({"t": "ping"}))

    async def _flush(self) -> None:
        async with self._sending:
            outgoing = bytes(self._wire.outgoing)
            self._wire.outgoing.clear()
            if not outgoing:
                return
            try:
                # a frame half sent would end the connection: either all of it, or hang up
                with trio.CancelScope(shield=True), trio.fail_after(QUIET_S):
                    await self.stream.send_all(outgoing)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                raise WireError("it has hung up") from None

    async def _read(self) -> None:
        try:
            data = await self.stream.receive_some(_RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            raise WireError("it has hung up")
        self._wire.feed(data)


class AsyncClient:
    """See :func:`open_client`."""

    def __init__(self, socket_path: str, nursery: trio.Nursery) -> None:
        self.socket_path = socket_path
        self._nursery = nursery
        self._link: _Link | None = None
        self._connecting = trio.Lock()

    async def call(
        self,
        method: str,
        params: Struct | dict[str, Any] | None = None,
        *,
        deadline_s: float = connect.CALL_S,
    ) -> Any:
        """Call any method; its result Struct. Raises ModelkeepError."""
        with trio.move_on_after(deadline_s + 1.0):
            link = await self._connected()
            call_id, frame = link.session.call(method, to_map(params), int(deadline_s * 1000))
            call = link.calls[call_id] = _Call()
            try:
                await self._send(link, frame)
                while not (call.is_over or call.error):
                    await call.news.wait()
            finally:
                await forget(link, call_id, call)
            if call.error:
                raise call.error
            return to_result(method, call.items[0])
        raise ModelkeepError(
            errors.DEADLINE,
            f"the daemon did not answer {method} within {deadline_s:g} s",
            "it may be busy; `modelkeep status` tells, and its log says more",
            retryable=True,
        )

    async def status(self) -> schema.Status:
        """Daemon, catalog, queue and library at a glance."""
        result: schema.Status = await self.call(methods.DAEMON_STATUS)
        return result

    async def search(
        self, query: str = "", *, sort: str = "", limit: int = 20, offset: int = 0
    ) -> schema.SearchPage:
        """Models that match."""
        result: schema.SearchPage = await self.call(
            methods.CATALOG_SEARCH, schema.Search(query, sort, limit, offset)
        )
        return result

    async def show(self, ref: str, *, raw: bool = False) -> schema.ModelDetail:
        """One model. Raises ``not_found``."""
        result: schema.ModelDetail = await self.call(methods.CATALOG_SHOW, schema.Show(ref, raw))
        return result

    async def get(self, refs: Sequence[str], *, file: str = "", to: str = "") -> schema.GetResult:
        """Queue downloads; follow them with :meth:`watch`."""
        result: schema.GetResult = await self.call(
            methods.TRANSFER_GET, schema.Get(list(refs), file, to), deadline_s=120.0
        )
        return result

    async def jobs(self, ids: Sequence[int] = (), states: Sequence[str] = ()) -> list[schema.Job]:
        """The first thousand jobs with these ids, or in these states."""
        result: schema.Jobs = await self.call(
            methods.TRANSFER_LIST, schema.ListJobs(list(ids), list(states), 1000)
        )
        return result.jobs

    def watch(self, since: str = "", topics: Sequence[str] = ()) -> "EventStream":
        """Follow the event log: ``async with keeper.watch() as pages: async for page in pages``.

        The first page comes at once and tells the cursor. A page with ``fresh`` says that events
        were missed for good: fetch anew what you show.
        """
        return EventStream(self, since, topics)

    async def _connected(self) -> _Link:
        async with self._connecting:
            if self._link is not None and self._link.is_up:
                return self._link
            try:
                with trio.fail_after(connect.GREETING_S):
                    link = _Link(await trio.open_unix_socket(self.socket_path), self.socket_path)
                    try:
                        await link.greet()
                    except BaseException:
                        await trio.aclose_forcefully(link.stream)
                        raise
            except trio.TooSlowError:
                raise connect.no_daemon(self.socket_path, TimedOut()) from None
            except (OSError, WireError) as exc:
                raise connect.no_daemon(self.socket_path, exc) from None
            self._link = link
            self._nursery.start_soon(link.run)
            return link

    async def _send(self, link: _Link, *frames: bytes) -> None:
        try:
            await link.send(*frames)
        except WireError as exc:
            raise connect.no_daemon(self.socket_path, exc) from None


async def forget(link: _Link, call_id: int, call: _Call) -> None:
    """Stop waiting for a call; the daemon is told when it is not over."""
    link.calls.pop(call_id, None)
    if call.is_over or call.error or not link.is_up:
        return
    with trio.move_on_after(1.0, shield=True):
        try:
            await link.send(link.session.cancel(call_id))
        except WireError:
            return  # gone, and the call with it


class EventStream:
    """Pages of events, over restarts of the daemon. ``cursor`` is where it stands."""

    def __init__(self, client: AsyncClient, since: str, topics: Sequence[str]) -> None:
        self.cursor = since
        self._client = client
        self._topics = list(topics)
        self._open: tuple[_Link, int, _Call] | None = None
        self._has_begun = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._open is not None:
            await forget(*self._open)
            self._open = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> schema.EventPage:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                page = await self._next()
            except NoDaemon:
                self._open = None
                if not self._has_begun:
                    raise
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                continue
            self.cursor = page.cursor
            if page.events or page.fresh or not self._has_begun:
                self._has_begun = True
                return page

    async def _next(self) -> schema.EventPage:
        link, call_id, call = self._open = self._open or await self._begin()
        while not call.items:
            if call.error or call.is_over:
                self._open = None
                raise call.error or connect.no_daemon(
                    self._client.socket_path, WireError("it ended the stream")
                )
            await call.news.wait()
        # before the item is taken: a cancellation here loses nothing
        await self._client._send(link, link.session.credit(call_id, 1))
        page: schema.EventPage = to_result(methods.EVENTS_WATCH, call.items.popleft())
        return page

    async def _begin(self) -> tuple[_Link, int, _Call]:
        link = await self._client._connected()
        call_id, frame = link.session.call(
            methods.EVENTS_WATCH, {"since": self.cursor, "topics": self._topics}
        )
        call = link.calls[call_id] = _Call()
        await self._client._send(link, frame, link.session.credit(call_id, CREDIT))
        return link, call_id, call

"""The blocking client library: typed calls, and the event log as an endless iterator.

>>> from modelkeep.client import Client
>>> with Client() as keeper:
...     for hit in keeper.search("watercolor type:lora", limit=5).items:
...         print(hit.ref, hit.name)

A client belongs to one thread. Programs on trio use ``modelkeep.aio``.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

import msgspec
from msgspec import Struct

from modelkeep import connect
from modelkeep.connect import NoDaemon
from modelkeep.zmtp import Dealer, TimedOut, WireError
from modelkeep_protocol import codec, errors, methods, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.paths import find_paths
from modelkeep_protocol.session import Answer, ClientEvent, ClientSession, Ended, Failed

__all__ = ["Client", "ModelkeepError", "NoDaemon"]

# pages of events the daemon may send ahead
CREDIT = 4
# how long to listen in silence before asking whether the daemon is still there, and for the answer
QUIET_S = 30.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


class Client:
    """One connection to the daemon of this home, or to the one at ``socket_path``.

    Raises NoDaemon (a ModelkeepError) when nobody answers.
    """

    def __init__(self, socket_path: str | None = None, *, deadline_s: float = 30.0) -> None:
        self.socket_path = socket_path or find_paths().socket
        self.deadline_s = deadline_s
        self._connection: connect.Connection | None = connect.Connection(self.socket_path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; jobs go on."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(
        self,
        method: str,
        params: Struct | dict[str, Any] | None = None,
        *,
        deadline_s: float | None = None,
    ) -> Any:
        """Call any method of ``modelkeep_protocol.schema.METHODS``; its result Struct.

        After a NoDaemon the next call connects again.

        >>> keeper.call(methods.LIBRARY_ADD, {"path": "/data/loras"}).items
        """
        if self._connection is None:
            self._connection = connect.Connection(self.socket_path)
        try:
            result = self._connection.call(
                method, to_map(params), deadline_s=deadline_s or self.deadline_s
            )
        except NoDaemon:
            self.close()
            raise
        return to_result(method, result)

    def status(self) -> schema.Status:
        """Daemon, catalog, queue and library at a glance."""
        result: schema.Status = self.call(methods.DAEMON_STATUS)
        return result

    def search(
        self, query: str = "", *, sort: str = "", limit: int = 20, offset: int = 0
    ) -> schema.SearchPage:
        """Models that match."""
        result: schema.SearchPage = self.call(
            methods.CATALOG_SEARCH, schema.Search(query, sort, limit, offset)
        )
        return result

    def show(self, ref: str, *, raw: bool = False) -> schema.ModelDetail:
        """One model: ``civitai:1102``, ``sha256:…``, a path. Raises ``not_found``."""
        result: schema.ModelDetail = self.call(methods.CATALOG_SHOW, schema.Show(ref, raw))
        return result

    def get(self, refs: Sequence[str], *, file: str = "", to: str = "") -> schema.GetResult:
        """Queue downloads. Follow the jobs with :meth:`jobs` or :meth:`events`."""
        result: schema.GetResult = self.call(
            methods.TRANSFER_GET, schema.Get(list(refs), file, to), deadline_s=120.0
        )
        return result

    def jobs(self, ids: Sequence[int] = (), states: Sequence[str] = ()) -> list[schema.Job]:
        """The first thousand jobs with these ids, or in these states."""
        result: schema.Jobs = self.call(
            methods.TRANSFER_LIST, schema.ListJobs(list(ids), list(states), 1000)
        )
        return result.jobs

    def files(self, text: str = "", *, limit: int = 100) -> list[schema.LibraryFile]:
        """Files of the library whose path has ``text`` in it."""
        result: schema.LibraryFiles = self.call(
            methods.LIBRARY_LIST, schema.ListFiles(text, limit=limit)
        )
        return result.items

    def events(
        self, since: str = "", topics: Sequence[str] = (), *, reconnect: bool = True
    ) -> Iterator[schema.EventPage]:
        """Follow the event log, on a connection of its own.

        Goes on over restarts of the daemon with the last page's cursor; a page with ``fresh``
        says that events were missed for good: fetch anew what you show.

        >>> for page in keeper.events(topics=["library"]):
        ...     for event in page.events:
        ...         print(event.kind, event.subject)
        """
        pause_s, is_first = _FIRST_PAUSE_S, True
        while True:
            try:
                for page in _watch(self.socket_path, since, topics):
                    since, pause_s = page.cursor, _FIRST_PAUSE_S
                    if is_first or page.events or page.fresh:
                        is_first = False
                        yield page
            except NoDaemon:
                if not reconnect or is_first:
                    raise
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def to_map(params: Struct | dict[str, Any] | None) -> dict[str, Any]:
    """Parameters as the wire has them."""
    if params is None:
        return {}
    built: dict[str, Any] = msgspec.to_builtins(params)
    return built


def to_result(method: str, result: Any) -> Any:
    """A result as the method's Struct; the plain value for a method that is not known here."""
    known = schema.METHODS.get(method)
    if known is None:
        return result
    try:
        return msgspec.convert(result, known.result)
    except msgspec.ValidationError as exc:
        raise ModelkeepError(
            errors.INTERNAL,
            f"the answer to {method} is not what it should be: {exc}",
            "are the daemon and this library of the same version?",
        ) from exc


def _watch(path: str, since: str, topics: Sequence[str]) -> Iterator[schema.EventPage]:
    """One stream until it ends. Raises NoDaemon when the daemon goes away."""
    try:
        dealer = Dealer(
            path, deadline_s=connect.GREETING_S, max_message_bytes=codec.MAX_REPLY_BYTES
        )
    except (OSError, WireError, TimedOut) as exc:
        raise connect.no_daemon(path, exc) from None
    session = ClientSession()
    try:
        call_id, frame = session.call(
            methods.EVENTS_WATCH, {"since": since, "topics": list(topics)}
        )
        dealer.send(frame, deadline_s=QUIET_S)
        dealer.send(session.credit(call_id, CREDIT), deadline_s=QUIET_S)
        while True:
            event = _hear(dealer, session)
            if isinstance(event, Failed) and event.call_id in (None, call_id):
                raise event.error
            if isinstance(event, Ended) and event.call_id == call_id:
                return
            if isinstance(event, Answer) and event.call_id == call_id:
                page: schema.EventPage = to_result(methods.EVENTS_WATCH, event.value)
                dealer.send(session.credit(call_id, 1), deadline_s=QUIET_S)
                yield page
    except (WireError, TimedOut) as exc:
        raise connect.no_daemon(path, exc) from None
    finally:
        dealer.close()


def _hear(dealer: Dealer, session: ClientSession) -> ClientEvent | None:
    """What comes next. In silence the daemon is asked whether it is there: its lease too."""
    try:
        frame = dealer.receive(deadline_s=QUIET_S)
    except TimedOut:
        dealer.send(codec.pack({"t": "ping"}), deadline_s=QUIET_S)
        frame = dealer.receive(deadline_s=QUIET_S)
    return session.receive(frame)

"""Events for clients: a page after a cursor, and a stream that follows the log."""

from collections.abc import Collection
from typing import NamedTuple

import apsw
import trio

from modelkeep_protocol import errors, events, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.rpc.server import Stream
from modelkeepd.store import Cursor, EventRow, Store, read_events
from modelkeepd.store.event_log import first_seq, is_gap

# rows a page of a stream; small enough that a slow client's outbox stays small
PAGE_ROWS = 200


class _Rows(NamedTuple):
    """What was found after a place in the log, and how far the log has been seen with it."""

    events: list[EventRow]
    seen: int
    fresh: bool = False


class EventReader:
    """Answers ``events.read`` and ``events.watch`` from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, params: schema.ReadEvents) -> schema.EventPage:
        """One page; waits for the first event when asked to."""
        _check_topics(params.topics)
        seq, fresh = self._begin(params.since)
        limit = params.limit or PAGE_ROWS
        rows = await self._rows(seq, params.topics, limit, fresh)
        with trio.move_on_after(params.wait_ms / 1000):
            while not rows.events and not rows.fresh and params.wait_ms:
                await self._store.feed.changed(rows.seen)
                rows = await self._rows(rows.seen, params.topics, limit)
        return self._page(rows)

    async def watch(self, params: schema.WatchEvents, stream: Stream) -> None:
        """Pages for as long as the client wants them; the first one comes at once.

        The first page tells where the client stands, and ``fresh`` when it has missed events. A
        later one is ``fresh`` when retention was faster than the client.
        """
        _check_topics(params.topics)
        seq, fresh = self._begin(params.since)
        first = True
        while True:
            # read only when the client is ready: what it has not asked for stays in the log
            await stream.ready()
            rows = await self._rows(seq, params.topics, PAGE_ROWS, fresh)
            if rows.events or rows.fresh or first:
                await stream.send(self._page(rows))
                first = fresh = False
            else:
                await self._store.feed.changed(rows.seen)
            seq = rows.seen

    def _begin(self, since: str) -> tuple[int, bool]:
        """Where to read on, and whether that place is lost already."""
        newest = self._store.feed.last_seq
        if not since:
            return newest, False
        try:
            cursor = Cursor.parse(since)
        except ValueError as exc:
            raise ModelkeepError(
                errors.INVALID, str(exc), "use a cursor an event came with, or none for new events"
            ) from None
        if cursor.epoch != self._store.epoch or cursor.seq > newest:
            return newest, True
        return cursor.seq, False

    async def _rows(
        self, seq: int, topics: Collection[str], limit: int, fresh: bool = False
    ) -> _Rows:
        """Rows after ``seq``; fresh when some of those are not kept any more."""
        newest = self._store.feed.last_seq
        if fresh or newest <= seq:
            return _Rows([], max(seq, newest), fresh)
        place = Cursor(self._store.epoch, seq)

        def query(db: apsw.Connection) -> _Rows:
            # in one snapshot: retention may run between two reads
            if is_gap(place, epoch=place.epoch, oldest=first_seq(db), newest=newest):
                return _Rows([], newest, fresh=True)
            found = read_events(db, seq, topics=topics, limit=limit)
            # a commit can be read before it is announced; a cursor on it would be ahead of the log
            announced = [row for row in found if row.seq <= newest]
            if len(announced) == limit:
                return _Rows(announced, announced[-1].seq)  # there may be more behind a full page
            return _Rows(announced, newest)

        return await self._store.read(query)

    def _page(self, rows: _Rows) -> schema.EventPage:
        epoch = self._store.epoch
        return schema.EventPage(
            [
                schema.Event(
                    f"{epoch}:{row.seq}", row.at_ms, row.topic, row.kind, row.subject, row.payload
                )
                for row in rows.events
            ],
            f"{epoch}:{rows.seen}",
            rows.fresh,
        )


def _check_topics(topics: Collection[str]) -> None:
    for topic in topics:
        if topic not in events.TOPICS:
            raise ModelkeepError(
                errors.INVALID,
                f"there is no topic {topic[:40]!r}",
                f"topics are {', '.join(events.TOPICS)}",
            )

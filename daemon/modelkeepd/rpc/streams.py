"""Events for clients: a page after a cursor, and a stream that follows the log."""

from collections.abc import Collection

import apsw
import trio

from modelkeep_protocol import errors, events, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.rpc.server import Stream
from modelkeepd.store import Cursor, EventRow, Store, read_events
from modelkeepd.store.event_log import first_seq, is_gap

# rows a page of a stream; small enough that a slow client's outbox stays small
PAGE_ROWS = 200


class EventReader:
    """Answers ``events.read`` and ``events.watch`` from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, params: schema.ReadEvents) -> schema.EventPage:
        """One page; waits for the first event when asked to."""
        _check_topics(params.topics)
        seq, fresh = await self._begin(params.since)
        limit = params.limit or PAGE_ROWS
        rows, seen = await self._rows(seq, params.topics, limit)
        if not rows and not fresh and params.wait_ms:
            with trio.move_on_after(params.wait_ms / 1000):
                while not rows:
                    await self._store.feed.changed(seen)
                    rows, seen = await self._rows(seen, params.topics, limit)
        return self._page(rows, seen, fresh)

    async def watch(self, params: schema.WatchEvents, stream: Stream) -> None:
        """Pages for as long as the client wants them; the first one comes at once.

        The first page tells where the client stands, and ``fresh`` when it has missed events.
        """
        _check_topics(params.topics)
        seq, fresh = await self._begin(params.since)
        first = True
        while True:
            # read only when the client is ready: what it has not asked for stays in the log
            await stream.ready()
            rows, seq = await self._rows(seq, params.topics, PAGE_ROWS)
            if rows or first:
                await stream.send(self._page(rows, seq, fresh))
                first = fresh = False
            else:
                await self._store.feed.changed(seq)

    async def _begin(self, since: str) -> tuple[int, bool]:
        newest = self._store.feed.last_seq
        if not since:
            return newest, False
        try:
            cursor = Cursor.parse(since)
        except ValueError as exc:
            raise ModelkeepError(
                errors.INVALID, str(exc), "use a cursor an event came with, or none for new events"
            ) from None
        oldest = await self._store.read(first_seq)
        if is_gap(cursor, epoch=self._store.epoch, oldest=oldest, newest=newest):
            return newest, True
        return cursor.seq, False

    async def _rows(
        self, seq: int, topics: Collection[str], limit: int
    ) -> tuple[list[EventRow], int]:
        """Rows after ``seq``, and how far the log has been seen with them."""
        newest = self._store.feed.last_seq
        if newest <= seq:
            return [], seq

        def query(db: apsw.Connection) -> list[EventRow]:
            return read_events(db, seq, topics=topics, limit=limit)

        rows = await self._store.read(query)
        # a full page may have more behind it; a short one has seen all there was
        return rows, rows[-1].seq if len(rows) == limit else max(newest, seq)

    def _page(self, rows: list[EventRow], seen: int, fresh: bool) -> schema.EventPage:
        epoch = self._store.epoch
        return schema.EventPage(
            [
                schema.Event(
                    f"{epoch}:{row.seq}", row.at_ms, row.topic, row.kind, row.subject, row.payload
                )
                for row in rows
            ],
            f"{epoch}:{max(seen, rows[-1].seq if rows else 0)}",
            fresh,
        )


def _check_topics(topics: Collection[str]) -> None:
    for topic in topics:
        if topic not in events.TOPICS:
            raise ModelkeepError(
                errors.INVALID,
                f"there is no topic {topic[:40]!r}",
                f"topics are {', '.join(events.TOPICS)}",
            )

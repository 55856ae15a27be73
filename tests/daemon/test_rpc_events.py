"""Events over a real socket and store: cursors, freshness, topics, nothing lost or doubled."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from modelkeep_protocol import schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.rpc import streams
from modelkeepd.rpc.server import Stream
from modelkeepd.rpc.streams import EventReader
from modelkeepd.store import Durability, Store, Tx, open_store
from modelkeepd.store.event_log import trim
from tests.fakes.clocks import FakeClocks
from tests.fakes.rpc import Peer, peers_of, serving, socket_folder


async def emit(store: Store, *events: tuple[str, str]) -> None:
    """One transaction with these (topic, subject)s."""

    def unit(tx: Tx) -> None:
        for topic, subject in events:
            tx.emit(topic, "test", subject, {"subject": subject})

    await store.apply(unit, durability=Durability.NORMAL, name="test.emit")


async def forget(store: Store, keep_rows: int) -> None:
    """What retention does."""

    def unit(tx: Tx) -> None:
        trim(tx, keep_rows=keep_rows)

    await store.apply(unit, durability=Durability.NORMAL, name="test.trim")


def subjects(page: schema.EventPage) -> list[str]:
    return [event.subject for event in page.events]


def ask(since: str = "", **more: Any) -> schema.ReadEvents:
    return schema.ReadEvents(since=since, **more)


class Received:
    """A stream's other end, in the same task."""

    def __init__(self) -> None:
        self.pages_send, self.pages = trio.open_memory_channel[schema.EventPage](1000)
        self.stream = Stream(self._take)

    def _take(self, item: Any) -> None:
        self.pages_send.send_nowait(item)

    async def next(self) -> schema.EventPage:
        self.stream.give(1)
        return await self.pages.receive()


@asynccontextmanager
async def watching(
    store: Store, since: str = "", topics: Sequence[str] = ()
) -> AsyncIterator[Received]:
    received = Received()
    params = schema.WatchEvents(since=since, topics=list(topics))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(EventReader(store).watch, params, received.stream)
        yield received
        nursery.cancel_scope.cancel()


async def test_without_a_cursor_one_begins_now(store: Store) -> None:
    await emit(store, ("sync", "old"))
    reader = EventReader(store)
    page = await reader.read(ask())
    assert (page.events, page.fresh) == ([], False)
    assert page.cursor == f"{store.epoch}:1"
    await emit(store, ("sync", "new"), ("library", "newer"))
    page = await reader.read(ask(page.cursor))
    assert subjects(page) == ["new", "newer"]
    assert page.cursor == page.events[-1].cursor == f"{store.epoch}:3"
    assert page.events[0] == schema.Event(
        f"{store.epoch}:2", page.events[0].at_ms, "sync", "test", "new", {"subject": "new"}
    )
    assert await reader.read(ask(page.cursor)) == schema.EventPage([], page.cursor)


async def test_pages_follow_one_another_without_loss(store: Store) -> None:
    await emit(store, *[("sync", str(n)) for n in range(25)])
    reader, cursor, seen = EventReader(store), f"{store.epoch}:0", []
    while (page := await reader.read(ask(cursor, limit=10))).events:
        seen += subjects(page)
        cursor = page.cursor
    assert seen == [str(n) for n in range(25)]


async def test_a_limit_of_none_is_the_usual_page(store: Store) -> None:
    await emit(store, *[("sync", str(n)) for n in range(streams.PAGE_ROWS + 1)])
    page = await EventReader(store).read(ask(f"{store.epoch}:0", limit=0))
    assert len(page.events) == streams.PAGE_ROWS


async def test_only_the_topics_asked_for_come_and_the_cursor_passes_the_others(
    store: Store,
) -> None:
    await emit(store, ("sync", "a"), ("library", "b"), ("transfer", "c"), ("sync", "d"))
    reader = EventReader(store)
    page = await reader.read(ask(f"{store.epoch}:0", topics=["library", "transfer"]))
    assert subjects(page) == ["b", "c"]
    assert page.cursor == f"{store.epoch}:4"
    page = await reader.read(ask(f"{store.epoch}:0", topics=["library"], limit=1))
    assert page.cursor == f"{store.epoch}:2", "a full page may have more behind it"
    assert (await reader.read(ask(topics=["metrics", "node"]))).events == []


@pytest.mark.parametrize(
    "since",
    ["x", ":", "5", ":5", "e:", "e:-1", "e:1.5", "e: 1", "e:" + "9" * 30, "e:١", "e:1\n"],
)
async def test_what_is_no_cursor_is_refused(store: Store, since: str) -> None:
    with pytest.raises(ModelkeepError, match="not a cursor") as caught:
        await EventReader(store).read(ask(since))
    assert caught.value.code == "invalid"


async def test_what_is_no_topic_is_refused(store: Store) -> None:
    with pytest.raises(ModelkeepError, match="no topic 'weather'") as caught:
        await EventReader(store).read(ask(topics=["sync", "weather"]))
    assert "library" in caught.value.hint


@pytest.mark.parametrize("lost", ["other-epoch:2", "{epoch}:99", "{epoch}:1"])
async def test_a_cursor_that_is_lost_is_told_to_begin_anew(store: Store, lost: str) -> None:
    await emit(store, *[("sync", str(n)) for n in range(6)])
    await forget(store, keep_rows=3)
    lost = lost.format(epoch=store.epoch)
    # at once, even by one that is willing to wait
    page = await EventReader(store).read(ask(lost, wait_ms=60_000))
    assert page == schema.EventPage([], f"{store.epoch}:6", fresh=True)
    async with watching(store, lost) as received:
        assert await received.next() == page
        await emit(store, ("sync", "later"))
        page = await received.next()
        assert (subjects(page), page.fresh) == (["later"], False)


async def test_a_cursor_at_the_edge_of_what_is_kept_is_good(store: Store) -> None:
    await emit(store, *[("sync", str(n)) for n in range(6)])
    await forget(store, keep_rows=3)
    reader = EventReader(store)
    page = await reader.read(ask(f"{store.epoch}:3"))
    assert (subjects(page), page.fresh) == (["3", "4", "5"], False)
    await forget(store, keep_rows=0)
    assert (await reader.read(ask(f"{store.epoch}:5"))).fresh
    assert not (await reader.read(ask(f"{store.epoch}:6"))).fresh


async def test_a_new_epoch_makes_old_cursors_fresh(tmp_path: Path, clocks: FakeClocks) -> None:
    before, after = tmp_path / "before.db", tmp_path / "after.db"
    async with open_store(before, clocks=clocks) as store:
        await emit(store, ("sync", "a"))
        cursor = (await EventReader(store).read(ask())).cursor
        # the files as a kill would leave them
        for suffix in ("", "-wal"):
            shutil.copy(f"{before}{suffix}", f"{after}{suffix}")
    async with open_store(after, clocks=clocks) as store:
        assert (await EventReader(store).read(ask(cursor))).fresh
    async with open_store(before, clocks=clocks) as store:
        assert not (await EventReader(store).read(ask(cursor))).fresh, "it was stopped cleanly"


async def test_a_long_poll_ends_with_the_first_event_of_its_topics(store: Store) -> None:
    reader = EventReader(store)
    pages: list[schema.EventPage] = []

    async def poll() -> None:
        pages.append(await reader.read(ask(topics=["library"], wait_ms=60_000)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        await trio.testing.wait_all_tasks_blocked()
        await emit(store, ("sync", "of another topic"))
        await trio.testing.wait_all_tasks_blocked()
        assert pages == []
        await emit(store, ("library", "wanted"))
    assert subjects(pages[0]) == ["wanted"]


async def test_a_long_poll_that_saw_nothing_says_how_far_it_looked(store: Store) -> None:
    await emit(store, ("sync", "a"))
    page = await EventReader(store).read(ask(topics=["library"], wait_ms=1))
    assert page == schema.EventPage([], f"{store.epoch}:1")


async def test_the_first_page_of_a_stream_tells_where_one_stands(store: Store) -> None:
    await emit(store, ("sync", "old"))
    async with watching(store) as received:
        assert await received.next() == schema.EventPage([], f"{store.epoch}:1")
        await emit(store, ("sync", "new"))
        assert subjects(await received.next()) == ["new"]


async def test_what_came_while_no_credit_was_given_comes_with_it(store: Store) -> None:
    async with watching(store) as received:
        await received.next()
        for number in range(5):
            await emit(store, ("sync", str(number)))
        assert subjects(await received.next()) == ["0", "1", "2", "3", "4"]


async def test_a_client_slower_than_retention_is_told_so(store: Store) -> None:
    async with watching(store) as received:
        await received.next()
        await emit(store, *[("sync", str(n)) for n in range(6)])
        await forget(store, keep_rows=2)
        page = await received.next()
        assert (page.events, page.fresh) == ([], True)
        assert page.cursor == f"{store.epoch}:6"
        await emit(store, ("sync", "after"))
        page = await received.next()
        assert (subjects(page), page.fresh) == (["after"], False)


async def test_an_event_seen_before_it_was_announced_comes_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader sees a commit before the feed has told of it."""
    published = store.feed.publish
    held: list[int] = []
    async with watching(store) as received:
        await received.next()
        await emit(store, ("sync", "a"))
        monkeypatch.setattr(store.feed, "publish", held.append)
        await emit(store, ("sync", "b"))
        seen = subjects(await received.next())
        monkeypatch.undo()
        published(held[-1])
        await emit(store, ("sync", "c"))
        assert seen == ["a"], "a cursor on it would be ahead of the log"
        while "c" not in seen:
            seen += subjects(await received.next())
    assert seen == ["a", "b", "c"]


async def test_nothing_is_lost_or_doubled_while_events_are_written(store: Store) -> None:
    followers, per_writer = 3, 60
    expected = {f"{writer}.{n}" for writer in range(2) for n in range(per_writer)}

    async def write(writer: int) -> None:
        for number in range(per_writer):
            await emit(store, ("sync" if number % 2 else "library", f"{writer}.{number}"))

    async def follow(received: Received, seen: list[str]) -> None:
        while len(seen) < len(expected):
            seen += subjects(await received.next())

    async def poll(cursor: str, seen: list[str]) -> None:
        while len(seen) < len(expected):
            page = await EventReader(store).read(ask(cursor, limit=7, wait_ms=60_000))
            seen += subjects(page)
            cursor = page.cursor

    start = f"{store.epoch}:0"
    seen: list[list[str]] = [[] for _ in range(2 * followers)]
    async with trio.open_nursery() as streams_nursery:
        for number in range(followers):
            received = Received()
            watch = EventReader(store).watch
            streams_nursery.start_soon(watch, schema.WatchEvents(since=start), received.stream)
            async with trio.open_nursery() as nursery:
                if number == 0:
                    nursery.start_soon(write, 0)
                    nursery.start_soon(write, 1)
                nursery.start_soon(follow, received, seen[number])
                nursery.start_soon(poll, start, seen[followers + number])
        streams_nursery.cancel_scope.cancel()
    for one in seen:
        assert one == seen[0]
        assert set(one) == expected
        assert len(one) == len(expected)


@pytest.fixture
def path() -> Iterator[Path]:
    with socket_folder() as folder:
        yield folder / "rpc.sock"


@pytest.fixture
def connect(path: Path) -> Iterator[Callable[[], Peer]]:
    with peers_of(path) as made:
        yield made


async def test_over_the_socket_two_clients_follow_and_one_catches_up(
    store: Store, path: Path, connect: Callable[[], Peer]
) -> None:
    reader = EventReader(store)
    handlers: dict[str, Any] = {"events.watch": reader.watch, "events.read": reader.read}
    async with serving(path, handlers):
        peer = connect()
        call_id = await peer.start("events.watch", {"topics": ["sync"]})
        await peer.send(peer.session.credit(call_id, 2))
        first = (await peer.receive())["r"]
        assert first["events"] == []
        await emit(store, ("library", "x"), ("sync", "y"))
        page = (await peer.receive())["r"]
        assert [event["subject"] for event in page["events"]] == ["y"]
        # another one was away meanwhile
        other = connect()
        caught_up = (await other.ask("events.read", {"since": first["cursor"]}))["r"]
        assert [event["subject"] for event in caught_up["events"]] == ["x", "y"]
        refused = await other.ask("events.watch", {"since": "nonsense"})
        assert refused["code"] == "invalid"

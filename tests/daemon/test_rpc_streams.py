"""Streams over a real socket: no item without credit, and a slow reader harms only itself."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from modelkeep_protocol import schema
from modelkeepd.rpc import port, server
from modelkeepd.rpc.server import Stream
from tests.fakes.rpc import Peer, peers_of, serving, socket_folder

Connect = Callable[[], Peer]


@pytest.fixture
def path() -> Iterator[Path]:
    with socket_folder() as folder:
        yield folder / "rpc.sock"


@pytest.fixture
def connect(path: Path) -> Iterator[Connect]:
    with peers_of(path) as made:
        yield made


class Counting:
    """A stream of numbered items."""

    def __init__(self, count: int, item_bytes: int = 0) -> None:
        self.count, self.item_bytes = count, item_bytes
        self.sent: list[int] = []
        self.ended = trio.Event()

    def handler(self) -> Any:
        async def count(_params: Any, stream: Stream) -> None:
            try:
                for number in range(self.count):
                    await stream.send(self.item(number))
                    self.sent.append(number)
            finally:
                self.ended.set()

        return count

    def item(self, number: int) -> schema.EventPage:
        event = schema.Event("e:1", 1, "sync", "odd", "x", {"b": b"x" * self.item_bytes})
        return schema.EventPage([event], str(number))


async def test_no_item_comes_without_credit_and_none_more_than_it(
    path: Path, connect: Connect
) -> None:
    counting = Counting(10)
    async with serving(path, {"events.watch": counting.handler()}):
        peer = connect()
        call_id = await peer.start("events.watch")
        # an answer that comes later proves that nothing was sent before it
        assert (await peer.ask("daemon.ping"))["t"] == "reply"
        await trio.testing.wait_all_tasks_blocked()
        assert counting.sent == []
        await peer.send(peer.session.credit(call_id, 3))
        assert [(await peer.receive())["r"]["cursor"] for _ in range(3)] == ["0", "1", "2"]
        await trio.testing.wait_all_tasks_blocked()
        assert counting.sent == [0, 1, 2]
        # credit adds up; what is left over at the end is nothing
        await peer.send(peer.session.credit(call_id, 2))
        await peer.send(peer.session.credit(call_id, 10))
        for number in range(3, 10):
            message = await peer.receive()
            assert (message["t"], message["id"]) == ("item", call_id)
            assert message["r"]["cursor"] == str(number)
        assert await peer.receive() == {"t": "end", "id": call_id}


async def test_a_stream_has_no_deadline_unless_it_is_given_one(
    path: Path, connect: Connect, mock_clock: trio.testing.MockClock
) -> None:
    counting = Counting(1)
    async with serving(path, {"events.watch": counting.handler()}, clock=lambda: 0.0):
        peer = connect()
        await peer.start("events.watch")
        assert (await peer.ask("daemon.ping"))["t"] == "reply"
        mock_clock.jump(3600)
        await trio.testing.wait_all_tasks_blocked()
        assert not counting.ended.is_set()
        await peer.start("events.watch", deadline_ms=5)
        assert (await peer.ask("daemon.ping"))["t"] == "reply"
        mock_clock.jump(1)
        assert (await peer.receive())["code"] == "deadline"


async def test_a_canceled_stream_ends_and_its_id_is_free_again(
    path: Path, connect: Connect
) -> None:
    counting = Counting(1000)
    async with serving(path, {"events.watch": counting.handler()}) as service:
        peer = connect()
        call_id = await peer.start("events.watch")
        await peer.send(peer.session.credit(call_id, 1))
        assert (await peer.receive())["t"] == "item"
        await peer.send(peer.session.cancel(call_id))
        message = await peer.receive()
        assert (message["t"], message["id"], message["code"]) == ("error", call_id, "canceled")
        # too late, and no fault
        await peer.send(peer.session.credit(call_id, 5))
        assert (await peer.ask("daemon.ping"))["t"] == "reply"
        peer.session.next_id = call_id
        assert await peer.start("events.watch") == call_id
        await peer.send(peer.session.credit(call_id, 1))
        assert (await peer.receive())["t"] == "item"
        assert service.open_calls == 1


async def test_a_stream_that_fails_midway_says_so_after_its_items(
    path: Path, connect: Connect
) -> None:
    async def fail(_params: Any, stream: Stream) -> None:
        await stream.send(Counting(1).item(0))
        raise ValueError("broken")

    async with serving(path, {"events.watch": fail}):
        peer = connect()
        call_id = await peer.start("events.watch")
        await peer.send(peer.session.credit(call_id, 10))
        assert (await peer.receive())["t"] == "item"
        assert (await peer.receive())["code"] == "internal"


async def test_a_slow_reader_is_dropped_while_a_fast_one_gets_all(
    path: Path, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    items = 3000
    slow_one, fast_one = Counting(items, 8192), Counting(items, 64)

    async def either(params: schema.WatchEvents, stream: Stream) -> None:
        await (slow_one if params.since else fast_one).handler()(params, stream)

    async with serving(path, {"events.watch": either}) as service:
        slow, fast = connect(), connect()
        call_id = await slow.start("events.watch", {"since": "slow"})
        await slow.send(slow.session.credit(call_id, 10_000))

        call_id = await fast.start("events.watch")
        await fast.send(fast.session.credit(call_id, 100))
        for number in range(items):
            assert (await fast.receive())["r"]["cursor"] == str(number)
            await fast.send(fast.session.credit(call_id, 1))
        assert (await fast.receive())["t"] == "end"

        await slow_one.ended.wait()
        assert len(slow_one.sent) < items
        assert service.port.dropped_peers == 1
        assert service.open_calls == 0
        assert "does not read" in caplog.text
        # what had left already arrives; then the notice, and the peer is served again
        numbers = []
        while (message := await slow.receive())["t"] == "item":
            numbers.append(int(message["r"]["cursor"]))
        assert numbers == list(range(len(numbers)))
        assert (message["t"], message["id"], message["code"]) == ("error", None, "busy")
        assert (await slow.ask("daemon.ping"))["t"] == "reply"


async def test_two_hundred_small_items_may_stay_unread(path: Path, connect: Connect) -> None:
    """docs/protocol.md promises it: the outbox has room for 256 frames, up to 8 MiB."""
    counting = Counting(200, 8192)
    async with serving(path, {"events.watch": counting.handler()}) as service:
        peer = connect()
        call_id = await peer.start("events.watch")
        await peer.send(peer.session.credit(call_id, 200))
        await counting.ended.wait()
        assert service.port.dropped_peers == 0
        assert len(counting.sent) == 200
        for number in range(200):
            assert (await peer.receive())["r"]["cursor"] == str(number)


async def test_not_reading_does_not_win_a_new_allowance(
    path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port, "OUTBOX_FRAMES", 4)
    monkeypatch.setattr(server, "PEER_RATE", 0.0)
    counting = Counting(100_000, 8192)
    async with serving(path, {"events.watch": counting.handler()}) as service:
        peer = connect()
        call_id = await peer.start("events.watch")
        await peer.send(peer.session.credit(call_id, 10_000))
        await counting.ended.wait()
        [known] = service._peers.values()
        assert known.tokens < server.PEER_BURST


async def test_a_stream_whose_peer_hung_up_is_ended(path: Path, connect: Connect) -> None:
    counting = Counting(10**9)
    async with serving(path, {"events.watch": counting.handler()}) as service:
        peer, other = connect(), connect()
        call_id = await peer.start("events.watch")
        await peer.send(peer.session.credit(call_id, 10_000))
        assert (await peer.receive())["t"] == "item"
        peer.close()
        # there is no word of it; the next items find nobody, or no room
        await counting.ended.wait()
        assert (await other.ask("daemon.ping"))["t"] == "reply"
        assert service.open_calls == 0


async def test_a_stream_whose_peer_was_silent_too_long_is_ended(
    path: Path, connect: Connect, mock_clock: trio.testing.MockClock
) -> None:
    counting = Counting(10)
    handlers = {"events.watch": counting.handler()}
    async with serving(path, handlers, clock=trio.current_time) as service:
        silent, idle, alive = connect(), connect(), connect()
        await silent.start("events.watch")
        assert (await silent.ask("daemon.ping"))["t"] == "reply"
        assert (await idle.ask("daemon.ping"))["t"] == "reply"
        for _ in range(int(server.STREAM_LEASE_S / server.LEASE_S) + 1):
            assert (await alive.ask("daemon.ping"))["t"] == "reply"
            mock_clock.jump(server.LEASE_S * 0.9)
            await trio.testing.wait_all_tasks_blocked()
            assert not counting.ended.is_set()
        assert service.peers == 2, "without open calls silence is enough to be forgotten"
        mock_clock.jump(server.STREAM_LEASE_S)
        await counting.ended.wait()
        assert service.open_calls == 0
        # forgotten is not refused
        for peer in (silent, idle, alive):
            assert (await peer.ask("daemon.ping"))["t"] == "reply"

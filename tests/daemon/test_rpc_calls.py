"""Calls over a real socket: answers, errors, deadlines, cancels, and the daemon's end."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
import zmq

from modelkeep_protocol import codec, errors, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.rpc.server import RpcService
from tests.fakes.rpc import Peer, all_handlers, peers_of, serving, socket_folder

Connect = Callable[[], Peer]


@pytest.fixture
def path() -> Iterator[Path]:
    with socket_folder() as folder:
        yield folder / "rpc.sock"


@pytest.fixture
def connect(path: Path) -> Iterator[Connect]:
    with peers_of(path) as made:
        yield made


class Waiting:
    """A handler that waits to be released, and tells how it ended."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.release = trio.Event()
        self.canceled = trio.Event()

    async def __call__(self, _params: Any) -> schema.Completions:
        self.begun.set()
        try:
            await self.release.wait()
        except trio.Cancelled:
            self.canceled.set()
            raise
        return schema.Completions(["done"])

    def handler(self) -> Any:
        async def wait(params: Any) -> schema.Completions:
            return await self(params)

        return wait


COMPLETE = {"kind": "tags"}


async def test_a_plain_and_an_async_handler_are_both_answered(path: Path, connect: Connect) -> None:
    async def search(params: schema.Search) -> schema.SearchPage:
        await trio.lowlevel.checkpoint()
        return schema.SearchPage(params.limit, [])

    async with serving(path, {"catalog.search": search}):
        peer = connect()
        assert (await peer.ask("daemon.ping"))["r"] == {"at_ms": 1}
        # params and result are typed: defaults filled in here, left out there
        assert (await peer.ask("catalog.search"))["r"] == {"total": 20, "items": []}
        assert (await peer.ask("catalog.search", {"limit": 7, "later": 1}))["r"]["total"] == 7


async def test_hello_and_ping_are_answered(path: Path, connect: Connect) -> None:
    async with serving(path):
        peer = connect()
        await peer.send(peer.session.hello("test"))
        welcome = await peer.receive()
        assert (welcome["t"], welcome["epoch"]) == ("welcome", "epoch1")
        assert welcome["capabilities"] == ["events.cursor", "streams"]
        await peer.send(codec.pack({"t": "ping"}))
        assert await peer.receive() == {"t": "pong"}


async def test_calls_of_one_peer_overlap(path: Path, connect: Connect) -> None:
    waiting = Waiting()
    async with serving(path, {"catalog.complete": waiting.handler()}):
        peer = connect()
        slow = await peer.start("catalog.complete", COMPLETE)
        await waiting.begun.wait()
        assert (await peer.ask("daemon.ping"))["t"] == "reply"
        waiting.release.set()
        assert (await peer.receive())["id"] == slow


@pytest.mark.parametrize(
    ("method", "params", "code", "words"),
    [
        ("daemon.fly", {}, "unsupported", "no method 'daemon.fly'"),
        ("\x1b[2J\u202e", {}, "unsupported", "u001b"),
        ("catalog.search", {"limit": 1001}, "invalid", "limit"),
        ("catalog.search", {"limit": 2**64 - 1}, "invalid", "limit"),
        ("catalog.search", {"query": 5}, "invalid", "query"),
        ("catalog.search", {"query": "x" * 20_001}, "invalid", "query"),
        ("catalog.search", {"offset": -1}, "invalid", "offset"),
        ("catalog.show", {}, "invalid", "ref"),
        ("transfer.get", {"refs": []}, "invalid", "refs"),
        ("transfer.list", {"ids": [2**60]}, "invalid", "ids"),
    ],
)
async def test_what_can_not_be_asked_is_refused_with_its_place(
    path: Path, connect: Connect, method: str, params: dict[str, Any], code: str, words: str
) -> None:
    async with serving(path):
        answer = await connect().ask(method, params)
    assert (answer["t"], answer["code"]) == ("error", code)
    assert words in answer["message"]
    assert answer["message"].isprintable()
    assert answer["hint"]


class Domain(Exception):
    """Something a domain would raise."""


def as_error(exc: Exception) -> ModelkeepError | None:
    if isinstance(exc, Domain):
        return ModelkeepError(errors.GATED, "sign the license first", "on its page")
    return None


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("raised", "code", "is_logged"),
    [
        (ModelkeepError(errors.CONFLICT, "not now"), "conflict", False),
        (Domain(), "gated", False),
        (ExceptionGroup("nursery", [ExceptionGroup("inner", [Domain()])]), "gated", False),
        (ExceptionGroup("nursery", [Domain(), Domain()]), "internal", True),
        (ValueError("secret detail"), "internal", True),
        (RecursionError(), "internal", True),
    ],
)
async def test_what_a_handler_raises_is_one_error(
    path: Path,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    is_async: bool,
    raised: Exception,
    code: str,
    is_logged: bool,
) -> None:
    def plain(_params: Any) -> schema.Empty:
        raise raised

    async def asynchronous(_params: Any) -> schema.Empty:
        raise raised

    handler: Any = asynchronous if is_async else plain
    async with serving(path, {"sync.status": handler}, map_error=as_error) as service:
        peer = connect()
        answer = await peer.ask("sync.status")
        assert (answer["t"], answer["code"]) == ("error", code)
        assert "secret detail" not in str(answer), "inner texts are for the log"
        assert (await peer.ask("daemon.ping"))["t"] == "reply"
        assert service.open_calls == 0
    assert ("call failed" in caplog.text) == is_logged


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("result", [object(), schema.Completions(["x" * (33 << 20)])])
async def test_an_answer_that_can_not_be_sent_is_an_error_and_harms_nobody(
    path: Path, connect: Connect, is_async: bool, result: Any
) -> None:
    async def asynchronous(_params: Any) -> Any:
        return result

    handler: Any = asynchronous if is_async else lambda _params: result
    async with serving(path, {"catalog.complete": handler}):
        peer = connect()
        answer = await peer.ask("catalog.complete", COMPLETE)
        assert (answer["t"], answer["code"]) == ("error", "internal")
        assert answer["hint"] == "ask for less at once"
        assert (await peer.ask("daemon.ping"))["t"] == "reply"


async def test_a_large_answer_arrives_whole(path: Path, connect: Connect) -> None:
    large = schema.Completions(["x" * (20 << 20)])
    async with serving(path, {"catalog.complete": lambda _params: large}):
        answer = await connect().ask("catalog.complete", COMPLETE)
    assert answer["r"] == msgspec.to_builtins(large)


async def test_a_deadline_cancels_the_handler_and_says_so(path: Path, connect: Connect) -> None:
    waiting = Waiting()
    async with serving(path, {"catalog.complete": waiting.handler()}) as service:
        answer = await connect().ask("catalog.complete", COMPLETE, deadline_ms=1)
        assert (answer["code"], answer["retryable"]) == ("deadline", True)
        await waiting.canceled.wait()
        assert service.open_calls == 0


async def test_without_a_deadline_there_is_a_default_one(
    path: Path, connect: Connect, mock_clock: trio.testing.MockClock
) -> None:
    waiting = Waiting()
    async with serving(path, {"catalog.complete": waiting.handler()}, clock=lambda: 0.0):
        peer = connect()
        await peer.start("catalog.complete", COMPLETE)
        await waiting.begun.wait()
        mock_clock.jump(121)
        assert (await peer.receive())["code"] == "deadline"


async def test_a_cancel_ends_the_handler_and_is_answered(path: Path, connect: Connect) -> None:
    waiting = Waiting()
    async with serving(path, {"catalog.complete": waiting.handler()}):
        peer = connect()
        call_id = await peer.start("catalog.complete", COMPLETE)
        await waiting.begun.wait()
        await peer.send(peer.session.cancel(call_id))
        answer = await peer.receive()
        assert (answer["id"], answer["code"]) == (call_id, "canceled")
        await waiting.canceled.wait()


async def test_a_cancel_right_behind_its_call_finds_it(path: Path, connect: Connect) -> None:
    waiting = Waiting()
    async with serving(path, {"catalog.complete": waiting.handler()}):
        peer = connect()
        call_id, frame = peer.session.call("catalog.complete", COMPLETE)
        # sent in one go, both are taken in one burst
        await peer.send(frame)
        await peer.send(peer.session.cancel(call_id))
        assert (await peer.receive())["code"] == "canceled"


async def test_a_peer_that_hangs_up_harms_nobody(path: Path, connect: Connect) -> None:
    waiting = Waiting()
    async with serving(path, {"catalog.complete": waiting.handler()}) as service:
        leaving, staying = connect(), connect()
        await leaving.start("catalog.complete", COMPLETE)
        await waiting.begun.wait()
        leaving.close()
        waiting.release.set()
        while service.open_calls:
            assert (await staying.ask("daemon.ping"))["t"] == "reply"


async def test_too_many_open_calls_are_busy(path: Path, connect: Connect) -> None:
    waiting = Waiting()
    async with serving(path, {"catalog.complete": waiting.handler()}):
        peer, other = connect(), connect()
        for _ in range(64):
            await peer.start("catalog.complete", COMPLETE)
        answer = await peer.ask("catalog.complete", COMPLETE)
        assert (answer["code"], answer["retryable"]) == ("busy", True)
        # another peer has its own allowance
        await other.start("catalog.complete", COMPLETE)
        assert (await other.ask("daemon.ping"))["t"] == "reply"
        waiting.release.set()


async def test_open_calls_are_told_that_the_daemon_stops(path: Path, connect: Connect) -> None:
    waiting = Waiting()
    peer = connect()
    async with serving(path, {"catalog.complete": waiting.handler()}):
        call_id = await peer.start("catalog.complete", COMPLETE)
        await waiting.begun.wait()
    answer = await peer.receive()
    assert (answer["id"], answer["code"], answer["retryable"]) == (call_id, "unavailable", True)
    assert answer["message"] == "the daemon is stopping"
    assert waiting.canceled.is_set()


async def test_a_call_that_comes_while_stopping_is_told_so(path: Path, connect: Connect) -> None:
    waiting, leaving = Waiting(), trio.Event()

    async def slow_to_leave(params: Any) -> schema.Completions:
        try:
            return await waiting(params)
        finally:
            with trio.CancelScope(shield=True):
                leaving.set()
                await waiting.release.wait()

    handlers = {"catalog.complete": slow_to_leave, "catalog.show": Waiting().handler()}
    peer = connect()
    async with trio.open_nursery() as nursery:
        service = RpcService(path, "e", all_handlers(handlers))
        await nursery.start(lambda task_status: service.run(task_status=task_status))
        first = await peer.start("catalog.complete", COMPLETE)
        await waiting.begun.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await leaving.wait()
            second = await peer.ask("catalog.show", {"ref": "civitai:1"})
            assert (second["code"], second["message"]) == ("unavailable", "the daemon is stopping")
            # what is answered at once still is
            assert (await peer.ask("daemon.ping"))["t"] == "reply"
            waiting.release.set()
            assert (await peer.receive())["id"] == first


async def test_a_stop_answered_at_once_arrives(path: Path, connect: Connect) -> None:
    asked = trio.Event()

    def stop(_params: Any) -> schema.Empty:
        asked.set()
        return schema.Empty()

    peer = connect()
    async with serving(path, {"daemon.stop": stop}):
        await peer.start("daemon.stop")
        await asked.wait()
    assert (await peer.receive())["t"] == "reply"


async def test_a_service_is_made_for_exactly_the_methods_there_are(path: Path) -> None:
    handlers = all_handlers()
    del handlers["daemon.ping"]
    with pytest.raises(ValueError, match=r"daemon\.ping"):
        RpcService(path, "e", handlers)
    with pytest.raises(ValueError, match=r"daemon\.fly"):
        RpcService(path, "e", {**all_handlers(), "daemon.fly": lambda _params: schema.Empty()})


async def test_a_socket_that_can_not_be_bound_is_an_error_at_the_start(path: Path) -> None:
    service = RpcService(path.parent / "missing" / "rpc.sock", "e", all_handlers())
    with pytest.RaisesGroup(
        pytest.RaisesExc(zmq.ZMQError, match="No such file"), flatten_subgroups=True
    ):
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: service.run(task_status=task_status))


async def test_no_line_is_logged_for_ordinary_calls(
    path: Path, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with serving(path):
            peer = connect()
            await peer.ask("daemon.ping")
            await peer.ask("daemon.fly")
    assert caplog.records == []

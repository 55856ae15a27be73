"""Our ZMTP and pyzmq, as two DEALERs of one ROUTER, see the same."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import zmq

from modelkeep.zmtp import Dealer, TimedOut, WireError

LIMIT = 32 << 20


class Router:
    """A ROUTER that answers with what ``answer`` makes of a message."""

    def __init__(self, path: str, **options: int) -> None:
        self.path = path
        self.answer: Callable[[bytes], list[bytes]] = lambda message: [message]
        self.seen: list[list[bytes]] = []
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        for name, value in options.items():
            self.socket.setsockopt(getattr(zmq, name), value)
        self.socket.bind(f"ipc://{path}")
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while True:
            parts = self.socket.recv_multipart()
            if parts[1:] == [b"stop"]:
                self.socket.close()
                return
            self.seen.append(parts[1:])
            for answer in self.answer(parts[1]):
                self.socket.send_multipart((parts[0], answer))

    def close(self) -> None:
        if self.thread.is_alive():
            last = self.context.socket(zmq.DEALER)
            last.connect(f"ipc://{self.path}")
            last.send(b"stop")
            self.thread.join()
            last.close(linger=0)
        self.context.term()


@contextmanager
def serving(tmp_path, **options: int) -> Iterator[Router]:
    router = Router(str(tmp_path / "r.sock"), **options)
    try:
        yield router
    finally:
        router.close()


class Ours:
    def __init__(self, path: str) -> None:
        self.dealer = Dealer(path, deadline_s=20, max_message_bytes=LIMIT)
        self.close = self.dealer.close

    def send(self, message: bytes) -> None:
        self.dealer.send(message, deadline_s=20)

    def receive(self) -> bytes:
        return self.dealer.receive(deadline_s=20)


class Theirs:
    def __init__(self, path: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.rcvtimeo = 20_000
        self.socket.connect(f"ipc://{path}")

    def send(self, message: bytes) -> None:
        self.socket.send(message)

    def receive(self) -> bytes:
        return self.socket.recv()

    def close(self) -> None:
        self.socket.close(linger=0)
        self.context.term()


@pytest.mark.parametrize("kind", [Ours, Theirs])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_536, 3_000_000])
def test_messages_of_every_size_come_back_whole(tmp_path, kind, size):
    message = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with serving(tmp_path) as router:
        dealer = kind(router.path)
        dealer.send(message)
        assert dealer.receive() == message
        dealer.close()
        assert router.seen == [[message]]  # one frame, as pyzmq's own


@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_many_answers_come_in_order(tmp_path, kind):
    with serving(tmp_path) as router:
        router.answer = lambda message: [message + b"%d" % n for n in range(500)]
        dealer = kind(router.path)
        dealer.send(b"a")
        dealer.send(b"b")
        came = [dealer.receive() for _ in range(1000)]
        dealer.close()
    assert came == [b"a%d" % n for n in range(500)] + [b"b%d" % n for n in range(500)]


def test_both_at_once_are_told_apart(tmp_path):
    with serving(tmp_path) as router:
        dealers = [Ours(router.path), Theirs(router.path), Ours(router.path)]
        for number, dealer in enumerate(dealers):
            dealer.send(b"%d" % number)
        assert [dealer.receive() for dealer in dealers] == [b"0", b"1", b"2"]
        for dealer in dealers:
            dealer.close()


def test_heartbeats_of_the_daemon_are_answered(tmp_path):
    # a peer that leaves pings without answer is hung up on after the timeout
    with serving(tmp_path, HEARTBEAT_IVL=20, HEARTBEAT_TIMEOUT=800) as router:
        dealer = Dealer(router.path, deadline_s=20, max_message_bytes=LIMIT)
        with pytest.raises(TimedOut):
            dealer.receive(deadline_s=1.3)
        dealer.send(b"still here", deadline_s=20)
        assert dealer.receive(deadline_s=20) == b"still here"
        dealer.close()


def test_a_message_over_the_daemons_limit_is_hung_up_on(tmp_path):
    with serving(tmp_path, MAXMSGSIZE=1000) as router:
        dealer = Dealer(router.path, deadline_s=20, max_message_bytes=LIMIT)
        dealer.send(b"x" * 1001, deadline_s=20)
        with pytest.raises(WireError, match="hung up"):
            dealer.receive(deadline_s=20)
        dealer.close()


def test_an_answer_over_our_limit_is_refused(tmp_path):
    with serving(tmp_path) as router:
        dealer = Dealer(router.path, deadline_s=20, max_message_bytes=1000)
        dealer.send(b"x" * 1001, deadline_s=20)
        with pytest.raises(WireError, match="1001 bytes"):
            dealer.receive(deadline_s=20)
        dealer.close()

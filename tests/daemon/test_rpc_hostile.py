"""Hostile peers: whatever one sends or fails to read, the others are served (threats I1 to I9)."""

import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from modelkeep_protocol import codec
from modelkeepd.rpc import server
from modelkeepd.rpc.server import Stream
from tests.fakes.rpc import Peer, peers_of, serving, socket_folder
from tests.protocol.golden_frames import load

Connect = Callable[[], Peer]

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


@pytest.fixture
def path() -> Iterator[Path]:
    with socket_folder() as folder:
        yield folder / "rpc.sock"


@pytest.fixture
def connect(path: Path) -> Iterator[Connect]:
    with peers_of(path) as made:
        yield made


async def read_to_end(stream: trio.SocketStream) -> None:
    """Until the other side hangs up, which it must."""
    with suppress(trio.BrokenResourceError):  # hung up with bytes of ours unread
        while await stream.receive_some():
            pass


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def set_modes(path: Path, folder: int, socket: int) -> None:
    path.parent.chmod(folder)
    path.chmod(socket)


async def test_the_socket_is_private_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        async with serving(path):
            assert mode_of(path) == 0o600
            assert os.umask(0) == 0, "the umask is put back"
    finally:
        os.umask(before)


@pytest.mark.parametrize("is_stranger_pipelining", [False, True])
async def test_another_users_calls_are_refused_and_never_looked_at(
    path: Path,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    is_stranger_pipelining: bool,
) -> None:
    async with serving(path, allowed_uids=frozenset({12345})) as service:
        peer = connect()
        frames = 20 if is_stranger_pipelining else 1
        for _ in range(frames):
            await peer.send(codec.pack({"t": "call", "v": 1, "id": 1, "m": "daemon.stop"}))
        for _ in range(frames):
            answer = await peer.receive()
            assert (answer["t"], answer["id"], answer["code"]) == ("error", None, "denied")
            assert str(os.getuid()) in answer["message"]
        assert service.peers == 0
    assert len(caplog.records) == 1, "one line for a user, not for a message"


CHILD = """
import os, sys, zmq, msgpack
path, uid = sys.argv[1:]
os.setgroups([]); os.setgid(int(uid)); os.setuid(int(uid))
socket = zmq.Context().socket(zmq.DEALER)
socket.linger = 0
socket.rcvtimeo = int(os.environ["LIMIT_MS"])
socket.connect("ipc://" + path)
socket.send(msgpack.packb({"t": "call", "v": 1, "id": 1, "m": "daemon.ping"}))
try:
    print(msgpack.unpackb(socket.recv())["code"])
except zmq.Again:
    print("nothing")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
async def test_a_real_second_user_is_refused_even_when_the_file_modes_let_it_in(
    path: Path,
) -> None:
    def as_nobody(limit_ms: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", CHILD, str(path), "65534"],
            env={**os.environ, "LIMIT_MS": str(limit_ms)},
            capture_output=True,
            text=True,
            check=True,
        )

    async with serving(path) as service:
        set_modes(path, 0o755, 0o666)
        answered = await trio.to_thread.run_sync(as_nobody, 30_000)
        assert answered.stdout.strip() == "denied"
        # with the modes the service gives there is no way in at all
        set_modes(path, 0o755, 0o600)
        kept_out = await trio.to_thread.run_sync(as_nobody, 300)
        assert kept_out.stdout.strip() == "nothing"
        assert service.peers == 0


@pytest.mark.parametrize("length", [codec.MAX_REQUEST_BYTES + 1, 2**31, 2**62, 2**64 - 1])
async def test_an_oversized_frame_ends_that_connection_alone(
    path: Path, connect: Connect, length: int
) -> None:
    async with serving(path):
        peer = connect()
        assert (await peer.ask("daemon.ping"))["t"] == "reply"
        stream = await trio.open_unix_socket(path)
        async with stream:
            await stream.send_all(GREETING + READY)
            came = b""
            while b"READY" not in came:
                came += await stream.receive_some()
            with suppress(trio.BrokenResourceError):
                await stream.send_all(b"\x02" + length.to_bytes(8, "big") + b"x" * 4096)
            await read_to_end(stream)
        assert (await peer.ask("daemon.ping"))["t"] == "reply"


async def test_the_largest_frame_is_taken_and_answered(path: Path, connect: Connect) -> None:
    async with serving(path):
        peer = connect()
        frame = codec.pack({"t": "ping", "x": b""})
        padding = codec.MAX_REQUEST_BYTES - len(frame) - 3
        frame = codec.pack({"t": "ping", "x": b"x" * padding})
        assert len(frame) == codec.MAX_REQUEST_BYTES
        await peer.send(frame)
        assert await peer.receive() == {"t": "pong"}


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        GREETING[:20],
        GREETING.replace(b"NULL", b"XYZW") + READY,
        GREETING + b"\x04\xff" + b"x" * 255,
        GREETING + b"\x04\x06\x05READY" + b"\x04\x05\x04PING",
        b"\xff" * 1000,
        bytes(1000),
        random.Random(1).randbytes(5000),
    ],
)
async def test_what_is_no_zeromq_harms_nobody(path: Path, connect: Connect, junk: bytes) -> None:
    async with serving(path):
        stream = await trio.open_unix_socket(path)
        async with stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(junk)
                await stream.send_eof()
            await read_to_end(stream)
        assert (await connect().ask("daemon.ping"))["t"] == "reply"


async def test_messages_of_several_frames_are_thrown_away(
    path: Path, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    ping = codec.pack({"t": "ping"})
    async with serving(path) as service:
        peer = connect()
        for _ in range(50):
            await peer.send(b"", ping)
            await peer.send(ping, b"")
            await peer.send(*[ping] * 100)
        await peer.send(ping)
        assert await peer.receive() == {"t": "pong"}, "and exactly one"
        assert (await peer.ask("daemon.ping"))["t"] == "reply"
        assert service.port.malformed_messages == 150
    assert len(caplog.records) < 10, "a peer that repeats itself must not fill the log"


async def answered(peer: Peer, frames: list[bytes]) -> list[dict[str, Any]]:
    """What came back for the frames, told by a ping behind them."""
    for frame in frames:
        await peer.send(frame)
    call_id = await peer.start("daemon.ping")
    answers = []
    while (message := await peer.receive()).get("id") != call_id:
        answers.append(message)
    assert message["t"] == "reply"
    return answers


async def bombard(path: Path, connect: Connect, frames: int, seed: int) -> None:
    """Random bytes, then recorded frames with a few bytes changed."""
    source = random.Random(seed)
    recorded = [golden.frame for golden in load() if golden.to == "daemon"]

    async def watch(_params: Any, stream: Stream) -> None:
        await stream.ready()

    # a clock far ahead at each look: the flood's limit is another test's matter
    ticks = iter(range(10**9))
    options = {"events.watch": watch}
    async with serving(path, options, clock=lambda: float(next(ticks))) as service:
        peer, quiet = connect(), connect()
        peer.session.next_id = 2**40  # no damaged frame hits these by chance
        for _ in range(frames // 200):
            random_frames = [source.randbytes(source.choice((1, 3, 20, 200))) for _ in range(100)]
            answers = await answered(peer, random_frames)
            # a stream of an earlier round may end meanwhile
            refused = [answer for answer in answers if answer["id"] is None]
            assert len(refused) == 100
            assert all(answer["code"] == "invalid" for answer in refused)
            damaged = []
            for _ in range(100):
                frame = bytearray(source.choice(recorded))
                for _ in range(source.randint(1, 3)):
                    frame[source.randrange(len(frame))] = source.randrange(256)
                damaged.append(bytes(frame[: source.choice((None, len(frame) - 1))]))
            await answered(peer, damaged)
            assert (await quiet.ask("daemon.ping"))["t"] == "reply"
        assert service.peers == 2
        assert service.port.dropped_peers == 0


async def test_random_and_damaged_frames_are_answered_by_errors(
    path: Path, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    await bombard(path, connect, frames=20_000, seed=20261122)
    assert caplog.records == []


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(5))
async def test_a_million_random_and_damaged_frames(path: Path, connect: Connect, seed: int) -> None:
    await bombard(path, connect, frames=200_000, seed=seed)


async def test_silent_connections_do_not_keep_others_out(path: Path, connect: Connect) -> None:
    async with serving(path) as service, trio.open_nursery() as nursery:
        silent = [await trio.open_unix_socket(path) for _ in range(200)]
        assert (await connect().ask("daemon.ping"))["t"] == "reply"
        assert service.peers == 1
        for stream in silent[::2]:
            await stream.send_all(GREETING[:11])
        assert (await connect().ask("daemon.ping"))["t"] == "reply"
        for stream in silent:
            await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_a_half_greeting_is_hung_up_on(path: Path) -> None:
    """HANDSHAKE_IVL: otherwise a few such peers would hold their descriptors for ever."""
    async with serving(path):
        stream = await trio.open_unix_socket(path)
        async with stream:
            await stream.send_all(GREETING[:40])
            await read_to_end(stream)


async def test_a_flood_is_refused_by_its_id_and_only_the_flooder_is(
    path: Path, connect: Connect
) -> None:
    async with serving(path, clock=lambda: 0.0):
        flooder, other = connect(), connect()
        heavy = codec.pack({"t": "ping", "x": b"x" * (codec.MAX_REQUEST_BYTES - 100)})
        for _ in range(int(server.PEER_BURST * server.BYTES_PER_TOKEN / len(heavy)) + 1):
            await flooder.send(heavy)
            assert (await flooder.receive())["t"] == "pong"
        answer = await flooder.ask("daemon.ping")
        assert (answer["code"], answer["retryable"]) == ("busy", True)
        await flooder.send(heavy)
        assert (await flooder.receive())["id"] is None
        assert (await other.ask("daemon.ping"))["t"] == "reply"


async def test_the_allowance_comes_back_with_time(path: Path, connect: Connect) -> None:
    now = 0.0
    async with serving(path, clock=lambda: now) as service:
        peer = connect()
        assert (await peer.ask("daemon.ping"))["t"] == "reply"
        [known] = service._peers.values()
        known.tokens = 0.0
        assert (await peer.ask("daemon.ping"))["code"] == "busy"
        now = 2 / server.PEER_RATE
        assert (await peer.ask("daemon.ping"))["t"] == "reply"


async def test_pings_that_are_never_read_harm_only_their_sender(
    path: Path, connect: Connect
) -> None:
    async with serving(path) as service:
        deaf, other = connect(), connect()
        ping = codec.pack(
            {"t": "call", "v": 1, "id": 1, "m": "catalog.complete", "p": {"kind": "x"}}
        )
        while not service.port.dropped_peers:
            await deaf.send(ping)
            await trio.lowlevel.checkpoint()
        assert (await other.ask("daemon.ping"))["t"] == "reply"
        waiting = sum(len(box) for box in service.port._outboxes.values())
        assert waiting <= 256


async def test_when_all_places_are_taken_the_longest_idle_peer_makes_room(
    path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_PEERS", 2)

    async def wait(_params: Any, stream: Stream) -> None:
        await stream.ready()

    ticks = iter(range(10**6))
    options = {"events.watch": wait}
    async with serving(path, options, clock=lambda: float(next(ticks))) as service:
        first, second, third = connect(), connect(), connect()
        await first.start("events.watch")
        assert (await first.ask("daemon.ping"))["t"] == "reply"
        assert (await second.ask("daemon.ping"))["t"] == "reply"
        assert (await third.ask("daemon.ping"))["t"] == "reply"
        assert service.peers == 2
        assert service.open_calls == 1, "whoever has calls open stays"
        await third.start("events.watch")
        assert (await third.ask("daemon.ping"))["t"] == "reply"
        # nobody is idle any more
        await second.start("daemon.ping")
        answer = await second.receive()
        assert (answer["code"], answer["retryable"]) == ("busy", True)


async def test_a_stale_socket_is_replaced_and_a_dead_daemon_leaves_no_lock(
    path: Path, connect: Connect
) -> None:
    peer = connect()
    for _ in range(2):
        async with serving(path):
            assert (await peer.ask("daemon.ping"))["t"] == "reply", (
                "clients reconnect by themselves"
            )

"""The RPC's round trip against a bare echo: ``python -m benchmarks.rpc [--size small|full]``.

Ours is ``daemon.ping`` over the daemon's own RpcService (typed parameters, limits, the peer's uid
checked, deadlines, sessions) in a process of its own. Theirs is the least that could do: a loop of
pyzmq and msgpack that sends back what it gets. Both are asked by the same plain client over ipc,
in short interleaved rounds, so that a busy machine is busy for both.
"""

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped,unused-ignore]
import zmq

# rounds, calls a round
SIZES = {"small": (40, 250), "full": (200, 500)}
WARM_UP_CALLS = 500
GOAL = 2.0
READY = "ready"


def main() -> int:
    """Measure and print; the last line is the result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rpc", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--socket", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        SERVERS[options.serve](options.socket)
        return 0
    rounds, calls = SIZES[options.size]
    print(json.dumps([measure(rounds, calls)]))
    return 0


def measure(rounds: int, calls: int) -> dict[str, Any]:
    """The medians of both, from interleaved rounds."""
    with tempfile.TemporaryDirectory(prefix="mk-rpc-") as folder, contextlib.ExitStack() as stack:
        clients = {
            name: stack.enter_context(_served(name, Path(folder) / f"{name}.sock"))
            for name in SERVERS
        }
        taken_us: dict[str, list[float]] = {name: [] for name in SERVERS}
        for client in clients.values():
            client.ask(WARM_UP_CALLS)
        for _ in range(rounds):
            for name, client in clients.items():
                taken_us[name] += client.ask(calls)
    ours, theirs = (statistics.median(taken_us[name]) for name in ("ours", "theirs"))
    for name, values in taken_us.items():
        p99 = statistics.quantiles(values, n=100)[98]
        print(f"{name}: p50 {statistics.median(values):.1f} us, p99 {p99:.1f} us")
    return {
        "name": "rpc.ping",
        "workload": f"{rounds * calls} calls of daemon.ping over ipc, p50, one client",
        "ours": round(ours, 1),
        "theirs": round(theirs, 1),
        "unit": "us",
        "ratio": round(ours / theirs, 2),
        "goal": f"<= {GOAL}",
        "met": ours / theirs <= GOAL,
    }


class Client:
    """What a user's own script would do: pack, send, wait, unpack."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    def ask(self, calls: int) -> list[float]:
        """Call one after the other; microseconds each."""
        socket, taken_us = self._socket, []
        for call_id in itertools.islice(self._ids, calls):
            began = time.perf_counter_ns()
            request = {"t": "call", "v": 1, "id": call_id, "m": "daemon.ping", "p": {}}
            socket.send(msgpack.packb(request))
            answer = msgpack.unpackb(socket.recv())
            taken_us.append((time.perf_counter_ns() - began) / 1000)
            if answer["id"] != call_id or answer["t"] not in ("reply", "call"):
                raise SystemExit(f"a wrong answer: {answer}")
        return taken_us


@contextlib.contextmanager
def _served(name: str, path: Path) -> Iterator[Client]:
    command = [sys.executable, "-m", "benchmarks.rpc", "--serve", name, "--socket", str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        if server.stdout.readline().strip() != READY:
            raise SystemExit(f"the server {name} did not start")
        context = zmq.Context()
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.RCVTIMEO, 10_000)
        socket.connect(f"ipc://{path}")
        try:
            yield Client(socket)
        finally:
            socket.close(linger=0)
            context.term()
            server.terminate()


def _serve_theirs(path: Path) -> None:
    socket = zmq.Context().socket(zmq.ROUTER)
    socket.bind(f"ipc://{path}")
    print(READY, flush=True)
    while True:
        peer, frame = socket.recv_multipart()
        socket.send_multipart((peer, msgpack.packb(msgpack.unpackb(frame))))


def _serve_ours(path: Path) -> None:
    import trio

    from modelkeep_protocol import methods, schema
    from modelkeepd.clocks import Clocks
    from modelkeepd.rpc.server import RpcService

    clocks = Clocks()

    def pong(_params: schema.Empty) -> schema.Pong:
        return schema.Pong(clocks.wall_ms())

    def unused(_params: object) -> schema.Empty:
        return schema.Empty()

    handlers: dict[str, Any] = dict.fromkeys(schema.METHODS, unused)
    handlers[methods.DAEMON_PING] = pong
    service = RpcService(path, "bench", handlers)

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            print(READY, flush=True)

    trio.run(serve)


SERVERS = {"ours": _serve_ours, "theirs": _serve_theirs}


if __name__ == "__main__":
    sys.exit(main())

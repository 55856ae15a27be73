"""A daemon that is made up: the real socket and sessions, answers from a table.

Tests set :attr:`FakeDaemon.answers`; what is not set is answered from a small invented world in
which jobs move one step each time they are listed. Parameters and answers are checked against the
protocol's Structs, so that nobody tests against a shape that does not exist.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import zmq

from modelkeep_protocol import errors, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.paths import find_paths
from modelkeep_protocol.session import CallCanceled, CallStarted, CreditGiven, ServerSession
from tests.fakes import invented

Answer = Callable[[dict[str, Any]], Any]


class FakeDaemon:
    """Runs in a thread between ``with`` and its end. ``calls`` records (method, params)."""

    def __init__(self, socket_path: Path | str, epoch: str = "e1") -> None:
        self.socket_path = Path(socket_path)
        self.epoch = epoch
        self.world = invented.World(epoch)
        self.answers: dict[str, Answer] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.unanswered: set[str] = set()  # methods that are left without any answer
        self.is_deaf = False  # takes messages and does nothing with them
        self._called = threading.Condition()
        self._parked: list[tuple[bytes, CallStarted]] = []  # reads that wait for an event
        self._sessions: dict[bytes, ServerSession] = {}
        self._streams: dict[tuple[bytes, int], _Stream] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._stop = False

    @classmethod
    def at_home(cls, home: Path | str, epoch: str = "e1") -> Self:
        """The daemon of this MODELKEEP_HOME."""
        return cls(find_paths({"MODELKEEP_HOME": str(home)}).socket, epoch)

    def __enter__(self) -> Self:
        self.socket_path.parent.mkdir(parents=True, exist_ok=True)
        self._context = zmq.Context(io_threads=1)
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 200
        self._router.bind(f"ipc://{self.socket_path}")
        self._control = self._context.socket(zmq.PAIR)
        self._control.bind("inproc://control")
        self._remote = self._context.socket(zmq.PAIR)
        self._remote.connect("inproc://control")
        self._thread = threading.Thread(target=self._serve, name="fake daemon")
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if not self._stop:
            self._remote.send(b"stop")
        self._thread.join()
        self._remote.close()
        assert self._context is not None
        self._context.term()
        self.socket_path.unlink(missing_ok=True)

    def wait_stopped(self) -> None:
        """Wait until a client has stopped it; ``with`` must still be left."""
        self._thread.join()

    def emit(self, topic: str, kind: str, subject: str, **payload: Any) -> str:
        """Append an event and tell whoever waits for one; its cursor."""
        cursor = self.world.emit(topic, kind, subject, **payload)
        self._remote.send(b"push")
        return cursor

    def wait_called(self, method: str, times: int = 1, **params: Any) -> None:
        """Wait until a method was called so often, with these parameters among its own."""

        def count() -> bool:
            wanted = params.items()
            found = [p for m, p in self.calls if m == method and wanted <= _hashable(p)]
            return len(found) >= times

        with self._called:
            assert self._called.wait_for(count, timeout=20), f"{method} {params} was not called"

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._control, zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                if self._control in ready and self._control.recv() == b"stop":
                    return
                if self._router in ready:
                    self._take(*self._router.recv_multipart())
                self._answer_parked()
                self._pump_streams()
                if self._stop:
                    return
        finally:
            self._router.close()
            self._control.close()

    def _take(self, peer: bytes, frame: bytes) -> None:
        if self.is_deaf:
            return
        session = self._sessions.setdefault(peer, ServerSession(self.epoch))
        frames, wanted = session.receive(frame)
        for answer in frames:
            self._router.send_multipart((peer, answer))
        for event in wanted:
            if isinstance(event, CallStarted):
                self._start(peer, session, event)
            elif isinstance(event, CreditGiven):
                self._streams[peer, event.call_id].credit += event.count
            elif isinstance(event, CallCanceled):
                self._streams.pop((peer, event.call_id), None)
                self._send(peer, session.end(event.call_id))

    def _start(self, peer: bytes, session: ServerSession, call: CallStarted) -> None:
        with self._called:
            self.calls.append((call.method, call.params))
            self._called.notify_all()
        if call.method in self.unanswered:
            return
        try:
            method = schema.METHODS.get(call.method)
            if method is None:
                raise ModelkeepError(errors.UNSUPPORTED, f"unknown method {call.method}")
            try:
                schema.decode_params(method, call.params)
                unknown = set(call.params) - set(method.params.__struct_fields__)
                if unknown:
                    raise ModelkeepError(errors.INVALID, f"unknown parameters {unknown}")
            except msgspec.ValidationError as exc:
                raise ModelkeepError(errors.INVALID, str(exc)) from exc
            if method.stream:
                self._streams[peer, call.call_id] = _Stream(call.params)
                return
            answer = self.answers.get(call.method) or self.world.answer(call.method)
            result = answer(call.params)
            if call.params.get("wait_ms") and not (result["events"] or result["fresh"]):
                self._parked.append((peer, call))
                return
            typed = msgspec.convert(result, method.result)
            assert set(result) <= set(typed.__struct_fields__), "an invented field"
            self._send(peer, session.reply(call.call_id, msgspec.to_builtins(typed)))
            if call.method == "daemon.stop":
                self._stop = True
        except ModelkeepError as exc:
            self._send(peer, session.error(call.call_id, exc))

    def _answer_parked(self) -> None:
        parked, self._parked = self._parked, []
        for peer, call in parked:
            page = self.world.read_events(call.params)
            if page["events"]:
                self._send(peer, self._sessions[peer].reply(call.call_id, page))
            else:
                self._parked.append((peer, call))

    def _pump_streams(self) -> None:
        for (peer, call_id), stream in list(self._streams.items()):
            while stream.credit:
                page = self.world.read_events({**stream.params, "limit": 100})
                if stream.begun and not page["events"] and not page["fresh"]:
                    break
                stream.begun = True
                stream.params = {**stream.params, "since": page["cursor"]}
                stream.credit -= 1
                self._send(peer, self._sessions[peer].item(call_id, page))

    def _send(self, peer: bytes, frame: bytes) -> None:
        self._router.send_multipart((peer, frame))


def _hashable(params: dict[str, Any]) -> set[tuple[str, Any]]:
    return {(name, value) for name, value in params.items() if not isinstance(value, list)}


class _Stream:
    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.credit = 0
        self.begun = False


def main() -> None:
    """``python -m tests.fakes.daemon HOME``: serve the invented world until killed."""
    import sys

    with FakeDaemon.at_home(sys.argv[1]) as daemon:
        print(daemon.socket_path, flush=True)
        daemon.wait_stopped()


if __name__ == "__main__":
    main()

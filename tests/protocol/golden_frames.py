"""Recorded frames and what they mean, one file for each major version.

``python -m tests.protocol.golden_frames`` adds frames for what has none yet. What was recorded
stays as it is: old clients and daemons go on sending it. Nothing here rewrites a line; a frame that
was wrong from the start is taken out by hand, with a reason in the commit.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from modelkeep_protocol import PROTOCOL_MAJOR, codec, envelope, errors, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.session import ServerSession
from tests.protocol.examples import example

FILE = Path(__file__).parent / "golden" / f"v{PROTOCOL_MAJOR}.jsonl"
CALL_ID = 7


@dataclass(frozen=True)
class Golden:
    """One recorded frame: ``to`` is daemon or client, ``meaning`` plain values."""

    name: str
    to: str
    frame: bytes
    meaning: dict[str, Any]

    def line(self) -> str:
        """As it stands in the file."""
        fields = {
            "name": self.name,
            "to": self.to,
            "frame": self.frame.hex(),
            "meaning": self.meaning,
        }
        return json.dumps(fields, ensure_ascii=False)


def load() -> list[Golden]:
    """All frames recorded so far."""
    if not FILE.exists():
        return []
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return [
        Golden(row["name"], row["to"], bytes.fromhex(row["frame"]), row["meaning"]) for row in rows
    ]


def current() -> Iterator[Golden]:
    """A frame of each kind, and of each method's parameters and result, as made today."""
    yield _to_daemon("hello", envelope.hello("example 1.0"))
    yield _to_daemon("ping", {"t": envelope.PING})
    yield _to_daemon("cancel", {"t": envelope.CANCEL, "id": CALL_ID})
    yield _to_daemon("credit", {"t": envelope.CREDIT, "id": CALL_ID, "n": 16})
    session = ServerSession("0a1b2c3d", capabilities=("events.cursor", "streams"))
    for name in ("hello", "ping"):
        frame = codec.pack(envelope.hello("example 1.0") if name == "hello" else {"t": name})
        answer = session.receive(frame)[0][0]
        yield Golden("welcome" if name == "hello" else "pong", "client", answer, _plain(answer))
    yield _to_client("end", session.end(CALL_ID))
    for code in errors.CODES:
        error = ModelkeepError(code, "What happened.", "What to do.", data={"after_ms": 1500})
        error.retryable = code == errors.BUSY
        yield _to_client(f"error.{code}", session.error(CALL_ID, error))
    for method in schema.METHODS.values():
        params = msgspec.to_builtins(example(method.params))
        yield _to_daemon(
            f"call.{method.name}", envelope.call(CALL_ID, method.name, params, deadline_ms=30_000)
        )
        make = session.item if method.stream else session.reply
        kind = "item" if method.stream else "reply"
        yield _to_client(f"{kind}.{method.name}", make(CALL_ID, example(method.result)))


def _plain(frame: bytes) -> dict[str, Any]:
    message = codec.unpack(frame)
    assert isinstance(message, dict)
    return message


def _to_daemon(name: str, message: dict[str, Any]) -> Golden:
    return Golden(name, "daemon", codec.pack(message), message)


def _to_client(name: str, frame: bytes) -> Golden:
    return Golden(name, "client", frame, _plain(frame))


def main() -> int:
    """Add what is missing; returns how many frames were refused."""
    recorded = {golden.name: golden for golden in load()}
    changed = 0
    with FILE.open("a", encoding="utf-8") as file:
        for golden in current():
            old = recorded.get(golden.name)
            if old is None:
                file.write(golden.line() + "\n")
                print(f"recorded {golden.name}")
            elif old.frame != golden.frame:
                changed += 1
                print(f"{golden.name} is made differently today; the recorded frame stays")
    return changed


if __name__ == "__main__":
    sys.exit(min(main(), 1))

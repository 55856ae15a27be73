"""The messages, one msgpack map a frame, told apart by ``t``.

From the client: hello, call, cancel, credit, ping. From the daemon: welcome, reply, item, end,
error, pong. A call carries the protocol's major version, so that a one-shot client needs no hello.
"""

from __future__ import annotations

from modelkeep_protocol import PROTOCOL_MAJOR, PROTOCOL_MINOR

TYPE_CHECKING = False  # see errors
if TYPE_CHECKING:
    from typing import Any

HELLO = "hello"
WELCOME = "welcome"
CALL = "call"
REPLY = "reply"
ITEM = "item"
END = "end"
ERROR = "error"
CANCEL = "cancel"
CREDIT = "credit"
PING = "ping"
PONG = "pong"

MAX_ID = 2**53 - 1
MAX_CREDIT = 10_000


def hello(client: str) -> dict[str, Any]:
    """First word of a client that stays: who it is and what it speaks."""
    return {"t": HELLO, "v": PROTOCOL_MAJOR, "minor": PROTOCOL_MINOR, "client": client}


def call(
    call_id: int, method: str, params: dict[str, Any], deadline_ms: int | None = None
) -> dict[str, Any]:
    """Ask for a method. ``deadline_ms`` is a span from the daemon's receipt, not a time of day."""
    message: dict[str, Any] = {
        "t": CALL,
        "v": PROTOCOL_MAJOR,
        "id": call_id,
        "m": method,
        "p": params,
    }
    if deadline_ms is not None:
        message["deadline_ms"] = deadline_ms
    return message

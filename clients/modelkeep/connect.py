"""Calls to the daemon of this home over its socket, light enough for every command.

Plain maps in and out. The typed, long-lived clients are ``client`` and ``aio``.
"""

from __future__ import annotations

import time

from modelkeep.zmtp import Dealer, TimedOut, WireError
from modelkeep_protocol import codec, envelope, errors
from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.paths import find_paths

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

# to be greeted; a daemon that takes longer hangs
GREETING_S = 5.0
CALL_S = 30.0
# the daemon gives up at the caller's deadline; its word for that needs time to arrive
_GRACE_S = 1.0


class NoDaemon(ModelkeepError):
    """Nobody can be asked: where we looked, why probably, and the command that mends it."""

    def __init__(self, message: str, why: str, mend: str) -> None:
        super().__init__(errors.UNAVAILABLE, f"{message}: {why}", mend, retryable=True)
        self.lines = (message, why, mend)


class Connection:
    """One connection for calls one after the other.

    >>> with Connection() as daemon:
    ...     daemon.call("daemon.ping", {})
    """

    def __init__(self, path: str | None = None, *, deadline_s: float = GREETING_S) -> None:
        self.path = path or find_paths().socket
        self._next_id = 1
        try:
            self._dealer = Dealer(
                self.path, deadline_s=deadline_s, max_message_bytes=codec.MAX_REPLY_BYTES
            )
        except (OSError, WireError, TimedOut) as exc:
            raise no_daemon(self.path, exc) from None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. What the daemon was asked to do as a job goes on."""
        self._dealer.close()

    def call(self, method: str, params: dict[str, Any], *, deadline_s: float = CALL_S) -> Any:
        """Ask and wait for the answer. Raises ModelkeepError, NoDaemon when it goes away."""
        call_id = self._next_id
        self._next_id += 1
        frame = codec.pack(envelope.call(call_id, method, params, int(deadline_s * 1000)))
        until = time.monotonic() + deadline_s + _GRACE_S
        try:
            self._dealer.send(frame, deadline_s=deadline_s)
            while True:
                left = until - time.monotonic()
                answer = self._dealer.receive(deadline_s=max(left, 0.001))
                is_ours, value = read_answer(answer, call_id)
                if is_ours:
                    return value
        except TimedOut:
            raise ModelkeepError(
                errors.DEADLINE,
                f"the daemon did not answer {method} within {deadline_s:g} s",
                "it may be busy; `modelkeep status` tells, and its log says more",
                retryable=True,
            ) from None
        except WireError as exc:
            raise NoDaemon(
                f"the daemon at {self.path} went away while it was asked",
                f"It was stopped or restarted: {exc}.",
                "Try again; if it stays away: modelkeep status",
            ) from None
        except codec.BadFrame as exc:
            raise ModelkeepError(
                errors.INTERNAL,
                f"the daemon's answer can't be read: {exc}",
                "are daemon and command line of the same version? `modelkeep version` tells",
            ) from None

    def wait_closed(self, deadline_s: float) -> bool:
        """Wait until the daemon hangs up; False when it has not by then."""
        until = time.monotonic() + deadline_s
        try:
            while True:
                self._dealer.receive(deadline_s=max(until - time.monotonic(), 0.001))
        except WireError:
            return True
        except TimedOut:
            return False


def read_answer(frame: bytes, call_id: int) -> tuple[bool, Any]:
    """Whether a frame answers the call, and with what. Raises the daemon's error.

    The same decisions as ``session.ClientSession`` takes, without its imports; a test holds the
    two together.
    """
    message = codec.unpack_trusted(frame)
    if not isinstance(message, dict):
        raise codec.BadFrame("a message is a map")
    kind, answered = message.get("t"), message.get("id")
    # an error without an id is about a message that was not understood, so about ours
    if kind == envelope.ERROR and (answered is None or answered == call_id):
        data = message.get("data")
        raise ModelkeepError(
            str(message.get("code", errors.INTERNAL)),
            str(message.get("message", "the daemon gave no reason")),
            str(message.get("hint", "")),
            retryable=bool(message.get("retryable", False)),
            data=data if isinstance(data, dict) else None,
        )
    if kind == envelope.REPLY and answered == call_id:
        return True, message.get("r")
    return False, None


def call(method: str, params: dict[str, Any], *, deadline_s: float = CALL_S) -> Any:
    """One question to the daemon of this home."""
    with Connection() as daemon:
        return daemon.call(method, params, deadline_s=deadline_s)


def no_daemon(path: str, exc: Exception) -> NoDaemon:
    """The three lines for a daemon that can't be reached."""
    from modelkeep.nobody import explain

    return NoDaemon(*explain(path, exc))

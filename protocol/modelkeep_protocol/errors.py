"""Stable error codes, the one exception that carries them, and the command line's exit codes."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` alone costs a quarter of a bare start
if TYPE_CHECKING:
    from collections.abc import Mapping

INVALID = "invalid"
NOT_FOUND = "not_found"
CONFLICT = "conflict"
DENIED = "denied"
GATED = "gated"
BUSY = "busy"
UNAVAILABLE = "unavailable"
DEADLINE = "deadline"
CANCELED = "canceled"
UNSUPPORTED = "unsupported"
CORRUPT = "corrupt"
INFECTED = "infected"
NO_SPACE = "no_space"
INTERNAL = "internal"

CODES: dict[str, str] = {
    INVALID: "the request is malformed or makes no sense; sending it again won't help",
    NOT_FOUND: "what was named does not exist here or on the hub",
    CONFLICT: "the present state does not allow it",
    DENIED: "not allowed: a missing or wrong token, or another user's daemon",
    GATED: "the hub wants more than a token: an accepted license, a purchase, early access",
    BUSY: "too much at once; try again shortly",
    UNAVAILABLE: "a hub, a disk or a part of the daemon can't be reached now",
    DEADLINE: "it took longer than the caller allowed",
    CANCELED: "it was canceled",
    UNSUPPORTED: "this daemon does not know the method, the version or the capability",
    CORRUPT: "bytes are not what they should be: a wrong hash, a truncated or damaged file",
    INFECTED: "the scanner found something dangerous",
    NO_SPACE: "a disk is full or would cross its reserve",
    INTERNAL: "a fault of modelkeep's; the daemon's log says more",
}

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_DAEMON = 3
EXIT_NOT_FOUND = 4
EXIT_DENIED = 5
EXIT_SOME_FAILED = 6
EXIT_INTERRUPTED = 130

EXIT_CODES: dict[int, str] = {
    EXIT_OK: "done",
    EXIT_FAILED: "failed",
    EXIT_USAGE: "the command line is wrong",
    EXIT_NO_DAEMON: "the daemon can't be reached",
    EXIT_NOT_FOUND: "not found",
    EXIT_DENIED: "denied or gated",
    EXIT_SOME_FAILED: "some of several failed",
    EXIT_INTERRUPTED: "interrupted",
}

_EXIT_BY_CODE = {
    INVALID: EXIT_USAGE,
    NOT_FOUND: EXIT_NOT_FOUND,
    DENIED: EXIT_DENIED,
    GATED: EXIT_DENIED,
    CANCELED: EXIT_INTERRUPTED,
}


def exit_code(code: str) -> int:
    """The exit code of a command that ended with this error code."""
    return _EXIT_BY_CODE.get(code, EXIT_FAILED)


class ModelkeepError(Exception):
    """An error a person can act on: what happened, and in ``hint`` what to do next."""

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        *,
        retryable: bool = False,
        data: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.retryable = retryable
        self.data = dict(data or {})

    def to_map(self) -> dict[str, object]:
        """The error as it stands in frames and in ``--json`` output."""
        shown: dict[str, object] = {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
        }
        if self.retryable:
            shown["retryable"] = True
        if self.data:
            shown["data"] = self.data
        return shown

"""What can go wrong with a transfer, as one shallow tree.

Every error carries the stable code of the protocol, a sentence that says what happened, a hint
that says what to do next, and whether trying again can help. Nothing here decides *when* to try
again: that is ``retry``. No message ever holds a query string or a header value.
"""

import errno
import re
from typing import ClassVar

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+")


def quoted(text: str, limit: int = 200) -> str:
    """Foreign text made fit for a message: one line, no control or bidi characters, bounded."""
    text = " ".join(_UNPRINTABLE.sub(" ", text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


class TransferError(Exception):
    """Base of the tree. ``retryable`` False means: only a person or a change can help."""

    code: ClassVar[str] = "internal"
    default_retryable: ClassVar[bool] = False
    patience: ClassVar[int | None] = None  # attempts, where fewer than the policy's make sense

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after_s = retry_after_s
        self.error_code = code or self.code


# What the far side said or did -----------------------------------------------------------------


class Refused(TransferError):
    """A status that is a decision: 401, 403, 404, 410, 451 …"""

    code = "denied"

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        status: int,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, hint, retryable=retryable, retry_after_s=retry_after_s, code=code)
        self.status = status


class FileGone(Refused):
    """The hub knows the repository, but not this file or commit in it."""

    code = "not_found"


class FileReplaced(TransferError):
    """The hub itself offers another content than the catalog promised: the catalog is behind."""

    code = "conflict"


class SourceBusy(Refused):
    """429 or 503: the whole source rests, not this file alone."""

    code = "busy"
    default_retryable = True


class SourceBroken(Refused):
    """5xx and the statuses of a proxy in trouble."""

    code = "unavailable"
    default_retryable = True


class LinkExpired(Refused):
    """The storage host refused a signed address: ask the hub for a new one."""

    code = "unavailable"
    default_retryable = True


class NotAFile(TransferError):
    """A page, a message or a login form came with status 200 in place of the file."""

    code = "corrupt"
    default_retryable = True
    patience = 3


class RangeLie(TransferError):
    """The answer does not fit the range asked for; nothing of it was written."""

    code = "corrupt"
    default_retryable = True


class RangeIgnored(TransferError):
    """The whole file came in answer to a range: some stores do so now and then."""

    code = "unavailable"
    default_retryable = True


class ContentChanged(TransferError):
    """The remote file is no longer the one whose first bytes we hold: start from zero."""

    code = "corrupt"
    default_retryable = True


class EncodingRefused(TransferError):
    """The body came compressed although identity was asked for."""

    code = "unsupported"


class WrongSize(TransferError):
    """The announced or delivered length is not the one the hub promised."""

    code = "corrupt"


class RedirectRefused(TransferError):
    """A redirect we do not follow: downgrade, odd scheme, private address, loop."""

    code = "denied"


# The way there ---------------------------------------------------------------------------------


class NetworkLost(TransferError):
    """Connection refused, reset, closed early, name not found."""

    code = "unavailable"
    default_retryable = True


class Stalled(NetworkLost):
    """Too slow for too long."""

    code = "deadline"


class TlsRefused(TransferError):
    """The certificate or the handshake was not acceptable: never retried, never ignored."""

    code = "denied"


# This side -------------------------------------------------------------------------------------


class NoSpace(TransferError):
    """The volume is full, over its quota or would cross the reserve."""

    code = "no_space"
    default_retryable = True

    def __init__(self, message: str, hint: str = "", *, needed_bytes: int = 0) -> None:
        super().__init__(message, hint)
        self.needed_bytes = needed_bytes


class DiskFailed(TransferError):
    """The device reported an error; the part file is not trusted any more."""

    code = "unavailable"
    default_retryable = True


class PartLost(TransferError):
    """Somebody removed, replaced or changed the part file under us: start again."""

    code = "conflict"
    default_retryable = True


class PartBusy(TransferError):
    """Another process holds the part file."""

    code = "conflict"
    default_retryable = True


class DestinationOffline(TransferError):
    """The root folder is not there: a volume that is not mounted, probably."""

    code = "unavailable"
    default_retryable = True


class DestinationRefused(TransferError):
    """The folder cannot be used: read-only, not a folder, or reached through a link."""

    code = "denied"


class HashMismatch(TransferError):
    """Right length, wrong content."""

    code = "corrupt"


def disk_error(error: OSError) -> TransferError:
    """What a failing system call on the destination means."""
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "over its quota" if error.errno == errno.EDQUOT else "full"
        return NoSpace(f"the destination volume is {what} ({name})", "free some space; it resumes")
    return DiskFailed(f"the destination device failed ({name})", "check the device; starting anew")

"""Is the content what was promised? A pure decision on sizes and hashes."""

from dataclasses import dataclass

from modelkeepd.transfer.errors import HashMismatch, TransferError, WrongSize
from modelkeepd.transfer.states import Event

VERIFIED = "verified"
UNVERIFIED = "unverified"


@dataclass(frozen=True, slots=True)
class Promise:
    """What the hub said, as far as it said anything."""

    size_bytes: int | None
    tolerance_bytes: int
    sha256: bytes | None
    git_sha1: bytes | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What the event for the job is, and with which word or error."""

    event: Event
    verification: str | None = None
    error: TransferError | None = None


def size_tolerance(size_bytes: int | None, declared: int, *, hash_known: bool) -> int:
    """How far a length may be off before it proves another file.

    Old records hold whole kilobytes; and where a hash is known, the hash decides about the last
    kilobyte. A larger difference shows another file before gigabytes of it are fetched.
    """
    rounded = size_bytes is not None and size_bytes % 1024 == 0
    return max(declared, 1023) if rounded or hash_known else declared


def compare(
    promise: Promise,
    size_bytes: int,
    sha256: bytes,
    *,
    certain_end: bool,
    repaired: bool,
    git_sha1: bytes | None = None,
) -> Finding:
    """MATCHED, REPAIR (fetch once more from zero) or CORRUPT."""
    promised, found = (
        (promise.git_sha1, git_sha1) if promise.sha256 is None else (promise.sha256, sha256)
    )
    if promised is not None:
        if found == promised:
            return Finding(Event.MATCHED, VERIFIED)
        if not repaired:
            return Finding(Event.REPAIR)
        return Finding(
            Event.CORRUPT,
            error=HashMismatch(
                f"the content does not have the promised hash: promised {promised.hex()}, "
                f"twice fetched {(found or sha256).hex()} ({size_bytes} bytes)",
                "the hub's record or its file is wrong; sync later and retry",
            ),
        )
    if promise.size_bytes is not None:
        off = abs(size_bytes - promise.size_bytes)
        if off > promise.tolerance_bytes:
            error = WrongSize(
                f"{size_bytes} bytes came, {promise.size_bytes} were promised",
                "the file was replaced at the hub; sync, then get it again",
            )
            return Finding(Event.CORRUPT, error=error)
        certain_end = certain_end or off == 0
    if not certain_end:
        error = WrongSize(
            f"the connection closed after {size_bytes} bytes and nothing tells whether that is "
            "the whole file",
            "no size and no hash are known for it; retry, or get it by other means",
        )
        return Finding(Event.CORRUPT, error=error)
    return Finding(Event.MATCHED, UNVERIFIED)

"""When a failed request is tried again, and after how long.

Pure. Owns the policy, the reading of ``Retry-After`` and a host's budget of retries. Only the line
retries: who calls a hub gets an error that is worth waiting for longer, or none.
"""

import math
import random
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from modelkeepd.hubs.contract import HubError, HubUnavailable

# A hub may ask for a year; it is asked again after a quarter of an hour.
LONGEST_PAUSE_S = 900.0


class RetryPolicy(msgspec.Struct, frozen=True):
    """``attempts`` in all; waits double from ``base_s`` to ``cap_s`` with full jitter.

    A wait longer than ``patience_s`` is not waited: the error goes to the caller with it.
    """

    attempts: int = 3
    base_s: float = 0.5
    cap_s: float = 20.0
    patience_s: float = 30.0


def retry_wait_s(
    error: HubError, attempt: int, policy: RetryPolicy, rng: random.Random
) -> float | None:
    """Seconds to wait after the ``attempt``-th try (from 1) failed; None means give up."""
    if not isinstance(error, HubUnavailable) or attempt >= policy.attempts:
        return None
    wait = jitter_s(attempt, policy.base_s, policy.cap_s, rng)
    if error.retry_after_s is not None:
        # not all at the same second when a hub comes back
        wait += min(error.retry_after_s, LONGEST_PAUSE_S)
    return wait if wait <= policy.patience_s else None


def jitter_s(attempt: int, base_s: float, cap_s: float, rng: random.Random) -> float:
    """Full jitter: anything from nothing to the doubled base, so that clients spread out."""
    return rng.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt - 1, 32)))


def parse_retry_after(value: str | None, now_ms: int) -> float | None:
    """Seconds a ``Retry-After`` asks for: both forms, past dates as 0, nonsense as None."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return min(float(value[:18]), 1e9)
    try:
        seconds = float(value)
    except ValueError:
        return _seconds_until(value, now_ms)
    return min(max(seconds, 0.0), 1e9) if math.isfinite(seconds) else None


def _seconds_until(date: str, now_ms: int) -> float | None:
    try:
        at = parsedate_to_datetime(date)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        return max(0.0, at.timestamp() - now_ms / 1000)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


class RetryBudget:
    """How many retries a host's failures leave: a bucket of tokens, and none below half of it.

    A failure costs a token, a success brings a tenth of one: where one request in ten fails,
    retries go on; where all fail, they end, and each request is made once.
    """

    SIZE = 20.0
    PER_SUCCESS = 0.1

    def __init__(self) -> None:
        self._tokens = self.SIZE

    @property
    def allows_one(self) -> bool:
        """Whether a retry may be made now."""
        return self._tokens > self.SIZE / 2

    def failed(self) -> None:
        """A request failed, a first one or a retry."""
        self._tokens = max(0.0, self._tokens - 1.0)

    def succeeded(self) -> None:
        """A request was answered."""
        self._tokens = min(self.SIZE, self._tokens + self.PER_SUCCESS)

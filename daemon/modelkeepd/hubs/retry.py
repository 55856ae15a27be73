"""When a failed request is tried again, and after how long.

Owns the policy and the reading of ``Retry-After``. The decision is pure; ``retrying`` only sleeps.
Only this level retries: who calls a hub gets an error that is worth waiting for longer, or none.
"""

import math
import random
from collections.abc import Awaitable, Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TypeVar

import msgspec
import trio

from modelkeepd.hubs.contract import HubError, HubUnavailable
from modelkeepd.hubs.limiter import Limiter

T = TypeVar("T")

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


async def retrying(
    attempt: Callable[[], Awaitable[T]],
    *,
    limiter: Limiter,
    policy: RetryPolicy,
    rng: random.Random,
) -> T:
    """Run ``attempt``, each time after a token, until it works or the policy gives up."""
    number = 1
    while True:
        await limiter.take(policy.patience_s)
        try:
            return await attempt()
        except HubUnavailable as error:
            if error.retry_after_s is not None:
                error.retry_after_s = min(error.retry_after_s, LONGEST_PAUSE_S)
                limiter.pause(error.retry_after_s)
            wait = retry_wait_s(error, number, policy, rng)
            if wait is None:
                raise
        await trio.sleep(wait)
        number += 1

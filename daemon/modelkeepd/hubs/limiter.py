"""How often a hub is asked: one token bucket per host, shared by everything that asks it.

``Bucket`` decides and is pure; ``Limiter`` waits. A hub that says "not now" pauses the whole
limiter, not only the request that heard it.
"""

from collections.abc import Callable

import trio

from modelkeepd.hubs.contract import HubUnavailable


class Bucket:
    """Tokens come at ``rate`` a second up to ``burst``; each request takes one, in order."""

    def __init__(self, rate: float, burst: float = 1.0) -> None:
        self.rate = rate
        self.burst = burst
        # when the bucket was, or will be, exactly full: one number instead of level and time
        self._full_at = float("-inf")
        self._closed_until = float("-inf")

    def wait_s(self, now: float) -> float:
        """How long a request that comes now would have to wait."""
        start = max(now, self._closed_until)
        full_at = max(self._full_at, start)
        # a token is there once at most (burst - 1) of them are missing afterwards
        return max(start, full_at - (self.burst - 1) / self.rate) - now

    def take(self, now: float) -> float:
        """Take the next token; return how long to wait before using it."""
        wait = self.wait_s(now)
        self._full_at = max(self._full_at, now, self._closed_until) + 1 / self.rate
        return wait

    def close_until(self, until: float) -> None:
        """No token before this time; a later end wins."""
        self._closed_until = max(self._closed_until, until)


class Limiter:
    """A bucket that callers wait at. ``monotonic`` is the clock trio sleeps by."""

    def __init__(self, bucket: Bucket, monotonic: Callable[[], float] = trio.current_time) -> None:
        self._bucket = bucket
        self._monotonic = monotonic

    async def take(self, patience_s: float) -> None:
        """Wait for a token. Raises HubUnavailable at once when that is longer than the patience."""
        wait = self._bucket.wait_s(self._monotonic())
        if wait > patience_s:
            raise HubUnavailable(
                f"the hub asked us to pause for another {wait:.0f} s",
                hint="it continues by itself",
                retry_after_s=wait,
                answered=True,
            )
        await trio.sleep(self._bucket.take(self._monotonic()))

    def pause(self, seconds: float) -> None:
        """The hub asked for a break: everybody waits."""
        self._bucket.close_until(self._monotonic() + seconds)

"""How fast a hub is asked: a token bucket, and the rate it is filled at.

Pure. ``Bucket`` spaces requests; ``Pace`` decides the rate from what came back: as fast as the
settings allow until the hub pushes back (429, 5xx, no answer, answers much slower than usual), then
half of it, then up again. The way up is not a straight line, which would spend a quarter of what
the hub gives and bother it with a refusal every few seconds: it leads quickly to just below where
it broke, stays there for a while, because a hub that gave way once gives way there again, and then
on, ever faster, because one that recovered should be found recovered.
"""

import msgspec


class Bucket:
    """Tokens come at ``rate`` a second up to ``burst``; each request takes one, in order."""

    def __init__(self, rate: float, burst: float = 1.0) -> None:
        self.rate = rate
        self.burst = burst
        # when the bucket was, or will be, exactly full: one number instead of level and time
        self._full_at = float("-inf")

    def wait_s(self, now: float) -> float:
        """How long a request that comes now would have to wait."""
        full_at = max(self._full_at, now)
        # a token is there once at most (burst - 1) of them are missing afterwards
        return max(now, full_at - (self.burst - 1) / self.rate) - now

    def take(self, now: float) -> float:
        """Take the next token; return how long to wait before using it."""
        wait = self.wait_s(now)
        self._full_at = max(self._full_at, now) + 1 / self.rate
        return wait

    def set_rate(self, now: float, rate: float) -> None:
        """Fill at another rate from now on; the tokens that are there stay."""
        if rate != self.rate:
            missing = max(0.0, self._full_at - now) * self.rate
            self._full_at = now + missing / rate
            self.rate = rate


class PacePolicy(msgspec.Struct, frozen=True):
    """How the rate falls and rises.

    After it fell to one half it is back at ``near`` of where it broke in ``regain_s``, stays for
    ``hold_s``, and rises from there. ``floor_share`` of the most is the least. An operation is slow
    when its recent answers take ``slow_factor`` times as long as they used to, and
    ``slow_extra_s`` more than that.
    """

    floor_share: float = 1 / 32
    regain_s: float = 10.0
    near: float = 0.95
    hold_s: float = 45.0
    slow_factor: float = 3.0
    slow_extra_s: float = 0.5


class Pace:
    """The rate one hub is asked at, in requests a second."""

    def __init__(self, ceiling: float, policy: PacePolicy | None = None) -> None:
        self.ceiling = ceiling
        self._policy = policy or PacePolicy()
        self._floor = ceiling * self._policy.floor_share
        self._broke_at_rate = ceiling
        self._fell_at: float | None = None
        self._latencies: dict[str, _Latency] = {}

    def rate(self, now: float) -> float:
        """What is allowed now."""
        if self._fell_at is None:
            return self.ceiling
        policy, since = self._policy, now - self._fell_at
        # -1 at the fall, 0 all the while it is held, and on from there
        way = min(0.0, since / policy.regain_s - 1)
        way += max(0.0, (since - policy.hold_s) / policy.regain_s - 1)
        rate = self._broke_at_rate * policy.near * (1 + 0.5 * way**3)
        if rate >= self.ceiling:
            self._fell_at = None
        return min(self.ceiling, max(self._floor, rate))

    def pushed_back(self, sent_at: float, now: float) -> bool:
        """The hub had too much of a request sent then. False: that is known already."""
        if self._fell_at is not None and sent_at <= self._fell_at:
            return False  # one wave of failures is one reason to slow down
        self._broke_at_rate = self.rate(now)
        self._fell_at = now
        return True

    def answered(self, operation: str, sent_at: float, now: float) -> bool:
        """A good answer came. True when answers have become so slow that it counts as too much."""
        latency = self._latencies.setdefault(operation, _Latency())
        if not latency.has_risen(now - sent_at, self._policy):
            return False
        latency.start_over()
        return self.pushed_back(sent_at, now)


class _Latency:
    """How long one operation's answers take: lately, and as a rule."""

    JUDGED_FROM = 10

    def __init__(self) -> None:
        self._count = 0
        self._lately_s = 0.0
        self._usual_s = 0.0

    def has_risen(self, took_s: float, policy: PacePolicy) -> bool:
        self._count += 1
        if self._count == 1:
            self._lately_s = self._usual_s = took_s
        # the usual follows down at once and up slowly: what is slow for good becomes usual
        self._usual_s += (took_s - self._usual_s) * (0.2 if took_s < self._usual_s else 0.02)
        self._lately_s += (took_s - self._lately_s) * 0.3
        limit_s = self._usual_s * policy.slow_factor + policy.slow_extra_s
        return self._count >= self.JUDGED_FROM and self._lately_s > limit_s

    def start_over(self) -> None:
        """It was acted upon: what counts is how answers are from now on."""
        self._lately_s = self._usual_s

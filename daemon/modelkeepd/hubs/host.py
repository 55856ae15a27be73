"""One hub's host as all who ask it share it: pace, limits, breakers, counters, requests under way.

Decides nothing itself: it holds the parts that decide and tells each what the others learnt.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping

import msgspec
import trio

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.breaker import Breaker, BreakerPolicy, Outcome, Refusal, Saved, State
from modelkeepd.hubs.contract import HubError, HubUnavailable
from modelkeepd.hubs.counts import SAVED, SENT_BACKGROUND, SENT_INTERACTIVE, Counts
from modelkeepd.hubs.flights import Flights
from modelkeepd.hubs.http import Answer
from modelkeepd.hubs.pace import Bucket, Pace, PacePolicy
from modelkeepd.hubs.retry import LONGEST_PAUSE_S, RetryBudget, RetryPolicy
from modelkeepd.hubs.turns import Claim, NotAsked, Turns
from modelkeepd.hubs.window import Urgency, Window, read_quotas

# the average is what a hub minds: a person's two or three requests need not queue
_BURST_S = 2.0
_BURST_MAX = 5.0
_HISTORY = 20
MAX_WINDOWS = 16


class Manners(msgspec.Struct, frozen=True):
    """How a hub is treated: every number of it. A person waits less than background work does."""

    retry: RetryPolicy = RetryPolicy()
    retry_interactive: RetryPolicy = RetryPolicy(patience_s=10.0)
    breaker: BreakerPolicy = BreakerPolicy()
    pace: PacePolicy = PacePolicy()


class BreakerChange(msgspec.Struct, frozen=True):
    """One line of an operation's history. ``until_ms`` is wall time, where it is open."""

    hub: str
    operation: str
    state: str
    reason: str
    at_ms: int
    until_ms: int | None
    openings: int


class Sample(msgspec.Struct, frozen=True):
    """A whole answer as it came, of any status."""

    hub: str
    operation: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class Abandoned(Exception):
    """Whoever asked went away before there was an answer."""


class HostState:
    """Shared by all lines of a hub."""

    def __init__(
        self,
        name: str,
        requests_per_second: float,
        *,
        manners: Manners | None = None,
        background_per_day: int = 0,
        clocks: Clocks | None = None,
        rng: random.Random | None = None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self.name = name
        self.manners = manners or Manners()
        self.background_per_day = background_per_day
        self.clocks = clocks or Clocks()
        self.rng = rng or random.Random()
        self.now = now
        self.counts = Counts()
        self.flights = Flights()
        self.retries = RetryBudget()
        self.pace = Pace(requests_per_second, self.manners.pace)
        self.history: deque[BreakerChange] = deque(maxlen=_HISTORY)
        self.on_change: Callable[[BreakerChange], None] = lambda _: None
        self.on_answer: Callable[[Sample], None] | None = None
        self.windows: dict[str, Window] = {}
        self._window_of: dict[str, Window] = {}
        self._breakers: dict[str, Breaker] = {}
        self._paused_until = float("-inf")
        self._under_way = 0
        burst = min(_BURST_MAX, max(1.0, requests_per_second * _BURST_S))
        self.turns = Turns(
            Bucket(requests_per_second, burst), self._gate_s, self.pace.rate, self.now
        )

    # -- before a request --------------------------------------------------------------------------

    async def admitted(self, claim: Claim, patience_s: float) -> int:
        """Wait until it may go out; the breaker's permit, for ``done``. Raises NotAsked."""
        breaker = self.breaker(claim.operation)
        self._refuse(breaker.refusal(self.now()))
        await self.turns.take(claim, patience_s)
        permit = breaker.admit(self.now())  # it may have opened while we waited
        if isinstance(permit, Refusal):
            self._refuse(permit)
            raise AssertionError("unreachable")
        if (window := self._window_of.get(claim.operation)) is not None:
            window.spent(claim.urgency, self.now())
        return permit

    def _refuse(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            raise NotAsked(
                f"{self.name} is not asked for now: {refusal.reason}",
                hint="it is tried again by itself",
                retry_after_s=refusal.retry_after_s,
            )

    def _gate_s(self, claim: Claim, now: float) -> tuple[float, str]:
        paused = self._paused_until - now
        window = self._window_of.get(claim.operation)
        limited = 0.0 if window is None else window.wait_s(claim.urgency, now)
        if paused > limited:
            return paused, f"{self.name} asked for a pause"
        return limited, f"{self.name}'s limit of requests leaves none for now"

    def sent(self, urgency: Urgency) -> None:
        """A request goes out, as one hop of it."""
        kind = SENT_BACKGROUND if urgency == "background" else SENT_INTERACTIVE
        self.counts.add(kind, self.clocks.wall_ms())

    def began(self) -> None:
        """One more is under way."""
        self._under_way += 1

    # -- after it ----------------------------------------------------------------------------------

    def ended(self) -> None:
        """One fewer is under way."""
        self._under_way -= 1

    def heard(self, operation: str, headers: Mapping[str, str]) -> None:
        """Whatever the answer says, its headers tell how much more the hub would like."""
        quotas = read_quotas(headers)
        for quota in quotas:
            if quota.name in self.windows or len(self.windows) < MAX_WINDOWS:
                window = self.windows.setdefault(quota.name, Window(quota.name))
                window.learn(quota, self.now(), self._under_way)
                self._window_of[operation] = window
        if quotas:
            self.turns.look_again()

    def pause_s(self, operation: str, error: HubUnavailable) -> float | None:
        """How long to leave the hub alone after this; None when it does not say.

        A limit that is used up holds what it is about; any other wish holds everything.
        """
        asked = error.retry_after_s
        wait = 0.0 if asked is None else min(asked, LONGEST_PAUSE_S)
        window = self._window_of.get(operation)
        if error.status == 429 and window is not None and window.left_at(self.now()) == 0:
            return max(wait, window.wait_s("interactive", self.now()))
        if asked is None:
            return None
        self._paused_until = max(self._paused_until, self.now() + wait)
        self.turns.look_again()
        return wait

    def done(
        self, operation: str, permit: int | None, sent_at: float, error: BaseException | None
    ) -> None:
        """What came of a request: an answer, a HubError, or its cancellation.

        Without a permit (nobody asked before sending) it counts for the pace alone.
        """
        now, outcome = self.now(), outcome_of(error)
        if outcome == "ok":
            self.retries.succeeded()
            self.pace.answered(operation, sent_at, now)
        elif isinstance(error, HubUnavailable):
            self.retries.failed()
            if not error.answered or error.status == 429 or (error.status or 0) >= 500:
                self.pace.pushed_back(sent_at, now)
        if permit is not None:
            why = str(error)[:300] if outcome == "failed" else ""
            self.breaker(operation).done(permit, outcome, now - sent_at, now, why)

    def saved(self, kind: str, count: int = 1) -> None:
        """So many requests were spared: "merged", "cached" or answered from the "catalog"."""
        if kind not in SAVED:
            raise ValueError(f"{kind!r} is none of {SAVED}")
        self.counts.add(kind, self.clocks.wall_ms(), count)

    # -- breakers ----------------------------------------------------------------------------------

    def breaker(self, operation: str) -> Breaker:
        """The operation's; made at the first use."""
        found = self._breakers.get(operation)
        if found is None:
            found = self._breakers[operation] = Breaker(
                self.manners.breaker, self.rng, lambda breaker: self._changed(operation, breaker)
            )
        return found

    def pause(self, operation: str, reason: str) -> None:
        """Ask nothing of this kind until ``resume``."""
        self.breaker(operation).pause(reason)

    def resume(self, operation: str) -> None:
        """Ask again, whatever was the reason not to."""
        self.breaker(operation).resume()

    def breakers(self) -> dict[str, Breaker]:
        """By operation, all that were needed so far."""
        return dict(self._breakers)

    def restore(self, change: BreakerChange) -> None:
        """A breaker as an earlier run of the daemon left it."""
        left_s = ((change.until_ms or 0) - self.clocks.wall_ms()) / 1000
        if change.state != "closed":
            state: State = "paused" if change.state == "paused" else "open"
            saved = Saved(state, change.reason, left_s, change.openings)
            self.breaker(change.operation).restore(saved, self.now())

    def _changed(self, operation: str, breaker: Breaker) -> None:
        now_ms = self.clocks.wall_ms()
        left_s = breaker.left_s(self.now())
        change = BreakerChange(
            hub=self.name,
            operation=operation,
            state=breaker.state,
            reason=breaker.reason,
            at_ms=now_ms,
            until_ms=now_ms + round(left_s * 1000) if breaker.state == "open" else None,
            openings=breaker.openings,
        )
        self.history.append(change)
        self.on_change(change)
        self.turns.look_again()

    @property
    def paused_s(self) -> float:
        """How much longer the hub wants to be left alone altogether."""
        return max(0.0, self._paused_until - self.now())


def outcome_of(error: BaseException | None) -> Outcome:
    """What a request's end says of the operation's health.

    A refusal is an answer; too many requests are the pace's affair, and a cancellation nobody's.
    """
    if error is None:
        return "ok"
    if isinstance(error, HubUnavailable):
        return "neither" if error.status == 429 else "failed"
    return "ok" if isinstance(error, HubError) else "neither"


def tell(host: HostState, operation: str, answer: Answer) -> None:
    """Hand the answer to whoever listens."""
    if host.on_answer is not None:
        host.on_answer(Sample(host.name, operation, answer.status, answer.headers, answer.body))

"""The circuit breaker of one operation of one hub: stop asking what fails steadily, try it again.

Pure: the time is handed in. A table of what happens:

=========  ==================================  ==========================================
state      admits                              leaves it
=========  ==================================  ==========================================
closed     all                                 open, when of the last calls too many failed
                                               or were slow
open       none, until its time is over        half_open, at the first call after that
half_open  ``probes`` calls, no more           closed, when enough of them went well;
                                               open for twice as long, when they did not
paused     none                                only by ``resume`` (or ``pause`` from others)
=========  ==================================  ==========================================

A call that was canceled, or that says nothing of the hub's health, leaves no mark and gives its
place back. So does a probe of which nothing was heard for long.
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

State = Literal["closed", "open", "half_open", "paused"]
Outcome = Literal["ok", "failed", "neither"]


class BreakerPolicy(msgspec.Struct, frozen=True):
    """When it opens, for how long, and how it is closed again.

    It judges by the last ``window`` calls, those of the last ``window_s`` of them, once there are
    ``minimum`` of those.
    """

    window: int = 20
    window_s: float = 900.0
    minimum: int = 10
    failed_share: float = 0.5
    slow_s: float = 30.0
    slow_share: float = 0.8
    open_s: float = 30.0
    longest_s: float = 1800.0
    jitter: float = 0.2
    probes: int = 3
    probe_lost_s: float = 300.0


class Refusal(msgspec.Struct, frozen=True):
    """Why a call is not admitted, and when one may be."""

    reason: str
    retry_after_s: float


class Saved(msgspec.Struct, frozen=True):
    """What outlives the process. ``left_s`` is how much longer it is open."""

    state: State
    reason: str
    left_s: float
    openings: int


class Breaker:
    """See the module's table. ``on_change`` is called after each change of state."""

    def __init__(
        self,
        policy: BreakerPolicy,
        rng: random.Random,
        on_change: Callable[["Breaker"], None] = lambda _: None,
    ) -> None:
        self.state: State = "closed"
        self.reason = ""
        self.openings = 0  # in a row, without closing between
        self._policy = policy
        self._rng = rng
        self._on_change = on_change
        self._until = 0.0
        # when, whether it failed, whether it was slow
        self._calls: deque[tuple[float, bool, bool]] = deque(maxlen=policy.window)
        self._turn = 0  # counts the states: a call admitted in an earlier one has no say
        self._probes: dict[int, float] = {}  # those under way, and since when
        self._next_probe = 0
        self._went: list[bool] = []

    def restore(self, saved: Saved, now: float) -> None:
        """As it was before a restart. What was tried out then is tried out anew."""
        if saved.state == "closed":
            return
        self.state = "paused" if saved.state == "paused" else "open"
        self.reason, self.openings = saved.reason, saved.openings
        # the wall clock may have been set meanwhile: never longer than it would ever be
        self._until = now + min(max(0.0, saved.left_s), self._longest_s)

    def saved(self, now: float) -> Saved:
        """To be restored later."""
        return Saved(self.state, self.reason, self.left_s(now), self.openings)

    def left_s(self, now: float) -> float:
        """How much longer it is open; 0 when it is not."""
        return max(0.0, self._until - now) if self.state == "open" else 0.0

    def refusal(self, now: float) -> Refusal | None:
        """Why a call that comes now would not be admitted; nothing changes by asking."""
        if self.state == "paused":
            return Refusal(self.reason, self._policy.longest_s)
        if self.state == "open" and now < self._until:
            return Refusal(self.reason, self._until - now)
        if self.state == "half_open" and self._probes_left(now) <= 0:
            return Refusal(f"{self.reason}; it is being tried out", 1.0)
        return None

    def admit(self, now: float) -> int | Refusal:
        """A permit to be handed to ``done``, or why not."""
        if (refusal := self.refusal(now)) is not None:
            return refusal
        if self.state == "open":
            self._become("half_open", self.reason)
        if self.state == "closed":
            return -self._turn
        self._next_probe += 1
        self._probes[self._next_probe] = now
        return self._next_probe

    def done(self, permit: int, outcome: Outcome, took_s: float, now: float, why: str = "") -> None:
        """What came of an admitted call."""
        if permit > 0:
            if self._probes.pop(permit, None) is not None and outcome != "neither":
                self._probed(outcome == "ok" and took_s < self._policy.slow_s, now, why)
        elif permit == -self._turn and self.state == "closed" and outcome != "neither":
            self._calls.append((now, outcome == "failed", took_s >= self._policy.slow_s))
            while now - self._calls[0][0] > self._policy.window_s:
                self._calls.popleft()
            if (problem := self._problem()) is not None:
                self._open(f"{problem}{': ' if why else ''}{why}", now)

    def pause(self, reason: str) -> None:
        """Admit nothing until somebody resumes it."""
        if self.state != "paused" or self.reason != reason:
            self._become("paused", reason)

    def resume(self) -> None:
        """Close it, whatever it thinks itself."""
        if self.state != "closed":
            self._close()

    def _problem(self) -> str | None:
        policy, count = self._policy, len(self._calls)
        if count < policy.minimum:
            return None
        failed = sum(failed for _, failed, _ in self._calls)
        slow = sum(slow for _, _, slow in self._calls)
        if failed >= policy.failed_share * count:
            return f"{failed} of the last {count} requests failed"
        if slow >= policy.slow_share * count:
            return f"{slow} of the last {count} requests took over {policy.slow_s:g} s"
        return None

    def _probes_left(self, now: float) -> int:
        lost = [p for p, at in self._probes.items() if now - at >= self._policy.probe_lost_s]
        for permit in lost:
            del self._probes[permit]
        return self._policy.probes - len(self._probes) - len(self._went)

    def _probed(self, went_well: bool, now: float, why: str) -> None:
        self._went.append(went_well)
        policy = self._policy
        failed = self._went.count(False)
        # decided as soon as the rest cannot change it
        if failed >= max(1, policy.failed_share * policy.probes):
            self._open(why or self.reason, now)
        elif len(self._went) - failed > policy.probes * (1 - policy.failed_share):
            self._close()

    def _open(self, reason: str, now: float) -> None:
        policy = self._policy
        open_s = min(policy.longest_s, policy.open_s * 2.0 ** min(self.openings, 32))
        # not all of us at the same second
        self._until = now + open_s * (1 + self._rng.uniform(0, policy.jitter))
        self.openings += 1
        self._become("open", reason)

    def _close(self) -> None:
        self.openings = 0
        self._become("closed", "")

    @property
    def _longest_s(self) -> float:
        return self._policy.longest_s * (1 + self._policy.jitter)

    def _become(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        self._turn += 1
        self._calls.clear()
        self._probes.clear()
        self._went.clear()
        self._on_change(self)

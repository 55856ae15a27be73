"""Who asks next: everybody who wants to ask a hub waits here, people before background work.

Owns the waiting and its order. When the next request may go is told by the bucket and by a gate
(the hub's pauses and limits), which differ by operation and urgency: who is held by the gate does
not hold those behind.
"""

from collections.abc import Callable

import trio

from modelkeepd.hubs.contract import HubUnavailable
from modelkeepd.hubs.pace import Bucket
from modelkeepd.hubs.window import Urgency

# as many people's requests in a row may pass one of the background that waits
PASSED_OVER_MOST = 10
# a wait this short is float arithmetic
_INSTANT_S = 1e-9


class NotAsked(HubUnavailable):
    """We did not ask the hub: it wants a pause, or has failed too often. Nothing was sent."""


class Claim:
    """One request's place in the line. Its urgency may rise while it waits."""

    __slots__ = ("operation", "urgency")

    def __init__(self, operation: str, urgency: Urgency) -> None:
        self.operation = operation
        self.urgency = urgency


class Turns:
    """The line in front of one host."""

    def __init__(
        self,
        bucket: Bucket,
        gate: Callable[[Claim, float], tuple[float, str]],
        rate: Callable[[float], float],
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._bucket = bucket
        self._gate = gate
        self._rate = rate
        self._now = now
        self._waiting: list[Claim] = []
        self._news = trio.Event()
        self._passed_over = 0

    async def take(self, claim: Claim, patience_s: float) -> None:
        """Wait for a turn. Raises NotAsked at once when the gate stays closed for longer."""
        self._waiting.append(claim)
        try:
            while (wait := self._wait_s(claim, patience_s)) > _INSTANT_S:
                news = self._news
                with trio.move_on_after(wait):
                    await news.wait()
            self._go(claim)
        finally:
            self._waiting.remove(claim)
            self.look_again()

    def look_again(self) -> None:
        """Something changed: whoever waits finds out anew how long."""
        news, self._news = self._news, trio.Event()
        news.set()

    def _wait_s(self, claim: Claim, patience_s: float) -> float:
        now = self._now()
        gate, why = self._gate(claim, now)
        if gate > patience_s:
            raise NotAsked(
                f"{why}: another {gate:.0f} s",
                hint="it continues by itself",
                retry_after_s=gate,
            )
        if gate > _INSTANT_S:
            return gate
        if any(self._gate(other, now)[0] <= _INSTANT_S for other in self._ahead_of(claim)):
            return float("inf")  # told when that one has gone
        self._bucket.set_rate(now, self._rate(now))
        return self._bucket.wait_s(now)

    def _ahead_of(self, claim: Claim) -> list[Claim]:
        order = sorted(self._waiting, key=self._rank)  # stable: first come, first served
        return order[: order.index(claim)]

    def _rank(self, claim: Claim) -> int:
        background_first = self._passed_over >= PASSED_OVER_MOST
        return int((claim.urgency == "background") != background_first)

    def _go(self, claim: Claim) -> None:
        self._bucket.take(self._now())
        if claim.urgency == "background":
            self._passed_over = 0
        elif any(other.urgency == "background" for other in self._waiting):
            self._passed_over += 1

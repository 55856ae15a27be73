"""Asking a hub until it answers: what passes is waited out, what does not is told apart.

A hub that is down is waited for, however long; one that answers others but not this request is
given up on after some rounds, by whoever asked. Each client has retried by itself before: a round
here is long.
"""

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import trio

from modelkeepd.hubs.contract import Hub, HubError, HubRefused, HubUnavailable
from modelkeepd.hubs.retry import LONGEST_PAUSE_S, jitter_s

log = logging.getLogger(__name__)

T = TypeVar("T")

# failed rounds (each of several tries) before the hub is asked for something else: if it answers
# that, it is this request and not the hub
ROUNDS_BEFORE_PROBE = 3


class Waits(msgspec.Struct, frozen=True):
    """How long an outage is waited for between two rounds."""

    base_s: float = 2.0
    cap_s: float = 300.0


class Unanswerable(Exception):
    """The hub answers others, but not this request."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Patience:
    """One hub's outages, waited out. ``hurry`` cuts the wait that is under way."""

    def __init__(
        self,
        hub: Hub,
        rng: random.Random,
        waits: Waits,
        on_wait: Callable[[HubError | None, float | None], None],
    ) -> None:
        self._hub = hub
        self._rng = rng
        self._waits = waits
        self._on_wait = on_wait
        self._hurry = trio.Event()

    def hurry(self) -> None:
        """Ask now."""
        self._hurry.set()
        self._hurry = trio.Event()

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Its answer. Raises Unanswerable, and every HubError but HubUnavailable."""
        rounds = 0
        while True:
            try:
                return await call()
            except HubUnavailable as error:
                rounds += 1
                if rounds >= ROUNDS_BEFORE_PROBE and await self._answers_others(error):
                    raise Unanswerable(error.message) from error
                await self._wait_out(error, rounds)

    async def is_refused_alone(self, error: HubError) -> bool:
        """Whether a refusal is about what was asked for, and not about who asks."""
        if isinstance(error, HubRefused) and error.why == "gated":
            return True
        try:
            await self._hub.probe()
        except HubError:
            return False
        return True

    async def _answers_others(self, error: HubUnavailable) -> bool:
        if not error.answered or error.status == 429:
            return False
        try:
            await self._hub.probe()
        except HubUnavailable:
            return False
        return True

    async def _wait_out(self, error: HubUnavailable, rounds: int) -> None:
        wait = jitter_s(rounds, self._waits.base_s, self._waits.cap_s, self._rng)
        if error.retry_after_s is not None:
            wait += min(error.retry_after_s, LONGEST_PAUSE_S)
        facts = {"hub": self._hub.name, "wait_s": round(wait, 1), "why": error.message}
        log.warning("hub unavailable", extra={"facts": facts})
        self._on_wait(error, wait)
        with trio.move_on_after(wait):
            await self._hurry.wait()
        self._on_wait(None, None)

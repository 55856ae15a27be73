"""Requests under way: who asks for the same thing gets the answer of the one that is out already.

The first to ask makes the request itself. Should it be canceled, one of those who wait for its
answer asks instead: nobody depends on another's patience.
"""

from collections.abc import Awaitable, Callable

import trio

from modelkeepd.hubs.contract import HubError
from modelkeepd.hubs.http import Answer, Params
from modelkeepd.hubs.turns import Claim

Key = tuple[str, tuple[tuple[str, str], ...]]


class _Flight:
    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.landed = trio.Event()
        self.outcome: Answer | HubError | None = None  # None: given up, nobody knows


class Flights:
    """What one host is being asked."""

    def __init__(self) -> None:
        self._flights: dict[Key, _Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def share(
        self,
        path: str,
        params: Params,
        claim: Claim,
        ask: Callable[[Claim], Awaitable[Answer]],
        *,
        on_joined: Callable[[Claim, Claim], None],
    ) -> tuple[Answer, bool]:
        """The answer, and whether it is another caller's. Raises the HubError that came instead.

        ``on_joined`` gets the claim under way and ours, before we wait for that one.
        """
        key = (path, tuple(params))
        while (flight := self._flights.get(key)) is not None:
            on_joined(flight.claim, claim)
            await flight.landed.wait()
            if isinstance(flight.outcome, HubError):
                raise flight.outcome
            if flight.outcome is not None:
                return flight.outcome, True
        flight = self._flights[key] = _Flight(claim)
        try:
            answer = await ask(claim)
            flight.outcome = answer
            return answer, False
        except HubError as error:
            flight.outcome = error
            raise
        finally:
            del self._flights[key]
            flight.landed.set()

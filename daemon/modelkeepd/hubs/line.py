"""One hub's API as one kind of caller asks it: in turn, merged, retried within bounds, listened to.

Owns what happens to one request from the wish to the read answer. What all callers of the host
share is ``HostState``; what the answer means is the hub's client.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import TypeVar

import trio

from modelkeepd.hubs.answers import Refusal, check_json, refusal
from modelkeepd.hubs.contract import HubUnavailable
from modelkeepd.hubs.host import Abandoned, HostState, tell
from modelkeepd.hubs.http import Answer, HubHttp, Params
from modelkeepd.hubs.retry import parse_retry_after, retry_wait_s
from modelkeepd.hubs.turns import Claim, NotAsked
from modelkeepd.hubs.window import Urgency
from modelkeepd.secrets import Secret

T = TypeVar("T")

# reading what is larger is not done on the loop: a page may be megabytes
READ_AT_ONCE_BYTES = 16 << 10


class Line:
    """Where a hub's client asks."""

    def __init__(
        self,
        http: HubHttp,
        host: HostState,
        urgency: Urgency = "background",
        *,
        token: Secret | None = None,
        refusal: Refusal = refusal,
    ) -> None:
        self.base_url = http.base_url
        self.token = token
        self.host = host
        self.urgency = urgency
        self.requests_sent = 0
        self._http = http
        self._refusal = refusal
        manners = host.manners
        self._policy = manners.retry if urgency == "background" else manners.retry_interactive
        # turns given to others, by operation: permit and time
        self._outside: defaultdict[str, deque[tuple[int, float]]] = defaultdict(deque)

    async def get(
        self, path: str, params: Params = (), *, operation: str, read: Callable[[Answer], T]
    ) -> T:
        """What ``read`` makes of the answer, which is a 200 and JSON. Raises a HubError.

        The same request of somebody else under way is waited for instead. ``read`` may be run in a
        thread, and may raise HubError; HubUnavailable from it is tried again like any other.
        """
        found: list[T] = []

        async def ask(claim: Claim) -> Answer:
            answer, value = await self._tried(path, params, claim, read)
            found.append(value)
            return answer

        answer, is_shared = await self.host.flights.share(
            path, params, Claim(operation, self.urgency), ask, on_joined=self._joined
        )
        if is_shared:
            self.host.saved("merged")
            return await _read(read, answer)
        return found[0]

    async def turn(self, operation: str) -> None:
        """Wait for the host's leave to send one request elsewhere; tell ``heard`` what came of it.

        Raises HubUnavailable when the hub is not to be asked now.
        """
        permit = await self.host.admitted(Claim(operation, self.urgency), self._policy.patience_s)
        self._count()
        self._outside[operation].append((permit, self.host.now()))

    def heard(self, operation: str, status: int, headers: Mapping[str, str]) -> None:
        """What the request after ``turn`` was answered.

        Status 0 stands for no answer; 499 for us, who did not wait for it.
        """
        told = {name.lower(): value for name, value in headers.items()}
        self.host.heard(operation, told)
        waiting = self._outside[operation]
        permit: int | None = None
        sent_at = self.host.now()
        if waiting:
            permit, sent_at = waiting.popleft()
        error: Exception | None = None
        if status == 499:
            error = Abandoned()
        elif status in (0, 429) or status >= 500:
            error = HubUnavailable(
                f"{operation}: {status or 'no answer'}",
                status=status or None,
                retry_after_s=parse_retry_after(
                    told.get("retry-after"), self.host.clocks.wall_ms()
                ),
                answered=status != 0,
            )
            self.host.pause_s(operation, error)
        self.host.done(operation, permit, sent_at, error)

    def _joined(self, under_way: Claim, ours: Claim) -> None:
        if ours.urgency == "interactive" and under_way.urgency != "interactive":
            under_way.urgency = "interactive"
            self.host.turns.look_again()

    def _count(self) -> None:
        self.requests_sent += 1
        self.host.sent(self.urgency)

    async def _tried(
        self, path: str, params: Params, claim: Claim, read: Callable[[Answer], T]
    ) -> tuple[Answer, T]:
        """Attempts, until one works or policy and budget give up."""
        number = 1
        while True:
            try:
                return await self._attempt(path, params, claim, read)
            except NotAsked:
                raise
            except HubUnavailable as error:
                wait = retry_wait_s(error, number, self._policy, self.host.rng)
                if wait is None or not self.host.retries.allows_one:
                    raise
            await trio.sleep(wait)
            number += 1

    async def _attempt(
        self, path: str, params: Params, claim: Claim, read: Callable[[Answer], T]
    ) -> tuple[Answer, T]:
        host = self.host
        permit = await host.admitted(claim, self._policy.patience_s)
        sent_at = host.now()
        error: BaseException | None = None
        host.began()
        try:
            answer = await self._answered(path, params, claim)
            what = f"{host.name} {path}"
            check_json(answer, what, host.clocks.wall_ms(), self._refusal)
            return answer, await _read(read, answer)
        except HubUnavailable as unavailable:
            error = unavailable
            unavailable.retry_after_s = host.pause_s(claim.operation, unavailable)
            raise
        except BaseException as other:
            error = other
            raise
        finally:
            host.done(claim.operation, permit, sent_at, error)

    async def _answered(self, path: str, params: Params, claim: Claim) -> Answer:
        try:
            answer = await self._http.get(path, params, on_hop=self._count)
        finally:
            self.host.ended()
        self.host.heard(claim.operation, answer.headers)
        tell(self.host, claim.operation, answer)
        return answer


async def _read(read: Callable[[Answer], T], answer: Answer) -> T:
    if len(answer.body) <= READ_AT_ONCE_BYTES:
        return read(answer)
    return await trio.to_thread.run_sync(read, answer)

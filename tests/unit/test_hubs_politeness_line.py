"""One line to a hub: what it asks, what it does not ask, and what its callers get."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from modelkeepd.hubs.breaker import BreakerPolicy
from modelkeepd.hubs.contract import HubError, HubRefused, HubUnavailable, NotFoundOnHub
from modelkeepd.hubs.host import HostState, Manners, Sample
from modelkeepd.hubs.http import Answer, HubHttp, Params
from modelkeepd.hubs.line import Line
from modelkeepd.hubs.standing import standing_of
from modelkeepd.hubs.turns import NotAsked
from modelkeepd.hubs.window import Urgency
from tests.fakes.clocks import FakeClocks

JSON = {"content-type": "application/json"}
ASKED = tuple[str, tuple[tuple[str, str], ...]]


def answer(status: int = 200, body: bytes = b"{}", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {**JSON, **named}, body)


class ScriptedHttp(HubHttp):
    """Answers by a function; every answer takes ``took_s``."""

    def __init__(self, script: Callable[[int], Answer | HubError]) -> None:
        super().__init__("http://hub.invalid")
        self.asked: list[tuple[float, ASKED]] = []
        self.took_s = 0.1
        self.canceled = 0
        self._script = script

    async def get(
        self, path: str, params: Params = (), *, on_hop: Callable[[], None] = lambda: None
    ) -> Answer:
        on_hop()
        self.asked.append((trio.current_time(), (path, tuple(params))))
        found = self._script(len(self.asked))
        try:
            await trio.sleep(self.took_s)
        except trio.Cancelled:
            self.canceled += 1
            raise
        if isinstance(found, HubError):
            raise found
        return found


class Hub:
    """A host and its two lines over a script."""

    def __init__(
        self,
        script: Callable[[int], Answer | HubError] = lambda _: answer(),
        *,
        per_s: float = 100.0,
        manners: Manners | None = None,
    ) -> None:
        self.clocks = FakeClocks()
        self.http = ScriptedHttp(script)
        self.host = HostState(
            "hub",
            per_s,
            manners=manners,
            background_per_day=10,
            clocks=self.clocks,
            rng=random.Random(1),
        )
        self.background = Line(self.http, self.host, "background")
        self.interactive = Line(self.http, self.host, "interactive")

    async def get(
        self, path: str = "/x", *, urgency: Urgency = "background", operation: str = "list"
    ) -> bytes:
        line = self.background if urgency == "background" else self.interactive
        return await line.get(path, operation=operation, read=lambda found: found.body)

    async def ends(self, path: str = "/x", **how: Any) -> str:
        """The name of the error, or what came."""
        try:
            return (await self.get(path, **how)).decode()
        except HubError as error:
            return type(error).__name__

    @property
    def standing(self) -> Any:
        return standing_of(self.host)


def failing(status: int = 503, **headers: str) -> Callable[[int], Answer]:
    return lambda _: answer(status, b"down", **headers)


async def test_a_failure_that_passes_is_tried_again_and_each_try_takes_a_turn(
    autojump_clock: MockClock,
) -> None:
    hub = Hub(lambda n: answer(500) if n < 3 else answer(body=b"[1]"), per_s=0.1)
    assert await hub.get() == b"[1]"
    times = [at for at, _ in hub.http.asked]
    assert times[1] - times[0] >= 9.99
    assert times[2] - times[1] >= 9.99
    assert hub.background.requests_sent == hub.standing.sent_today == 3


async def test_what_a_reader_cannot_read_is_tried_again(autojump_clock: MockClock) -> None:
    hub = Hub(lambda n: answer(body=b"[1" if n < 3 else b"[2]"))

    def read(found: Answer) -> int:
        if not found.body.endswith(b"]"):
            raise HubUnavailable("cut off", answered=True)
        return int(found.body[1:2])

    assert await hub.background.get("/x", operation="list", read=read) == 2


async def test_a_hub_that_always_fails_is_not_stormed(autojump_clock: MockClock) -> None:
    """T2: after the warm-up a request is one request."""
    never = BreakerPolicy(minimum=10**9, window=10**9)
    hub = Hub(failing(), manners=Manners(breaker=never))
    for number in range(10):
        await hub.ends(f"/{number}")
    before = len(hub.http.asked)
    for number in range(200):
        await hub.ends(f"/{number}")
    assert len(hub.http.asked) - before <= 1.1 * 200


async def test_a_hub_that_always_fails_is_left_alone_and_found_again(
    autojump_clock: MockClock,
) -> None:
    """T1: then the answer comes at once, with the reason and the time to come back."""
    state = {"well": False}
    hub = Hub(lambda _: answer() if state["well"] else answer(503, b"down"))
    for number in range(20):
        await hub.ends(f"/{number}")
    asked = len(hub.http.asked)
    assert asked < 20
    with pytest.raises(NotAsked, match=r"failed.*503 down") as caught:
        await hub.get()
    assert len(hub.http.asked) == asked
    assert 0 < (caught.value.retry_after_s or 0) < 60
    [breaker] = hub.standing.breakers
    assert (breaker.operation, breaker.state) == ("list", "open")
    # other operations are none of its business
    assert await hub.ends(operation="model") == "HubUnavailable"
    state["well"] = True
    await trio.sleep(caught.value.retry_after_s or 0)
    for number in range(3):
        assert await hub.ends(f"/{number}") == "{}"
    assert hub.standing.breakers == ()
    assert [change.state for change in hub.standing.history] == ["open", "half_open", "closed"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 451])
async def test_refusals_are_answers_and_open_nothing(
    autojump_clock: MockClock, status: int
) -> None:
    hub = Hub(failing(status))
    for number in range(50):
        await hub.ends(f"/{number}")
    assert len(hub.http.asked) == 50
    assert hub.standing.breakers == ()
    assert hub.standing.per_s == 100.0


async def test_cancellations_open_nothing(autojump_clock: MockClock) -> None:
    hub = Hub()
    hub.http.took_s = 10.0
    for number in range(50):
        with trio.move_on_after(1.0):
            await hub.get(f"/{number}")
    assert hub.http.canceled == 50
    assert hub.standing.breakers == ()
    assert hub.standing.per_s == 100.0
    assert len(hub.host.flights) == 0


async def test_a_paused_operation_is_not_asked_until_it_is_resumed(
    autojump_clock: MockClock,
) -> None:
    hub = Hub()
    hub.host.pause("list", "the field id is gone")
    with pytest.raises(HubUnavailable, match="the field id is gone") as caught:
        await hub.get()
    assert caught.value.retry_after_s
    await hub.get(operation="model")
    hub.host.resume("list")
    await hub.get()
    assert len(hub.http.asked) == 2


async def test_identical_requests_under_way_are_one(autojump_clock: MockClock) -> None:
    hub = Hub(lambda n: answer(body=b"[%d]" % n))
    got: list[bytes] = []

    async def ask(path: str, operation: str) -> None:
        got.append(await hub.get(path, operation=operation))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask, "/x", "list")
        nursery.start_soon(ask, "/y", "list")
    assert len(hub.http.asked) == 2
    assert len(set(got)) == 2
    assert hub.standing.saved_today == {"merged": 4}
    # what has been answered is asked again
    await hub.get()
    assert len(hub.http.asked) == 3


async def test_one_callers_cancellation_is_not_the_others(autojump_clock: MockClock) -> None:
    hub = Hub(lambda n: answer(body=b"[%d]" % n))
    got: list[bytes] = []
    first = trio.CancelScope()

    async def leader() -> None:
        with first:
            await hub.get()

    async def follower() -> None:
        got.append(await hub.get())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leader)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.start_soon(follower)
        nursery.start_soon(follower)
        await trio.testing.wait_all_tasks_blocked(0.01)
        first.cancel()
    assert got == [b"[2]", b"[2]"]
    assert len(hub.http.asked) == 2


async def test_those_who_wait_for_anothers_request_get_its_error(
    autojump_clock: MockClock,
) -> None:
    hub = Hub(failing(404))
    ended: list[str] = []

    async def ask() -> None:
        ended.append(await hub.ends())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert ended == ["NotFoundOnHub"] * 3
    assert len(hub.http.asked) == 1


async def test_a_person_who_wants_what_the_background_waits_for_takes_it_to_the_front(
    autojump_clock: MockClock,
) -> None:
    hub = Hub(per_s=0.1)
    async with trio.open_nursery() as nursery:
        for name in ("/a", "/b", "/c", "/wanted"):
            nursery.start_soon(hub.get, name)
            await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await hub.get("/wanted", urgency="interactive")
        assert trio.current_time() - began <= 11
    assert [path for _, (path, _) in hub.http.asked].index("/wanted") == 1


async def test_retry_after_holds_everybody(autojump_clock: MockClock) -> None:
    hub = Hub(lambda n: answer(429, b"slow down", retry_after="20") if n == 1 else answer())
    await hub.get()
    assert hub.http.asked[1][0] - hub.http.asked[0][0] >= 20
    assert hub.standing.per_s < 100.0
    # too long to wait for: the caller is told, and those after as well
    hub = Hub(failing(429, retry_after="3600"))
    with pytest.raises(HubUnavailable) as caught:
        await hub.get()
    assert caught.value.retry_after_s == 900.0
    assert hub.standing.paused_s == pytest.approx(900.0)
    with pytest.raises(NotAsked) as caught_too:
        await hub.get(operation="model", urgency="interactive")
    assert caught_too.value.retry_after_s == pytest.approx(900.0)
    assert len(hub.http.asked) == 1


async def test_a_window_that_is_used_up_holds_what_it_is_about(autojump_clock: MockClock) -> None:
    def script(n: int) -> Answer:
        if n == 1:
            return answer(429, b"quota", ratelimit='"api";r=0;t=211')
        return answer(ratelimit='"api";r=499;t=300', ratelimit_policy='"api";q=500;w=300')

    hub = Hub(script)
    with pytest.raises(HubUnavailable) as caught:
        await hub.get()
    assert caught.value.retry_after_s == pytest.approx(212.0)
    with pytest.raises(NotAsked):
        await hub.get(urgency="interactive")
    await hub.get(operation="resolve")  # another limit, as far as we know
    assert hub.standing.left == 499
    await trio.sleep(212)
    await hub.get()


async def test_the_background_leaves_a_tenth_of_the_hubs_window_to_people(
    autojump_clock: MockClock,
) -> None:
    spent = {"requests": 0}

    def script(_: int) -> Answer:
        spent["requests"] += 1
        left = 100 - spent["requests"]
        rest = 300 - int(trio.current_time())
        return answer(
            ratelimit=f'"api";r={left};t={rest}',
            ratelimit_policy='"fixed window";"api";q=100;w=300',
        )

    hub = Hub(script)
    hub.http.took_s = 0.01
    with trio.move_on_at(299.0):
        while True:
            try:
                await hub.get()
            except NotAsked as error:
                await trio.sleep(error.retry_after_s or 1.0)
    assert 80 <= spent["requests"] <= 90
    times = [at for at, _ in hub.http.asked]
    # spread over the window, not spent at its beginning
    assert 25 <= sum(at < 100 for at in times) <= 40


async def test_every_whole_answer_is_told_and_what_was_spared_is_counted(
    autojump_clock: MockClock,
) -> None:
    heard: list[Sample] = []
    hub = Hub(lambda n: answer(404, b"no") if n == 1 else answer(x_new="1"))
    hub.host.on_answer = heard.append
    await hub.ends()
    await hub.ends(operation="model")
    assert [(each.operation, each.status) for each in heard] == [("list", 404), ("model", 200)]
    assert heard[1].headers["x-new"] == "1"
    hub.host.saved("cached", 3)
    with pytest.raises(ValueError, match="none of"):
        hub.host.saved("luck")
    assert hub.standing.saved == {"cached": 3}


async def test_a_days_background_requests_are_counted_by_day(autojump_clock: MockClock) -> None:
    hub = Hub()
    for number in range(4):
        await hub.get(f"/{number}")
    await hub.get(urgency="interactive")
    assert (hub.standing.sent_today, hub.standing.background_left) == (5, 6)
    for number in range(9):
        await hub.get(f"/{number}")
    # it is counted, not refused: who plans the work decides
    assert hub.standing.background_left == 0
    hub.clocks.advance(86_400)
    assert (hub.standing.sent_today, hub.standing.sent) == (0, 14)
    assert hub.standing.background_left == 10


async def test_a_request_sent_elsewhere_takes_its_turn_and_tells_what_came(
    autojump_clock: MockClock,
) -> None:
    hub = Hub(per_s=1.0)
    line = hub.interactive

    async def download(status: int, headers: Mapping[str, str] | None = None) -> None:
        await line.turn("resolve")
        line.heard("resolve", status, headers or {})

    began = trio.current_time()
    for _ in range(6):
        await download(302)
    assert trio.current_time() - began >= 3.9
    for _ in range(40):
        await download(499)
        await download(404)
    assert hub.standing.breakers == ()
    for _ in range(40):
        if await _refused(download, 0):
            break
    [breaker] = hub.standing.breakers
    assert (breaker.operation, breaker.state) == ("resolve", "open")
    await hub.get()  # the API still answers
    hub.host.resume("resolve")
    await download(429, {"Retry-After": "60"})
    with pytest.raises(NotAsked):
        await hub.get(urgency="interactive")


async def _refused(download: Callable[[int], Any], status: int) -> bool:
    try:
        await download(status)
    except NotAsked:
        return True
    return False


async def test_what_is_permanent_is_not_tried_again(autojump_clock: MockClock) -> None:
    hub = Hub(failing(401))
    with pytest.raises(HubRefused):
        await hub.get()
    hub = Hub(failing(404))
    with pytest.raises(NotFoundOnHub):
        await hub.get()
    assert len(hub.http.asked) == 1

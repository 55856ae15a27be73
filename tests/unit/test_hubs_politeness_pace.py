"""How fast a hub is asked: the bucket, the rate, the hub's own limits, and who goes first."""

import itertools
import random
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from modelkeepd.hubs.pace import Bucket, Pace, PacePolicy
from modelkeepd.hubs.turns import PASSED_OVER_MOST, Claim, NotAsked, Turns
from modelkeepd.hubs.window import Quota, Urgency, Window, read_quotas


def test_a_bucket_lets_a_burst_through_and_then_one_at_a_time() -> None:
    bucket = Bucket(rate=2.0, burst=3.0)
    assert [bucket.take(100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]
    assert bucket.take(110.0) == 0.0


@pytest.mark.parametrize(("rate", "burst"), [(1.5, 1.0), (1.5, 3.0), (10.0, 5.0)])
def test_no_ten_seconds_see_more_requests_than_the_rate_and_one_burst(
    rate: float, burst: float
) -> None:
    rng, bucket, now, times = random.Random(1), Bucket(rate, burst), 0.0, []
    for _ in range(400):
        now += rng.choice([0.0, 0.0, 0.01, 0.3, 2.0, 8.0])
        times.append(now + bucket.take(now))
    assert times == sorted(times)
    for start in times:
        assert sum(start <= t < start + 10 for t in times) <= 10 * rate + burst + 1e-6


def test_a_change_of_rate_keeps_the_tokens_that_are_there() -> None:
    bucket = Bucket(rate=1.0, burst=4.0)
    for _ in range(3):
        bucket.take(0.0)
    bucket.set_rate(0.0, 0.1)
    assert bucket.take(0.0) == 0.0  # the fourth
    assert bucket.wait_s(0.0) == pytest.approx(10.0)
    bucket.set_rate(5.0, 1.0)  # half a token has come meanwhile
    assert bucket.wait_s(5.0) == pytest.approx(0.5)


class Server:
    """Answers so many requests a second and refuses the rest."""

    def __init__(self, capacity: float, burst: float) -> None:
        self.capacity, self.burst = capacity, burst
        self._tokens, self._at = burst, 0.0

    def admits(self, now: float) -> bool:
        self._tokens += (now - self._at) * self.capacity
        self._tokens, self._at = min(self._tokens, self.burst), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def served(
    ceiling: float,
    capacity: Sequence[tuple[float, float]],  # from when on, how much
    *,
    burst: float = 1.0,
    answer_s: float = 0.1,
) -> tuple[list[float], list[float]]:
    """When requests of a busy client were answered, and when refused, in 400 seconds."""
    pace, bucket = Pace(ceiling), Bucket(ceiling, max(1.0, min(5.0, ceiling * 2)))
    server, changes = Server(capacity[0][1], burst), list(capacity[1:])
    now, good, refused = 0.0, [], []
    under_way: list[tuple[float, float, bool]] = []
    while now < 400:
        if changes and now >= changes[0][0]:
            server.capacity = changes.pop(0)[1]
        bucket.set_rate(now, pace.rate(now))
        wait = bucket.wait_s(now)
        if under_way and under_way[0][0] <= now + wait:
            now, sent_at, went_well = under_way.pop(0)
            if went_well:
                pace.answered("list", sent_at, now)
            else:
                pace.pushed_back(sent_at, now)
        elif wait > 1e-9:
            now += min(wait, 0.5)  # the rate may rise meanwhile
        else:
            bucket.take(now)
            admitted = server.admits(now)
            (good if admitted else refused).append(now)
            under_way.append((now + answer_s, now, admitted))
    return good, refused


def per_s(times: Sequence[float], start: float, end: float) -> float:
    return sum(start <= at < end for at in times) / (end - start)


@pytest.mark.parametrize("burst", [1.0, 4.0])
@pytest.mark.parametrize(
    ("ceiling", "capacity"), [(10, 9), (10, 4), (10, 1), (1.5, 0.7), (40, 25), (10, 20)]
)
def test_within_a_minute_a_hub_gets_what_it_can_take_within_a_tenth(
    ceiling: float, capacity: float, burst: float
) -> None:
    """T3. A hub that is asked at its limit all the time refuses next to nothing."""
    good, refused = served(ceiling, [(0, capacity)], burst=burst)
    wanted = min(ceiling, capacity)
    assert per_s(good, 60, 400) == pytest.approx(wanted, rel=0.1)
    assert per_s(refused, 60, 400) < max(0.04 * wanted, 0.1)


def test_a_hub_that_drops_to_a_tenth_is_followed_down_and_up_again() -> None:
    """T3."""
    good, refused = served(20, [(0, 10), (100, 1), (200, 10)])
    assert per_s(good, 60, 100) == pytest.approx(10, rel=0.1)
    assert per_s(good, 130, 200) == pytest.approx(1, rel=0.1)
    assert per_s(refused, 110, 200) < 0.1
    assert per_s(good, 280, 400) == pytest.approx(10, rel=0.1)


def test_one_wave_of_failures_slows_down_once() -> None:
    pace = Pace(8.0)
    for _ in range(20):
        pace.pushed_back(sent_at=99.0, now=100.0)
    assert pace.rate(100.0) == pytest.approx(8.0 * 0.95 / 2)
    pace.pushed_back(sent_at=100.5, now=101.0)
    assert pace.rate(101.0) < 8.0 / 3


def test_a_hub_that_only_fails_is_still_asked_at_the_floor() -> None:
    pace, now = Pace(32.0), 0.0
    for _ in range(100):
        now += 1.0
        pace.pushed_back(sent_at=now - 0.1, now=now)
    assert pace.rate(now) == pytest.approx(1.0)
    assert pace.rate(now + 10_000) == 32.0


def test_answers_that_take_far_longer_than_they_used_to_slow_down() -> None:
    pace, now = Pace(10.0), 0.0

    def answers(operation: str, took_s: float, count: int) -> int:
        nonlocal now
        slower = 0
        for _ in range(count):
            now += took_s
            slower += pace.answered(operation, now - took_s, now)
        return slower

    # each operation has its own measure: a list is slow by nature
    assert answers("list", 2.0, 50) == 0
    assert answers("model", 0.1, 50) == 0
    assert pace.rate(now) == 10.0
    assert 1 <= answers("model", 2.0, 30) <= 3
    assert pace.rate(now) < 10.0
    # what stays slow has become the measure
    assert answers("model", 2.0, 100) == 0


@pytest.mark.parametrize(
    ("limit", "policy", "quotas"),
    [
        ('"api";r=489;t=211', '"fixed window";"api";q=500;w=300', [Quota("api", 489, 211.0, 500)]),
        ('"api";r=0;t=0', None, [Quota("api", 0, 0.0)]),
        ('"a";r=1;t=2, "b"; t=4 ;r=3', '"a";q=9;w=9', [Quota("a", 1, 2.0, 9), Quota("b", 3, 4.0)]),
        ('"api";r=5;t=999999999', None, [Quota("api", 5, 900.0)]),
        ('"api";r=-5;t=10', None, []),
        ('"api";r=5', None, []),
        ('"api"', None, []),
        ("limit=100, remaining=50, reset=5", None, []),
        ("garbage;;;=\"\x00", "\"q\";q=", []),
        ('"x";r=1;t=1,' * 5_000, None, [Quota("x", 1, 1.0)] * 83),
        ("", "", []),
    ],
)  # fmt: skip
def test_a_hubs_limits_are_read_from_its_headers(
    limit: str, policy: str | None, quotas: list[Quota]
) -> None:
    headers = {"ratelimit": limit}
    if policy is not None:
        headers["ratelimit-policy"] = policy
    assert list(read_quotas(headers)) == quotas


def test_what_is_left_of_a_window_is_spread_for_the_background_and_kept_for_people() -> None:
    window = Window("api")
    assert window.wait_s("background", 0.0) == 0.0
    window.learn(Quota("api", 150, 199.0, 500), 0.0)
    window.spent("background", 0.0)
    # 50 of 500 are for people: 99 in 200 seconds are left
    assert window.wait_s("background", 0.0) == pytest.approx(200 / 99)
    assert window.wait_s("interactive", 0.0) == 0.0
    window.learn(Quota("api", 50, 100.0, 500), 99.0)
    assert window.wait_s("background", 99.0) == pytest.approx(101.0)
    assert window.wait_s("interactive", 99.0) == 0.0
    window.learn(Quota("api", 1, 100.0, 500), 99.0, under_way=1)
    assert window.wait_s("interactive", 99.0) == pytest.approx(101.0)
    # the next window is unknown until an answer tells
    assert window.wait_s("background", 201.0) == 0.0
    assert window.left_at(201.0) is None


def test_a_window_is_never_overdrawn_between_two_answers() -> None:
    window = Window("api")
    window.learn(Quota("api", 3, 50.0, 10), 0.0)
    for _ in range(3):
        assert window.wait_s("interactive", 1.0) == 0.0
        window.spent("interactive", 1.0)
    assert window.wait_s("interactive", 1.0) == pytest.approx(50.0)


class Crowd:
    """Callers at one line, and the order they were let through."""

    def __init__(self, rate: float, burst: float = 1.0) -> None:
        self.went: list[tuple[str, Urgency, float]] = []
        self.closed_until: dict[str, float] = {}
        self.turns = Turns(
            Bucket(rate, burst),
            lambda claim, now: (self.closed_until.get(claim.operation, 0.0) - now, "closed"),
            lambda _now: rate,
        )

    async def ask(
        self, name: str, urgency: Urgency, operation: str = "list", patience_s: float = 1e9
    ) -> None:
        claim = Claim(operation, urgency)
        await self.turns.take(claim, patience_s)
        self.went.append((name, claim.urgency, trio.current_time()))

    @property
    def order(self) -> list[str]:
        return [name for name, _, _ in self.went]


async def test_people_go_before_background_work_that_waits(autojump_clock: MockClock) -> None:
    crowd = Crowd(rate=1.0)
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(crowd.ask, name, "background")
        await trio.sleep(0.5)
        for name in "xy":
            nursery.start_soon(crowd.ask, name, "interactive")
            await trio.sleep(0.1)
    first, *rest = crowd.order
    assert first in "abc"
    assert rest[:2] == ["x", "y"]
    assert sorted(rest[2:]) == sorted(set("abc") - {first})
    gaps = [b[2] - a[2] for a, b in itertools.pairwise(crowd.went)]
    assert gaps == [pytest.approx(1.0)] * 4


async def test_a_stream_of_people_does_not_starve_background_work(
    autojump_clock: MockClock,
) -> None:
    crowd = Crowd(rate=1.0)
    async with trio.open_nursery() as nursery:
        for number in range(5 * PASSED_OVER_MOST):
            nursery.start_soon(crowd.ask, f"person {number}", "interactive")
        nursery.start_soon(crowd.ask, "crawl", "background")
        await trio.testing.wait_all_tasks_blocked()
    assert crowd.order.index("crawl") <= PASSED_OVER_MOST + 1


async def test_who_is_held_by_a_limit_does_not_hold_the_others(autojump_clock: MockClock) -> None:
    crowd = Crowd(rate=10.0)
    crowd.closed_until["list"] = 60.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.ask, "lister", "interactive", "list")
        await trio.sleep(0.1)
        nursery.start_soon(crowd.ask, "fetcher", "background", "resolve")
    assert crowd.order == ["fetcher", "lister"]
    assert crowd.went[0][2] < 1.0
    assert crowd.went[1][2] >= 60.0


async def test_nobody_waits_longer_than_their_patience(autojump_clock: MockClock) -> None:
    crowd = Crowd(rate=10.0)
    crowd.closed_until["list"] = 60.0
    with pytest.raises(NotAsked) as caught:
        await crowd.ask("hasty", "interactive", patience_s=5.0)
    assert trio.current_time() == 0.0
    assert caught.value.retry_after_s == pytest.approx(60.0)
    await crowd.ask("patient", "background", patience_s=100.0)
    assert trio.current_time() == pytest.approx(60.0)


async def test_who_gives_up_waiting_makes_room_and_takes_no_token(
    autojump_clock: MockClock,
) -> None:
    crowd = Crowd(rate=0.1)
    await crowd.ask("first", "background")
    with trio.move_on_after(3.0):
        await crowd.ask("gone", "interactive")
    await crowd.ask("second", "background")
    assert crowd.order == ["first", "second"]
    assert trio.current_time() == pytest.approx(10.0)


def test_the_policy_of_the_pace_may_be_set() -> None:
    pace = Pace(10.0, PacePolicy(floor_share=0.5))
    pace.pushed_back(0.0, 1.0)
    assert pace.rate(1.0) == 5.0

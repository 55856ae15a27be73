"""How hubs are asked: the bucket, retries, Retry-After, and what answers mean."""

import itertools
import random

import pytest
import trio
from trio.testing import MockClock

from modelkeepd.hubs.answers import json_body
from modelkeepd.hubs.civitai import cursor_position, read_page
from modelkeepd.hubs.contract import (
    HubError,
    HubRefused,
    HubRejected,
    HubUnavailable,
    NotFoundOnHub,
)
from modelkeepd.hubs.http import Answer
from modelkeepd.hubs.limiter import Bucket, Limiter
from modelkeepd.hubs.retry import (
    LONGEST_PAUSE_S,
    RetryPolicy,
    parse_retry_after,
    retry_wait_s,
    retrying,
)

NOW_MS = 1_790_000_000_000


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


async def test_a_pause_holds_everybody_back(autojump_clock: MockClock) -> None:
    limiter = Limiter(Bucket(rate=10.0))
    start = trio.current_time()
    limiter.pause(60.0)
    await limiter.take(patience_s=100.0)
    assert trio.current_time() - start >= 60.0
    limiter.pause(60.0)
    with pytest.raises(HubUnavailable) as caught:
        await limiter.take(patience_s=5.0)
    assert caught.value.retry_after_s == pytest.approx(60.0, abs=0.2)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("5", 5.0), (" 5 ", 5.0), ("0", 0.0), ("-3", 0.0), ("1.5", 1.5),
        ("nonsense", None), ("", None), ("٣", 3.0), ("inf", None), ("nan", None),
        ("9" * 400, 1e9), ("Mon, 21 Sep 2026 14:13:30 GMT", 10.0),
        ("Mon, 21 Sep 2020 14:13:30 GMT", 0.0), ("Wed, 99 Foo 2026 14:13:30 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_all_its_forms(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW_MS) == seconds


def test_a_date_of_2090_is_decades_away_and_waited_for_a_quarter_of_an_hour_at_most() -> None:
    seconds = parse_retry_after("Fri, 01 Jan 2090 00:00:00 GMT", NOW_MS)
    assert seconds is not None
    assert seconds > 60 * 365 * 86_400
    error = HubUnavailable("429", retry_after_s=seconds)
    patient = RetryPolicy(patience_s=1e12)
    wait = retry_wait_s(error, 1, patient, random.Random(1))
    assert wait is not None
    assert LONGEST_PAUSE_S <= wait <= LONGEST_PAUSE_S + patient.cap_s
    assert retry_wait_s(error, 1, RetryPolicy(), random.Random(1)) is None


def test_waits_double_with_full_jitter_up_to_the_cap() -> None:
    policy = RetryPolicy(attempts=50, base_s=1.0, cap_s=8.0)
    for attempt, most in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (40, 8.0)]:
        waits = [
            retry_wait_s(HubUnavailable("x"), attempt, policy, random.Random(n)) or 0.0
            for n in range(200)
        ]
        assert 0 <= min(waits) < 0.2 * most
        assert 0.8 * most < max(waits) <= most


@pytest.mark.parametrize(
    "error",
    [HubRejected("400"), NotFoundOnHub("404"), HubRefused("401", why="auth"), HubError("?")],
)
def test_what_is_permanent_is_not_tried_again(error: HubError) -> None:
    assert retry_wait_s(error, 1, RetryPolicy(), random.Random(1)) is None


async def test_attempts_are_counted_and_each_takes_a_token(autojump_clock: MockClock) -> None:
    times: list[float] = []

    async def attempt() -> str:
        times.append(trio.current_time())
        if len(times) < 3:
            raise HubUnavailable("503")
        return "done"

    limiter = Limiter(Bucket(rate=0.1))
    policy = RetryPolicy(patience_s=60)
    rng = random.Random(1)
    assert await retrying(attempt, limiter=limiter, policy=policy, rng=rng) == "done"
    assert all(b - a >= 9.99 for a, b in itertools.pairwise(times))
    times.clear()
    times_wanted = 3

    async def always() -> str:
        times.append(0)
        raise HubUnavailable("503")

    with pytest.raises(HubUnavailable):
        await retrying(always, limiter=limiter, policy=policy, rng=rng)
    assert len(times) == times_wanted


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (Answer(200, {"content-type": "text/html"}, b"{}"), HubUnavailable, "unavailable"),
        (Answer(200, JSON, b"<!DOCTYPE html><html>"), HubUnavailable, "unavailable"),
        (Answer(200, JSON, b"We're adjusting a few things"), HubUnavailable, "unavailable"),
        (Answer(200, JSON, b""), HubUnavailable, "unavailable"),
        (Answer(400, JSON, b'{"error":{"name":"ZodError"}}'), HubRejected, "unsupported"),
        (Answer(401, JSON, b'{"error":"Unauthorized"}'), HubRefused, "denied"),
        (Answer(403, {}, b"error code: 1010"), HubRefused, "denied"),
        (Answer(404, JSON, b'{"error":"No model with id 5"}'), NotFoundOnHub, "not_found"),
        (Answer(405, JSON, b""), HubRejected, "unsupported"),
        (Answer(429, {}, b"slow down"), HubUnavailable, "unavailable"),
        (
            Answer(429, JSON, b'{"error":"too many pages, please use cursors instead"}'),
            HubRejected,
            "unsupported",
        ),
        (Answer(451, JSON, b'{"code":"REGION_BLOCKED"}'), HubRefused, "denied"),
        (Answer(499, {}, b""), HubUnavailable, "unavailable"),
        (Answer(500, JSON, b"{}"), HubUnavailable, "unavailable"),
        (Answer(522, {"content-type": "text/html"}, b"<html>"), HubUnavailable, "unavailable"),
    ],
)  # fmt: skip
def test_an_answer_means_what_the_hub_meant(
    answer: Answer, error: type[HubError], code: str
) -> None:
    with pytest.raises(error) as caught:
        json_body(answer, "civitai /x", NOW_MS)
    assert type(caught.value) is error
    assert caught.value.code == code
    assert "<" not in caught.value.message


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"items":[{"id":1}', b"[]", b"{}", b'{"items":[]}', b'{"items":{},"metadata":{}}',
     b'{"items":[],"metadata":null}', b"\xff", b"[" * 5_000],
)  # fmt: skip
def test_what_is_no_list_page_never_reads_as_the_end_of_the_list(body: bytes) -> None:
    with pytest.raises(HubUnavailable):
        read_page(body, newest=True)


def test_one_spoiled_item_does_not_cost_the_page() -> None:
    items = b'[{"id":5,"x":NaN},{"id":"6","n":"\\ud800"},{"id":null},7]'
    body = b'{"items":%s,"metadata":{"nextCursor":12}}' % items
    page = read_page(body, newest=True)
    assert [item.hub_id for item in page.items] == ["5", "6", None, None]
    assert page.next_cursor == "12"


def test_a_page_names_the_row_its_order_loses() -> None:
    body = b'{"items":[{"id":9}],"metadata":{"nextCursor":"2025-08-01 10:00:00.123|77"}}'
    assert read_page(body, newest=True).boundary_id == "77"
    assert read_page(body, newest=False).boundary_id is None
    assert cursor_position("2025-08-01 10:00:00.123|77") == (1754042400123, 77)
    assert cursor_position("|77") is None
    assert cursor_position("37169|338034|122359") is None

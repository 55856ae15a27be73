"""How hubs are understood: retries, Retry-After, and what answers mean."""

import random

import pytest

from modelkeepd.hubs.answers import check_json, refusal
from modelkeepd.hubs.civitai import cursor_position, read_page
from modelkeepd.hubs.contract import (
    HubError,
    HubRefused,
    HubRejected,
    HubUnavailable,
    NotFoundOnHub,
)
from modelkeepd.hubs.http import Answer
from modelkeepd.hubs.retry import (
    LONGEST_PAUSE_S,
    RetryBudget,
    RetryPolicy,
    parse_retry_after,
    retry_wait_s,
)

NOW_MS = 1_790_000_000_000


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


def test_where_one_request_in_ten_fails_retries_go_on() -> None:
    budget = RetryBudget()
    for _ in range(500):
        budget.failed()
        assert budget.allows_one
        for _ in range(10):
            budget.succeeded()


def test_where_all_requests_fail_retries_end_and_come_back_with_successes() -> None:
    budget, requests, first = RetryBudget(), 0, 0
    for _ in range(1_000):
        first += 1
        for attempt in range(3):
            if attempt and not budget.allows_one:
                break
            requests += 1
            budget.failed()
    assert requests <= first + RetryBudget.SIZE / 2
    for _ in range(101):
        assert not budget.allows_one
        budget.succeeded()
    assert budget.allows_one


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
        check_json(answer, "civitai /x", NOW_MS, refusal)
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

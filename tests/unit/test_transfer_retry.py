"""When to try again: jitter within bounds, Retry-After in both forms (D17)."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.transfer.retry import RetryPolicy, parse_retry_after

NOW_MS = 1_790_000_000_000  # 2026-09-21 14:13:20 UTC


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("5", 5.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("-3", None),
        ("soon", None),
        ("", None),
        ("1e3", None),
        ("٣", None),
        ("Mon, 21 Sep 2026 14:13:50 GMT", 30.0),
        ("Mon, 21 Sep 2020 14:13:50 GMT", 0.0),
        ("Fri, 99 Foo 2026 14:13:50 GMT", None),
        ("9" * 400, float("9" * 12)),
    ],
)
def test_both_forms_of_retry_after_are_read(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW_MS) == seconds


def test_a_date_in_2090_waits_no_longer_than_the_cap() -> None:
    wish = parse_retry_after("Thu, 21 Sep 2090 14:13:50 GMT", NOW_MS)
    policy = RetryPolicy(retry_after_cap_s=3600.0)
    assert policy.delay_s(1, wish, random.Random(1)) <= 3600.0 * 1.1 + 1


@given(st.integers(0, 10_000), st.one_of(st.none(), st.floats(-1e9, 1e18)), st.integers())
@settings(max_examples=200, deadline=None)
def test_a_delay_is_bounded_and_honors_the_far_side(
    attempts: int, wish: float | None, seed: int
) -> None:
    policy = RetryPolicy()
    delay = policy.delay_s(attempts, wish, random.Random(seed))
    if wish is None:
        assert 0 <= delay <= min(policy.cap_s, policy.first_s * 2.0 ** min(attempts, 30))
    else:
        assert delay >= min(max(wish, 0), policy.retry_after_cap_s)
        assert delay <= policy.retry_after_cap_s * 1.1 + 1


def test_the_bound_doubles_up_to_the_cap() -> None:
    class Highest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    policy = RetryPolicy(first_s=1, cap_s=10)
    assert [policy.delay_s(n, None, Highest()) for n in range(6)] == [1, 2, 4, 8, 10, 10]

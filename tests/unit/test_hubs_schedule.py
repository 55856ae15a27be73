"""Quiet hours and the counters of a day."""

from datetime import datetime

import pytest

from modelkeepd.hubs.counts import DAY_MS, Counts
from modelkeepd.hubs.schedule import is_quiet


@pytest.mark.parametrize(
    ("text", "at", "quiet"),
    [
        ("", "03:00", False),
        ("09:00-17:30", "08:59", False), ("09:00-17:30", "09:00", True),
        ("09:00-17:30", "17:29", True), ("09:00-17:30", "17:30", False),
        ("23:00-07:00", "22:59", False), ("23:00-07:00", "23:00", True),
        ("23:00-07:00", "00:00", True), ("23:00-07:00", "06:59", True),
        ("23:00-07:00", "07:00", False), ("23:00-07:00", "12:00", False),
        ("00:00-00:00", "12:00", True), ("08:00-08:00", "07:59", True),
        ("22:00-00:00", "23:59", True), ("22:00-00:00", "00:00", False),
        ("always", "12:00", False), ("25:00-07:00", "01:00", False),
    ],
)  # fmt: skip
def test_quiet_hours_may_lie_over_midnight(text: str, at: str, quiet: bool) -> None:
    now = datetime.fromisoformat(f"2026-09-21T{at}:59+02:00")
    assert is_quiet(now, text) == quiet


def test_counts_are_of_the_day_they_happened_on() -> None:
    counts, now_ms = Counts(), 20_000 * DAY_MS + 5
    counts.load([(19_999, "sent_background", 7), (20_000, "merged", 2)], now_ms)
    counts.add("merged", now_ms)
    counts.add("sent_background", now_ms, 3)
    assert counts.today(now_ms) == {"merged": 3, "sent_background": 3}
    assert counts.in_all() == {"merged": 3, "sent_background": 10}
    later_ms = now_ms + DAY_MS
    counts.add("merged", later_ms)
    assert counts.today(later_ms) == {"merged": 1}
    rows = counts.take_unsaved()
    assert sorted(rows) == [
        (20_000, "merged", 1), (20_000, "sent_background", 3), (20_001, "merged", 1)
    ]  # fmt: skip
    assert counts.take_unsaved() == []
    counts.give_back(rows)
    assert sorted(counts.take_unsaved()) == sorted(rows)


def test_a_clock_that_jumps_loses_no_count() -> None:
    counts, now_ms = Counts(), 20_000 * DAY_MS
    counts.add("cached", now_ms, 5)
    counts.add("cached", 0)
    counts.add("cached", 47_000 * DAY_MS)
    counts.add("cached", now_ms)
    assert counts.in_all() == {"cached": 8}
    assert sorted(counts.take_unsaved()) == [
        (0, "cached", 1), (20_000, "cached", 6), (47_000, "cached", 1)
    ]  # fmt: skip

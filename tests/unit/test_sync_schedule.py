"""The schedule: what is due, in which order, and that clocks which jump start nothing twice."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkeepd.sync import schedule
from modelkeepd.sync.schedule import NEVER, Book, Cadence, Choice, Done, Task

DAY = 86_400.0
NOW = 1_000_000.0
CADENCE = Cadence()
OFFERS = frozenset({"refetch", "sweep", "details"})
# everything was done an hour ago
IDLE = Book(
    needs_full=False,
    offers=OFFERS,
    done={
        task: Done(NOW - 3_600, NOW - 3_500) for task in ("full", "news", "refetch", "sweep")
    },
)  # fmt: skip


def book(**changes: Any) -> Book:
    return msgspec.structs.replace(IDLE, **changes)


def chosen(
    made: Book,
    at: float = NOW,
    *,
    auto: bool = True,
    quiet: bool = False,
    left: int | None = None,
) -> Choice:
    return schedule.choose(made, at, CADENCE, auto=auto, is_quiet=quiet, budget_left=left)


def since(task: Task, age_s: float) -> dict[str, Done]:
    return {**IDLE.done, task: Done(NOW - age_s, NOW - age_s + 60)}


def test_with_nothing_due_it_says_when_something_will_be() -> None:
    assert chosen(IDLE) == Choice(None, NOW - 3_600 + DAY)


def test_a_hub_never_read_whole_is_read_whole_first_even_without_a_budget() -> None:
    made = book(needs_full=True, done={})
    assert chosen(made, left=0).task == "full"
    assert chosen(made, auto=False).task is None
    assert chosen(made, quiet=True).task is None


def test_news_is_due_a_day_after_the_last_began() -> None:
    assert chosen(book(done=since("news", DAY + 1) | {"full": Done()})).task == "news"
    assert chosen(book(done=since("news", DAY - 60) | {"full": Done()})).task is None
    # a full crawl brings all news with it
    assert chosen(book(done=since("news", 3 * DAY))).task is None


def test_a_long_full_crawl_is_followed_by_news_at_once_and_once() -> None:
    done: dict[str, Done] = {**IDLE.done, "full": Done(NOW - 7_200, NOW - 5)}
    done["news"] = Done()
    assert chosen(book(done=done)).task == "news"
    assert chosen(book(done=done | {"news": Done(NOW - 4, NOW - 1)})).task is None


def test_what_was_begun_goes_on() -> None:
    for task in ("full", "news", "refetch", "sweep"):
        assert chosen(book(unfinished=frozenset({task}))).task == task
    for task in ("full", "news"):
        assert chosen(book(unfinished=frozenset({task})), auto=False).task == task
    assert chosen(book(unfinished=frozenset({"sweep"})), auto=False).task is None


def test_the_rest_takes_turns() -> None:
    made = book(
        unfinished=frozenset({"refetch", "sweep"}), look_s=NOW - 1, details_s=NEVER
    )  # fmt: skip
    order = []
    for _ in range(8):
        task = chosen(made).task
        assert task is not None
        order.append(task)
        made = msgspec.structs.replace(made, last_turn=task)
    assert order == ["confirm", "refetch", "sweep", "details"] * 2


def test_a_hub_is_asked_only_for_what_it_offers() -> None:
    made = book(offers=frozenset({"sweep"}), unfinished=frozenset(), details_s=NEVER, done={})
    due = schedule.due_times(made, CADENCE)
    assert due.keys() == {"news", "sweep"}


def test_with_a_refetch_sweeps_are_rare() -> None:
    month = book(done=since("sweep", 8 * DAY) | {"full": Done()})
    assert schedule.due_times(month, CADENCE)["sweep"] > NOW
    month = msgspec.structs.replace(month, offers=frozenset({"sweep"}))
    assert schedule.due_times(month, CADENCE)["sweep"] < NOW


def test_a_spent_budget_holds_all_but_news_and_quiet_hours_hold_everything_but_a_person() -> None:
    made = book(done={}, look_s=NOW - 1)
    assert chosen(made, left=0).task == "news"
    known = msgspec.structs.replace(made, done={"news": Done(NOW, NOW), "full": Done(NOW, NOW)})
    assert chosen(known, left=1).task == "confirm"
    assert chosen(known, left=0).task is None
    assert chosen(made, quiet=True).task is None
    for kind in ("full", "news"):
        asked = msgspec.structs.replace(made, manual=frozenset({kind}), hold_s=NOW + 60)
        assert chosen(asked, quiet=True, left=0, auto=False).task == kind


def test_after_a_refusal_nothing_is_tried_before_its_time() -> None:
    made = book(done={}, hold_s=NOW + 60)
    assert chosen(made) == Choice(None, NOW + 60)
    assert chosen(made, NOW + 60).task == "news"


@pytest.mark.parametrize("jump_s", [3_600.0, -3_600.0, 75 * 365 * DAY, -50 * 365 * DAY])
def test_a_clock_that_jumped_while_nothing_ran_costs_one_run_at_most(jump_s: float) -> None:
    wall_ms = 1_780_000_000_000
    began_ms = wall_ms - 3_600_000
    now_ms = wall_ms + round(jump_s * 1000)
    at = schedule.since(began_ms, now_ms, NOW)
    made = book(done={"news": Done(at, at)}, offers=frozenset())
    first = chosen(made).task
    # whatever was made of the old date, after one run the next is a day away
    again = schedule.since(now_ms, now_ms, NOW)
    made = msgspec.structs.replace(made, done={"news": Done(again, again)})
    assert first in (None, "news")
    assert chosen(made) == Choice(None, NOW + DAY)
    # and the clock that is put right afterwards changes nothing: boot time goes on
    assert chosen(made, NOW + DAY - 1).task is None
    assert chosen(made, NOW + DAY).task == "news"


times = st.one_of(st.just(NEVER), st.floats(0, NOW))
dones = st.dictionaries(
    st.sampled_from(["full", "news", "refetch", "sweep"]), st.builds(Done, times, times)
)
books = st.builds(
    Book,
    needs_full=st.booleans(),
    offers=st.frozensets(st.sampled_from(["refetch", "sweep", "details"])),
    unfinished=st.frozensets(st.sampled_from(["full", "news"])),
    manual=st.frozensets(st.sampled_from(["full", "news"])),
    done=dones,
    look_s=st.none() | st.floats(0, 2 * NOW),
    details_s=st.none() | st.just(NEVER) | st.floats(0, 2 * NOW),
    last_turn=st.sampled_from(["", "confirm", "details"]),
    hold_s=times,
)


@given(made=books, quiet=st.booleans(), left=st.none() | st.integers(0, 3), auto=st.booleans())
def test_nobody_is_disturbed_in_quiet_hours_and_no_budget_is_overdrawn(
    made: Book, quiet: bool, left: int | None, auto: bool
) -> None:
    task = chosen(made, quiet=quiet, left=left, auto=auto).task
    if task is None or task in made.manual:
        return
    assert not made.manual
    assert not quiet
    assert left != 0 or task in ("full", "news")
    assert auto or task in made.unfinished

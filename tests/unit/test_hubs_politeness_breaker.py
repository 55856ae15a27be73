"""The circuit breaker: a table of what must happen, and that it never asks more than it may."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.hubs.breaker import Breaker, BreakerPolicy, Outcome, Refusal, Saved, State

POLICY = BreakerPolicy(
    window=8, minimum=4, failed_share=0.5, slow_s=5.0, slow_share=0.75, open_s=10.0,
    longest_s=35.0, jitter=0.0, probes=3, probe_lost_s=100.0,
)  # fmt: skip
MOST_S = 35.0


def made(policy: BreakerPolicy = POLICY) -> Breaker:
    return Breaker(policy, random.Random(1))


class Operated:
    """A breaker and a clock: a word a step."""

    def __init__(self) -> None:
        self.seen: list[State] = []
        self.breaker = Breaker(POLICY, random.Random(1), lambda b: self.seen.append(b.state))
        self.now = 0.0
        self.refused = 0

    def call(self, outcome: Outcome, took_s: float = 0.1) -> None:
        permit = self.breaker.admit(self.now)
        self.now += took_s
        if isinstance(permit, Refusal):
            self.refused += 1
        else:
            self.breaker.done(permit, outcome, took_s, self.now, "503")

    def run(self, script: str) -> State:
        for word in script.split():
            match word:
                case "ok":
                    self.call("ok")
                case "bad":
                    self.call("failed")
                case "slow":
                    self.call("ok", 6.0)
                case "left":
                    self.call("neither")
                case "pause":
                    self.breaker.pause("its answers changed")
                case "resume":
                    self.breaker.resume()
                case wait:
                    self.now += float(wait)
        return self.breaker.state


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ("bad bad bad", "closed"),  # too few to tell
        ("bad bad bad bad", "open"),
        ("ok ok bad bad", "open"),  # half of them
        ("ok ok ok bad", "closed"),
        ("ok ok ok ok ok ok ok ok bad bad bad", "closed"),
        ("ok ok ok ok ok ok ok ok bad bad bad bad", "open"),
        # the window slides: old failures are forgotten
        ("ok bad ok ok ok ok ok ok ok ok ok bad ok bad", "closed"),
        ("bad bad bad 900 bad", "closed"),
        ("bad bad bad 890 bad", "open"),
        ("slow slow slow", "closed"),
        ("slow slow slow slow", "open"),
        ("ok slow slow slow", "open"),
        ("ok ok slow slow", "closed"),
        # what was canceled or refused by a limit counts for nothing
        ("left left left left left left left left", "closed"),
        ("bad left left bad left bad", "closed"),
        # open, until its time is over
        ("bad bad bad bad ok ok ok", "open"),
        ("bad bad bad bad 9 ok ok ok", "open"),
        ("bad bad bad bad 10 ok", "half_open"),
        ("bad bad bad bad 10 ok ok", "closed"),
        ("bad bad bad bad 10 bad ok ok", "closed"),
        ("bad bad bad bad 10 bad bad", "open"),
        ("bad bad bad bad 10 slow slow", "open"),
        ("bad bad bad bad 10 left left left left left ok ok", "closed"),
        # the second time twice as long, the third four times, within limits
        ("bad bad bad bad 10 bad bad 11 ok", "open"),
        ("bad bad bad bad 10 bad bad 20 ok ok", "closed"),
        ("bad bad bad bad 10 bad bad 20 bad bad 30 ok", "open"),
        ("bad bad bad bad 10 bad bad 20 bad bad 35 ok ok", "closed"),
        # closing starts anew
        ("bad bad bad bad 10 ok ok bad bad bad", "closed"),
        ("bad bad bad bad 10 ok ok bad bad bad bad 10 ok ok", "closed"),
        # forced
        ("pause ok ok ok 1000 ok ok ok", "paused"),
        ("bad bad bad bad pause 1000 ok", "paused"),
        ("pause resume", "closed"),
        ("pause resume bad bad bad", "closed"),
        ("bad bad bad bad resume ok", "closed"),
    ],
)  # fmt: skip
def test_a_breaker_does_as_its_table_says(script: str, state: State) -> None:
    assert Operated().run(script) == state


def test_each_change_is_told_once() -> None:
    operated = Operated()
    operated.run("bad bad bad bad ok 10 bad bad 20 ok ok pause pause resume resume")
    assert operated.seen == [
        "open", "half_open", "open", "half_open", "closed", "paused", "closed"
    ]  # fmt: skip
    assert operated.refused == 1


def test_a_refusal_says_why_and_for_how_long() -> None:
    operated = Operated()
    operated.run("ok bad bad bad 4")
    refusal = operated.breaker.refusal(operated.now)
    assert refusal is not None
    assert refusal.reason == "3 of the last 4 requests failed: 503"
    assert refusal.retry_after_s == pytest.approx(6.0)
    operated.run("pause")
    assert operated.breaker.refusal(operated.now) == Refusal("its answers changed", MOST_S)


def test_half_open_admits_only_its_probes_at_once_and_gives_lost_places_back() -> None:
    operated = Operated()
    operated.run("bad bad bad bad 10")
    breaker, now = operated.breaker, operated.now
    permits = [breaker.admit(now) for _ in range(5)]
    assert [isinstance(permit, Refusal) for permit in permits] == [False] * 3 + [True] * 2
    assert isinstance(permits[0], int)
    breaker.done(permits[0], "neither", 1.0, now + 1)
    assert isinstance(breaker.admit(now + 1), int)
    assert isinstance(breaker.admit(now + 1), Refusal)
    # nothing was ever heard of the others
    assert isinstance(breaker.admit(now + 100), int)


def test_a_call_from_before_has_no_say_in_what_came_after() -> None:
    operated = Operated()
    breaker = operated.breaker
    early = [breaker.admit(0.0) for _ in range(8)]
    operated.run("bad bad bad bad 10 ok ok")
    for permit in early:
        assert isinstance(permit, int)
        breaker.done(permit, "failed", 1.0, operated.now)
    assert breaker.state == "closed"
    assert operated.run("bad bad bad") == "closed"


def test_opening_is_jittered() -> None:
    policy = BreakerPolicy(minimum=1, window=1, open_s=10.0, jitter=0.5)
    waits = set()
    for seed in range(50):
        breaker = Breaker(policy, random.Random(seed))
        permit = breaker.admit(0.0)
        assert isinstance(permit, int)
        breaker.done(permit, "failed", 0.0, 0.0)
        waits.add(breaker.left_s(0.0))
    assert 10.0 <= min(waits) < 11.0
    assert 14.0 < max(waits) <= 15.0


@pytest.mark.parametrize(
    ("saved", "state", "left_s"),
    [
        (Saved("open", "503", 7.0, 1), "open", 7.0),
        (Saved("open", "503", -5.0, 1), "open", 0.0),
        (Saved("open", "503", 1e9, 1), "open", MOST_S),  # the wall clock jumped
        (Saved("half_open", "503", 0.0, 2), "open", 0.0),
        (Saved("paused", "changed", 0.0, 0), "paused", 0.0),
        (Saved("closed", "", 0.0, 0), "closed", 0.0),
    ],
)
def test_a_restart_changes_nothing(saved: Saved, state: State, left_s: float) -> None:
    breaker = made()
    breaker.restore(saved, 1_000.0)
    assert (breaker.state, breaker.left_s(1_000.0)) == (state, left_s)
    again = breaker.saved(1_000.0)
    assert (again.reason, again.openings) == (saved.reason, saved.openings)


STEP = st.tuples(
    st.sampled_from(["admit", "ok", "failed", "slow", "neither", "wait", "pause", "resume"]),
    st.integers(0, 30),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=120))
def test_it_never_asks_more_than_it_may(steps: Sequence[tuple[str, int]]) -> None:
    """Calls overlap and end in any order; half open, never more than its probes are out."""
    operated = Operated()
    breaker, now = operated.breaker, 0.0
    under_way: list[tuple[int, int]] = []  # permit, and the state's number it was given in
    states = 0
    breaker._on_change = lambda _: None
    last = breaker.state
    opened_at = 0.0
    for what, number in steps:
        if what == "admit":
            permit = breaker.admit(now)
            if breaker.state != last:
                states, last = states + 1, breaker.state
            if isinstance(permit, Refusal):
                assert breaker.state != "closed"
                assert permit.retry_after_s > 0
                continue
            assert breaker.state in ("closed", "half_open")
            under_way.append((permit, states))
            if breaker.state == "half_open":
                assert now >= opened_at + 10.0
                out = sum(state == states for _, state in under_way)
                assert out <= POLICY.probes
        elif what == "wait":
            now += number
        elif what in ("pause", "resume"):
            breaker.pause("forced") if what == "pause" else breaker.resume()
        elif under_way:
            permit, _ = under_way.pop(number % len(under_way))
            outcome: Outcome = "failed" if what == "failed" else "ok"
            if what == "neither":
                outcome = "neither"
            was = breaker.state
            breaker.done(permit, outcome, 6.0 if what == "slow" else 0.1, now)
            if was != "open" and breaker.state == "open":
                opened_at = now
        if breaker.state != last:
            states, last = states + 1, breaker.state
        assert breaker.left_s(now) <= MOST_S


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["ok", "bad", "slow", "left", "12", "50"]), max_size=60))
def test_whatever_happened_a_hub_that_is_well_again_is_asked_again(script: list[str]) -> None:
    operated = Operated()
    operated.run(" ".join(script))
    well = "40 ok ok ok ok ok ok ok ok"
    # the first of these may be what makes half of the last calls failures
    assert operated.run(f"{well} {well}") == "closed"

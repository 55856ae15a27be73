"""The job's state table: complete, closed, and its page in the docs current."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.transfer.states import (
    FINAL,
    RUNNING,
    TRANSITIONS,
    Effect,
    Event,
    State,
    Unreachable,
    after_restart,
    render_markdown,
    step,
)

PAGE = Path(__file__).parents[2] / "docs" / "transfer-states.md"
COMMANDS = {Event.PAUSE, Event.RESUME, Event.CANCEL, Event.RETRY}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", list(Event))
def test_every_pair_is_either_in_the_table_or_refused(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        following, effects = step(state, event)
        assert following in State
        assert all(effect in Effect for effect in effects)
    else:
        with pytest.raises(Unreachable, match=f"{state} knows no {event}"):
            step(state, event)


def test_the_words_are_the_ones_clients_know() -> None:
    assert " ".join(State) == (
        "queued resolving downloading verifying scanning placing done waiting paused failed"
        " quarantined canceled"
    )


def test_every_state_is_reached_and_every_event_is_used() -> None:
    reached, frontier = {State.QUEUED}, [State.QUEUED]
    while frontier:
        state = frontier.pop()
        for (source, _), (target, _) in TRANSITIONS.items():
            if source is state and target not in reached:
                reached.add(target)
                frontier.append(target)
    assert reached == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_nothing_but_placing_leads_to_the_library() -> None:
    to_done = {(s, e) for (s, e), (target, _) in TRANSITIONS.items() if target is State.DONE}
    assert to_done == {(State.PLACING, Event.PLACED), (State.RESOLVING, Event.OWNED)}
    to_placing = {s for (s, _), (t, _) in TRANSITIONS.items() if t is State.PLACING}
    assert to_placing == {State.SCANNING, State.PLACING}
    to_scanning = {(s, e) for (s, e), (t, _) in TRANSITIONS.items() if t is State.SCANNING}
    assert to_scanning == {(State.VERIFYING, Event.MATCHED)}


def test_what_a_person_stopped_starts_only_by_a_person() -> None:
    for (state, event), (target, _) in TRANSITIONS.items():
        if state in (State.PAUSED, *FINAL) and target not in (state, State.CANCELED):
            assert event in COMMANDS


@pytest.mark.parametrize("state", list(State))
def test_a_restart_leaves_no_state_running(state: State) -> None:
    assert after_restart(state) not in RUNNING
    if state not in RUNNING:
        assert after_restart(state) is state


@pytest.mark.parametrize("state", sorted(RUNNING))
def test_everything_running_can_fail_wait_and_survive_a_restart(state: State) -> None:
    assert step(state, Event.BROKEN)[0] is State.FAILED
    assert step(state, Event.LATER)[0] is State.WAITING
    assert step(state, Event.RESTART)[0] is State.QUEUED


def test_between_rename_and_commit_nothing_is_stopped() -> None:
    assert step(State.PLACING, Event.CANCEL) == (State.PLACING, ())
    assert step(State.PLACING, Event.PAUSE) == (State.PLACING, ())


@given(st.lists(st.sampled_from(list(Event)), max_size=30))
@settings(max_examples=200, deadline=None)
def test_from_wherever_events_lead_a_job_can_still_end(events: list[Event]) -> None:
    state = State.QUEUED
    for event in events:
        if (state, event) in TRANSITIONS:
            state, _ = step(state, event)
    if state in RUNNING:
        state = after_restart(state)
    assert state in FINAL or step(state, Event.CANCEL)[0] is State.CANCELED


def test_the_page_in_the_docs_is_generated_from_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_markdown(), (
        "run: python -m modelkeepd.transfer.states > docs/transfer-states.md"
    )

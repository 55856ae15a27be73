"""Cursors, gaps and epochs: the pure rules by which a follower knows what it has missed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.store import Cursor
from modelkeepd.store.epochs import Epoch, trusted_seq
from modelkeepd.store.event_log import is_gap

SEQ = st.integers(0, 10**18 - 1)


@given(st.text(min_size=1), SEQ)
def test_a_cursor_survives_being_written_and_read(epoch: str, seq: int) -> None:
    assert Cursor.parse(str(Cursor(epoch, seq))) == Cursor(epoch, seq)


@given(st.text() | st.from_regex(r"[a-f0-9]{0,8}:[-+ 0-9_.e٣]*", fullmatch=True))
def test_a_text_is_a_cursor_or_refused_and_nothing_else(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except ValueError:
        return
    assert cursor.epoch
    assert 0 <= cursor.seq < 2**63
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text", ["", ":", "e:", ":1", "e", "e:-1", "e:1.0", "e: 1", "e:1_0", "e:٣", "e:" + "9" * 19]
)
def test_what_is_no_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="EPOCH:NUMBER"):
        Cursor.parse(text)


@settings(max_examples=300)
@given(
    seen=st.integers(0, 12),
    newest=st.integers(0, 10),
    trimmed=st.integers(0, 10),
    same_epoch=st.booleans(),
)
def test_a_gap_is_exactly_an_event_that_can_not_be_told_any_more(
    seen: int, newest: int, trimmed: int, same_epoch: bool
) -> None:
    kept = [seq for seq in range(1, newest + 1) if seq > trimmed]
    missed = set(range(seen + 1, newest + 1))
    expected = not same_epoch or seen > newest or not missed <= set(kept)
    cursor = Cursor("a" if same_epoch else "b", seen)
    assert is_gap(cursor, epoch="a", oldest=kept[0] if kept else None, newest=newest) == expected


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=8))
def test_a_follower_trusts_what_no_later_epoch_has_taken_back(
    history: list[tuple[int, int]],
) -> None:
    """Each epoch writes some events and loses some at its end; events are told apart by origin."""
    log: list[int] = []  # the epoch that wrote seq 1, 2, ...
    epochs: list[Epoch] = []
    remembered: dict[str, list[int]] = {}
    for number, (written, lost) in enumerate(history):
        epochs.append(Epoch(f"e{number}", len(log)))
        log += [number] * written
        remembered[f"e{number}"] = list(log)
        if number < len(history) - 1:
            del log[max(0, len(log) - lost) :]
    for name, memory in remembered.items():
        trusted = trusted_seq(epochs, name, len(log))
        assert memory[:trusted] == log[:trusted]
        assert trusted <= len(log)
    assert trusted_seq(epochs, f"e{len(history) - 1}", len(log)) == len(log)
    assert trusted_seq(epochs, "never heard of", len(log)) == 0

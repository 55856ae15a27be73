"""The segment map: ranges merge, slots survive tears (D10, D21)."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.transfer.response import Validator
from modelkeepd.transfer.segments import (
    SLOT_BYTES,
    SegmentMap,
    add_range,
    clip,
    decode_slot,
    frontier,
    read_map,
    write_map,
)

pieces = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12)


@given(pieces)
@settings(max_examples=200, deadline=None)
def test_ranges_are_the_set_of_their_bytes(parts: list[tuple[int, int]]) -> None:
    ranges: list[tuple[int, int]] = []
    there: set[int] = set()
    for start, length in parts:
        ranges = add_range(ranges, start, start + length)
        there |= set(range(start, start + length))
    assert {at for low, high in ranges for at in range(low, high)} == there
    assert all(high < low for (_, high), (low, _) in pairwise(ranges))
    reached = 0
    while reached in there:
        reached += 1
    assert frontier(ranges) == reached
    assert {at for low, high in clip(ranges, 30) for at in range(low, high)} == {
        at for at in there if at < 30
    }


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    handle = os.open(tmp_path / "map", os.O_RDWR | os.O_CREAT)
    yield handle
    os.close(handle)


def state(done: int) -> SegmentMap:
    validator = Validator("https://h.example", '"e"', None, 100)
    return SegmentMap(validator, 100, [(0, done)], [(0, done // 2)], "boot")


def test_the_newest_generation_is_read_back(fd: int) -> None:
    kept = state(2)
    for done in (10, 20, 30):
        kept.written = [(0, done)]
        write_map(fd, kept)
    assert read_map(fd) == kept
    assert os.fstat(fd).st_size <= 2 * SLOT_BYTES


@pytest.mark.parametrize("cut", [0, 1, 7, 11, 15, 40, 100])
def test_a_torn_slot_costs_one_generation(fd: int, cut: int) -> None:
    kept = state(10)
    write_map(fd, kept)
    kept.written = [(0, 20)]
    write_map(fd, kept)
    at = SLOT_BYTES * (kept.generation % 2)
    os.pwrite(fd, b"\0" * (SLOT_BYTES - cut), at + cut)
    assert read_map(fd).written == [(0, 10)]


def test_an_empty_or_foreign_map_is_an_empty_one(fd: int) -> None:
    assert read_map(fd) == SegmentMap()
    os.pwrite(fd, os.urandom(SLOT_BYTES * 2), 0)
    assert read_map(fd) == SegmentMap()


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_no_bytes_break_the_decoder(noise: bytes) -> None:
    assert decode_slot(noise) is None
    assert decode_slot(b"mkmap1\n" + noise) is None

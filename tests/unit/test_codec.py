"""Frames: what goes in comes out, and nothing else than BadFrame ever comes of bad ones."""

import math
import struct
import sys

import msgpack  # type: ignore[import-untyped,unused-ignore]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeep_protocol import codec
from modelkeep_protocol.codec import BadFrame

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=15,
)


def nested(depth: int, innermost: object = None) -> object:
    value = innermost
    for _ in range(depth):
        value = [value]
    return value


def accepts(frame: bytes) -> bool:
    try:
        codec.unpack(frame)
    except BadFrame:
        return False
    return True


@settings(max_examples=80, derandomize=True, deadline=None)
@given(VALUES)
def test_values_come_back_as_they_were(value: object) -> None:
    frame = codec.pack(value)
    assert codec.unpack(frame) == value
    assert codec.unpack_trusted(frame) == value


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_a_value_or_a_bad_frame(frame: bytes) -> None:
    if accepts(frame):
        assert codec.unpack(frame) == msgpack.unpackb(frame)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(VALUES, st.data())
def test_damaged_frames_are_a_value_or_a_bad_frame(value: object, data: st.DataObject) -> None:
    frame = bytearray(codec.pack(value))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(frame)))
    for damaged in (bytes(frame), bytes(frame[:cut]), bytes(frame) + b"\x00"):
        accepts(damaged)  # anything but BadFrame fails the test


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.binary(max_size=60) | VALUES.map(codec.pack))
def test_the_short_way_refuses_what_the_scan_refuses(frame: bytes) -> None:
    """Small frames skip the scan of the headers; that must not let anything through."""
    try:
        codec._check_shape(frame)
        scanned = True
    except BadFrame:
        scanned = False
    if not scanned:
        assert not accepts(frame)


@pytest.mark.parametrize("innermost", [None, [], {}, "x" * 50, 1.5])
def test_sixteen_levels_pass_and_seventeen_do_not(innermost: object) -> None:
    levels = codec.MAX_DEPTH - (1 if innermost in ([], {}) else 0)
    assert accepts(msgpack.packb(nested(levels, innermost)))
    assert not accepts(msgpack.packb(nested(levels + 1, innermost)))


def test_a_thousand_levels_are_refused_without_recursion() -> None:
    assert not accepts(b"\x91" * 100_000 + b"\xc0")
    assert not accepts(b"\x81\xa1a" * 100_000 + b"\xc0")


def test_many_values_are_refused_at_the_count() -> None:
    exactly = msgpack.packb([None] * (codec.MAX_ITEMS - 1))
    assert accepts(exactly)
    assert not accepts(msgpack.packb([None] * codec.MAX_ITEMS))
    assert not accepts(msgpack.packb({str(n): n for n in range(codec.MAX_ITEMS // 2)}))


def test_a_mebibyte_of_nils_is_refused_before_any_is_read() -> None:
    count = codec.MAX_REQUEST_BYTES - 5
    frame = b"\xdd" + count.to_bytes(4, "big") + b"\xc0" * count
    lines = 0

    def tracer(_frame: object, event: str, _arg: object) -> object:
        nonlocal lines
        lines += event == "line"
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)  # type: ignore[arg-type]
    try:
        assert not accepts(frame)
    finally:
        sys.settrace(before)
    assert lines < 200, "the work must not grow with the frame"


@pytest.mark.parametrize(
    "head", [b"\xdd", b"\xdf", b"\xdb", b"\xc6"], ids=["array", "map", "text", "binary"]
)
@pytest.mark.parametrize("count", [2**31, 2**32 - 1])
def test_a_count_beyond_the_frame_is_refused(head: bytes, count: int) -> None:
    assert not accepts(head + count.to_bytes(4, "big"))
    assert not accepts(head + count.to_bytes(4, "big") + b"\xc0" * 100)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"\x91\xc1",
        b"\xc0\xc0",  # bytes behind the value
        b"\x82\xa1a\x01\xa1a\x02",  # a key twice
        b"\x81\xa1a\x82\xa1b\x01\xa1b\x02",  # a key twice, further in
        b"\x81\x01\x02",  # a key that is a number
        b"\x81\xc4\x01a\x02",  # a key that is bytes
        b"\x81\xc0\x02",  # a key that is nil
        b"\x81\x90\x02",  # a key that is a list
        b"\xa2\xff\xfe",  # no UTF-8
        b"\xa3\xed\xa0\x80",  # half a surrogate pair
        b"\xd4\x01\x00",  # extensions of every form
        b"\xd5\x01\x00\x00",
        b"\xd6\xff\x00\x00\x00\x00",  # a timestamp is one of them
        b"\xd7\xff" + bytes(8),
        b"\xd8\x01" + bytes(16),
        b"\xc7\x00\x01",
        b"\xc7\x0c\xff" + bytes(12),
        b"\xc8\x00\x01\x01\x00",
        b"\xc9\x00\x00\x00\x01\x01\x00",
        b"\xda\x00",  # ends in a length
        b"\xdc",
    ],
)
def test_forms_the_protocol_does_not_have_are_refused(frame: bytes) -> None:
    assert not accepts(frame)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("form", [">f", ">d"])
def test_numbers_that_are_not_finite_are_refused(number: float, form: str) -> None:
    head = b"\xca" if form == ">f" else b"\xcb"
    assert not accepts(head + struct.pack(form, number))
    assert not accepts(b"\x81\xa1a" + head + struct.pack(form, number))
    assert accepts(head + struct.pack(form, 1e30))
    assert accepts(head + struct.pack(form, -0.0))


def test_the_largest_integers_pass_and_larger_ones_can_not_be_sent() -> None:
    for number in (2**64 - 1, -(2**63)):
        assert codec.unpack(codec.pack(number)) == number
    for number in (2**64, -(2**63) - 1):
        with pytest.raises(BadFrame, match="can't be sent"):
            codec.pack(number)


def test_the_size_limits_hold_on_both_sides() -> None:
    fits = codec.MAX_REQUEST_BYTES - 5
    assert accepts(codec.pack(b"x" * fits))
    too_long = codec.pack(b"x" * (fits + 1))
    assert not accepts(too_long)
    assert codec.unpack_trusted(too_long) == b"x" * (fits + 1)
    with pytest.raises(BadFrame, match="the limit is"):
        codec.unpack_trusted(b"\xc0" * (codec.MAX_REPLY_BYTES + 1))


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, msgpack.ExtType, 1j])
def test_what_the_wire_does_not_carry_is_a_bad_frame(value: object) -> None:
    with pytest.raises(BadFrame, match="can't be sent"):
        codec.pack(value)


def test_a_file_name_that_is_no_text_is_sent_with_its_bytes_written_out() -> None:
    assert codec.unpack(codec.pack({"path": "/a/\udcff.bin"})) == {"path": "/a/\\udcff.bin"}


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.binary(max_size=100))
def test_a_daemons_answer_is_a_value_or_a_bad_frame(frame: bytes) -> None:
    try:
        codec.unpack_trusted(frame)
    except BadFrame:
        return

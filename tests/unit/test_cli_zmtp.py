"""ZMTP without a socket: what libzmq sends, what others send, and what nobody should."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeep.zmtp import GREETING, READY, Wire, WireError

# as libzmq 4.3.5 greets: minor version 1, padding that is not zero
PEER = b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01NULL" + bytes(16) + b"\x00" + bytes(31)
PEER_READY = b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER\x08Identity\x00\x00\x00\x00"


def greeted(limit: int = 1 << 20) -> Wire:
    wire = Wire(limit)
    wire.feed(PEER)
    wire.outgoing.clear()
    wire.feed(PEER_READY)
    return wire


def test_the_greeting_goes_first_and_ready_only_after_the_peers():
    wire = Wire(100)
    assert bytes(wire.outgoing) == GREETING
    assert len(GREETING) == 64
    wire.outgoing.clear()
    wire.feed(PEER[:63])
    assert not wire.is_ready
    assert not wire.outgoing
    wire.feed(PEER[63:])
    assert wire.is_ready
    assert bytes(wire.outgoing) == b"\x04" + bytes((len(READY),)) + READY


def test_a_message_before_the_greeting_is_refused():
    with pytest.raises(WireError):
        Wire(100).send(b"too early")


@given(st.lists(st.binary(max_size=700), max_size=5), st.randoms())
@settings(max_examples=60, deadline=None)
def test_messages_survive_any_cutting(messages, random):
    sender = greeted()
    for message in messages:
        sender.send(message)
    stream = PEER + PEER_READY + bytes(sender.outgoing)
    receiver, position, came = Wire(1 << 20), 0, []
    while position < len(stream):
        step = random.randint(1, 90)
        receiver.feed(stream[position : position + step])
        position += step
        while (message := receiver.receive()) is not None:
            came.append(message)
    assert came == messages


def test_the_longest_short_and_the_shortest_long_frame():
    wire = greeted()
    wire.send(b"s" * 255)
    assert wire.outgoing[:2] == b"\x00\xff"
    wire.outgoing.clear()
    wire.send(b"l" * 256)
    assert wire.outgoing[:9] == b"\x02\x00\x00\x00\x00\x00\x00\x01\x00"


def test_a_ping_is_answered_with_its_context():
    wire = greeted()
    wire.feed(b"\x04\x0a\x04PING\x00\x0actx")
    assert wire.receive() is None
    assert bytes(wire.outgoing) == b"\x04\x08\x04PONGctx"


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "something else"),
        (b"\xff" + bytes(8) + b"\x7f\x01\x00", "older"),
        (b"\xff" + bytes(8) + b"\x00\x03\x00", "something else"),
        (PEER[:12] + b"CURVE".ljust(20, b"\0") + PEER[32:], "CURVE"),
    ],
)
def test_another_protocol_is_told_apart(greeting, said):
    with pytest.raises(WireError, match=said):
        Wire(100).feed(greeting)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"\x01\x00", "several frames"),
        (b"\xf0\x00", "flags"),
        (b"\x00\xff", "255 bytes"),
        (b"\x02" + (1 << 40).to_bytes(8, "big"), "bytes"),
        (b"\x06" + (1 << 20).to_bytes(8, "big"), "bytes"),
        (b"\x04\x10\x05ERROR\x09not today", "not today"),
    ],
)
def test_bad_frames_end_the_connection(frame, said):
    wire = greeted(limit=100)
    wire.feed(frame)
    with pytest.raises(WireError, match=said):
        wire.receive()


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_a_wire_error_or_wait(data):
    wire = greeted(limit=1000)
    wire.feed(data)
    try:
        while wire.receive() is not None:
            pass
    except WireError:
        pass

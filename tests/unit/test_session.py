"""Client and server sessions, without any input or output."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modelkeep_protocol import PROTOCOL_MAJOR, codec, envelope, errors, schema
from modelkeep_protocol.codec import BadFrame
from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.session import (
    MAX_DEADLINE_MS,
    MAX_METHOD_CHARS,
    MAX_OPEN_CALLS,
    MAX_REFUSED_BYTES,
    Answer,
    CallCanceled,
    CallStarted,
    ClientSession,
    CreditGiven,
    Ended,
    Failed,
    Ponged,
    ServerSession,
    Welcomed,
)


def server() -> ServerSession:
    return ServerSession("epoch1", capabilities=("streams",))


def refusal(session: ServerSession, message: object) -> dict[str, Any]:
    """The one error that answers a message."""
    frames, events = session.receive(codec.pack(message))
    assert events == []
    assert len(frames) == 1
    answer = codec.unpack(frames[0])
    assert answer["t"] == "error"
    assert isinstance(answer, dict)
    return answer


def call_message(**changes: object) -> dict[str, object]:
    return {"t": "call", "v": 1, "id": 5, "m": "daemon.ping", "p": {}, **changes}


def test_hello_is_welcomed_with_version_epoch_capabilities_and_limits() -> None:
    frames, events = server().receive(ClientSession().hello("test 1"))
    assert events == []
    message = codec.unpack(frames[0])
    assert message["limits"] == {
        "request_bytes": codec.MAX_REQUEST_BYTES,
        "depth": codec.MAX_DEPTH,
        "items": codec.MAX_ITEMS,
        "open_calls": MAX_OPEN_CALLS,
    }
    assert message["v"] == PROTOCOL_MAJOR
    assert ClientSession().receive(frames[0]) == Welcomed(0, "epoch1", ("streams",), "modelkeepd")


@pytest.mark.parametrize("version", [0, 2, 99, -1, None, "1", 1.0, True, [1], {}])
@pytest.mark.parametrize("kind", ["hello", "call"])
def test_another_version_is_unsupported_and_told_ours(kind: str, version: object) -> None:
    answer = refusal(server(), call_message(t=kind, v=version))
    assert answer["code"] == errors.UNSUPPORTED
    assert answer["data"] == {"major": PROTOCOL_MAJOR, "minor": 0}
    assert answer["hint"]


def test_a_later_minor_version_and_fields_nobody_knows_are_welcome() -> None:
    session = server()
    hello = {"t": "hello", "v": 1, "minor": 99, "client": "later", "colour": "red"}
    assert codec.unpack(session.receive(codec.pack(hello))[0][0])["t"] == "welcome"
    frames, events = session.receive(codec.pack(call_message(trace="abc")))
    assert frames == []
    assert events == [CallStarted(5, "daemon.ping", {}, None)]


def test_a_call_needs_no_hello_and_no_params() -> None:
    message = call_message(deadline_ms=10)
    del message["p"]
    assert server().receive(codec.pack(message)) == ([], [CallStarted(5, "daemon.ping", {}, 10)])


@pytest.mark.parametrize(
    "changes",
    [
        {"id": None},
        {"id": -1},
        {"id": envelope.MAX_ID + 1},
        {"id": 2**64 - 1},
        {"id": "5"},
        {"id": 5.0},
        {"id": True},
        {"m": ""},
        {"m": "x" * (MAX_METHOD_CHARS + 1)},
        {"m": None},
        {"m": ["daemon.ping"]},
        {"p": []},
        {"p": None},
        {"deadline_ms": 0},
        {"deadline_ms": -5},
        {"deadline_ms": 1.5},
        {"deadline_ms": True},
        {"deadline_ms": MAX_DEADLINE_MS + 1},
        {"t": "reply"},
        {"t": "welcome"},
        {"t": None},
        {"t": ["call"]},
        {"t": {"a": "b" * 1000}},
        {"t": "cancel", "id": None},
        {"t": "credit", "id": "x", "n": 1},
    ],
)
def test_a_message_of_a_wrong_form_is_answered_by_one_error(changes: dict[str, object]) -> None:
    session = server()
    answer = refusal(session, call_message(**changes))
    assert answer["code"] == errors.INVALID
    assert answer["hint"]
    assert len(answer["message"]) < 300
    usable = changes.get("id", 5) == 5 and type(changes.get("id", 5)) is int
    assert answer["id"] == (5 if usable else None)
    assert session.open_calls == set()


@pytest.mark.parametrize("value", [None, 5, "call", [1, 2], b"call"])
def test_a_frame_that_is_no_map_is_answered_by_one_error(value: object) -> None:
    assert refusal(server(), value)["code"] == errors.INVALID


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.binary(max_size=80))
def test_a_server_session_never_raises(frame: bytes) -> None:
    frames, events = server().receive(frame)
    assert len(frames) + len(events) <= 1


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["t", "v", "id", "m", "p", "n", "deadline_ms", "code", "r", "minor"])
        | st.sampled_from(["capabilities", "epoch", "data", "message", "hint"]),
        st.sampled_from(["hello", "call", "cancel", "credit", "ping", "error", "welcome", "item"])
        | st.integers(-2, 2**64 - 1)
        | st.none()
        | st.booleans()
        | st.lists(st.integers(0, 3), max_size=2)
        | st.dictionaries(st.text(max_size=2), st.integers(0, 3), max_size=2),
    )
)
def test_any_map_is_a_decision_for_either_end(message: dict[str, object]) -> None:
    frame = codec.pack(message)
    frames, events = server().receive(frame)
    assert len(frames) + len(events) <= 1
    try:
        ClientSession().receive(frame)
    except BadFrame:
        return


def test_an_id_in_use_is_refused_without_ending_the_call_it_belongs_to() -> None:
    session = server()
    session.receive(codec.pack(call_message()))
    answer = refusal(session, call_message())
    assert (answer["code"], answer["id"]) == (errors.INVALID, None)
    assert session.open_calls == {5}
    session.reply(5, {})
    assert session.receive(codec.pack(call_message()))[1] == [
        CallStarted(5, "daemon.ping", {}, None)
    ]


@pytest.mark.parametrize("count", [0, -1, envelope.MAX_CREDIT + 1, 2**64 - 1, None, "3", True, 1.0])
def test_credit_outside_its_bounds_is_refused_without_ending_the_stream(count: object) -> None:
    session = server()
    session.receive(codec.pack(call_message()))
    answer = refusal(session, {"t": "credit", "id": 5, "n": count})
    assert (answer["code"], answer["id"]) == (errors.INVALID, None)
    assert session.open_calls == {5}


@pytest.mark.parametrize("count", [1, envelope.MAX_CREDIT])
def test_credit_within_its_bounds_is_given(count: int) -> None:
    session = server()
    session.receive(codec.pack(call_message()))
    assert session.receive(ClientSession().credit(5, count)) == ([], [CreditGiven(5, count)])


def test_a_cancel_that_crosses_the_answer_is_nothing() -> None:
    session, client = server(), ClientSession()
    call_id, frame = client.call("daemon.ping", {})
    session.receive(frame)
    answer = session.reply(call_id, {"at_ms": 1})
    assert session.receive(client.cancel(call_id)) == ([], [])
    assert session.receive(client.credit(call_id, 1)) == ([], [])
    assert client.receive(answer) == Answer(call_id, {"at_ms": 1}, True)


def test_more_calls_than_allowed_are_busy_until_one_ends() -> None:
    session = server()
    for call_id in range(MAX_OPEN_CALLS):
        assert session.receive(codec.pack(call_message(id=call_id)))[1]
    answer = refusal(session, call_message(id=1000))
    assert (answer["code"], answer["id"], answer["retryable"]) == (errors.BUSY, 1000, True)
    session.end(3)
    assert session.receive(codec.pack(call_message(id=1000)))[1]


def test_a_refused_frame_is_named_by_its_id_unless_that_would_end_an_open_call() -> None:
    session, busy = server(), ModelkeepError(errors.BUSY, "too much")

    def refused_id(frame: bytes) -> object:
        return codec.unpack(session.refuse(frame, busy))["id"]

    frame = codec.pack(call_message())
    assert refused_id(frame) == 5
    session.receive(frame)
    assert refused_id(frame) is None
    assert refused_id(b"\xc1") is None
    assert refused_id(codec.pack([1])) is None
    assert refused_id(codec.pack(call_message(id=6, p={"x": "y" * MAX_REFUSED_BYTES}))) is None


def test_structs_and_plain_values_make_the_same_frame() -> None:
    page = schema.EventPage([schema.Event("e:1", 2, "sync", "odd", "x", {"k": [1, None]})], "e:1")
    session = server()
    plain = msgspec.to_builtins(page)
    assert session.item(1, page) == session.item(1, plain)
    assert session.item(1, page) == codec.pack({"t": "item", "id": 1, "r": plain})


def test_an_answer_that_can_not_be_sent_leaves_the_call_open_for_an_error() -> None:
    session = server()
    session.receive(codec.pack(call_message()))
    for value in (object(), 2**64, "x" * (codec.MAX_REPLY_BYTES + 1)):
        with pytest.raises(BadFrame):
            session.reply(5, value)
    assert session.open_calls == {5}
    error = ModelkeepError(errors.INTERNAL, "no", data={"odd": object()})
    failed = ClientSession().receive(session.error(5, error))
    assert isinstance(failed, Failed)
    assert failed.error.message == "no"
    assert session.open_calls == set()


def test_a_path_that_is_no_text_does_not_spoil_the_answer() -> None:
    answer = ClientSession().receive(server().reply(5, schema.Completions(["/a/\udcff"])))
    assert answer == Answer(5, {"items": ["/a/\\udcff"]}, True)


def test_an_error_arrives_as_it_was_raised() -> None:
    error = ModelkeepError(errors.BUSY, "later", "wait", retryable=True, data={"after_ms": 5})
    failed = ClientSession().receive(server().error(7, error))
    assert isinstance(failed, Failed)
    assert failed.call_id == 7
    assert failed.error.to_map() == error.to_map()


def test_messages_of_a_later_version_are_ignored_by_a_client() -> None:
    assert ClientSession().receive(codec.pack({"t": "weather", "id": 3})) is None
    assert ClientSession().receive(codec.pack({"t": "pong"})) == Ponged()


@pytest.mark.parametrize(
    "message",
    [
        {"t": "reply"},
        {"t": "item", "id": -1},
        {"t": "end", "id": "x"},
        {"t": "welcome", "minor": "x"},
        {"t": "welcome", "capabilities": 7},
        7,
    ],
)
def test_an_answer_of_a_wrong_form_is_a_bad_frame(message: object) -> None:
    with pytest.raises(BadFrame):
        ClientSession().receive(codec.pack(message))


@dataclass
class Known:
    """What the model knows of one open call."""

    is_stream: bool
    credit: int = 0
    is_canceled: bool = False
    items: list[int] = field(default_factory=list)


class Conversation(RuleBasedStateMachine):
    """Both ends with two queues between them; frames may be under way while others are sent."""

    def __init__(self) -> None:
        super().__init__()
        self.client, self.server = ClientSession(), server()
        self.to_server: list[bytes] = []
        self.to_client: list[bytes] = []
        self.at_server: dict[int, Known] = {}
        self.at_client: dict[int, Known] = {}
        self.sent_items: dict[int, list[int]] = {}

    @rule(is_stream=st.booleans())
    def call(self, is_stream: bool) -> None:
        method = "events.watch" if is_stream else "daemon.ping"
        call_id, frame = self.client.call(method, {})
        assert call_id not in self.at_client
        self.at_client[call_id] = Known(is_stream)
        self.to_server.append(frame)

    @precondition(lambda self: self.at_client)
    @rule(data=st.data(), count=st.integers(1, 3))
    def give_credit(self, data: st.DataObject, count: int) -> None:
        call_id = data.draw(st.sampled_from(sorted(self.at_client)))
        self.to_server.append(self.client.credit(call_id, count))

    @precondition(lambda self: self.at_client)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        call_id = data.draw(st.sampled_from(sorted(self.at_client)))
        self.at_client[call_id].is_canceled = True
        self.to_server.append(self.client.cancel(call_id))

    @precondition(lambda self: self.to_server)
    @rule()
    def server_receives(self) -> None:
        frames, events = self.server.receive(self.to_server.pop(0))
        self.to_client += frames
        for event in events:
            if isinstance(event, CallStarted):
                assert event.call_id not in self.at_server
                self.at_server[event.call_id] = Known(event.method == "events.watch")
                self.sent_items[event.call_id] = []
            elif isinstance(event, CreditGiven):
                self.at_server[event.call_id].credit += event.count
            elif isinstance(event, CallCanceled):
                canceled = ModelkeepError(errors.CANCELED, "canceled")
                self.to_client.append(self.server.error(event.call_id, canceled))
                del self.at_server[event.call_id]

    @precondition(lambda self: self.at_server)
    @rule(data=st.data())
    def server_works(self, data: st.DataObject) -> None:
        call_id = data.draw(st.sampled_from(sorted(self.at_server)))
        known = self.at_server[call_id]
        if not known.is_stream:
            self.to_client.append(self.server.reply(call_id, {"at_ms": call_id}))
        elif known.credit:
            known.credit -= 1
            number = len(self.sent_items[call_id])
            self.sent_items[call_id].append(number)
            self.to_client.append(self.server.item(call_id, number))
            return
        else:
            self.to_client.append(self.server.end(call_id))
        del self.at_server[call_id]

    @precondition(lambda self: self.to_client)
    @rule()
    def client_receives(self) -> None:
        event = self.client.receive(self.to_client.pop(0))
        if isinstance(event, Answer) and not event.is_last:
            known = self.at_client[event.call_id]
            known.items.append(event.value)
            assert known.items == list(range(len(known.items))), "in order, none lost"
            return
        assert isinstance(event, Answer | Ended | Failed)
        assert event.call_id is not None
        known = self.at_client.pop(event.call_id)
        if isinstance(event, Failed):
            busy = event.error.code == errors.BUSY
            assert known.is_canceled or busy
        else:
            assert known.is_stream == isinstance(event, Ended)
            assert known.items == self.sent_items.get(event.call_id, [])

    @invariant()
    def server_knows_its_calls(self) -> None:
        assert self.server.open_calls == set(self.at_server)

    def teardown(self) -> None:
        while self.to_server:
            self.server_receives()
        while self.to_client:
            self.client_receives()
        assert set(self.at_client) == set(self.at_server), "every call is answered once"


TestConversation = Conversation.TestCase
TestConversation.settings = settings(
    max_examples=40, stateful_step_count=40, derandomize=True, deadline=None
)

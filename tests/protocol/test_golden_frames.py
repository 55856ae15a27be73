"""Frames recorded for this version still mean what they meant, whatever was added since."""

from typing import Any

import msgspec
import pytest

from modelkeep_protocol import codec, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.session import (
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
from tests.protocol import golden_frames
from tests.protocol.golden_frames import CALL_ID, Golden, current, load

RECORDED = load()


def named(golden: Golden) -> str:
    return golden.name


def holds(found: Any, recorded: Any) -> bool:
    """Everything recorded is there; fields added since may stand beside it."""
    if isinstance(recorded, dict):
        return isinstance(found, dict) and all(
            key in found and holds(found[key], value) for key, value in recorded.items()
        )
    if isinstance(recorded, list):
        return (
            isinstance(found, list)
            and len(found) == len(recorded)
            and all(map(holds, found, recorded))
        )
    return bool(found == recorded)


def test_every_message_error_and_method_is_recorded() -> None:
    missing = {golden.name for golden in current()} - {golden.name for golden in RECORDED}
    assert not missing, "run: python -m tests.protocol.golden_frames"
    assert len({golden.name for golden in RECORDED}) == len(RECORDED)


@pytest.mark.parametrize("golden", RECORDED, ids=named)
def test_a_recorded_frame_decodes_to_what_was_recorded(golden: Golden) -> None:
    assert codec.unpack(golden.frame) == golden.meaning
    assert codec.unpack_trusted(golden.frame) == golden.meaning


@pytest.mark.parametrize("golden", [g for g in RECORDED if g.to == "daemon"], ids=named)
def test_todays_daemon_understands_it(golden: Golden) -> None:
    meaning, session = golden.meaning, ServerSession("e")
    if golden.name in ("cancel", "credit"):
        session.open_calls.add(CALL_ID)
    frames, events = session.receive(golden.frame)
    answers = [codec.unpack(frame)["t"] for frame in frames]
    match golden.name.split(".", 1):
        case ["hello"]:
            assert answers == ["welcome"]
        case ["ping"]:
            assert answers == ["pong"]
        case ["cancel"]:
            assert events == [CallCanceled(CALL_ID)]
        case ["credit"]:
            assert events == [CreditGiven(CALL_ID, meaning["n"])]
        case ["call", name]:
            assert events == [CallStarted(CALL_ID, name, meaning["p"], meaning["deadline_ms"])]
            params = schema.decode_params(schema.METHODS[name], meaning["p"])
            assert holds(msgspec.to_builtins(params), meaning["p"])
        case _:
            raise AssertionError(f"a frame nobody checks: {golden.name}")


@pytest.mark.parametrize("golden", [g for g in RECORDED if g.to == "client"], ids=named)
def test_todays_client_understands_it(golden: Golden) -> None:
    meaning = golden.meaning
    event = ClientSession().receive(golden.frame)
    match golden.name.split(".", 1):
        case ["welcome"]:
            assert event == Welcomed(
                meaning["minor"],
                meaning["epoch"],
                tuple(meaning["capabilities"]),
                meaning["server"],
            )
        case ["pong"]:
            assert event == Ponged()
        case ["end"]:
            assert event == Ended(CALL_ID)
        case ["error", code]:
            assert isinstance(event, Failed)
            assert isinstance(event.error, ModelkeepError)
            assert (event.call_id, event.error.code) == (CALL_ID, code)
            assert holds(meaning, event.error.to_map())
        case ["reply" | "item" as kind, name]:
            assert event == Answer(CALL_ID, meaning["r"], kind == "reply")
            result = msgspec.convert(meaning["r"], schema.METHODS[name].result)
            assert holds(msgspec.to_builtins(result), meaning["r"])
        case _:
            raise AssertionError(f"a frame nobody checks: {golden.name}")


@pytest.mark.parametrize("golden", RECORDED, ids=named)
def test_fields_of_a_later_version_change_nothing(golden: Golden) -> None:
    """A later peer may add fields anywhere: they are ignored here."""

    def with_more(value: Any) -> Any:
        if isinstance(value, dict) and "key" not in value:  # that one's keys are data
            return {**{key: with_more(inner) for key, inner in value.items()}, "later": [1]}
        return [with_more(inner) for inner in value] if isinstance(value, list) else value

    frame = codec.pack(with_more(golden.meaning))
    if golden.to == "client":
        answer = ClientSession().receive(frame)
        assert answer is not None
        if isinstance(answer, Answer):
            name = golden.name.split(".", 1)[1]
            msgspec.convert(answer.value, schema.METHODS[name].result)
        return
    session = ServerSession("e")
    session.open_calls |= {CALL_ID} if golden.name in ("cancel", "credit") else set()
    frames, events = session.receive(frame)
    assert all(codec.unpack(answer)["t"] != "error" for answer in frames)
    for event in events:
        if isinstance(event, CallStarted):
            schema.decode_params(schema.METHODS[event.method], event.params)


def test_recording_again_changes_nothing(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "v1.jsonl"
    kept = golden_frames.FILE.read_bytes()
    first, rest = kept.split(b"\n", 1)
    # a frame that is made differently now, and one that is missing
    copy.write_bytes(
        first.replace(b'"frame": "', b'"frame": "c0') + b"\n" + rest[rest.index(b"\n") + 1 :]
    )
    before = copy.read_bytes()
    monkeypatch.setattr(golden_frames, "FILE", copy)
    assert golden_frames.main() == 1
    assert copy.read_bytes().startswith(before), "lines are only ever added"
    assert len(copy.read_bytes().splitlines()) == len(kept.splitlines())
    assert "the recorded frame stays" in capsys.readouterr().out

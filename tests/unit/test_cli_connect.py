"""Answers, and what to say when there is nobody."""

import pytest

from modelkeep import connect
from modelkeep.nobody import explain, start_command
from modelkeep.zmtp import TimedOut, WireError
from modelkeep_protocol import codec
from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.session import Answer, ClientSession, Failed

FRAMES = [
    {"t": "reply", "id": 1, "r": {"a": 1}},
    {"t": "reply", "id": 2, "r": {"a": 1}},
    {"t": "item", "id": 1, "r": 3},
    {"t": "end", "id": 1},
    {"t": "pong"},
    {"t": "welcome", "v": 1, "minor": 0, "server": "x", "epoch": "e"},
    {"t": "error", "id": 1, "code": "busy", "message": "m", "hint": "h", "retryable": True},
    {"t": "error", "id": None, "code": "invalid", "message": "m", "hint": "h"},
    {"t": "error", "id": 2, "code": "busy", "message": "m", "hint": "h"},
    {"t": "error", "id": 1},
    {"t": "later", "id": 1},
]


@pytest.mark.parametrize("message", FRAMES, ids=lambda m: f"{m['t']}-{m.get('id')}")
def test_the_fast_path_decides_as_the_session_does(message):
    frame = codec.pack(message)
    event = ClientSession().receive(frame)
    if isinstance(event, Failed) and event.call_id in (None, 1):
        with pytest.raises(ModelkeepError) as caught:
            connect.read_answer(frame, 1)
        assert caught.value.to_map() == event.error.to_map()
        return
    is_ours, value = connect.read_answer(frame, 1)
    assert is_ours == (isinstance(event, Answer) and event.is_last and event.call_id == 1)
    assert value == ({"a": 1} if is_ours else None)


@pytest.mark.parametrize("frame", [b"", b"\xc1", codec.pack([1]), codec.pack("x")])
def test_a_frame_that_is_no_message_is_refused(frame):
    with pytest.raises(codec.BadFrame):
        connect.read_answer(frame, 1)


@pytest.mark.parametrize(
    ("exc", "why"),
    [
        (FileNotFoundError(), "not running"),
        (ConnectionRefusedError(), "left-over"),
        (TimedOut(), "hangs"),
        (WireError("something else answers"), "something else answers"),
        (OSError(95, "Operation not supported"), "not supported"),
    ],
)
def test_nobody_there_is_three_lines_with_a_command(exc, why, monkeypatch):
    monkeypatch.setenv("MODELKEEP_HOME", "/somewhere")
    what, because, mend = explain("/run/x/rpc.sock", exc)
    assert "/run/x/rpc.sock" in what
    assert why in because
    assert mend.endswith("modelkeepd &")
    assert not any("\n" in line for line in (what, because, mend))


def test_another_users_daemon_names_the_user(tmp_path):
    import getpass

    what, because, mend = explain(str(tmp_path / "rpc.sock"), PermissionError())
    assert "another user" in what
    assert getpass.getuser() in because
    assert "sudo -u" in mend


def test_the_command_that_starts_it_is_the_installed_one(tmp_path):
    bare = {"HOME": str(tmp_path)}
    assert start_command(bare, "linux").endswith(("modelkeepd &", "modelkeepd"))
    units = tmp_path / ".config/systemd/user"
    units.mkdir(parents=True)
    (units / "modelkeepd.service").touch()
    assert start_command(bare, "linux") == "systemctl --user start modelkeepd"
    # a service would use the platform's folders, not this home
    assert start_command({**bare, "MODELKEEP_HOME": "/x"}, "linux") == "modelkeepd &"


def test_on_a_mac_it_is_launchctl_when_there_is_an_agent(tmp_path):
    bare = {"HOME": str(tmp_path)}
    assert start_command(bare, "darwin") == "modelkeepd &"
    agents = tmp_path / "Library/LaunchAgents"
    agents.mkdir(parents=True)
    (agents / "org.modelkeep.modelkeepd.plist").touch()
    assert start_command(bare, "darwin").startswith("launchctl kickstart gui/")
    assert start_command(bare, "darwin").endswith("/org.modelkeep.modelkeepd")

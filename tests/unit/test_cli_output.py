"""One object prints: tables or lines, JSON that is harmless, color by the rules."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeep.cli.output import Output, dump_json
from modelkeep.connect import NoDaemon
from modelkeep_protocol.errors import ModelkeepError

COLUMNS = (
    ("REF", "ref", "text"),
    ("NAME", "name", "wide"),
    ("SIZE", "size_bytes", "size"),
    ("OWNED", "owned", "yes"),
    ("STATE", "state", "state"),
)
ROW = {"ref": "civitai:1", "name": "水彩\x1b[2J", "size_bytes": 228_000_000, "owned": True,
       "state": "done"}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make(*, terminal: bool = False, **environ: str) -> Output:
    stream = Terminal if terminal else io.StringIO
    return Output(stream(), stream(), {"COLUMNS": "60", "TERM": "xterm", **environ})


def test_a_pipe_gets_plain_values_with_tabs_between():
    out = make()
    out.table(COLUMNS, [ROW])
    assert out.stdout.getvalue() == "civitai:1\t水彩\\x1b[2J\t228000000\tyes\tdone\n"


def test_a_terminal_gets_a_table_that_fits():
    out = make(terminal=True, NO_COLOR="1")
    out.table(COLUMNS, [{**ROW, "name": "long name " * 20}, ROW])
    lines = out.stdout.getvalue().splitlines()
    assert lines[0].split() == ["REF", "NAME", "SIZE", "OWNED", "STATE"]
    assert "…" in lines[1]
    assert max(map(len, lines)) <= 60
    assert "228 MB" in lines[2]
    assert "\x1b" not in out.stdout.getvalue()


def test_a_column_with_nothing_to_give_stays_readable():
    out = make(terminal=True, NO_COLOR="1", COLUMNS="40")
    out.table((("PATH", "path", "text"),), [{"path": "/" + "x" * 100}])
    assert "x" * 100 in out.stdout.getvalue()


def test_quiet_prints_the_first_column_only():
    out = make(terminal=True)
    out.set_up(json=False, quiet=True, verbose=False, color=None)
    out.table(COLUMNS, [ROW])
    out.note("not said")
    out.hint("nor this")
    assert out.stdout.getvalue() == "civitai:1\n"
    assert out.stderr.getvalue() == ""


@pytest.mark.parametrize(
    ("terminal", "flag", "environ", "colored"),
    [
        (True, None, {}, True),
        (False, None, {}, False),
        (True, "auto", {}, True),
        (True, None, {"NO_COLOR": "1"}, False),
        (True, None, {"NO_COLOR": ""}, True),
        (True, None, {"TERM": "dumb"}, False),
        (False, None, {"CLICOLOR_FORCE": "1"}, True),
        (False, None, {"CLICOLOR_FORCE": "0"}, False),
        (True, "always", {"NO_COLOR": "1"}, True),
        (True, "never", {"CLICOLOR_FORCE": "1"}, False),
    ],
)
def test_the_flag_wins_then_the_environment_then_the_terminal(terminal, flag, environ, colored):
    out = make(terminal=terminal, **environ)
    out.set_up(json=False, quiet=False, verbose=False, color=flag)
    assert ("\x1b[" in out.state("failed")) is colored


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
), st.booleans())  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_json_says_the_same_and_only_printable_characters(value, indent):
    dumped = dump_json(value, indent=indent)
    assert json.loads(dumped) == value
    assert dumped.replace("\n", "").isprintable()
    dumped.encode("utf-8")


def test_hostile_names_are_escaped_in_json():
    dumped = dump_json({"name": "a\x1b[2J\x9b\u202e\u2028b\U000e0041"})
    assert dumped == '{"name": "a\\u001b[2J\\u009b\\u202e\\u2028b\\udb40\\udc41"}'


def test_an_error_is_the_json_document():
    out = make()
    out.set_up(json=True, quiet=False, verbose=False, color=None)
    out.error(ModelkeepError("not_found", "no such model", "look again"))
    shown = json.loads(out.stdout.getvalue())
    assert shown == {
        "error": {"code": "not_found", "message": "no such model", "hint": "look again"}
    }
    assert out.stderr.getvalue() == ""


def test_an_error_for_people_tells_what_to_do():
    out = make()
    out.error(ModelkeepError("not_found", "no \x1b model", "look again"))
    assert out.stderr.getvalue() == "modelkeep: no \\x1b model\nlook again\n"
    assert out.stdout.getvalue() == ""


def test_verbose_tells_the_code_and_the_data():
    out = make()
    out.set_up(json=False, quiet=False, verbose=True, color=None)
    out.error(ModelkeepError("busy", "too much", retryable=True, data={"open": 64}))
    assert out.stderr.getvalue() == "modelkeep: too much\n(busy, may work later)\n  open: 64\n"


def test_no_daemon_is_three_lines():
    out = make()
    out.error(NoDaemon("nobody at /run/x", "It is off.", "Start it: modelkeepd &"))
    assert out.stderr.getvalue().splitlines() == [
        "modelkeep: nobody at /run/x", "It is off.", "Start it: modelkeepd &",
    ]  # fmt: skip


def test_an_odd_width_is_no_crash():
    assert make(COLUMNS="wide").columns >= 40
    assert make(COLUMNS="-3").columns == 40

"""Words to commands. argparse, built from the same table, is the witness for what both allow."""

import argparse
import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeep.cli import commands, spec
from modelkeep.cli.parse import UsageError, parse
from modelkeep.cli.spec import Argument, Command, Option
from modelkeep.reference import tree


def test_every_command_of_the_table_loads_and_bears_its_name():
    for name in commands.COMMANDS:
        for verb, command in commands.load(name).items():
            assert command.name == f"{name} {verb}".strip()


def test_every_example_is_a_command_line_that_parses():
    for command in tree.all_commands():
        assert command.examples
        for line, meaning in command.examples:
            assert meaning
            words = shlex.split(line.replace('eval "$(', "").replace(')"', ""))
            if ">" in words:
                words = words[: words.index(">")]
            assert words[0] == "modelkeep"
            parsed = parse(words[1:])
            assert parsed.command is command or parsed.shared["version"], line


@pytest.mark.parametrize(
    "words",
    [
        ["--json", "search", "a"],
        ["search", "--json", "a"],
        ["search", "a", "--json"],
    ],
)
def test_global_options_stand_anywhere(words):
    parsed = parse(words)
    assert parsed.shared["json"] is True
    assert parsed.values["query"] == ["a"]


def test_a_global_option_may_stand_before_the_verb():
    assert parse(["queue", "--json", "pause", "3"]).command.name == "queue pause"


def test_a_command_with_verbs_has_a_default_one():
    parsed = parse(["queue", "--state", "failed"])
    assert parsed.command.name == "queue list"
    assert parsed.values["state"] == ["failed"]


def test_words_after_two_dashes_are_words():
    parsed = parse(["search", "--", "--json", "-q"])
    assert parsed.values["query"] == ["--json", "-q"]
    assert parsed.shared["json"] is False


def test_search_takes_excluding_words():
    parsed = parse(["search", "anime", "-furry", "-tag:x", "--limit", "3"])
    assert parsed.values["query"] == ["anime", "-furry", "-tag:x"]
    assert parsed.values["limit"] == 3


def test_short_options_join_and_take_their_value_at_once():
    parsed = parse(["queue", "cancel", "-qvy", "--all"])
    assert parsed.shared["quiet"]
    assert parsed.shared["verbose"]
    assert parsed.values["yes"]


def test_a_number_below_zero_is_a_value():
    assert parse(["queue", "move", "1", "--priority", "-5"]).values["priority"] == -5
    assert parse(["queue", "move", "1", "--priority=-5"]).values["priority"] == -5


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("serach x", "did you mean search?"),
        ("queue lst", "did you mean list?"),
        ("search --limt 3", "did you mean --limit?"),
        ("--jsn status", "did you mean --json?"),
        ("events --topic transfers", "did you mean transfer?"),
        ("search --limit many", "is no number"),
        ("search --limit -3", "is no number"),
        ("search --limit", "needs a N"),
        ("show", "needs a REF"),
        ("get", "needs a REF"),
        ("show a b", "does not know what to do with 'b'"),
        ("status --json=yes", "takes no value"),
        ("queue pause twelve", "is no number"),
        ("status --color sometimes", "none of the choices"),
    ],
)
def test_what_is_wrong_is_said(line, said):
    with pytest.raises(UsageError) as caught:
        parse(line.split())
    assert said in caught.value.message
    assert caught.value.hint


def test_help_is_given_in_spite_of_missing_words():
    assert parse(["get", "--help"]).shared["help"]
    assert parse(["get", "-h"]).command.name == "get"


def test_nothing_at_all_is_no_error():
    assert parse([]).command is None


# -- argparse as the witness ------------------------------------------------------------------


class _Refused(Exception):
    pass


class _Witness(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise _Refused(message)


def _witness() -> _Witness:
    parser = _Witness(prog="modelkeep", add_help=False, allow_abbrev=False)
    _add_options(parser, spec.GLOBAL_OPTIONS, suppress=False)
    names = parser.add_subparsers(dest="_name")
    for name in tree.public_names():
        verbs = tree.verbs_of(name)
        sub = names.add_parser(name, add_help=False, allow_abbrev=False)
        if not verbs:
            _fill(sub, commands.load(name)[""])
            continue
        _add_options(sub, spec.GLOBAL_OPTIONS, suppress=True)
        below = sub.add_subparsers(dest="_verb", required=True)
        for verb in verbs:
            _fill(
                below.add_parser(verb, add_help=False, allow_abbrev=False),
                commands.load(name)[verb],
            )
    return parser


def _fill(parser: argparse.ArgumentParser, command: Command) -> None:
    _add_options(parser, spec.GLOBAL_OPTIONS, suppress=True)
    _add_options(parser, command.options, suppress=False)
    for argument in command.arguments:
        extra: dict[str, Any] = {} if argument.count == "1" else {"nargs": argument.count}
        parser.add_argument(argument.dest, type=_type(argument), **extra)
        if argument.choices:
            parser._actions[-1].choices = argument.choices


def _add_options(
    parser: argparse.ArgumentParser, options: tuple[Option, ...], *, suppress: bool
) -> None:
    for option in options:
        default = argparse.SUPPRESS if suppress else option.default
        if option.kind == spec.FLAG:
            parser.add_argument(
                *option.names, dest=option.dest, action="store_true", default=default
            )
        else:
            parser.add_argument(
                *option.names,
                dest=option.dest,
                type=_type(option),
                default=[] if option.kind == spec.MANY else default,
                choices=option.choices or None,
                action="append" if option.kind == spec.MANY else "store",
            )


def _type(thing: Option | Argument) -> Any:
    def count(word: str) -> int:
        number = int(word)
        if number < 0:
            raise ValueError
        return number

    return {spec.COUNT: count, spec.NUMBER: int}.get(thing.kind, str)


_COMMANDS = [c for c in tree.all_commands() if not c.takes_dashed_words]
_GLOBALS = [o for o in spec.GLOBAL_OPTIONS if o.dest not in ("help", "version")]


@st.composite
def _lines(draw: st.DrawFn) -> list[str]:
    """Options before the command, before its words and after them, as argparse can read them."""
    command = draw(st.sampled_from(_COMMANDS))
    words: list[str] = []
    for argument in command.arguments:
        least, most = {"1": (1, 1), "?": (0, 1), "*": (0, 3), "+": (1, 3)}[argument.count]
        words += [draw(_value(argument)) for _ in range(draw(st.integers(least, most)))]
    options = [*command.options, *_GLOBALS]
    return [
        *draw(_options(_GLOBALS)),
        *command.name.split(),
        *draw(_options(options)),
        *words,
        *draw(_options(options)),
    ]


@st.composite
def _options(draw: st.DrawFn, options: list[Option]) -> list[str]:
    words: list[str] = []
    for option in draw(st.lists(st.sampled_from(options), max_size=3)):
        name = draw(st.sampled_from(option.names))
        if option.kind == spec.FLAG:
            words.append(name)
        elif draw(st.booleans()) and name.startswith("--"):
            words.append(f"{name}={draw(_value(option))}")
        else:
            words += [name, draw(_value(option))]
    return words


def _value(thing: Option | Argument) -> st.SearchStrategy[str]:
    if thing.choices:
        return st.sampled_from(thing.choices)
    if thing.kind in (spec.COUNT, spec.NUMBER):
        return st.integers(0, 10**6).map(str)
    return st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=6).filter(
        lambda word: not word.startswith("-")
    )


@given(_lines())
@settings(max_examples=150, deadline=None)
def test_we_read_what_argparse_reads(words):
    parsed = parse(words)
    seen = vars(_WITNESS.parse_args(words))
    assert {**parsed.values, **parsed.shared} == {
        name: value for name, value in seen.items() if not name.startswith("_")
    }


_WITNESS = _witness()

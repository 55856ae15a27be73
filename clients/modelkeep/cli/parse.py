"""From words to a command and its values, by the tables of ``spec``.

Options may stand anywhere, the global ones before the command too; ``--name=value``, ``-n5``,
``-qv`` and ``--`` work. Nothing is abbreviated: a misspelled word is answered with what was
probably meant. argparse would cost a fifth of the whole command; a test compares the two.
"""

from __future__ import annotations

from modelkeep.cli import spec
from modelkeep.cli.commands import COMMANDS, DEFAULT_VERBS, load
from modelkeep_protocol import errors
from modelkeep_protocol.errors import ModelkeepError

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from modelkeep.cli.spec import Argument, Command, Option

_GLOBALS = {name: option for option in spec.GLOBAL_OPTIONS for name in option.names}


class UsageError(ModelkeepError):
    """The command line is wrong."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(errors.INVALID, message, hint or "modelkeep help lists the commands")


class Parsed:
    """What was asked for. ``command`` is None when only help or the version was."""

    __slots__ = ("command", "name", "shared", "values")

    def __init__(
        self, name: str, command: Command | None, values: dict[str, Any], shared: dict[str, Any]
    ) -> None:
        self.name = name
        self.command = command
        self.values = values
        self.shared = shared


def parse(words: list[str]) -> Parsed:
    """Read a command line. Raises UsageError."""
    shared: dict[str, Any] = {option.dest: option.default for option in spec.GLOBAL_OPTIONS}
    rest = _take_globals(words, shared)
    if not rest:
        return Parsed("", None, {}, shared)
    name = rest[0]
    if name.startswith("-") and name != "-":
        raise _unknown_option(name, _GLOBALS, "modelkeep")
    if name not in COMMANDS:
        names = [known for known in COMMANDS if not known.startswith("_")]
        raise UsageError(
            f"there is no command {name!r}{_did_you_mean(name, names)}",
            "modelkeep help lists the commands",
        )
    verbs = load(name)
    rest = _take_globals(rest[1:], shared)
    verb = ""
    if "" not in verbs:
        verb = DEFAULT_VERBS[name]
        if rest and rest[0] in verbs:
            verb, rest = rest[0], rest[1:]
        elif rest and not rest[0].startswith("-"):
            raise UsageError(
                f"{name} has no verb {rest[0]!r}{_did_you_mean(rest[0], verbs)}",
                f"{name} knows: {', '.join(verbs)}",
            )
    command = verbs[verb]
    return Parsed(name, command, _values(command, rest, shared), shared)


def _take_globals(words: list[str], shared: dict[str, Any]) -> list[str]:
    """Read the global options in front; what remains begins with something else."""
    position = 0
    while position < len(words):
        word = words[position]
        name, equals, value = word.partition("=")
        option = _GLOBALS.get(name)
        if option is None or not word.startswith("-"):
            break
        position += 1
        if option.kind == spec.FLAG:
            _no_value(option, name, equals)
            shared[option.dest] = True
        else:
            if not equals:
                value = _next_value(option, name, words, position, "modelkeep")
                position += 1
            shared[option.dest] = _convert(option, name, value)
    return words[position:]


def _values(command: Command, words: list[str], shared: dict[str, Any]) -> dict[str, Any]:
    options = dict(_GLOBALS)
    values: dict[str, Any] = {}
    for option in command.options:
        values[option.dest] = [] if option.kind == spec.MANY else option.default
        for name in option.names:
            options[name] = option
    plain: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            plain += words[position:]
            break
        if len(word) < 2 or word[0] != "-":
            plain.append(word)
            continue
        name, equals, value = word.partition("=") if word[1] == "-" else (word, "", "")
        found = options.get(name)
        if found is None and word[1] != "-":
            if command.takes_dashed_words:
                plain.append(word)
                continue
            found = options.get(word[:2])
            if found is not None and len(word) > 2:
                name, value = word[:2], word[2:]
                if found.kind == spec.FLAG:
                    words = [*words[:position], f"-{value}", *words[position:]]
                    value = ""
                else:
                    equals = "="
        if found is None:
            if _is_number(word) and any(a.kind == spec.NUMBER for a in command.arguments):
                plain.append(word)
                continue
            raise _unknown_option(name, options, f"modelkeep {command.name}")
        target = shared if found.dest in shared else values
        if found.kind == spec.FLAG:
            _no_value(found, name, equals)
            target[found.dest] = True
            continue
        if not equals:
            value = _next_value(found, name, words, position, f"modelkeep {command.name}")
            position += 1
        if found.kind == spec.MANY:
            target[found.dest].append(_convert(found, name, value))
        else:
            target[found.dest] = _convert(found, name, value)
    if not shared["help"]:
        _place(command, plain, values)
    return values


def _place(command: Command, plain: list[str], values: dict[str, Any]) -> None:
    """Words to arguments: only the last argument of a command may take several."""
    how = f"modelkeep {command.name} --help shows how"
    for argument in command.arguments:
        if argument.count in "*+":
            if argument.count == "+" and not plain:
                raise UsageError(f"{command.name} needs {_a(argument.metavar)}", how)
            values[argument.dest] = [_convert(argument, argument.metavar, word) for word in plain]
            plain = []
        elif plain:
            values[argument.dest] = _convert(argument, argument.metavar, plain[0])
            plain = plain[1:]
        elif argument.count == "1":
            raise UsageError(f"{command.name} needs {_a(argument.metavar)}", how)
        else:
            values[argument.dest] = None
    if plain:
        raise UsageError(f"{command.name} does not know what to do with {plain[0]!r}", how)


def _next_value(option: Option, name: str, words: list[str], position: int, where: str) -> str:
    if position < len(words):
        value = words[position]
        if not value.startswith("-") or value == "-" or _is_number(value):
            return value
    raise UsageError(
        f"{name} needs {_a(option.metavar)}",
        f"{where} --help shows how; a value that begins with - is given as {name}=VALUE",
    )


def _no_value(option: Option, name: str, equals: str) -> None:
    if equals:
        raise UsageError(f"{name} takes no value", f"just {name}")


def _convert(kind: Option | Argument, name: str, value: str) -> object:
    if kind.choices and value not in kind.choices:
        raise UsageError(
            f"{name}: {value!r} is none of the choices{_did_you_mean(value, kind.choices)}",
            f"choose from: {', '.join(kind.choices)}",
        )
    if kind.kind not in (spec.COUNT, spec.NUMBER):
        return value
    if not _is_number(value) or (kind.kind == spec.COUNT and value.startswith("-")):
        raise UsageError(
            f"{name}: {value!r} is no number", f"a whole number, as in {name} 12".replace("--=", "")
        )
    return int(value)


def _is_number(word: str) -> bool:
    digits = word[1:] if word[:1] == "-" else word
    return digits.isascii() and digits.isdecimal() and len(digits) < 17


def _unknown_option(name: str, options: Iterable[str], where: str) -> UsageError:
    return UsageError(
        f"{where} has no option {name!r}{_did_you_mean(name, options)}",
        f"{where} --help lists them",
    )


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _a(metavar: str) -> str:
    return f"{'an' if metavar[0] in 'AEIO' else 'a'} {metavar}"

"""Help: the overview, a command's page with its examples first, and the topics."""

from __future__ import annotations

from modelkeep.cli import commands, spec, text
from modelkeep.cli.parse import UsageError
from modelkeep.cli.spec import FLAG, MANY, Argument, Command, Option
from modelkeep_protocol import errors

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Output
    from modelkeep.cli.parse import Parsed


def print_help(parsed: Parsed, out: Output) -> int:
    """What ``-h``, or no command at all, asks for."""
    return _print_page(parsed.name, parsed.command, out)


def _print_page(name: str, command: Command | None, out: Output) -> int:
    if command is None:
        page = overview()
    elif "" in commands.load(name):
        page = command_page(command)
    elif command.name == f"{name} {commands.DEFAULT_VERBS[name]}":
        page = group_page(name)  # `queue --help` is about all of its verbs
    else:
        page = command_page(command)
    return _print(page, out)


def _print(page: str, out: Output) -> int:
    if out.json:
        out.document({"help": page})
        return errors.EXIT_OK
    for line in page.split("\n"):
        is_heading = line.endswith(":") and not line.startswith(" ")
        out.line(out.style(line, "bold") if is_heading else line)
    return errors.EXIT_OK


def overview() -> str:
    """All commands by group, and the topics."""
    lines = [
        "modelkeep: the hubs' models, offline and searchable, and every model file you have",
        "",
        "Examples:",
        "  modelkeep search anime style type:lora",
        "  modelkeep get civitai:1102 --wait",
        "  modelkeep status",
    ]
    for group, title in commands.GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [
            _entry(name, summary)
            for name, (_, of_group, summary) in commands.COMMANDS.items()
            if of_group == group
        ]
    lines += ["", "Topics (modelkeep help TOPIC):"]
    from modelkeep.cli.topics import TOPICS

    lines += [_entry(name, summary) for name, (summary, _) in TOPICS.items()]
    lines += ["", *_options("Options, before or after any command:", spec.GLOBAL_OPTIONS)]
    return "\n".join(lines)


def group_page(name: str) -> str:
    """A command with verbs."""
    verbs = commands.load(name)
    default = commands.DEFAULT_VERBS[name]
    lines = ["Examples:"]
    lines += [
        _entry(*example, wide=True)
        for command in verbs.values()
        for example in command.examples[:1]
    ]
    lines += ["", f"modelkeep {name} [VERB]: {commands.COMMANDS[name][2]}", "", "Verbs:"]
    lines += [
        _entry(verb, command.summary + (" (when no verb is named)" if verb == default else ""))
        for verb, command in verbs.items()
    ]
    lines += ["", f"modelkeep {name} VERB --help tells more of one."]
    if verbs[default].options:
        lines += ["", *_options(f"Options of {name} {default}:", verbs[default].options)]
    lines += ["", *_options("Options of every command:", spec.GLOBAL_OPTIONS)]
    return "\n".join(lines)


def command_page(command: Command) -> str:
    """One command."""
    lines = ["Examples:"]
    lines += [_entry(*example, wide=True) for example in command.examples]
    lines += ["", f"Usage: {usage(command)}", "", command.summary[0].upper() + command.summary[1:]]
    lines[-1] += "."
    if command.about:
        lines += _wrapped(command.about)
    if command.arguments:
        lines += ["", "Arguments:"]
        lines += [_entry(a.metavar, a.help) for a in command.arguments]
        lines += [f"      one of: {', '.join(a.choices)}" for a in command.arguments if a.choices]
    if command.options:
        lines += ["", *_options("Options:", command.options)]
    lines += ["", *_options("Options of every command:", spec.GLOBAL_OPTIONS)]
    return "\n".join(lines)


def usage(command: Command) -> str:
    """``modelkeep get REF… [--to DIR] [--wait]``."""
    words = [f"modelkeep {command.name}"]
    words += [_usage_of(argument) for argument in command.arguments]
    words += [f"[{option.names[-1]}{_value(option)}]" for option in command.options]
    return " ".join(words)


def _usage_of(argument: Argument) -> str:
    shown = argument.metavar + ("…" if argument.count in "*+" else "")
    return shown if argument.count in "1+" else f"[{shown}]"


def _value(option: Option) -> str:
    if option.kind == FLAG:
        return ""
    return f" {option.metavar}" + ("…" if option.kind == MANY else "")


def _options(title: str, options: tuple[Option, ...]) -> list[str]:
    lines = [title]
    for option in options:
        shown = ", ".join(option.names)
        if not option.names[0].startswith("--"):
            lines.append(_entry(shown + _value(option), option.help))
        else:
            lines.append(_entry("    " + shown + _value(option), option.help))
        if option.choices:
            lines += _wrapped(f"one of: {', '.join(option.choices)}", " " * 26)
    return lines


def _entry(name: str, what: str, *, wide: bool = False) -> str:
    columns = 46 if wide else 22
    if text.width(name) > columns:
        return f"  {name}\n{' ' * (columns + 4)}{what}"
    return f"  {text.pad(name, columns)}  {what}"


def _wrapped(words: str, indent: str = "") -> list[str]:
    lines, line = [], ""
    for word in words.split():
        if line and len(line) + len(word) > 78 - len(indent):
            lines.append(indent + line)
            line = ""
        line = f"{line} {word}" if line else word
    return [*lines, indent + line]


def run(args: dict[str, Any], out: Output) -> int:
    """``modelkeep help [COMMAND [VERB] | TOPIC]``."""
    words = args["topic"]
    if not words:
        return _print(overview(), out)
    from modelkeep.cli.topics import TOPICS

    name = words[0]
    if name in TOPICS and len(words) == 1:
        return _print(TOPICS[name][1].strip("\n"), out)
    if name in commands.COMMANDS:
        verbs = commands.load(name)
        if "" in verbs:
            return _print(command_page(verbs[""]), out)
        if len(words) == 1:
            return _print(group_page(name), out)
        if words[1] in verbs:
            return _print(command_page(verbs[words[1]]), out)
        raise UsageError(f"{name} has no verb {words[1]!r}", f"{name} knows: {', '.join(verbs)}")
    import difflib

    known = [*TOPICS, *(n for n in commands.COMMANDS if not n.startswith("_"))]
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(
        f"there is no help on {name!r}{meant}", f"topics: {', '.join(TOPICS)}; and every command"
    )


VERBS = {
    "help": {
        "": Command(
            "help",
            "help on a command or a topic",
            run,
            examples=(
                ("modelkeep help", "what there is"),
                ("modelkeep help queue move", "a command"),
                ("modelkeep help query", "how to ask"),
            ),
            arguments=(Argument("topic", "*", "a command, or a topic", complete="topics"),),
        )
    }
}

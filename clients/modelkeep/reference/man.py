"""The man page, in the plain man macros."""

from modelkeep import __version__
from modelkeep.cli import help as help_pages
from modelkeep.cli import topics
from modelkeep.cli.spec import FLAG, GLOBAL_OPTIONS, MANY, Command, Option
from modelkeep.reference import tree
from modelkeep_protocol import errors

_FILES = (
    ("$MODELKEEP_HOME/config.toml, ~/.config/modelkeep/config.toml", "the daemon's settings"),
    ("$MODELKEEP_HOME/state, ~/.local/state/modelkeep", "the database"),
    ("$MODELKEEP_HOME/cache, ~/.cache/modelkeep", "the search index; may be deleted"),
    ("$MODELKEEP_HOME/run/rpc.sock, $XDG_RUNTIME_DIR/modelkeep/rpc.sock", "the daemon's socket"),
)


def page() -> str:
    """modelkeep(1)."""
    lines = [
        f'.TH MODELKEEP 1 "" "modelkeep {__version__}" "User Commands"',
        ".SH NAME",
        "modelkeep \\- the hubs' models offline and searchable, and every model file you have",
        ".SH SYNOPSIS",
        *_term("modelkeep [OPTION]... COMMAND [ARGUMENT]...", paragraph=False),
        ".SH DESCRIPTION",
        _text(
            "modelkeep talks to modelkeepd, the daemon that mirrors the catalogs of model hubs, "
            "downloads and verifies models, and knows the model files on this machine. Work that "
            "takes long is done by the daemon and goes on when the command ends."
        ),
        ".PP",
        _text(
            "Results go to standard output: tables in a terminal, lines with tabs in a pipe, JSON "
            "with --json. Everything else goes to standard error."
        ),
        ".SH OPTIONS",
        _text("These may stand before or after any command."),
    ]
    lines += _options(GLOBAL_OPTIONS)
    lines.append(".SH COMMANDS")
    for command in tree.all_commands():
        lines += _command(command)
    lines.append(".SH QUERIES")
    lines += _verbatim(topics.TOPICS["query"][1])
    lines.append(".SH REFERENCES")
    lines += _verbatim(topics.TOPICS["refs"][1])
    lines.append(".SH EXAMPLES")
    for command in tree.all_commands():
        for example, meaning in command.examples[:1]:
            lines += [*_term(example), _text(meaning)]
    lines.append(".SH EXIT STATUS")
    for code, meaning in errors.EXIT_CODES.items():
        lines += [*_term(str(code)), _text(meaning)]
    lines.append(".SH ENVIRONMENT")
    lines += _verbatim(topics.TOPICS["environment"][1])
    lines.append(".SH FILES")
    for path, meaning in _FILES:
        lines += [*_term(path), _text(meaning)]
    lines += [".SH SEE ALSO", ".BR modelkeepd (1)"]
    return "\n".join(lines) + "\n"


def _command(command: Command) -> list[str]:
    lines = [f".SS {_quoted_text(help_pages.usage(command))}"]
    lines.append(_text(command.summary[0].upper() + command.summary[1:] + "."))
    if command.about:
        lines.append(_text(command.about))
    for argument in command.arguments:
        choices = f": {', '.join(argument.choices)}" if argument.choices else ""
        lines += [*_term(argument.metavar), _text(argument.help + choices)]
    return lines + _options(command.options)


def _options(options: tuple[Option, ...]) -> list[str]:
    lines = []
    for option in options:
        shown = ", ".join(option.names)
        if option.kind != FLAG:
            shown += f" {option.metavar}"
        if option.kind == MANY:
            shown += "..."
        choices = f": {', '.join(option.choices)}" if option.choices else ""
        lines += [*_term(shown), _text(option.help + choices)]
    return lines


def _term(words: str, *, paragraph: bool = True) -> list[str]:
    return [*([".TP"] if paragraph else []), f".B {_quoted_text(words)}"]


def _verbatim(words: str) -> list[str]:
    return [".nf", *(_text(line) for line in words.strip("\n").split("\n")), ".fi"]


def _quoted_text(words: str) -> str:
    return '"' + _escaped(words).replace('"', "\\(dq") + '"'


def _text(words: str) -> str:
    escaped = _escaped(words)
    # a line that begins so would be taken for a request
    return "\\&" + escaped if escaped[:1] in (".", "'") else escaped


def _escaped(words: str) -> str:
    return "".join(
        {"\\": "\\e", "-": "\\-", "…": "...", "~": "\\(ti", "^": "\\(ha", "`": "\\(ga"}.get(c, c)
        if ord(c) < 128 or c == "…"
        else f"\\[u{ord(c):04X}]"
        for c in words
    )

"""How a command describes itself: words, options, examples. Plain data, no parsing.

Parser, help, completion and man page are all made from these.
"""

from __future__ import annotations

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from modelkeep.cli.output import Output

    Run = Callable[[dict[str, Any], Output], int]

# kinds of values
FLAG = "flag"
TEXT = "text"
COUNT = "count"  # a whole number, not below zero
NUMBER = "number"  # a whole number
FOLDER = "folder"
MANY = "many"  # text, may be given several times


class Option:
    """``--name VALUE``, or a flag."""

    __slots__ = ("choices", "complete", "default", "dest", "help", "kind", "metavar", "names")

    def __init__(
        self,
        names: tuple[str, ...],
        kind: str,
        help: str,
        *,
        metavar: str = "",
        default: object = None,
        choices: tuple[str, ...] = (),
        complete: str = "",
    ) -> None:
        self.names = names
        self.kind = kind
        self.help = help
        self.dest = names[-1].lstrip("-").replace("-", "_")
        self.metavar = metavar or self.dest.upper()
        self.choices = choices
        self.complete = complete
        self.default: object = default
        if default is None and kind == FLAG:
            self.default = False


class Argument:
    """A word of the command line. ``count`` is ``1``, ``?``, ``*`` or ``+``, as in argparse."""

    __slots__ = ("choices", "complete", "count", "dest", "help", "kind", "metavar")

    def __init__(
        self,
        dest: str,
        count: str,
        help: str,
        *,
        metavar: str = "",
        kind: str = TEXT,
        choices: tuple[str, ...] = (),
        complete: str = "",
    ) -> None:
        self.dest = dest
        self.count = count
        self.help = help
        self.metavar = metavar or dest.upper()
        self.kind = kind
        self.choices = choices
        self.complete = complete


class Command:
    """One thing to do. ``examples`` are pairs of a command line and what it is good for."""

    __slots__ = (
        "about", "arguments", "examples", "name", "options", "run", "summary", "takes_dashed_words",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        summary: str,
        run: Run,
        *,
        examples: tuple[tuple[str, str], ...],
        arguments: tuple[Argument, ...] = (),
        options: tuple[Option, ...] = (),
        about: str = "",
        takes_dashed_words: bool = False,
    ) -> None:
        self.name = name
        self.summary = summary
        self.run = run
        self.examples = examples
        self.arguments = arguments
        self.options = options
        self.about = about
        # `-word` is a word of the query, not an option
        self.takes_dashed_words = takes_dashed_words


COLOR_CHOICES = ("auto", "always", "never")

GLOBAL_OPTIONS = (
    Option(("--json",), FLAG, "one JSON document on stdout; JSON lines when following"),
    Option(("-q", "--quiet"), FLAG, "only results, ids where there are some; no hints"),
    Option(("-v", "--verbose"), FLAG, "more: what is left out of tables, and causes of errors"),
    Option(("--color",), TEXT, "when to color", metavar="WHEN", choices=COLOR_CHOICES),
    Option(("-h", "--help"), FLAG, "show help, of the command when one is named"),
    Option(("--version",), FLAG, "show the version"),
)

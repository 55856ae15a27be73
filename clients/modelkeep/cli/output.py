"""The one object that prints.

Results go to stdout: a table in a terminal, tab-separated lines in a pipe, or JSON and nothing
else. Messages, hints, warnings, errors and progress go to stderr. Every text that is not ours is
made harmless on its way out, in JSON too.
"""

from __future__ import annotations

import os
import sys

from modelkeep.cli import text
from modelkeep.connect import NoDaemon

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, TextIO

    from modelkeep_protocol.errors import ModelkeepError

    # title, key of the row, kind: text, spare and wide (give way, in this order), size, count,
    # time, yes, state
    Column = tuple[str, str, str]

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_STATE_STYLES = {
    "done": "green", "finished": "green", "present": "green", "online": "green",
    "running": "cyan", "downloading": "cyan", "verifying": "cyan", "scanning": "cyan",
    "placing": "cyan", "resolving": "cyan",
    "waiting": "yellow", "paused": "yellow", "interrupted": "yellow", "offline": "yellow",
    "failed": "red", "quarantined": "red", "gone": "red",
    "canceled": "dim", "queued": "dim",
}  # fmt: skip
_RIGHT = frozenset(("size", "count"))
# kinds that give way, down to so many columns
_GIVING = (("spare", 10), ("wide", 16))


class Output:
    """Where and how to print. Made before the command line is read, set up after."""

    def __init__(
        self,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.stdout = sys.stdout if stdout is None else stdout
        self.stderr = sys.stderr if stderr is None else stderr
        self._environ = os.environ if environ is None else environ
        self.json = False
        self.quiet = False
        self.verbose = False
        self.is_terminal = _is_terminal(self.stdout)
        self.can_draw = _is_terminal(self.stderr) and self._environ.get("TERM") != "dumb"
        self._colors_out = self._colors(self.is_terminal, None)
        self._colors_err = self._colors(_is_terminal(self.stderr), None)

    def set_up(self, *, json: bool, quiet: bool, verbose: bool, color: str | None) -> None:
        """Follow the global options."""
        self.json, self.quiet, self.verbose = json, quiet, verbose
        self._colors_out = self._colors(self.is_terminal, color)
        self._colors_err = self._colors(_is_terminal(self.stderr), color)

    def _colors(self, is_terminal: bool, color: str | None) -> bool:
        """The flag wins, then the environment, then the terminal."""
        if color in ("always", "never"):
            return color == "always"
        if color is None:
            if self._environ.get("NO_COLOR"):
                return False
            if self._environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
                return True
        return is_terminal and self._environ.get("TERM") != "dumb"

    def style(self, shown: str, name: str, *, err: bool = False) -> str:
        """The text in a style, where there is color."""
        if not (self._colors_err if err else self._colors_out) or name not in _STYLES:
            return shown
        return f"\x1b[{_STYLES[name]}m{shown}\x1b[0m"

    def state(self, state: str) -> str:
        """A state's word in its color."""
        return self.style(text.safe(state), _STATE_STYLES.get(state, ""))

    @property
    def columns(self) -> int:
        """How wide the terminal is."""
        try:
            return max(int(self._environ["COLUMNS"]), 40)
        except (KeyError, ValueError):
            pass
        for stream in (self.stdout, self.stderr):
            try:
                return max(os.get_terminal_size(stream.fileno()).columns or 80, 40)
            except (OSError, ValueError):
                continue
        return 80

    # -- results ------------------------------------------------------------------------------

    def document(self, value: object) -> None:
        """The whole result as JSON; indented when a person looks at it."""
        self._write(dump_json(value, indent=self.is_terminal) + "\n")

    def json_line(self, value: object) -> None:
        """One JSON object of several, out at once."""
        self._write(dump_json(value) + "\n")
        self.stdout.flush()

    def line(self, shown: str = "") -> None:
        """A line that is safe already."""
        self._write(shown + "\n")

    def fields(self, *values: object) -> None:
        """One line of a pipe: values with tabs between."""
        self._write("\t".join("" if v is None else text.safe(str(v)) for v in values) + "\n")

    def table(self, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows for people in a terminal, for programs in a pipe; the first column with -q."""
        if self.quiet:
            columns = columns[:1]
        if not self.is_terminal or self.quiet:
            for row in rows:
                self.fields(*(_plain(row.get(key), kind) for _, key, kind in columns))
            return
        grid = [[_shown(row.get(key), kind) for _, key, kind in columns] for row in rows]
        if not grid:
            return
        widths = [
            max(text.width(title), *(text.width(row[n]) for row in grid))
            for n, (title, _, _) in enumerate(columns)
        ]
        self._narrow(columns, widths)
        titles = [title for title, _, _ in columns]
        self.line(self.style(_row(titles, columns, widths), "bold"))
        for texts in grid:
            cells = _cells(texts, columns, widths)
            for n, (_, _, kind) in enumerate(columns):
                if kind == "state":
                    cells[n] = self.style(cells[n], _STATE_STYLES.get(texts[n], ""))
            self.line("  ".join(cells).rstrip())

    def _narrow(self, columns: Sequence[Column], widths: list[int]) -> None:
        """Take what is too much from the widest column that may give."""
        too_many = sum(widths) + 2 * (len(widths) - 1) - self.columns
        for kind, least in _GIVING:
            giving = [n for n, column in enumerate(columns) if column[2] == kind]
            while giving and too_many > 0:
                widest = max(giving, key=lambda n: widths[n])
                if widths[widest] <= least:
                    break
                widths[widest] -= 1
                too_many -= 1

    # -- words --------------------------------------------------------------------------------

    def note(self, message: str) -> None:
        """Something to know; silent with -q."""
        if not self.quiet:
            self._say(text.safe(message))

    def hint(self, message: str) -> None:
        """The command that probably comes next; for people only."""
        if not self.quiet and not self.json and self.is_terminal:
            self._say(self.style(text.safe(message), "dim", err=True))

    def warn(self, message: str) -> None:
        """Something that needs attention."""
        self._say(self.style("warning:", "yellow", err=True) + " " + text.safe(message))

    def problem(self, problem: Mapping[str, Any]) -> None:
        """An error of one thing among several."""
        ref, hint = problem.get("ref"), problem.get("hint")
        what = f"{ref}: {problem.get('message')}" if ref else str(problem.get("message"))
        self._say(self.style("error:", "red", err=True) + " " + text.safe(what))
        if hint:
            self._say(f"  {text.safe(str(hint))}")

    def error(self, error: ModelkeepError) -> None:
        """The error the command ends with: on stderr, or the JSON document."""
        if self.json:
            self.document({"error": error.to_map()})
            return
        lines = error.lines if isinstance(error, NoDaemon) else (error.message, error.hint)
        self._say(f"modelkeep: {self.style(text.safe(lines[0]), 'red', err=True)}")
        for line in lines[1:]:
            if line:
                self._say(text.safe_lines(line))
        if self.verbose:
            self._say(f"({error.code}{', may work later' if error.retryable else ''})")
            for key, value in error.data.items():
                self._say(f"  {text.safe(key)}: {text.safe(str(value))}")

    def draw(self, raw: str) -> None:
        """Terminal commands and lines of a progress display, safe already."""
        self.stderr.write(raw)
        self.stderr.flush()

    def _say(self, shown: str) -> None:
        self.stdout.flush()  # in the order it happened, when both are one terminal
        self.stderr.write(shown + "\n")
        self.stderr.flush()

    def _write(self, shown: str) -> None:
        self.stdout.write(shown)


def dump_json(value: object, *, indent: bool = False) -> str:
    """JSON that no terminal takes for anything else: unprintable characters are escaped."""
    import json

    dumped = json.dumps(value, ensure_ascii=False, indent=2 if indent else None)
    if dumped.isprintable():
        return dumped
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in dumped)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _plain(value: Any, kind: str) -> object:
    if value is None:
        return ""
    if kind == "yes":
        return "yes" if value else "no"
    if kind == "time":
        return text.stamp(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value


def _shown(value: Any, kind: str) -> str:
    if kind == "size":
        return text.size(value)
    if kind == "time":
        return text.moment(value)
    if kind == "yes":
        return "yes" if value else ""
    if value is None:
        return ""
    if kind == "count" and isinstance(value, int):
        return text.count(value)
    return text.safe(str(_plain(value, kind)))


def _cells(row: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> list[str]:
    return [
        text.pad(text.cut(cell, width), width, right=kind in _RIGHT)
        for cell, (_, _, kind), width in zip(row, columns, widths, strict=True)
    ]


def _row(row: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    return "  ".join(_cells(row, columns, widths)).rstrip()

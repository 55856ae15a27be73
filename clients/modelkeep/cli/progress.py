"""Lines that are drawn over and over while something goes on; and bars.

Draws on stderr, only in a terminal, at most ten times a second. Where it can't draw, only
:meth:`Display.event` says anything.
"""

from __future__ import annotations

import os
import time

from modelkeep.cli import text

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from modelkeep.cli.output import Output

_BETWEEN_S = 0.1
_BAR_COLUMNS = 20


def bar(share: float) -> str:
    """``━━━━━━╸             34 %``."""
    share = min(max(share, 0.0), 1.0)
    halves = int(share * _BAR_COLUMNS * 2)
    full = "━" * (halves // 2) + ("╸" if halves % 2 else "")
    return f"{full:<{_BAR_COLUMNS}} {int(share * 100):>3} %"


class Display:
    """The lowest lines of the terminal, redrawn in place."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._is_on = out.can_draw and not out.quiet
        self._drawn = 0
        self._last_s = 0.0

    def show(self, lines: list[str]) -> None:
        """Draw these lines in place of the ones before."""
        now = time.monotonic()
        if not self._is_on or now - self._last_s < _BETWEEN_S:
            return
        self._last_s = now
        columns, rows = self._out.columns, self._rows()
        if len(lines) > rows:
            lines = [*lines[: rows - 1], f"… and {len(lines) - rows + 1:,} more"]
        cut = [text.cut(line, columns - 1) for line in lines]
        self._out.draw(self._erased() + "".join(line + "\n" for line in cut))
        self._drawn = len(cut)

    def event(self, line: str) -> None:
        """A line that stays: on stderr, above what is drawn. It is safe already."""
        if self._out.quiet:
            return
        self._out.draw(self._erased() + line + "\n")
        self._drawn = 0
        self._last_s = 0.0

    def close(self) -> None:
        """Take the drawn lines away."""
        if self._drawn:
            self._out.draw(self._erased())
            self._drawn = 0

    def _erased(self) -> str:
        # up, then clear to the end of the screen
        return f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""

    def _rows(self) -> int:
        try:
            rows = os.get_terminal_size(self._out.stderr.fileno()).lines
        except (OSError, ValueError):
            rows = 0
        # some terminals do not know their size and say 0
        return max((rows or 24) - 2, 1)

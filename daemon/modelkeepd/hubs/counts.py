"""What a hub was asked and what it was spared, by day.

Pure. Days are UTC's: a day is never counted twice or cut short by a change of clocks. What is not
yet written down is kept apart (``take_unsaved``), so that writing may fail and be done later.
"""

from collections import Counter
from collections.abc import Iterable

DAY_MS = 86_400_000

SENT_BACKGROUND = "sent_background"
SENT_INTERACTIVE = "sent_interactive"
SAVED = ("merged", "cached", "catalog")

Row = tuple[int, str, int]  # day, kind, count


class Counts:
    """One hub's counters."""

    def __init__(self) -> None:
        self._today = 0
        self._of_today: Counter[str] = Counter()
        self._in_all: Counter[str] = Counter()
        self._unsaved: Counter[tuple[int, str]] = Counter()

    def load(self, rows: Iterable[Row], now_ms: int) -> None:
        """Add what was written down by earlier runs of the daemon."""
        self._turn_page(now_ms)
        for day, kind, count in rows:
            self._in_all[kind] += count
            if day == self._today:
                self._of_today[kind] += count

    def add(self, kind: str, now_ms: int, count: int = 1) -> None:
        """It happened ``count`` times just now."""
        self._turn_page(now_ms)
        self._of_today[kind] += count
        self._in_all[kind] += count
        self._unsaved[self._today, kind] += count

    def today(self, now_ms: int) -> Counter[str]:
        """By kind, since midnight UTC."""
        self._turn_page(now_ms)
        return Counter(self._of_today)

    def in_all(self) -> Counter[str]:
        """By kind, since there are counts."""
        return Counter(self._in_all)

    def take_unsaved(self) -> list[Row]:
        """What is to be added to what is written down; give it back when that fails."""
        rows = [(day, kind, count) for (day, kind), count in self._unsaved.items() if count]
        self._unsaved.clear()
        return rows

    def give_back(self, rows: Iterable[Row]) -> None:
        """These could not be written."""
        for day, kind, count in rows:
            self._unsaved[day, kind] += count

    def _turn_page(self, now_ms: int) -> None:
        day = now_ms // DAY_MS
        if day != self._today:
            self._today = day
            # a clock that is set back finds the day it left begun anew: it is counted too low
            # for the rest of that day, and right in the rows
            self._of_today.clear()

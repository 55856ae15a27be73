"""When which of a hub's tasks is due. Pure.

**Clocks.** Plans are kept by the wall clock, since they outlive the process; waiting goes by the
boot clock, which nobody sets and which counts sleep. A plan is turned into boot time once, when it
is read (``since``). A wall clock that jumps can so neither hold a task up nor start it many times:
a date that lies in the future says nothing, and the task is due once.

**Order.** What a person asked for, at once. Then a first crawl of what was never read whole, which
then news; then, by turns, the rest: looks at suspects, the refetch, the sweep, details. Crawls and
news need no budget (news are a few requests a day, and a long crawl would keep them from the day
after it); the rest waits when the day's is spent, and everything waits in quiet hours.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

Task = Literal["full", "news", "confirm", "refetch", "sweep", "details"]

# by turns, a slice each
TURNS: tuple[Task, ...] = ("confirm", "refetch", "sweep", "details")
NEVER = float("-inf")
_DAY_S = 86_400.0


class Cadence(msgspec.Struct, frozen=True):
    """How often each task begins anew."""

    news_s: float = _DAY_S
    refetch_s: float = _DAY_S
    sweep_s: float = 7 * _DAY_S
    # where the refetch misses what is gone, only what was hidden when it was new is left to find
    rare_sweep_s: float = 30 * _DAY_S
    # news after a crawl that took longer than this is due at once: models changed behind its back
    long_crawl_s: float = 600.0


class Done(msgspec.Struct, frozen=True):
    """When a task was last begun and ended, in boot time."""

    begun_s: float = NEVER
    done_s: float = NEVER


class Book(msgspec.Struct, frozen=True):
    """What is known of a hub's tasks. Times are boot time."""

    needs_full: bool
    offers: frozenset[str]  # the tasks that make sense for this hub
    unfinished: frozenset[str] = frozenset()
    manual: frozenset[str] = frozenset()  # what a person asked for
    done: Mapping[str, Done] = {}
    look_s: float | None = None  # the next suspect's turn
    details_s: float | None = None  # when details are asked for again; None: none are wanted
    last_turn: str = ""
    hold_s: float = NEVER  # nothing by itself before this


class Choice(msgspec.Struct, frozen=True):
    """What to do now; or None, and when something is due by itself, if that can be said."""

    task: Task | None
    at_s: float | None = None


def since(wall_ms: int, now_ms: int, boot_s: float) -> float:
    """A stored wall time as boot time. One that lies in the future is none: NEVER."""
    return NEVER if wall_ms > now_ms else boot_s - (now_ms - wall_ms) / 1000


def news_at(book: Book, cadence: Cadence) -> float:
    """When news is due by itself; a hub that was never read whole has a full crawl due then."""
    if book.needs_full or book.unfinished & {"full", "news"}:
        return NEVER
    full, news = book.done.get("full", Done()), book.done.get("news", Done())
    if full.begun_s > news.begun_s and full.done_s - full.begun_s > cadence.long_crawl_s:
        return full.done_s
    return max(full.begun_s, news.begun_s) + cadence.news_s


def choose(
    book: Book,
    now_s: float,
    cadence: Cadence,
    *,
    auto: bool,
    is_quiet: bool,
    budget_left: int | None,
) -> Choice:
    """The task whose turn it is. ``auto`` False: only what was begun or asked for."""
    if "full" in book.manual:
        return Choice("full")
    if "news" in book.manual:
        return Choice("news")
    if now_s < book.hold_s:
        return Choice(None, book.hold_s)
    if is_quiet:
        return Choice(None)
    if "full" in book.unfinished or (auto and book.needs_full):
        return Choice("full")
    if "news" in book.unfinished:
        return Choice("news")
    if not auto or book.needs_full:
        return Choice(None)
    due = due_times(book, cadence)
    if due["news"] <= now_s:
        return Choice("news")
    if budget_left is not None and budget_left <= 0:
        return Choice(None, due["news"])
    start = TURNS.index(book.last_turn) + 1 if book.last_turn in TURNS else 0
    for task in TURNS[start:] + TURNS[:start]:
        if due.get(task, now_s + 1) <= now_s:
            return Choice(task)
    return Choice(None, min(due.values()))


def due_times(book: Book, cadence: Cadence) -> dict[Task, float]:
    """When each task is due by itself."""
    due: dict[Task, float] = {"news": news_at(book, cadence)}
    full = book.done.get("full", Done()).begun_s
    sweep_s = cadence.rare_sweep_s if "refetch" in book.offers else cadence.sweep_s
    every: tuple[tuple[Task, float], ...] = (("refetch", cadence.refetch_s), ("sweep", sweep_s))
    for task, seconds in every:
        if task in book.offers:
            # a full crawl has just done the same
            last = max(full, book.done.get(task, Done()).begun_s)
            due[task] = NEVER if task in book.unfinished else last + seconds
    if book.look_s is not None:
        due["confirm"] = book.look_s
    if "details" in book.offers and book.details_s is not None:
        due["details"] = book.details_s
    return due

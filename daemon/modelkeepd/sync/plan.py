"""The crawl as a state machine: which request comes next, given what came back so far.

Pure, and hub-neutral. The state is small and serializes: it is saved in the transaction that
writes a page, so that a killed daemon goes on with the page after it.

**Why newest first.** CivitAI offers ``Newest`` and ``Oldest`` for a complete walk; the popularity
orders move under a crawler's feet. ``Oldest`` loses no row, but stands still for ever at more rows
of one millisecond than a page holds, its NULL dates lie in an unknown place, and it shows what
people want last. ``Newest`` loses exactly the row its cursor names: we look for that row on the
next page and, where it is missing, fetch it by id, a hundred at a time: one request in a hundred,
none at all on a hub that loses nothing. ``Oldest`` is the way around a place that can't be passed:
the rest of the list is then walked from its other end up to that place.

**What a page may be.** Short or empty with a cursor: go on. The same again, or a cursor that does
not lead on: ask again with another limit, which no cache has an answer for; if that does not help,
the place is stuck. Every way out is finite and every gap is counted.

**News** is the top of the list of what changed last, down to the place that is known already. That
place is a date of the *hub's* clock: where the last walk's first page ended. All that changed
since is above it, whatever our clock says, for the price of one page read twice. An overlap is
read beyond it: a few minutes where the hub's dates are those of the change; days where a row may
turn up late below its date (CivitAI shows a new model only once it is rated, which takes hours to
days; its caches lag; the end of early access moves a row).
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from modelkeepd.hubs.contract import HubPage, Order, PageRequest

Kind = Literal["full", "news", "sweep"]

# a page is asked for with each of these shares of the hub's limit before the place counts as stuck
LIMITS = (1.0, 0.99, 0.2)
IDS_LIMITS = (100, 20, 1)
MAX_EMPTY_IN_A_ROW = 200
OVERLAP_MS: Mapping[Order, int] = {"newest": 2 * 86_400_000, "oldest": 0, "updated": 600_000}


class IdsRequest(msgspec.Struct, frozen=True):
    """Rows that the list lost, to be fetched by id."""

    view: str
    ids: tuple[str, ...]


Ask = PageRequest | IdsRequest


class CrawlState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a crawl stands. ``phase`` counts through the passes of the views.

    ``horizons`` has, for each view of a news walk, the date at which it may end; ``tops`` where
    the first page of each finished pass ended.
    """

    views: tuple[str, ...]
    started_ms: int
    kind: Kind = "full"
    sort: Order = "newest"
    page_limit: int = 100
    has_oldest: bool = True  # the list can be walked from its other end
    horizons: tuple[int | None, ...] = ()
    tops: tuple[int | None, ...] = ()
    top_ms: int | None = None
    phase: int = 0
    order: Order = "newest"
    cursor: str | None = None
    position: tuple[int, int] | None = None  # what the cursor says, where it can be read
    attempt: int = 0  # how often this very request has been answered wrongly
    ended: bool = False  # this pass's list is at its end; only lost rows are left
    suspect: str | None = None  # the row the last cursor named: lost unless the next page has it
    lost: tuple[str, ...] = ()
    last_ids: tuple[str, ...] = ()
    stuck_at: tuple[int, int] | None = None  # the oldest-first walk ends here
    empty_in_a_row: int = 0
    # Brent's loop detection, for cursors that can't be read: one old cursor is remembered, and
    # replaced at growing distances
    anchor: str | None = None
    lap: int = 0
    power: int = 1
    pages: int = 0
    pass_pages: tuple[int, ...] = ()
    highest_id: int = 0
    depth: float = 0.0  # how far down the ids this pass has come, 0 to 1
    gaps: int = 0


class Step(msgspec.Struct, frozen=True):
    """What follows from an answer: the new state, and what a person should be told."""

    state: CrawlState
    notes: tuple[str, ...] = ()


def begin(
    views: Iterable[str], started_ms: int, *, page_limit: int = 100, has_oldest: bool = True
) -> CrawlState:
    """A full crawl that has asked nothing yet."""
    return CrawlState(tuple(views), started_ms, page_limit=page_limit, has_oldest=has_oldest)


def begin_sweep(state: CrawlState) -> CrawlState:
    """The same walk a few pages at a time: what it does not meet is missing."""
    return msgspec.structs.replace(state, kind="sweep")


def begin_news(
    marks: Mapping[str, int | None], started_ms: int, *, order: Order, page_limit: int = 100
) -> CrawlState:
    """A walk down to what is known. ``marks`` has each view's mark; None: to the list's end."""
    overlap_ms = OVERLAP_MS[order]
    return CrawlState(
        tuple(marks),
        started_ms,
        kind="news",
        sort=order,
        order=order,
        page_limit=page_limit,
        has_oldest=False,
        horizons=tuple(None if mark is None else mark - overlap_ms for mark in marks.values()),
    )


def marks(state: CrawlState) -> dict[str, int | None]:
    """What a finished walk leaves for the next news. A clock that lies, the hub's or ours, makes
    that one read more, never less."""
    tops = [None if top is None else min(top, state.started_ms) for top in state.tops]
    return dict(zip(state.views, tops, strict=True))


def view_of(state: CrawlState) -> str:
    """The view of the pass under way."""
    return state.views[state.phase]


def horizon_of(state: CrawlState) -> int | None:
    """The date at which the pass under way may end, if it need not go to the end of the list."""
    return state.horizons[state.phase] if state.phase < len(state.horizons) else None


def is_finished(state: CrawlState) -> bool:
    """Whether nothing is left to ask."""
    return state.phase >= len(state.views)


def next_ask(state: CrawlState) -> Ask | None:
    """The request to make now; None when the crawl is complete."""
    if is_finished(state):
        return None
    if state.lost and (state.ended or len(state.lost) >= IDS_LIMITS[0]):
        size = IDS_LIMITS[min(state.attempt, len(IDS_LIMITS) - 1)]
        return IdsRequest(view_of(state), state.lost[:size])
    share = LIMITS[min(state.attempt, len(LIMITS) - 1)]
    limit = max(1, round(share * state.page_limit))
    return PageRequest(view_of(state), state.order, state.cursor, limit)


def on_page(state: CrawlState, page: HubPage) -> Step:
    """A list page was answered."""
    ids = tuple(item.hub_id for item in page.items if item.hub_id is not None)
    state = _look_for_suspect(state, ids)
    if _repeats(state, ids):
        if state.attempt + 1 < len(LIMITS):
            again = msgspec.structs.replace(state, attempt=state.attempt + 1)
            return Step(again, ("the hub repeated a page; asking again",))
        state = msgspec.structs.replace(state, gaps=state.gaps + 1)
    if page.next_cursor is None:
        return Step(_end_pass(_counted(state, page, ids)))
    why = _does_not_lead_on(state, page)
    if why:
        return _wrong_answer(state, why)
    beyond_dates = bool(ids) and page.next_position is None and state.position is not None
    state = _counted(state, page, ids)
    passed = state.lap + 1 >= state.power
    state = msgspec.structs.replace(
        state,
        cursor=page.next_cursor,
        position=page.next_position,
        attempt=0,
        suspect=page.boundary_id,
        anchor=page.next_cursor if passed else state.anchor,
        lap=0 if passed else state.lap + 1,
        power=state.power * 2 if passed else state.power,
    )
    if _reached(state, page, beyond_dates):
        return Step(_end_pass(state))
    return Step(state)


def on_ids(state: CrawlState, ask: IdsRequest) -> Step:
    """Rows were fetched by id. Those that did not come are hidden or gone: nothing was lost."""
    left = tuple(hub_id for hub_id in state.lost if hub_id not in ask.ids)
    state = msgspec.structs.replace(state, lost=left, attempt=0)
    return Step(_end_pass(state) if state.ended else state)


def on_failure(state: CrawlState, ask: Ask, reason: str) -> Step:
    """This request fails again and again although the hub answers others."""
    if isinstance(ask, PageRequest):
        return _wrong_answer(state, reason)
    if state.attempt + 1 < len(IDS_LIMITS):
        return Step(msgspec.structs.replace(state, attempt=state.attempt + 1))
    state = msgspec.structs.replace(state, gaps=state.gaps + len(ask.ids))
    step = on_ids(state, ask)
    return Step(step.state, (f"{', '.join(ask.ids)} can't be fetched: {reason}",))


def estimate(state: CrawlState, earlier: tuple[int, ...] = ()) -> tuple[float | None, int | None]:
    """(fraction done, list pages left) of the whole crawl; None where nothing can be said.

    ``earlier`` are the pages of each pass of the last finished run. A first crawl goes by the
    ids: they fall from the newest to the first, though not evenly.
    """
    if is_finished(state):
        return 1.0, 0
    totals: list[int] = []
    for index in range(len(state.views)):
        if index < len(state.pass_pages):
            totals.append(state.pass_pages[index])
        elif index == state.phase and (share := _way_to_horizon(state)) is not None:
            totals.append(max(state.pages, round(state.pages / share)))
        elif index < len(earlier):
            totals.append(max(earlier[index], state.pages if index == state.phase else 0))
        elif index == state.phase and horizon_of(state) is None and _is_telling(state):
            totals.append(round(state.pages / min(1.0, state.depth)))
        elif totals:
            totals.append(totals[0])  # another view of the same catalog: at most as long
        else:
            return None, None
    done = sum(state.pass_pages) + min(state.pages, totals[state.phase])
    total = max(1, sum(totals))
    return min(0.999, done / total), max(0, total - done)


def _is_telling(state: CrawlState) -> bool:
    return state.pages >= 3 and state.depth >= 0.01


def _way_to_horizon(state: CrawlState) -> float | None:
    """How much of the time between the top and the horizon this pass has behind it."""
    horizon = horizon_of(state)
    if horizon is None or state.top_ms is None or state.position is None:
        return None
    way = state.top_ms - horizon
    return max(0.01, (state.top_ms - state.position[0]) / way) if way > 0 else None


def _look_for_suspect(state: CrawlState, ids: tuple[str, ...]) -> CrawlState:
    """Whether the row that the last cursor named came after all; with no ids it did not."""
    if state.suspect is None:
        return state
    lost = state.lost
    if state.suspect not in ids and state.suspect not in lost:
        lost = (*lost, state.suspect)
    return msgspec.structs.replace(state, suspect=None, lost=lost)


def _repeats(state: CrawlState, ids: tuple[str, ...]) -> bool:
    return bool(ids) and bool(state.last_ids) and set(ids) <= set(state.last_ids)


def _does_not_lead_on(state: CrawlState, page: HubPage) -> str | None:
    """Why this page's cursor would have us walk in a circle, or None."""
    if page.next_cursor == state.cursor:
        return "the cursor did not move"
    if page.next_cursor == state.anchor:
        return "the cursors go in a circle"
    if state.empty_in_a_row >= MAX_EMPTY_IN_A_ROW and not page.items:
        return f"{MAX_EMPTY_IN_A_ROW} empty pages in a row"
    old, new = state.position, page.next_position
    if old is not None and new is not None:
        if state.order != "oldest" and new >= old:
            return "the cursor led back to newer models"
        if state.order == "oldest" and new < old:
            return "the cursor led back to older models"
    return None


def _wrong_answer(state: CrawlState, reason: str) -> Step:
    if state.attempt + 1 < len(LIMITS):
        return Step(
            msgspec.structs.replace(state, attempt=state.attempt + 1),
            (f"{reason}; asking again",),
        )
    state = _look_for_suspect(state, ())
    if state.order == "newest" and state.has_oldest and state.position is not None:
        around = msgspec.structs.replace(
            state,
            order="oldest",
            cursor=None,
            position=None,
            stuck_at=state.position,
            attempt=0,
            last_ids=(),
            empty_in_a_row=0,
            anchor=None,
            lap=0,
            power=1,
        )
        return Step(around, (f"{reason}; going on from the other end of the list",))
    state = msgspec.structs.replace(state, gaps=state.gaps + 1, attempt=0)
    return Step(_end_pass(state), (f"{reason}; the rest of this list is left out",))


def _counted(state: CrawlState, page: HubPage, ids: tuple[str, ...]) -> CrawlState:
    highest = max(state.highest_id, page.typical_id or 0)
    depth = state.depth
    if page.typical_id is not None and highest and state.order != "oldest":
        depth = max(depth, 1 - page.typical_id / highest)
    top_ms = state.top_ms
    if top_ms is None and page.items and page.next_position is not None:
        top_ms = page.next_position[0]
    return msgspec.structs.replace(
        state,
        top_ms=top_ms,
        pages=state.pages + 1,
        last_ids=ids or state.last_ids,
        empty_in_a_row=0 if page.items else state.empty_in_a_row + 1,
        highest_id=highest,
        depth=depth,
    )


def _reached(state: CrawlState, page: HubPage, beyond_dates: bool) -> bool:
    """Whether this pass need not go to the end of the list."""
    at = page.next_position
    if state.stuck_at is not None and at is not None:
        return at >= state.stuck_at
    horizon = horizon_of(state)
    if horizon is None:
        return False
    # rows without a date come last
    return beyond_dates if at is None else at[0] < horizon


def _end_pass(state: CrawlState) -> CrawlState:
    """The list is at its end: the lost rows are next, then the next pass."""
    if state.lost:
        return msgspec.structs.replace(state, ended=True, attempt=0)
    return CrawlState(
        views=state.views,
        started_ms=state.started_ms,
        kind=state.kind,
        sort=state.sort,
        order=state.sort,
        page_limit=state.page_limit,
        has_oldest=state.has_oldest,
        horizons=state.horizons,
        tops=(*state.tops, state.top_ms),
        phase=state.phase + 1,
        pass_pages=(*state.pass_pages, state.pages),
        highest_id=state.highest_id,
        gaps=state.gaps,
    )

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
"""

from collections.abc import Iterable

import msgspec

from modelkeepd.hubs.contract import HubPage, Order, PageRequest

# a page is asked for with each of these before the place counts as stuck
LIMITS = (100, 99, 20)
IDS_LIMITS = (100, 20, 1)
MAX_EMPTY_IN_A_ROW = 200
# A model that gets a new version during a crawl jumps to the top, behind our back. A crawl that
# took longer than this looks at the top again before it ends.
HEAD_AFTER_MS = 600_000
HEAD_OVERLAP_MS = 3_600_000
HEAD_MAX_PAGES = 1_000


class IdsRequest(msgspec.Struct, frozen=True):
    """Rows that the list lost, to be fetched by id."""

    view: str
    ids: tuple[str, ...]


Ask = PageRequest | IdsRequest


class CrawlState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a crawl stands. ``phase`` counts through the views' passes, then their heads."""

    views: tuple[str, ...]
    started_ms: int
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


def begin(views: Iterable[str], started_ms: int) -> CrawlState:
    """A full crawl that has asked nothing yet."""
    return CrawlState(views=tuple(views), started_ms=started_ms)


def is_head(state: CrawlState) -> bool:
    """Whether this pass only looks at what moved to the top during the crawl."""
    return state.phase >= len(state.views)


def view_of(state: CrawlState) -> str:
    """The view of the pass under way."""
    return state.views[state.phase % len(state.views)]


def is_finished(state: CrawlState) -> bool:
    """Whether nothing is left to ask."""
    return state.phase >= 2 * len(state.views)


def next_ask(state: CrawlState) -> Ask | None:
    """The request to make now; None when the crawl is complete."""
    if is_finished(state):
        return None
    if state.lost and (state.ended or len(state.lost) >= IDS_LIMITS[0]):
        size = IDS_LIMITS[min(state.attempt, len(IDS_LIMITS) - 1)]
        return IdsRequest(view_of(state), state.lost[:size])
    limit = LIMITS[min(state.attempt, len(LIMITS) - 1)]
    return PageRequest(view_of(state), state.order, state.cursor, limit)


def on_page(state: CrawlState, page: HubPage, now_ms: int) -> Step:
    """A list page was answered."""
    ids = tuple(item.hub_id for item in page.items if item.hub_id is not None)
    state = _look_for_suspect(state, ids)
    if _repeats(state, ids):
        if state.attempt + 1 < len(LIMITS):
            again = msgspec.structs.replace(state, attempt=state.attempt + 1)
            return Step(again, ("the hub repeated a page; asking again",))
        state = msgspec.structs.replace(state, gaps=state.gaps + 1)
    if page.next_cursor is None:
        return Step(_end_pass(_counted(state, page, ids), now_ms))
    why = _does_not_lead_on(state, page)
    if why:
        return _wrong_answer(state, why, now_ms)
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
    if _reached(state, page):
        return Step(_end_pass(state, now_ms))
    return Step(state)


def on_ids(state: CrawlState, ask: IdsRequest, now_ms: int) -> Step:
    """Rows were fetched by id. Those that did not come are hidden or gone: nothing was lost."""
    left = tuple(hub_id for hub_id in state.lost if hub_id not in ask.ids)
    state = msgspec.structs.replace(state, lost=left, attempt=0)
    return Step(_end_pass(state, now_ms) if state.ended else state)


def on_failure(state: CrawlState, ask: Ask, reason: str, now_ms: int) -> Step:
    """This request fails again and again although the hub answers others."""
    if isinstance(ask, PageRequest):
        return _wrong_answer(state, reason, now_ms)
    if state.attempt + 1 < len(IDS_LIMITS):
        return Step(msgspec.structs.replace(state, attempt=state.attempt + 1))
    state = msgspec.structs.replace(state, gaps=state.gaps + len(ask.ids))
    step = on_ids(state, ask, now_ms)
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
        elif index < len(earlier):
            totals.append(max(earlier[index], state.pages if index == state.phase else 0))
        elif index == state.phase and state.pages >= 3 and state.depth >= 0.01:
            totals.append(round(state.pages / min(1.0, state.depth)))
        elif totals:
            totals.append(totals[0])  # another view of the same catalog: at most as long
        else:
            return None, None
    done = sum(state.pass_pages[: len(state.views)])
    done += 0 if is_head(state) else min(state.pages, totals[state.phase])
    total = max(1, sum(totals))
    return min(0.999, done / total), max(0, total - done)


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
        if state.order == "newest" and new >= old:
            return "the cursor led back to newer models"
        if state.order == "oldest" and new < old:
            return "the cursor led back to older models"
    return None


def _wrong_answer(state: CrawlState, reason: str, now_ms: int) -> Step:
    if state.attempt + 1 < len(LIMITS):
        return Step(
            msgspec.structs.replace(state, attempt=state.attempt + 1),
            (f"{reason}; asking again",),
        )
    state = _look_for_suspect(state, ())
    if state.order == "newest" and state.position is not None and not is_head(state):
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
    return Step(_end_pass(state, now_ms), (f"{reason}; the rest of this list is left out",))


def _counted(state: CrawlState, page: HubPage, ids: tuple[str, ...]) -> CrawlState:
    highest = max(state.highest_id, page.typical_id or 0)
    depth = state.depth
    if page.typical_id is not None and highest and state.order == "newest":
        depth = max(depth, 1 - page.typical_id / highest)
    return msgspec.structs.replace(
        state,
        pages=state.pages + 1,
        last_ids=ids or state.last_ids,
        empty_in_a_row=0 if page.items else state.empty_in_a_row + 1,
        highest_id=highest,
        depth=depth,
    )


def _reached(state: CrawlState, page: HubPage) -> bool:
    """Whether this pass need not go to the end of the list."""
    at = page.next_position
    if state.stuck_at is not None and at is not None:
        return at >= state.stuck_at
    if is_head(state):
        horizon = state.started_ms - HEAD_OVERLAP_MS
        return state.pages >= HEAD_MAX_PAGES or (at is not None and at[0] < horizon)
    return False


def _end_pass(state: CrawlState, now_ms: int) -> CrawlState:
    """The list is at its end: the lost rows are next, then the next pass."""
    if state.lost:
        return msgspec.structs.replace(state, ended=True, attempt=0)
    following = state.phase + 1
    if following >= len(state.views) and now_ms - state.started_ms < HEAD_AFTER_MS:
        following = 2 * len(state.views)
    return CrawlState(
        views=state.views,
        started_ms=state.started_ms,
        phase=following,
        pass_pages=(*state.pass_pages, state.pages),
        highest_id=state.highest_id,
        gaps=state.gaps,
    )

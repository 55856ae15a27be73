"""The crawl's plan: what it asks, when it ends, and that no hub leads it in circles."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.hubs.contract import HubPage, PageRequest
from modelkeepd.sync import plan
from modelkeepd.sync.plan import CrawlState, IdsRequest
from tests.fakes.hub import FakeHub


def crawl(
    hub: FakeHub, state: CrawlState | None = None, *, reload: bool = False
) -> tuple[list[str], CrawlState, list[str]]:
    """Walk the plan against a hub; the ids in the order they came, the end, the notes."""
    state = state or plan.begin(hub.views, 0)
    got: list[str] = []
    notes: list[str] = []
    while (ask := plan.next_ask(state)) is not None:
        if isinstance(ask, IdsRequest):
            got += [str(i.hub_id) for i in hub.by_ids(ask.ids, ask.view)]
            step = plan.on_ids(state, ask)
        else:
            try:
                page = hub.page(ask)
            except TimeoutError:
                step = plan.on_failure(state, ask, "it fails")
            else:
                got += [str(i.hub_id) for i in page.items]
                step = plan.on_page(state, page)
        state = step.state
        notes += step.notes
        if reload:
            state = msgspec.json.decode(msgspec.json.encode(state), type=CrawlState)
    return got, state, notes


def all_ids(*views: list[tuple[int, int]]) -> set[str]:
    return {str(hub_id) for rows in views for _, hub_id in rows}


ROWS = [(1_000 + 10 * n, n) for n in range(1, 96)]


@pytest.mark.parametrize("loses", [True, False])
@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 21, 95])
def test_every_row_comes_whether_or_not_the_hub_loses_some(loses: bool, count: int) -> None:
    rows = ROWS[:count]
    got, state, notes = crawl(FakeHub({"a": rows}, loses_boundary_rows=loses, limit=10))
    assert set(got) == all_ids(rows)
    assert len(got) == len(set(got))
    assert (state.gaps, notes) == (0, [])


def test_a_hub_that_loses_nothing_is_asked_for_nothing_by_id() -> None:
    hub = FakeHub({"a": ROWS}, loses_boundary_rows=False, limit=10)
    crawl(hub)
    assert len(hub.requests) == 10


def test_both_views_are_walked() -> None:
    first, second = ROWS[:40], ROWS[30:]
    got, state, _ = crawl(FakeHub({"a": first, "b": second}, limit=10))
    assert set(got) == all_ids(first, second)
    assert len(state.pass_pages) == 2


def test_the_state_survives_being_saved_after_every_page() -> None:
    got, _, _ = crawl(FakeHub({"a": ROWS, "b": ROWS[:33]}, limit=7), reload=True)
    assert set(got) == all_ids(ROWS)


def test_a_short_and_an_empty_page_do_not_end_the_list() -> None:
    def distort(number: int, _: PageRequest, page: HubPage) -> HubPage:
        if number in (2, 3) and page.next_cursor:
            return msgspec.structs.replace(page, items=page.items[:0])
        return page

    got, state, _ = crawl(FakeHub({"a": ROWS}, limit=10, distort=distort))
    assert state.gaps == 0
    assert len(got) == len(ROWS) - 20  # what those two pages did not show, the hub did not show


def test_a_place_that_can_not_be_passed_is_walked_around_from_the_other_end() -> None:
    def distort(_n: int, request: PageRequest, page: HubPage) -> HubPage:
        if request.order == "newest" and request.cursor and request.cursor.endswith("|74"):
            raise TimeoutError
        return page

    hub = FakeHub({"a": ROWS}, limit=10, distort=distort)
    got, state, notes = crawl(hub)
    assert set(got) == all_ids(ROWS)
    assert state.gaps == 0
    assert any("other end" in note for note in notes)


def test_more_rows_of_one_moment_than_a_page_holds_end_in_a_counted_gap() -> None:
    ties = [(5_000, n) for n in range(1, 40)]

    def distort(_n: int, request: PageRequest, page: HubPage) -> HubPage:
        if request.order == "newest" and request.cursor:
            raise TimeoutError
        return page

    got, state, notes = crawl(FakeHub({"a": ties}, limit=10, distort=distort))
    assert state.gaps >= 1
    assert notes
    assert set(got) < all_ids(ties)


def test_a_cursor_loop_without_readable_cursors_is_noticed() -> None:
    cursors = [f"c{n}" for n in range(7)]

    def distort(number: int, _: PageRequest, page: HubPage) -> HubPage:
        return msgspec.structs.replace(
            page, next_cursor=cursors[number % 7], next_position=None, boundary_id=None
        )

    class Opaque(FakeHub):
        def page(self, request: PageRequest) -> HubPage:
            if request.cursor is not None:
                known = PageRequest(request.view, request.order, "1500|50", request.limit)
                return super().page(known)
            return super().page(request)

    _, state, notes = crawl(Opaque({"a": ROWS}, limit=10, distort=distort))
    assert state.gaps >= 1
    assert notes


def test_the_limits_are_shares_of_what_the_hub_allows() -> None:
    state = plan.begin(["a"], 0, page_limit=1_000)
    asks = []
    for _ in plan.LIMITS:
        ask = plan.next_ask(state)
        assert isinstance(ask, PageRequest)
        asks.append(ask.limit)
        state = plan.on_failure(state, ask, "it fails").state
    assert asks == [1_000, 990, 200]


def test_a_list_without_another_end_is_left_at_the_place_that_can_not_be_passed() -> None:
    def distort(_n: int, request: PageRequest, page: HubPage) -> HubPage:
        if request.cursor and request.cursor.endswith("|74"):
            raise TimeoutError
        return page

    hub = FakeHub({"a": ROWS}, limit=10, distort=distort)
    _, state, notes = crawl(hub, plan.begin(["a"], 0, has_oldest=False))
    assert state.gaps == 1
    assert any("left out" in note for note in notes)
    assert all(isinstance(r, tuple) or r.order == "newest" for r in hub.requests)


MINUTE = 60_000
DAILY = [(1_700_000_000_000 + MINUTE * n, n) for n in range(1, 400)]


def news(hub: FakeHub, mark: int | None, *, now_ms: int = 1 << 50) -> tuple[list[str], CrawlState]:
    marks = dict.fromkeys(hub.views, mark)
    got, state, _ = crawl(hub, plan.begin_news(marks, now_ms, order="updated"), reload=True)
    return got, state


class Updated(FakeHub):
    """The same rows in the order of their last change."""

    def page(self, request: PageRequest) -> HubPage:
        assert request.order in ("updated", "newest")
        return super().page(msgspec.structs.replace(request, order="newest"))


def test_news_ends_below_the_mark_and_its_overlap() -> None:
    hub = Updated({"a": DAILY}, limit=10)
    mark, _ = DAILY[-30]
    got, state = news(hub, mark)
    beyond = mark - plan.OVERLAP_MS["updated"]
    assert {str(n) for at, n in DAILY if at >= beyond} <= set(got)
    assert len(got) <= 30 + 10 + 2 * 10  # the overlap of ten minutes, and a page at either end
    assert plan.is_finished(state)


def test_every_view_is_read_for_news_down_to_its_own_mark() -> None:
    hub = Updated({"a": DAILY, "b": DAILY[:5]}, limit=10)
    state = plan.begin_news({"a": DAILY[-5][0], "b": None}, 1 << 50, order="updated")
    got, _, _ = crawl(hub, state)
    assert {str(n) for _, n in DAILY[:5]} <= set(got)


@pytest.mark.parametrize("loses", [True, False])
def test_what_changed_since_the_last_walk_is_above_its_mark(loses: bool) -> None:
    rows = list(DAILY[:150])
    state = plan.begin(["a"], 1 << 50)
    _, state, _ = crawl(Updated({"a": rows}, loses_boundary_rows=loses, limit=10), state)
    known = {str(n) for _, n in rows}
    rng = random.Random(3)
    for _ in range(20):
        new = DAILY[len(rows) : len(rows) + rng.choice([0, 1, 3, 30])]
        rows += new
        hub = Updated({"a": rows}, loses_boundary_rows=loses, limit=10)
        _, at = plan.marks(state).popitem()
        got, state = news(hub, at)
        assert {str(n) for _, n in new} <= set(got)
        known |= set(got)
        assert known == {str(n) for _, n in rows}


def test_a_hub_whose_dates_lie_in_the_future_costs_requests_and_no_row() -> None:
    ahead = [(at + (1 << 45), n) for at, n in DAILY[:60]]
    now_ms = DAILY[-1][0]
    _, state, _ = crawl(Updated({"a": ahead}, limit=10), plan.begin(["a"], now_ms))
    assert plan.marks(state) == {"a": now_ms}
    got, _ = news(Updated({"a": [*ahead, DAILY[-1]]}, limit=10), now_ms)
    assert str(DAILY[-1][1]) in got


def test_an_empty_page_does_not_end_the_news() -> None:
    def distort(number: int, _: PageRequest, page: HubPage) -> HubPage:
        if number == 2:
            return msgspec.structs.replace(page, items=(), next_position=None)
        return page

    hub = Updated({"a": DAILY}, loses_boundary_rows=False, limit=10, distort=distort)
    got, _ = news(hub, DAILY[-50][0])
    assert {str(n) for at, n in DAILY[-50:]} - set(got) <= {str(n) for _, n in DAILY[-21:-9]}
    assert len(got) >= 40


def test_rows_without_a_date_are_below_every_mark() -> None:
    def distort(number: int, _: PageRequest, page: HubPage) -> HubPage:
        return msgspec.structs.replace(page, next_position=None) if number >= 3 else page

    hub = Updated({"a": DAILY}, limit=10, distort=distort)
    _, state = news(hub, 0)
    assert len(hub.requests) <= 4
    assert state.gaps == 0


def test_the_estimate_is_honest() -> None:
    hub = FakeHub({"a": ROWS, "b": ROWS}, limit=5)
    state = plan.begin(hub.views, 0)
    assert plan.estimate(state) == (None, None)
    assert plan.estimate(state, (19, 19)) == (0.0, 38)
    fractions = []
    while (ask := plan.next_ask(state)) is not None:
        if isinstance(ask, IdsRequest):
            state = plan.on_ids(state, ask).state
        else:
            state = plan.on_page(state, hub.page(ask)).state
        fraction, left = plan.estimate(state)
        if fraction is not None and left is not None:
            fractions.append(fraction)
            assert left >= 0
    assert fractions[-1] == 1.0
    # ids fall evenly here, so half-way is half-way
    assert 0.4 < fractions[len(fractions) // 2] < 0.6


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 60),
    limit=st.integers(2, 9),
    faults=st.dictionaries(
        st.integers(1, 40),
        st.sampled_from(["same", "first", "repeat", "fail", "empty"]),
        max_size=8,
    ),
)
def test_scripted_faults_cost_no_row_and_no_endless_walk(
    seed: int, count: int, limit: int, faults: dict[int, str]
) -> None:
    rng = random.Random(seed)
    rows = [(rng.randrange(1_000, 1_400), n) for n in range(1, count + 1)]
    views = {"a": [r for r in rows if rng.random() < 0.8], "b": rows[: count // 2]}
    last: dict[str, HubPage] = {}

    def distort(number: int, request: PageRequest, page: HubPage) -> HubPage:
        before, last[request.view] = last.get(request.view), page
        match faults.get(number):
            case "same":
                return msgspec.structs.replace(page, next_cursor=request.cursor or page.next_cursor)
            case "first" if page.next_cursor:
                # back to the list's beginning; a cursor that skips ahead can't be noticed
                start = 9_999 if request.order == "newest" else 0
                return msgspec.structs.replace(
                    page, next_cursor=f"{start}|1", next_position=(start, 1), boundary_id="1"
                )
            case "repeat" if before is not None:
                return before
            case "fail":
                raise TimeoutError
            case "empty" if page.next_cursor and request.cursor:
                at = request.cursor.split("|")
                position = (int(at[0]), int(at[1]))
                return HubPage((), f"{at[0]}|0{at[1]}", None, position)
        return page

    hub = FakeHub(views, limit=limit, distort=distort)
    got, state, _ = crawl(hub, reload=True)
    if state.gaps == 0:
        assert set(got) == all_ids(*views.values())
    assert len(hub.requests) < 40 + 12 * (count + 1)

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
    hub: FakeHub, state: CrawlState | None = None, *, reload: bool = False, now_ms: int = 0
) -> tuple[list[str], CrawlState, list[str]]:
    """Walk the plan against a hub; the ids in the order they came, the end, the notes."""
    state = state or plan.begin(hub.views, 0)
    got: list[str] = []
    notes: list[str] = []
    while (ask := plan.next_ask(state)) is not None:
        if isinstance(ask, IdsRequest):
            got += [str(i.hub_id) for i in hub.by_ids(ask.ids, ask.view)]
            step = plan.on_ids(state, ask, now_ms)
        else:
            try:
                page = hub.page(ask)
            except TimeoutError:
                step = plan.on_failure(state, ask, "it fails", now_ms)
            else:
                got += [str(i.hub_id) for i in page.items]
                step = plan.on_page(state, page, now_ms)
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


def test_a_long_crawl_looks_at_the_top_again_before_it_ends() -> None:
    hour = 3_600_000
    rows = [(n * hour, n) for n in range(1, 60)]
    hub = FakeHub({"a": rows}, limit=10)
    start = plan.begin(["a"], 50 * hour)
    crawl(hub, start, now_ms=55 * hour)
    firsts = [r for r in hub.requests if isinstance(r, PageRequest) and r.cursor is None]
    assert len(firsts) == 2
    hub.requests.clear()
    crawl(hub, start, now_ms=50 * hour + plan.HEAD_AFTER_MS - 1)
    assert sum(isinstance(r, PageRequest) and r.cursor is None for r in hub.requests) == 1


def test_the_estimate_is_honest() -> None:
    hub = FakeHub({"a": ROWS, "b": ROWS}, limit=5)
    state = plan.begin(hub.views, 0)
    assert plan.estimate(state) == (None, None)
    assert plan.estimate(state, (19, 19)) == (0.0, 38)
    fractions = []
    while (ask := plan.next_ask(state)) is not None:
        if isinstance(ask, IdsRequest):
            state = plan.on_ids(state, ask, 0).state
        else:
            state = plan.on_page(state, hub.page(ask), 0).state
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

"""The job table: order, pages, idempotence, and plans that stay fast with 10,000 rows."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import apsw
import pytest
import trio

from modelkeepd.store import Durability, Store, Tx, open_store, read_events
from modelkeepd.transfer import jobs
from modelkeepd.transfer.jobs import Job, NewJob
from modelkeepd.transfer.states import Event, State, Unreachable


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "modelkeep.db") as opened:
        yield opened


def new(number: int, **more: object) -> NewJob:
    facts: dict[str, object] = {"hub": "civitai", "ref": f"civitai:1@2#{number}", "folder": "loras"}
    facts |= {"remote_name": f"../{number}.safetensors", "root": "/models"}
    return NewJob(**(facts | more))  # type: ignore[arg-type]


async def queue(store: Store, *wanted: NewJob) -> list[Job]:
    parts = [f"part-{trio.current_time()}-{number}" for number in range(len(wanted))]
    unit = partial(jobs.enqueue, new_jobs=wanted, parts=parts)
    return await store.apply(unit, durability=Durability.FULL, name="transfer.enqueue")


async def advance(store: Store, job_id: int, *events: Event) -> Job:
    def unit(tx: Tx) -> Job:
        for event in events:
            job, _ = jobs.advance(tx, job_id, event)
        return job

    return await store.apply(unit, durability=Durability.FULL, name="transfer.test")


async def test_the_hostile_name_is_kept_and_a_safe_one_shown(store: Store) -> None:
    [job] = await queue(store, new(7))
    assert (job.remote_name, job.name) == ("../7.safetensors", "7.safetensors")
    events = await store.read(partial(read_events, after_seq=0, limit=10))
    assert [(e.topic, e.kind, e.subject) for e in events] == [
        ("transfer", "job.queued", f"job:{job.job_id}")
    ]
    assert events[0].payload["name"] == "7.safetensors"


async def test_the_same_file_to_the_same_place_is_one_job_until_it_ends(store: Store) -> None:
    [first] = await queue(store, new(1))
    [again, elsewhere] = await queue(store, new(1), new(1, root="/other"))
    assert again.job_id == first.job_id
    assert elsewhere.job_id != first.job_id
    await advance(store, first.job_id, Event.CANCEL)
    [later] = await queue(store, new(1))
    assert later.job_id != first.job_id


async def test_turns_go_by_priority_then_by_age_and_skip_resting_hubs(store: Store) -> None:
    await queue(
        store, new(1), new(2, priority=5), new(3, hub="huggingface", priority=9), new(4, priority=5)
    )

    async def claim(*resting: str) -> str | None:
        unit = partial(jobs.claim, resting_hubs=resting)
        job = await store.apply(unit, durability=Durability.NORMAL, name="transfer.claim")
        assert job is None or (job.state, job.started_ms is None) == (State.RESOLVING, False)
        return None if job is None else job.ref[-1]

    assert [await claim("huggingface") for _ in range(4)] == ["2", "4", "1", None]
    assert [await claim(), await claim()] == ["3", None]


async def test_pages_show_each_job_once_in_its_turn(store: Store) -> None:
    made = await queue(store, *(new(n, priority=n % 3) for n in range(40)))
    for job in made[::4]:
        await advance(store, job.job_id, Event.PAUSE)
    expected = sorted(made, key=lambda job: (-job.priority, job.position))
    for states in ((), (State.QUEUED, State.PAUSED), (State.PAUSED,)):
        seen: list[int] = []
        after: tuple[int, int] | None = None
        while True:
            page = await store.read(partial(jobs.list_jobs, states=states, limit=7, after=after))
            seen += [job.job_id for job in page.jobs]
            after = page.next_after
            if after is None:
                break
        paused = {job.job_id for job in made[::4]}
        wanted = [j.job_id for j in expected if states != (State.PAUSED,) or j.job_id in paused]
        assert seen == wanted


async def test_moving_to_the_front_keeps_the_order_given(store: Store) -> None:
    made = await queue(store, *(new(n) for n in range(5)))
    ids = [made[3].job_id, made[1].job_id]
    await store.apply(
        partial(jobs.move, job_ids=ids, priority=None, to_front=True),
        durability=Durability.FULL,
        name="transfer.move",
    )
    page = await store.read(jobs.list_jobs)
    assert [job.ref[-1] for job in page.jobs] == ["3", "1", "0", "2", "4"]


async def test_a_step_from_another_state_than_believed_changes_nothing(store: Store) -> None:
    [job] = await queue(store, new(1))
    await advance(store, job.job_id, Event.PAUSE)

    def unit(tx: Tx) -> None:
        jobs.advance(tx, job.job_id, Event.RESOLVED, expected=State.RESOLVING)

    with pytest.raises(Unreachable, match="is paused meanwhile"):
        await store.apply(unit, durability=Durability.FULL, name="transfer.test")
    with pytest.raises(Unreachable, match="no job 999"):
        await advance(store, 999, Event.START)
    assert (await store.read(partial(jobs.find_jobs, job_ids=[job.job_id])))[0].state == "paused"


async def test_only_known_columns_are_changed(store: Store) -> None:
    [job] = await queue(store, new(1))

    def unit(tx: Tx) -> None:
        jobs.advance(tx, job.job_id, Event.START, {"state = 'done', name": 1})

    with pytest.raises(ValueError, match="no such columns"):
        await store.apply(unit, durability=Durability.FULL, name="transfer.test")


async def test_commands_on_many_say_what_each_one_did(store: Store) -> None:
    made = await queue(store, *(new(n) for n in range(3)))
    await advance(store, made[0].job_id, Event.CANCEL)
    ids = [*(job.job_id for job in made), 999]
    outcomes = await store.apply(
        partial(jobs.command, job_ids=ids, event=Event.PAUSE),
        durability=Durability.FULL,
        name="transfer.pause",
    )
    assert [(o.job.state, o.changed) for o in outcomes] == [
        ("canceled", False), ("paused", True), ("paused", True),
    ]  # fmt: skip


async def test_waiting_jobs_are_woken_when_due_and_after_a_clock_jump(store: Store) -> None:
    made = await queue(store, *(new(n) for n in range(3)))
    hour = 3_600_000

    def unit(tx: Tx) -> None:
        for job, not_before in zip(made, (0, hour, 40 * 24 * hour), strict=True):
            jobs.advance(tx, job.job_id, Event.START)
            changes = {"not_before_ms": tx.now_ms + not_before, "wait_for": "retry"}
            jobs.advance(tx, job.job_id, Event.LATER, changes)

    await store.apply(unit, durability=Durability.FULL, name="transfer.test")
    woken, now_ms = await store.apply(
        partial(jobs.wake_due, far_ms=24 * hour), durability=Durability.FULL, name="transfer.wake"
    )
    assert woken == 2
    left = await store.read(jobs.waiting)
    assert left.for_something == []
    assert left.due_ms is not None
    assert left.due_ms - now_ms <= hour
    states = [job.state for job in await store.read(partial(jobs.find_jobs, job_ids=[1, 2, 3]))]
    assert states == ["queued", "waiting", "queued"]


async def test_a_restart_puts_running_jobs_back_and_leaves_the_others(store: Store) -> None:
    made = await queue(store, *(new(n) for n in range(3)))
    await advance(store, made[0].job_id, Event.START, Event.RESOLVED)
    await advance(store, made[1].job_id, Event.PAUSE)
    running = await store.read(jobs.running_jobs)
    assert [job.job_id for job in running] == [made[0].job_id]
    await store.apply(
        partial(jobs.restart, job_ids=[made[0].job_id]),
        durability=Durability.FULL,
        name="transfer.restart",
    )
    counts = await store.read(jobs.count_states)
    assert counts == {State.QUEUED: 2, State.PAUSED: 1}


IN_TURN = "ORDER BY priority DESC, position LIMIT 9"
QUERIES = [
    (f"* FROM job INDEXED BY job_turn WHERE state = 'queued' AND hub <> ? {IN_TURN}", "job_turn"),
    (f"* FROM job INDEXED BY job_order WHERE priority = ? AND position > 5 {IN_TURN}", "job_order"),
    (f"* FROM job INDEXED BY job_turn WHERE state = ? AND priority < 1 {IN_TURN}", "job_turn"),
    ("state, count(*) FROM job GROUP BY state", "job_turn"),
    ("min(not_before_ms) FROM job INDEXED BY job_wake WHERE state = 'waiting'", "job_wake"),
    ("* FROM job WHERE ref = ? AND root = ? AND folder = ?", "job_ref"),
]


@pytest.mark.parametrize(("sql", "index"), QUERIES)
async def test_no_query_of_the_queue_reads_or_sorts_it_all(
    store: Store, sql: str, index: str
) -> None:
    def plan(db: apsw.Connection) -> str:
        marks = tuple("x" for _ in range(sql.count("?")))
        return " | ".join(
            str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN SELECT {sql}", marks)
        )

    text = await store.read(plan)
    assert index in text
    assert "TEMP B-TREE" not in text

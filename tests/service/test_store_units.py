"""Units of work on the one writer: all or nothing, known to the caller, told after the commit."""

import threading
from functools import partial
from pathlib import Path

import apsw
import pytest
import trio

from modelkeepd.store import Durability, Store, StoreError, Tx, open_store, read_events
from tests.fakes.clocks import FakeClocks
from tests.fakes.powercut_vfs import PowerCutVFS

FULL, NORMAL = Durability.FULL, Durability.NORMAL


def put(tx: Tx, key: str, value: object = 1) -> int:
    """A row and its event."""
    tx.db.execute("INSERT INTO meta VALUES (?, ?)", (key, value))
    return tx.emit("node", "put", key, {"value": value})


def keys(db: apsw.Connection) -> set[str]:
    rows = db.execute("SELECT key FROM meta WHERE key <> 'clean_stop'").fetchall()
    return {str(key) for (key,) in rows}


def subjects(db: apsw.Connection) -> list[str]:
    return [event.subject for event in read_events(db, 0)]


class Gate:
    """Holds a unit or a query in its thread until the test lets it go."""

    def __init__(self) -> None:
        self._entered, self._open = threading.Event(), threading.Event()

    def hold(self) -> None:
        self._entered.set()
        assert self._open.wait(30)

    async def entered(self) -> None:
        assert await trio.to_thread.run_sync(self._entered.wait, 30)

    def let_go(self) -> None:
        self._open.set()


async def test_a_unit_returns_its_result_and_its_rows_are_there(store: Store) -> None:
    seq = await store.apply(partial(put, key="a"), durability=FULL, name="test.put")
    assert seq == 1
    assert await store.read(keys) == {"a"}
    assert await store.read(subjects) == ["a"]


async def test_a_unit_that_raises_leaves_nothing_and_its_error_arrives(store: Store) -> None:
    def unit(tx: Tx) -> None:
        put(tx, "a")
        raise LookupError("second thoughts")

    with pytest.raises(LookupError, match="second thoughts"):
        await store.apply(unit, durability=FULL, name="test.fail")
    assert await store.read(keys) == set()
    assert await store.read(subjects) == []
    assert store.feed.last_seq == 0
    # its number was not used up: a follower would take that for an event it has missed
    assert await store.apply(partial(put, key="b"), durability=FULL, name="test.put") == 1


async def test_a_wrong_statement_is_the_unit_s_own_error(store: Store) -> None:
    await store.apply(partial(put, key="a"), durability=FULL, name="test.put")
    with pytest.raises(apsw.ConstraintError):
        await store.apply(partial(put, key="a"), durability=FULL, name="test.put")
    with pytest.raises(apsw.SQLError):
        await store.apply(
            lambda tx: tx.db.execute("SELECT * FROM nowhere"), durability=FULL, name="test.wrong"
        )
    await store.apply(partial(put, key="b"), durability=NORMAL, name="test.put")
    assert await store.read(keys) == {"a", "b"}


async def test_nothing_is_seen_or_told_before_the_commit(store: Store) -> None:
    gate = Gate()

    def unit(tx: Tx) -> None:
        put(tx, "a")
        gate.hold()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(store.apply, unit, durability=NORMAL, name="test.slow"))
        await gate.entered()
        assert store.feed.last_seq == 0
        assert await store.read(keys) == set()
        gate.let_go()
        assert await store.feed.changed(0) == 1
    assert await store.read(keys) == {"a"}


async def test_a_canceled_caller_still_learns_that_its_unit_was_committed(store: Store) -> None:
    gate, outcomes = Gate(), list[int]()
    scope = trio.CancelScope()

    def unit(tx: Tx) -> int:
        gate.hold()
        return put(tx, "a")

    async def caller() -> None:
        with scope:
            outcomes.append(await store.apply(unit, durability=FULL, name="test.slow"))
            await trio.lowlevel.checkpoint()  # now it may end

    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller)
        await gate.entered()
        scope.cancel()
        gate.let_go()
    assert outcomes == [1]
    assert scope.cancelled_caught
    assert await store.read(subjects) == ["a"]
    assert store.feed.last_seq == 1


async def test_a_caller_canceled_before_has_its_unit_never_begun(store: Store) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.apply(partial(put, key="a"), durability=FULL, name="test.put")
    assert scope.cancelled_caught
    assert await store.read(keys) == set()


async def test_many_writers_are_told_in_the_order_of_their_commits(store: Store) -> None:
    told: list[str] = []

    async def follow() -> None:
        seen = 0
        while seen < 60:
            await store.feed.changed(seen)
            events = await store.read(partial(read_events, after_seq=seen, limit=7))
            assert [event.seq for event in events] == list(range(seen + 1, seen + 1 + len(events)))
            told.extend(event.subject for event in events)
            seen = events[-1].seq

    async def write(name: int) -> None:
        for n in range(10):
            durability = FULL if n % 2 else NORMAL
            await store.apply(
                partial(put, key=f"{name}.{n}"), durability=durability, name="test.put"
            )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        for name in range(6):
            nursery.start_soon(write, name)
    assert len(told) == 60
    for name in range(6):
        mine = [subject for subject in told if subject.startswith(f"{name}.")]
        assert mine == [f"{name}.{n}" for n in range(10)]


async def test_events_are_told_by_topic_and_carry_the_transaction_s_time(
    store: Store, clocks: FakeClocks
) -> None:
    def unit(tx: Tx) -> None:
        for topic in ("sync", "library", "sync"):
            tx.emit(topic, "k", "s", {"at": tx.now_ms, "raw": b"\x00", "text": "チェック"})

    await store.apply(unit, durability=NORMAL, name="test.topics")
    events = await store.read(partial(read_events, after_seq=0, topics=["sync"]))
    assert [event.seq for event in events] == [1, 3]
    assert events[0].at_ms == clocks.wall_ms()
    assert events[0].payload == {"at": clocks.wall_ms(), "raw": b"\x00", "text": "チェック"}


async def test_a_query_sees_one_snapshot(store: Store) -> None:
    gate = Gate()
    seen: list[set[str]] = []

    def query(db: apsw.Connection) -> None:
        seen.append(keys(db))
        gate.hold()
        seen.append(keys(db))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.read, query)
        await gate.entered()
        await store.apply(partial(put, key="a"), durability=NORMAL, name="test.put")
        gate.let_go()
    assert seen == [set(), set()]
    assert await store.read(keys) == {"a"}


async def test_readers_can_not_write(store: Store) -> None:
    with pytest.raises(StoreError, match="can't be written"):
        await store.read(lambda db: db.execute("DELETE FROM meta"))


ENDLESS = "WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


async def test_an_interrupted_query_leaves_its_connection_usable(store: Store) -> None:
    for _ in range(8):  # each reader more than once
        begun = threading.Event()

        def query(db: apsw.Connection, begun: threading.Event = begun) -> object:
            begun.set()
            return db.execute(ENDLESS).fetchall()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.read, query)
            await trio.to_thread.run_sync(begun.wait, 30)
            nursery.cancel_scope.cancel()
    await store.apply(partial(put, key="a"), durability=NORMAL, name="test.put")
    for _ in range(8):
        assert await store.read(keys) == {"a"}


async def test_only_trio_s_clock_ends_a_query(
    store: Store, mock_clock: trio.testing.MockClock
) -> None:
    # trio's time stands still here; apsw would count the deadline in real time
    counted = ENDLESS.replace("FROM n)", "FROM n WHERE x < 2000000)", 1)
    with trio.move_on_after(0.001) as scope:
        rows = await store.read(lambda db: db.execute(counted).fetchall())
        assert rows == [(2_000_000,)]
    assert not scope.cancelled_caught


@pytest.mark.parametrize(("durability", "syncs"), [(FULL, 1), (NORMAL, 0)])
async def test_a_full_commit_syncs_the_log_once_and_a_normal_one_never(
    tmp_path: Path, durability: Durability, syncs: int
) -> None:
    vfs = PowerCutVFS("count-syncs", tmp_path)
    async with open_store(tmp_path / "m.db", vfs=vfs.name) as store:
        other = NORMAL if durability is FULL else FULL
        await store.apply(partial(put, key="first"), durability=other, name="test.put")
        for n in range(5):
            before = vfs.syncs("-wal"), vfs.syncs(".db")
            await store.apply(partial(put, key=f"k{n}"), durability=durability, name="test.put")
            assert (vfs.syncs("-wal") - before[0], vfs.syncs(".db") - before[1]) == (syncs, 0)
        # and back: the switch is for one commit
        before = vfs.syncs("-wal"), 0
        await store.apply(partial(put, key="last"), durability=other, name="test.put")
        assert vfs.syncs("-wal") - before[0] == 1 - syncs
    vfs.unregister()


async def test_a_failed_unit_does_not_leave_the_next_one_less_durable(tmp_path: Path) -> None:
    vfs = PowerCutVFS("failed-unit", tmp_path)
    async with open_store(tmp_path / "m.db", vfs=vfs.name) as store:
        with pytest.raises(ZeroDivisionError):
            await store.apply(lambda _: 1 / 0, durability=NORMAL, name="test.fail")
        before = vfs.syncs("-wal")
        await store.apply(partial(put, key="a"), durability=FULL, name="test.put")
        assert vfs.syncs("-wal") == before + 1
    vfs.unregister()

"""Epochs over starts and stops, and the retention of the event log."""

import shutil
from functools import partial
from pathlib import Path

import apsw
import pytest
import trio

from modelkeepd.store import Cursor, Durability, Store, StoreFull, Tx, open_store, read_events
from modelkeepd.store.epochs import KEPT
from modelkeepd.store.event_log import first_seq, is_gap, last_seq, trim
from tests.fakes.clocks import FakeClocks
from tests.fakes.powercut_vfs import PowerCutVFS

NORMAL = Durability.NORMAL


def tell(tx: Tx, number: int = 1) -> int:
    return [tx.emit("node", "told", f"n{n}", {}) for n in range(number)][-1]


async def emit(store: Store, number: int = 1) -> int:
    return await store.apply(partial(tell, number=number), durability=NORMAL, name="test.tell")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def copy_as_killed(path: Path, to: Path) -> Path:
    """What a process that was killed now would leave: all files but the shared memory."""
    to.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(path.with_name(path.name + suffix), to)
    return to / path.name


async def test_a_clean_stop_keeps_the_epoch_and_goes_on_counting(tmp_path: Path) -> None:
    async with open_store(tmp_path / "m.db") as store:
        epoch, start = store.epoch, store.epoch_start_seq
        assert start == 0
        await emit(store, 3)
    async with open_store(tmp_path / "m.db") as store:
        assert (store.epoch, store.epoch_start_seq) == (epoch, 0)
        assert store.feed.last_seq == 3
        assert await emit(store) == 4
        assert store.trusted_seq(epoch) == 4


async def test_after_a_clean_stop_one_file_holds_everything(tmp_path: Path) -> None:
    async with open_store(tmp_path / "m.db") as store:
        await emit(store)
    assert names(tmp_path) == ["m.db"]


async def test_a_start_after_a_kill_begins_a_new_epoch(tmp_path: Path) -> None:
    async with open_store(tmp_path / "m.db") as store:
        await emit(store, 3)
        copy = copy_as_killed(tmp_path / "m.db", tmp_path / "copy")
        await emit(store, 2)  # never known to the copy
        old = store.epoch
    async with open_store(copy) as store:
        assert store.epoch != old
        assert store.epoch_start_seq == store.feed.last_seq == 3
        assert store.trusted_seq(old) == 3
        assert store.trusted_seq(store.epoch) == 3
        await emit(store)
        assert store.trusted_seq(old) == 3
        assert store.trusted_seq(store.epoch) == 4
        assert store.trusted_seq("ffffffff") == 0
        oldest = await store.read(first_seq)
        assert is_gap(Cursor(old, 3), epoch=store.epoch, oldest=oldest, newest=4)
        assert not is_gap(Cursor(store.epoch, 3), epoch=store.epoch, oldest=oldest, newest=4)


async def test_being_canceled_is_a_clean_stop(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_store(tmp_path / "m.db") as store:
            epoch = store.epoch
            await emit(store)
            scope.cancel()
            await trio.sleep_forever()
    async with open_store(tmp_path / "m.db") as store:
        assert store.epoch == epoch


async def test_a_crash_of_the_program_above_is_a_clean_stop_of_the_store(tmp_path: Path) -> None:
    epochs: list[str] = []

    async def crash() -> None:
        async with open_store(tmp_path / "m.db") as store:
            epochs.append(store.epoch)
            await emit(store)
            raise LookupError

    with pytest.raises(LookupError):
        await crash()
    async with open_store(tmp_path / "m.db") as store:
        assert store.epoch == epochs[0]
        assert await store.read(last_seq) == 1


async def test_a_stop_that_can_not_be_marked_costs_only_the_epoch(tmp_path: Path) -> None:
    vfs = PowerCutVFS("full-at-stop", tmp_path)

    def full(method: str) -> None:
        if method == "xWrite":
            raise apsw.FullError("no room")

    async with open_store(tmp_path / "m.db", vfs=vfs.name) as store:
        epoch = store.epoch
        await emit(store)
        vfs.before_call = full
        with pytest.raises(StoreFull):
            await emit(store)
    vfs.before_call = None
    async with open_store(tmp_path / "m.db") as store:
        assert store.epoch != epoch
        assert await store.read(last_seq) == 1
    vfs.unregister()


async def test_a_crash_loop_does_not_pile_up_epochs(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    async with open_store(path) as store:
        await emit(store)
        first = store.epoch
    db = apsw.Connection(str(path))
    db.execute(
        "WITH RECURSIVE n(x) AS (VALUES (2) UNION ALL SELECT x + 1 FROM n WHERE x < 500)"
        " INSERT INTO epoch SELECT x, 'e' || x, 1, 0 FROM n; UPDATE meta SET value = 0"
    )
    db.close()
    async with open_store(path) as store:
        kept = await store.read(lambda db: db.execute("SELECT name FROM epoch").fetchall())
        assert len(kept) == KEPT
        assert kept[-1] == (store.epoch,)
        assert store.trusted_seq("e499") == 1
        assert store.trusted_seq(first) == 0  # forgotten: start afresh


# Retention --------------------------------------------------------------------------------------


def kept(db: apsw.Connection) -> list[int]:
    return [event.seq for event in read_events(db, 0)]


async def test_the_log_keeps_its_newest_rows(store: Store) -> None:
    await emit(store, 10)
    for keep_rows, removed, left in [(20, 0, 10), (4, 6, 4), (4, 0, 4), (0, 4, 0)]:
        unit = partial(trim, keep_rows=keep_rows)
        assert await store.apply(unit, durability=NORMAL, name="store.trim") == removed
        assert await store.read(kept) == list(range(11 - left, 11))
    # an empty log still knows what it has given out
    assert await store.read(last_seq) == 10
    assert await store.read(first_seq) is None
    assert not is_gap(Cursor(store.epoch, 10), epoch=store.epoch, oldest=None, newest=10)
    assert is_gap(Cursor(store.epoch, 9), epoch=store.epoch, oldest=None, newest=10)
    assert await emit(store) == 11


async def test_the_log_keeps_what_is_young_enough(store: Store, clocks: FakeClocks) -> None:
    for _ in range(6):
        await emit(store)
        clocks.advance(10)
    unit = partial(trim, keep_rows=100, keep_ms=35_000)
    assert await store.apply(unit, durability=NORMAL, name="store.trim") == 3
    assert await store.read(kept) == [4, 5, 6]
    clocks.advance(3600)
    assert await store.apply(unit, durability=NORMAL, name="store.trim") == 3
    assert await store.read(kept) == []


async def test_a_clock_set_back_makes_no_hole_in_the_log(store: Store, clocks: FakeClocks) -> None:
    await emit(store, 2)
    clocks.set_the_clock(-3600)
    await emit(store, 2)  # look an hour old, but came later
    clocks.set_the_clock(3600)
    await emit(store, 2)
    unit = partial(trim, keep_rows=100, keep_ms=60_000)
    assert await store.apply(unit, durability=NORMAL, name="store.trim") == 0
    assert await store.read(kept) == [1, 2, 3, 4, 5, 6]

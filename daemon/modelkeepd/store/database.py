"""The store: opens the database, runs units of work on its one writer and queries on readers.

Two durability classes: FULL commits are synced before they are acknowledged (jobs, library,
secrets); NORMAL ones (the mirror, which can be fetched again) may be rolled back by a power cut,
never torn. That is why a start without a clean-stop mark begins a new epoch.
"""

import enum
import logging
import math
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import apsw
import apsw.aio
import trio

from modelkeepd import failpoints
from modelkeepd.clocks import Clocks
from modelkeepd.store import epochs
from modelkeepd.store.event_log import EventFeed, last_seq
from modelkeepd.store.failures import StoreError, translated
from modelkeepd.store.migrations import Migration, shipped_migrations
from modelkeepd.store.schema import prepare, refuse_emptied
from modelkeepd.store.transaction import Tx, transaction

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from apsw import AsyncConnection
else:
    AsyncConnection = apsw.Connection  # the async one exists for type checkers only

T = TypeVar("T")

READERS = 3


class Durability(enum.Enum):
    """What a commit survives: FULL a power cut, NORMAL a killed process."""

    FULL = "FULL"
    NORMAL = "NORMAL"


class Store:
    """The open database. Made by :func:`open_store`."""

    def __init__(
        self,
        path: Path,
        writer: AsyncConnection,
        readers: Sequence[AsyncConnection],
        clocks: Clocks,
        known_epochs: Sequence[epochs.Epoch],
        newest_seq: int,
    ) -> None:
        self.path = path
        self.epoch = known_epochs[-1].name
        # the last event that survived from before this epoch
        self.epoch_start_seq = known_epochs[-1].start_seq
        self.feed = EventFeed(newest_seq)
        self._epochs = known_epochs
        self._writer = writer
        self._clocks = clocks
        self._synchronous: Durability | None = None
        self._idle_send, self._idle_receive = trio.open_memory_channel[AsyncConnection](
            len(readers)
        )
        for reader in readers:
            self._idle_send.send_nowait(reader)

    def trusted_seq(self, epoch: str) -> int:
        """The last event on which the log and a follower that last saw ``epoch`` agree.

        What such a follower remembers beyond it may have been rolled back by a power cut.
        """
        return epochs.trusted_seq(self._epochs, epoch, self.feed.last_seq)

    async def apply(self, unit: Callable[[Tx], T], *, durability: Durability, name: str) -> T:
        """Run ``unit`` in one transaction on the writer and return its result.

        All or nothing: an exception rolls back and propagates. Once handed over it is finished
        even if the caller is canceled, so that the caller never wonders whether it was
        committed. Raises StoreFull, StoreCorrupt or StoreError when the database fails.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True):
            result: T
            result, seq = await _call(self._writer, self._run_unit, unit, durability, name)
        self.feed.publish(seq)
        return result

    def _run_unit(
        self, db: apsw.Connection, unit: Callable[[Tx], T], durability: Durability, name: str
    ) -> tuple[T, int]:
        with translated(self.path, name):
            # inside a transaction this pragma raises, so it goes first
            if durability is not self._synchronous:
                db.pragma("synchronous", durability.value)
                self._synchronous = durability
            with transaction(db):
                tx = Tx(db, self._clocks.wall_ms())
                result = unit(tx)
                failpoints.hit(f"{name}.before_commit")
        failpoints.hit(f"{name}.after_commit")
        return result, tx.last_seq

    async def read(self, query: Callable[[apsw.Connection], T]) -> T:
        """Run ``query`` on a reader, in one snapshot. It must fetch all it needs inside.

        Cancellation interrupts running SQL. Raises StoreCorrupt or StoreError.
        """
        reader = await self._idle_receive.receive()
        try:
            return await _call(reader, _snapshot, query, self.path)
        finally:
            # its queue is in order: an interrupted query ends before the next one begins
            self._idle_send.send_nowait(reader)


async def _connect(path: Path, flags: int, vfs: str | None) -> AsyncConnection:
    # canceled in the midst of it, apsw would leave the new connection's thread running for ever
    await trio.lowlevel.checkpoint_if_cancelled()
    with trio.CancelScope(shield=True):
        connection = await apsw.Connection.as_async(str(path), flags=flags, vfs=vfs)
    return connection  # noqa: RET504  (to mypy, a scope may swallow exceptions)


async def _call(
    connection: AsyncConnection, function: Callable[..., T], /, *arguments: object
) -> T:
    """Run ``function(connection, ...)`` in the connection's thread, there used synchronously."""
    # apsw would watch our deadlines itself and raise TooSlowError, out of a move_on_after too:
    # trio alone decides
    token = apsw.aio.deadline.set(math.inf)
    try:
        result: T = await connection.async_run(function, connection, *arguments)
    finally:
        apsw.aio.deadline.reset(token)
    return result


def _snapshot(db: apsw.Connection, query: Callable[[apsw.Connection], T], path: Path) -> T:
    with translated(path, "reading"):
        if db.in_transaction:  # an interrupted predecessor
            db.execute("ROLLBACK")
        db.execute("BEGIN")
        try:
            return query(db)
        finally:
            if db.in_transaction:
                db.execute("COMMIT")


@asynccontextmanager
async def open_store(
    path: Path,
    *,
    clocks: Clocks | None = None,
    migrations: Sequence[Migration] | None = None,
    vfs: str | None = None,
    new_epoch_id: Callable[[], str] = lambda: secrets.token_hex(4),
) -> AsyncIterator[Store]:
    """Open, migrate and yield the store; on leaving, mark a clean stop and close everything.

    It is a clean stop even if the body raises or is canceled: what was acknowledged is on the
    disk then. ``vfs`` names an SQLite VFS (power-cut tests). Raises StoreTooNew, StoreCorrupt,
    StoreFull, StoreError.
    """
    clocks = clocks or Clocks()
    migrations = shipped_migrations() if migrations is None else migrations
    # last in, first out, and readers before the writer: they would hold up its checkpoint
    connections: list[AsyncConnection] = []
    store: Store | None = None
    try:
        with translated(path, "opening"):
            refuse_emptied(path)
            flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
            connections.append(writer := await _connect(path, flags, vfs))
            known, newest = await _call(
                writer, _open_writer, path, migrations, clocks, new_epoch_id
            )
            for _ in range(READERS):
                connections.append(reader := await _connect(path, apsw.SQLITE_OPEN_READONLY, vfs))
                await _call(reader, _configure_reader)
        store = Store(path, writer, connections[1:], clocks, known, newest)
        yield store
    finally:
        # a connection's thread is no daemon thread: left open, the process would never end
        with trio.CancelScope(shield=True):
            while connections:
                connection = connections.pop()
                if store is not None and not connections:
                    await _stop(connection, path)
                await _close(connection, path)


def _open_writer(
    db: apsw.Connection,
    path: Path,
    migrations: Sequence[Migration],
    clocks: Clocks,
    new_epoch_id: Callable[[], str],
) -> tuple[list[epochs.Epoch], int]:
    prepare(db, path, migrations)
    return epochs.begin(db, new_epoch_id, clocks.wall_ms()), last_seq(db)


def _configure_reader(db: apsw.Connection) -> None:
    db.set_busy_timeout(5_000)
    db.pragma("query_only", True)
    db.pragma("temp_store", "MEMORY")
    db.pragma("cache_size", -8_000)


async def _stop(writer: AsyncConnection, path: Path) -> None:
    """Failing costs no data: the next start replays the log and begins an epoch."""
    try:
        with translated(path, "stopping"):
            await _call(writer, _mark_clean_stop)
    except StoreError as exc:
        log.warning("no clean stop", extra={"facts": {"error": str(exc)}})


async def _close(connection: AsyncConnection, path: Path) -> None:
    try:
        with translated(path, "closing"):
            await connection.aclose(force=True)
    except StoreError as exc:  # it is closed; its last checkpoint failed
        log.warning("not closed cleanly", extra={"facts": {"error": str(exc)}})


def _mark_clean_stop(db: apsw.Connection) -> None:
    db.pragma("synchronous", "FULL")
    db.pragma("optimize")
    epochs.mark_clean_stop(db)
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

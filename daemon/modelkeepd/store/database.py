"""The store: opens the database, runs units of work on its one writer and queries on readers.

Two durability classes: FULL commits are synced before they are acknowledged (jobs, library,
secrets); NORMAL ones (the mirror, which can be fetched again) may be rolled back by a power cut,
never torn. That is why a start without a clean-stop mark begins a new epoch.
"""

import enum
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import apsw
import trio

from modelkeepd import failpoints
from modelkeepd.clocks import Clocks
from modelkeepd.store.event_log import EventFeed, last_seq
from modelkeepd.store.migrations import Migration, shipped_migrations
from modelkeepd.store.transaction import Tx

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from apsw import AsyncConnection
else:
    AsyncConnection = apsw.Connection  # the async one exists for type checkers only

T = TypeVar("T")

# "mkep": lets `file` and us tell this database from a foreign one
APPLICATION_ID = 0x6D6B6570
READERS = 3


class Durability(enum.Enum):
    """What a commit survives: FULL a power cut, NORMAL a killed process."""

    FULL = "FULL"
    NORMAL = "NORMAL"


class StoreError(Exception):
    """The database could not do what was asked; nothing of the unit was kept."""


class StoreFull(StoreError):
    """The disk of the database is full."""


class StoreTooNew(StoreError):
    """The database was written by a newer modelkeep."""


class StoreCorrupt(StoreError):
    """The file is damaged or is not modelkeep's."""


class Store:
    """The open database. Made by :func:`open_store`."""

    def __init__(
        self,
        path: Path,
        writer: AsyncConnection,
        readers: Sequence[AsyncConnection],
        clocks: Clocks,
        epoch: str,
        epoch_start_seq: int,
        newest_seq: int,
    ) -> None:
        self.path = path
        self.epoch = epoch
        # the last event that survived from before this epoch: what a search index has seen
        # beyond it was rolled back
        self.epoch_start_seq = epoch_start_seq
        self.feed = EventFeed(newest_seq)
        self._writer = writer
        self._clocks = clocks
        self._synchronous: Durability | None = None
        self._idle_send, self._idle_receive = trio.open_memory_channel[AsyncConnection](
            len(readers)
        )
        for reader in readers:
            self._idle_send.send_nowait(reader)

    async def apply(self, unit: Callable[[Tx], T], *, durability: Durability, name: str) -> T:
        """Run ``unit`` in one transaction on the writer and return its result.

        All or nothing: an exception rolls back and propagates. Once begun it is finished even
        if the caller is canceled, so that the caller never wonders whether it was committed.
        Raises StoreFull or StoreError when the database fails.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True):
            result: T
            result, seq = await self._writer.async_run(self._run_unit, unit, durability, name)
        self.feed.publish(seq)
        return result

    def _run_unit(
        self, unit: Callable[[Tx], T], durability: Durability, name: str
    ) -> tuple[T, int]:
        db: apsw.Connection = self._writer  # type: ignore[assignment]  # sync in its own thread
        try:
            # inside a transaction this pragma raises, so it goes first
            if durability is not self._synchronous:
                db.execute(f"PRAGMA synchronous = {durability.value}")
                self._synchronous = durability
            db.execute("BEGIN IMMEDIATE")
            tx = Tx(db, self._clocks.wall_ms())
            try:
                result = unit(tx)
                failpoints.hit("store.before_commit")
                failpoints.hit(f"{name}.before_commit")
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except apsw.FullError as exc:
            raise StoreFull(
                f"the disk of {self.path} is full ({name}); nothing was lost, free some space"
            ) from exc
        except (apsw.CorruptError, apsw.NotADBError) as exc:
            raise StoreCorrupt(f"{self.path} is damaged ({name}): {exc}") from exc
        except (apsw.IOError, apsw.BusyError, apsw.ReadOnlyError, apsw.CantOpenError) as exc:
            raise StoreError(f"{self.path}: {name} failed: {exc}") from exc
        failpoints.hit("store.after_commit")
        failpoints.hit(f"{name}.after_commit")
        return result, tx.last_seq

    async def read(self, query: Callable[[apsw.Connection], T]) -> T:
        """Run ``query`` on a reader, in one snapshot. It must fetch all it needs inside."""
        reader = await self._idle_receive.receive()
        try:
            return await reader.async_run(_snapshot, query, reader)  # type: ignore[no-any-return]
        finally:
            # its queue is in order: an interrupted query ends before the next one begins
            self._idle_send.send_nowait(reader)


def _snapshot(query: Callable[[apsw.Connection], T], db: apsw.Connection) -> T:
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

    ``vfs`` names an SQLite VFS (power-cut tests). Raises StoreTooNew, StoreCorrupt, StoreError.
    """
    clocks = clocks or Clocks()
    migrations = shipped_migrations() if migrations is None else migrations
    connections: list[AsyncConnection] = []
    try:
        writer = await apsw.Connection.as_async(str(path), vfs=vfs)
        connections.append(writer)
        epoch, start_seq, newest = await writer.async_run(
            _prepare, writer, path, migrations, clocks, new_epoch_id
        )
        for _ in range(READERS):
            reader = await apsw.Connection.as_async(
                str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs
            )
            connections.append(reader)
            await reader.async_run(_configure_reader, reader)
        store = Store(path, writer, connections[1:], clocks, epoch, start_seq, newest)
        yield store
        with trio.CancelScope(shield=True):
            await writer.async_run(_close_cleanly, writer)
    except apsw.NotADBError as exc:
        raise StoreCorrupt(f"{path} is not a database") from exc
    except apsw.CorruptError as exc:
        raise StoreCorrupt(f"{path} is damaged: {exc}") from exc
    except apsw.CantOpenError as exc:
        raise StoreError(f"{path} can't be opened: {exc}") from exc
    finally:
        # a connection's thread is no daemon thread: left open, the process would never end
        with trio.CancelScope(shield=True):
            for connection in reversed(connections):
                await connection.aclose(force=True)


def _prepare(
    db: apsw.Connection,
    path: Path,
    migrations: Sequence[Migration],
    clocks: Clocks,
    new_epoch_id: Callable[[], str],
) -> tuple[str, int, int]:
    db.set_busy_timeout(5_000)
    application_id = db.pragma("application_id")
    version = int(db.pragma("user_version"))
    if application_id == 0 and db.pragma("schema_version") == 0:
        # 4 KiB pages hold most compressed documents; auto_vacuum must precede the first table
        db.pragma("auto_vacuum", "INCREMENTAL")
        db.pragma("application_id", APPLICATION_ID)
    elif application_id != APPLICATION_ID:
        raise StoreCorrupt(f"{path} is a database of another program; move it away")
    newest_known = migrations[-1].number
    if version > newest_known:
        raise StoreTooNew(
            f"{path} has schema {version}, this modelkeep knows up to {newest_known}:"
            " install the newer modelkeep, or restore a backup from the folder beside it"
        )
    db.pragma("journal_mode", "WAL")
    db.pragma("foreign_keys", True)
    db.pragma("temp_store", "MEMORY")
    db.pragma("cache_size", -16_000)
    db.pragma("synchronous", "FULL")
    _migrate(db, path, version, migrations)
    return _begin_epoch(db, clocks, new_epoch_id)


def _migrate(
    db: apsw.Connection, path: Path, version: int, migrations: Sequence[Migration]
) -> None:
    for migration in migrations:
        if migration.number <= version:
            continue
        if version:
            _back_up(db, path, version)
        failpoints.hit("store.before_migration")
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute(migration.sql)
            db.pragma("user_version", migration.number)
            failpoints.hit("store.before_migration_commit")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        log.info("schema migrated", extra={"facts": {"from": version, "to": migration.number}})
        version = migration.number


def _back_up(db: apsw.Connection, path: Path, version: int) -> None:
    """A whole copy beside the database before its schema changes; complete or absent."""
    target = path.with_name(f"{path.name}.v{version}.backup")
    partial = target.with_name(target.name + ".part")
    partial.unlink(missing_ok=True)
    copy = apsw.Connection(str(partial))
    try:
        with copy.backup("main", db, "main") as backup:
            while not backup.done:
                backup.step(10_000)
        copy.pragma("journal_mode", "DELETE")
    finally:
        copy.close()
    partial.rename(target)


def _begin_epoch(
    db: apsw.Connection, clocks: Clocks, new_epoch_id: Callable[[], str]
) -> tuple[str, int, int]:
    meta: dict[Any, Any] = dict(db.execute("SELECT * FROM meta"))
    newest = last_seq(db)
    epoch, start_seq = meta.get("epoch"), meta.get("epoch_start_seq", 0)
    db.execute("BEGIN IMMEDIATE")
    if epoch is None or not meta.get("clean_stop"):
        epoch, start_seq = new_epoch_id(), newest
    db.executemany(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [
            ("epoch", epoch),
            ("epoch_start_seq", start_seq),
            ("clean_stop", 0),
            ("started_ms", clocks.wall_ms()),
        ],
    )
    db.execute("COMMIT")
    return str(epoch), int(start_seq), newest


def _configure_reader(db: apsw.Connection) -> None:
    db.set_busy_timeout(5_000)
    db.pragma("query_only", True)
    db.pragma("temp_store", "MEMORY")
    db.pragma("cache_size", -8_000)


def _close_cleanly(db: apsw.Connection) -> None:
    db.execute("PRAGMA synchronous = FULL")
    db.execute("UPDATE meta SET value = 1 WHERE key = 'clean_stop'")
    db.pragma("optimize")
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

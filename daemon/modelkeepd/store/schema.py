"""Brings a database file to the schema this program knows, or refuses to touch it.

Owns the checks before the first write, the migrations and the copy kept before each. Files that
are not ours, are damaged, or come from a newer modelkeep are left exactly as they are.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import apsw

from modelkeepd import failpoints
from modelkeepd.store.failures import StoreCorrupt, StoreTooNew
from modelkeepd.store.migrations import Migration
from modelkeepd.store.transaction import transaction

log = logging.getLogger(__name__)

# "mkep": lets `file` and us tell this database from a foreign one
APPLICATION_ID = 0x6D6B6570


def refuse_emptied(path: Path) -> None:
    """Raise StoreCorrupt for an empty file that once was a database.

    SQLite takes an empty file for a new database and deletes the log beside it. Nothing here
    opens the file: closing a second descriptor of it would drop SQLite's locks.
    """
    if _size_bytes(path):
        return
    wal = path.with_name(path.name + "-wal")
    if _size_bytes(wal):
        raise StoreCorrupt(
            f"{path} is missing or empty, but {wal.name} beside it is not: the database was cut"
            " off or only half copied. Put the whole set back, or move the rest away to start"
            " afresh"
        )
    backups = sorted(path.parent.glob(f"{path.name}.v*.backup")) if path.exists() else []
    if backups:
        raise StoreCorrupt(
            f"{path} is empty, but there is a backup of it. Copy {backups[-1].name} over it, or"
            " delete the empty file to start afresh"
        )


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def prepare(db: apsw.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    """Recognize the file, set the writer up and migrate.

    Raises StoreCorrupt or StoreTooNew before anything is written.
    """
    db.set_busy_timeout(5_000)
    application_id = db.pragma("application_id")
    is_new = application_id == 0 and db.pragma("schema_version") == 0
    if not is_new and application_id != APPLICATION_ID:
        raise StoreCorrupt(
            f"{path} is a database of another program (its application id is"
            f" {application_id:#x}). Move it away, modelkeep will not touch it"
        )
    version = int(db.pragma("user_version"))
    newest_known = migrations[-1].number
    if version > newest_known:
        raise StoreTooNew(
            f"{path} has schema {version}, this modelkeep knows up to {newest_known}."
            " Install the newer modelkeep again, or put back a backup from the folder beside it"
            f" ({path.name}.v*.backup)"
        )
    if is_new:
        # must precede the first table
        db.pragma("auto_vacuum", "INCREMENTAL")
        db.pragma("application_id", APPLICATION_ID)
    db.pragma("journal_mode", "WAL")
    db.pragma("foreign_keys", True)
    db.pragma("temp_store", "MEMORY")
    db.pragma("cache_size", -16_000)
    db.pragma("synchronous", "FULL")
    for migration in migrations:
        if migration.number > version:
            if version:
                _back_up(db, path, version)
            _migrate(db, version, migration)
            version = migration.number


def _migrate(db: apsw.Connection, version: int, migration: Migration) -> None:
    failpoints.hit("store.before_migration")
    with transaction(db, "migration_commit"):
        db.execute(migration.sql)
        db.pragma("user_version", migration.number)
    log.info("schema migrated", extra={"facts": {"from": version, "to": migration.number}})


def _back_up(db: apsw.Connection, path: Path, version: int) -> None:
    """A whole, checked copy beside the database before its schema changes; complete or absent."""
    target = path.with_name(f"{path.name}.v{version}.backup")
    partial = target.with_name(target.name + ".part")
    _remove_set(partial)
    try:
        copy = apsw.Connection(str(partial))
        try:
            with copy.backup("main", db, "main") as backup:
                while not backup.done:
                    backup.step(10_000)
            # one file that needs nothing beside it; the switch also syncs it
            copy.pragma("journal_mode", "DELETE")
            verdict = _check(copy)
        finally:
            copy.close()
        if verdict != "ok":
            raise StoreCorrupt(
                f"{path} is damaged, found when it was copied before a change of its schema"
                f" ({verdict}). Nothing was changed; put back an older copy"
            )
    except BaseException:
        _remove_set(partial)  # on a full disk it would be in the way
        raise
    failpoints.hit("store.before_backup_rename")
    partial.rename(target)
    failpoints.hit("store.after_backup_rename")
    _sync_folder(path.parent)
    failpoints.hit("store.after_backup_folder_sync")


def _check(db: apsw.Connection) -> str:
    try:
        return str(db.pragma("quick_check"))
    except apsw.CorruptError as exc:  # too damaged even for a list of the damage
        return str(exc)


def _remove_set(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""What can go wrong with the database, in the store's own words.

Owns the errors callers see and the translation of SQLite's into them. An error of a unit's own
SQL (a broken constraint, a wrong statement) is a fault of that unit and passes through.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw


class StoreError(Exception):
    """The database could not do what was asked; nothing of the unit was kept."""


class StoreFull(StoreError):
    """The disk of the database is full."""


class StoreTooNew(StoreError):
    """The database was written by a newer modelkeep."""


class StoreCorrupt(StoreError):
    """The file is damaged or is not modelkeep's."""


@contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """Raise StoreFull, StoreCorrupt or StoreError for what SQLite says of its file."""
    try:
        yield
    except apsw.FullError as exc:
        raise _full(path, doing) from exc
    except (apsw.CorruptError, apsw.NotADBError) as exc:
        raise StoreCorrupt(
            f"{path} is damaged ({doing}: {exc}). Stop modelkeep, move the file and those named"
            f" after it away, and put back a copy or a backup ({path.name}.v*.backup) if there is"
            " one; without one the hub is fetched again and the folders are read again"
        ) from exc
    except apsw.CantOpenError as exc:
        raise StoreError(f"{path} can't be opened: {why_not_openable(path)}") from exc
    except (apsw.ReadOnlyError, apsw.PermissionsError) as exc:
        raise StoreError(f"{path} can't be written ({doing}): {why_not_openable(path)}") from exc
    except apsw.IOError as exc:
        # the shared-memory file is given its blocks before use; there is no FullError for that
        if getattr(exc, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE:
            raise _full(path, doing) from exc
        raise StoreError(
            f"{path}: reading or writing failed ({doing}: {exc}); nothing of it was kept."
            " Look at the system log for trouble with this disk"
        ) from exc
    except (apsw.BusyError, apsw.LockedError, apsw.ProtocolError) as exc:
        raise StoreError(
            f"{path} is in use by another program ({doing}: {exc}); close that program"
        ) from exc


def why_not_openable(path: Path) -> str:
    """The likely reason in words: SQLite itself says only that it could not."""
    folder = path.parent
    if path.is_dir():
        return "it is a folder; move it away"
    if not folder.is_dir():
        return f"the folder {folder} does not exist; create it"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return "this user may not read and write the file; mend its owner or its permissions"
    if not os.access(folder, os.W_OK | os.X_OK):
        return (
            f"this user may not write in the folder {folder}, and the database needs files"
            " beside it; mend the folder's owner or its permissions"
        )
    return "too many files may be open, or the disk has failed; the system log may say more"


def _full(path: Path, doing: str) -> StoreFull:
    return StoreFull(
        f"the disk of {path} is full ({doing}); what was kept before is safe, this was not"
        " kept. Free some space and try again"
    )

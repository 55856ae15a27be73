"""Looks at paths and commits what is found: the one way from the disk into the library's rows.

Owns the order of a look: stamps and fingerprints first, then the rows they may belong to, then
the decision, then one transaction. One look at a time, so that two of them never decide on the
same file. Reads 128 KiB of files that are new or differ, nothing of others; never decides that
files are gone while the root they lie in is not the folder it was.
"""

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path

import apsw
import trio

from modelkeepd.library.differences import Counts, Difference, Gone, apply_differences
from modelkeepd.library.fingerprint import Stamp, quick_fingerprint
from modelkeepd.library.paths import below, from_text, signed
from modelkeepd.library.resolve import (
    Known,
    Place,
    Sighting,
    read_at_paths,
    read_candidates,
    resolve,
)
from modelkeepd.library.roots import Root
from modelkeepd.store import Durability, Store

BATCH = 512


class Clerk:
    def __init__(self, store: Store, found: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._found = found
        # Of its own: a walk waits for the clerk in a thread that holds one of the walks' places.
        self._disk = trio.CapacityLimiter(1)
        self._one_at_a_time = trio.Lock()

    async def enter(self, root: Root, paths: Sequence[str]) -> Counts:
        """Take in regular files (texts) of a root that are new or differ from their rows."""
        counts = Counts()
        for start in range(0, len(paths), BATCH):
            async with self._one_at_a_time:
                counts.add(await self._enter(root, paths[start : start + BATCH]))
        return counts

    async def _enter(self, root: Root, paths: Sequence[str]) -> Counts:
        seen, unreadable = await trio.to_thread.run_sync(_fingerprints, paths, limiter=self._disk)
        rows, candidates = await self._store.read(partial(_read_known, seen=seen))
        sightings = [
            Sighting(root.root_id, path, stamp, fingerprint, rows.get(path))
            for path, stamp, fingerprint in seen
        ]
        differences = await trio.to_thread.run_sync(
            resolve, sightings, candidates, cache(look), limiter=self._disk
        )
        counts = await self._commit(differences)
        if unreadable:
            counts.skipped["unreadable file"] = unreadable
        return counts

    async def lose(self, root: Root, paths: Sequence[str]) -> Counts:
        """Nothing was seen at these paths: rows of them and below them are gone if that holds."""
        counts = Counts()
        for start in range(0, len(paths), BATCH):
            async with self._one_at_a_time:
                rows = await self._store.read(
                    partial(_read_below, root=root, paths=paths[start : start + BATCH])
                )
                gone, there = await trio.to_thread.run_sync(
                    _really_gone, root, rows, limiter=self._disk
                )
                for first in range(0, len(gone), BATCH):
                    counts.add(await self._commit(gone[first : first + BATCH]))
            # Not seen by the walk but there: a name that it passes over, adopted from a download.
            counts.add(await self.enter(root, there))
        return counts

    async def _commit(self, differences: Sequence[Difference]) -> Counts:
        if not differences:
            return Counts()
        counts = await self._store.apply(
            partial(apply_differences, differences=differences),
            durability=Durability.FULL,
            name="library.apply_differences",
        )
        self._found()
        return counts


def _fingerprints(paths: Sequence[str]) -> tuple[list[tuple[str, Stamp, bytes]], int]:
    seen: list[tuple[str, Stamp, bytes]] = []
    unreadable = 0
    for path in paths:
        try:
            seen.append((path, *quick_fingerprint(from_text(path))))
        except FileNotFoundError:
            continue
        except OSError:
            unreadable += 1
    return seen, unreadable


def _read_known(
    db: apsw.Connection, seen: Sequence[tuple[str, Stamp, bytes]]
) -> tuple[dict[str, Known], dict[int, Known]]:
    rows = read_at_paths(db, (path for path, _, _ in seen))
    return rows, read_candidates(db, ((stamp, fingerprint) for _, stamp, fingerprint in seen))


def _read_below(
    db: apsw.Connection, root: Root, paths: Sequence[str]
) -> list[tuple[int, str, int, Stamp]]:
    rows: dict[int, tuple[int, str, int, Stamp]] = {}
    for path in paths:
        for file_id, at, size, mtime, inode, device in db.execute(
            "SELECT file_id, path, size_bytes, mtime_ns, inode, device FROM library_file"
            " WHERE state = 'present' AND root_id = ?1"
            " AND (path = ?2 OR (path >= ?3 AND path < ?4))",
            (root.root_id, path, *below(path)),
        ):
            stamp = Stamp(int(size), int(mtime), int(inode), int(device))
            rows[int(file_id)] = (int(file_id), str(at), int(device), stamp)
    return list(rows.values())


def _really_gone(
    root: Root, rows: Iterable[tuple[int, str, int, Stamp]]
) -> tuple[list[Gone], list[str]]:
    gone: list[Gone] = []
    there: list[str] = []
    for file_id, path, device, stamp in rows:
        try:
            place = place_of(path)
        except OSError:
            continue  # cannot be told: an error of the disk or of permissions is no absence
        if place is None:
            if device == root.device or not _volume_is_away(path, device):
                gone.append(Gone(file_id, path))
        elif (
            Stamp(
                place.stamp.size_bytes,
                place.stamp.mtime_ns,
                signed(place.stamp.inode),
                signed(place.stamp.device),
            )
            != stamp
        ):
            there.append(path)
    # Asked last: if the root was pulled away meanwhile, every file below it seemed gone.
    if identity_of(root.path) != (root.device, root.inode):
        return [], []
    return gone, there


def _volume_is_away(path: str, device: int) -> bool:
    """Was the file on a volume, mounted inside the root, that is not mounted now?"""
    for folder in Path(from_text(path)).parents:
        try:
            return signed(folder.lstat().st_dev) != device
        except OSError:
            continue
    return True


def identity_of(folder: str) -> tuple[int, int] | None:
    """The signed (device, inode) of a folder (text), None when there is none."""
    try:
        status = Path(from_text(folder)).stat()
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode):
        return None
    return signed(status.st_dev), signed(status.st_ino)


def place_of(path: str) -> Place | None:
    """The regular file at a path (text), None when there is none; OSError if it cannot be told."""
    try:
        status = os.lstat(from_text(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Place(Stamp.of(status), status.st_nlink)


def look(path: str) -> Place | None:
    try:
        return place_of(path)
    except OSError:
        return None

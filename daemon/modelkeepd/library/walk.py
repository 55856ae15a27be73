"""Walks a folder in the order of its paths and compares it with the rows of the library.

Owns what counts as seen: regular model files, in folders that can be read, through no link.
Everything else is passed over and counted by reason. Entries come in the order of their texts,
which is the order the database keeps them in, so that comparing is one merge with neither side
held in memory. Synchronous, for a worker thread; changes nothing.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple

from modelkeepd.library import names
from modelkeepd.library.paths import from_text, signed, to_text


class Entry(NamedTuple):
    """A regular file: what the disk says of it, or, in the same order, what its row says."""

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int
    device: int


Plain = tuple[str, int, int, int, int]


class Unreadable(NamedTuple):
    """A folder whose content cannot be told: rows below it are neither confirmed nor gone."""

    prefix: str


def walk(
    folder: str,
    skipped: Counter[str],
    *,
    excluded: Collection[str] = (),
    check: Callable[[], None] = lambda: None,
) -> Iterator[Plain | Unreadable]:
    """Yield the model files below `folder` (an OS path) with their stats, ordered by text.

    `excluded` are folders (texts) that belong to other roots; `check` runs once a folder and may
    raise to stop. A folder that cannot be listed, also the first one, yields Unreadable.
    """
    stack = [_listing(folder, to_text(folder), skipped)]
    while stack:
        for item in stack[-1]:
            if isinstance(item, tuple):
                yield item
                continue
            check()
            text = item[:-1]
            if text in excluded:
                skipped["other root"] += 1
                yield Unreadable(item)
                continue
            stack.append(_listing(from_text(text), text, skipped))
            break
        else:
            stack.pop()


def _listing(folder: str, text: str, skipped: Counter[str]) -> Iterator[Plain | Unreadable | str]:
    """One folder's model files, and its sub-folders as texts that end in '/', in order."""
    prefix = text if text.endswith("/") else text + "/"
    found: list[tuple[str, os.DirEntry[str]]] = []
    unfinished: list[str] = []
    suffixes = names.MODEL_SUFFIXES
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                ending = name.rpartition(".")[2].lower()
                if ending in suffixes and entry.is_file(follow_symlinks=False):
                    if name[0] != ".":
                        found.append((name if name.isascii() else to_text(name), entry))
                    else:
                        skipped["hidden"] += 1
                elif entry.is_dir(follow_symlinks=False):
                    if names.enters(name):
                        found.append((to_text(name) + "/", entry))
                    else:
                        skipped["folder not entered"] += 1
                elif ending in names.UNFINISHED_SUFFIXES:
                    skipped["unfinished"] += 1
                    if ending == "aria2":
                        unfinished.append(to_text(name[:-6]))
                else:
                    skipped[_other(entry)] += 1
    except OSError:
        skipped["unreadable folder"] += 1
        yield Unreadable(prefix)
        return
    found.sort(key=itemgetter(0))
    for name, entry in found:
        if name[-1] == "/":
            yield prefix + name
        elif unfinished and name in unfinished:
            skipped["unfinished"] += 1
        else:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError:
                skipped["unreadable file"] += 1
                continue
            # A plain tuple in Entry's order: there are a hundred thousand of them.
            yield (
                prefix + name,
                status.st_size,
                status.st_mtime_ns,
                status.st_ino,
                status.st_dev,
            )


def _other(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_symlink():
            return "link"
        if entry.is_file(follow_symlinks=False):
            return "not a model"
    except OSError:
        return "unreadable file"
    return "special file"


def compare(
    entries: Iterable[Plain | Unreadable], rows: Iterable[Plain], counts: Counter[str]
) -> Iterator[tuple[str, Entry | None, Entry | None]]:
    """Merge both ordered sides; yield only what differs, as (path, seen or None, row or None).

    A file without a row is new, a row without a file was not seen, both together differ.
    `counts["seen"]` is how many files the walk found.
    """
    remaining = iter(rows)
    row = next(remaining, None)
    same = 0
    seen = 0
    for entry in entries:
        if entry == row:  # nearly always: one comparison in C
            same += 1
            row = next(remaining, None)
            continue
        if isinstance(entry, Unreadable):
            prefix = entry.prefix
            while row is not None and row[0] < prefix:
                yield row[0], None, Entry(*row)
                row = next(remaining, None)
            while row is not None and row[0].startswith(prefix):
                row = next(remaining, None)
            continue
        seen += 1
        path = entry[0]
        while row is not None and row[0] < path:
            yield row[0], None, Entry(*row)
            row = next(remaining, None)
        if row is None or row[0] != path:
            yield path, Entry(*entry), None
            continue
        if row[1:3] != entry[1:3] or row[3:] != (signed(entry[3]), signed(entry[4])):
            yield path, Entry(*entry), Entry(*row)
        row = next(remaining, None)
    while row is not None:
        yield row[0], None, Entry(*row)
        row = next(remaining, None)
    counts["seen"] += same + seen

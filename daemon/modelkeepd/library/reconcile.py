"""Makes the rows of a root, or of one folder in it, agree with the disk.

Owns the pass: a walk in a worker thread, merged with the rows as they come from the database in
pages; what differs goes to the clerk in batches; what was not seen is asked about at the end,
when a move has had the chance to be recognized by its new path. A file known by size, time and
inode costs one `stat`.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import cast

import apsw
import trio

from modelkeepd.library.clerk import BATCH, Clerk
from modelkeepd.library.differences import Counts
from modelkeepd.library.paths import below, from_text
from modelkeepd.library.roots import Root
from modelkeepd.library.walk import Plain, compare, walk
from modelkeepd.store import Store

PAGE = 16_384
"""Rows held at once; each page is a hop between threads."""


@dataclass(slots=True)
class Outcome:
    counts: Counts = field(default_factory=Counts)
    unsettled: list[str] = field(default_factory=list)
    """Files that changed so lately that they may still be written."""


async def reconcile(
    store: Store,
    clerk: Clerk,
    root: Root,
    *,
    disk: trio.CapacityLimiter,
    folder: str | None = None,
    excluded: Collection[str] = (),
    settled_before_ns: int | None = None,
) -> Outcome:
    """Walk the root, or one folder (text) of it. Files with a later time than `settled_before_ns`
    are returned as unsettled and left alone."""
    outcome = Outcome()
    skipped: Counter[str] = Counter()
    vanished: list[str] = []
    start = root.path if folder is None else folder

    def pages() -> Iterator[list[Plain]]:
        low, high = below(start)
        after = low
        while True:
            query = partial(_read_page, root_id=root.root_id, after=after, high=high)
            page = trio.from_thread.run(store.read, query)
            yield page
            if len(page) < PAGE:
                return
            after = page[-1][0]

    def run() -> None:
        batch: list[str] = []
        entries = walk(
            from_text(start),
            skipped,
            excluded=excluded,
            check=trio.from_thread.check_cancelled,
        )
        rows = chain.from_iterable(pages())
        for path, seen, _ in compare(entries, rows, skipped):
            if seen is None:
                vanished.append(path)
            elif settled_before_ns is not None and seen.mtime_ns > settled_before_ns:
                outcome.unsettled.append(path)
            else:
                batch.append(path)
                if len(batch) == BATCH:
                    outcome.counts.add(trio.from_thread.run(clerk.enter, root, batch))
                    batch = []
        if batch:
            outcome.counts.add(trio.from_thread.run(clerk.enter, root, batch))

    await trio.to_thread.run_sync(run, limiter=disk)
    outcome.counts.add(await clerk.lose(root, vanished))
    outcome.counts.seen = skipped.pop("seen", 0)
    outcome.counts.add(Counts(skipped=dict(skipped)))
    return outcome


def _read_page(db: apsw.Connection, root_id: int, after: str, high: str) -> list[Plain]:
    rows = db.execute(
        "SELECT path, size_bytes, mtime_ns, inode, device FROM library_file"
        " WHERE state = 'present' AND path > ? AND path < ? AND +root_id = ?"
        f" ORDER BY path LIMIT {PAGE}",
        (after, high, root_id),
    )
    return cast(list[Plain], rows.fetchall())  # in Entry's order

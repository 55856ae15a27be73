"""The library's service: what the daemon runs and what the RPC calls.

Owns the life of the library's loops, the roots that settings and users name, and the answers to
requests. It never changes a file in a watched folder.
"""

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import apsw
import trio

from modelkeep_protocol import schema
from modelkeep_protocol.errors import (
    CONFLICT,
    INVALID,
    NOT_FOUND,
    UNAVAILABLE,
    ModelkeepError,
)
from modelkeepd.clocks import Clocks
from modelkeepd.library import listing
from modelkeepd.library import roots as root_units
from modelkeepd.library.clerk import Clerk
from modelkeepd.library.differences import Counts
from modelkeepd.library.hashing import HashQueue, Result, Task, read_task
from modelkeepd.library.inbox import BOUND
from modelkeepd.library.layout import canonical_layout, detect_layout
from modelkeepd.library.ownership import anything_to_match, match_catalog
from modelkeepd.library.paths import from_text, inside, to_text
from modelkeepd.library.rounds import Pace, Rounds
from modelkeepd.library.watch import MakeWatch, system_watch
from modelkeepd.settings import Library as LibrarySettings
from modelkeepd.store import Durability, Store, Tx, read_events

log = logging.getLogger(__name__)

MATCH_PAUSE_S = 3.0
"""A sync writes a page every moment; the catalog is asked again at most this often."""


class LibraryService:
    """Made by the composition root; ``run`` under supervision."""

    name = "library"
    essential = False

    def __init__(
        self,
        store: Store,
        settings: LibrarySettings,
        clocks: Clocks,
        *,
        probe_s: float = 2.0,
        poll_s: float = 30.0,
        match_pause_s: float = MATCH_PAUSE_S,
        inbox_bound: int = BOUND,
        read: Callable[[Task, Callable[[], None]], Result] = read_task,
        make_watch: MakeWatch = system_watch,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clerk = Clerk(store, self._new_work)
        self._match_pause_s = match_pause_s
        self._rounds = Rounds(
            store,
            clocks,
            self._clerk,
            Pace(settings.settle_s, settings.reconcile_every_s, probe_s, poll_s),
            inbox_bound=inbox_bound,
            make_watch=make_watch,
        )
        self._hashes = HashQueue(store, clocks, settings.hash_threads, self._rounds.note, read)

    def _new_work(self) -> None:
        self._hashes.wake()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the rows true to the disk until canceled. Ready once the roots are known."""
        await self._open_configured_roots()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._rounds.run)
            nursery.start_soon(self._hashes.run)
            nursery.start_soon(self._follow_log)
            task_status.started()

    async def _open_configured_roots(self) -> None:
        wanted = await trio.to_thread.run_sync(
            lambda: [
                (_absolute(root.path), _layout(_absolute(root.path), root.layout))
                for root in self._settings.roots
            ]
        )
        await self._store.apply(
            partial(_configure_roots, wanted=[(to_text(path), kind) for path, kind in wanted]),
            durability=Durability.FULL,
            name="library.configure_roots",
        )

    async def _follow_log(self) -> None:
        """Whenever the catalog has learned, name what it now knows; complete what was placed."""
        seen = 0
        while True:
            if await self._store.read(anything_to_match):
                await self._match()
            await trio.sleep(self._match_pause_s)
            learned = False
            while not learned:
                newest = await self._store.feed.changed(seen)
                learned, placed = await self._store.read(
                    partial(_news, after_seq=seen, newest=newest)
                )
                seen = newest
                if placed:
                    self._hashes.wake()

    async def _match(self) -> None:
        after: int | None = 0
        while after is not None:
            _, after = await self._store.apply(
                partial(match_catalog, after_file_id=after),
                durability=Durability.FULL,
                name="library.match_catalog",
            )

    # -- what the RPC calls

    async def list(self, wanted: schema.ListFiles) -> schema.LibraryFiles:
        return await self._store.read(partial(listing.read_files, wanted=wanted))

    async def roots(self) -> schema.Roots:
        watching = {
            root_id: (state.how, state.warning) for root_id, state in self._rounds.watched.items()
        }
        return await self._store.read(partial(listing.read_root_list, watching=watching))

    async def status(self) -> schema.LibraryStatus:
        return await self._store.read(listing.read_status)

    async def add(self, path: str, layout: str = "auto") -> schema.Roots:
        """Watch a folder; its files are taken in from now on."""
        if layout != "auto" and canonical_layout(layout) is None:
            raise ModelkeepError(
                INVALID, f"there is no layout {layout!r}", "auto, comfyui, a1111 or flat"
            )
        if not path.startswith(("/", "~")):
            raise ModelkeepError(
                INVALID, f"{path!r} is not an absolute path", "name the folder by its whole path"
            )
        folder = await trio.to_thread.run_sync(_absolute, from_text(path))
        kind = await trio.to_thread.run_sync(_layout, folder, layout)
        if not await trio.Path(folder).is_dir():
            raise ModelkeepError(
                NOT_FOUND,
                f"{path} is not a folder, or it cannot be reached",
                "create it or check its spelling; mount its volume if it is on one",
            )
        await self._store.apply(
            partial(root_units.add_root, path=to_text(folder), layout=kind, origin="user"),
            durability=Durability.FULL,
            name="library.add_root",
        )
        await self._rounds.probe()
        return await self.roots()

    async def remove(self, path: str) -> schema.Roots:
        """Stop watching a folder and forget its files; they stay on the disk."""
        root = await self._root_at(path)
        if root.origin == "config":
            raise ModelkeepError(
                CONFLICT,
                f"{root.path} is named in config.toml",
                "remove it from [[library.roots]] there and restart the daemon",
            )
        await self._store.apply(
            partial(root_units.remove_root, path=root.path),
            durability=Durability.FULL,
            name="library.remove_root",
        )
        await self._rounds.probe()
        return await self.roots()

    async def scan(self, path: str = "") -> schema.ScanResult:
        """Walk all roots, one, or the one that a folder lies in, now; returns what was found.

        A folder that has taken the place of an offline root is accepted when asked for by name.
        """
        wanted = await self._rounds.read_roots()
        if path:
            wanted = [await self._root_at(path, below=True)]
            await self._rounds.probe(accept=wanted[0].root_id)
        else:
            await self._rounds.probe()
        again = {root.root_id: root for root in await self._rounds.read_roots()}
        wanted = [again[root.root_id] for root in wanted if root.root_id in again]
        if path and wanted and not wanted[0].online:
            raise ModelkeepError(
                UNAVAILABLE,
                f"{wanted[0].path} is offline; its files are kept in the list",
                "mount its volume or put the folder back",
                retryable=True,
            )
        items: list[schema.ScanCounts] = []
        for root in wanted:
            if root.online:
                items.append(_counts(root.path, await self._rounds.walk(root, asked=True)))
        return schema.ScanResult(items)

    async def _root_at(self, path: str, *, below: bool = False) -> root_units.Root:
        known = await self._rounds.read_roots()
        folder = await trio.to_thread.run_sync(_absolute, from_text(path))
        spellings = (path.rstrip("/") or "/", to_text(folder))
        for root in sorted(known, key=lambda each: -len(each.path)):
            for spelling in spellings:
                if root.path == spelling or (below and inside(root.path, spelling)):
                    return root
        raise ModelkeepError(
            NOT_FOUND,
            f"{path} is not a watched folder",
            "`modelkeep library roots` lists them, `modelkeep library add DIR` adds one",
        )


def _news(db: apsw.Connection, after_seq: int, newest: int) -> tuple[bool, bool]:
    """Did the catalog learn, was a download placed, in the events after this one?"""
    learned = placed = False
    while after_seq < newest and not learned:
        events = read_events(db, after_seq, topics=("model", "sync", "library"))
        learned = any(event.kind in ("page", "run.finished") for event in events)
        placed = placed or any(
            event.payload.get("placed") or event.payload.get("registered") for event in events
        )
        after_seq = events[-1].seq if events else newest
    return learned, placed


def _configure_roots(tx: Tx, wanted: Sequence[tuple[str, str]]) -> None:
    """Make the roots of the settings exist; those that have left the settings are dropped."""
    for root in root_units.read_roots(tx.db):
        if root.origin == "config" and root.path not in {path for path, _ in wanted}:
            root_units.remove_root(tx, root.path)
    for path, layout in wanted:
        root_units.add_root(tx, path, layout, "config")


def _absolute(path: str) -> str:
    """Links resolved: rows, watches and downloads must call a folder by one name.

    Raises ModelkeepError for what no system takes as a path.
    """
    if "\0" in path:
        raise ModelkeepError(INVALID, "a path has no NUL characters")
    try:
        return os.path.realpath(Path(path).expanduser())
    except (ValueError, RuntimeError) as exc:  # a NUL; the home of nobody
        raise ModelkeepError(
            INVALID, f"{path!r} is no path: {exc}", "name the folder by its whole path"
        ) from None


def _layout(folder: str, layout: str) -> str:
    if layout != "auto":
        return canonical_layout(layout) or "flat"
    try:
        return detect_layout(each.name for each in Path(folder).iterdir() if each.is_dir())
    except OSError:
        return "flat"


def _counts(path: str, counts: Counts) -> schema.ScanCounts:
    return schema.ScanCounts(
        path=path,
        seen=counts.seen,
        new=counts.new,
        changed=counts.changed,
        moved=counts.moved,
        gone=counts.gone,
        skipped=counts.skipped,
    )

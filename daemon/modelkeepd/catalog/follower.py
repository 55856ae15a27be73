"""Keeps the search index true to the store: catches up, commits, repairs, rebuilds.

The store's models carry the seq of their last change; the index carries, in its marker, the seq up
to which it has them. Everything here is safe to repeat and to kill at any instant: the marker moves
in the commit that brings the models. Searches go on meanwhile, on what is committed.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw
import trio

from modelkeepd import failpoints
from modelkeepd.catalog import rows
from modelkeepd.catalog.index import CatalogIndex, IndexDamaged, Marker
from modelkeepd.catalog.rows import ParseModel, Position, SourceRow
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_MODELS = 500
# Fresh changes are searchable after this at the latest, while more keep coming.
MIN_COMMIT_INTERVAL_S = 0.5
# ... unless commits are slow: they may take a tenth of the time. Also the pace of a long backlog.
MAX_COMMIT_INTERVAL_S = 5.0
# Most events are not about models: look for changed ones this often at most.
LOOK_INTERVAL_S = 0.1
WRITER_REST_AFTER_S = 10.0
# Checking reads the whole index; queries that fail for their own reasons must not cause it often.
FILE_CHECK_INTERVAL_S = 60.0
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0


class IndexFollower:
    """The one task that writes the index. ``index`` is None until ``open``."""

    def __init__(self, store: Store, path: Path, codec: DocumentCodec, parse: ParseModel) -> None:
        self.index: CatalogIndex | None = None
        self.is_caught_up = False
        self._followed_seq = -1
        self._progress = trio.Event()
        self._store = store
        self._path = path
        self._codec = codec
        self._parse = parse
        self._limiter = trio.CapacityLimiter(1)
        self._suspected = trio.Event()
        self._files_checked_at = -FILE_CHECK_INTERVAL_S
        self._is_counted = False  # compared with the store's number of models
        self._has_miscounted = False
        self._looked_at = self._committed_at = -MAX_COMMIT_INTERVAL_S
        self._commit_interval_s = MIN_COMMIT_INTERVAL_S

    async def open(self) -> None:
        """Open the index, or begin an empty one where there is none that can be used."""
        self.index = await self._in_thread(partial(CatalogIndex.open_or_create, self._path))

    def suspect(self) -> None:
        """A search failed in a way that a damaged index would explain: look at its files."""
        since_s = trio.current_time() - self._files_checked_at
        if since_s > FILE_CHECK_INTERVAL_S or (self.index is not None and self.index.is_gone):
            self.is_caught_up = False
            self._suspected.set()

    async def reached(self, seq: int) -> None:
        """Wait until searches see everything up to the event ``seq``."""
        while not (self.is_caught_up and self._followed_seq >= seq):
            await self._progress.wait()
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Let go of the index. What was not committed is fetched again after the next start."""
        index, self.index = self.index, None
        if index is not None:
            with trio.CancelScope(shield=True):
                await self._in_thread(index.close)

    async def follow(self) -> None:
        """Run until canceled. Only a broken store ends it otherwise."""
        retry_s = 0.0
        needs_check = True
        while True:
            try:
                if needs_check:
                    await self._check_files()
                    await self._agree_on_epoch()
                    needs_check = False
                seen = self._store.feed.last_seq
                await self._catch_up()
                self._note_progress(seen)
                retry_s = 0.0
                needs_check = await self._wait(seen)
            except IndexDamaged as exc:
                self.is_caught_up = False
                needs_check = True
                log.warning(
                    "search index", extra={"facts": {"trouble": str(exc), "retry_s": retry_s}}
                )
                await trio.sleep(retry_s)
                retry_s = min(max(2 * retry_s, _FIRST_RETRY_S), _LAST_RETRY_S)
                await self._recover(exc)

    # --- health ---

    async def _recover(self, exc: IndexDamaged) -> None:
        index = self._opened()
        try:
            await self._in_thread(index.close)
            # with a full disk what is committed is fine and stays searchable
            if not exc.disk_full or index.is_gone:
                await self._begin_anew()
        except (IndexDamaged, OSError) as again:
            log.error("search index can't be rebuilt", extra={"facts": {"why": str(again)}})

    async def _begin_anew(self) -> None:
        await self._in_thread(self._opened().close)
        self.index = await self._in_thread(partial(CatalogIndex.create, self._path))
        self._is_counted = False

    async def _check_files(self) -> None:
        index = self._opened()
        if index.is_gone:
            raise IndexDamaged("its folder was removed")
        self._files_checked_at = trio.current_time()
        damaged = await self._in_thread(index.damaged_file)
        if damaged is not None:
            raise IndexDamaged(f"{damaged} has a wrong checksum")

    async def _agree_on_epoch(self) -> None:
        """Forget what a power cut took back from the store after the index had it."""
        index = self._opened()
        marker, epoch = index.marker, self._store.epoch
        trusted = min(marker.changed_seq, self._store.trusted_seq(marker.epoch))
        if marker.changed_seq == trusted:
            return  # nothing to forget; the next commit names the epoch
        if trusted == 0 and index.model_count:
            await self._begin_anew()
            index = self._opened()
        dropped = await self._in_thread(partial(index.drop_after, trusted))
        for start in range(0, len(dropped), BATCH_MODELS):
            # earlier states of the same models, which no later change will bring back
            keys = dropped[start : start + BATCH_MODELS]
            found = await self._store.read(
                partial(rows.with_keys, codec=self._codec, model_keys=keys)
            )
            await self._in_thread(partial(self._add, index, found))
        await self._commit(index, Marker(epoch, trusted))
        log.info(
            "search index met a new epoch",
            extra={"facts": {"epoch": epoch, "dropped": len(dropped), "from_seq": trusted}},
        )

    async def _check_count(self, index: CatalogIndex) -> None:
        """Once caught up: as many models as the store, or something is wrong with either."""
        if self._is_counted:
            return
        behind, count = await self._store.read(
            partial(_changes_and_count, after=index.marker.changed_seq)
        )
        if behind:
            return
        self._is_counted = True
        if count == index.model_count:
            return
        facts = {"indexed": index.model_count, "in_store": count}
        log.warning("search index and store disagree", extra={"facts": facts})
        if not self._has_miscounted:  # a second time would not be the index's fault
            self._has_miscounted = True
            raise IndexDamaged(f"it has {index.model_count} models, the store {count}")

    # --- catching up ---

    async def _catch_up(self) -> None:
        index = self._opened()
        position = Position(index.marker.changed_seq)
        added = False
        while True:
            self._looked_at = trio.current_time()
            batch = await self._store.read(
                partial(rows.changed_after, codec=self._codec, after=position, limit=BATCH_MODELS)
            )
            is_last = len(batch) < BATCH_MODELS
            if batch:
                self.is_caught_up = False
                await self._in_thread(partial(self._add, index, batch))
                position = batch[-1].position
                added = True
            elif not added:
                break
            due_s = self._committed_at + (
                self._commit_interval_s if is_last else MAX_COMMIT_INTERVAL_S
            )
            if trio.current_time() < due_s:
                if is_last:
                    await trio.sleep_until(due_s)
                continue
            # of a batch cut off by its limit, more models may have the last one's seq
            done = position.changed_seq - (0 if is_last else 1)
            marker = Marker(self._store.epoch, max(done, index.marker.changed_seq))
            await self._commit(index, marker)
            added = False
        await self._check_count(index)

    def _note_progress(self, seen: int) -> None:
        if self._suspected.is_set():
            return  # searches failed meanwhile: first look whether the index is sound
        self.is_caught_up = True
        self._followed_seq = seen
        self._progress.set()
        self._progress = trio.Event()

    def _add(self, index: CatalogIndex, batch: Sequence[SourceRow]) -> None:
        index.replace([rows.project(row, self._parse) for row in batch])

    async def _commit(self, index: CatalogIndex, marker: Marker) -> None:
        failpoints.hit("catalog.before_index_commit")
        began = trio.current_time()
        await self._in_thread(partial(index.commit, marker))
        self._committed_at = trio.current_time()
        self._commit_interval_s = min(
            max(10 * (self._committed_at - began), MIN_COMMIT_INTERVAL_S), MAX_COMMIT_INTERVAL_S
        )
        failpoints.hit("catalog.after_index_commit")

    async def _wait(self, seen: int) -> bool:
        """Wait for events after ``seen``; True when the index is to be checked instead."""
        with trio.move_on_after(WRITER_REST_AFTER_S):
            return await self._woken(seen)
        # merging may take seconds; stopping does not wait for it
        await trio.to_thread.run_sync(
            self._opened().rest, limiter=trio.CapacityLimiter(1), abandon_on_cancel=True
        )
        return await self._woken(seen)

    async def _woken(self, seen: int) -> bool:
        async with trio.open_nursery() as nursery:

            async def suspected() -> None:
                await self._suspected.wait()
                nursery.cancel_scope.cancel(reason="the index is suspected")

            nursery.start_soon(suspected)
            await self._store.feed.changed(seen)
            await trio.sleep_until(self._looked_at + LOOK_INTERVAL_S)
            nursery.cancel_scope.cancel(reason="there are events")
        was_suspected = self._suspected.is_set()
        self._suspected = trio.Event()
        return was_suspected

    def _opened(self) -> CatalogIndex:
        assert self.index is not None, "open() comes first"
        return self.index

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(call, limiter=self._limiter)


def _changes_and_count(db: apsw.Connection, after: int) -> tuple[bool, int]:
    newest = db.execute("SELECT max(changed_seq) FROM model").get
    return newest is not None and int(str(newest)) > after, rows.count_models(db)

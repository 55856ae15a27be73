"""The transfer service: a pool of workers over the job table, and the commands on it.

Owns who works on what, what waits for what, and which source rests. All facts live in the table;
what is kept in memory (progress, resting sources, running scopes) may be lost at any time. It
starts by putting what a former run left into order and then continues by itself.
"""

import logging
import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import apsw
import trio

from modelkeepd.store import Durability, Store, StoreError, Tx
from modelkeepd.transfer import jobs
from modelkeepd.transfer.contract import Fetcher
from modelkeepd.transfer.download import Tools
from modelkeepd.transfer.errors import (
    DestinationOffline,
    NoSpace,
    SourceBusy,
    TransferError,
)
from modelkeepd.transfer.jobs import Job, JobPage, NewJob
from modelkeepd.transfer.part import drop_part
from modelkeepd.transfer.place import Destination
from modelkeepd.transfer.places import Place, Places
from modelkeepd.transfer.ports import Ports, TransferSettings
from modelkeepd.transfer.progress import LiveProgress, ProgressNow, Sampler
from modelkeepd.transfer.run import JobRun
from modelkeepd.transfer.states import Effect, Event, State, Unreachable
from modelkeepd.transfer.waiting import WaitingRoom
from modelkeepd.transfer.wanted import WantedFile

log = logging.getLogger(__name__)
T = TypeVar("T")

_DISK_THREADS_BESIDE_WORKERS = 2
_STORE_RETRY_S = 2.0
_EXPIRE_EVERY_S = 6 * 3600.0
# a failed job that still holds bytes is canceled after this long, which removes them
KEEP_FAILED_MS = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The answer for one wanted file: its job, or where the library has that content already."""

    wanted: WantedFile
    job: Job | None
    owned_path: str | None = None


@dataclass(slots=True, eq=False)
class _Running:
    scope: trio.CancelScope
    progress: LiveProgress
    ended: trio.Event


class TransferService:
    """Made by the composition root; ``run`` under supervision."""

    name = "transfer"
    essential = False

    def __init__(
        self,
        store: Store,
        fetcher: Fetcher,
        settings: TransferSettings,
        ports: Ports,
        *,
        chance: random.Random | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._ports = ports
        self._chance = chance or random.Random()
        disk = trio.CapacityLimiter(settings.parallel_files + _DISK_THREADS_BESIDE_WORKERS)
        self._disk = disk
        self._tools = Tools(store, fetcher, ports, settings, self._chance, disk)
        self._places = Places(store, settings, ports, disk)
        self._running: dict[int, _Running] = {}
        self._offered = trio.Event()
        self._waiting = WaitingRoom(store, settings, disk, self._offer)
        self._sampler = Sampler()
        self._busy = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Put a former run's state in order, then work until canceled."""
        await self._recover()
        async with trio.open_nursery() as nursery:
            for _ in range(self._settings.parallel_files):
                nursery.start_soon(self._worker)
            nursery.start_soon(self._waiting.run)
            nursery.start_soon(self._sample)
            nursery.start_soon(self._expire)
            task_status.started()

    # Commands -----------------------------------------------------------------------------

    async def enqueue(self, wanted: Sequence[WantedFile]) -> list[Enqueued]:
        """Queue files, all or none; content the library has is answered, not fetched.

        Raises DestinationOffline or DestinationRefused at once when the destination cannot work.
        """
        places = await self._places.plan(wanted)
        # whoever wants a repository's files wants them at their places, wherever else they lie
        hashes = {file.sha256 for file in wanted if file.sha256 and not places[file].in_place}
        owned = await self._owned(hashes)
        paths = {
            file: place.path if place.holds else None if place.in_place else owned.get(file.sha256)
            for file, place in places.items()
        }
        new = [_new_job(file, places[file]) for file in wanted if paths[file] is None]
        parts = [f"{secrets.token_hex(8)}" for _ in new]
        made = iter(
            await self._store.apply(
                partial(jobs.enqueue, new_jobs=new, parts=parts),
                durability=Durability.FULL,
                name="transfer.enqueue",
            )
            if new
            else []
        )
        self._offer()
        return [
            Enqueued(file, next(made) if paths[file] is None else None, paths[file])
            for file in wanted
        ]

    async def pause(self, job_ids: Sequence[int]) -> list[jobs.Commanded]:
        return await self._command(job_ids, Event.PAUSE)

    async def resume(self, job_ids: Sequence[int]) -> list[jobs.Commanded]:
        return await self._command(job_ids, Event.RESUME)

    async def cancel(self, job_ids: Sequence[int]) -> list[jobs.Commanded]:
        """Ends the jobs and removes what they had fetched."""
        return await self._command(job_ids, Event.CANCEL)

    async def retry(self, job_ids: Sequence[int]) -> list[jobs.Commanded]:
        """Failed, canceled or waiting jobs start at once."""
        return await self._command(job_ids, Event.RETRY)

    async def move(
        self, job_ids: Sequence[int], *, priority: int | None = None, to_front: bool = False
    ) -> list[Job]:
        """Another priority (higher first), or the front of the queue."""
        return await self._store.apply(
            partial(jobs.move, job_ids=job_ids, priority=priority, to_front=to_front),
            durability=Durability.FULL,
            name="transfer.move",
        )

    async def list_jobs(
        self,
        *,
        states: Sequence[State] = (),
        limit: int = 100,
        after: tuple[int, int] | None = None,
    ) -> JobPage:
        """A page of jobs in the order of their turn."""
        return await self._store.read(
            lambda db: jobs.list_jobs(db, states=states, limit=limit, after=after)
        )

    async def get(self, job_ids: Iterable[int]) -> list[Job]:
        return await self._store.read(lambda db: jobs.find_jobs(db, job_ids))

    async def counts(self) -> dict[State, int]:
        return await self._store.read(jobs.count_states)

    def progress(self, job_id: int) -> ProgressNow | None:
        """Bytes, rate and remaining time of a job that is being worked on."""
        running = self._running.get(job_id)
        return None if running is None else self._sampler.now(running.progress)

    # Enqueueing ---------------------------------------------------------------------------

    async def _owned(self, hashes: set[bytes]) -> dict[bytes | None, str]:
        def query(db: apsw.Connection) -> dict[bytes, str]:
            found = {sha256: self._ports.owned_path(db, sha256) for sha256 in hashes}
            return {sha256: path for sha256, path in found.items() if path is not None}

        if not hashes:
            return {}
        claimed = await self._store.read(query)
        return await self._thread(
            lambda: {sha256: path for sha256, path in claimed.items() if Path(path).is_file()}
        )

    # Commands' effects --------------------------------------------------------------------

    async def _command(self, job_ids: Sequence[int], event: Event) -> list[jobs.Commanded]:
        outcomes = await self._store.apply(
            partial(jobs.command, job_ids=job_ids, event=event),
            durability=Durability.FULL,
            name=f"transfer.{event}",
        )
        with trio.CancelScope(shield=True):
            for outcome in outcomes:
                await self._carry_out(outcome.job, outcome.effects)
        return outcomes

    async def _carry_out(self, job: Job, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if effect is Effect.STOP_WORK:
                running = self._running.get(job.job_id)
                if running is not None:
                    running.scope.cancel()
                    await running.ended.wait()
                    await self._note(job, {"bytes_done": running.progress.fetched.position})
            elif effect is Effect.DROP_PART:
                await self._tidy(job)
            elif effect is Effect.OFFER:
                self._offer()

    async def _tidy(self, job: Job) -> None:
        """Carry out what the state of a job at rest says of its part; a later start repeats it."""

        def work() -> None:
            with Destination(Path(job.root), job.own_folder) as destination:
                if job.state is State.QUARANTINED:
                    destination.quarantine(job.part, job.own_name)
                else:
                    drop_part(destination.parts_fd, job.part)

        if not job.has_part:
            return
        try:
            await self._thread(work)
        except (TransferError, OSError) as error:
            log.warning("part not removed", extra={"facts": {"job": job.job_id, "why": str(error)}})
            return
        await self._note(job, {"has_part": False})

    async def _note(self, job: Job, changes: dict[str, object]) -> None:
        await self._store.apply(
            partial(jobs.note, job_id=job.job_id, changes=changes),
            durability=Durability.NORMAL,
            name="transfer.note",
        )

    async def _recover(self) -> None:
        """Rule of the table: what was running falls back; what is at rest gets tidied."""
        running = await self._store.read(jobs.running_jobs)
        if running:
            await self._store.apply(
                partial(jobs.restart, job_ids=[job.job_id for job in running]),
                durability=Durability.FULL,
                name="transfer.restart",
            )
        for job in await self._store.read(jobs.leftovers):
            await self._tidy(job)

    async def _expire(self) -> None:
        """What failed long ago and nobody asked for again gives its bytes back."""
        while True:
            try:
                stale = await self._store.apply(
                    lambda tx: jobs.stale_parts(tx.db, tx.now_ms - KEEP_FAILED_MS),
                    durability=Durability.NORMAL,
                    name="transfer.stale",
                )
                if stale:
                    log.info("parts expired", extra={"facts": {"jobs": len(stale)}})
                    await self.cancel([job.job_id for job in stale])
            except StoreError as error:
                await self._store_trouble("expire", error)
            await trio.sleep(_EXPIRE_EVERY_S)

    # Workers ------------------------------------------------------------------------------

    def _offer(self) -> None:
        self._offered.set()
        self._offered = trio.Event()

    async def _worker(self) -> None:
        while True:
            # The event is taken before the look: an offer between the two is not missed.
            offered = self._offered
            try:
                job = await self._claim()
            except StoreError as error:
                await self._store_trouble("claim", error)
                continue
            if job is None:
                await offered.wait()
            else:
                await self._work_on(job)

    async def _claim(self) -> Job | None:
        resting = self._waiting.resting_hubs()
        return await self._store.apply(
            partial(jobs.claim, resting_hubs=resting),
            durability=Durability.NORMAL,
            name="transfer.claim",
        )

    async def _work_on(self, job: Job) -> None:
        running = _Running(trio.CancelScope(), LiveProgress(job.size_bytes), trio.Event())
        self._running[job.job_id] = running
        self._busy.set()
        run = JobRun(job, self._tools, running.progress)
        try:
            with running.scope:
                try:
                    await run.run()
                except Unreachable as overtaken:
                    log.debug("overtaken", extra={"facts": {"job": job.job_id, "by": overtaken}})
                except TransferError as error:
                    await self._settle(run.job, error, running.progress)
                except StoreError as error:
                    await self._store_trouble("job", error)
                    await self._settle(run.job, _store_error(error), running.progress)
                except Exception as error:
                    log.exception("job crashed", extra={"facts": {"job": job.job_id}})
                    fault = TransferError(
                        f"a fault of modelkeep's own: {type(error).__name__}: {error}",
                        "please report it; the log has the details",
                    )
                    await self._settle(run.job, fault, running.progress)
        finally:
            del self._running[job.job_id]
            running.ended.set()

    async def _settle(self, job: Job, error: TransferError, progress: LiveProgress) -> None:
        """The job waits for what may help, or has failed."""
        event, changes = self._judge(job, error, progress)
        log.info(
            "job stopped",
            extra={"facts": {"job": job.job_id, "error": error.message, "then": str(event)}},
        )

        def unit(tx: Tx) -> None:
            wait_s = changes.pop("wait_s", None)
            if isinstance(wait_s, float):
                changes["not_before_ms"] = tx.now_ms + int(wait_s * 1000)
            jobs.advance(tx, job.job_id, event, changes)

        while True:
            try:
                await self._store.apply(unit, durability=Durability.FULL, name=f"transfer.{event}")
            except StoreError as trouble:
                await self._store_trouble("settle", trouble)
            except Unreachable:
                return
            else:
                self._waiting.look_again()
                return

    def _judge(
        self, job: Job, error: TransferError, progress: LiveProgress
    ) -> tuple[Event, dict[str, object]]:
        changes = jobs.error_columns(error)
        changes["bytes_done"] = progress.fetched.position
        if isinstance(error, NoSpace):
            return Event.LATER, {
                **changes, "wait_for": "space", "needed_bytes": error.needed_bytes
            }  # fmt: skip
        if isinstance(error, DestinationOffline):
            return Event.LATER, {**changes, "wait_for": "destination"}
        policy = self._settings.retry
        # Real progress since the last failure starts the count anew.
        fresh = progress.fetched.received_bytes >= 1 << 20
        attempts = 1 if fresh else job.attempts + 1
        limit = min(policy.max_attempts, error.patience or policy.max_attempts)
        if not error.retryable or attempts >= limit:
            return Event.BROKEN, {**changes, "attempts": attempts}
        wait_s = policy.delay_s(attempts, error.retry_after_s, self._chance)
        changes |= {"attempts": attempts, "wait_s": wait_s, "wait_for": "retry"}
        if isinstance(error, SourceBusy):
            changes["wait_for"] = "source"
            self._waiting.rest(job.hub, wait_s)
        return Event.LATER, changes

    async def _store_trouble(self, what: str, error: StoreError) -> None:
        log.error("database trouble", extra={"facts": {"during": what, "error": str(error)}})
        await trio.sleep(_STORE_RETRY_S)

    # Progress -----------------------------------------------------------------------------

    async def _sample(self) -> None:
        while True:
            while not self._running:
                self._busy = trio.Event()
                await self._busy.wait()
            await trio.sleep(1.0)
            for running in self._running.values():
                self._sampler.add(running.progress, trio.current_time())

    async def _thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._disk)


def _new_job(file: WantedFile, place: Place) -> NewJob:
    return NewJob(
        hub=file.hub,
        ref=file.ref,
        remote_name=file.name,
        name=place.name,
        root=str(place.root),
        folder="" if place.folder == PurePosixPath() else str(place.folder),
        in_place=place.in_place,
        file_key=file.file_key,
        size_bytes=file.size_bytes,
        size_tolerance_bytes=file.size_tolerance_bytes,
        sha256=file.sha256,
        git_sha1=file.git_sha1,
        revision=file.revision,
        priority=file.priority,
    )


def _store_error(error: StoreError) -> TransferError:
    return TransferError(str(error), "free some space on its disk", retryable=True)

"""One job's way from its turn to its end: resolve, download, verify, scan, place.

Performs the effects of the state table for one job, each after its state is persisted, each safe
to repeat. It ends by leaving the job in a state that a restart can explain; a person who changes
the state meanwhile overtakes it (``Unreachable``), which ends the run without a trace.
"""

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import trio

from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.hubs.contract import HubError, HubUnavailable
from modelkeepd.library.paths import signed
from modelkeepd.library.records import PlacedFile
from modelkeepd.scan.verdicts import Verdict
from modelkeepd.store import Durability, Store, Tx
from modelkeepd.transfer import jobs
from modelkeepd.transfer.errors import (
    ContentChanged,
    NetworkLost,
    PartLost,
    RangeIgnored,
    RangeLie,
    Refused,
    SourceBusy,
    TransferError,
    disk_error,
)
from modelkeepd.transfer.fetch import Fetcher, FetchRequest, FetchResult, Span
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.names import unique_name
from modelkeepd.transfer.part import Identity, PartFile, drop_part
from modelkeepd.transfer.place import Destination, NameTaken
from modelkeepd.transfer.policy import allowed, reasons_of, refusal_of
from modelkeepd.transfer.ports import Ports, SourcePlan, TransferSettings
from modelkeepd.transfer.progress import LiveProgress
from modelkeepd.transfer.states import FINAL, Event, State
from modelkeepd.transfer.verify import Promise, compare, size_tolerance

log = logging.getLogger(__name__)
T = TypeVar("T")

PROGRESS_COUNTS_BYTES = 1 << 20  # a failure after so many new bytes starts the count anew
INSIST_FROM_BYTES = 8 << 20
MAX_RESTARTS = 3
_NAMES_TRIED = 50


@dataclass(frozen=True, slots=True)
class Tools:
    store: Store
    fetcher: Fetcher
    ports: Ports
    settings: TransferSettings
    chance: random.Random
    disk: trio.CapacityLimiter  # threads that read, write or scan files


class JobRun:
    """Made for one claimed job; ``run`` once."""

    def __init__(self, job: Job, tools: Tools, progress: LiveProgress) -> None:
        self._job = job
        self._tools = tools
        self._progress = progress
        self._certain_end = True

    @property
    def job(self) -> Job:
        """As last persisted by this run."""
        return self._job

    async def run(self) -> None:
        """Raises TransferError for the service to turn into waiting or failed."""
        destination = await self._thread(self._open_destination)
        try:
            if await self._thread(partial(self._published, destination)):
                await self._take_in_again(destination)
                return
            plan = await self._resolve()
            if self._job.state is State.DONE:
                await self._drop(destination)
                return
            part = await self._thread(partial(self._open_part, destination))
            try:
                await self._fetch_and_place(plan, destination, part)
            finally:
                with trio.CancelScope(shield=True):
                    await self._thread(partial(_leave_part, part, self._job.state))
        finally:
            destination.close()

    async def _fetch_and_place(
        self, plan: SourcePlan, destination: Destination, part: PartFile
    ) -> None:
        try:
            while self._job.state is State.DOWNLOADING:
                total = await self._download(plan, part)
                await self._advance(Event.FETCHED, {"bytes_done": total})
                await self._verify(part, total)
            if self._job.state is State.FAILED:
                await self._drop(destination)
                return
            identity = part.identity()
            if await self._scan(part, identity, destination):
                await self._place(part, identity, destination)
        except PartLost:
            part.poisoned = True
            raise

    async def _drop(self, destination: Destination) -> None:
        await self._thread(partial(drop_part, destination.parts_fd, self._job.part))
        await self._note({"has_part": False})

    # Steps --------------------------------------------------------------------------------

    def _open_destination(self) -> Destination:
        return Destination(Path(self._job.root), PurePosixPath(self._job.folder))

    def _open_part(self, destination: Destination) -> PartFile:
        reserve = self._tools.settings.reserve_bytes
        try:
            part = PartFile.open(destination.parts_fd, self._job.part, reserve_bytes=reserve)
        except PartLost:
            # A link or something foreign under our name: remove it, never write through it.
            drop_part(destination.parts_fd, self._job.part)
            part = PartFile.open(destination.parts_fd, self._job.part, reserve_bytes=reserve)
        try:
            if self._job.size_bytes:
                # The exact length comes with the answer; this keeps a full disk off the network.
                part.reserve(self._job.size_bytes)
        except BaseException:
            part.close()
            raise
        return part

    async def _resolve(self) -> SourcePlan:
        try:
            plan = await self._tools.ports.resolve(self._job)
        except HubUnavailable as error:
            raise TransferError(
                error.message, error.hint, retryable=True, retry_after_s=error.retry_after_s,
                code=error.code,
            ) from error  # fmt: skip
        except HubError as error:
            raise TransferError(error.message, error.hint, code=error.code) from error
        except ModelkeepError as error:
            raise TransferError(
                error.message, error.hint, code=error.code, retryable=error.retryable
            ) from error
        sha256 = plan.sha256 or self._job.sha256
        owned = None
        if sha256 is not None:
            owned = await self._tools.store.read(
                lambda db: self._tools.ports.owned_path(db, sha256)
            )
        if owned is not None and await self._thread(partial(_is_file, owned)):
            await self._advance(
                Event.OWNED, {"path": owned, "found_sha256": sha256, **jobs.NO_ERROR}
            )
            return plan
        size = plan.size_bytes or self._job.size_bytes or None  # 0 is a hub's "unknown"
        declared = max(plan.size_tolerance_bytes, self._job.size_tolerance_bytes)
        tolerance = size_tolerance(size, declared, hash_known=sha256 is not None)
        facts = {"size_bytes": size, "size_tolerance_bytes": tolerance, "sha256": sha256}
        await self._advance(Event.RESOLVED, {**facts, "has_part": True, **jobs.NO_ERROR})
        self._progress.total_bytes = size
        return plan

    async def _download(self, plan: SourcePlan, part: PartFile) -> int:
        """Every byte into the part, by as many quick attempts as make progress; the length."""
        await self._thread(lambda: part.catch_up(trio.from_thread.check_cancelled))
        failures, restarts, insist = 0, 0, True
        url = plan.url
        while True:
            held = part.held_bytes
            total = part.total_bytes
            if total is not None and held >= total:
                return total
            try:
                result = await self._attempt(
                    replace(plan, url=url), part, insist and held >= INSIST_FROM_BYTES
                )
                if result.total_bytes is None or result.end >= result.total_bytes:
                    self._certain_end = result.certain_end
                    await self._thread(lambda: part.catch_up(trio.from_thread.check_cancelled))
                    return result.end
                continue
            except (ContentChanged, RangeIgnored) as error:
                restarts += 1
                if restarts > MAX_RESTARTS:
                    raise
                insist = False
                if isinstance(error, ContentChanged):
                    log.info("remote file changed", extra={"facts": {"job": self._job.job_id}})
                    await self._thread(part.restart)
            except Refused as error:
                if error.status == 404 and plan.fallback_url and url != plan.fallback_url:
                    url = plan.fallback_url
                    continue
                failures = self._count(error, failures, part, held)
                await self._pause_between(error, failures)
            except TransferError as error:
                failures = self._count(error, failures, part, held)
                await self._pause_between(error, failures)

    def _count(self, error: TransferError, failures: int, part: PartFile, held: int) -> int:
        """Raises the error when this run has tried often enough; else the failures so far."""
        quick = isinstance(error, NetworkLost | RangeLie) or (
            isinstance(error, Refused) and not isinstance(error, SourceBusy)
        )
        if not (quick and error.retryable):
            raise error
        failures = 1 if part.held_bytes - held >= PROGRESS_COUNTS_BYTES else failures + 1
        if failures > self._tools.settings.retry.quick_attempts:
            raise error
        return failures

    async def _pause_between(self, error: TransferError, failures: int) -> None:
        policy, chance = self._tools.settings.retry, self._tools.chance
        await trio.sleep(policy.delay_s(failures - 1, error.retry_after_s, chance))

    async def _attempt(self, plan: SourcePlan, part: PartFile, insist: bool) -> FetchResult:
        job = self._job
        self._progress.fetched.position = part.held_bytes
        request = FetchRequest(
            url=plan.url,
            home=plan.home,
            headers=plan.all_headers,
            span=Span(part.held_bytes),
            file_name=job.remote_name,
            expected_bytes=job.size_bytes,
            tolerance_bytes=job.size_tolerance_bytes,
            validator=part.validator,
            insist_on_range=insist,
            hash_known=job.sha256 is not None,
            user_agent=plan.user_agent,
        )
        result: FetchResult | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_durable, part)
            try:
                result = await self._tools.fetcher.fetch(request, part, self._progress.fetched)
            except TransferError as error:
                failure: TransferError | None = error
            else:
                failure = None
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        assert result is not None
        return result

    async def _keep_durable(self, part: PartFile) -> None:
        """After a power cut no more than this period is fetched again."""
        last = part.held_bytes
        while True:
            await trio.sleep(self._tools.settings.checkpoint_s)
            if (held := part.held_bytes) != last:
                last = held
                with trio.CancelScope(shield=True):
                    await self._thread(part.park)

    async def _verify(self, part: PartFile, total: int) -> None:
        """On to scanning, back to downloading (wrong content, once), or failed."""
        digest = await self._thread(partial(part.finish, total))
        job = self._job
        finding = compare(
            Promise(job.size_bytes, job.size_tolerance_bytes, job.sha256),
            total,
            digest,
            certain_end=self._certain_end,
            repaired=job.repaired,
        )
        facts: dict[str, object] = {"found_size_bytes": total, "found_sha256": digest}
        if finding.event is Event.REPAIR:
            await self._advance(Event.REPAIR, {**facts, "repaired": True})
            await self._thread(part.restart)
            return
        if finding.error is not None:
            await self._advance(Event.CORRUPT, {**facts, **jobs.error_columns(finding.error)})
            return
        identity = part.identity()
        facts |= {"verification": finding.verification, "inode": signed(identity.inode)}
        facts |= {"device": signed(identity.device), "mtime_ns": identity.mtime_ns}
        await self._advance(Event.MATCHED, facts)

    async def _scan(self, part: PartFile, identity: Identity, destination: Destination) -> bool:
        """True: it may be placed."""
        name = self._job.remote_name
        report = await self._thread(lambda: self._tools.ports.scan(part.fd, name))
        if part.identity() != identity:
            raise PartLost("the part file changed while it was scanned", "starting anew")
        facts: dict[str, object] = {
            "verdict": str(report.verdict),
            "verdict_reasons": reasons_of(report),
        }
        if allowed(report.verdict, self._tools.settings.review):
            path = await self._choose_path(destination)
            await self._advance(
                Event.PASSED, {**facts, "path": path}, also=partial(self._expect, path=path)
            )
            return True
        path = str(destination.quarantine_path(self._job.part, self._job.name))
        with trio.CancelScope(shield=True):
            await self._advance(Event.REFUSED, {**facts, **refusal_of(report), "path": path})
            await self._thread(partial(destination.quarantine, self._job.part, self._job.name))
            await self._note({"has_part": False})
        return False

    async def _choose_path(self, destination: Destination) -> str:
        taken = await self._thread(destination.taken)
        mark = self._job.ref.rpartition("@")[2].replace("#", "-")
        return str(destination.path_of(unique_name(self._job.remote_name, mark, taken)))

    def _expect(self, tx: Tx, job: Job, *, path: str) -> None:
        self._tools.ports.expect(tx, path)

    async def _place(self, part: PartFile, identity: Identity, destination: Destination) -> None:
        with trio.CancelScope(shield=True):
            for _ in range(_NAMES_TRIED):
                name = Path(self._job.path or "").name
                try:
                    placed = await self._thread(partial(destination.publish, part, name, identity))
                    break
                except NameTaken:
                    await self._rename_plan(await self._choose_path(destination))
            else:
                raise PartLost(f"no free name was found for {self._job.name}")
            await self._take_in(placed)

    async def _rename_plan(self, path: str) -> None:
        """Another name was needed: persisted, and announced to the library, before the rename."""

        def unit(tx: Tx) -> None:
            jobs.note(tx, self._job.job_id, {"path": path})
            self._tools.ports.expect(tx, path)

        await self._tools.store.apply(unit, durability=Durability.FULL, name="transfer.rename")
        self._job = replace(self._job, path=path)

    async def _take_in(self, placed: Identity) -> None:
        """ "Job done" and "file owned" are one transaction."""
        await self._advance(
            Event.PLACED,
            {"has_part": False, **jobs.NO_ERROR},
            also=partial(_adopt, ports=self._tools.ports, placed=placed),
        )

    # After a crash between the rename and its commit ----------------------------------------

    def _published(self, destination: Destination) -> bool:
        """Whether a former run already renamed the verified part to its place."""
        job = self._job
        if job.path is None or job.verification is None or job.inode is None:
            return False
        if destination.path_of(Path(job.path).name) != Path(job.path):
            return False
        found = destination.find(Path(job.path).name)
        return found is not None and (signed(found.inode), found.size_bytes, found.mtime_ns) == (
            job.inode,
            job.found_size_bytes,
            job.mtime_ns,
        )

    async def _take_in_again(self, destination: Destination) -> None:
        found = destination.find(Path(self._job.path or "").name)
        if found is None:
            raise PartLost("the placed file vanished again", "starting anew")

        def unit(tx: Tx) -> Job:
            for event in (Event.RESOLVED, Event.FETCHED, Event.MATCHED, Event.PASSED):
                jobs.advance(tx, self._job.job_id, event)
            changes = {"has_part": False, **jobs.NO_ERROR}
            job, _ = jobs.advance(tx, self._job.job_id, Event.PLACED, changes)
            _adopt(tx, job, ports=self._tools.ports, placed=found)
            return job

        with trio.CancelScope(shield=True):
            await self._thread(destination.sync_folder)
            await self._thread(partial(drop_part, destination.parts_fd, self._job.part))
            self._job = await self._tools.store.apply(
                unit, durability=Durability.FULL, name="transfer.placed"
            )

    # Plumbing -----------------------------------------------------------------------------

    async def _advance(
        self,
        event: Event,
        changes: Mapping[str, object],
        *,
        also: Callable[[Tx, Job], None] | None = None,
    ) -> None:
        def unit(tx: Tx) -> Job:
            job, _ = jobs.advance(tx, self._job.job_id, event, changes, expected=self._job.state)
            if also is not None:
                also(tx, job)
            return job

        # A power cut may take these three back: the part file and its map explain the rest.
        soft = event in (Event.RESOLVED, Event.FETCHED, Event.MATCHED)
        durability = Durability.NORMAL if soft else Durability.FULL
        self._job = await self._tools.store.apply(
            unit, durability=durability, name=f"transfer.{event}"
        )

    async def _note(self, changes: Mapping[str, object]) -> None:
        await self._tools.store.apply(
            partial(jobs.note, job_id=self._job.job_id, changes=changes),
            durability=Durability.NORMAL,
            name="transfer.note",
        )

    async def _thread(self, work: Callable[[], T]) -> T:
        try:
            return await trio.to_thread.run_sync(work, limiter=self._tools.disk)
        except OSError as error:
            raise disk_error(error) from error


def _adopt(tx: Tx, job: Job, *, ports: Ports, placed: Identity) -> None:
    assert job.path is not None
    assert job.found_sha256 is not None
    ports.adopt(
        tx,
        PlacedFile(
            path=job.path,
            size_bytes=placed.size_bytes,
            mtime_ns=placed.mtime_ns,
            inode=placed.inode,
            device=placed.device,
            sha256=job.found_sha256,
            verdict=job.verdict or str(Verdict.NOT_SCANNED),
            file_key=job.file_key,
        ),
    )


def _is_file(path: str) -> bool:
    return Path(path).is_file()


def _leave_part(part: PartFile, state: State) -> None:
    """Unfinished parts keep what they have; those nobody can continue are removed.

    One that holds nothing would only keep its reserved gigabytes from others.
    """
    if part.poisoned or (state not in FINAL and not part.held_bytes):
        part.unlink()
    elif state not in FINAL:
        part.park()
    part.close()

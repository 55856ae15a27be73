"""Every byte of one job's file into its part, by as many quick attempts as make progress.

Owns the attempts of one run: what is continued, what begins again, and when the run gives up for
now. Each attempt asks the hub anew, so that a signed address that expired costs one request. What
the hub says of the content on the way is kept as the job's promise where the catalog had none.
"""

import logging
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import trio

from modelkeepd.store import Store
from modelkeepd.transfer.contract import Fetcher, FetchRequest, FetchResult, Manners, Span
from modelkeepd.transfer.errors import (
    ContentChanged,
    FileGone,
    NetworkLost,
    RangeIgnored,
    RangeLie,
    Refused,
    SourceBusy,
    TransferError,
    disk_error,
)
from modelkeepd.transfer.hub_calls import as_transfer_errors
from modelkeepd.transfer.linked import Linked
from modelkeepd.transfer.part import PartFile
from modelkeepd.transfer.ports import Ports, SourcePlan, TransferSettings
from modelkeepd.transfer.progress import LiveProgress
from modelkeepd.transfer.response import Accepted, Validator
from modelkeepd.transfer.row import JobRow

log = logging.getLogger(__name__)
T = TypeVar("T")

PROGRESS_COUNTS_BYTES = 1 << 20  # a failure after so many new bytes starts the count anew
INSIST_FROM_BYTES = 8 << 20
MAX_RESTARTS = 3
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Tools:
    store: Store
    fetcher: Fetcher
    ports: Ports
    settings: TransferSettings
    chance: random.Random
    disk: trio.CapacityLimiter  # threads that read, write or scan files

    async def thread(self, work: Callable[[], T]) -> T:
        """Disk work off the loop; its OSErrors typed."""
        try:
            return await trio.to_thread.run_sync(work, limiter=self.disk)
        except OSError as error:
            raise disk_error(error) from error


class Download:
    """``run`` until the part holds the whole file; its length comes back."""

    def __init__(
        self, row: JobRow, plan: SourcePlan, part: PartFile, tools: Tools, progress: LiveProgress
    ) -> None:
        self._row = row
        self._plan = plan
        self._part = part
        self._tools = tools
        self._progress = progress
        self.certain_end = True
        if self._wants_git:
            part.want_git(row.job.size_bytes)

    @property
    def _wants_git(self) -> bool:
        return self._row.job.git_sha1 is not None and self._row.job.sha256 is None

    async def run(self) -> int:
        """Raises TransferError when waiting, or a person, must help."""
        plan, part = self._plan, self._part
        await self._catch_up()
        failures, restarts, insist = 0, 0, True
        url = plan.url
        while True:
            held = part.held_bytes
            total = part.total_bytes
            if total is not None and held >= total:
                return total
            try:
                result = await self._attempt(
                    replace(plan, url=url), insist and held >= INSIST_FROM_BYTES
                )
                if result.total_bytes is None or result.end >= result.total_bytes:
                    self.certain_end = result.certain_end
                    if result.linked is not None:
                        await self._hear(result.linked)
                    await self._catch_up()
                    return result.end
                continue
            except (ContentChanged, RangeIgnored) as error:
                restarts += 1
                if restarts > MAX_RESTARTS:
                    raise
                insist = False
                if isinstance(error, ContentChanged):
                    facts = {"job": self._row.job.job_id}
                    log.info("remote file changed", extra={"facts": facts})
                    await self._tools.thread(part.restart)
            except Refused as error:
                other = plan.fallback_url
                if error.status == 404 and not isinstance(error, FileGone) and other not in (
                    None,
                    url,
                ):  # fmt: skip
                    assert other is not None
                    url = other
                    continue
                failures = self._count(error, failures, held)
                await self._pause_between(error, failures)
            except TransferError as error:
                failures = self._count(error, failures, held)
                await self._pause_between(error, failures)

    async def copy(self, path: str) -> int | None:
        """The same content from this machine's own library; None where that does not work."""
        size = self._row.job.size_bytes
        if size is None or self._part.held_bytes:
            return None
        try:
            copied = await self._tools.thread(partial(_copy, path, self._part, size))
        except (TransferError, OSError) as error:
            log.info("not copied", extra={"facts": {"from": path, "why": str(error)}})
            copied = False
        if copied:
            self._progress.fetched.position = size
            return size
        await self._tools.thread(self._part.restart)
        return None

    def _count(self, error: TransferError, failures: int, held: int) -> int:
        """Raises the error when this run has tried often enough; else the failures so far."""
        quick = isinstance(error, NetworkLost | RangeLie) or (
            isinstance(error, Refused) and not isinstance(error, SourceBusy)
        )
        if not (quick and error.retryable):
            raise error
        failures = 1 if self._part.held_bytes - held >= PROGRESS_COUNTS_BYTES else failures + 1
        if failures > self._tools.settings.retry.quick_attempts:
            raise error
        return failures

    async def _pause_between(self, error: TransferError, failures: int) -> None:
        policy, chance = self._tools.settings.retry, self._tools.chance
        await trio.sleep(policy.delay_s(failures - 1, error.retry_after_s, chance))

    async def _attempt(self, plan: SourcePlan, insist: bool) -> FetchResult:
        job, part = self._row.job, self._part
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
            sha256=job.sha256,
            git_sha1=job.git_sha1,
            user_agent=plan.user_agent,
            manners=Manners(self._turn, self._heard, self._hear),
        )
        result: FetchResult | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_durable)
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

    async def _turn(self) -> None:
        with as_transfer_errors():
            await self._tools.ports.turn(self._row.job.hub)

    def _heard(self, status: int, headers: Mapping[str, str]) -> None:
        self._tools.ports.heard(self._row.job.hub, status, headers)

    async def _hear(self, linked: Linked) -> None:
        """The hub promises what the catalog did not: from now on this content and no other."""
        job = self._row.job
        if job.hash_known:
            return  # compared already, before this was heard
        changes: dict[str, object] = {"sha256": linked.sha256, "git_sha1": linked.git_sha1}
        if linked.size_bytes is not None:
            changes |= {"size_bytes": linked.size_bytes, "size_tolerance_bytes": 0}
            self._progress.total_bytes = linked.size_bytes
        if linked.commit is not None and job.revision is not None:
            changes["revision"] = linked.commit
        await self._row.note(changes)
        if self._wants_git:
            self._part.want_git(linked.size_bytes)

    async def _keep_durable(self) -> None:
        """After a power cut no more than this period is fetched again."""
        last = self._part.held_bytes
        while True:
            await trio.sleep(self._tools.settings.checkpoint_s)
            if (held := self._part.held_bytes) != last:
                last = held
                with trio.CancelScope(shield=True):
                    await self._tools.thread(self._part.park)

    async def _catch_up(self) -> None:
        part = self._part
        await self._tools.thread(lambda: part.catch_up(trio.from_thread.check_cancelled))


def _copy(path: str, part: PartFile, size_bytes: int) -> bool:
    """Whether a file of that length was copied whole; the hash decides later what it is."""
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.fstat(source).st_size != size_bytes:
            return False
        part.begin(Accepted(0, size_bytes, size_bytes, True, True, Validator("file:")))
        at = 0
        while at < size_bytes:
            trio.from_thread.check_cancelled()
            data = os.pread(source, min(_COPY_BYTES, size_bytes - at), at)
            if not data:
                return False
            part.write(at, memoryview(data))
            at += len(data)
    finally:
        os.close(source)
    return True

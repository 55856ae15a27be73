"""One job's way from its turn to its end: resolve, download, verify, scan, place.

Performs the effects of the state table for one job, each after its state is persisted, each safe
to repeat. It ends by leaving the job in a state that a restart can explain; a person who changes
the state meanwhile overtakes it (``Unreachable``), which ends the run without a trace.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from modelkeepd.library.paths import signed
from modelkeepd.library.records import PlacedFile
from modelkeepd.scan.verdicts import Verdict
from modelkeepd.store import Durability, Tx
from modelkeepd.transfer import jobs
from modelkeepd.transfer.download import Download, T, Tools
from modelkeepd.transfer.errors import FileGone, FileReplaced, PartLost
from modelkeepd.transfer.hub_calls import as_transfer_errors
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.names import unique_name
from modelkeepd.transfer.part import Identity, PartFile, drop_part
from modelkeepd.transfer.place import Destination, NameTaken
from modelkeepd.transfer.policy import allowed, reasons_of, refusal_of
from modelkeepd.transfer.ports import Ports, SourcePlan
from modelkeepd.transfer.progress import LiveProgress
from modelkeepd.transfer.row import JobRow
from modelkeepd.transfer.states import FINAL, Event, State
from modelkeepd.transfer.verify import Promise, compare, size_tolerance

_NAMES_TRIED = 50


class JobRun:
    """Made for one claimed job; ``run`` once."""

    def __init__(self, job: Job, tools: Tools, progress: LiveProgress) -> None:
        self._row = JobRow(job, tools.store)
        self._tools = tools
        self._progress = progress
        self._copy_from: str | None = None
        self._asked_again = False

    @property
    def job(self) -> Job:
        """As last persisted by this run."""
        return self._row.job

    async def run(self) -> None:
        """Raises TransferError for the service to turn into waiting or failed."""
        destination = await self._thread(self._open_destination)
        try:
            if await self._thread(partial(self._published, destination)):
                await self._take_in_again(destination)
                return
            plan = await self._resolve()
            if self.job.state is State.DONE:
                await self._drop(destination)
                return
            part = await self._thread(partial(self._open_part, destination))
            try:
                await self._fetch_and_place(plan, destination, part)
            finally:
                with trio.CancelScope(shield=True):
                    await self._thread(partial(_leave_part, part, self.job.state))
        finally:
            destination.close()

    async def _fetch_and_place(
        self, plan: SourcePlan, destination: Destination, part: PartFile
    ) -> None:
        try:
            while self.job.state is State.DOWNLOADING:
                download = Download(self._row, plan, part, self._tools, self._progress)
                try:
                    total = await self._bytes(download)
                except (FileReplaced, FileGone) as error:
                    plan = await self._ask_again(error, part)
                    continue
                await self._row.advance(Event.FETCHED, {"bytes_done": total})
                await self._verify(part, total, certain_end=download.certain_end)
            if self.job.state is State.FAILED:
                await self._drop(destination)
                return
            identity = part.identity()
            if await self._scan(part, identity, destination):
                await self._place(part, identity, destination)
        except PartLost:
            part.poisoned = True
            raise

    async def _bytes(self, download: Download) -> int:
        source, self._copy_from = self._copy_from, None
        if source is not None:
            copied = await download.copy(source)
            if copied is not None:
                return copied
        return await download.run()

    async def _drop(self, destination: Destination) -> None:
        await self._thread(partial(drop_part, destination.parts_fd, self.job.part))
        await self._row.note({"has_part": False})

    # Steps --------------------------------------------------------------------------------

    def _open_destination(self) -> Destination:
        return Destination(Path(self.job.root), self.job.own_folder)

    def _open_part(self, destination: Destination) -> PartFile:
        job, reserve = self.job, self._tools.settings.reserve_bytes
        try:
            part = PartFile.open(destination.parts_fd, job.part, reserve_bytes=reserve)
        except PartLost:
            # A link or something foreign under our name: remove it, never write through it.
            drop_part(destination.parts_fd, job.part)
            part = PartFile.open(destination.parts_fd, job.part, reserve_bytes=reserve)
        try:
            if job.size_bytes:
                # The exact length comes with the answer; this keeps a full disk off the network.
                part.reserve(job.size_bytes)
        except BaseException:
            part.close()
            raise
        return part

    async def _resolve(self) -> SourcePlan:
        job = self.job
        with as_transfer_errors():
            plan = await self._tools.ports.resolve(job)
        facts = _facts(plan, job)
        sha256 = plan.sha256 or job.sha256
        owned = None
        if sha256 is not None:
            owned = await self._tools.store.read(
                lambda db: self._tools.ports.owned_path(db, sha256)
            )
        if owned is not None and await self._thread(partial(_is_file, owned)):
            if not job.in_place:
                await self._row.advance(
                    Event.OWNED, {"path": owned, "found_sha256": sha256, **jobs.NO_ERROR}
                )
                return plan
            self._copy_from = owned
        await self._row.advance(Event.RESOLVED, {**facts, "has_part": True, **jobs.NO_ERROR})
        self._progress.total_bytes = self.job.size_bytes
        return plan

    async def _ask_again(self, error: FileReplaced | FileGone, part: PartFile) -> SourcePlan:
        """The catalog is behind the hub: its facts anew, once; raises the error if they agree."""
        if self._asked_again:
            raise error
        self._asked_again = True
        bare = replace(self.job, size_bytes=None, sha256=None, git_sha1=None, revision=None)
        with as_transfer_errors():
            await self._tools.ports.refresh(self.job)
            plan = await self._tools.ports.resolve(bare)
        facts = _facts(plan, bare)
        if all(getattr(self.job, name) == value for name, value in facts.items()):
            raise error
        await self._thread(part.restart)
        await self._row.note(facts, durability=Durability.FULL)
        self._progress.total_bytes = self.job.size_bytes
        return plan

    async def _verify(self, part: PartFile, total: int, *, certain_end: bool) -> None:
        """On to scanning, back to downloading (wrong content, once), or failed."""
        digest = await self._thread(partial(part.finish, total))
        job = self.job
        finding = compare(
            Promise(job.size_bytes, job.size_tolerance_bytes, job.sha256, job.git_sha1),
            total,
            digest,
            certain_end=certain_end,
            repaired=job.repaired,
            git_sha1=part.git_sha1,
        )
        facts: dict[str, object] = {"found_size_bytes": total, "found_sha256": digest}
        if finding.event is Event.REPAIR:
            await self._row.advance(Event.REPAIR, {**facts, "repaired": True})
            await self._thread(part.restart)
            return
        if finding.error is not None:
            await self._row.advance(Event.CORRUPT, {**facts, **jobs.error_columns(finding.error)})
            return
        identity = part.identity()
        facts |= {"verification": finding.verification, "inode": signed(identity.inode)}
        facts |= {"device": signed(identity.device), "mtime_ns": identity.mtime_ns}
        await self._row.advance(Event.MATCHED, facts)

    async def _scan(self, part: PartFile, identity: Identity, destination: Destination) -> bool:
        """True: it may be placed."""
        name = self.job.remote_name
        report = await self._thread(lambda: self._tools.ports.scan(part.fd, name))
        if part.identity() != identity:
            raise PartLost("the part file changed while it was scanned", "starting anew")
        facts: dict[str, object] = {
            "verdict": str(report.verdict),
            "verdict_reasons": reasons_of(report),
        }
        if allowed(report, self._tools.settings.review):
            path = await self._choose_path(destination)
            await self._row.advance(
                Event.PASSED, {**facts, "path": path}, also=partial(self._expect, path=path)
            )
            return True
        path = str(destination.quarantine_path(self.job.part, self.job.own_name))
        with trio.CancelScope(shield=True):
            await self._row.advance(Event.REFUSED, {**facts, **refusal_of(report), "path": path})
            await self._thread(partial(destination.quarantine, self.job.part, self.job.own_name))
            await self._row.note({"has_part": False})
        return False

    async def _choose_path(self, destination: Destination) -> str:
        taken = await self._thread(destination.taken)
        return str(destination.path_of(unique_name(self.job.own_name, _mark(self.job), taken)))

    def _expect(self, tx: Tx, job: Job, *, path: str) -> None:
        self._tools.ports.expect(tx, path)

    async def _place(self, part: PartFile, identity: Identity, destination: Destination) -> None:
        with trio.CancelScope(shield=True):
            for _ in range(_NAMES_TRIED):
                name = Path(self.job.path or "").name
                try:
                    placed = await self._thread(partial(destination.publish, part, name, identity))
                    break
                except NameTaken:
                    await self._rename_plan(await self._choose_path(destination))
            else:
                raise PartLost(f"no free name was found for {self.job.own_name}")
            await self._take_in(placed)

    async def _rename_plan(self, path: str) -> None:
        """Another name was needed: persisted, and announced to the library, before the rename."""
        await self._row.note(
            {"path": path},
            also=lambda tx: self._tools.ports.expect(tx, path),
            durability=Durability.FULL,
            name="transfer.rename",
        )

    async def _take_in(self, placed: Identity) -> None:
        """ "Job done" and "file owned" are one transaction."""
        await self._row.advance(
            Event.PLACED,
            {"has_part": False, **jobs.NO_ERROR},
            also=partial(_adopt, ports=self._tools.ports, placed=placed),
        )

    # After a crash between the rename and its commit ----------------------------------------

    def _published(self, destination: Destination) -> bool:
        """Whether a former run already renamed the verified part to its place."""
        job = self.job
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
        found = destination.find(Path(self.job.path or "").name)
        if found is None:
            raise PartLost("the placed file vanished again", "starting anew")

        def unit(tx: Tx) -> Job:
            for event in (Event.RESOLVED, Event.FETCHED, Event.MATCHED, Event.PASSED):
                jobs.advance(tx, self.job.job_id, event)
            changes = {"has_part": False, **jobs.NO_ERROR}
            job, _ = jobs.advance(tx, self.job.job_id, Event.PLACED, changes)
            _adopt(tx, job, ports=self._tools.ports, placed=found)
            return job

        with trio.CancelScope(shield=True):
            await self._thread(destination.sync_folder)
            await self._thread(partial(drop_part, destination.parts_fd, self.job.part))
            await self._row.apply(unit, "transfer.placed")

    async def _thread(self, work: Callable[[], T]) -> T:
        return await self._tools.thread(work)


def _facts(plan: SourcePlan, job: Job) -> dict[str, object]:
    """What the job is promised, from the plan first and else from its own row."""
    sha256, git_sha1 = plan.sha256 or job.sha256, plan.git_sha1 or job.git_sha1
    size = plan.size_bytes or job.size_bytes or None  # 0 is a hub's "unknown"
    declared = max(plan.size_tolerance_bytes, job.size_tolerance_bytes)
    hash_known = sha256 is not None or git_sha1 is not None
    return {
        "size_bytes": size,
        "size_tolerance_bytes": size_tolerance(size, declared, hash_known=hash_known),
        "sha256": sha256,
        "git_sha1": git_sha1,
        "revision": plan.revision or job.revision,
    }


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


def _mark(job: Job) -> str:
    """What tells this file from another of its name: how people tell them apart at the hub."""
    model, _, rest = job.ref.partition("@")
    if job.in_place:
        return (job.revision or rest)[:12]
    return rest.replace("#", "-") if job.revision is None else model.partition(":")[2]


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

"""The transfer methods: requests to wanted files, job rows to what clients see.

What the catalog cannot tell (the files of a repository, a model it has not) is asked of the hub
first, by a function handed in.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from modelkeep_protocol import errors, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.hubs.contract import HubError
from modelkeepd.hubs.reference import BadReference, Reference, parse_reference
from modelkeepd.store import Store
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.request import DetailsNeeded, Found, LeftOut, Wish, find_files
from modelkeepd.transfer.service import Enqueued, TransferService
from modelkeepd.transfer.states import State
from modelkeepd.transfer.wanted import WantedFile

Ask = Callable[[str, str], Awaitable[None]]
"""Brings the catalog up to date on one model of a hub, by its name there; raises HubError."""

# what `queue pause` and the like act on when no job is named
_ALL = {
    "pause": (State.QUEUED, State.RESOLVING, State.DOWNLOADING, State.WAITING),
    "resume": (State.PAUSED,),
    "cancel": (
        State.QUEUED,
        State.RESOLVING,
        State.DOWNLOADING,
        State.VERIFYING,
        State.SCANNING,
        State.WAITING,
        State.PAUSED,
    ),
    "retry": (State.FAILED, State.WAITING),
}
_PAGE = 1000
_NAMES_LEFT_OUT = 20


class TransferMethods:
    """Answers ``transfer.*``."""

    def __init__(
        self,
        store: Store,
        service: TransferService,
        *,
        askable: Collection[str] = (),
        ask: Ask | None = None,
    ) -> None:
        self._store = store
        self._service = service
        self._askable = askable if ask is not None else ()
        self._ask = ask

    async def get(self, params: schema.Get) -> schema.GetResult:
        """Find the files meant and queue them; what can't be found is an error of its own."""
        to = Path(params.to) if params.to else None
        if to is not None and ("\0" in params.to or not to.is_absolute()):
            raise ModelkeepError(
                errors.INVALID, f"{params.to!r} is not an absolute path", "name the whole path"
            )
        wish = Wish(params.file, params.priority, to)
        wanted: dict[str, WantedFile] = {}
        problems: list[schema.Problem] = []
        left_out: list[LeftOut] = []
        for text in params.refs:
            try:
                found = await self._find(parse_reference(text), wish)
            except (BadReference, HubError, ModelkeepError) as exc:
                problems.append(schema.Problem(exc.code, exc.message, exc.hint, text))
            else:
                wanted.update((file.ref, file) for file in found.files)
                left_out += found.left_out
        files = list(wanted.values())
        total_bytes = sum(file.size_bytes or 0 for file in files)
        if params.dry_run or not files:
            jobs = [_planned(file) for file in files]
        else:
            jobs = [self._enqueued(answer) for answer in await self._service.enqueue(files)]
        return schema.GetResult(jobs, problems, total_bytes, [_left_out(each) for each in left_out])

    async def _find(self, reference: Reference, wish: Wish) -> Found:
        """Asks the hub once, if that is needed; an older answer does where the hub is silent."""
        find = partial(find_files, reference=reference, wish=wish)
        try:
            return await self._store.read(partial(find, askable=self._askable))
        except DetailsNeeded as need:
            assert self._ask is not None
            try:
                await self._ask(need.hub, need.ref_id)
            except HubError:
                if not need.usable:
                    raise
        return await self._store.read(find)

    async def list(self, params: schema.ListJobs) -> schema.Jobs:
        """Jobs by id, or a page of the queue in the order of its turns."""
        if params.ids:
            rows = await self._service.get(params.ids)
            return schema.Jobs([self._shown(job) for job in rows], len(rows))
        states = _states(params.states)
        after = None
        if params.after_id:
            known = await self._service.get([params.after_id])
            if not known:
                raise _no_job(params.after_id)
            after = (known[0].priority, known[0].position)
        page = await self._service.list_jobs(states=states, limit=params.limit or 100, after=after)
        counts = await self._service.counts()
        total = sum(count for state, count in counts.items() if not states or state in states)
        return schema.Jobs([self._shown(job) for job in page.jobs], total)

    async def pause(self, params: schema.PickJobs) -> schema.Jobs:
        """Stop working on jobs until they are resumed."""
        return await self._command("pause", params)

    async def resume(self, params: schema.PickJobs) -> schema.Jobs:
        """Let paused jobs go on."""
        return await self._command("resume", params)

    async def cancel(self, params: schema.PickJobs) -> schema.Jobs:
        """End jobs and remove what they had fetched."""
        return await self._command("cancel", params)

    async def retry(self, params: schema.PickJobs) -> schema.Jobs:
        """Begin failed jobs again, and waiting ones at once."""
        return await self._command("retry", params)

    async def move(self, params: schema.MoveJobs) -> schema.Jobs:
        """Give jobs another priority."""
        moved = await self._service.move(params.ids, priority=params.priority)
        _check_found(params.ids, moved)
        return schema.Jobs([self._shown(job) for job in moved], len(moved))

    async def _command(self, name: str, params: schema.PickJobs) -> schema.Jobs:
        ids = params.ids
        if not ids:
            if not params.all:
                raise ModelkeepError(
                    errors.INVALID, "no job is named", "name jobs by id, or say all"
                )
            ids = [job.job_id for job in await self._all(_ALL[name])]
        act = getattr(self._service, name)
        outcomes = await act(ids)
        _check_found(ids, [outcome.job for outcome in outcomes])
        jobs = await self._service.get(ids)
        return schema.Jobs([self._shown(job) for job in jobs], len(jobs))

    async def _all(self, states: Sequence[State]) -> Sequence[Job]:
        found: list[Job] = []
        after = None
        while True:
            page = await self._service.list_jobs(states=states, limit=_PAGE, after=after)
            found += page.jobs
            after = page.next_after
            if after is None:
                return found

    def _enqueued(self, answer: Enqueued) -> schema.Job:
        if answer.job is not None:
            return self._shown(answer.job)
        return _planned(answer.wanted, state="done", path=answer.owned_path)

    def _shown(self, job: Job) -> schema.Job:
        now = self._service.progress(job.job_id)
        error = None
        if job.error_code is not None and job.state is not State.DONE:
            error = schema.Problem(
                job.error_code, job.error_message or "", job.error_hint or "", job.ref
            )
        sha256 = job.found_sha256 or job.sha256
        done = job.state in (State.DONE, State.QUARANTINED)
        return schema.Job(
            id=job.job_id,
            ref=job.ref,
            name=job.name,
            state=str(job.state),
            size_bytes=job.size_bytes or job.found_size_bytes,
            done_bytes=(
                (job.found_size_bytes or job.size_bytes or 0)
                if done
                else job.bytes_done
                if now is None
                else now.bytes_done
            ),
            rate_bytes_per_s=0.0 if now is None else now.rate_bytes_per_s,
            eta_s=None if now is None else now.eta_s,
            priority=job.priority,
            attempts=job.attempts,
            path=job.path,
            sha256=None if sha256 is None else sha256.hex(),
            verdict=job.verdict,
            warning=_warning(job),
            error=error,
            created_ms=job.created_ms,
            updated_ms=job.updated_ms,
        )


def _warning(job: Job) -> str | None:
    if job.state is State.QUARANTINED:
        return f"set aside: the scanner says {job.verdict} ({_reasons(job)})"
    if job.state is State.DONE and job.verdict not in (None, "safe"):
        return f"placed because the settings say so; the scanner says {job.verdict}"
    if job.state is State.DONE and job.verification == "unverified":
        return "the hub gives no hash: size checked, content not"
    return None


def _reasons(job: Job) -> str:
    try:
        reasons = json.loads(job.verdict_reasons or "[]")
        texts = [str(reason.get("what", "")) for reason in reasons]
    except (ValueError, AttributeError):
        return "no reasons kept"
    return "; ".join(texts[:3]) or "not proven safe"


def _planned(file: WantedFile, state: str = "planned", path: str | None = None) -> schema.Job:
    """A file without a job: a dry run's, or one that is owned already."""
    owned = path is not None
    return schema.Job(
        id=0,
        ref=file.ref,
        name=file.save_as or file.name,
        state=state,
        size_bytes=file.size_bytes,
        done_bytes=(file.size_bytes or 0) if owned else 0,
        rate_bytes_per_s=0.0,
        eta_s=None,
        priority=file.priority,
        attempts=0,
        path=path,
        sha256=None if file.sha256 is None else file.sha256.hex(),
        verdict=None,
        warning="owned already: this content is in the library" if owned else None,
        error=None,
        created_ms=0,
        updated_ms=0,
    )


def _left_out(left: LeftOut) -> schema.LeftOut:
    names = list(left.names[:_NAMES_LEFT_OUT])
    return schema.LeftOut(left.ref, left.why, len(left.names), left.size_bytes, names)


def _states(words: Sequence[str]) -> tuple[State, ...]:
    try:
        return tuple(State(word) for word in words)
    except ValueError as exc:
        raise ModelkeepError(
            errors.INVALID, str(exc), f"states are {', '.join(state.value for state in State)}"
        ) from None


def _check_found(ids: Sequence[int], jobs: Sequence[Job]) -> None:
    missing = set(ids) - {job.job_id for job in jobs}
    if missing:
        raise _no_job(min(missing))


def _no_job(job_id: int) -> ModelkeepError:
    return ModelkeepError(
        errors.NOT_FOUND, f"there is no job {job_id}", "modelkeep queue list shows the jobs"
    )

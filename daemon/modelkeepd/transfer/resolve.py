"""From a job to where its bytes are asked for: the catalog's row, and the hub's own plan.

Owns which facts win. A job keeps the promise it was made with (commit, size, hash); one that has
none takes the catalog's, and where that has none either, the hub's answer on the way makes it.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import apsw

from modelkeep_protocol import errors
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.hubs.contract import Hub, HubError, WantedFile
from modelkeepd.hubs.reference import parse_reference
from modelkeepd.store import Store
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.ports import SourcePlan

_ROW = (
    "SELECT m.hub_id, v.hub_id, f.hub_id, f.name, f.url, f.size_bytes, f.sha256, f.git_sha1,"
    " m.ref_id, v.files_revision, f.gone_ms IS NOT NULL FROM file f"
    " JOIN version v USING (version_key) JOIN model m ON m.model_key = v.model_key"
    " WHERE f.file_key = ?"
)


def resolver(
    store: Store, hubs: Mapping[str, Hub], homes: Mapping[str, str]
) -> Callable[[Job], Awaitable[SourcePlan]]:
    """The port ``resolve``; ``homes`` are the hubs' base URLs."""

    async def resolve(job: Job) -> SourcePlan:
        hub = hubs.get(job.hub)
        if hub is None:
            raise HubError(
                f"the hub {job.hub} is not in use", hint="enable it in config.toml and restart"
            )
        wanted = await store.read(partial(wanted_of, job=job))
        plan = await hub.download_plan(wanted)
        return SourcePlan(
            url=plan.url,
            home=homes[job.hub],
            token=plan.token,
            size_bytes=plan.size_bytes,
            sha256=plan.sha256,
            git_sha1=plan.git_sha1,
            revision=wanted.revision,
            user_agent=plan.user_agent,
            fallback_url=plan.fallback_url,
        )

    return resolve


def wanted_of(db: apsw.Connection, job: Job) -> WantedFile:
    """The job's file in the hub's words. Raises ModelkeepError when nothing tells them."""
    if job.file_key is None:
        return _by_reference(job)
    row = db.execute(_ROW, (job.file_key,)).fetchone()
    if row is None:
        raise ModelkeepError(errors.NOT_FOUND, f"{job.ref} is not in the catalog any more")
    (
        model_id, version_id, file_id, name, url, size_bytes, sha256, git_sha1, ref_id, revision,
        is_gone,
    ) = row  # fmt: skip
    if is_gone and revision is not None and job.revision is None:
        raise ModelkeepError(
            errors.NOT_FOUND,
            f"{job.ref} is not in the repository any more",
            f"modelkeep show {job.ref.partition('@')[0]} lists what is",
        )
    if job.hash_known:
        sha256, git_sha1 = job.sha256, job.git_sha1
    return WantedFile(
        model_id=str(model_id),
        version_id=str(version_id),
        file_id=str(file_id),
        name=str(name),
        url=None if url is None else str(url),
        size_bytes=job.size_bytes or (size_bytes if isinstance(size_bytes, int) else None),
        sha256=sha256 if isinstance(sha256, bytes) else None,
        git_sha1=git_sha1 if isinstance(git_sha1, bytes) else None,
        ref_id=str(ref_id),
        revision=job.revision or (None if revision is None else str(revision)),
    )


def _by_reference(job: Job) -> WantedFile:
    """A file the catalog has no row for: of another revision than the one it mirrors."""
    reference = parse_reference(job.ref)
    path = str(reference.file)
    revision = job.revision or reference.version
    return WantedFile(
        model_id="",
        version_id=str(revision),
        file_id=path,
        name=path,
        size_bytes=job.size_bytes,
        sha256=job.sha256,
        git_sha1=job.git_sha1,
        ref_id=str(reference.model),
        revision=revision,
    )

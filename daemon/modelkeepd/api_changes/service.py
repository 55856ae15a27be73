"""The service that says when the hubs' APIs have changed.

Owns its parts' life and what people may ask and decide. Wanted by the hubs' lines: ``heard``; by
the handlers: ``history``, ``shapes``, ``diff``, ``accept``, ``resume``.
"""

import logging
import random
from collections.abc import Collection, Sequence
from functools import partial

import msgspec
import trio

from modelkeepd.api_changes import rows
from modelkeepd.api_changes.answer import Heard
from modelkeepd.api_changes.compare import STRUCTURE, Change, compare
from modelkeepd.api_changes.endpoint import Endpoint
from modelkeepd.api_changes.learner import (
    ApiSettings,
    Counts,
    Learner,
    PauseEndpoint,
    ResumeEndpoint,
)
from modelkeepd.api_changes.lists import SOURCES, ListSource
from modelkeepd.api_changes.lookout import Ask, Lookout
from modelkeepd.api_changes.places import size_of
from modelkeepd.api_changes.reads import reads_of
from modelkeepd.api_changes.rows import Adopt, ApiChange
from modelkeepd.api_changes.shape import Shape
from modelkeepd.clocks import Clocks
from modelkeepd.kinds.seen import adopt as adopt_kind
from modelkeepd.store import Durability, Store, StoreError

log = logging.getLogger(__name__)


class ShapeInfo(msgspec.Struct, frozen=True):
    """One endpoint as it is known. ``paused`` says why it is not asked."""

    hub: str
    operation: str
    version: int
    since_ms: int
    last_ms: int
    documents: int
    places: int
    statuses: tuple[str, ...]
    paused: str | None


class UnknownApi(LookupError):
    """No such change, endpoint or version is known."""

    code = "not_found"


class ApiChangesService:
    """Learns every endpoint's shape; reports and survives its changes.

    ``pause`` and ``resume`` work on (hub, operation); ``resume`` of what is not paused is nothing.
    """

    name = "api_changes"
    essential = False

    def __init__(
        self,
        store: Store,
        *,
        ask: Ask,
        pause: PauseEndpoint,
        resume: ResumeEndpoint,
        hubs: Collection[str] = (),
        adopt: Adopt = adopt_kind,
        settings: ApiSettings | None = None,
        sources: Sequence[ListSource] = SOURCES,
        clocks: Clocks | None = None,
        rng: random.Random | None = None,
    ) -> None:
        settings, clocks = settings or ApiSettings(), clocks or Clocks()
        rng = rng or random.Random()
        self._store = store
        self._clocks = clocks
        self._learner = Learner(
            store,
            pause=pause,
            resume=resume,
            settings=settings,
            clocks=clocks,
            rng=rng,
        )
        self._lookout = Lookout(
            store,
            self._learner,
            ask=ask,
            sources=[source for source in sources if source.hub in hubs],
            adopt=adopt,
            settings=settings,
            clocks=clocks,
            rng=rng,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until canceled. Ready means that what was known is known again."""
        await self.recall()
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._learner.run)
                nursery.start_soon(self._lookout.run)
        finally:
            with trio.move_on_after(5, shield=True):
                try:
                    await self._learner.save()
                except StoreError as exc:
                    # what was learnt since the last time is learnt again
                    log.warning("API shapes were not kept", extra={"facts": {"error": str(exc)}})

    async def recall(self) -> None:
        """Go on from what was kept: shapes, pauses, known values."""
        await self._learner.recall()
        await self._lookout.recall()

    @property
    def counts(self) -> Counts:
        """What became of the answers heard."""
        return self._learner.counts

    def heard(self, sample: Heard) -> None:
        """A hub's whole answer, on the loop. Never waits, and drops what is too much."""
        self._learner.heard(sample)

    async def learn(self, sample: Heard) -> list[Change]:
        """Take in one answer at once."""
        return await self._learner.learn(sample)

    async def tick(self) -> None:
        """Do now what is due by the clock."""
        await self._lookout.tick()

    async def history(
        self,
        hub: str | None = None,
        *,
        severity: str | None = None,
        limit: int = 50,
        after: int | None = None,
    ) -> tuple[list[ApiChange], int]:
        """Changes, the newest first, and how many there are; ``after``: older than this one."""
        return await self._store.read(
            partial(rows.history, hub=hub, severity=severity, limit=limit, after=after)
        )

    async def shapes(self) -> list[ShapeInfo]:
        """Every endpoint that has answered since its shape was first kept, or now."""
        kept = await self._store.read(rows.newest_shapes)
        since = {(one.hub, one.operation): (one.first_ms, one.last_ms) for one in kept}
        why = {(p.hub, p.operation): p.reason for p in await self._store.read(rows.pauses)}
        now_ms = self._clocks.wall_ms()
        async with self._learner.lock:
            return [
                ShapeInfo(
                    hub=endpoint.hub,
                    operation=endpoint.operation,
                    version=endpoint.version,
                    since_ms=since.get(key, (now_ms, now_ms))[0],
                    last_ms=now_ms if endpoint.is_unsaved else since.get(key, (0, now_ms))[1],
                    documents=endpoint.documents,
                    places=size_of(endpoint.base),
                    statuses=tuple(sorted(endpoint.whole().statuses)),
                    paused=why.get(key) if endpoint.is_paused else None,
                )
                for key, endpoint in sorted(self._learner.endpoints.items())
            ]

    async def diff(
        self, hub: str, operation: str, from_version: int = 0, to_version: int = 0
    ) -> list[Change]:
        """What differs between two versions; 0 is the newest, and the one before it."""
        endpoint = self._learner.endpoints.get((hub, operation))
        if endpoint is None:
            raise UnknownApi(f"nothing is known of an endpoint {operation!r} of {hub!r}")
        await self._learner.save()
        newer = to_version or endpoint.version
        older = from_version or max(1, newer - 1)
        before, after = [await self._version(endpoint, version) for version in (older, newer)]
        reads = reads_of(hub, operation)
        return await trio.to_thread.run_sync(
            lambda: compare(before, after, reads, operation=operation, evidence=STRUCTURE)
        )

    async def _version(self, endpoint: Endpoint, version: int) -> Shape:
        hub, operation = endpoint.hub, endpoint.operation
        shape = await self._store.read(
            partial(rows.shape_at, hub=hub, operation=operation, version=version)
        )
        if shape is None:
            raise UnknownApi(
                f"{hub} {operation} has no version {version}; the newest is {endpoint.version}"
            )
        return shape

    async def accept(self, change_id: int) -> ApiChange:
        """A person takes this change for good; a break is expected from now on, and asked again."""
        found = await self._store.read(partial(rows.change, change_id=change_id))
        if found is None:
            raise UnknownApi(f"there is no change {change_id}")
        await self._store.apply(
            partial(rows.accept, change_id=change_id),
            durability=Durability.NORMAL,
            name="api_changes.accept",
        )
        endpoint = self._learner.endpoints.get((found.hub, found.operation))
        if found.severity == "breaking" and found.accepted_ms is None and endpoint is not None:
            async with self._learner.lock:
                if endpoint.is_paused and endpoint.version == found.version:
                    await self._learner.end_pause(endpoint, "person", accepted=found.place)
        accepted = await self._store.read(partial(rows.change, change_id=change_id))
        return accepted or found

    async def resume(self, hub: str, operation: str) -> bool:
        """Ask this endpoint again; False when it was not paused. Should it be as before, it is
        paused again."""
        endpoint = self._learner.endpoints.get((hub, operation))
        if endpoint is None:
            raise UnknownApi(f"nothing is known of an endpoint {operation!r} of {hub!r}")
        async with self._learner.lock:
            was_paused = endpoint.is_paused
            await self._learner.end_pause(endpoint, "person")
            return was_paused

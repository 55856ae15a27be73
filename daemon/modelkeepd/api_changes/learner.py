"""Learns from the hubs' answers, one after the other, in a thread: what changed, what is broken.

Owns the queue of answers, the endpoints' shapes and their rows, and the decision to pause. It
costs a bounded share of one processor: after each lesson it rests, and what comes meanwhile from
an endpoint without news is not looked at.
"""

import logging
import random
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

import msgspec
import trio

from modelkeepd.api_changes import rows
from modelkeepd.api_changes.answer import MAX_PAGE_BYTES, Heard, Seen, see
from modelkeepd.api_changes.compare import Change, worst
from modelkeepd.api_changes.endpoint import Endpoint, Patience
from modelkeepd.api_changes.lists import ENDPOINTS
from modelkeepd.api_changes.wording import tidy
from modelkeepd.clocks import Clocks
from modelkeepd.store import Durability, Store, StoreError

log = logging.getLogger(__name__)

PauseEndpoint = Callable[[str, str, str], None]
ResumeEndpoint = Callable[[str, str], None]

# asked for other reasons than what they answer, or compared as lists
_PASSED_OVER = frozenset({"probe", "watch", "resolve"})
_QUEUE = 8
_QUEUE_BYTES = 24 << 20


class ApiSettings(msgspec.Struct, frozen=True):
    """How much is looked at, and how often."""

    patience: Patience = Patience()
    # of a page's documents, once the shape is known; and at first
    documents: int = 3
    first_documents: int = 100
    # of one processor
    share: float = 0.02
    save_ms: int = 300_000
    version_ms: int = 600_000  # between two versions of one endpoint
    look_ms: int = 1_800_000  # between two looks at a paused endpoint
    retry_ms: int = 3_600_000  # of a list that could not be had
    first_tick_s: float = 60.0
    tick_s: float = 300.0


class Counts(msgspec.Struct):
    """What became of the answers heard. ``rested``: not looked at, to stay cheap."""

    learnt: int = 0
    rested: int = 0
    dropped: int = 0
    too_large: int = 0
    cpu_s: float = 0.0


class Learner:
    """Every endpoint's shape. ``lock`` is held by whoever works on them."""

    def __init__(
        self,
        store: Store,
        *,
        pause: PauseEndpoint,
        resume: ResumeEndpoint,
        settings: ApiSettings,
        clocks: Clocks,
        rng: random.Random,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self.counts = Counts()
        self.endpoints: dict[tuple[str, str], Endpoint] = {}
        self.known: dict[str, dict[str, set[str]]] = {}  # hub -> list -> values
        self.paused_ms: dict[tuple[str, str], int] = {}  # since when, or when last looked at
        self.lock = trio.Lock()
        self._store = store
        self._pause, self._resume = pause, resume
        self._settings = settings
        self._clocks = clocks
        self._rng = rng
        self._cpu_s = cpu_s
        self._versioned_ms: dict[tuple[str, str], int] = {}
        self._saved_ms = clocks.wall_ms()
        # what the tap goes by; changed by lessons only
        self._ordinary: set[tuple[str, str, int]] = set()
        self._rest_until = 0.0
        self._queued_bytes = 0
        self._send, self._receive = trio.open_memory_channel[Heard](_QUEUE)

    def heard(self, sample: Heard) -> None:
        """A hub's whole answer, on the loop. Never waits, and drops what is too much."""
        if sample.operation in _PASSED_OVER:
            return
        place = (sample.hub, sample.operation, sample.status)
        if place in self._ordinary and self._clocks.monotonic() < self._rest_until:
            self.counts.rested += 1
        elif len(sample.body) > MAX_PAGE_BYTES:
            self.counts.too_large += 1
        elif self._queued_bytes + len(sample.body) > _QUEUE_BYTES:
            self.counts.dropped += 1
        else:
            try:
                self._send.send_nowait(sample)
            except trio.WouldBlock:
                self.counts.dropped += 1
            else:
                self._queued_bytes += len(sample.body)

    async def recall(self) -> None:
        """Go on from what was kept. Pauses are the rows': what else is paused goes on."""
        kept = await self._store.read(rows.newest_shapes)
        paused = await self._store.read(rows.pauses)
        for one in kept:
            if one.shape is None:
                log.warning(
                    "a kept shape of an API is damaged and is learnt anew",
                    extra={"facts": {"hub": one.hub, "operation": one.operation}},
                )
            endpoint = self.endpoint(one.hub, one.operation)
            endpoint.version, endpoint.base = one.version, one.shape or endpoint.base
        for pause in paused:
            self.endpoint(pause.hub, pause.operation).is_paused = True
            self._pause(pause.hub, pause.operation, pause.reason)
        for (hub, operation), endpoint in self.endpoints.items():
            if not endpoint.is_paused:
                self._resume(hub, operation)
        self._saved_ms = self._clocks.wall_ms()

    def endpoint(self, hub: str, operation: str) -> Endpoint:
        """The endpoint; made when it is first heard of."""
        found = self.endpoints.get((hub, operation))
        if found is None:
            found = Endpoint(hub, operation, patience=self._settings.patience)
            self.endpoints[hub, operation] = found
        return found

    async def run(self) -> None:
        """Learn what is heard, until canceled."""
        async for sample in self._receive:
            self._queued_bytes -= len(sample.body)
            try:
                await self.learn(sample)
            except StoreError as exc:
                # nothing is lost: what was found is found again with the next answers
                facts = {"hub": sample.hub, "error": str(exc)}
                log.warning("a change of an API could not be kept yet", extra={"facts": facts})

    async def learn(self, sample: Heard) -> list[Change]:
        """Take in one answer, keep what it changed, and pause what can't go on."""
        async with self.lock:
            endpoint = self.endpoint(sample.hub, sample.operation)
            if endpoint.is_paused:
                return []
            found = await trio.to_thread.run_sync(self._lesson, endpoint, sample)
            self.counts.learnt += 1
            if found and worst(found) == "breaking":
                await self._break(endpoint, found)
            elif found and self._may_version(endpoint):
                await self._new_version(endpoint, found)
            else:
                found = []
            self._note_ordinary(endpoint, sample.status)
            if self._clocks.wall_ms() - self._saved_ms >= self._settings.save_ms:
                await self.save_locked()
            return found

    def _lesson(self, endpoint: Endpoint, sample: Heard) -> list[Change]:
        began_s = self._cpu_s()
        most = self._settings.first_documents if endpoint.is_new else self._settings.documents
        try:
            return endpoint.learn(self.see(sample, most), self._values(sample.hub))
        finally:
            cost_s = max(0.0, self._cpu_s() - began_s)
            self.counts.cpu_s += cost_s
            self._rest_until = self._clocks.monotonic() + cost_s * (1 / self._settings.share - 1)

    def see(self, sample: Heard, most: int) -> Seen:
        """An answer with up to so many of its documents, any of them. For a thread."""

        def pick(count: int) -> Sequence[int]:
            return range(count) if count <= most else self._rng.sample(range(count), most)

        return see(sample, pick)

    def _values(self, hub: str) -> Collection[str]:
        lists = self.known.get(hub, {})
        return {value for name, values in lists.items() if name != ENDPOINTS for value in values}

    def _note_ordinary(self, endpoint: Endpoint, status: int) -> None:
        place = (endpoint.hub, endpoint.operation, status)
        if endpoint.is_new or endpoint.is_suspect:
            self._ordinary.discard(place)
        else:
            self._ordinary.add(place)

    def _may_version(self, endpoint: Endpoint) -> bool:
        """A hub that goes to and fro must not fill our history."""
        last_ms = self._versioned_ms.get((endpoint.hub, endpoint.operation))
        return last_ms is None or self._clocks.wall_ms() - last_ms >= self._settings.version_ms

    async def _new_version(self, endpoint: Endpoint, changes: Sequence[Change]) -> None:
        hub, operation, version = endpoint.hub, endpoint.operation, endpoint.version
        settled = await trio.to_thread.run_sync(endpoint.settled, changes)
        writes = await trio.to_thread.run_sync(
            lambda: [
                rows.write_of(hub, operation, version, endpoint.base),
                rows.write_of(hub, operation, version + 1, settled),
            ]
        )
        await self._record(endpoint, version + 1, changes, writes)
        endpoint.adopt(settled)
        self._versioned_ms[hub, operation] = self._clocks.wall_ms()

    async def _break(self, endpoint: Endpoint, changes: Sequence[Change]) -> None:
        first = changes[0]
        reason = tidy(
            f"its answers have changed: {first.path} was {first.before}, now {first.after}"
            " (modelkeep api-changes)"
        )
        base = await trio.to_thread.run_sync(
            rows.write_of, endpoint.hub, endpoint.operation, endpoint.version, endpoint.base
        )
        await self._record(endpoint, endpoint.version, changes, [base], pause=reason)
        endpoint.is_paused = True
        endpoint.start_afresh()
        self.paused_ms[endpoint.hub, endpoint.operation] = self._clocks.wall_ms()
        self._pause(endpoint.hub, endpoint.operation, reason)

    async def _record(
        self,
        endpoint: Endpoint,
        version: int,
        changes: Sequence[Change],
        writes: Sequence[rows.ShapeWrite],
        pause: str | None = None,
    ) -> None:
        await self._store.apply(
            partial(
                rows.record,
                hub=endpoint.hub,
                operation=endpoint.operation,
                version=version,
                changes=changes,
                writes=writes,
                pause=pause,
            ),
            durability=Durability.NORMAL,
            name="api_changes.record",
        )
        facts = {
            "hub": endpoint.hub,
            "operation": endpoint.operation,
            "severity": worst(changes),
            "changes": len(changes),
            "first": f"{changes[0].kind} {changes[0].path}",
        }
        log.warning("a hub's API has changed", extra={"facts": facts})

    async def save(self) -> None:
        """Keep what has been learnt."""
        async with self.lock:
            await self.save_locked()

    async def save_locked(self) -> None:
        unsaved = [e for e in self.endpoints.values() if e.is_unsaved]
        if unsaved:
            writes = await trio.to_thread.run_sync(
                lambda: [rows.write_of(e.hub, e.operation, e.version, e.whole()) for e in unsaved]
            )
            await self._store.apply(
                partial(rows.keep_shapes, writes=writes),
                durability=Durability.NORMAL,
                name="api_changes.save",
            )
            for endpoint in unsaved:
                endpoint.is_unsaved = False
        self._saved_ms = self._clocks.wall_ms()

    async def end_pause(
        self, endpoint: Endpoint, by: str, accepted: tuple[str, ...] | None = None
    ) -> None:
        """Ask this endpoint again. With ``accepted``, without expecting anything there.

        To be called under the lock.
        """
        hub, operation = endpoint.hub, endpoint.operation
        shape = None if accepted is None else endpoint.without(accepted)
        writes = []
        if shape is not None:
            writes.append(rows.write_of(hub, operation, endpoint.version + 1, shape))
        await self._store.apply(
            partial(rows.end_pause, hub=hub, operation=operation, by=by, writes=writes),
            durability=Durability.NORMAL,
            name="api_changes.resume",
        )
        if shape is not None:
            endpoint.adopt(shape)
        endpoint.is_paused = False
        endpoint.start_afresh()
        self._resume(hub, operation)

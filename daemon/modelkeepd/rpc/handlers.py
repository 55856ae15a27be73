"""The method table's other half: which function answers which method. No rules of its own."""

import os
from collections.abc import Callable, Collection, Sequence

import apsw
import msgspec

from modelkeep_protocol import PROTOCOL_MAJOR, PROTOCOL_MINOR, methods, schema
from modelkeep_protocol.paths import Paths
from modelkeepd.catalog.service import CatalogService
from modelkeepd.clocks import Clocks
from modelkeepd.library.service import LibraryService
from modelkeepd.rpc.hubs import HubMethods
from modelkeepd.rpc.kinds import KindMethods
from modelkeepd.rpc.mirror import MirrorMethods
from modelkeepd.rpc.server import Handler
from modelkeepd.rpc.streams import EventReader
from modelkeepd.rpc.transfers import Ask, TransferMethods
from modelkeepd.settings import Settings
from modelkeepd.store import Store
from modelkeepd.supervise import StopRequest
from modelkeepd.transfer.service import TransferService
from modelkeepd.transfer.states import RUNNING, State
from modelkeepd.version import VERSION


class Handlers:
    """Answers every method of the protocol from the services."""

    def __init__(
        self,
        *,
        paths: Paths,
        settings: Settings,
        warnings: Sequence[str],
        store: Store,
        stop: StopRequest,
        clocks: Clocks,
        library: LibraryService,
        catalog: CatalogService,
        transfer: TransferService,
        hubs: HubMethods,
        mirror: MirrorMethods,
        kinds: KindMethods,
        late_warnings: Callable[[], Sequence[str]] = tuple,
        askable: Collection[str] = (),
        ask: Ask | None = None,
    ) -> None:
        self._paths = paths
        self._settings = settings
        self._warnings = list(warnings)
        self._store = store
        self._stop = stop
        self._clocks = clocks
        self._library = library
        self._catalog = catalog
        self._transfer = transfer
        self._hubs = hubs
        self._mirror = mirror
        self._kinds = kinds
        self._late_warnings = late_warnings
        self._askable = askable
        self._ask = ask
        self._started_ms = clocks.wall_ms()
        self._started = clocks.monotonic()
        self._counts: tuple[int, tuple[int, ...]] = (-1, ())
        self.service_states: Callable[[], dict[str, str]] = dict

    def table(self) -> dict[str, Handler]:
        """Method name to function."""
        events = EventReader(self._store)
        transfers = TransferMethods(
            self._store, self._transfer, askable=self._askable, ask=self._ask
        )
        return {
            methods.DAEMON_PING: self.ping,
            methods.DAEMON_STATUS: self.status,
            methods.DAEMON_STOP: self.stop,
            **self._hubs.table(),
            **self._mirror.table(),
            methods.CATALOG_SEARCH: self.search,
            methods.CATALOG_COMPLETE: self.complete,
            methods.TRANSFER_GET: transfers.get,
            methods.TRANSFER_LIST: transfers.list,
            methods.TRANSFER_PAUSE: transfers.pause,
            methods.TRANSFER_RESUME: transfers.resume,
            methods.TRANSFER_CANCEL: transfers.cancel,
            methods.TRANSFER_RETRY: transfers.retry,
            methods.TRANSFER_MOVE: transfers.move,
            methods.LIBRARY_LIST: self.library_list,
            methods.LIBRARY_ROOTS: self.library_roots,
            methods.LIBRARY_ADD: self.library_add,
            methods.LIBRARY_REMOVE: self.library_remove,
            methods.LIBRARY_SCAN: self.library_scan,
            methods.EVENTS_READ: events.read,
            methods.EVENTS_WATCH: events.watch,
            **self._kinds.table(),
        }

    def ping(self, params: schema.Empty) -> schema.Pong:
        """Answered inside the pump: it tells how busy that is."""
        return schema.Pong(self._clocks.wall_ms())

    def stop(self, params: schema.Empty) -> schema.Empty:
        """End the daemon; the answer leaves before the socket closes."""
        self._stop.request("asked by a client")
        return schema.Empty()

    async def status(self, params: schema.Empty) -> schema.Status:
        """Everything at a glance."""
        models, versions, files, odd = await self._catalog_counts()
        jobs = await self._transfer.counts()
        rate = sum(
            progress.rate_bytes_per_s
            for job in await self._active_ids()
            if (progress := self._transfer.progress(job)) is not None
        )
        return schema.Status(
            daemon=schema.DaemonStatus(
                version=VERSION,
                pid=os.getpid(),
                uptime_s=round(self._clocks.monotonic() - self._started, 3),
                started_ms=self._started_ms,
                epoch=self._store.epoch,
                home=self._paths.home or self._paths.state_dir,
                protocol=f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}",
                services=self.service_states(),
            ),
            catalog=schema.CatalogStatus(models, versions, files, odd, self._catalog.is_caught_up),
            queue=schema.QueueStatus(
                active=sum(jobs.get(state, 0) for state in RUNNING),
                waiting=jobs.get(State.QUEUED, 0) + jobs.get(State.WAITING, 0),
                failed=jobs.get(State.FAILED, 0),
                paused=jobs.get(State.PAUSED, 0),
                quarantined=jobs.get(State.QUARANTINED, 0),
                rate_bytes_per_s=rate,
            ),
            library=await self._library.status(),
            hubs=self._hubs.statuses(),
            warnings=[*self._warnings, *self._late_warnings()],
        )

    async def _active_ids(self) -> list[int]:
        page = await self._transfer.list_jobs(states=tuple(RUNNING), limit=100)
        return [job.job_id for job in page.jobs]

    async def _catalog_counts(self) -> tuple[int, ...]:
        """Looked up again only after events."""
        seq = self._store.feed.last_seq
        if self._counts[0] != seq:
            self._counts = (seq, await self._store.read(_count))
        return self._counts[1]

    async def search(self, params: schema.Search) -> schema.SearchPage:
        """Find models in the index; rows come from the store."""
        page = await self._catalog.search(
            params.query,
            sort=params.sort,
            limit=params.limit,
            offset=params.offset,
            facets=params.facets,
        )
        self._hubs.searched()
        return page

    async def complete(self, params: schema.Complete) -> schema.Completions:
        """Values for completion."""
        if params.kind == "roots":
            roots = await self._library.roots()
            found = _beginning_with(params.prefix, [root.path for root in roots.items])
        elif params.kind == "jobs":
            page = await self._transfer.list_jobs(limit=200)
            found = _beginning_with(params.prefix, [str(job.job_id) for job in page.jobs])
        else:
            # it folds what it compares: sdxl1 completes to SDXL 1.0
            found = await self._catalog.complete(params.kind, params.prefix, params.limit)
        return schema.Completions(found[: params.limit])

    async def library_list(self, params: schema.ListFiles) -> schema.LibraryFiles:
        """Files on disk."""
        return await self._library.list(params)

    async def library_roots(self, params: schema.Empty) -> schema.Roots:
        """Watched folders."""
        return await self._library.roots()

    async def library_add(self, params: schema.AddRoot) -> schema.Roots:
        """Watch a folder."""
        return await self._library.add(params.path, params.layout)

    async def library_remove(self, params: schema.PickRoot) -> schema.Roots:
        """Stop watching a folder."""
        return await self._library.remove(params.path)

    async def library_scan(self, params: schema.PickRoot) -> schema.ScanResult:
        """Walk now."""
        return await self._library.scan(params.path)


def _beginning_with(prefix: str, texts: Sequence[str]) -> list[str]:
    return [text for text in texts if text.lower().startswith(prefix.lower())]


def _count(db: apsw.Connection) -> tuple[int, ...]:
    # the catalog's rows are numbered from 1 and never deleted, so the last number is the count;
    # counting a million takes 19 ms with all in the cache, and in a sync each status would do it
    row = db.execute(
        "SELECT (SELECT coalesce(max(model_key), 0) FROM model),"
        " (SELECT coalesce(max(version_key), 0) FROM version),"
        " (SELECT coalesce(max(file_key), 0) FROM file),"
        " (SELECT coalesce(max(odd_id), 0) FROM odd_document)"
    ).fetchone()
    return msgspec.convert(row, tuple[int, ...])

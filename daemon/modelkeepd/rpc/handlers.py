"""The method table's other half: which function answers which method. No rules of its own."""

import os
from collections.abc import Callable, Mapping, Sequence

import apsw
import msgspec

from modelkeep_protocol import PROTOCOL_MAJOR, PROTOCOL_MINOR, errors, methods, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.paths import Paths
from modelkeepd.catalog.service import CatalogService
from modelkeepd.clocks import Clocks
from modelkeepd.hubs.reference import parse_reference
from modelkeepd.library.service import LibraryService
from modelkeepd.rpc.server import Handler
from modelkeepd.rpc.streams import EventReader
from modelkeepd.rpc.transfers import TransferMethods
from modelkeepd.settings import Settings
from modelkeepd.store import Store
from modelkeepd.supervise import StopRequest
from modelkeepd.sync.progress import SyncStatus
from modelkeepd.sync.service import SyncService, UnknownHub
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
        sync: SyncService,
        has_token: Mapping[str, bool],
        requests: Callable[[str], int],
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
        self._sync = sync
        self._has_token = has_token
        self._requests = requests
        self._started_ms = clocks.wall_ms()
        self._started = clocks.monotonic()
        self._counts: tuple[int, tuple[int, ...]] = (-1, ())
        self.service_states: Callable[[], dict[str, str]] = dict

    def table(self) -> dict[str, Handler]:
        """Method name to function."""
        events = EventReader(self._store)
        transfers = TransferMethods(self._store, self._transfer)
        return {
            methods.DAEMON_PING: self.ping,
            methods.DAEMON_STATUS: self.status,
            methods.DAEMON_STOP: self.stop,
            methods.SYNC_START: self.sync_start,
            methods.SYNC_STATUS: self.sync_status,
            methods.CATALOG_SEARCH: self.search,
            methods.CATALOG_SHOW: self.show,
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
        runs = {status.hub: status for status in self._sync.status()}
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
            hubs=[
                schema.HubStatus(
                    name=name,
                    base_url=getattr(self._settings.hubs, name).base_url,
                    has_token=self._has_token.get(name, False),
                    last_sync_ms=status.finished_ms,
                    sync=self._run(status),
                )
                for name, status in runs.items()
            ],
            warnings=self._warnings,
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

    async def sync_start(self, params: schema.SyncStart) -> schema.SyncRuns:
        """Begin, or show what runs."""
        hubs = [params.hub] if params.hub else [status.hub for status in self._sync.status()]
        try:
            started = [await self._sync.start(hub, params.full) for hub in hubs]
        except UnknownHub as exc:
            raise ModelkeepError(
                errors.NOT_FOUND, str(exc.args[0]), "hubs are set in config.toml"
            ) from None
        return schema.SyncRuns([run for status in started if (run := self._run(status))])

    async def sync_status(self, params: schema.Empty) -> schema.SyncRuns:
        """The current or last run of each hub."""
        return schema.SyncRuns(
            [run for status in self._sync.status() if (run := self._run(status))]
        )

    def _run(self, status: SyncStatus) -> schema.SyncRun | None:
        if status.run_id is None:
            return None
        return schema.SyncRun(
            hub=status.hub,
            run_id=status.run_id,
            kind=status.kind or "full",
            state="finished" if status.state == "idle" else status.state,
            phase=status.view or "",
            started_ms=status.started_ms or 0,
            ended_ms=status.finished_ms,
            pages=status.pages,
            requests=self._requests(status.hub),
            models_seen=status.seen,
            models_new=status.new,
            models_changed=status.changed,
            odd=status.odd,
            total_estimate=(
                round(status.seen / status.fraction) if status.fraction and status.seen else None
            ),
            eta_s=status.eta_s,
            error=status.error,
            hint=status.hint,
            fraction=status.fraction,
            models_per_s=status.models_per_s,
            waiting_s=status.waiting_s,
            gaps=status.gaps,
        )

    async def search(self, params: schema.Search) -> schema.SearchPage:
        """Find models in the index; rows come from the store."""
        return await self._catalog.search(
            params.query,
            sort=params.sort,
            limit=params.limit,
            offset=params.offset,
            facets=params.facets,
        )

    async def show(self, params: schema.Show) -> schema.ModelDetail:
        """One model."""
        return await self._catalog.show(parse_reference(params.ref), raw=params.raw)

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

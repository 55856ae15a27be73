"""Makes the parts of the daemon and hands each what it needs; runs nothing.

The order of ``services`` is the start order; ``app`` and ``supervise`` do the rest.
"""

import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import apsw

from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.paths import Paths
from modelkeepd import logs
from modelkeepd.catalog.service import CatalogService
from modelkeepd.clocks import Clocks
from modelkeepd.hubs.contract import Hub, HubError, WantedFile
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.hubs.opening import HubConfig, open_hubs
from modelkeepd.library import records
from modelkeepd.library.layout import detect_layout, folder_for
from modelkeepd.library.service import LibraryService
from modelkeepd.maintenance import MaintenanceService
from modelkeepd.rpc.errors import as_modelkeep_error
from modelkeepd.rpc.handlers import Handlers
from modelkeepd.rpc.server import RpcService
from modelkeepd.scan.scanner import scan_file
from modelkeepd.secrets import load_token
from modelkeepd.settings import BadSettings, HubSettings, Settings
from modelkeepd.store import Store
from modelkeepd.supervise import Service, StopRequest, Supervisor
from modelkeepd.sync.service import SyncService, SyncSettings
from modelkeepd.transfer.fetch import open_fetcher
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.ports import Ports, SourcePlan, TransferSettings
from modelkeepd.transfer.service import TransferService

log = logging.getLogger(__name__)


class Daemon:
    """The parts of one daemon. Made by :func:`wire`."""

    def __init__(
        self,
        paths: Paths,
        store: Store,
        supervisor: Supervisor,
        handlers: Handlers,
        rpc: RpcService,
    ) -> None:
        self.paths = paths
        self.store = store
        self.supervisor = supervisor
        self.handlers = handlers
        self.rpc = rpc


@asynccontextmanager
async def wire(
    paths: Paths,
    settings: Settings,
    warnings: Sequence[str],
    store: Store,
    stop: StopRequest,
    clocks: Clocks,
) -> AsyncIterator[Daemon]:
    """All parts, connected; what they hold open is closed on leaving."""
    async with AsyncExitStack() as stack:
        configs = hub_configs(settings, Path(paths.config_dir))
        hubs = await stack.enter_async_context(open_hubs(configs, clocks=clocks))
        homes = {config.name: config.base_url for config in configs}
        fetcher = await stack.enter_async_context(open_fetcher())
        library = LibraryService(store, settings.library, clocks)
        catalog = CatalogService(store, Path(paths.search_index), DocumentCodec())
        transfer = TransferService(
            store, fetcher, _transfer_settings(settings), _ports(store, hubs, homes)
        )
        sync = SyncService(store, hubs, SyncSettings(auto=settings.sync.auto), clocks=clocks)
        services: list[Service] = [
            MaintenanceService(store, settings.events),
            library,
            catalog,
            transfer,
            sync,
        ]
        handlers = Handlers(
            paths=paths,
            settings=settings,
            warnings=warnings,
            store=store,
            stop=stop,
            clocks=clocks,
            library=library,
            catalog=catalog,
            transfer=transfer,
            sync=sync,
            has_token={config.name: config.token is not None for config in configs},
            requests=lambda name: hubs[name].requests_sent,
        )
        rpc = RpcService(
            Path(paths.socket), store.epoch, handlers.table(), map_error=as_modelkeep_error
        )
        supervisor = Supervisor([*services, rpc], stop)
        handlers.service_states = lambda: supervisor.states
        yield Daemon(paths, store, supervisor, handlers, rpc)


def hub_configs(settings: Settings, config_dir: Path) -> list[HubConfig]:
    """The hubs in use, their tokens read and kept out of the log. Raises as load_token does."""
    configs = []
    for name in settings.hubs.__struct_fields__:
        hub: HubSettings = getattr(settings.hubs, name)
        if hub.enabled:
            token = load_token(name, config_dir)
            if token is not None:
                logs.hide(token.reveal())
            configs.append(HubConfig(name, hub.base_url, token, hub.requests_per_second))
    return configs


def _transfer_settings(settings: Settings) -> TransferSettings:
    root = settings.transfer.root
    layout: str = settings.transfer.layout
    if not root and settings.library.roots:
        root, layout = settings.library.roots[0].path, settings.library.roots[0].layout
    return TransferSettings(
        # links resolved, as the library does: both must call a folder by one name
        root=_folder(root, "transfer.root") if root else None,
        layout=layout,
        parallel_files=settings.transfer.parallel_files,
        reserve_bytes=settings.transfer.reserve_bytes,
        review=settings.transfer.review,
    )


def _folder(path: str, key: str) -> Path:
    try:
        found = Path(path).expanduser()
        if found.is_absolute():
            return Path(os.path.realpath(found))
        why = "it is not absolute"
    except (ValueError, RuntimeError) as exc:  # a NUL; the home of nobody
        why = str(exc)
    raise BadSettings(f"{key} = {path!r} is no folder's path: {why}")


def _ports(store: Store, hubs: dict[str, Hub], homes: dict[str, str]) -> Ports:
    async def resolve(job: Job) -> SourcePlan:
        hub = hubs.get(job.hub)
        if hub is None:
            raise HubError(
                f"the hub {job.hub} is not in use", hint="enable it in config.toml and restart"
            )
        wanted = await store.read(lambda db: _wanted(db, job))
        plan = await hub.download_plan(wanted)
        return SourcePlan(
            url=plan.url,
            home=homes[job.hub],
            token=plan.token,
            size_bytes=plan.size_bytes,
            sha256=plan.sha256,
            user_agent=plan.user_agent,
            fallback_url=plan.fallback_url,
        )

    return Ports(
        resolve=resolve,
        scan=scan_file,
        expect=records.expect,
        adopt=records.adopt,
        owned_path=records.owned_path,
        folder_for=folder_for,
        detect_layout=detect_layout,
    )


def _wanted(db: apsw.Connection, job: Job) -> WantedFile:
    """The catalog's row of the job's file. The job's own facts win where it has some."""
    row = db.execute(
        "SELECT m.hub_id, v.hub_id, f.hub_id, f.name, f.url, f.size_bytes, f.sha256,"
        " f.git_sha1, m.ref_id, v.files_revision FROM file f"
        " JOIN version v USING (version_key) JOIN model m ON m.model_key = v.model_key"
        " WHERE f.file_key = ?",
        (job.file_key,),
    ).fetchone()
    if row is None:
        raise ModelkeepError("not_found", f"{job.ref} is not in the catalog any more")
    model_id, version_id, file_id, name, url, size_bytes, sha256, git_sha1, ref_id, revision = row
    return WantedFile(
        model_id=str(model_id),
        version_id=str(version_id),
        file_id=str(file_id),
        name=str(name),
        url=None if url is None else str(url),
        size_bytes=job.size_bytes or (size_bytes if isinstance(size_bytes, int) else None),
        sha256=job.sha256 or (sha256 if isinstance(sha256, bytes) else None),
        git_sha1=git_sha1 if isinstance(git_sha1, bytes) else None,
        ref_id=str(ref_id),
        revision=None if revision is None else str(revision),
    )

"""Makes the parts of the daemon and hands each what it needs; runs nothing.

The order of ``services`` is the start order; ``app`` and ``supervise`` do the rest.
"""

import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from modelkeep_protocol.paths import Paths
from modelkeepd import logs
from modelkeepd.api_changes.learner import ApiSettings
from modelkeepd.api_changes.service import ApiChangesService
from modelkeepd.catalog.service import CatalogService
from modelkeepd.clocks import Clocks
from modelkeepd.hubs.contract import HubUnavailable, NotFoundOnHub, parse_model
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.hubs.keeper import HubKeeper
from modelkeepd.hubs.opening import HubConfig, Hubs, open_hubs
from modelkeepd.hubs.reference import model_ref, parse_reference
from modelkeepd.hubs.schedule import is_quiet, local_time
from modelkeepd.legacy.service import LegacyService
from modelkeepd.library import records
from modelkeepd.library.guessing import FileGuesses
from modelkeepd.library.layout import detect_layout, folder_for
from modelkeepd.library.paths import from_text
from modelkeepd.library.roots import read_roots
from modelkeepd.library.service import LibraryService
from modelkeepd.maintenance import MaintenanceService
from modelkeepd.rpc.errors import as_modelkeep_error
from modelkeepd.rpc.handlers import Handlers
from modelkeepd.rpc.hubs import HubMethods
from modelkeepd.rpc.kinds import KindMethods
from modelkeepd.rpc.mirror import MirrorMethods
from modelkeepd.rpc.server import RpcService
from modelkeepd.rpc.transfers import Ask
from modelkeepd.scan.scanner import scan_file
from modelkeepd.secrets import Secret, load_token
from modelkeepd.settings import BadSettings, HubSettings, HuggingFaceSettings, Settings
from modelkeepd.snapshot.service import SnapshotService
from modelkeepd.store import Durability, Store
from modelkeepd.supervise import Service, StopRequest, Supervisor
from modelkeepd.sync.details import DetailService
from modelkeepd.sync.schedule import Cadence
from modelkeepd.sync.service import Ports as SyncPorts
from modelkeepd.sync.service import SyncService, SyncSettings
from modelkeepd.transfer.fetch import open_fetcher
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.ports import Ports, TransferSettings
from modelkeepd.transfer.resolve import resolver
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
        sync = SyncService(
            store,
            hubs.background,
            {config.name: _sync_settings(settings, config.name) for config in configs},
            interactive=hubs.interactive,
            ports={
                config.name: _sync_ports(settings, hubs, config.name, clocks) for config in configs
            },
            details_ttl_s={
                config.name: getattr(settings.hubs, config.name).detail_ttl_s for config in configs
            },
            saved=hubs.saved,
            clocks=clocks,
        )
        ask = _ask(sync.details)
        transfer = TransferService(
            store, fetcher, _transfer_settings(settings), _ports(store, hubs, homes, ask)
        )
        api_changes = watch_apis(store, hubs, clocks)
        snapshots = SnapshotService(
            store, DocumentCodec(), Path(paths.config_dir), parse=parse_model, clocks=clocks
        )
        legacy = LegacyService(store, [Path(paths.config_dir), Path(paths.state_dir)])
        services: list[Service] = [
            MaintenanceService(store, settings.events),
            HubKeeper(hubs, partial(store.apply, durability=Durability.NORMAL), store.read),
            api_changes,
            library,
            legacy,
            catalog,
            transfer,
            sync,
            snapshots,
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
            late_warnings=lambda: legacy.warnings,
            kinds=KindMethods(store, FileGuesses(store)),
            hubs=HubMethods(
                sync, hubs, homes, {config.name: config.token is not None for config in configs}
            ),
            mirror=MirrorMethods(
                catalog, sync.details, api_changes, snapshots, hubs.saved, sync.hurry
            ),
            askable=hubs.interactive,
            ask=ask,
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
            configs.append(_hub_config(name, hub, token))
    return configs


def _hub_config(name: str, hub: HubSettings, token: Secret | None) -> HubConfig:
    config = HubConfig(
        name,
        hub.base_url,
        token,
        hub.requests_per_second,
        background_per_day=hub.background_requests_per_day,
    )
    if isinstance(hub, HuggingFaceSettings):
        config = replace(config, filters=hub.filters, page_size=hub.page_size)
    return config


def _sync_settings(settings: Settings, name: str) -> SyncSettings:
    every_s = 3_600.0 * getattr(settings.hubs, name).sync_every_h
    cadence = Cadence(news_s=every_s)
    return SyncSettings(auto=settings.sync.auto, cadence=cadence)


def _sync_ports(settings: Settings, hubs: Hubs, name: str, clocks: Clocks) -> SyncPorts:
    hours: str = getattr(settings.hubs, name).quiet_hours
    return SyncPorts(
        is_quiet=lambda: is_quiet(local_time(clocks.wall_ms()), hours),
        budget_left=lambda: hubs.standing(name).background_left,
    )


def _transfer_settings(settings: Settings) -> TransferSettings:
    root = settings.transfer.root
    layout: str = settings.transfer.layout
    roots = settings.library.roots
    if not root and roots:
        root, layout = roots[0].path, roots[0].layout
    elif layout == "auto":
        # an empty folder shows no layout, but the library's settings may tell it
        layout = next((each.layout for each in roots if each.path == root), layout)
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


def watch_apis(
    store: Store, hubs: Hubs, clocks: Clocks, settings: ApiSettings | None = None
) -> ApiChangesService:
    """The service that hears every answer of these hubs, and pauses what it can't read."""

    async def ask(hub: str, path: str, params: Sequence[tuple[str, str]]) -> bytes:
        line = hubs.lines[hub, "background"]
        return await line.get(path, params, operation="watch", read=lambda answer: answer.body)

    def pause(hub: str, operation: str, reason: str) -> None:
        if hub in hubs.hosts:  # it may have been taken out of the configuration since
            hubs.hosts[hub].pause(operation, reason)

    def resume(hub: str, operation: str) -> None:
        if hub in hubs.hosts and hubs.hosts[hub].breaker(operation).state == "paused":
            hubs.hosts[hub].resume(operation)

    service = ApiChangesService(
        store,
        ask=ask,
        pause=pause,
        resume=resume,
        hubs=tuple(hubs.hosts),
        settings=settings,
        clocks=clocks,
    )
    hubs.listen(service.heard)
    return service


def _ask(details: DetailService) -> Ask:
    """What the hub has now, whatever age what we know has."""

    async def ask(hub: str, ref_id: str) -> None:
        try:
            fresh = await details.fresh_named(hub, ref_id, 0.0)
        except NotFoundOnHub as exc:
            raise NotFoundOnHub(
                f"{model_ref(hub, ref_id)} is not in the catalog, and the hub denies it too:"
                f" {exc.message}",
                hint="modelkeep search finds what is there",
                status=exc.status,
            ) from exc
        if fresh.stale:
            raise HubUnavailable(
                fresh.error or f"{hub} does not answer", hint="try again when the hub answers"
            )

    return ask


def _ports(store: Store, hubs: Hubs, homes: dict[str, str], ask: Ask) -> Ports:
    async def refresh(job: Job) -> None:
        reference = parse_reference(job.ref)
        if reference.model is not None:
            await ask(job.hub, reference.model)

    async def turn(hub: str) -> None:
        await hubs.lines[hub, "interactive"].turn("resolve")

    def heard(hub: str, status: int, headers: Mapping[str, str]) -> None:
        hubs.lines[hub, "interactive"].heard("resolve", status, headers)

    return Ports(
        resolve=resolver(store, hubs.interactive, homes),
        refresh=refresh,
        turn=turn,
        heard=heard,
        scan=scan_file,
        expect=records.expect,
        adopt=records.adopt,
        owned_path=records.owned_path,
        folder_for=folder_for,
        detect_layout=detect_layout,
        roots=lambda db: [from_text(root.path) for root in read_roots(db)],
        content_at=records.content_at,
    )

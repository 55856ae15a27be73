"""The methods about the mirror itself: a model fresh and through time, the hubs' APIs, snapshots.

Turns services' answers into the protocol's Structs; no rules of its own.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from modelkeep_protocol import errors, methods, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.api_changes.rows import ApiChange
from modelkeepd.api_changes.service import ApiChangesService
from modelkeepd.catalog.service import CatalogService
from modelkeepd.hubs.contract import HubError
from modelkeepd.hubs.reference import Reference, parse_reference
from modelkeepd.rpc.server import Handler
from modelkeepd.snapshot.service import SnapshotService, Task
from modelkeepd.sync.details import DetailService, Freshness


class MirrorMethods:
    """Answers ``catalog.show``, ``catalog.history``, ``api.*`` and ``snapshot.*``."""

    def __init__(
        self,
        catalog: CatalogService,
        details: DetailService,
        api_changes: ApiChangesService,
        snapshots: SnapshotService,
        saved: Callable[[str, str], None],
        hurry: Callable[[str], None],
    ) -> None:
        self._catalog = catalog
        self._details = details
        self._api = api_changes
        self._snapshots = snapshots
        self._saved = saved
        self._hurry = hurry

    def table(self) -> dict[str, Handler]:
        """Method name to function."""
        return {
            methods.CATALOG_SHOW: self.show,
            methods.CATALOG_HISTORY: self.history,
            methods.API_CHANGES: self.api_changes,
            methods.API_ENDPOINTS: self.api_endpoints,
            methods.API_DIFF: self.api_diff,
            methods.API_ACCEPT: self.api_accept,
            methods.API_RESUME: self.api_resume,
            methods.SNAPSHOT_EXPORT: self.snapshot_export,
            methods.SNAPSHOT_IMPORT: self.snapshot_import,
            methods.SNAPSHOT_STATUS: self.snapshot_status,
            methods.SNAPSHOT_CANCEL: self.snapshot_cancel,
        }

    async def show(self, params: schema.Show) -> schema.ModelDetail:
        """One model; the hub is asked where its list leaves the files out, or when told to."""
        reference = parse_reference(params.ref)
        freshness = await self._freshened(reference, params.fresh)
        shown = await self._catalog.show(reference, raw=params.raw)
        if freshness is None:
            self._saved(shown.hub, "catalog")
            return shown
        return msgspec.structs.replace(
            shown,
            age_s=round(freshness.age_s, 1),
            stale=freshness.stale,
            stale_why=freshness.error,
        )

    async def _freshened(self, reference: Reference, ask_now: bool) -> Freshness | None:
        if reference.hub is None or reference.model is None:
            return None
        try:
            if ask_now or self._details.asks_for(reference.hub):
                return await self._details.fresh_named(
                    reference.hub, reference.model, 0.0 if ask_now else None
                )
        except HubError:
            # of a model nobody knows, what the catalog says is the clearer answer
            if ask_now:
                raise
        return None

    async def history(self, params: schema.ShowHistory) -> schema.History:
        """How a model changed."""
        page = await self._catalog.history(
            parse_reference(params.ref),
            limit=params.limit,
            before_ms=params.before_ms,
            statistics=params.statistics,
        )
        return schema.History(
            ref=page.ref,
            items=[
                schema.HistoryChange(
                    c.at_ms, c.kind, c.what, c.before, c.after, c.version, c.seen_ms
                )
                for c in page.items
            ],
            more=page.next_before_ms is not None,
            damaged=page.damaged,
            next_before_ms=page.next_before_ms,
            name=page.name,
            statistics=[
                schema.Statistic(s.name, s.before, s.after, s.since_ms, s.until_ms)
                for s in page.statistics
            ],
        )

    async def api_changes(self, params: schema.ListApiChanges) -> schema.ApiChanges:
        """What changed of the hubs' APIs."""
        changes, total = await self._api.history(
            params.hub or None,
            severity=params.severity or None,
            limit=params.limit,
            after=params.before_id or None,
        )
        return schema.ApiChanges([_change(change) for change in changes], total)

    async def api_endpoints(self, params: schema.Empty) -> schema.ApiEndpoints:
        """What is known of each endpoint."""
        return schema.ApiEndpoints(
            [
                schema.ApiEndpoint(
                    hub=info.hub,
                    operation=info.operation,
                    version=info.version,
                    documents=info.documents,
                    since_ms=info.since_ms,
                    last_ms=info.last_ms,
                    paused=info.paused,
                )
                for info in await self._api.shapes()
            ]
        )

    async def api_diff(self, params: schema.DiffApi) -> schema.ApiChanges:
        """Two versions of an endpoint's answers."""
        found = await self._api.diff(
            params.hub, params.operation, params.from_version, params.to_version
        )
        newest = {(s.hub, s.operation): s.version for s in await self._api.shapes()}
        version = params.to_version or newest[params.hub, params.operation]
        items = [
            schema.ApiChange(
                id=0,
                hub=params.hub,
                operation=params.operation,
                kind=change.kind,
                severity=change.severity,
                path=change.path,
                before=change.before,
                after=change.after,
                example=change.example,
                suggestion=change.suggestion,
                at_ms=0,
                version=version,
                accepted_ms=None,
            )
            for change in found
        ]
        return schema.ApiChanges(items, len(items))

    async def api_accept(self, params: schema.PickApi) -> schema.ApiChange:
        """A person saw a change."""
        return _change(await self._api.accept(params.id))

    async def api_resume(self, params: schema.PickApi) -> schema.ApiEndpoints:
        """Ask a paused endpoint again."""
        if not await self._api.resume(params.hub, params.operation):
            raise ModelkeepError(
                errors.CONFLICT,
                f"{params.operation} of {params.hub} is not paused",
                "modelkeep api-changes endpoints lists what is",
            )
        self._hurry(params.hub)
        return await self.api_endpoints(schema.Empty())

    def snapshot_export(self, params: schema.ExportCatalog) -> schema.SnapshotTask:
        """Begin to write the catalog to a file."""
        since = _path(params.since) if params.since else None
        return _task(self._snapshots.export(_path(params.path), since))

    def snapshot_import(self, params: schema.ImportCatalog) -> schema.SnapshotTask:
        """Begin to merge a file into the catalog."""
        return _task(self._snapshots.import_(_path(params.path), params.trust))

    def snapshot_status(self, params: schema.Empty) -> schema.SnapshotTask:
        """The export or import under way, or the last."""
        return _task(self._snapshots.task)

    async def snapshot_cancel(self, params: schema.Empty) -> schema.SnapshotTask:
        """End what is under way."""
        return _task(await self._snapshots.cancel())


def _change(change: ApiChange) -> schema.ApiChange:
    return schema.ApiChange(
        id=change.change_id,
        hub=change.hub,
        operation=change.operation,
        kind=change.kind,
        severity=change.severity,
        path=change.path,
        before=change.before,
        after=change.after,
        example=change.example,
        suggestion=change.suggestion,
        at_ms=change.at_ms,
        version=change.version,
        accepted_ms=change.accepted_ms,
    )


def _task(task: Task) -> schema.SnapshotTask:
    return msgspec.convert(task, schema.SnapshotTask, from_attributes=True)


def _path(text: str) -> Path:
    if not text.startswith("/") or "\0" in text:
        raise ModelkeepError(
            errors.INVALID, f"{text!r} is no absolute path", "name the file from the root: /…"
        )
    return Path(text)

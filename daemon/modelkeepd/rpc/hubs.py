"""The methods about hubs: syncs, and how each hub is asked. No rules of its own."""

from collections.abc import Mapping

from modelkeep_protocol import errors, methods, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.hubs.opening import Hubs
from modelkeepd.rpc.server import Handler
from modelkeepd.sync.progress import SyncStatus
from modelkeepd.sync.service import SyncService, UnknownHub


class HubMethods:
    """Answers ``sync.*``, and the hubs' part of the status."""

    def __init__(
        self,
        sync: SyncService,
        hubs: Hubs,
        base_urls: Mapping[str, str],
        has_token: Mapping[str, bool],
    ) -> None:
        self._sync = sync
        self._hubs = hubs
        self._base_urls = base_urls
        self._has_token = has_token

    def table(self) -> dict[str, Handler]:
        """Method name to function."""
        return {methods.SYNC_START: self.start, methods.SYNC_STATUS: self.status}

    async def start(self, params: schema.SyncStart) -> schema.SyncRuns:
        """Begin, or show what runs."""
        names = [params.hub] if params.hub else [status.hub for status in self._sync.status()]
        try:
            started = [await self._sync.start(name, params.full) for name in names]
        except UnknownHub as exc:
            raise ModelkeepError(
                errors.NOT_FOUND, str(exc.args[0]), "hubs are set in config.toml"
            ) from None
        return schema.SyncRuns([run for status in started if (run := self._run(status))])

    async def status(self, params: schema.Empty) -> schema.SyncRuns:
        """The current or last run of each hub."""
        return schema.SyncRuns(
            [run for status in self._sync.status() if (run := self._run(status))]
        )

    def searched(self) -> None:
        """A search was answered here: without the mirror each hub would have been asked."""
        for name in self._hubs.hosts:
            self._hubs.saved(name, "catalog")

    def statuses(self) -> list[schema.HubStatus]:
        """Every hub at a glance."""
        return [self._hub(status) for status in self._sync.status()]

    def _hub(self, status: SyncStatus) -> schema.HubStatus:
        standing = self._hubs.standing(status.hub)
        coverage = status.coverage
        return schema.HubStatus(
            name=status.hub,
            base_url=self._base_urls[status.hub],
            has_token=self._has_token.get(status.hub, False),
            last_sync_ms=max(
                filter(None, (status.last_full_ms, status.last_news_ms, status.finished_ms)),
                default=None,
            ),
            sync=self._run(status),
            next_sync_ms=status.next_sync_ms,
            is_quiet=status.is_quiet,
            requests=schema.Requests(
                per_s=round(standing.per_s, 3),
                left=standing.left,
                resets_s=None if standing.resets_s is None else round(standing.resets_s, 1),
                background_left=standing.background_left,
                sent_today=standing.sent_today,
                sent=standing.sent,
                saved_today=sum(standing.saved_today.values()),
                saved=sum(standing.saved.values()),
            ),
            breakers=[
                schema.Breaker(b.operation, b.state, b.reason, b.until_ms)
                for b in standing.breakers
            ],
            breaker_history=[
                schema.BreakerChange(c.operation, c.state, c.reason, c.at_ms)
                for c in standing.history
            ],
            coverage=schema.Coverage(
                models=coverage.models,
                gone=coverage.gone,
                suspects=coverage.suspects,
                oldest_seen_ms=coverage.oldest_seen_ms,
                details=coverage.details,
            ),
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
            requests=self._hubs.background[status.hub].requests_sent,
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

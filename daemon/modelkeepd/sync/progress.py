"""What a person sees of a sync: counts, how far it is, how long it may still take.

Pure. Estimates are given only where something is known; None means unknown, not never.
"""

from typing import Literal

import msgspec

from modelkeepd.sync import plan
from modelkeepd.sync.plan import CrawlState
from modelkeepd.sync.runs import Coverage, Run

SyncState = Literal["never", "idle", "running", "waiting", "failed"]


class SyncStatus(msgspec.Struct, frozen=True):
    """One hub's sync at a glance: the crawl or the news under way, or else the last one.

    ``waiting`` is a run that waits for the hub. ``task`` is what is done now, which may be one of
    the background's (confirm, refetch, sweep, details). Times are when each kind last ended.
    """

    hub: str
    state: SyncState
    run_id: int | None = None
    kind: str | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    view: str | None = None
    pages: int = 0
    seen: int = 0
    new: int = 0
    changed: int = 0
    odd: int = 0
    gaps: int = 0
    fraction: float | None = None
    eta_s: float | None = None
    models_per_s: float | None = None
    waiting_s: float | None = None
    error: str | None = None
    hint: str | None = None
    task: str | None = None
    is_quiet: bool = False
    next_sync_ms: int | None = None
    last_full_ms: int | None = None
    last_news_ms: int | None = None
    last_sweep_ms: int | None = None
    last_refetch_ms: int | None = None
    coverage: Coverage = Coverage()


class Pace(msgspec.Struct):
    """How fast pages come: a moving average that forgets an outage within some pages."""

    page_s: float | None = None
    models_per_page: float = 0.0
    last_s: float | None = None

    def page_written(self, now_s: float, models: int) -> None:
        """A list page is in the store."""
        if self.last_s is not None:
            took = now_s - self.last_s
            self.page_s = took if self.page_s is None else 0.9 * self.page_s + 0.1 * took
            self.models_per_page = 0.9 * self.models_per_page + 0.1 * models
        else:
            self.models_per_page = models
        self.last_s = now_s


def status_of(
    hub: str,
    run: Run | None,
    crawl: CrawlState | None,
    pace: Pace,
    earlier: tuple[int, ...],
    *,
    waiting_s: float | None,
    error: str | None,
    hint: str | None,
) -> SyncStatus:
    """The status of a run: finished, failed, or under way with its ``crawl``."""
    if run is None:
        return SyncStatus(hub, "never", error=error, hint=hint)
    # how far news reach is known only at their end
    walk = None if run.kind == "news" else crawl
    fraction, left = (None, None) if walk is None else plan.estimate(walk, earlier)
    state: SyncState = "idle"
    if run.state == "failed":
        state = "failed"
    elif run.state == "running":
        state = "running" if waiting_s is None else "waiting"
    page_s = pace.page_s if state in ("running", "waiting") else None
    return SyncStatus(
        hub=run.hub,
        state=state,
        run_id=run.run_id,
        kind=run.kind,
        started_ms=run.started_ms,
        finished_ms=run.finished_ms,
        view=None if crawl is None or plan.is_finished(crawl) else plan.view_of(crawl),
        pages=run.pages,
        seen=run.seen,
        new=run.new,
        changed=run.changed,
        odd=run.odd,
        gaps=run.gaps,
        fraction=1.0 if run.state == "finished" else fraction,
        eta_s=None if left is None or page_s is None else left * page_s,
        models_per_s=pace.models_per_page / page_s if page_s else None,
        waiting_s=waiting_s,
        error=run.error if run.error is not None else error,
        hint=hint,
    )

"""How a hub is asked now, as ``status`` and the planner of background work see it."""

from collections.abc import Mapping

import msgspec

from modelkeepd.hubs.breaker import State
from modelkeepd.hubs.counts import SAVED, SENT_BACKGROUND, SENT_INTERACTIVE
from modelkeepd.hubs.host import BreakerChange, HostState


class BreakerStanding(msgspec.Struct, frozen=True):
    """An operation that is not asked, or only tried. ``until_ms`` is wall time."""

    operation: str
    state: State
    reason: str
    until_ms: int | None


class HubStanding(msgspec.Struct, frozen=True):
    """One hub's affairs. Days are UTC's."""

    per_s: float  # requests allowed a second now
    most_per_s: float  # as configured
    left: int | None  # in the hub's own tightest window, where it tells
    resets_s: float | None  # until that window ends
    paused_s: float  # the hub asked to be left alone
    background_per_day: int
    background_left: int  # of that, today
    sent_today: int
    sent: int
    saved_today: Mapping[str, int]  # by kind: merged, cached, catalog
    saved: Mapping[str, int]
    breakers: tuple[BreakerStanding, ...]  # those that are not closed
    history: tuple[BreakerChange, ...]  # the last changes of breakers, oldest first


def standing_of(host: HostState) -> HubStanding:
    """Now."""
    now, now_ms = host.now(), host.clocks.wall_ms()
    today, in_all = host.counts.today(now_ms), host.counts.in_all()
    windows = [(left, w) for w in host.windows.values() if (left := w.left_at(now)) is not None]
    left, tightest = min(windows, key=lambda found: found[0], default=(None, None))
    return HubStanding(
        per_s=host.pace.rate(now),
        most_per_s=host.pace.ceiling,
        left=left,
        resets_s=None if tightest is None else tightest.resets_s(now),
        paused_s=host.paused_s,
        background_per_day=host.background_per_day,
        background_left=max(0, host.background_per_day - today[SENT_BACKGROUND]),
        sent_today=today[SENT_BACKGROUND] + today[SENT_INTERACTIVE],
        sent=in_all[SENT_BACKGROUND] + in_all[SENT_INTERACTIVE],
        saved_today={kind: today[kind] for kind in SAVED if today[kind]},
        saved={kind: in_all[kind] for kind in SAVED if in_all[kind]},
        breakers=tuple(
            BreakerStanding(
                operation,
                breaker.state,
                breaker.reason,
                now_ms + round(breaker.left_s(now) * 1000) if breaker.state == "open" else None,
            )
            for operation, breaker in host.breakers().items()
            if breaker.state != "closed"
        ),
        history=tuple(host.history),
    )

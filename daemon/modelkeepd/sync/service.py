"""The sync service: one lane per hub, and fresh details on demand.

A hub that is down keeps only its own lane waiting. Wanted by the composition root: ``run``; by the
handlers: ``start``, ``status`` and ``details``.
"""

import random
from collections.abc import Callable, Mapping
from functools import partial

import trio

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.contract import Hub, parse_model
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.store import Store
from modelkeepd.sync.details import DetailService
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.lane import Lane, Ports, SyncSettings
from modelkeepd.sync.progress import SyncStatus

__all__ = ["Ports", "SyncService", "SyncSettings", "UnknownHub"]


class UnknownHub(LookupError):
    """No such hub is configured."""

    code = "not_found"


class SyncService:
    """Keeps the catalog of every configured hub.

    ``settings`` may differ by hub. ``interactive`` are the clients for people's requests; without
    them the background's are used. ``saved(hub, kind)`` counts requests that need not be made.
    """

    name = "sync"
    essential = False

    def __init__(
        self,
        store: Store,
        hubs: Mapping[str, Hub],
        settings: SyncSettings | Mapping[str, SyncSettings] | None = None,
        *,
        interactive: Mapping[str, Hub] | None = None,
        ports: Mapping[str, Ports] | None = None,
        details_ttl_s: Mapping[str, float] | None = None,
        saved: Callable[[str, str], None] = lambda _hub, _kind: None,
        clocks: Clocks | None = None,
        rng: random.Random | None = None,
    ) -> None:
        clocks, rng = clocks or Clocks(), rng or random.Random()
        default = settings if isinstance(settings, SyncSettings) else SyncSettings()
        by_hub = settings if isinstance(settings, Mapping) else {}
        codec = DocumentCodec()
        intakes = {
            name: Intake(store, name, codec, partial(parse_model, name, texts=False))
            for name in hubs
        }
        self._lanes = {
            name: Lane(
                hub,
                intakes[name],
                by_hub.get(name, default),
                (ports or {}).get(name, Ports()),
                clocks,
                rng,
            )
            for name, hub in hubs.items()
        }
        self.details = DetailService(
            hubs if interactive is None else interactive,
            intakes,
            clocks=clocks,
            trust=default.trust,
            ttl_s=details_ttl_s or {},
            saved=saved,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until canceled. Ready means that ``start`` and ``status`` can be asked."""
        async with trio.open_nursery() as nursery:
            for lane in self._lanes.values():
                await nursery.start(lane.run)
            task_status.started()
            await trio.sleep_forever()

    async def start(self, hub: str, full: bool = False) -> SyncStatus:
        """Bring a hub's news in now, or all of it again; or show the one that runs.

        A hub that was never read whole is read whole in any case. Raises UnknownHub.
        """
        lane = self._lane(hub)
        await lane.start(full)
        return lane.status()

    def hurry(self, hub: str) -> None:
        """Do not wait any longer for this hub. Raises UnknownHub."""
        self._lane(hub).hurry()

    def status(self, hub: str | None = None) -> list[SyncStatus]:
        """How every hub's sync stands, or one hub's."""
        if hub is not None:
            return [self._lane(hub).status()]
        return [lane.status() for lane in self._lanes.values()]

    def _lane(self, hub: str) -> Lane:
        try:
            return self._lanes[hub]
        except KeyError:
            known = ", ".join(self._lanes) or "none"
            raise UnknownHub(f"no hub {hub!r} is configured (there is: {known})") from None

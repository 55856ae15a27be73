"""Details for people who wait, and for the catalog in the background.

``DetailService`` answers from the store what is fresh, asks the hub for what is not, and gives what
it has, with its age, when the hub fails: a hub that is down never keeps anybody from seeing what
is known. Equal questions asked at one time are one request. ``Details`` is the background's half:
the most wanted models whose files no list row tells.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import apsw
import msgspec
import trio

from modelkeepd.catalog.detail import model_named
from modelkeepd.clocks import Clocks
from modelkeepd.hubs.contract import (
    Address,
    Hub,
    HubError,
    HubUnavailable,
    ListItem,
    NotFoundOnHub,
    OddDocument,
)
from modelkeepd.store import StoreError
from modelkeepd.sync import detail_rows
from modelkeepd.sync.detail_rows import KnownDetail
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.patience import Patience, Unanswerable
from modelkeepd.sync.prepare import DETAIL_KIND
from modelkeepd.sync.suspects import Trust
from modelkeepd.sync.units import PageWrite

log = logging.getLogger(__name__)

DEFAULT_TTL_S = 600.0
# somebody waits: after this what is known has to do
DEADLINE_S = 8.0
_QUEUE = 5_000


class Freshness(msgspec.Struct, frozen=True):
    """How true the catalog's row of a model is. ``stale``: older than wished, for ``error``."""

    model_key: int
    age_s: float
    stale: bool = False
    error: str | None = None


class _Flight:
    """One question under way, which others may join."""

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.result: Freshness | None = None
        self.error: HubError | None = None


class DetailService:
    """Fresh details on demand, through the clients that people's requests go by."""

    def __init__(
        self,
        hubs: Mapping[str, Hub],
        intakes: Mapping[str, Intake],
        *,
        clocks: Clocks,
        trust: Trust,
        ttl_s: Mapping[str, float] | None = None,
        deadline_s: float = DEADLINE_S,
        saved: Callable[[str, str], None] = lambda _hub, _kind: None,
    ) -> None:
        self._hubs = hubs
        self._intakes = intakes
        self._clocks = clocks
        self._trust = trust
        self._ttl_s = ttl_s or {}
        self._deadline_s = deadline_s
        self._saved = saved
        self._flights: dict[tuple[str, str], _Flight] = {}

    def asks_for(self, hub: str) -> bool:
        """Whether this hub's list leaves out what ``show`` should tell."""
        return hub in self._hubs and self._hubs[hub].details_apart

    async def fresh(self, hub: str, model_key: int, ttl_s: float | None = None) -> Freshness | None:
        """See that a known model is not older than ``ttl_s``. Never raises a HubError.

        None: there is no such model, or its hub is not in use.
        """
        if hub not in self._intakes:
            return None
        known = await self._known(hub, model_key)
        if known is None:
            return None
        wished_s = self._ttl_s.get(hub, DEFAULT_TTL_S) if ttl_s is None else ttl_s
        if self._age_s(known) < wished_s:
            return self._cached(known)
        if hub not in self._hubs:
            return Freshness(model_key, self._kept_s(known), True, f"{hub} is not in use")
        ask = partial(self._refresh, known, wished_s)
        return await self._merged(hub, known.address.ref_id.casefold(), ask)

    def _cached(self, known: KnownDetail) -> Freshness:
        self._saved(known.hub, "cached")
        return Freshness(known.model_key, self._age_s(known))

    async def fresh_named(self, hub: str, ref_id: str, ttl_s: float | None = None) -> Freshness:
        """The same by what people call it; a model that is not in the catalog is fetched into it.

        Raises NotFoundOnHub, or the HubError for which nothing can be said of an unknown model.
        """
        if hub not in self._intakes:
            raise NotFoundOnHub(f"the hub {hub} is not in use", hint="config.toml names the hubs")
        found = await self._intakes[hub].store.read(partial(model_named, hub=hub, ref_id=ref_id))
        if found is not None:
            fresh = await self.fresh(hub, found, ttl_s)
            assert fresh is not None
            return fresh
        ask = partial(self._fetch_unknown, hub, ref_id)
        return await self._merged(hub, ref_id.casefold(), ask)

    async def _known(self, hub: str, model_key: int) -> KnownDetail | None:
        return await self._intakes[hub].store.read(
            partial(detail_rows.known_detail, model_key=model_key)
        )

    def _age_s(self, known: KnownDetail) -> float:
        """Infinite where the files are not known at all."""
        apart = self.asks_for(known.hub)
        at_ms = known.detailed_ms if apart else known.seen_ms
        if apart and not known.files_known:
            at_ms = None  # the files are an older commit's
        if at_ms is None:
            return float("inf")
        age_s = (self._clocks.wall_ms() - at_ms) / 1000
        return age_s if age_s >= 0 else float("inf")  # dated by a wrong clock

    def _kept_s(self, known: KnownDetail) -> float:
        """How old what is known of its files is; without any, the row."""
        kept_ms = known.seen_ms if known.detailed_ms is None else known.detailed_ms
        return max(0.0, (self._clocks.wall_ms() - kept_ms) / 1000)

    async def _merged(
        self, hub: str, name: str, ask: Callable[[], Awaitable[Freshness]]
    ) -> Freshness:
        key = (hub, name)
        while (flight := self._flights.get(key)) is not None:
            await flight.landed.wait()
            if flight.error is not None:
                raise flight.error
            if flight.result is not None:  # None: who asked was canceled, so another asks
                self._saved(hub, "merged")
                return flight.result
        flight = self._flights[key] = _Flight()
        try:
            flight.result = await ask()
            return flight.result
        except HubError as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.landed.set()

    async def _refresh(self, known: KnownDetail, wished_s: float) -> Freshness:
        hub, key = self._hubs[known.hub], known.model_key
        # while this one looked into the store, another's answer may have come
        known = await self._known(known.hub, key) or known
        if self._age_s(known) < wished_s:
            return self._cached(known)
        error: str | None = f"{known.hub} did not answer within {self._deadline_s:g} s"
        is_missing = False
        with trio.move_on_after(self._deadline_s):
            try:
                raw = await hub.details(known.address)
                error = await self._take(hub, known.model_key, raw)
            except NotFoundOnHub as exc:
                error, is_missing = exc.message, True
            except HubError as exc:
                error = exc.message
            except StoreError as exc:
                error = f"it could not be kept: {exc}"
        if error is None:
            return Freshness(key, 0.0)
        await self._note_failure(known, is_missing=is_missing)
        return Freshness(key, self._kept_s(known), True, error)

    async def _note_failure(self, known: KnownDetail, *, is_missing: bool) -> None:
        intake = self._intakes[known.hub]
        try:
            if is_missing:
                failed = partial(
                    detail_rows.details_failed,
                    hub=known.hub,
                    model_key=known.model_key,
                    is_missing=True,
                )
                await intake.apply(failed, "sync.details")
            elif self._hubs[known.hub].details_apart and not known.files_known:
                wish = partial(detail_rows.wish, model_key=known.model_key)
                await intake.apply(wish, "sync.wish")
        except StoreError as exc:  # an answer is owed all the same
            log.warning("not noted", extra={"facts": {"error": str(exc)}})

    async def _take(self, hub: Hub, model_key: int, raw: bytes) -> str | None:
        """Into the catalog with it; what is wrong with it, if something is."""
        intake = self._intakes[hub.name]
        if hub.details_apart:
            return await take_details(intake, model_key, raw, self._clocks, self._trust)
        taken = await self._take_row(hub, raw)
        return None if taken == model_key else "the hub's answer was about another model"

    async def _take_row(self, hub: Hub, raw: bytes) -> int | None:
        """A document in the form of the list's; the key of its model."""
        intake = self._intakes[hub.name]
        try:
            parsed = await intake.in_thread(partial(intake.parse, raw))
        except OddDocument:
            return None
        await intake.write(
            PageWrite(
                hub=hub.name,
                view="",
                page=await intake.prepare([ListItem(parsed.hub_id, raw)]),
                fetched_ms=self._clocks.wall_ms(),
                is_list_page=False,
                is_listed=False,
                trust=self._trust,
            )
        )
        return await intake.store.read(partial(_key_of, hub=hub.name, hub_id=parsed.hub_id))

    async def _fetch_unknown(self, hub_name: str, ref_id: str) -> Freshness:
        if hub_name not in self._hubs:
            raise NotFoundOnHub(f"the hub {hub_name} is not in use")
        hub = self._hubs[hub_name]
        with trio.move_on_after(self._deadline_s) as scope:
            if hub.details_apart:
                raw = await hub.model(ref_id)
            else:
                raw = await hub.details(Address(ref_id, ref_id))
            model_key = await self._take_row(hub, raw)
        if scope.cancelled_caught:
            raise HubUnavailable(
                f"{hub_name} did not answer within {self._deadline_s:g} s",
                hint="it is not in the catalog yet; try again later",
            )
        if model_key is None:
            raise NotFoundOnHub(f"{hub_name} answers for {ref_id}, but not with a model")
        known = await self._known(hub_name, model_key)
        assert known is not None
        if hub.details_apart and not known.files_known:
            return await self._refresh(known, 0.0)
        return Freshness(model_key, 0.0)


async def take_details(
    intake: Intake, model_key: int, raw: bytes, clocks: Clocks, trust: Trust
) -> str | None:
    """A detail document into the catalog; what is wrong with it, if something is."""
    await intake.train(DETAIL_KIND, [raw])
    kept = await intake.store.read(partial(detail_rows.kept_detail, model_key=model_key))
    try:
        write = await intake.in_thread(
            partial(
                detail_rows.prepare_detail,
                model_key,
                intake.hub,
                raw,
                kept,
                clocks.wall_ms(),
                parse=intake.parse,
                codec=intake.codec,
            )
        )
    except OddDocument as exc:
        return exc.reason
    apply = partial(detail_rows.apply_details, write=write, trust=trust)
    is_ours = await intake.apply(apply, "sync.details")
    return None if is_ours else "its name belongs to another model now"


class Details:
    """The background's details of one hub, the most wanted first."""

    def __init__(
        self,
        hub: Hub,
        intake: Intake,
        patience: Patience,
        *,
        clocks: Clocks,
        trust: Trust,
        may_go_on: Callable[[], bool],
    ) -> None:
        self._hub = hub
        self._intake = intake
        self._patience = patience
        self._clocks = clocks
        self._trust = trust
        self._may_go_on = may_go_on
        self._queue: list[int] = []  # the last is the next

    async def run(self) -> bool:
        """Ask for as long as it may; True when nothing is left to ask."""
        wished = await self._read(detail_rows.wished)
        self._queue += [key for key in reversed(wished) if key not in self._queue]
        while True:
            if not self._queue:
                chosen = partial(detail_rows.wanted, limit=_QUEUE)
                self._queue = list(reversed(await self._read(chosen)))
                if not self._queue:
                    return True
            if not self._may_go_on():
                return False
            await self._ask(self._queue.pop())

    async def _read(self, query: Callable[..., list[int]]) -> list[int]:
        return await self._intake.store.read(
            partial(query, hub=self._hub.name, now_ms=self._clocks.wall_ms())
        )

    async def _ask(self, model_key: int) -> None:
        known = await self._intake.store.read(
            partial(detail_rows.known_detail, model_key=model_key)
        )
        if known is None or known.files_known:
            return  # somebody else asked meanwhile
        is_missing = False
        try:
            raw = await self._patience.ask(partial(self._hub.details, known.address))
            problem = await take_details(self._intake, model_key, raw, self._clocks, self._trust)
        except NotFoundOnHub as error:
            problem, is_missing = error.message, True
        except Unanswerable as refused:
            problem = refused.reason
        except HubError as error:
            if not await self._patience.is_refused_alone(error):
                raise
            problem = error.message
        if problem is not None:
            facts = {"hub": self._hub.name, "ref": known.address.ref_id, "why": problem}
            log.info("no details", extra={"facts": facts})
            failed = partial(
                detail_rows.details_failed,
                hub=self._hub.name,
                model_key=model_key,
                is_missing=is_missing,
            )
            await self._intake.apply(failed, "sync.details")


def _key_of(db: apsw.Connection, hub: str, hub_id: str) -> int | None:
    found: Any = db.execute(
        "SELECT model_key FROM model WHERE hub = ? AND hub_id = ?", (hub, hub_id)
    ).fetchone()
    return None if found is None else int(found[0])

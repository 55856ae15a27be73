"""Suspects looked at one by one, and what follows from each look.

When a suspect is believed to be gone is ``suspects``' rule.
"""

import logging
from collections.abc import Callable
from functools import partial

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.contract import Hub, HubError, Presence
from modelkeepd.store import Tx
from modelkeepd.sync import suspects
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.patience import Patience, Unanswerable
from modelkeepd.sync.suspects import Suspect, Trust
from modelkeepd.sync.units import PageWrite, apply_page

log = logging.getLogger(__name__)

_BATCH = 20


class Confirm:
    """The looks at one hub's suspects whose turn has come."""

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

    async def run(self) -> bool:
        """Look for as long as it may; True when nobody's turn has come."""
        while True:
            now_ms = self._clocks.wall_ms()
            batch = await self._intake.store.read(
                partial(suspects.due, hub=self._hub.name, now_ms=now_ms, limit=_BATCH)
            )
            if not batch:
                return True
            for suspect in batch:
                if not self._may_go_on():
                    return False
                await self._look(suspect)

    async def _look(self, suspect: Suspect) -> None:
        try:
            found = await self._patience.ask(partial(self._hub.look, suspect.address))
        except Unanswerable as refused:
            found = Presence("unclear", reason=refused.reason)
        except HubError as error:
            if not await self._patience.is_refused_alone(error):
                raise
            found = Presence("unclear", reason=error.message)
        write = await self._prepared(found)
        is_other = (
            found.item is not None
            and found.item.hub_id is not None
            and found.item.hub_id != suspect.address.hub_id
        )
        became_gone = await self._intake.apply(
            partial(
                apply_look,
                hub=self._hub.name,
                suspect=suspect,
                found=found,
                write=write,
                is_other=is_other,
                trust=self._trust,
            ),
            "sync.look",
        )
        if became_gone:
            facts = {"hub": self._hub.name, "ref": suspect.address.ref_id, "why": found.reason}
            log.info("model gone", extra={"facts": facts})

    async def _prepared(self, found: Presence) -> PageWrite | None:
        if found.state != "present" or found.item is None:
            return None
        return PageWrite(
            hub=self._hub.name,
            view="",
            page=await self._intake.prepare([found.item]),
            fetched_ms=self._clocks.wall_ms(),
            is_list_page=False,
            is_listed=False,
            trust=self._trust,
        )


def apply_look(
    tx: Tx,
    hub: str,
    suspect: Suspect,
    found: Presence,
    write: PageWrite | None,
    is_other: bool,
    trust: Trust,
) -> bool:
    """What one look brings about. True when the model is gone by it."""
    if write is not None and write.page.models:
        apply_page(tx, write)
        if is_other:
            reason = "its name belongs to another model now"
            return suspects.found_absent(tx, hub, suspect, reason, trust)
        suspects.found_present(tx, suspect.model_key, hub, trust)
        return False
    if found.state == "absent":
        return suspects.found_absent(tx, hub, suspect, found.reason, trust)
    suspects.found_unclear(tx, suspect.model_key, trust)
    return False

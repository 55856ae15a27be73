"""Refetch: known models asked for again in bulk, since an edit leaves no trace in any list.

Owns ``sync_refetch``, the order in which they are asked. Owned models come first, and those whose
last document was doubted; then by turns a request for the most used and one for those that were
not seen for the longest time: what people use is true within a day, and nothing is left out for
ever. A model that no view shows becomes a suspect.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import apsw
import msgspec

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.contract import Hub
from modelkeepd.store import Tx
from modelkeepd.sync import suspects, units
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.patience import Patience, Unanswerable
from modelkeepd.sync.suspects import Trust
from modelkeepd.sync.units import PageOutcome, PageWrite

KIND = "refetch"
_HOUR_MS = 3_600_000
# what was seen this lately need not be asked for again
RECENT_MS = 12 * _HOUR_MS
# requests fail and succeed by size: shares of the hub's bulk
_SIZES = (1.0, 0.2, 0.0)


class Wanted(msgspec.Struct, frozen=True):
    """The next models to ask for: their turn, key and the hub's id."""

    turn: int
    model_key: int
    hub_id: str


def choose(
    db: apsw.Connection, hub: str, now_ms: int, most: int, bulk: int, trust: Trust
) -> list[int]:
    """Up to ``most`` models in the order in which they are to be asked for."""
    recent_ms = now_ms - RECENT_MS
    first = _keys(
        db,
        "SELECT m.model_key FROM model m WHERE hub = ?1 AND seen_ms < ?2 AND hub_state <> 'gone'"
        " AND owned = 1"
        " UNION SELECT model_key FROM sync_doubt JOIN model USING (model_key)"
        "   WHERE hub = ?1 AND last_ms < ?2 LIMIT ?3",
        hub,
        recent_ms,
        most,
    )
    half = (most - len(first) + 1) // 2
    used = _keys(
        db,
        "SELECT model_key FROM model WHERE hub = ?1 AND seen_ms < ?2"
        " AND hub_state NOT IN ('gone', 'archived') ORDER BY downloads DESC LIMIT ?3",
        hub,
        recent_ms,
        half,
    )
    oldest = _keys(
        db,
        "SELECT model_key FROM model WHERE hub = ?1 AND seen_ms < ?2 AND hub_state <> 'gone'"
        # lists hide those: each costs a request of its own
        " AND (hub_state <> 'archived' OR seen_ms < ?4)"
        " AND model_key NOT IN (SELECT model_key FROM sync_suspect WHERE hub = ?1)"
        " ORDER BY seen_ms LIMIT ?3",
        hub,
        recent_ms,
        half,
        now_ms - trust.unlisted_every_ms,
    )
    order = dict.fromkeys(first)
    for some, others in zip_longest(_batches(used, bulk), _batches(oldest, bulk), fillvalue=()):
        order |= dict.fromkeys((*some, *others))
    return list(order)[:most]


def queue(tx: Tx, hub: str, run_id: int, model_keys: Sequence[int]) -> None:
    """These are asked for now; what was left of an earlier choice is dropped."""
    units.save_state(tx, hub, KIND, run_id, json.dumps({"chosen_ms": tx.now_ms}))
    tx.db.execute("DELETE FROM sync_refetch WHERE hub = ?", (hub,))
    tx.db.executemany(
        "INSERT INTO sync_refetch VALUES (?, ?, ?)",
        [(hub, turn, key) for turn, key in enumerate(model_keys)],
    )


def chosen_ms(state: str) -> int | None:
    """When the run in this state chose its models; None when it did not come to that."""
    found = json.loads(state).get("chosen_ms")
    return found if isinstance(found, int) else None


def next_batch(db: apsw.Connection, hub: str, size: int) -> list[Wanted]:
    """Whose turn it is."""
    rows: list[Any] = db.execute(
        "SELECT turn, q.model_key, hub_id FROM sync_refetch q JOIN model USING (model_key)"
        " WHERE q.hub = ? ORDER BY turn LIMIT ?",
        (hub, size),
    ).fetchall()
    return [Wanted(*row) for row in rows]


def batch_done(
    tx: Tx, hub: str, run_id: int, batch: Sequence[Wanted], missing: Sequence[int], gaps: int
) -> None:
    """These had their turn; ``missing`` ones came in no view."""
    tx.db.execute("DELETE FROM sync_refetch WHERE hub = ? AND turn <= ?", (hub, batch[-1].turn))
    if missing:
        suspects.suspect(tx, hub, missing, "asked for by its id, it did not come")
    units.count(tx, run_id, PageOutcome(0, 0, 0, 0), pages=1, gaps=gaps)


class Refetch:
    """The refetch of one hub under way."""

    def __init__(
        self,
        hub: Hub,
        intake: Intake,
        patience: Patience,
        run_id: int,
        *,
        clocks: Clocks,
        trust: Trust,
        may_go_on: Callable[[], bool],
        on_batch: Callable[[PageOutcome], None],
    ) -> None:
        self.gaps = 0
        self._hub = hub
        self._intake = intake
        self._patience = patience
        self._run_id = run_id
        self._clocks = clocks
        self._trust = trust
        self._may_go_on = may_go_on
        self._on_batch = on_batch

    async def run(self) -> bool:
        """Ask for as long as it may; True when all have had their turn."""
        attempt = 0
        while self._may_go_on():
            size = max(1, round(_SIZES[attempt] * self._hub.bulk_ids))
            batch = await self._intake.store.read(
                partial(next_batch, hub=self._hub.name, size=size)
            )
            if not batch:
                return True
            try:
                missing = await self._ask(batch)
            except Unanswerable:
                if attempt + 1 < len(_SIZES):
                    attempt += 1
                    continue
                self.gaps += 1
                missing = []  # nothing was learnt of it
            attempt = 0
            await self._intake.apply(
                partial(
                    batch_done,
                    hub=self._hub.name,
                    run_id=self._run_id,
                    batch=batch,
                    missing=missing,
                    gaps=self.gaps,
                ),
                "sync.refetch",
            )
        return False

    async def _ask(self, batch: Sequence[Wanted]) -> list[int]:
        """The keys of those that came in no view."""
        left = {wanted.hub_id: wanted.model_key for wanted in batch}
        for view in self._hub.views:
            if not left:
                break
            ids = tuple(left)
            items = await self._patience.ask(partial(self._hub.models_by_ids, ids, view))
            page = await self._intake.prepare(items)
            outcome = await self._intake.write(
                PageWrite(
                    hub=self._hub.name,
                    view=view,
                    page=page,
                    fetched_ms=self._clocks.wall_ms(),
                    run_id=self._run_id,
                    kind=KIND,
                    gaps=self.gaps,
                    is_list_page=False,
                    trust=self._trust,
                )
            )
            self._on_batch(outcome)
            for item in items:
                left.pop(item.hub_id or "", None)
        return list(left.values())


def _keys(db: apsw.Connection, sql: str, *values: object) -> list[int]:
    rows: list[Any] = db.execute(sql, values).fetchall()
    return [row[0] for row in rows]


def _batches(keys: Sequence[int], size: int) -> list[Sequence[int]]:
    return [keys[start : start + size] for start in range(0, len(keys), size)]

"""The history of a model: its documents as they were, and what changed from one to the next.

Reads the chain of deltas back from the newest document; writes nothing, the rows are sync's.
A delta that is damaged hides what is older than it, up to the next document that is kept whole.
"""

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

import apsw
import msgspec

from modelkeepd.catalog.changes import Difference, State, differences, read_state
from modelkeepd.catalog.detail import find_model
from modelkeepd.catalog.rows import ParseModel
from modelkeepd.hubs.contract import ParsedModel
from modelkeepd.hubs.documents import DocumentCodec, DocumentDamaged
from modelkeepd.hubs.reference import Reference, model_ref, version_ref

# one damaged delta costs so many revisions at most, and a page in the middle of a long history is
# read from the nearest whole document (what it costs in bytes: docs/history.md)
KEYFRAME_EVERY = 32
# Counters move daily: a page of other changes may lie years back. It ends early then, and says so.
MAX_READ = 400

_TABLES = {"model": "document", "detail": "detail_document"}
_FACTS = {
    "gone": "gone from the hub",
    "back": "back on the hub",
    "archived": "archived by its creator",
    "taken_down": "taken down",
    "listed": "listed again",
    "renamed": "reference",
}


def wants_keyframe(count: int) -> bool:
    """Whether a document is kept whole when it is replaced, rather than as a delta.

    ``count`` is how many revisions of the same model and kind there are already.
    """
    return count % KEYFRAME_EVERY == KEYFRAME_EVERY - 1


class Revision(msgspec.Struct, frozen=True):
    """A document as it was from ``seen_ms`` until ``replaced_ms``; None: it still is.

    ``raw`` is None where it can't be read any more.
    """

    revision_id: int | None
    seen_ms: int
    replaced_ms: int | None
    raw: bytes | None


class Change(msgspec.Struct, frozen=True):
    """One change, which came to be known at ``at_ms``.

    It happened after ``seen_ms``, when what was before was fetched. ``version`` is a reference.
    Of things that come in sets ``before`` holds what went and ``after`` what came.
    """

    at_ms: int
    seen_ms: int | None
    kind: str
    what: str
    before: Any = None
    after: Any = None
    version: str | None = None


class Statistic(msgspec.Struct, frozen=True):
    """A counter at both ends of the revisions that a page was made of."""

    name: str
    before: int | None
    after: int | None
    since_ms: int
    until_ms: int


class HistoryPage(msgspec.Struct, frozen=True):
    """Changes, newest first. ``next_before_ms`` asks for the page behind this one, if there is one.

    A page may be empty and yet have one behind it. ``damaged``: some of what is older than an item
    of kind "damaged" is lost.
    """

    ref: str
    name: str
    items: list[Change]
    statistics: list[Statistic]
    damaged: bool
    next_before_ms: int | None


def history(
    db: apsw.Connection,
    codec: DocumentCodec,
    model_key: int,
    kind: str = "model",
    *,
    limit: int = 50,
    before: int | None = None,
) -> list[Revision]:
    """A model's documents of a kind, newest first; the present one too unless ``before`` is given.

    ``before`` is the ``revision_id`` that a former call ended with.
    """
    found: list[Revision] = []
    for revision in revisions(db, codec, model_key, kind, before=before):
        if before is None or (revision.revision_id or before) < before:
            found.append(revision)
        if len(found) >= limit:
            break
    return found


def history_page(
    db: apsw.Connection,
    reference: Reference,
    codec: DocumentCodec,
    parse: ParseModel,
    *,
    limit: int = 50,
    before_ms: int | None = None,
    statistics: bool = False,
) -> HistoryPage:
    """What is known to have changed about a model. Raises ModelNotFound.

    ``statistics`` lists each move of the counters among the other changes. Changes of one moment
    stay together, so that a page may be somewhat longer than ``limit``.
    """
    model_key, _ = find_model(db, reference)
    row: Any = db.execute(
        "SELECT hub, ref_id, name, first_seen_ms FROM model WHERE model_key = ?", (model_key,)
    ).fetchone()
    hub, ref_id, name, first_seen_ms = row
    facts = _facts(db, model_key, before_ms)
    budget = _Budget(MAX_READ)
    sources = [
        _Source(db, codec, parse, budget, model_key, hub, ref_id, kind, before_ms)
        for kind in _TABLES
    ]
    told = list(facts)
    items: list[Change] = []
    next_before_ms = None
    last_ms = None
    streams = [source.changes() for source in sources]
    if before_ms is None or first_seen_ms < before_ms:
        facts.append(Change(first_seen_ms, None, "state", "first seen"))
        # an imported fact may be older than our own acquaintance
        facts.sort(key=lambda fact: -fact.at_ms)
    # facts first: of one moment they say why the rest is as it is
    for at_ms, changes in heapq.merge(
        ((fact.at_ms, [fact]) for fact in facts), *streams, key=lambda moment: -moment[0]
    ):
        if at_ms != last_ms and (len(items) >= limit or budget.is_spent):
            next_before_ms = last_ms
            break
        last_ms = at_ms
        items += [
            change
            for change in changes
            if (statistics or change.kind != "statistics") and not _is_told(change, told)
        ]
    return HistoryPage(
        ref=model_ref(hub, ref_id),
        name=name,
        items=items,
        statistics=sources[0].statistics(),
        damaged=any(change.kind == "damaged" for change in items),
        next_before_ms=next_before_ms,
    )


class _Budget:
    def __init__(self, reads: int) -> None:
        self.left = reads

    @property
    def is_spent(self) -> bool:
        return self.left <= 0


class _Source:
    """The changes that one kind of document tells, and what its counters did meanwhile."""

    def __init__(
        self, db: apsw.Connection, codec: DocumentCodec, parse: ParseModel, budget: _Budget,
        model_key: int, hub: str, ref_id: str, kind: str, before_ms: int | None,
    ) -> None:  # fmt: skip
        self._revisions = revisions(db, codec, model_key, kind, before_ms=before_ms)
        self._parse = parse
        self._budget = budget
        self._hub = hub
        self._ref_id = ref_id
        self._kind = kind
        self._ends: list[tuple[int, ParsedModel]] = []

    def changes(self) -> Iterator[tuple[int, list[Change]]]:
        """Moments, newest first, each with what it changed."""
        first = next(self._revisions, None)
        newer = None if first is None else self._read(first)
        is_told = False
        for revision in self._revisions:
            state = self._read(revision)
            at_ms = revision.replaced_ms
            assert at_ms is not None  # only the present document has none
            if state is not None and newer is not None:
                is_told = False
                found = differences(self._hub, state, newer, kind=self._kind)
                yield at_ms, [self._change(at_ms, revision.seen_ms, d) for d in found]
            elif not is_told:
                is_told = True
                lost = "a kept document can't be read: what changed here is not known any more"
                yield at_ms, [Change(at_ms, revision.seen_ms, "damaged", lost)]
            newer = state

    def statistics(self) -> list[Statistic]:
        """What the counters were at both ends of what was read."""
        if not self._ends:
            return []
        (until_ms, newest), (since_ms, oldest) = self._ends[0], self._ends[-1]
        found = []
        for name in ("downloads", "likes"):
            before, after = getattr(oldest, name), getattr(newest, name)
            if before is not None or after is not None:
                found.append(Statistic(name, before, after, since_ms, until_ms))
        return found

    def _read(self, revision: Revision) -> State | None:
        self._budget.left -= 1
        if revision.raw is None:
            return None
        state = read_state(self._hub, revision.raw, self._parse)
        if state.parsed is not None:
            self._ends = [*self._ends[:1], (revision.seen_ms, state.parsed)]
        return state

    def _change(self, at_ms: int, seen_ms: int, found: Difference) -> Change:
        version = found.version
        ref = None if version is None else version_ref(self._hub, self._ref_id, version)
        return Change(at_ms, seen_ms, found.kind, found.what, found.before, found.after, ref)


def _is_told(change: Change, facts: Sequence[Change]) -> bool:
    """Whether a dated fact says the same as this difference of two documents."""
    seen_ms = change.seen_ms
    if seen_ms is None or change.kind not in ("state", "renamed"):
        return False
    return any(
        fact.kind == change.kind
        and fact.after == change.after
        and seen_ms <= fact.at_ms <= change.at_ms
        for fact in facts
    )


def _facts(db: apsw.Connection, model_key: int, before_ms: int | None) -> list[Change]:
    rows: list[Any] = db.execute(
        "SELECT at_ms, kind, detail FROM model_fact WHERE model_key = ?1"
        " AND (?2 IS NULL OR at_ms < ?2) ORDER BY at_ms DESC, fact_id DESC",
        (model_key, before_ms),
    ).fetchall()
    return [_fact(*row) for row in rows]


def _fact(at_ms: int, kind: str, text: str) -> Change:
    try:
        detail = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        detail = {}
    what = _FACTS.get(kind, kind)
    if kind == "renamed":
        return Change(at_ms, None, kind, what, detail.get("from"), detail.get("to"))
    reason = detail.get("reason")
    if reason:
        what = f"{what}: {reason}"
    return Change(at_ms, None, "state", what, detail.get("from"), detail.get("to", kind))


def revisions(
    db: apsw.Connection,
    codec: DocumentCodec,
    model_key: int,
    kind: str,
    *,
    before_ms: int | None = None,
    before: int | None = None,
) -> Iterator[Revision]:
    """A model's documents of a kind, newest first, each read only when it is asked for.

    Begins with the present one, or with the one that is the newer end of the first change that
    is older than ``before_ms``; or at latest with the revision ``before``.
    """
    present: Any = db.execute(
        f"SELECT NULL, 0, fetched_ms, NULL FROM {_TABLES[kind]} WHERE model_key = ?", (model_key,)
    ).fetchone()
    older: list[Any] = db.execute(
        "SELECT revision_id, is_delta, seen_ms, replaced_ms FROM revision"
        " WHERE model_key = ? AND kind = ? ORDER BY revision_id DESC",
        (model_key, kind),
    ).fetchall()
    if present is None and not older:
        return
    # a document that was lost is as one that can't be read
    rows = [present or (None, 0, older[0][3], None), *older]
    wanted = 0
    if before_ms is not None:
        wanted = next((n for n, row in enumerate(rows) if n and row[3] < before_ms), len(rows)) - 1
    elif before is not None:
        wanted = next((n for n, row in enumerate(rows) if n and row[0] <= before), len(rows)) - 1
    # what is whole can be read without what is newer
    start = max((n for n, row in enumerate(rows[: wanted + 1]) if not row[1]), default=0)
    raw: bytes | None = None
    for place in range(start, len(rows)):
        revision_id, is_delta, seen_ms, replaced_ms = rows[place]
        raw = _read(db, codec, model_key, kind, revision_id, raw if is_delta else None)
        if place >= wanted:
            yield Revision(revision_id, seen_ms, replaced_ms, raw)


def _read(
    db: apsw.Connection,
    codec: DocumentCodec,
    model_key: int,
    kind: str,
    revision_id: int | None,
    newer: bytes | None,
) -> bytes | None:
    """One document, or None when it is damaged or what it needs was."""
    if revision_id is None:
        row: Any = db.execute(
            f"SELECT 0, dict_id, raw FROM {_TABLES[kind]} WHERE model_key = ?", (model_key,)
        ).fetchone()
    else:
        row = db.execute(
            "SELECT is_delta, dict_id, raw FROM revision WHERE revision_id = ?", (revision_id,)
        ).fetchone()
    if row is None:
        return None
    is_delta, dict_id, blob = row
    try:
        if not is_delta:
            return codec.decompress(blob, dict_id, db)
        return None if newer is None else codec.apply_delta(newer, blob)
    except DocumentDamaged:
        return None

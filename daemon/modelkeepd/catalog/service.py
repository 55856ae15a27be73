"""The catalog's service: searches, shows and completes; runs the task that keeps the index true.

Reads the store and writes nothing in it. Asks no hub: everything here works offline. Searches
run in the store's reader threads, few at once, so that they hold up neither the loop nor others.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw
import trio

from modelkeep_protocol.schema import ModelDetail, SearchPage
from modelkeepd.catalog import detail, rows
from modelkeepd.catalog.errors import QueryError, SearchUnavailable
from modelkeepd.catalog.follower import IndexFollower
from modelkeepd.catalog.history import HistoryPage, history_page
from modelkeepd.catalog.index import SORTS, CatalogIndex, IndexDamaged
from modelkeepd.catalog.query import parse as parse_query
from modelkeepd.catalog.ranking import Hits
from modelkeepd.catalog.rows import ParseModel
from modelkeepd.catalog.text import loose_key, squeeze, tag_key
from modelkeepd.hubs.contract import parse_model
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.hubs.reference import Reference
from modelkeepd.store import Store

T = TypeVar("T")

MAX_LIMIT = 1_000
# Tantivy keeps a heap of offset + limit: beyond this the total is asked for first.
_DEEP_OFFSET = 10_000
# Searches run in the store's reader threads; one of its three stays free for everything else.
_SEARCHES_AT_ONCE = 2

COMPLETED_KINDS = ("tags", "types", "creators", "bases", "hubs", "refs")


class CatalogService:
    """Answers ``catalog.*``. ``parse`` and ``hub_sites`` are the hubs' knowledge, handed in."""

    name = "catalog"
    essential = False

    def __init__(
        self,
        store: Store,
        index_dir: Path,
        codec: DocumentCodec,
        *,
        parse: ParseModel = parse_model,
        hub_sites: Mapping[str, str] = detail.HUB_SITES,
    ) -> None:
        self._store = store
        self._codec = codec
        self._parse = parse
        self._hub_sites = hub_sites
        self._follower = IndexFollower(store, index_dir, codec, parse)
        self._limiter = trio.CapacityLimiter(_SEARCHES_AT_ONCE)

    @property
    def is_caught_up(self) -> bool:
        """Whether searches see every change that the store has reported."""
        return self._follower.is_caught_up

    async def caught_up_with(self, seq: int) -> None:
        """Wait until searches see every change up to the event ``seq``."""
        await self._follower.reached(seq)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open the index, report ready, and keep it true to the store until canceled."""
        try:
            await self._follower.open()
            task_status.started()
            await self._follower.follow()
        finally:
            await self._follower.close()

    async def search(
        self,
        query: str = "",
        *,
        sort: str = "",
        limit: int = 20,
        offset: int = 0,
        facets: bool = False,
    ) -> SearchPage:
        """One page of what a query finds. Raises QueryError, SearchUnavailable."""
        sort = _known_sort(sort or "relevance")
        if not 0 <= limit <= MAX_LIMIT:
            raise QueryError(f"limit is 0 to {MAX_LIMIT}, not {limit}")
        if offset < 0:
            raise QueryError(f"offset is 0 or more, not {offset}")
        return await self._with_index(
            partial(_search, query=query, sort=sort, limit=limit, offset=offset, facets=facets)
        )

    async def show(self, reference: Reference, *, raw: bool = False) -> ModelDetail:
        """One model by any kind of reference. Raises ModelNotFound."""
        return await self._store.read(
            partial(
                detail.show,
                reference=reference,
                codec=self._codec,
                parse=self._parse,
                raw=raw,
                hub_sites=self._hub_sites,
            )
        )

    async def history(
        self,
        reference: Reference,
        *,
        limit: int = 50,
        before_ms: int | None = None,
        statistics: bool = False,
    ) -> HistoryPage:
        """How a model changed, the newest first. Raises ModelNotFound."""
        return await self._store.read(
            partial(
                history_page,
                reference=reference,
                codec=self._codec,
                parse=self._parse,
                limit=limit,
                before_ms=before_ms,
                statistics=statistics,
            )
        )

    async def complete(self, kind: str, prefix: str = "", limit: int = 50) -> list[str]:
        """Values of a kind that begin with ``prefix``, the most frequent first."""
        if kind == "refs":
            return await self._store.read(
                partial(rows.refs_with_prefix, prefix=prefix, limit=limit)
            )
        if kind not in COMPLETED_KINDS:
            raise QueryError(f"{kind!r} is not completed; known are {', '.join(COMPLETED_KINDS)}")
        return await self._with_index(partial(_complete, kind=kind, prefix=prefix, limit=limit))

    async def _with_index(self, work: Callable[[CatalogIndex, apsw.Connection], T]) -> T:
        """Run ``work`` in a reader's thread: index and rows in one hop (two cost twice as much)."""
        index = self._follower.index
        if index is None:
            raise SearchUnavailable(
                "the search index is not open", hint="it is opened at the start; try again shortly"
            )
        try:
            async with self._limiter:
                result, is_gone = await self._store.read(
                    lambda db: (work(index, db), index.is_gone)
                )
        except IndexDamaged as exc:
            self._follower.suspect()
            raise SearchUnavailable(
                f"this search failed: {exc}",
                hint="if the index is damaged, it mends itself now: try again shortly;"
                " otherwise try a simpler query",
            ) from exc
        if is_gone:
            self._follower.suspect()
        return result


def _search(
    index: CatalogIndex,
    db: apsw.Connection,
    query: str,
    sort: str,
    limit: int,
    offset: int,
    facets: bool,
) -> SearchPage:
    tree = parse_query(query)
    if limit == 0 or offset > _DEEP_OFFSET:
        total = index.search(tree, "downloads", 1, 0).total
        wanted = limit > 0 and offset < total
        hits = index.search(tree, sort, limit, offset) if wanted else Hits(total, [])
    else:
        hits = index.search(tree, sort, limit, offset)
    counts = index.facets(tree) if facets else {}
    return SearchPage(
        total=hits.total,
        items=rows.listed(db, hits.model_keys) if hits.model_keys else [],
        facets={name: dict(values) for name, values in counts.items()},
    )


def _complete(
    index: CatalogIndex, _db: apsw.Connection, kind: str, prefix: str, limit: int
) -> list[str]:
    if kind in ("types", "bases"):
        # few, and shown as the hubs write them
        field = {"types": "type_name", "bases": "base_name"}[kind]
        names = [name for name, _ in index.keys_with_prefix(field, "", 10_000)]
        wanted = loose_key(prefix)
        return [name for name in names if loose_key(name).startswith(wanted)][:limit]
    field, key = {
        "tags": ("tag", tag_key(prefix)),
        "creators": ("creator", squeeze(prefix)),
        "hubs": ("hub", loose_key(prefix)),
    }[kind]
    return [name for name, _ in index.keys_with_prefix(field, key, limit)]


def _known_sort(sort: str) -> str:
    if sort in SORTS:
        return sort
    close = get_close_matches(sort.lower(), SORTS, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    raise QueryError(f"there is no order {sort!r}", hint=f"{guess}known are {', '.join(SORTS)}")

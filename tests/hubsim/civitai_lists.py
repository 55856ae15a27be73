"""`GET /api/v1/models` of the CivitAI dialect: parameters, views, orders, cursors, short pages.

With the real hub's oddities on: `Newest` loses the row its cursor names, pages may be short or
empty with a cursor, `page` is ignored, unknown tags drop their filter, a cursor without a date is
refused. The two views (`nsfw=true`, and without) overlap, and neither holds everything.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from tests.hubsim import messages, shapes
from tests.hubsim.list_query import ListQuery, QueryParser, creator_of
from tests.hubsim.messages import Refused, Request, Response
from tests.hubsim.population import Json, Traits
from tests.hubsim.strands import NO_DATE_MS, Bound, Key, Order
from tests.hubsim.synthetic import iso

if TYPE_CHECKING:
    from tests.hubsim.civitai import Civitai

_QUERY_ROWS = 20_000  # how far a text search looks; the real one is an index, ours a walk


class ModelLists:
    def __init__(self, hub: Civitai) -> None:
        self._hub = hub
        self._parser = QueryParser(hub)
        self._last_page: dict[tuple[object, ...], bytes] = {}
        self._first_cursor: dict[tuple[object, ...], str] = {}
        self._slipped: Sequence[tuple[Key, int]] = ()
        self._finished: set[tuple[object, ...]] = set()

    # -- the answer ----------------------------------------------------------------------------

    def answer(self, request: Request) -> Response:
        try:
            query = self._parser.parse(request)
            return self._answer(request, query)
        except Refused as refused:
            return refused.response

    def _answer(self, request: Request, query: ListQuery) -> Response:
        if query.text is not None:
            items, cursor = self._search(query)
        elif query.ids is not None:
            items, cursor = self._by_ids(query, query.ids)
        elif self._hub.era.has_page_numbers:
            return self._numbered(request, query)
        else:
            if query.cursor is None:
                self._begin(query.crawl)
            if request.tweaks.repeat_page and query.crawl in self._last_page:
                return messages.encoded(200, self._last_page[query.crawl])
            items, cursor = self._page(query)
            if request.tweaks.empty_page:
                items, cursor = [], self._same_place(query)
            if request.tweaks.cursor_loop == "same":
                cursor = query.cursor or cursor
            elif request.tweaks.cursor_loop == "first":
                cursor = self._first_cursor.get(query.crawl, cursor)
            if cursor is None:
                self._finished.add(query.crawl)
            elif query.cursor is None:
                self._first_cursor[query.crawl] = cursor
        body = self._encode(request, query, items, cursor)
        self._last_page[query.crawl] = body
        return messages.encoded(200, body, *self._hub.cache_headers(request))

    def _begin(self, crawl: tuple[object, ...]) -> None:
        """A walk that begins again after it reached its end is the next sync: move on a state."""
        if crawl in self._finished:
            self._finished.clear()
            self._hub.advance()

    def _encode(
        self, request: Request, query: ListQuery, items: list[Json], cursor: str | None
    ) -> bytes:
        metadata: dict[str, object] = {}
        if cursor is not None:
            cursor = self._hub.era.cursor_out(cursor)
            metadata["nextCursor"] = cursor
            kept = [(name, value) for name, value in request.query if name != "cursor"]
            url = f"{self._hub.echo(request)}{request.path}"
            metadata["nextPage"] = f"{url}?{urlencode([*kept, ('cursor', cursor)])}"
        if query.page:
            metadata |= {"currentPage": query.page, "pageSize": query.limit}
        return self._envelope(request, items, metadata)

    def _envelope(self, request: Request, items: list[Json], metadata: dict[str, object]) -> bytes:
        parts = b",".join(map(msgspec.json.encode, items))
        body = b'{"items":[%s],"metadata":%s}' % (parts, msgspec.json.encode(metadata))
        return self._hub.with_host(body, self._hub.echo(request))

    def _numbered(self, request: Request, query: ListQuery) -> Response:
        """A page of the time when pages had numbers and lists had totals."""
        page, limit = query.page or 1, max(query.limit, 1)
        rows = list(self._rows(query, None))
        items = [
            item
            for _, hub_id in rows[(page - 1) * limit : page * limit]
            if (item := self._item(hub_id, query)) is not None
        ]
        metadata: dict[str, object] = {
            "totalItems": len(rows),
            "currentPage": page,
            "pageSize": limit,
            "totalPages": -(-len(rows) // limit),
        }
        if page * limit < len(rows):
            kept = [(name, value) for name, value in request.query if name != "page"]
            url = f"{self._hub.echo(request)}{request.path}"
            metadata["nextPage"] = f"{url}?{urlencode([*kept, ('page', page + 1)])}"
        body = self._envelope(request, items, metadata)
        return messages.encoded(200, body, *self._hub.cache_headers(request))

    # -- which rows ----------------------------------------------------------------------------

    def _page(self, query: ListQuery) -> tuple[list[Json], str | None]:
        bound = self._bound(query)
        rows = self._rows(query, bound)
        if self._hub.drift and bound and query.order in (Order.RATED, Order.DOWNLOADED):
            rows = self._drifted(rows)
        items: list[Json] = []
        for count, (key, hub_id) in enumerate(rows):
            if count == max(query.limit, 1):
                # limit=0 gives one item and no cursor.
                return items, _cursor(query.order, key, hub_id) if query.limit else None
            item = self._item(hub_id, query)
            if item is not None:
                items.append(item)
        return items, None

    def _drifted(self, rows: Iterator[tuple[Key, int]]) -> Iterator[tuple[Key, int]]:
        """Counters moved since the last page: rows slip over its edge, in turn out and in again."""
        slipped = list(itertools.islice(rows, self._hub.drift))
        back, self._slipped = self._slipped, () if self._slipped else slipped
        return itertools.chain(back, rows if self._slipped else itertools.chain(slipped, rows))

    def _rows(self, query: ListQuery, bound: Bound | None) -> Iterator[tuple[Key, int]]:
        catalog = self._hub.catalog
        for key, hub_id in catalog.rows(query.order, bound):
            traits = catalog.traits(hub_id)
            if (
                traits is not None
                and self._hub.listed(hub_id, traits, query.mature, query.archived)
                and (not query.types or traits.type in query.types)
                and self._passes(hub_id, query, traits)
            ):
                yield key, hub_id

    def _passes(self, hub_id: int, query: ListQuery, traits: Traits) -> bool:
        """The filters that need the document: only then is it made."""
        if not (query.tag or query.username or query.base_models or query.since_ms):
            return True
        item = self._hub.catalog.document(hub_id)
        if item is None:
            return False
        if query.tag and query.tag not in {str(tag).casefold() for tag in item["tags"]}:
            return False
        if query.username and creator_of(item) != query.username:
            return False
        if query.base_models and not query.base_models & _base_models(item):
            return False
        dates = [str(v.get("publishedAt") or "") for v in item["modelVersions"]]
        return query.since_ms is None or max(dates, default="") >= str(iso(query.since_ms))

    def _item(self, hub_id: int, query: ListQuery) -> Json | None:
        """The item as this list shows it; None for a row without a visible version."""
        catalog = self._hub.catalog
        item = catalog.document(hub_id)
        source = catalog.source(hub_id)
        if item is None or source is None:
            return None
        if source.verbatim:
            return item
        if query.base_models:
            item["modelVersions"] = [
                version
                for version in item["modelVersions"]
                if version["baseModel"] in query.base_models
            ]
        if not item["modelVersions"]:
            return None
        return self._hub.era.shown(item if query.mature else shapes.cut_to_pg(item), "list")

    def _bound(self, query: ListQuery) -> Bound | None:
        if query.cursor is None:
            return None
        parts = query.cursor.split("|")
        try:
            if query.order in (Order.NEWEST, Order.OLDEST):
                date_text, id_text = parts
                date_ms = _parse_date(date_text)
                if query.order is Order.OLDEST:
                    # Only the date is compared: ties are repeated.
                    return Bound((date_ms, 0), inclusive=True)
                return Bound((date_ms, int(id_text)), inclusive=not self._hub.newest_loses_rows)
            first, second, hub_id = map(int, parts)
        except ValueError:
            message = f"Invalid cursor: unparseable value {query.cursor!r}"
            raise Refused(messages.document(400, {"error": message})) from None
        key = self._hub.catalog.popularity(query.order, hub_id)
        if key is None or key[:2] != (first, second):
            key = (first, second, 1)
        return Bound(key, inclusive=True)

    def _same_place(self, query: ListQuery) -> str:
        """A cursor that is spelled differently but starts where this request did."""
        if query.order in (Order.NEWEST, Order.OLDEST):
            top = "2099-01-01 00:00:00.000|0" if query.order is Order.NEWEST else "1970-01-02|0"
            date, _, hub_id = (query.cursor or top).partition("|")
            return f"{date}|0{hub_id}"
        return "0" + (query.cursor or f"{1 << 40}|0|0")

    # -- by ids and by text ----------------------------------------------------------------------

    def _by_ids(self, query: ListQuery, ids: list[int]) -> tuple[list[Json], str | None]:
        catalog = self._hub.catalog
        shown: list[Json] = []
        for hub_id in sorted(ids, reverse=True):
            traits = catalog.traits(hub_id)
            if traits is None or not self._hub.listed(hub_id, traits, query.mature, query.archived):
                continue
            if query.types and traits.type not in query.types:
                continue
            item = self._item(hub_id, query)
            if item is not None:
                shown.append(item)
        start = int(query.cursor or 0)
        end = start + max(query.limit, 1)
        return shown[start:end], str(end) if len(shown) > end else None

    def _search(self, query: ListQuery) -> tuple[list[Json], str | None]:
        """Relevance is popularity here; period and base model are filtered after the cut."""
        wanted = (query.text or "").casefold().split()
        start = int(query.cursor or 0)
        plain = _matcher(wanted)
        found: list[int] = []
        catalog = self._hub.catalog
        for _, hub_id in itertools.islice(catalog.rows(Order.RATED, None), _QUERY_ROWS):
            traits = catalog.traits(hub_id)
            if (
                traits is None
                or not self._hub.listed(hub_id, traits, query.mature, query.archived)
                or (query.types and traits.type not in query.types)
            ):
                continue
            item = catalog.document(hub_id)
            if item is not None and plain(item):
                found.append(hub_id)
                if len(found) > start + query.limit:
                    break
        end = start + query.limit
        items = [
            item
            for hub_id in found[start:end]
            if self._passes(hub_id, query, Traits("", 0)) and (item := self._item(hub_id, query))
        ]
        return items, str(end) if len(found) > end else None


def _matcher(wanted: list[str]) -> Callable[[Json], bool]:
    def matches(item: Json) -> bool:
        text = " ".join([str(item["name"]), creator_of(item), *map(str, item["tags"])]).casefold()
        return all(word in text for word in wanted)

    return matches


def _base_models(item: Json) -> set[str]:
    return {str(version.get("baseModel")) for version in item["modelVersions"]}


def _cursor(order: Order, key: Key, hub_id: int) -> str:
    if order in (Order.NEWEST, Order.OLDEST):
        date = key[0]
        if not 0 <= date < NO_DATE_MS:
            return f"|{hub_id}"
        return f"{str(iso(date))[:-1].replace('T', ' ')}|{hub_id}"
    return f"{key[0]}|{key[1]}|{hub_id}"


def _parse_date(text: str) -> int:
    """`2025-08-01 00:00:00.000`, or the same as ISO with a Z; raises ValueError."""
    date = datetime.datetime.fromisoformat(text.replace(" ", "T").removesuffix("Z"))
    delta = date.replace(tzinfo=datetime.UTC) - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return delta // datetime.timedelta(milliseconds=1)

"""A hub in memory: the contract's list with CivitAI's ways, and answers that can be scripted.

What real HTTP does is the simulated hub's business; this one makes a thousand crawls a second.
A hub that changes while it is watched is ``living_hub``.
"""

import json
from collections.abc import Callable, Mapping, Sequence

from modelkeepd.hubs.contract import (
    Address,
    DownloadPlan,
    HubPage,
    ListItem,
    NotFoundOnHub,
    Order,
    PageRequest,
    Presence,
    WantedFile,
)


class FakeHub:
    """Serves ``rows`` (date in ms, id) per view; ``distort`` may change or refuse any page."""

    name = "civitai"
    page_limit = 100
    bulk_ids = 100
    news_order: Order = "newest"
    details_apart = False

    def __init__(
        self,
        views: Mapping[str, Sequence[tuple[int, int]]],
        *,
        loses_boundary_rows: bool = True,
        limit: int | None = None,
        distort: Callable[[int, PageRequest, HubPage], HubPage] = lambda _n, _r, page: page,
    ) -> None:
        self.views = tuple(views)
        self._rows = {view: sorted(rows, reverse=True) for view, rows in views.items()}
        self._loses = loses_boundary_rows
        self._limit = limit
        self._distort = distort
        self.requests: list[PageRequest | tuple[str, ...]] = []

    def page(self, request: PageRequest) -> HubPage:
        """The answer, synchronously: pure planners are tested without a loop."""
        self.requests.append(request)
        if len(self.requests) > 5_000:
            raise AssertionError("the crawl does not come to an end")
        newest = request.order == "newest"
        rows = self._rows[request.view] if newest else self._rows[request.view][::-1]
        if request.cursor is not None:
            at = _position(request.cursor)
            if not newest:
                rows = [row for row in rows if row[0] >= at[0]]
            elif self._loses:
                rows = [row for row in rows if row < at]
            else:
                rows = [row for row in rows if row <= at]
        # a small page size makes many pages of few rows; smaller limits shrink it alike
        limit = request.limit if self._limit is None else min(self._limit, request.limit)
        if self._limit is not None and request.limit < 100:
            limit = max(1, self._limit - 1) if request.limit == 99 else max(1, self._limit // 3)
        taken, rest = rows[:limit], rows[limit:]
        cursor = f"{rest[0][0]}|{rest[0][1]}" if rest else None
        page = HubPage(
            items=tuple(item(hub_id) for _, hub_id in taken),
            next_cursor=cursor,
            boundary_id=str(rest[0][1]) if rest and newest else None,
            next_position=rest[0] if rest else None,
            typical_id=taken[len(taken) // 2][1] if taken else None,
        )
        return self._distort(len(self.requests), request, page)

    def by_ids(self, ids: Sequence[str], view: str) -> tuple[ListItem, ...]:
        """Those of the ids that the view shows."""
        self.requests.append(tuple(ids))
        shown = {str(hub_id) for _, hub_id in self._rows[view]}
        return tuple(item(int(i)) for i in ids if i in shown)

    @property
    def requests_sent(self) -> int:
        return len(self.requests)

    async def list_page(self, request: PageRequest) -> HubPage:
        return self.page(request)

    async def models_by_ids(self, ids: Sequence[str], view: str) -> tuple[ListItem, ...]:
        return self.by_ids(ids, view)

    async def model(self, hub_id: str) -> bytes:
        if not any(hub_id == str(i) for rows in self._rows.values() for _, i in rows):
            raise NotFoundOnHub(f"no model {hub_id}")
        return item(int(hub_id)).raw

    async def look(self, address: Address) -> Presence:
        try:
            raw = await self.model(address.hub_id)
        except NotFoundOnHub as exc:
            return Presence("absent", reason=exc.message)
        return Presence("present", ListItem(address.hub_id, raw))

    async def details(self, address: Address) -> bytes:
        return await self.model(address.hub_id)

    async def version(self, hub_id: str) -> bytes:
        raise NotFoundOnHub(f"no version {hub_id}")

    async def probe(self) -> None:
        pass

    async def download_plan(self, wanted: WantedFile) -> DownloadPlan:
        url = f"http://127.0.0.1:9/{wanted.version_id}"
        return DownloadPlan(url, None, wanted.name, wanted.size_bytes, wanted.sha256, "fake")


def item(hub_id: int) -> ListItem:
    """A small list item."""
    document = {"id": hub_id, "name": f"model {hub_id}", "type": "LORA", "modelVersions": []}
    return ListItem(str(hub_id), json.dumps(document).encode())


def _position(cursor: str) -> tuple[int, int]:
    date, _, hub_id = cursor.partition("|")
    return int(date), int(hub_id)

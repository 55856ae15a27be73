"""CivitAI's API: which requests are made and what comes back of them.

Owns endpoints, parameters, cursors and download addresses. Documents are read by
``civitai_documents``. The list is asked by cursors only: pages by number answer page one.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
import trio

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.answers import json_body
from modelkeepd.hubs.civitai_documents import document_id, load_json
from modelkeepd.hubs.civitai_wire import WirePage
from modelkeepd.hubs.contract import (
    DownloadPlan,
    HubPage,
    HubRejected,
    HubUnavailable,
    ListItem,
    NotFoundOnHub,
    OddDocument,
    PageRequest,
    WantedFile,
)
from modelkeepd.hubs.http import USER_AGENT, HubHttp
from modelkeepd.hubs.limiter import Limiter
from modelkeepd.hubs.retry import RetryPolicy, retrying
from modelkeepd.secrets import Secret

T = TypeVar("T")

_SORTS = {"newest": "Newest", "oldest": "Oldest"}
_page_decoder = msgspec.json.Decoder(WirePage)


class Civitai:
    """The CivitAI client. ``mature`` shows all levels but hides some models that ``sfw`` shows."""

    name = "civitai"
    views: tuple[str, ...] = ("mature", "sfw")
    page_limit = 100

    def __init__(
        self,
        http: HubHttp,
        limiter: Limiter,
        *,
        token: Secret | None = None,
        policy: RetryPolicy | None = None,
        clocks: Clocks | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._http = http
        self._limiter = limiter
        self._token = token
        self._policy = policy or RetryPolicy()
        self._clocks = clocks or Clocks()
        self._rng = rng or random.Random()

    @property
    def requests_sent(self) -> int:
        """Attempts included that failed or were repeated."""
        return self._http.requests

    async def list_page(self, request: PageRequest) -> HubPage:
        """One page of ``/models``."""
        params = {"limit": str(request.limit), "sort": _SORTS[request.order], **_view(request.view)}
        if request.cursor is not None:
            params["cursor"] = request.cursor
        newest = request.order == "newest"
        try:
            return await self._ask(
                "/api/v1/models", params, lambda body: read_page(body, newest=newest)
            )
        except HubRejected:
            if request.cursor is not None and request.cursor.startswith("|"):
                # rows without a date come last, and the hub can't read its own cursor for them
                return HubPage(items=())
            raise

    async def models_by_ids(self, ids: Sequence[str], view: str) -> tuple[ListItem, ...]:
        """Up to 100 models in list form."""
        params = {"ids": ",".join(ids), "limit": str(self.page_limit), **_view(view)}
        page = await self._ask("/api/v1/models", params, lambda body: read_page(body, newest=False))
        return page.items

    async def model(self, hub_id: str) -> bytes:
        """``/models/{id}``; shows every level whatever the view."""
        return await self._ask(f"/api/v1/models/{_number(hub_id)}", {}, _document)

    async def version(self, hub_id: str) -> bytes:
        """``/model-versions/{id}``"""
        return await self._ask(f"/api/v1/model-versions/{_number(hub_id)}", {}, _document)

    async def probe(self) -> None:
        """One small list answer."""
        await self._ask("/api/v1/models", {"ids": "1", "limit": "1"}, _document)

    async def download_plan(self, wanted: WantedFile) -> DownloadPlan:
        """By ``fileId``: an address without it may serve another variant than the one we want."""
        address = f"{self._http.base_url}/api/download/models/{_number(wanted.version_id)}"
        fallback = None
        if wanted.url and "?" in wanted.url:
            # a component linked from another model is known by its type only
            fallback = f"{address}?{wanted.url.partition('?')[2]}"
        url = f"{address}?{urlencode({'fileId': wanted.file_id})}" if wanted.file_id else address
        return DownloadPlan(
            url=url if wanted.file_id else fallback or url,
            token=self._token,
            name=wanted.name,
            size_bytes=wanted.size_bytes,
            sha256=wanted.sha256,
            user_agent=USER_AGENT,
            fallback_url=fallback if wanted.file_id and fallback != url else None,
        )

    async def _ask(self, path: str, params: Mapping[str, str], read: Callable[[bytes], T]) -> T:
        async def attempt() -> T:
            answer = await self._http.get(path, params)
            body = json_body(answer, f"civitai {path}", self._clocks.wall_ms())
            # a page is a megabyte at times: not on the loop
            return await trio.to_thread.run_sync(read, body)

        return await retrying(attempt, limiter=self._limiter, policy=self._policy, rng=self._rng)


def read_page(body: bytes, *, newest: bool) -> HubPage:
    """A list answer. Raises HubUnavailable when it is none: cut off, or of another shape."""
    items, metadata = _envelope(body)
    cursor = metadata.get("nextCursor")
    if isinstance(cursor, int) and not isinstance(cursor, bool):
        cursor = str(cursor)
    if not isinstance(cursor, str) or not cursor:
        cursor = None
    found = tuple([ListItem(document_id(raw), raw) for raw in items])
    numbers = sorted(int(item.hub_id) for item in found if item.hub_id is not None)
    boundary = cursor.rpartition("|")[2].lstrip("0") if cursor is not None and newest else ""
    return HubPage(
        items=found,
        next_cursor=cursor,
        # Newest compares strictly with the first row of the next page: that row is lost
        boundary_id=boundary if boundary.isascii() and boundary.isdecimal() else None,
        next_position=cursor_position(cursor) if cursor is not None else None,
        typical_id=numbers[len(numbers) // 2] if numbers else None,
    )


def _envelope(body: bytes) -> tuple[list[bytes], dict[str, Any]]:
    try:
        page = _page_decoder.decode(body)
        items, metadata = [bytes(raw) for raw in page.items], page.metadata
    except (msgspec.MsgspecError, RecursionError, ValueError):
        # one item with NaN or a lone surrogate must not cost the other ninety-nine
        try:
            tree = load_json(body)
        except OddDocument as exc:
            raise HubUnavailable(f"a list page that is {exc.reason}", answered=True) from exc
        if not isinstance(tree, dict) or not isinstance(tree.get("items"), list):
            raise HubUnavailable("a list page without items", answered=True) from None
        items = [json.dumps(item).encode() for item in tree["items"]]
        metadata = tree.get("metadata")
    if not isinstance(metadata, dict):
        # its absence would read as the end of the catalog
        raise HubUnavailable("a list page without its metadata", answered=True)
    return items, metadata


def cursor_position(cursor: str) -> tuple[int, int] | None:
    """(date in ms, id) of a cursor of Newest or Oldest, else None."""
    date, bar, number = cursor.rpartition("|")
    if not bar or not (number.isascii() and number.isdecimal()):
        return None
    try:
        at = datetime.fromisoformat(date)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        return round(at.timestamp() * 1000), int(number)
    except (ValueError, OverflowError):
        return None


def _view(view: str) -> dict[str, str]:
    return {"nsfw": "true"} if view == "mature" else {}


def _number(hub_id: str) -> str:
    if not (hub_id.isascii() and hub_id.isdecimal()):
        raise NotFoundOnHub(f"civitai has no object {hub_id!r}: its ids are numbers")
    return hub_id


def _document(body: bytes) -> bytes:
    try:
        load_json(body)
    except OddDocument as exc:
        raise HubUnavailable(f"a document that is {exc.reason}", answered=True) from exc
    return body

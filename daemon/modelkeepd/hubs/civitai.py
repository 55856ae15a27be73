"""CivitAI's API: which requests are made and what comes back of them.

Owns endpoints, parameters, cursors and download addresses. Documents are read by
``civitai_documents``. The list is asked by cursors only: pages by number answer page one.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec

from modelkeepd.hubs.civitai_documents import document_id, parse_civitai_model
from modelkeepd.hubs.civitai_wire import WirePage
from modelkeepd.hubs.contract import (
    Address,
    DownloadPlan,
    HubError,
    HubPage,
    HubRejected,
    HubUnavailable,
    ListItem,
    NotFoundOnHub,
    OddDocument,
    Order,
    PageRequest,
    Presence,
    WantedFile,
)
from modelkeepd.hubs.http import USER_AGENT, Answer
from modelkeepd.hubs.line import Line
from modelkeepd.hubs.wire import load_json, split_array, split_object

_SORTS = {"newest": "Newest", "oldest": "Oldest"}
_MODELS = "/api/v1/models"
# what the hub says of a model that is deleted or hidden; other 404s come from caches and edges
_DENIAL = "No model with id"
# versions that are asked whether they still exist, when their model is said not to
_WITNESSES = 2
_page_decoder = msgspec.json.Decoder(WirePage)


class Civitai:
    """The CivitAI client. ``mature`` shows all levels but hides some models that ``sfw`` shows."""

    name = "civitai"
    views: tuple[str, ...] = ("mature", "sfw")
    page_limit = 100
    bulk_ids = 100
    news_order: Order = "newest"
    details_apart = False

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def requests_sent(self) -> int:
        """Attempts included that failed or were repeated."""
        return self._line.requests_sent

    async def list_page(self, request: PageRequest) -> HubPage:
        """One page of ``/models``."""
        params = [("limit", str(request.limit)), ("sort", _SORTS[request.order])]
        params += _view(request.view)
        if request.cursor is not None:
            params.append(("cursor", request.cursor))
        newest = request.order == "newest"
        try:
            return await self._line.get(
                _MODELS,
                params,
                operation="list",
                read=lambda answer: read_page(answer.body, newest=newest),
            )
        except HubRejected:
            if request.cursor is not None and not request.cursor[:1].isdigit():
                # rows without a date come last, and the hub can't read its own cursor for them,
                # whichever separator it begins with
                return HubPage(items=())
            raise

    async def models_by_ids(self, ids: Sequence[str], view: str) -> tuple[ListItem, ...]:
        """Up to 100 models in list form."""
        params = [("ids", ",".join(ids)), ("limit", str(self.bulk_ids)), *_view(view)]
        page = await self._line.get(
            _MODELS,
            params,
            operation="ids",
            read=lambda answer: read_page(answer.body, newest=False),
        )
        return page.items

    async def model(self, hub_id: str) -> bytes:
        """``/models/{id}``; shows every level whatever the view."""
        path = f"{_MODELS}/{_number(hub_id)}"
        return await self._line.get(path, operation="model", read=_document)

    async def version(self, hub_id: str) -> bytes:
        """``/model-versions/{id}``"""
        path = f"/api/v1/model-versions/{_number(hub_id)}"
        return await self._line.get(path, operation="version", read=_document)

    async def probe(self) -> None:
        """One small list answer."""
        await self._line.get(
            _MODELS, [("ids", "1"), ("limit", "1")], operation="probe", read=_document
        )

    async def look(self, address: Address) -> Presence:
        """By the lists, then by id, then by its versions: each may deny what is still there.

        A fresh version's level hides it from lists and its own endpoint, a cache may have lost it,
        an archived model is in no list: only what all of them deny is absent.
        """
        try:
            return await self._seen(address)
        except HubUnavailable:
            raise
        except HubError as error:  # a region, a token: nothing about this model
            return Presence("unclear", reason=error.message)

    async def _seen(self, address: Address) -> Presence:
        if (item := await self._listed(address.hub_id)) is not None:
            return Presence("present", item)
        try:
            raw = await self.model(address.hub_id)
        except NotFoundOnHub as error:
            if _DENIAL not in error.message:
                return Presence("unclear", reason=error.message)
            return await self._denied(address, error)
        if not _is_usable(raw, address.hub_id):
            return Presence("unclear", reason=f"civitai shows no model {address.hub_id} by its id")
        return Presence("present", ListItem(address.hub_id, raw))

    async def _denied(self, address: Address, error: NotFoundOnHub) -> Presence:
        if not address.version_ids:
            return Presence("unclear", reason=f"{error.message}; no version to ask about")
        for version_id in address.version_ids[:_WITNESSES]:
            try:
                await self.version(version_id)
            except NotFoundOnHub as denial:
                if "{" in denial.message:  # the hub's own JSON, not an edge's page
                    continue
                return Presence("unclear", reason=denial.message)
            return Presence("unclear", reason=f"{error.message}, but version {version_id} is there")
        return Presence("absent", reason=error.message)

    async def details(self, address: Address) -> bytes:
        """In the form of the list where a list shows it, else by id."""
        item = await self._listed(address.hub_id)
        return item.raw if item is not None else await self.model(address.hub_id)

    async def _listed(self, hub_id: str) -> ListItem | None:
        for view in self.views:
            for item in await self.models_by_ids([_number(hub_id)], view):
                if item.hub_id == hub_id:
                    return item
        return None

    async def download_plan(self, wanted: WantedFile) -> DownloadPlan:
        """By ``fileId``: an address without it may serve another variant than the one we want."""
        address = f"{self._line.base_url}/api/download/models/{_number(wanted.version_id)}"
        fallback = None
        if wanted.url and "?" in wanted.url:
            # a component linked from another model is known by its type only
            fallback = f"{address}?{wanted.url.partition('?')[2]}"
        url = f"{address}?{urlencode({'fileId': wanted.file_id})}" if wanted.file_id else address
        return DownloadPlan(
            url=url if wanted.file_id else fallback or url,
            token=self._line.token,
            name=wanted.name,
            size_bytes=wanted.size_bytes,
            sha256=wanted.sha256,
            user_agent=USER_AGENT,
            fallback_url=fallback if wanted.file_id and fallback != url else None,
        )


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
        # one item with NaN, a lone surrogate or an abyss must not cost the other ninety-nine
        try:
            members = split_object(body)
            if "items" not in members:
                raise HubUnavailable("a list page without items", answered=True) from None
            items = split_array(members["items"])
            metadata = load_json(members.get("metadata", b"null"))
        except OddDocument as exc:
            raise HubUnavailable(f"a list page that is {exc.reason}", answered=True) from exc
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


def _view(view: str) -> list[tuple[str, str]]:
    return [("nsfw", "true")] if view == "mature" else []


def _number(hub_id: str) -> str:
    if not (hub_id.isascii() and hub_id.isdecimal()):
        raise NotFoundOnHub(f"civitai has no object {hub_id!r}: its ids are numbers")
    return hub_id


def _document(answer: Answer) -> bytes:
    try:
        load_json(answer.body)
    except OddDocument as exc:
        raise HubUnavailable(f"a document that is {exc.reason}", answered=True) from exc
    return answer.body


def _is_usable(raw: bytes, hub_id: str) -> bool:
    try:
        return parse_civitai_model(raw, texts=False).hub_id == hub_id
    except OddDocument:
        return False

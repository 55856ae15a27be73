"""The parameters of `GET /api/v1/models`: what the strict schema takes, ignores and refuses."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.hubsim import messages, words
from tests.hubsim.messages import Refused, Request
from tests.hubsim.population import Json
from tests.hubsim.strands import Order

if TYPE_CHECKING:
    from tests.hubsim.civitai import Civitai

_SORTS = {
    "Highest Rated": Order.RATED,
    "Most Downloaded": Order.DOWNLOADED,
    "Most Liked": Order.RATED,
    "Most Discussed": Order.RATED,
    "Most Collected": Order.RATED,
    "Most Images": Order.RATED,
    "Newest": Order.NEWEST,
    "Oldest": Order.OLDEST,
}
_PERIODS_DAYS = {"AllTime": None, "Year": 365, "Month": 30, "Week": 7, "Day": 1}
_TRUE, _FALSE = {"true", "1", "yes", "y", "on"}, {"false", "0", "no", "n", "off"}
_TYPED = (
    "allowNoCredit", "allowDerivatives", "allowDifferentLicense", "browsingLevel", "collectionId",
    "disablePoi",
)  # fmt: skip


def invalid(name: str, message: str) -> Refused:
    """400 in the shape of the schema library's errors: the issues are text inside `message`."""
    issue = {"code": "invalid_value", "path": [name], "message": message}
    issues = json.dumps([issue], indent=2)
    return Refused(messages.document(400, {"error": {"name": "ZodError", "message": issues}}))


@dataclass(slots=True)
class ListQuery:
    """The parameters of one list request, parsed and checked."""

    limit: int
    order: Order
    cursor: str | None
    mature: bool
    archived: bool
    types: frozenset[str]
    base_models: frozenset[str]
    tag: str | None
    username: str | None
    text: str | None
    ids: list[int] | None
    since_ms: int | None
    page: int | None

    @property
    def crawl(self) -> tuple[object, ...]:
        """Two requests with the same crawl belong to one walk through one list."""
        return (self.mature, self.archived, self.types, self.base_models, self.tag, self.username)


def _flag(request: Request, name: str) -> bool:
    value = request.arg(name)
    if value is None:
        return False
    if value.lower() not in _TRUE | _FALSE:
        raise invalid(name, "Invalid input: expected boolean")
    return value.lower() in _TRUE


def _number(request: Request, name: str, low: float, high: float) -> int | None:
    value = request.arg(name)
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
        raise invalid(name, f"Invalid input: expected number from {low} to {high}")
    return int(value)


def _choices(request: Request, name: str, known: frozenset[str]) -> frozenset[str]:
    values = frozenset(request.args(name))
    if values - known:
        raise invalid(name, "Invalid option")
    return values


def creator_of(item: Json) -> str:
    creator = item.get("creator")
    return str(creator.get("username") or "").lower() if isinstance(creator, dict) else ""


class QueryParser:
    """Reads list requests; raises `Refused` with the hub's own answer to a bad one."""

    def __init__(self, hub: Civitai) -> None:
        self._hub = hub
        self._tags: frozenset[str] | None = None
        self._creators: frozenset[str] | None = None

    def parse(self, request: Request) -> ListQuery:
        limit = _number(request, "limit", 0, 100)
        page = _number(request, "page", 1, math.inf)
        sort = request.arg("sort") or "Highest Rated"
        period = request.arg("period") or "AllTime"
        text = request.arg("query") or None
        for name in _TYPED:
            if request.arg(name) is not None:
                raise invalid(name, "Invalid input: expected another type, received string")
        if sort not in _SORTS:
            raise invalid("sort", "Invalid option")
        if period not in _PERIODS_DAYS:
            raise invalid("period", "Invalid option")
        if len(request.args("tag")) > 1:
            raise invalid("tag", "Invalid input: expected string, received array")
        if len(request.args("fileFormats")) == 1:
            raise invalid("fileFormats", "Invalid input: expected array, received string")
        for name in ("favorites", "hidden"):
            if request.arg(name) is not None and self._hub.user(request) is None:
                raise Refused(messages.document(401, {"error": "Unauthorized"}))
        if page and self._hub.era.limits_pages and page * (100 if limit is None else limit) > 1000:
            error = "You've requested too many pages, please use cursors instead"
            raise Refused(messages.document(429, {"error": error}))
        if page and text:
            error = "Cannot use page param with query search. Use cursor-based pagination."
            raise Refused(messages.document(400, {"error": error}))
        for name in (
            "primaryFileOnly",
            "supportsGeneration",
            "earlyAccess",
            "paidAccess",
            "onSale",
        ):
            _flag(request, name)
        days, cursor = _PERIODS_DAYS[period], request.arg("cursor")
        return ListQuery(
            limit=100 if limit is None else limit,
            order=_SORTS[sort],
            cursor=None if cursor is None else self._hub.era.cursor_in(cursor),
            mature=_flag(request, "nsfw"),
            archived=_flag(request, "archived"),
            types=_choices(request, "types", self._hub.known_types),
            base_models=frozenset(request.args("baseModels")),
            tag=self._known_tag(request.arg("tag")),
            username=self._known_creator(request.arg("username")),
            text=text,
            ids=self._wanted_ids(request),
            since_ms=None if days is None else self._hub.catalog.now_ms - days * 86_400_000,
            page=page,
        )

    def _wanted_ids(self, request: Request) -> list[int] | None:
        models, versions = request.arg("ids"), request.arg("modelVersionIds")
        if models is None and versions is None:
            return None
        try:
            wanted = [int(part) for part in (models or "").split(",") if part.strip()]
            owned = [int(part) for part in (versions or "").split(",") if part.strip()]
        except ValueError:
            raise invalid("ids", "Invalid input: expected number, received NaN") from None
        owners = [self._hub.catalog.owner(version_id) for version_id in owned]
        return list(dict.fromkeys([*wanted, *(owner for owner in owners if owner)]))

    def _known_tag(self, tag: str | None) -> str | None:
        """An unknown tag drops the filter: the whole catalog comes back."""
        if tag is None:
            return None
        if self._tags is None:
            names = {name.casefold() for name in words.ENGLISH_TAGS + words.OTHER_TAGS}
            for source in self._hub.catalog.sources:
                if source.verbatim:
                    for hub_id in source.ids():
                        tags = source.document(hub_id).get("tags", ())
                        names |= {str(name).casefold() for name in tags}
            self._tags = frozenset(names)
        return tag.casefold() if tag.casefold() in self._tags else None

    def _known_creator(self, name: str | None) -> str | None:
        if name is None:
            return None
        if self._creators is None:
            documents = map(self._hub.catalog.document, self._hub.catalog.ids())
            self._creators = frozenset(creator_of(item) for item in documents if item)
        if name.lower() not in self._creators:
            raise Refused(messages.document(404, {"message": "User not found"}))
        return name.lower()

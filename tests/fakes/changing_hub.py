"""A living hub with the rest of a hub's ways: modes, lists that lie for a while, faults on call.

Each view shows a document of its own of the same model, as CivitAI's do. Faults are names, used up
one a request; ``kill_at`` breaks off whoever asks at the n-th request, as a kill does.
"""

import json
import random
from typing import Any

from modelkeepd.hubs.contract import (
    HubPage,
    HubUnavailable,
    ListItem,
    PageRequest,
)
from tests.fakes.living_hub import Life, LivingHub, Manner

FAULTS = (
    "429", "500", "html", "down", "repeat", "same_cursor", "first_cursor", "empty", "lost_row",
)  # fmt: skip


class Killed(BaseException):
    """The process is gone: nothing may catch this."""


class ChangingHub(LivingHub):
    """See the module's prose."""

    def __init__(self, manner: Manner, *, models: int, page_size: int, seed: int = 1) -> None:
        self.modes: dict[str, str] = {}
        self.versionless: set[str] = set()  # a cache has lost their versions
        self.fileless: set[str] = set()  # or the files of all versions
        self.faults: list[str] = []
        self.kill_at: int | None = None
        self._view = ""
        self._before: dict[tuple[str, str], HubPage] = {}
        self._rng = random.Random(seed)
        super().__init__(manner, models=models, page_size=page_size)

    def set_mode(self, hub_id: str, mode: str | None) -> None:
        """TakenDown stays in the lists; Archived does not; None is as before."""
        if mode is None:
            self.modes.pop(hub_id, None)
        else:
            self.modes[hub_id] = mode
        self.lives[hub_id].is_listed = mode != "Archived"
        self._tick()

    def move(self, hub_id: str, views: tuple[str, ...]) -> None:
        """It is shown in these views from now on."""
        self.lives[hub_id].views = views

    def calm_down(self) -> None:
        """No faults any more."""
        self.faults, self.kill_at = [], None
        self.versionless.clear()
        self.fileless.clear()

    def truth(self) -> dict[str, dict[str, Any]]:
        """Each listed model as its fullest view shows it, without what caches have lost."""
        found = {}
        for life in self._listed(None):
            view = next(view for view in self.views if view in life.views)
            found[life.hub_id] = self._as_seen(life, view)
        return found

    def _as_seen(self, life: Life, view: str) -> dict[str, Any]:
        document = super().document(life)
        if self.name == "civitai":
            document["cut_for"] = view
            if life.hub_id in self.modes:
                document["mode"] = self.modes[life.hub_id]
        return document

    def document(self, life: Life) -> dict[str, Any]:
        document = self._as_seen(life, self._view)
        if life.hub_id in self.versionless:
            document["modelVersions"] = []
        if life.hub_id in self.fileless:
            document["modelVersions"] = [
                {**version, "files": []} for version in document["modelVersions"]
            ]
        return document

    async def models_by_ids(self, ids: Any, view: str) -> tuple[ListItem, ...]:
        self._view = view
        return await super().models_by_ids(ids, view)

    async def look(self, address: Any) -> Any:
        self._view = self._first_view(address.hub_id)
        return await super().look(address)

    async def details(self, address: Any) -> bytes:
        self._view = self._first_view(address.hub_id)
        return await super().details(address)

    async def model(self, hub_id: str) -> bytes:
        self._view = self._first_view(self.names.get(hub_id, ""))
        return await super().model(hub_id)

    def _first_view(self, hub_id: str) -> str:
        life = self.lives.get(hub_id)
        shown = self.views if life is None else life.views
        return next(view for view in self.views if view in shown)

    def _asked(self, operation: str) -> None:
        super()._asked(operation)
        if self.kill_at is not None:
            self.kill_at -= 1
            if self.kill_at <= 0:
                self.kill_at = None
                raise Killed

    def page(self, request: PageRequest) -> HubPage:
        self._view = request.view
        page = super().page(request)
        page = self._spoilt(request, page)
        self._before[request.view, request.order] = page
        return page

    def _spoilt(self, request: PageRequest, page: HubPage) -> HubPage:
        fault = self.faults.pop(0) if self.faults else ""
        key = (request.view, request.order)
        match fault:
            case "429":
                raise HubUnavailable("too many", status=429, retry_after_s=0.0, answered=True)
            case "500" | "html":
                raise HubUnavailable(f"rubbish: {fault}", status=500, answered=True)
            case "down":
                raise HubUnavailable("nobody answers")
            case "repeat" if key in self._before:
                return self._before[key]
            case "same_cursor" if page.next_cursor and request.cursor:
                return _with(page, request.cursor, page.next_position)
            case "first_cursor" if page.next_cursor and request.cursor:
                first = super().page(PageRequest(request.view, request.order, None, request.limit))
                return _with(page, first.next_cursor, first.next_position)
            case "empty" if page.next_cursor:
                return HubPage((), page.next_cursor, page.boundary_id)
            case "lost_row" if page.items:
                left = list(page.items)
                left.pop(self._rng.randrange(len(left)))
                return HubPage(
                    tuple(left), page.next_cursor, page.boundary_id, page.next_position,
                    page.typical_id,
                )  # fmt: skip
        return page


def _with(page: HubPage, cursor: str | None, position: tuple[int, int] | None) -> HubPage:
    return HubPage(page.items, cursor, None, position, page.typical_id)


def canonical(document: Any) -> str:
    """One text for equal documents."""
    return json.dumps(document, sort_keys=True)

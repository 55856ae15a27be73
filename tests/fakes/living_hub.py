"""A hub in memory that changes by command, in the manner of either real one.

    hub = LivingHub("huggingface", models=20)
    hub.add(); hub.edit(hub_id); hub.publish(hub_id); hub.count(hub_id); hub.rename(hub_id)
    hub.remove(hub_id); hub.restore(hub_id); hub.unlist(hub_id)
    hub.truth()                   # hub_id -> document, as the lists show it: all a crawl can see
    hub.before = lambda operation, hub: ...    # called with each request; may change it, or raise
    hub.distort = lambda request, page: page   # what a list page becomes on its way

Every change moves ``now_ms`` on by a millisecond. What a manner has not (bulk fetches, renames) is
not offered. Times are what the manner's lists sort by: CivitAI's by the newest version's date, so
that an edit leaves no trace there; Hugging Face's ``updated`` by the last commit, which edits and
publishing are, and counting is not.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from modelkeepd.hubs.contract import (
    Address,
    DownloadPlan,
    HubPage,
    HubRejected,
    ListItem,
    NotFoundOnHub,
    Order,
    PageRequest,
    Presence,
    WantedFile,
)
from modelkeepd.secrets import Secret

Manner = Literal["civitai", "huggingface"]
START_MS = 1_714_557_600_000
STEP_MS = 60_000
_VIEWS = {"civitai": ("mature", "sfw"), "huggingface": ("all",)}


@dataclass
class Life:
    """One model's state."""

    number: int
    hub_id: str
    ref_id: str
    views: tuple[str, ...]
    created_ms: int
    changed_ms: int
    dates_ms: list[int] = field(default_factory=list)  # of the versions, oldest first
    edits: int = 0
    downloads: int = 0
    is_listed: bool = True
    is_gone: bool = False

    @property
    def sort_ms(self) -> int:
        """What CivitAI's list goes by."""
        return max(self.dates_ms)


class LivingHub:
    """See the module's prose. ``page_size`` makes many small pages."""

    def __init__(
        self,
        manner: Manner = "civitai",
        *,
        models: int = 0,
        page_size: int | None = None,
        token: Secret | None = None,
    ) -> None:
        civitai = manner == "civitai"
        self.name: str = manner
        self.views: tuple[str, ...] = _VIEWS[manner]
        self.page_limit = 100 if civitai else 1_000
        self.bulk_ids = 100 if civitai else 0
        self.news_order: Order = "newest" if civitai else "updated"
        self.details_apart = not civitai
        self.now_ms = START_MS
        self.lives: dict[str, Life] = {}
        self.names: dict[str, str] = {}  # whatever a model was ever called, until another takes it
        self.before: Callable[[str, LivingHub], None] = lambda _operation, _hub: None
        self.distort: Callable[[PageRequest, HubPage], HubPage] = lambda _request, page: page
        self.requests: list[str] = []
        self._page_size = page_size
        self._token = token
        for _ in range(models):
            self.now_ms += STEP_MS
            self.add()

    # ---- changes

    def add(self, views: Sequence[str] | None = None, *, name: str | None = None) -> str:
        """A new model; of three, one is in the first view only and one in the last."""
        number = len(self.lives) + 1
        now = self._tick()
        some = [self.views, self.views[:1], self.views[-1:]][number % 3]
        hub_id = str(1_000 + number)
        if self.name == "huggingface":
            hub_id = f"{now // 1000:08x}36468d709f{number:06x}"
        ref_id = hub_id if self.name == "civitai" else name or f"org{number % 4}/model-{number}"
        life = Life(number, hub_id, ref_id, tuple(views or some), now, now, [now])
        self.lives[hub_id] = life
        self.names[ref_id] = hub_id
        return hub_id

    def edit(self, hub_id: str) -> None:
        """Its words change."""
        life = self.lives[hub_id]
        life.edits += 1
        life.changed_ms = self._tick()

    def publish(self, hub_id: str) -> None:
        """A new version, or a commit with a new file."""
        life = self.lives[hub_id]
        life.changed_ms = self._tick()
        life.dates_ms.append(life.changed_ms)

    def count(self, hub_id: str, downloads: int = 1) -> None:
        """It was downloaded."""
        self.lives[hub_id].downloads += downloads

    def rename(self, hub_id: str, name: str | None = None) -> str:
        """Another name; the old one leads to it until another model takes it."""
        life = self.lives[hub_id]
        life.ref_id = name or f"{life.ref_id}-renamed"
        self.names[life.ref_id] = hub_id
        self._tick()
        return life.ref_id

    def remove(self, hub_id: str) -> None:
        """It is deleted, or made private: nothing of the hub shows it."""
        self.lives[hub_id].is_gone = True

    def unlist(self, hub_id: str) -> None:
        """It is there, and in no list."""
        self.lives[hub_id].is_listed = False

    def restore(self, hub_id: str) -> None:
        """It is back, and in the lists."""
        self.lives[hub_id].is_gone, self.lives[hub_id].is_listed = False, True

    def truth(self) -> dict[str, dict[str, Any]]:
        """Every model that lists show, with the document that they show."""
        return {life.hub_id: self.document(life) for life in self._listed(None)}

    # ---- documents

    def document(self, life: Life) -> dict[str, Any]:
        """In the form of the list."""
        if self.name == "civitai":
            return self._civitai(life)
        return {
            "_id": life.hub_id, "id": life.ref_id, "author": life.ref_id.partition("/")[0],
            "createdAt": _iso(life.created_ms), "lastModified": _iso(life.changed_ms),
            "sha": self._commit(life), "downloads": life.downloads, "likes": life.number,
            "gated": False, "disabled": False, "private": False, "library_name": "diffusers",
            "tags": ["diffusers", "lora", f"edit-{life.edits}", "license:mit", "region:us"],
        }  # fmt: skip

    def full_document(self, life: Life) -> dict[str, Any]:
        """With the files' sizes and hashes."""
        document = self.document(life)
        if self.details_apart:
            document["siblings"] = [
                {"rfilename": "README.md", "size": 5, "blobId": _hex("readme", life.edits)[:40]},
                *(
                    {"rfilename": f"weights-{n}.safetensors", "size": 8 + n, "blobId": "0" * 40,
                     "lfs": {"sha256": _hex("file", life.number, n), "size": 8 + n}}
                    for n in range(len(life.dates_ms))
                ),
            ]  # fmt: skip
        return document

    def _civitai(self, life: Life) -> dict[str, Any]:
        versions = [
            {
                "id": life.number * 100 + n, "name": f"v{n}", "baseModel": "SDXL 1.0",
                "publishedAt": _iso(at), "availability": "Public",
                "files": [{
                    "id": life.number * 100 + n, "name": f"weights-{n}.safetensors",
                    "sizeKB": 8 + n, "type": "Model", "primary": True,
                    "hashes": {"SHA256": _hex("file", life.number, n).upper()},
                    "downloadUrl": f"https://hub.invalid/{life.number * 100 + n}",
                }],
            }
            for n, at in reversed(list(enumerate(life.dates_ms)))
        ]  # fmt: skip
        return {
            "id": int(life.hub_id), "name": f"model {life.number}", "type": "LORA",
            "tags": [f"edit-{life.edits}"], "stats": {"downloadCount": life.downloads},
            "modelVersions": versions,
        }  # fmt: skip

    def _commit(self, life: Life) -> str:
        return _hex("commit", life.hub_id, life.edits, len(life.dates_ms))[:40]

    # ---- the contract

    @property
    def requests_sent(self) -> int:
        return len(self.requests)

    async def list_page(self, request: PageRequest) -> HubPage:
        return self.page(request)

    def page(self, request: PageRequest) -> HubPage:
        """The answer, synchronously."""
        self._asked("list")
        limit = min(request.limit, self.page_limit, self._page_size or self.page_limit)
        make = self._civitai_page if self.name == "civitai" else self._huggingface_page
        return self.distort(request, make(request, limit))

    async def models_by_ids(self, ids: Sequence[str], view: str) -> tuple[ListItem, ...]:
        self._asked("ids")
        if self.bulk_ids == 0:
            return ()
        assert len(ids) <= self.bulk_ids
        return tuple(self._item(life) for life in self._listed(view) if life.hub_id in ids)

    async def model(self, hub_id: str) -> bytes:
        self._asked("model")
        return self._item(self._named(hub_id)).raw

    async def look(self, address: Address) -> Presence:
        self._asked("look")
        try:
            life = self._named(address.ref_id)
        except NotFoundOnHub as exc:
            return Presence("absent", reason=exc.message)
        if life.hub_id != address.hub_id:
            return Presence("absent", reason="the name belongs to another")
        return Presence("present", self._item(life))

    async def details(self, address: Address) -> bytes:
        self._asked("details")
        life = self._named(address.ref_id)
        if life.hub_id != address.hub_id:
            raise NotFoundOnHub("the name belongs to another")
        return json.dumps(self.full_document(life)).encode()

    async def version(self, hub_id: str) -> bytes:
        self._asked("version")
        raise NotFoundOnHub(f"no version {hub_id}")

    async def probe(self) -> None:
        self._asked("probe")

    async def download_plan(self, wanted: WantedFile) -> DownloadPlan:
        path = f"{wanted.ref_id or wanted.model_id}/{wanted.version_id}/{wanted.name}"
        return DownloadPlan(
            f"http://127.0.0.1:9/{path}", self._token, wanted.name, wanted.size_bytes,
            wanted.sha256, "fake", git_sha1=wanted.git_sha1,
        )  # fmt: skip

    # ---- how each manner pages

    def _civitai_page(self, request: PageRequest, limit: int) -> HubPage:
        """``Newest`` loses the row that its cursor names."""
        newest = request.order == "newest"
        rows = sorted(
            ((life.sort_ms, int(life.hub_id), life) for life in self._listed(request.view)),
            key=lambda row: row[:2],
            reverse=newest,
        )
        if request.cursor is not None:
            date, _, number = request.cursor.partition("|")
            at = (int(date), int(number))
            rows = [row for row in rows if (row[:2] < at if newest else row[:2] >= at)]
        taken, rest = rows[:limit], rows[limit:]
        ahead = rest[0][:2] if rest else None
        return HubPage(
            items=tuple(self._item(life) for _, _, life in taken),
            next_cursor=f"{ahead[0]}|{ahead[1]}" if ahead else None,
            boundary_id=str(ahead[1]) if ahead and newest else None,
            next_position=ahead,
            typical_id=taken[len(taken) // 2][1] if taken else None,
        )

    def _huggingface_page(self, request: PageRequest, limit: int) -> HubPage:
        """A keyset of (date falling, key rising): nothing is lost, there is no other way round."""
        if request.order == "oldest":
            raise HubRejected("no such order")

        def date(life: Life) -> int:
            return life.created_ms if request.order == "newest" else life.changed_ms

        rows = sorted((-date(life), life.hub_id) for life in self._listed(request.view))
        if request.cursor is not None:
            at, _, key = request.cursor.partition("|")
            rows = [row for row in rows if row > (int(at), key)]
        taken, more = rows[:limit], len(rows) > limit
        last = taken[-1] if taken else None
        return HubPage(
            items=tuple(self._item(self.lives[key]) for _, key in taken),
            next_cursor=f"{last[0]}|{last[1]}" if last and more else None,
            next_position=(-last[0], -int(last[1][-6:], 16)) if last else None,
        )

    def _asked(self, operation: str) -> None:
        self.requests.append(operation)
        if len(self.requests) > 20_000:
            raise AssertionError("this does not come to an end")
        self.before(operation, self)

    def _listed(self, view: str | None) -> list[Life]:
        return [
            life
            for life in self.lives.values()
            if life.is_listed and not life.is_gone and (view is None or view in life.views)
        ]

    def _named(self, name: str) -> Life:
        life = self.lives.get(self.names.get(name, ""))
        if life is None or life.is_gone:
            raise NotFoundOnHub(f"no model {name}")
        return life

    def _item(self, life: Life) -> ListItem:
        return ListItem(life.hub_id, json.dumps(self.document(life)).encode())

    def _tick(self) -> int:
        self.now_ms += 1
        return self.now_ms


def _iso(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _hex(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()

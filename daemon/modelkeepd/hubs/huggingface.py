"""Hugging Face's API: which requests are made and what comes back of them.

Owns endpoints, parameters, cursors and download addresses. Documents are read by
``huggingface_documents``, refusals by ``huggingface_errors``. How often is asked, and what of it is
merged, cached or repeated, is the line's.

**Names and keys.** People and addresses call a repository ``org/name``; its ``_id`` stays when it
is renamed. A renamed one answers under its old name with a redirect, until somebody takes that
name: so an answer is only believed to be the wanted model when its ``_id`` says so.
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

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
from modelkeepd.hubs.http import USER_AGENT, Answer, Params
from modelkeepd.hubs.huggingface_documents import repo_key
from modelkeepd.hubs.huggingface_errors import RepoDisabled
from modelkeepd.hubs.huggingface_files import is_path
from modelkeepd.hubs.huggingface_wire import WireRow
from modelkeepd.hubs.line import Line
from modelkeepd.hubs.reference import is_repo_name, is_revision
from modelkeepd.hubs.wire import lenient, load_json, split_array, time_ms

EVERYTHING = "all"
# what the catalog keeps of every repository; exactly these come back, with _id and id
EXPANDED = (
    "author", "createdAt", "lastModified", "sha", "downloads", "likes", "gated", "disabled",
    "private", "library_name", "pipeline_tag", "tags", "safetensors",
)  # fmt: skip
_EXPAND: Params = tuple(("expand", field) for field in EXPANDED)
# descending, both; createdAt is the one key that never changes during a crawl
_SORTS: dict[Order, str] = {"newest": "createdAt", "updated": "lastModified"}
_LIST = "/api/models"
_MAX_CURSOR = 4_000
# the seconds at which the hub's oldest keys were made, in one go
_FIRST_KEYS_S = 0x621FFDC0

_page_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_row_decoder = msgspec.json.Decoder(WireRow)
_NEXT = re.compile(r"<([^<>]*)>\s*((?:;[^,<]*)*)")
_IS_NEXT = re.compile(r""";\s*rel\s*=\s*"?next"?\s*(?:;|$)""", re.IGNORECASE)


class HuggingFace:
    """The Hugging Face client. A view is a filter tag; of several with commas, all must fit."""

    name = "huggingface"
    page_limit = 1_000
    bulk_ids = 0
    news_order: Order = "updated"
    details_apart = True

    def __init__(self, line: Line, *, filters: Sequence[str] = (), page_limit: int = 1_000) -> None:
        self._line = line
        self.views: tuple[str, ...] = tuple(dict.fromkeys(filters)) or (EVERYTHING,)
        self.page_limit = max(1, min(page_limit, type(self).page_limit))

    @property
    def requests_sent(self) -> int:
        """Attempts included that failed or were repeated."""
        return self._line.requests_sent

    async def list_page(self, request: PageRequest) -> HubPage:
        """One page of ``/api/models``. There is no oldest-first."""
        sort = _SORTS.get(request.order)
        if sort is None:
            raise HubRejected(f"huggingface has no list ordered by {request.order!r}")
        params = [*_filters(request.view), ("sort", sort), ("limit", str(request.limit)), *_EXPAND]
        ours = {name for name, _ in params}
        if request.cursor is not None:
            params += parse_qsl(request.cursor, max_num_fields=20)
        return await self._line.get(
            _LIST, params, operation="list", read=lambda answer: read_page(answer, sort, ours)
        )

    async def models_by_ids(self, ids: Sequence[str], view: str) -> tuple[ListItem, ...]:
        """Nothing: the hub has no such call (``bulk_ids`` is 0), and drops no rows."""
        return ()

    async def model(self, hub_id: str) -> bytes:
        """``/api/models/ORG/NAME``, in the form of a list row."""
        row = await self._row(_repo(hub_id), _EXPAND, "model")
        return row.raw

    async def look(self, address: Address) -> Presence:
        """By name; the redirect of a renamed one is followed.

        A repository that the hub has disabled counts as absent: it shows no document, and says
        that it was taken down. One whose name we never learnt can't be asked for.
        """
        if address.ref_id == address.hub_id or not is_repo_name(address.ref_id):
            return Presence("unclear", reason=f"{address.ref_id!r} is no name to ask for")
        try:
            row = await self._row(_repo(address.ref_id), _EXPAND, "model")
        except (NotFoundOnHub, RepoDisabled) as exc:
            return Presence("absent", reason=exc.message)
        except HubUnavailable:
            raise
        except HubError as exc:
            return Presence("unclear", reason=exc.message)
        if row.key is None:
            return Presence("unclear", reason="the hub's answer has no _id")
        if row.key != address.hub_id:
            return Presence("absent", reason=_TAKEN_OVER)
        return Presence("present", ListItem(row.key, row.raw))

    async def details(self, address: Address) -> bytes:
        """``?blobs=true``: all files with sizes and hashes, front matter and configuration."""
        row = await self._row(_repo(address.ref_id), (("blobs", "true"),), "details")
        if row.key is not None and row.key != address.hub_id:
            raise NotFoundOnHub(f"huggingface {address.ref_id}: {_TAKEN_OVER}")
        return row.raw

    async def version(self, hub_id: str) -> bytes:
        """A repository's only version is part of its document."""
        raise NotFoundOnHub(f"huggingface has no documents of versions ({hub_id!r})")

    async def probe(self) -> None:
        """A list of one."""
        params = (("limit", "1"), ("expand", "sha"))
        await self._line.get(_LIST, params, operation="probe", read=lambda _: None)

    async def download_plan(self, wanted: WantedFile) -> DownloadPlan:
        """``resolve`` at the commit that the hashes are of; renames are the hub's to redirect."""
        path = wanted.file_id or wanted.name
        if not is_path(path):
            raise NotFoundOnHub(
                f"huggingface has no file {path!r}: that is no path in a repository"
            )
        revision = wanted.revision or wanted.version_id
        if not is_revision(revision):
            raise NotFoundOnHub(f"huggingface has no revision {revision!r}")
        repo, at = quote(_repo(wanted.ref_id), safe="/"), quote(revision, safe="")
        return DownloadPlan(
            url=f"{self._line.base_url}/{repo}/resolve/{at}/{quote(path, safe='/')}",
            token=self._line.token,
            name=wanted.name,
            size_bytes=wanted.size_bytes,
            sha256=wanted.sha256,
            user_agent=USER_AGENT,
            git_sha1=wanted.git_sha1,
        )

    async def _row(self, repo: str, params: Params, operation: str) -> "_Row":
        async def ask(name: str) -> _Row:
            return await self._line.get(
                f"{_LIST}/{quote(name, safe='/')}", params, operation=operation, read=_read_row
            )

        row = await ask(repo)
        if row.name is not None and row.name != repo:
            # a redirect may have dropped our parameters: ask by the new name for what we want
            row = await ask(row.name)
        return row


class _Row(msgspec.Struct, frozen=True, gc=False):
    key: str | None
    name: str | None
    raw: bytes


_TAKEN_OVER = "the name belongs to another repository now"


def read_page(answer: Answer, sort: str, ours: set[str]) -> HubPage:
    """A list answer. Raises HubUnavailable when it is none: cut off, or of another shape.

    ``ours`` are the parameters we send ourselves: the cursor is what the next address has beyond
    them, so that nothing but a position is taken from outside.
    """
    rows = _elements(answer.body)
    items: list[ListItem] = []
    places: list[tuple[int | None, str | None]] = []
    seconds: list[int] = []
    for raw in rows:
        row = _wire_row(raw)
        key = repo_key(row.key)
        items.append(ListItem(key, raw))
        date = row.created_at if sort == "createdAt" else row.last_modified
        places.append((time_ms(date) if isinstance(date, str) else None, key))
        if key is not None:
            seconds.append(max(1, int(key[:8], 16) - _FIRST_KEYS_S))
    return HubPage(
        items=tuple(items),
        next_cursor=next_cursor(answer.headers.get("link"), ours),
        next_position=_position(places),
        typical_id=sorted(seconds)[len(seconds) // 2] if seconds else None,
    )


def next_cursor(link: str | None, ours: set[str]) -> str | None:
    """Where the list goes on by its ``Link`` header; None at its end.

    The address may name any host: behind a mirror it names the real hub. Only its query is taken,
    and of that only what we don't send ourselves. Raises HubUnavailable for one that leads
    anywhere else than on in this list.
    """
    for address, parameters in _NEXT.findall(link or ""):
        if not _IS_NEXT.search(parameters):
            continue
        try:
            parts = urlsplit(address)
            given = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=200)
        except ValueError as exc:
            raise _bad_link(address) from exc
        position = urlencode([(name, value) for name, value in given if name not in ours])
        if (
            parts.scheme not in ("http", "https", "")
            or not parts.path.endswith(_LIST)
            or not 0 < len(position) <= _MAX_CURSOR
        ):
            raise _bad_link(address)
        return position
    return None


def _bad_link(address: str) -> HubUnavailable:
    return HubUnavailable(
        f"the list goes on at {address[:200]!r}, which is no page of it", answered=True
    )


def _position(rows: list[tuple[int | None, str | None]]) -> tuple[int, int] | None:
    """How far down the list this page came, by its last row: falling from page to page.

    Rows of one moment (a hundred thousand have the date of the first day) come with rising keys.
    Of a key, the second and the counter tell them apart; all of it is too long for a number.
    """
    at_ms, key = rows[-1] if rows else (None, None)
    if at_ms is None:
        return None
    return at_ms, -((int(key[:8], 16) << 24) | int(key[18:], 16)) if key is not None else 0


def _elements(body: bytes) -> list[bytes]:
    try:
        return [bytes(raw) for raw in _page_decoder.decode(body)]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        # one row with NaN, a lone surrogate or an abyss must not cost the other thousand
        try:
            return split_array(body)
        except OddDocument as exc:
            raise HubUnavailable(f"a list page that is {exc.reason}", answered=True) from exc


def _wire_row(raw: bytes) -> WireRow:
    try:
        return _row_decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        try:
            tree: Any = load_json(raw)
        except OddDocument:
            tree = None
        return lenient(tree, WireRow)


def _read_row(answer: Answer) -> _Row:
    try:
        load_json(answer.body)
    except OddDocument as exc:
        raise HubUnavailable(f"a document that is {exc.reason}", answered=True) from exc
    row = _wire_row(answer.body)
    return _Row(repo_key(row.key), row.id if is_repo_name(row.id) else None, answer.body)


def _filters(view: str) -> list[tuple[str, str]]:
    if view == EVERYTHING:
        return []
    return [("filter", tag.strip()) for tag in view.split(",") if tag.strip()]


def _repo(name: str) -> str:
    if not is_repo_name(name):
        raise NotFoundOnHub(f"huggingface has no model {name!r}: its names are ORG/NAME")
    return name

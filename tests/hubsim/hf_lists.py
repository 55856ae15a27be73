"""`GET /api/models` of the Hugging Face dialect: parameters, rows, keyset cursors, Link.

Order is the key descending, then `_id` ascending, rows without a key last. A cursor is a range
condition on that place: what is inserted or removed elsewhere shifts no page, but a row whose key
moves while a walk is under way may be missed or met twice, as at the real hub.
"""

from __future__ import annotations

import base64
import datetime
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from tests.hubsim import messages
from tests.hubsim.hf_population import Repo
from tests.hubsim.hf_repos import DECIDED_TAGS, POSSIBLE_TAGS
from tests.hubsim.hf_source import SyntheticRepos
from tests.hubsim.hf_strands import SORTS, Place
from tests.hubsim.messages import Refused, Request, Response
from tests.hubsim.population import Json
from tests.hubsim.synthetic import iso

if TYPE_CHECKING:
    from tests.hubsim.huggingface import HuggingFace

EXPANDABLE = (
    "author", "baseModels", "cardData", "childrenModelCount", "config", "createdAt", "disabled",
    "downloads", "downloadsAllTime", "evalResults", "gated", "gguf", "inference",
    "inferenceProviderMapping", "lastModified", "library_name", "likes", "mask_token",
    "model-index", "pipeline_tag", "private", "resourceGroup", "safetensors", "sha", "siblings",
    "spaces", "tags", "transformersInfo", "trendingScore", "usedStorage", "widgetData",
)  # fmt: skip
_ROW = (
    "id", "likes", "trendingScore", "private", "downloads", "tags", "pipeline_tag",
    "library_name", "createdAt", "modelId",
)  # fmt: skip
_FULL = ("author", "gated", "lastModified", "sha", "siblings")
_NEVER_IN_LISTS = frozenset({"usedStorage"})


def bad(text: str) -> Refused:
    return Refused(messages.document(400, {"error": text}))


def flag(request: Request, name: str) -> bool:
    """Older clients write True, newer ones true."""
    return (request.arg(name) or "").lower() in ("true", "1")


def expanded(request: Request) -> tuple[str, ...]:
    """The fields asked for by `expand` or, the older spelling, `expand[]`."""
    wanted = [*request.args("expand"), *request.args("expand[]")]
    for name in wanted:
        if name not in EXPANDABLE:
            raise bad(f'"expand" must be one of [{", ".join(EXPANDABLE)}]')
    return tuple(dict.fromkeys(wanted))


@dataclass(frozen=True, slots=True)
class _Query:
    sort: str
    limit: int
    after: Place | None
    skip: int
    tags: frozenset[str]
    search: str | None
    author: str | None
    pipeline_tag: str | None
    gated: bool | None
    fields: tuple[str, ...] | None  # None: the row's own

    @property
    def crawl(self) -> tuple[object, ...]:
        """Two requests with the same crawl belong to one walk through one list."""
        return (self.sort, self.tags, self.search, self.author, self.pipeline_tag, self.gated)


class RepoLists:
    def __init__(self, hub: HuggingFace) -> None:
        self._hub = hub
        self._last_page: dict[tuple[object, ...], tuple[bytes, str | None]] = {}
        self._first_link: dict[tuple[object, ...], str | None] = {}
        self._finished: set[tuple[object, ...]] = set()

    def answer(self, request: Request) -> Response:
        query = self._parse(request)
        first = query.after is None
        if first:
            self._begin(query.crawl)
        if request.tweaks.repeat_page and query.crawl in self._last_page:
            return _page(*self._last_page[query.crawl])
        # A row is written while its repository is at hand: making it is most of the cost.
        rows: list[bytes] = []
        link, last = None, None
        stop = query.skip + query.limit
        for place, repo in itertools.islice(self._rows(query), query.skip, stop + 1):
            if len(rows) == query.limit and last is not None:
                link = self._link(request, last, query.sort)
                break
            rows.append(msgspec.json.encode(self._row(repo, query)))
            last = place
        if request.tweaks.empty_page:
            rows, link = [], self._same_place(request)
        match request.tweaks.cursor_loop:
            case "same":
                link = self._same_place(request)
            case "first":
                link = self._first_link.get(query.crawl, link)
        if link is None:
            self._finished.add(query.crawl)
        elif first:
            self._first_link[query.crawl] = link
        body = b"[%s]" % b",".join(rows)
        self._last_page[query.crawl] = (body, link)
        return _page(body, link)

    def _begin(self, crawl: tuple[object, ...]) -> None:
        """A walk that begins again after it reached its end is the next sync: move on a state."""
        if crawl in self._finished:
            self._finished.clear()
            self._hub.advance()

    # -- parameters --------------------------------------------------------------------------------

    def _parse(self, request: Request) -> _Query:
        sort = request.arg("sort") or "trendingScore"
        if sort not in SORTS:
            raise bad(f'"sort" must be one of [{", ".join(SORTS)}]')
        if (request.arg("direction") or "-1") != "-1":
            raise bad('"direction" must be -1')
        numbers = {}
        for name in ("limit", "skip"):
            text = request.arg(name) or ""
            if text and not (text.isascii() and text.isdigit()):
                raise bad(f'"{name}" must be a number')
            numbers[name] = int(text or 0)
        gated = request.arg("gated")
        expand = expanded(request)
        fields: tuple[str, ...] | None = None
        if expand:
            fields = ("id", *(name for name in expand if name not in _NEVER_IN_LISTS))
        else:
            extra: tuple[str, ...] = _FULL if flag(request, "full") else ()
            extra += tuple(name for name in ("config", "cardData") if flag(request, name))
            if extra:
                fields = (*_ROW, *extra)
        cursor = request.arg("cursor")
        return _Query(
            sort=sort,
            limit=min(numbers["limit"] or self._hub.largest_page, self._hub.largest_page),
            after=_place(cursor, sort) if cursor is not None else None,
            skip=numbers["skip"],
            tags=frozenset(
                tag for value in request.args("filter") for tag in value.split(",") if tag
            ),
            search=(request.arg("search") or "").lower() or None,
            author=request.arg("author"),
            pipeline_tag=request.arg("pipeline_tag"),
            gated=None if gated is None else gated.lower() == "true",
            fields=fields,
        )

    # -- rows --------------------------------------------------------------------------------------

    def _rows(self, query: _Query) -> Iterator[tuple[Place, Repo]]:
        catalog = self._hub.catalog
        fits = _matcher(query)
        decided = query.tags & DECIDED_TAGS
        # Whole kinds are ruled out before their rows are made; changed tags have their own say.
        synthetic = [source for source in catalog.sources if isinstance(source, SyntheticRepos)]
        for place, key in catalog.rows(query.sort, query.after):
            if decided and synthetic and key not in catalog.overlays and synthetic[0].has(key):
                kind = synthetic[0].kind_at(key)
                if not decided <= POSSIBLE_TAGS[kind]:
                    continue
            repo = catalog.repo(key)
            if repo is not None and not repo.gone and fits(repo):
                yield place, repo

    def _row(self, repo: Repo, query: _Query) -> Json:
        catalog = self._hub.catalog
        if query.fields is not None:
            return catalog.document(repo, query.fields)
        source = catalog.source(repo.key)
        if source is not None and source.verbatim:
            return catalog.document(repo, source.own_keys(repo.key))
        return catalog.document(repo, _ROW)

    # -- links -------------------------------------------------------------------------------------

    def _link(self, request: Request, last: Place, sort: str) -> str:
        kept = [(key, value) for key, value in request.query if key not in ("cursor", "skip")]
        query = urlencode([*kept, ("cursor", _cursor(last, sort))])
        return f'<{self._hub.base_url}/api/models?{query}>; rel="next"'

    def _same_place(self, request: Request) -> str:
        return f'<{self._hub.base_url}{request.target}>; rel="next"'


def _page(body: bytes, link: str | None) -> Response:
    response = messages.encoded(200, body)
    if link is not None:
        response.set_header("Link", link)
    return response


def _matcher(query: _Query) -> Callable[[Repo], bool]:
    def fits(repo: Repo) -> bool:
        return (
            query.tags.issubset(repo.tags)
            and (query.author is None or repo.author == query.author)
            and (query.search is None or query.search in repo.name.lower())
            and (query.pipeline_tag is None or repo.pipeline_tag == query.pipeline_tag)
            and (query.gated is None or query.gated == bool(repo.gated))
        )

    return fits


def _cursor(place: Place, sort: str) -> str:
    """The condition on the next rows, as a database would be asked for them."""
    missing, negative, key = place
    behind = {"_id": {"$gt": key}}
    if missing:
        condition: Json = {sort: None, **behind}
    else:
        value: object = -negative
        if sort in ("createdAt", "lastModified"):
            value = iso(int(-negative))
        condition = {"$or": [{sort: value, **behind}, {sort: {"$lt": value}}, {sort: None}]}
    return base64.b64encode(json.dumps(condition, separators=(",", ":")).encode()).decode()


def _place(cursor: str, sort: str) -> Place:
    try:
        condition = json.loads(base64.b64decode(cursor, validate=True))
        if "$or" not in condition:
            if condition[sort] is not None:
                raise ValueError("a cursor of one condition is about rows without a key")
            return 1, 0, str(condition["_id"]["$gt"])
        tie = condition["$or"][0]
        value, key = tie[sort], str(tie["_id"]["$gt"])
        if sort in ("createdAt", "lastModified"):
            moment = datetime.datetime.fromisoformat(value)
            start = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
            return 0, -((moment - start) // datetime.timedelta(milliseconds=1)), key
        return 0, -float(value) if isinstance(value, float) else -int(value), key
    except (ValueError, KeyError, TypeError, IndexError):
        raise bad("Invalid cursor") from None

"""The hub contract: what every hub client offers, and which errors it may raise.

**The list.** ``views`` names the passes a full crawl needs: a hub may hide some models in each of
its views, and only their union is everything. ``list_page`` is idempotent; its pages come newest
first (or oldest first) and may be short or empty while ``next_cursor`` says that there is more. A
model may come twice; readers go by id. ``boundary_id`` names the row that this hub is known to
drop between a page and the next one; who crawls fetches it by ``models_by_ids``. The raw bytes of
an item are the hub's own and are kept, so that a better parser is a local rebuild.

**Documents.** ``parse_model`` turns raw bytes into a ParsedModel. It is tolerant: a field of the
wrong type, an unknown kind, a missing key lose that field and never the model. Only a document
without a usable id is an OddDocument.

**Errors.** Every error of a hub is a HubError. ``HubUnavailable`` is the one that passes by
itself: the client has already retried as far as its patience went, ``retry_after_s`` is the hub's
own wish. All others are permanent for the same request: asking again changes nothing until
something else does (a token, the catalog, our code).

**One model.** ``look`` tells present from absent and follows renames; a single 404 is no proof that
something was deleted, so whoever asks repeats it over days. ``details`` brings what a list row
leaves out.

**Downloads.** ``download_plan`` says where a file's bytes come from and what they must be. Its
token goes to the origin of ``url`` alone: the hub redirects to a storage host that must never see
it.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from modelkeepd.secrets import Secret

Order = Literal["newest", "oldest", "updated"]


class HubError(Exception):
    """Something between us and a hub. ``code`` is the protocol's word for it."""

    code: str = "internal"
    permanent: bool = True

    def __init__(self, message: str, *, hint: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.status = status


class HubUnavailable(HubError):
    """The hub does not answer, or not sensibly, now; it may later.

    ``answered`` tells a hub that is down from one that answers this request with rubbish.
    """

    code = "unavailable"
    permanent = False

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
        answered: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, status=status)
        self.retry_after_s = retry_after_s
        self.answered = answered


class HubRefused(HubError):
    """The hub understood and will not: no token, no access, a blocked region."""

    code = "denied"

    def __init__(
        self,
        message: str,
        *,
        why: Literal["auth", "gated", "blocked", "quota"],
        hint: str = "",
        status: int | None = None,
    ) -> None:
        super().__init__(message, hint=hint, status=status)
        self.why = why
        if why == "gated":
            self.code = "gated"


class HubRejected(HubError):
    """The hub calls our request wrong (400, or a redirect elsewhere): a bug or an API change."""

    code = "unsupported"


class NotFoundOnHub(HubError):
    """The hub does not show this object. No proof that it was deleted."""

    code = "not_found"


class OddDocument(Exception):
    """A document that is no model to us. Kept raw and counted by who meets it."""

    def __init__(self, reason: str, hub_id: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hub_id = hub_id


class ParsedFile(msgspec.Struct, frozen=True, gc=False):
    """One file of a version. ``hub_id`` is '' when the hub gives none."""

    hub_id: str
    name: str
    kind: str
    format: str | None
    size_bytes: int | None
    sha256: bytes | None
    is_primary: bool
    url: str | None
    git_sha1: bytes | None = None


class ParsedVersion(msgspec.Struct, frozen=True):
    """One version of a model; ``position`` is the creator's order, not the date's.

    ``files_known`` is False where the document leaves the files out: then ``files`` is empty and
    says nothing. ``revision`` is the commit the version stands at, on a hub that has commits.
    """

    hub_id: str
    name: str
    base_model: str | None
    position: int
    published_ms: int | None
    availability: str | None
    description: str
    trained_words: tuple[str, ...]
    files: tuple[ParsedFile, ...]
    image_urls: tuple[str, ...]
    files_known: bool = True
    revision: str | None = None


class ParsedModel(msgspec.Struct, frozen=True):
    """A model as its document says, texts plain, times in ms, sizes in bytes.

    ``hub_id`` is the hub's own key and never changes; ``ref_id`` is what people call the model
    there, which may. ``gated`` is "auto" or "manual" where content needs to be asked for.
    """

    hub: str
    hub_id: str
    ref_id: str
    name: str
    type: str
    creator: str | None
    tags: tuple[str, ...]
    description: str
    nsfw_level: int | None
    downloads: int | None
    likes: int | None
    commercial: bool | None
    hub_state: str
    versions: tuple[ParsedVersion, ...]
    base_models: tuple[str, ...]
    published_ms: int | None
    updated_ms: int | None
    size_bytes: int | None
    license: str | None = None
    gated: str | None = None


class ParsedImage(msgspec.Struct, frozen=True):
    """One picture of a hub's gallery."""

    hub_id: str
    url: str
    width: int | None
    height: int | None
    nsfw_level: int | None
    created_ms: int | None
    creator: str | None
    meta: Mapping[str, object]


class ListItem(msgspec.Struct, frozen=True, gc=False):
    """One element of a list page: its bytes, and its id when it shows one."""

    hub_id: str | None
    raw: bytes


class PageRequest(msgspec.Struct, frozen=True):
    """Which page of the list. ``cursor`` None is the first one."""

    view: str
    order: Order = "newest"
    cursor: str | None = None
    limit: int = 100


class HubPage(msgspec.Struct, frozen=True):
    """One answered page.

    ``next_position`` orders cursors where the hub's can be read: (date in ms, id) of the first
    row of the next page. ``typical_id`` is the middle of the page's numeric ids, for estimates.
    """

    items: tuple[ListItem, ...]
    next_cursor: str | None = None
    boundary_id: str | None = None
    next_position: tuple[int, int] | None = None
    typical_id: int | None = None


class Address(msgspec.Struct, frozen=True):
    """A model as its hub can be asked for it. ``version_ids`` are known ones, newest first."""

    hub_id: str
    ref_id: str
    version_ids: tuple[str, ...] = ()


class Presence(msgspec.Struct, frozen=True):
    """What one look at a single model showed.

    ``present`` brings its document, in the form that the list has. ``absent`` means that every
    witness the hub offers denies it, in the words that the hub has for deleted things. What is
    neither is ``unclear`` and proves nothing.
    """

    state: Literal["present", "absent", "unclear"]
    item: ListItem | None = None
    reason: str = ""


class WantedFile(msgspec.Struct, frozen=True):
    """A file of the catalog that somebody wants the bytes of (a row of ``file``)."""

    model_id: str
    version_id: str
    file_id: str
    name: str
    url: str | None = None
    size_bytes: int | None = None
    sha256: bytes | None = None
    git_sha1: bytes | None = None
    ref_id: str = ""
    revision: str | None = None


class DownloadPlan(msgspec.Struct, frozen=True):
    """Where the bytes are asked for and what they must turn out to be.

    ``token`` is sent as ``Authorization: Bearer`` to the origin of ``url`` and to no other.
    ``fallback_url`` may be tried when ``url`` answers 404; the hash still decides.
    """

    url: str
    token: Secret | None
    name: str
    size_bytes: int | None
    sha256: bytes | None
    user_agent: str
    fallback_url: str | None = None
    git_sha1: bytes | None = None


class Hub(Protocol):
    """A model hub. See the module's prose for what each call promises.

    ``bulk_ids`` is how many models one ``models_by_ids`` takes; 0: the hub has no such call.
    ``news_order`` is the order of the list that shows first what changed last; its cursors'
    ``next_position`` holds that date. ``details_apart`` says that list rows leave out the files.
    """

    name: str
    views: tuple[str, ...]
    page_limit: int
    bulk_ids: int
    news_order: Order
    details_apart: bool

    @property
    def requests_sent(self) -> int:
        """How many requests this client has sent."""
        ...

    async def list_page(self, request: PageRequest) -> HubPage:
        """One page of the hub's list."""
        ...

    async def models_by_ids(self, ids: Sequence[str], view: str) -> tuple[ListItem, ...]:
        """Those of up to 100 models that ``view`` shows, in list form, in any order."""
        ...

    async def model(self, hub_id: str) -> bytes:
        """One model's document by what people call it (its ``ref_id``). Raises NotFoundOnHub."""
        ...

    async def look(self, address: Address) -> Presence:
        """Whether this model is still there, whatever it is called now. Raises HubUnavailable."""
        ...

    async def details(self, address: Address) -> bytes:
        """The fullest document of one model: with its files' sizes and hashes.

        Raises NotFoundOnHub. Where ``details_apart`` is False it has the form of the list's rows.
        """
        ...

    async def version(self, hub_id: str) -> bytes:
        """One version's document. Raises NotFoundOnHub."""
        ...

    async def probe(self) -> None:
        """The cheapest request that shows that the hub's API answers at all."""
        ...

    async def download_plan(self, wanted: WantedFile) -> DownloadPlan:
        """Where ``wanted`` is downloaded. May ask the hub."""
        ...


def parse_model(hub: str, raw: bytes, *, texts: bool = True) -> ParsedModel:
    """The model in a hub's raw document. Raises OddDocument when it has no usable id.

    ``texts=False`` leaves descriptions empty: stripping their HTML is a good part of the work,
    and who writes rows needs none.
    """
    if hub == "civitai":
        from modelkeepd.hubs.civitai_documents import parse_civitai_model

        return parse_civitai_model(raw, texts=texts)
    if hub == "huggingface":
        from modelkeepd.hubs.huggingface_documents import parse_huggingface_model

        return parse_huggingface_model(raw, texts=texts)
    raise OddDocument(f"no parser for the hub {hub!r}")

"""The Hugging Face dialect: which endpoint answers what, to whom, with which headers and errors.

Lists are in `hf_lists.py`, one repository's documents and trees in `hf_trees.py`, files in
`hf_downloads.py`. No sockets here, no clock but the one handed in.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote, unquote

from tests.hubsim import hf_words, messages
from tests.hubsim.bytes import read_all
from tests.hubsim.hf_catalog import RepoCatalog
from tests.hubsim.hf_downloads import RepoDownloads
from tests.hubsim.hf_lists import RepoLists
from tests.hubsim.hf_population import Repo
from tests.hubsim.hf_recorded import RecordedRepos
from tests.hubsim.hf_trees import RepoPages
from tests.hubsim.messages import Refused, Request, Response
from tests.hubsim.population import Json, mix
from tests.hubsim.rate_limits import RateLimits, Standing

QUOTAS = {"api": 1_000_000, "resolvers": 1_000_000, "pages": 1_000_000}
# What may follow a repository's name under /api/models: names of one part need the list.
_VERBS = frozenset(
    {"revision", "tree", "paths-info", "refs", "commits", "treesize", "xet-read-token", "scan"}
)
_EXPOSED = (
    "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,"
    "Accept-Ranges,Content-Range,X-Xet-Access-Token,X-Xet-Token-Expiration,X-Xet-Refresh-Route,"
    "X-Xet-Cas-Url,X-Xet-Hash"
)
_NO_LOGIN = "Invalid username or password."
BAD_TOKEN = "Invalid credentials in Authorization header"
DISABLED = "Access to this resource is disabled."


class HuggingFace:
    """One hub's answers. `base_url` and `storage_url` are set once the ports are known."""

    # Clients tell hosts apart by name, some of them not by port.
    storage_host = "localhost"

    def __init__(
        self,
        catalog: RepoCatalog,
        *,
        wall_s: Callable[[], float],
        tokens: Sequence[str] = (),
        granted: Sequence[str] | None = None,
        quotas: Mapping[str, int] | None = None,
        window_s: int = 300,
        largest_page: int = 1000,
        xet: bool = False,
        recorded: RecordedRepos | None = None,
        advance: Callable[[], None] = lambda: None,
    ) -> None:
        self.catalog = catalog
        self.wall_s = wall_s
        self.largest_page = largest_page
        self.xet = xet
        self.recorded = recorded
        self.advance = advance
        self.base_url = self.storage_url = ""
        self._tokens = frozenset(tokens)
        self._granted = None if granted is None else frozenset(granted)
        self._limits = RateLimits({**QUOTAS, **(quotas or {})}, window_s, wall_s)
        self._requests = 0
        self.lists = RepoLists(self)
        self.pages = RepoPages(self)
        self.downloads = RepoDownloads(self, b"the bridge's own secret")

    # -- what the server asks ----------------------------------------------------------------------

    def admit(self, request: Request) -> Response | None:
        """Charge the request to its caller; the refusal when nothing is left."""
        if request.storage:
            return None
        standing = self._limits.spend(_bearer(request) or "anonymous", _bucket(request.path))
        request.marks = standing.headers()
        return _too_many(standing) if standing.refused else None

    def answer(self, request: Request) -> Response:
        if request.storage:
            return self.downloads.serve(request)
        try:
            return self._answer(request)
        except Refused as refused:
            return refused.response

    def dress(self, request: Request, response: Response) -> Response:
        """The headers that every answer of the hub bears, an injected one too."""
        if request.storage:
            return response
        self._requests += 1
        mark = f"{mix(self._requests):016x}"
        is_json = (response.header("Content-Type") or "").startswith("application/json")
        if is_json and response.status == 200 and response.header("ETag") is None:
            response.set_header("ETag", weak_etag(read_all(response.body)))
        vary = "Origin, Accept" if response.status in (302, 307) else "Origin"
        common = [
            ("X-Powered-By", "huggingface-moon"),
            ("X-Request-Id", f"Root=1-{int(self.wall_s()):08x}-{mark};{mark}"),
            ("cross-origin-opener-policy", "same-origin"),
            ("Referrer-Policy", "strict-origin-when-cross-origin"),
            ("Access-Control-Allow-Origin", "https://huggingface.co"),
            ("Access-Control-Expose-Headers", _EXPOSED),
            ("Vary", vary),
            *request.marks,
        ]
        response.headers += [pair for pair in common if response.header(pair[0]) is None]
        return response

    def refusal(self, request: Request, status: int) -> Response | None:
        """How this hub words a refusal that a fault asks for; None leaves it to the edge."""
        if request.storage:
            return None
        texts = {401: BAD_TOKEN, 403: "Forbidden", 404: "Repository not found"}
        if status == 429:
            return _too_many(self._limits.spend("somebody else", _bucket(request.path)))
        if status in texts:
            code = "RepoNotFound" if status == 404 else None
            return error(request, status, texts[status], code)
        if status == 500:
            return messages.document(500, {"error": "Internal Server Error"})
        return None

    # -- who asks, what they may see ---------------------------------------------------------------

    def user(self, request: Request) -> str | None:
        """The token of a known user, None without one; a wrong token is refused everywhere."""
        token = _bearer(request)
        if token is None:
            return None
        if not token or (self._tokens and token not in self._tokens):
            raise Refused(error(request, 401, BAD_TOKEN))
        return token

    def may_read(self, request: Request, repo: Repo) -> None:
        """Content needs a grant where the repository is gated; its documents do not."""
        if not repo.gated:
            return
        user = self.user(request)
        name = repo.name
        if user is None:
            text = (
                f"Access to model {name} is restricted. You must have access to it and be "
                "authenticated to access it. Please log in."
            )
            raise Refused(error(request, 401, text, "GatedRepo"))
        if self._granted is not None and user not in self._granted:
            text = (
                f"Access to model {name} is restricted and you are not in the authorized list. "
                f"Visit {self.base_url}/{name} to ask for access."
            )
            raise Refused(error(request, 403, text, "GatedRepo"))

    def unknown(self, request: Request) -> Refused:
        """A repository that is not there, or not for everybody: one cannot be told from other."""
        if self.user(request) is None:
            response = error(request, 401, _NO_LOGIN)
            realm = 'Bearer realm="Authentication required", charset="UTF-8"'
            response.set_header("WWW-Authenticate", realm)
            return Refused(response)
        return Refused(error(request, 404, "Repository not found", "RepoNotFound"))

    def repo(self, request: Request, name: str, prefix: str, suffix: str) -> Repo:
        """The repository of that name; raises the redirect of a renamed one, or the refusal."""
        self.user(request)
        repo = self.catalog.find(name)
        if repo is None or repo.gone:
            raise self.unknown(request)
        if repo.name != name:
            query = request.target.partition("?")[2]
            raise Refused(redirect(f"{prefix}{repo.name}{suffix}", query))
        if repo.disabled:
            raise Refused(error(request, 403, DISABLED))
        return repo

    # -- the endpoints -----------------------------------------------------------------------------

    def _answer(self, request: Request) -> Response:
        recorded = self.recorded.answer(request) if self.recorded is not None else None
        if recorded is not None and (request.query or not self._is_known(request.path)):
            return recorded
        parts = [unquote(part) for part in request.target.partition("?")[0].split("/")[1:]]
        match parts:
            case ["api", "models"]:
                self.user(request)
                return self.lists.answer(request)
            case ["api", "models-tags-by-type"]:
                return self._tags(request)
            case ["api", "whoami-v2"]:
                return self._whoami(request)
            case ["api", "models", *rest] if rest and rest[0]:
                return self._model(request, rest)
            case ["api", "resolve-cache", "models", owner, name, commit, *path] if path:
                return self.downloads.cached(request, f"{owner}/{name}", commit, "/".join(path))
        return self._page(request, parts)

    def _is_known(self, path: str) -> bool:
        return self.catalog.find(path.removeprefix("/api/models/")) is not None

    def _model(self, request: Request, parts: list[str]) -> Response:
        width = 1 if len(parts) == 1 or parts[1] in _VERBS else 2
        name, rest = "/".join(parts[:width]), parts[width:]
        # As it was asked, so that escaped slashes of a revision stay escaped in a redirect.
        raw = request.target.partition("?")[0].split("/")[3 + width :]
        suffix = "".join(f"/{part}" for part in raw)
        repo = self.repo(request, name, "/api/models/", suffix)
        match rest:
            case []:
                return self.pages.info(request, repo, None)
            case ["revision", revision]:
                return self.pages.info(request, repo, revision)
            case ["tree", revision, *path]:
                return self.pages.tree(request, repo, revision, "/".join(path).strip("/"))
            case ["paths-info", revision] if request.method == "POST":
                return self.pages.paths_info(request, repo, revision)
            case ["refs"]:
                return self.pages.refs(request, repo)
            case ["commits", revision]:
                return self.pages.commits(request, repo, revision)
        return error(request, 404, "Sorry, we can't find the page you are looking for.")

    def _page(self, request: Request, parts: list[str]) -> Response:
        for verb in ("resolve", "raw"):
            at = parts.index(verb) if verb in parts[1:3] else 0
            if at and len(parts) > at + 2:
                name, path = "/".join(parts[:at]), "/".join(parts[at + 2 :])
                raw = request.target.partition("?")[0].split("/")[1 + at :]
                repo = self.repo(request, name, "/", "".join(f"/{part}" for part in raw))
                return self.downloads.answer(request, repo, verb, parts[at + 1], path)
        repo_or_none = self.catalog.find("/".join(parts)) if len(parts) <= 2 else None
        if repo_or_none is not None and not repo_or_none.gone:
            return messages.html(200, f"<!DOCTYPE html><title>{repo_or_none.name}</title>")
        return messages.html(404, "<!DOCTYPE html><title>404</title>")

    def _whoami(self, request: Request) -> Response:
        token = self.user(request)
        if token is None:
            return error(request, 401, _NO_LOGIN)
        name = "sim-" + hashlib.sha256(token.encode()).hexdigest()[:6]
        access = {"displayName": "sim", "role": "read", "createdAt": "2026-01-01T00:00:00.000Z"}
        return messages.document(
            200,
            {
                "type": "user",
                "id": f"{mix(len(token)):024x}"[:24],
                "name": name,
                "fullname": "Simulated User",
                "isPro": False,
                "orgs": [],
                "auth": {"type": "access_token", "accessToken": access},
            },
        )

    def _tags(self, request: Request) -> Response:
        groups: dict[str, Sequence[str]] = {
            "pipeline_tag": ("text-to-image", "text-to-video", "text-generation"),
            "library": ("diffusers", "transformers", "peft", "gguf", "safetensors"),
            "dataset": hf_words.DATASETS,
            "language": tuple(dict.fromkeys(hf_words.LANGUAGES)),
            "license": tuple(name for name, _ in hf_words.LICENSES if name),
            "arxiv": hf_words.PAPERS,
            "region": ("us",),
            "other": (*hf_words.TOPICS["image"], *hf_words.TOPICS["text"]),
        }
        marked = {"dataset", "license", "region"}
        shown: dict[str, list[Json]] = {
            kind: [
                {"id": f"{kind}:{name}" if kind in marked else name, "label": name, "type": kind}
                for name in names
            ]
            for kind, names in groups.items()
        }
        wanted = request.arg("type")
        if wanted is not None:
            shown = {wanted: shown.get(wanted, [])}
        return messages.document(200, shown)


# --- shapes of answers ----------------------------------------------------------------------------


def weak_etag(body: bytes) -> str:
    """`W/"<length in hex>-<27 characters of the SHA-1 in base64>"`: the real hub's own formula."""
    digest = base64.b64encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()
    return f'W/"{len(body):x}-{digest[:27]}"'


def error(request: Request, status: int, text: str, code: str | None = None) -> Response:
    """A refusal: JSON under /api, plain text for files, and the same in the headers."""
    if request.path.startswith("/api/"):
        response = messages.document(status, {"error": text})
    else:
        response = messages.text(status, text)
    if code is not None:
        response.set_header("X-Error-Code", code)
    response.set_header("X-Error-Message", text)
    return response


def redirect(path: str, query: str = "") -> Response:
    """The relative 307 of a repository that is called otherwise now."""
    location = quote(path, safe="/%:@!$&'()*+,;=-._~") + (f"?{query}" if query else "")
    body = f"Temporary Redirect. Redirecting to {location}"
    return messages.text(307, body, ("Location", location))


def _bearer(request: Request) -> str | None:
    header = request.header("authorization")
    if header is None:
        return None
    return header[7:].strip() if header.lower().startswith("bearer ") else ""


def _bucket(path: str) -> str:
    if "/resolve/" in path or path.startswith("/api/resolve-cache/"):
        return "resolvers"
    return "api" if path.startswith("/api/") else "pages"


def _too_many(standing: Standing) -> Response:
    minutes = re.sub(r"\.0$", "", f"{standing.window_s / 60:.1f}")
    text = (
        f"We had to rate limit you, you hit the quota of {standing.quota} {standing.bucket} "
        f"requests per {minutes} minutes period. Upgrade to a PRO user or Team/Enterprise "
        "organization account for higher limits."
    )
    response = messages.document(429, {"error": text})
    response.set_header("RateLimit", f'"{standing.bucket}";r=0;t={standing.reset_s}')
    return response

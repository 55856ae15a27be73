"""Files of the Hugging Face dialect: `resolve`, the cache behind it, and the bridge to storage.

A plain git file is a relative 307 to a cache on the same host. A large one is a 302 to a signed,
expiring address of a host with another name, which knows no users, refuses any Authorization
header, and whose ETag is a hash of its own that is no SHA-256.
"""

from __future__ import annotations

import gzip
import hmac
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.hubsim import messages, ranges
from tests.hubsim.bytes import BytesBody, read_all
from tests.hubsim.hf_files import RepoFile, pointer
from tests.hubsim.hf_lists import bad
from tests.hubsim.hf_population import Repo
from tests.hubsim.hf_trees import Revision
from tests.hubsim.messages import Request, Response

if TYPE_CHECKING:
    from tests.hubsim.huggingface import HuggingFace

_LIFE_S = 3600
_YEAR_S = 31_536_000
_BRIDGE = "/xet-bridge-us/"


class RepoDownloads:
    def __init__(self, hub: HuggingFace, secret: bytes) -> None:
        self._hub = hub
        self._secret = secret

    # -- the hub's side ----------------------------------------------------------------------------

    def answer(self, request: Request, repo: Repo, verb: str, revision: str, path: str) -> Response:
        """`resolve` or `raw` of a repository that was found under this very name."""
        self._hub.may_read(request, repo)
        at = self._hub.pages.revision(request, repo, revision, short=False)
        file = self._file(request, repo, at, path)
        blob = self._hub.catalog.blobs.describe(file)
        marks = [("X-Repo-Commit", at.sha)]
        if verb == "raw":
            data = self._hub.catalog.blobs.plain(file)
            if blob.sha256 is not None:
                data = pointer(blob.sha256, blob.size_bytes)
            return messages.raw(200, data, "text/plain; charset=utf-8", *marks)
        etag = f'"{blob.etag}{request.tweaks.etag_suffix}"'
        marks += [("X-Linked-ETag", etag), ("Accept-Ranges", "bytes")]
        if blob.sha256 is None:
            target = quote(f"/api/resolve-cache/models/{repo.name}/{at.sha}/{path}")
            original = quote(request.target.partition("?")[0], safe="")
            location = f"{target}?{original}=&etag={quote(etag, safe='')}"
            text = f"Temporary Redirect. Redirecting to {location}"
            return messages.text(307, text, ("Location", location), *marks)
        location = self._signed(repo, file, expired=request.tweaks.expired)
        marks += [
            ("X-Linked-Size", str(blob.size_bytes)),
            ("Cache-Control", "no-store"),
            ("Location", location),
        ]
        if self._hub.xet and blob.xet_hash is not None:
            token = f"{self._hub.base_url}/api/models/{repo.name}/xet-read-token/{at.sha}"
            marks += [("X-Xet-Hash", blob.xet_hash), ("Link", f'<{token}>; rel="xet-auth"')]
        return messages.text(302, f"Found. Redirecting to {location}", *marks)

    def _file(self, request: Request, repo: Repo, at: Revision, path: str) -> RepoFile:
        for file in self._hub.catalog.files(repo, at.number):
            if file.path == path:
                return file
        raise self._hub.pages.no_entry(request, at.sha)

    def cached(self, request: Request, name: str, commit: str, path: str) -> Response:
        """A plain file's bytes, by commit only."""
        if not re.fullmatch("[0-9a-f]{40}", commit):
            raise bad("Invalid commit")
        tail = quote(f"/{commit}/{path}")
        repo = self._hub.repo(request, name, "/api/resolve-cache/models/", tail)
        self._hub.may_read(request, repo)
        at = self._hub.pages.revision(request, repo, commit, short=False)
        file = self._file(request, repo, at, path)
        blob = self._hub.catalog.blobs.describe(file)
        if blob.sha256 is not None:
            raise self._hub.pages.no_entry(request, at.sha)
        etag = f'"{blob.git_sha1}{request.tweaks.etag_suffix}"'
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("ETag", etag),
            ("X-Repo-Commit", at.sha),
            ("Accept-Ranges", "bytes"),
            ("Content-Disposition", _disposition(path)),
        ]
        if etag in (request.header("if-none-match") or ""):
            return Response(304, headers, BytesBody(b""))
        body = ranges.flipped(request, self._hub.catalog.blobs.body(file))
        accepted = request.header("accept-encoding") or ""
        if "gzip" in accepted and body.size and request.header("range") is None:
            # On the way, and of a length that nobody knows beforehand.
            response = Response(200, headers, BytesBody(gzip.compress(read_all(body), mtime=0)))
            response.set_header("ETag", f"W/{etag}")
            response.set_header("Content-Encoding", "gzip")
            response.delivery.chunked = True
            return response
        refusal = messages.text(416, "Range Not Satisfiable")
        return ranges.answer(request, body, headers, (etag,), refusal)

    # -- the bridge --------------------------------------------------------------------------------

    def _signed(self, repo: Repo, file: RepoFile, *, expired: bool) -> str:
        expiry = int(self._hub.wall_s()) + (-60 if expired else _LIFE_S)
        path = f"{_BRIDGE}{repo.key}/{self._hub.catalog.blobs.describe(file).xet_hash}"
        disposition = quote(_disposition(file.path), safe="")
        return (
            f"{self._hub.storage_url}{path}?response-content-disposition={disposition}"
            f"&Expires={expiry}&Signature={self._sign(path, expiry)}&Key-Pair-Id=SIM"
            "&x-id=GetObject"
        )

    def _sign(self, path: str, expiry: int) -> str:
        return hmac.new(self._secret, f"{path}\n{expiry}".encode(), "sha256").hexdigest()

    def serve(self, request: Request) -> Response:
        """One object of the storage, by its signed address."""
        found = re.fullmatch(_BRIDGE + "([^/]+)/([0-9a-f]{64})", request.path)
        if found is None:
            return _xml(404, "NoSuchKey", "The specified key does not exist.")
        if request.header("authorization") is not None:
            text = "Only one auth mechanism allowed"
            return _xml(400, "InvalidArgument", text)
        expiry, signature = request.arg("Expires") or "", request.arg("Signature") or ""
        good = (
            expiry.isascii()
            and expiry.isdigit()
            and hmac.compare_digest(
                signature.encode(), self._sign(request.path, int(expiry)).encode()
            )
        )
        if not good or int(expiry) < self._hub.wall_s():
            return _xml(403, "AccessDenied", "Access denied")
        if request.method not in ("GET", "HEAD"):
            return _xml(405, "MethodNotAllowed", "The specified method is not allowed.")
        file = self._object(found[1], found[2])
        if file is None:
            return _xml(404, "NoSuchKey", "The specified key does not exist.")
        etag = f'"{found[2]}{request.tweaks.etag_suffix}"'
        headers = [
            ("Content-Type", "application/octet-stream"),
            ("Accept-Ranges", "bytes"),
            ("ETag", etag),
            ("Cache-Control", f"public, max-age={_YEAR_S}"),
        ]
        disposition = request.arg("response-content-disposition")
        if disposition is not None:
            headers.append(("Content-Disposition", re.sub(r"[\x00-\x1f\x7f]", "_", disposition)))
        body = ranges.flipped(request, self._hub.catalog.blobs.body(file))
        refusal = _xml(416, "InvalidRange", "The requested range is not satisfiable")
        return ranges.answer(request, body, headers, (etag,), refusal)

    def _object(self, key: str, xet_hash: str) -> RepoFile | None:
        """What was stored stays stored: an old commit's bytes, and those of a renamed one."""
        catalog = self._hub.catalog
        repo = catalog.repo(key)
        for number in range(repo.commits - 1, -1, -1) if repo is not None else ():
            for file in catalog.files(repo, number) if repo is not None else ():
                large = file.content is not None
                if large and catalog.blobs.describe(file).xet_hash == xet_hash:
                    return file
        return None


def _disposition(path: str) -> str:
    name = path.rpartition("/")[2]
    plain = re.sub(r'[^\x20-\x7e]|["\\]', "_", name)
    return f"inline; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\";"


def _xml(status: int, code: str, message: str) -> Response:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
    return messages.raw(status, body.encode(), "application/xml")

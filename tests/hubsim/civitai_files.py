"""Downloads of the CivitAI dialect: the decision table, signed addresses, the storage hosts.

The API answers a download with a redirect to a signed, expiring storage address. The storage
knows nothing of users and refuses any request that carries an Authorization header.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.hubsim import messages, ranges
from tests.hubsim.messages import Request, Response
from tests.hubsim.synthetic_files import SimFile

if TYPE_CHECKING:
    from tests.hubsim.civitai import Civitai

_BROWSERS = re.compile("mozilla|chrome|safari|firefox|opera|edge", re.IGNORECASE)
_R2_LIFE_S, _B2_LIFE_S = 86_400, 3_600
_LAST_MODIFIED = "Mon, 31 Aug 2026 12:00:00 GMT"
_FILE_TYPES = {
    "Model", "Text Encoder", "Vision Encoder", "Pruned Model", "Negative", "Training Data", "VAE",
    "Config", "Archive", "UNet", "Diffusion Model", "CLIPVision", "ControlNet", "Workflow",
    "Upscaler", "Enhancement LoRA", "Other",
}  # fmt: skip
LOGIN_PAGE = (
    "<!DOCTYPE html><html><head><title>Login | Hub</title></head><body>Log in</body></html>"
)


class Downloads:
    def __init__(self, hub: Civitai, secret: bytes) -> None:
        self._hub = hub
        self._secret = secret

    # -- the API side: who may have which file ---------------------------------------------------

    def answer(self, request: Request, version_text: str) -> Response:
        """The decision table of a download, in the real hub's order."""
        if request.method == "HEAD":
            return self._error(request, 401, {"error": "Unauthorized"})
        if not version_text.isdigit():
            return self._error(request, 400, {"error": "Invalid model version id"})
        wanted_type = request.arg("type")
        if wanted_type is not None and wanted_type not in _FILE_TYPES:
            return self._error(request, 400, {"error": "Invalid file type"})
        catalog = self._hub.catalog
        version_id = int(version_text)
        traits = self._hub.version_traits(version_id)
        if traits is None or not traits.published or self._hub.hidden(traits):
            return self._error(request, 404, {"error": "File not found"})
        if traits.mode == "Archived":
            text = "Model archived, not available for download"
            return self._error(request, 410, {"error": text})
        file = self._choose(request, catalog.files(version_id))
        if file is None:
            return self._error(request, 404, {"error": "File not found"})
        user = self._hub.user(request)
        access = catalog.access(version_id)
        if access == "early_access":
            if _BROWSERS.search(request.header("user-agent") or ""):
                return self._redirect(f"/model-versions/{version_id}", 302)
            return messages.document(
                403,
                {
                    "error": "Early Access",
                    "deadline": "2027-01-01T00:00:00.000Z",
                    "message": "This asset is in Early Access. You can use Buzz access it now!",
                },
            )
        if user is None and (access == "login" or self._hub.require_login):
            if _BROWSERS.search(request.header("user-agent") or ""):
                back = quote(request.path, safe="")
                return self._redirect(f"/login?returnUrl={back}&reason=download-auth", 302)
            text = "The creator of this asset requires you to be logged in to download it"
            return messages.document(401, {"error": "Unauthorized", "message": text})
        if access == "disabled":
            text = "The creator of this asset has disabled downloads on this file"
            return messages.document(401, {"error": "Unauthorized", "message": text})
        return self._redirect(self._signed(file, expired=request.tweaks.expired), 307)

    def _choose(self, request: Request, files: list[SimFile]) -> SimFile | None:
        """`fileId` picks exactly; otherwise the best-scoring file of those that fit."""
        wanted = request.arg("fileId")
        if wanted is not None:
            return next((file for file in files if str(file.hub_id) == wanted), None)
        fitting = list(files)
        kind = request.arg("type")
        if kind is not None:
            fitting = [file for file in fitting if file.kind == kind]
        for name in ("format", "size", "fp"):
            value = request.arg(name)
            if value is not None:
                fitting = [file for file in fitting if file.metadata.get(name) == value]
        return max(fitting, key=_score, default=None)

    def _error(self, request: Request, status: int, error: dict[str, object]) -> Response:
        """Programs get JSON, browsers the bare text."""
        if _BROWSERS.search(request.header("user-agent") or ""):
            return messages.text(status, str(error.get("message") or error["error"]))
        return messages.document(status, error)

    def _redirect(self, location: str, status: int) -> Response:
        headers = (("Location", location), ("Cache-Control", "no-store"))
        return messages.raw(status, b"", "text/plain", *headers)

    # -- signed addresses ------------------------------------------------------------------------

    def _signed(self, file: SimFile, *, expired: bool) -> str:
        """An address in the style of one of the two stores; which one depends on the file."""
        name = self._hub.file_name(file)
        # The name itself travels in the query only: in a path it could be anything.
        extension = re.sub(r"\W", "", name.rpartition(".")[2], flags=re.ASCII) or "bin"
        mark = hashlib.sha256(b"%d" % file.hub_id).hexdigest()[:4]
        store = "b2" if file.hub_id % 10 >= 7 else "r2"
        life = _B2_LIFE_S if store == "b2" else _R2_LIFE_S
        expiry = int(self._hub.wall_s()) + (-60 if expired else life)
        path = f"/{store}/model/{file.version_id}/{file.hub_id}/file.{mark}.{extension}"
        disposition = quote(f'attachment; filename="{name}"', safe="")
        signature = self._sign(path, expiry)
        if store == "b2":
            query = f"Authorization=3_{signature}_{expiry}_dnld&b2ContentDisposition={disposition}"
        else:
            query = (
                f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={expiry}&X-Amz-Expires={life}"
                f"&X-Amz-Signature={signature}&response-content-disposition={disposition}"
                "&x-id=GetObject"
            )
        return f"{self._hub.storage_url}{path}?{query}"

    def _sign(self, path: str, expiry: int) -> str:
        return hmac.new(self._secret, f"{path}\n{expiry}".encode(), "sha256").hexdigest()

    # -- the storage side ------------------------------------------------------------------------

    def serve(self, request: Request) -> Response:
        found = re.fullmatch(r"/(r2|b2)/model/(\d+)/(\d+)/[^/]+", request.path)
        if found is None:
            return _xml(404, "NoSuchKey", "The specified key does not exist.")
        store, version_id, file_id = found[1], int(found[2]), int(found[3])
        if request.header("authorization") is not None:
            if store == "b2":
                return messages.document(403, {"code": "unauthorized", "status": 403})
            return _xml(400, "InvalidRequest", "Missing x-amz-content-sha256")
        refused = self._refuse_signature(request, store)
        if refused is not None:
            return refused
        if request.method not in ("GET", "HEAD"):
            return _xml(405, "MethodNotAllowed", "The specified method is not allowed.")
        files = self._hub.catalog.files(version_id)
        file = next((file for file in files if file.hub_id == file_id), None)
        if file is None:
            return _xml(404, "NoSuchKey", "The specified key does not exist.")
        return self._ranged(request, store, file)

    def _refuse_signature(self, request: Request, store: str) -> Response | None:
        if store == "b2":
            parts = (request.arg("Authorization") or "").split("_")
            expiry, signature = (parts[2], parts[1]) if len(parts) == 4 else ("", "")
        else:
            expiry = request.arg("X-Amz-Date") or ""
            signature = request.arg("X-Amz-Signature") or ""
        good = expiry.isdigit() and hmac.compare_digest(
            signature.encode(), self._sign(request.path, int(expiry)).encode()
        )
        if not good:
            return _xml(403, "SignatureDoesNotMatch", "The signature does not match.")
        if int(expiry) >= self._hub.wall_s():
            return None
        if store == "b2":
            return messages.document(401, {"code": "expired_auth_token", "status": 401})
        return _xml(403, "ExpiredRequest", "Request has expired")

    def _ranged(self, request: Request, store: str, file: SimFile) -> Response:
        body = ranges.flipped(request, self._hub.catalog.contents.body(file.content))
        key = hashlib.md5(repr(file.content).encode(), usedforsecurity=False).hexdigest()
        etag = f'"{key}-1{request.tweaks.etag_suffix}"'
        modified = _LAST_MODIFIED
        if request.tweaks.etag_suffix:
            modified = _LAST_MODIFIED.replace("12:00", "13:00")
        headers = [
            ("Content-Type", "application/octet-stream"),
            ("Accept-Ranges", "bytes"),
            ("ETag", etag),
            ("Last-Modified", modified),
        ]
        name = "b2ContentDisposition" if store == "b2" else "response-content-disposition"
        disposition = request.arg(name)
        if disposition is not None:
            headers.append(("Content-Disposition", re.sub(r"[\x00-\x1f\x7f]", "_", disposition)))
        if store == "b2":
            headers.append(("x-bz-content-sha1", "unverified"))
        refusal = _xml(416, "InvalidRange", "The requested range is not satisfiable")
        return ranges.answer(request, body, headers, (etag, modified), refusal)


def _score(file: SimFile) -> float:
    """Which file a download without `fileId` gets: the account's default preferences."""
    score = 2000.0 if file.kind in ("Model", "Pruned Model") else 1000.0
    preferences = (("format", "SafeTensor", 100), ("size", "pruned", 10), ("fp", "fp16", 1))
    for name, liked, weight in preferences:
        value = file.metadata.get(name)
        if value:
            score += weight if value == liked else -weight
    return score


def _xml(status: int, code: str, message: str) -> Response:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
    return messages.raw(status, body.encode(), "application/xml")

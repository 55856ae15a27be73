"""The CivitAI dialect: which endpoint answers what, as pure functions of request and catalog.

Lists are in `civitai_lists.py`, downloads and storage in `civitai_files.py`. No sockets here, no
clock but the one handed in.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Sequence

import msgspec

from tests.hubsim import messages, shapes, words
from tests.hubsim.bytes import read_all
from tests.hubsim.catalog import Catalog
from tests.hubsim.civitai_eras import Era
from tests.hubsim.civitai_files import LOGIN_PAGE, Downloads
from tests.hubsim.civitai_hashes import HashLookups
from tests.hubsim.civitai_lists import ModelLists
from tests.hubsim.messages import Request, Response
from tests.hubsim.population import HOST, Json, Traits
from tests.hubsim.synthetic_files import SimFile

MODEL_TYPES = (
    "Checkpoint", "TextualInversion", "Hypernetwork", "AestheticGradient", "LORA", "LoCon", "DoRA",
    "Controlnet", "Upscaler", "MotionModule", "VAE", "TextEncoder", "UNet", "CLIPVision", "Poses",
    "Wildcards", "Workflows", "ComfyWorkflows", "Detection", "VisionLanguage", "CLIP", "LLM",
    "Other",
    "HoloModule",  # newer than any client
)  # fmt: skip
_FILE_TYPES = (
    "Model", "Text Encoder", "Vision Encoder", "Pruned Model", "Negative", "Training Data", "VAE",
    "Config", "Archive", "UNet", "Diffusion Model", "CLIPVision", "ControlNet", "Workflow",
    "Upscaler", "Enhancement LoRA", "Other",
)  # fmt: skip
_BASE_MODELS = tuple(name for name, _ in words.BASE_MODELS)
_MIXED = ("/api/v1/models", "/api/v1/model-versions/")
_LARGEST_ID = 2**31 - 1
# The smallest picture there is: previews are fetched, never looked at.
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


class Civitai:
    """One hub's answers. `base_url` and `storage_url` are set once the ports are known."""

    storage_host = "127.0.0.1"

    def __init__(
        self,
        catalog: Catalog,
        *,
        wall_s: Callable[[], float],
        tokens: Sequence[str] = (),
        require_login: bool = False,
        newest_loses_rows: bool = True,
        drift: int = 0,
        advance: Callable[[], None] = lambda: None,
    ) -> None:
        self.catalog = catalog
        self.wall_s = wall_s
        self.require_login = require_login
        self.newest_loses_rows = newest_loses_rows
        self.drift = drift
        self.advance = advance
        self.base_url = self.storage_url = ""
        self.known_types = frozenset(MODEL_TYPES)
        self._tokens = frozenset(tokens)
        self._lists = ModelLists(self)
        self._downloads = Downloads(self, b"the storage's own secret")
        self._hashes = HashLookups(self)
        self.era = Era(None)

    # -- what the server asks besides an answer ----------------------------------------------------

    def admit(self, request: Request) -> Response | None:
        return None  # its limits are the edge's, and nobody knows them: they are faults here

    def dress(self, request: Request, response: Response) -> Response:
        kind = response.header("Content-Type") or ""
        if self.era.name is None or response.status != 400 or "json" not in kind:
            return response
        return self.era.error(response, json.loads(read_all(response.body)))

    def refusal(self, request: Request, status: int) -> Response | None:
        return self.era.crash() if status == 500 and not request.storage else None

    # -- who asks, what they may see -------------------------------------------------------------

    def user(self, request: Request) -> str | None:
        """The key of a known user. A wrong key is an anonymous request, not an error."""
        header = request.header("authorization") or ""
        key = header[7:] if header.lower().startswith("bearer ") else request.arg("token")
        if not key or (self._tokens and key not in self._tokens):
            return None
        return key

    def hidden(self, traits: Traits) -> bool:
        """Nowhere in the API, by no road."""
        return traits.poi and not traits.lenient

    def listed(self, hub_id: int, traits: Traits, mature: bool, archived: bool) -> bool:
        if not traits.published:
            return False
        if traits.lenient:
            return True
        if traits.poi or (traits.mode == "Archived" and not archived):
            return False
        if mature:
            return traits.level & 31 != 0 and not traits.minor
        return traits.level & 1 != 0

    def version_traits(self, version: int) -> Traits | None:
        """The traits of a version's model; of a recorded version without its model, lenient."""
        owner = self.catalog.owner(version)
        if owner is None or self.catalog.source(owner) is not None:
            return None if owner is None else self.catalog.traits(owner)
        return Traits("", 1, lenient=True)

    # -- hosts -------------------------------------------------------------------------------------

    def echo(self, request: Request) -> str:
        """Lists echo the host they were asked at; everything by id names the configured one."""
        return f"http://{request.header('host') or self.base_url.removeprefix('http://')}"

    @staticmethod
    def with_host(body: bytes, host: str) -> bytes:
        return body.replace(HOST.encode(), host.encode())

    def cache_headers(self, request: Request) -> list[tuple[str, str]]:
        if self.user(request) is not None:
            return [("Cache-Control", "no-store")]
        return [("Cache-Control", "public, s-maxage=300, stale-while-revalidate=150")]

    def shown(self, value: object) -> Response:
        return messages.encoded(200, self.with_host(msgspec.json.encode(value), self.base_url))

    # -- the endpoints -----------------------------------------------------------------------------

    def answer(self, request: Request) -> Response:
        if request.storage:
            return self._downloads.serve(request)
        agent = request.header("user-agent") or ""
        if agent.lower().startswith("python-urllib"):
            return messages.text(403, "error code: 1010")
        path = request.path.rstrip("/")
        if request.method == "OPTIONS":
            return messages.raw(200, b"", "text/plain", ("Access-Control-Allow-Origin", "*"))
        mixed = path == _MIXED[0] or (path.startswith(_MIXED[1]) and "by-hash" not in path)
        if mixed and request.method not in ("GET", "HEAD"):
            return messages.document(405, {"error": "Method not allowed"})
        if path.startswith("/api/download/models/"):
            return self._downloads.answer(request, path.rpartition("/")[2])
        if path.startswith("/api/v1/"):
            return self._api(request, path.removeprefix("/api/v1/").split("/"))
        if path.startswith(("/images/", "/avatars/")):
            return messages.raw(200, _PIXEL, "image/png")
        if path == "/login" or path.startswith("/model-versions/"):
            return messages.html(200, LOGIN_PAGE)
        return messages.html(404, "<!DOCTYPE html><html><body>404</body></html>")

    def _api(self, request: Request, parts: list[str]) -> Response:
        match parts:
            case ["models"]:
                return self._lists.answer(request)
            case ["models", hub_id]:
                return self._model(hub_id)
            case ["model-versions", "by-hash", "ids"] if request.method == "POST":
                return self._hashes.bulk_ids(request)
            case ["model-versions", "by-hash"] if request.method == "POST":
                return self._hashes.bulk_versions(request)
            case ["model-versions", "by-hash", value]:
                return self._hashes.one(value)
            case ["model-versions", version_id]:
                return self._version(version_id)
            case ["enums"]:
                return self._enums()
            case ["tags"]:
                return self._tags(request)
            case ["creators"]:
                return self._creators(request)
            case ["images"]:
                return self._images(request)
            case ["me"]:
                if self.user(request) is None:
                    return messages.document(401, {"error": "Unauthorized"})
                return messages.document(200, {"id": 1, "username": "sim", "tier": "free"})
        return messages.document(404, {"error": "Not found"})

    def _model(self, text: str) -> Response:
        if not text.isdigit() or not 1 <= int(text) <= _LARGEST_ID:
            return messages.document(400, {"error": "Invalid id: expected 1 to 2147483647"})
        missing = messages.document(404, {"error": f"No model with id {int(text)}"})
        traits = self.catalog.traits(int(text))
        if traits is None or not traits.published or self.hidden(traits):
            return missing
        source = self.catalog.source(int(text))
        if traits.level == 0 and not traits.lenient:
            return missing
        item = self.catalog.document(int(text))
        if item is None or source is None:
            return missing
        if not source.verbatim:
            item = self.era.shown(shapes.by_id(item), "model")
        return self.shown(item)

    def _version(self, text: str) -> Response:
        if not text.isdigit() or not 1 <= int(text) <= _LARGEST_ID:
            return messages.document(400, {"error": "Invalid id"})
        shown = self.version_then(int(text))
        if shown is None or shown.get("nsfwLevel") == 0:
            # The list shows a version whose level is still 0; this endpoint does not.
            return messages.document(404, {"error": "Model not found"})
        return self.shown(shown)

    def version_then(self, version_id: int) -> Json | None:
        """The version's document in the shape of the hub's era."""
        shown = self.version_document(version_id)
        owner = self.catalog.source(int(shown["modelId"])) if shown is not None else None
        if shown is None or owner is None or owner.verbatim:
            return shown
        return self.era.shown(shown, "version")

    def version_document(self, version_id: int) -> Json | None:
        for source in self.catalog.sources:
            recorded = getattr(source, "version_document", None)
            found = recorded(version_id) if recorded else None
            if found is not None:
                return dict(found)
        owner = self.catalog.owner(version_id)
        traits = self.catalog.traits(owner) if owner is not None else None
        if owner is None or traits is None or not traits.published or self.hidden(traits):
            return None
        item = self.catalog.document(owner)
        return shapes.version(item, version_id) if item is not None else None

    # -- the small ones ----------------------------------------------------------------------------

    def _enums(self) -> Response:
        return self.shown(
            {
                "ModelType": MODEL_TYPES,
                "ModelFileType": _FILE_TYPES,
                "ActiveBaseModel": _BASE_MODELS,
                "BaseModel": [*_BASE_MODELS, "SD 2.0", "SD 3", "Playground v2"],
                "BaseModelType": ["Standard", "Inpainting", "Refiner", "Pix2Pix"],
            }
        )

    def _paged(self, request: Request, values: Sequence[object], most: int) -> Response:
        limit_text, page_text = request.arg("limit") or "20", request.arg("page") or "1"
        if not (limit_text.isdecimal() and page_text.isdecimal()):
            return messages.document(400, {"error": "limit and page must be numbers"})
        limit, page = int(limit_text), int(page_text)
        if not 1 <= limit <= most or page < 1:
            return messages.document(400, {"error": f"limit must be 1 to {most}"})
        metadata = {
            "totalItems": len(values),
            "currentPage": page,
            "pageSize": limit,
            "totalPages": -(-len(values) // limit),
        }
        items = values[(page - 1) * limit : page * limit]
        return self.shown({"items": items, "metadata": metadata})

    def _tags(self, request: Request) -> Response:
        wanted = (request.arg("query") or "").casefold()
        names = [
            name for name in words.ENGLISH_TAGS + words.OTHER_TAGS if wanted in name.casefold()
        ]
        link = f"{HOST}/api/v1/models?tag="
        return self._paged(request, [{"name": name, "link": link + name} for name in names], 200)

    def _creators(self, request: Request) -> Response:
        names: dict[str, int] = {}
        for hub_id in itertools.islice(self.catalog.ids(), 10_000):
            item = self.catalog.document(hub_id)
            creator = (item or {}).get("creator") or {}
            name = str(creator.get("username"))
            names[name] = names.get(name, 0) + 1
        wanted = (request.arg("query") or "").lower()
        link = f"{HOST}/api/v1/models?username="
        creators = [
            {"username": name, "modelCount": count, "link": link + name}
            for name, count in sorted(names.items())
            if wanted in name.lower()
        ]
        return self._paged(request, creators, 200)

    def _images(self, request: Request) -> Response:
        recorded = [
            image
            for source in self.catalog.sources
            for image in getattr(source, "images", {}).values()
        ]
        wanted = request.arg("imageId")
        if wanted is not None:
            recorded = [image for image in recorded if str(image.get("id")) == wanted]
        version_text = request.arg("modelVersionId") or ""
        if version_text.isdigit() and wanted is None:
            shown = self.version_document(int(version_text)) or {}
            images = shown.get("images", ())
            recorded = [_image_item(image, int(version_text)) for image in images]
        return self.shown({"items": recorded, "metadata": {}})

    # -- files -------------------------------------------------------------------------------------

    def file_name(self, file: SimFile) -> str:
        """The name the documents give the file now: changes may have renamed it."""
        shown = self.version_document(file.version_id) or {}
        for listed in shown.get("files", ()):
            if listed.get("id") == file.hub_id:
                return str(listed["name"])
        return file.name


def _image_item(image: Json, version_id: int) -> Json:
    words_of = {1: "None", 2: "Soft", 4: "Mature"}
    level = image.get("nsfwLevel")
    url = str(image.get("url"))
    digits = url.rpartition("/")[2].partition(".")[0]
    return {
        "id": int(digits) if digits.isdigit() else zlib.crc32(url.encode()),
        "url": url,
        "hash": image.get("hash"),
        "width": image.get("width"),
        "height": image.get("height"),
        "nsfwLevel": words_of.get(level, "X") if isinstance(level, int) else level,
        "type": image.get("type", "image"),
        "nsfw": bool(isinstance(level, int) and level > 2),
        "browsingLevel": level,
        "createdAt": "2026-08-01T00:00:00.000Z",
        "postId": 1,
        "stats": {"likeCount": 0, "heartCount": 0, "commentCount": 0},
        "meta": None,
        "username": None,
        "baseModel": None,
        "modelVersionIds": [version_id],
        "thumbnail": None,
    }

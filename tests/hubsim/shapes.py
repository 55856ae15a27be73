"""The CivitAI dialect's shapes: one model document seen through each endpoint.

Pure functions from the full list item to what an endpoint shows of it. They change the documents
they are given, which are made afresh for every request.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.hubsim.population import HOST, Json

_ECOSYSTEMS = {
    "SD 1.5": "sd1", "Flux.1 D": "flux1", "Anima": "anima", "Krea 2": "krea2",
    "ZImageTurbo": "zimageturbo", "Qwen": "qwen", "Wan Video 14B t2v": "wanvideo14b_t2v",
}  # fmt: skip
_AIR_TYPES = {
    "Checkpoint": "checkpoint", "LORA": "lora", "LoCon": "lycoris", "DoRA": "dora",
    "TextualInversion": "embedding", "Hypernetwork": "hypernet", "Controlnet": "controlnet",
    "Upscaler": "upscaler", "VAE": "vae", "MotionModule": "motion",
}  # fmt: skip


def cut_to_pg(item: Json) -> Json:
    """The default (`nsfw` absent or false) view keeps only pictures everybody may see."""
    for version in item["modelVersions"]:
        version["images"] = [image for image in version["images"] if image["nsfwLevel"] & 1]
    return item


def _without_empty(value: Mapping[str, object]) -> Json:
    return {key: inner for key, inner in value.items() if inner is not None and inner != []}


def by_id(item: Json) -> Json:
    """`GET models/{id}`: empty values vanish, other version keys, no picture ids."""
    if not item.get("description"):
        item.pop("description", None)
    versions = []
    for version in item["modelVersions"]:
        if not version["files"] and item.get("mode") != "Archived":
            continue
        version.pop("supportsGeneration", None)
        version["createdAt"] = version["publishedAt"]
        version["status"] = "Published"
        version["covered"] = True
        for image in version["images"]:
            image.pop("id", None)
        for file in version["files"]:
            file["metadata"] = _without_empty(file["metadata"])
            file["downloadUrl"] = with_file_id(version["id"], file["id"])
        versions.append(_without_empty(version))
    item["modelVersions"] = versions
    return item


def with_file_id(version_id: int, file_id: int) -> str:
    return f"{HOST}/api/download/models/{version_id}?fileId={file_id}"


def version(item: Json, version_id: int) -> Json | None:
    """`GET model-versions/{id}` of a version inside a model's list item."""
    found = next((v for v in item.get("modelVersions", ()) if v["id"] == version_id), None)
    if found is None:
        return None
    files = found.get("files", [])
    for file in files:
        metadata = file.get("metadata") or {}
        file["metadata"] = {key: metadata.get(key) for key in ("format", "size", "fp")}
        file["primary"] = bool(file.get("primary"))
        file.pop("overrideName", None)
        if file.get("id") is not None:
            file["downloadUrl"] = with_file_id(version_id, file["id"])
    images = list(found.get("images", ()))[:10]
    for image in images:
        image.pop("id", None)
        image.setdefault("meta", None)
    base_model = str(found.get("baseModel"))
    model_type = str(item.get("type"))
    ecosystem = _ECOSYSTEMS.get(base_model, "sdxl")
    air_type = _AIR_TYPES.get(model_type, "other")
    stats = found.get("stats") or {}
    shown = {
        "id": version_id,
        "modelId": item["id"],
        "name": found.get("name"),
        "nsfwLevel": found.get("nsfwLevel"),
        "createdAt": found.get("publishedAt") or found.get("createdAt"),
        "updatedAt": found.get("publishedAt") or found.get("updatedAt"),
        "status": "Published",
        "publishedAt": found.get("publishedAt"),
        "trainedWords": found.get("trainedWords", []),
        "trainingStatus": None,
        "trainingDetails": None,
        "baseModel": base_model,
        "baseModelType": found.get("baseModelType"),
        "description": found.get("description"),
        "uploadType": "Created",
        "usageControl": "Download",
        "licensingFee": None,
        "paidAccess": found.get("paidAccess"),
        "air": f"urn:air:{ecosystem}:{air_type}:civitai:{item['id']}@{version_id}",
        "stats": {
            "downloadCount": stats.get("downloadCount"),
            "thumbsUpCount": stats.get("thumbsUpCount", 0),
        },
        "model": {key: item.get(key) for key in ("name", "type", "nsfw", "poi")},
        "files": files,
        "images": images,
    }
    if item.get("mode"):
        shown["model"]["mode"] = item["mode"]
    if "downloadUrl" in found:
        shown["downloadUrl"] = found["downloadUrl"]
    return shown

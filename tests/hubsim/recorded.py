"""A folder of recorded CivitAI documents as a source of the catalog.

Every document is served by its id as it was recorded; only what points to bytes is rewritten:
sizes, hashes and download addresses become those of files the simulated hub makes. Documents that
share an id are states of one model, in the order of the dates in their file names.
"""

from __future__ import annotations

import copy
import datetime
import json
import re
import urllib.parse
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.hubsim.bytes import ContentKey, Contents
from tests.hubsim.population import HOST, Json, Traits
from tests.hubsim.strands import ListStrand, Order, SyntheticStrand
from tests.hubsim.synthetic_files import SimFile

_UNDATED = "2025-01"  # pages whose date nobody wrote down: between the dated ones
_KINDS = {
    ".safetensors": "lora", ".ckpt": "pickle_checkpoint", ".pt": "pickle_embedding",
    ".pth": "pickle_embedding", ".bin": "pickle_embedding", ".zip": "archive", ".yaml": "config",
    ".yml": "config", ".json": "workflow", ".gguf": "gguf",
}  # fmt: skip


class RecordedSource:
    """Recorded documents; `state` says which of two documents with one id is served."""

    verbatim = True

    def __init__(
        self,
        folder: Path,
        contents: Contents,
        *,
        strict_visibility: bool = False,
        as_recorded: bool = False,
    ) -> None:
        self.state = 0
        self.images: dict[int, Json] = {}
        self._contents = contents
        self._strict = strict_visibility
        self._as_recorded = as_recorded
        self._states: dict[int, list[Json]] = {}
        self._versions: dict[int, Json] = {}
        self._owners: dict[int, int] = {}
        self._files: dict[int, list[SimFile]] = {}
        self._strand = ListStrand(3)
        paths = sorted(folder.glob("*.json"), key=_recorded_date)
        if not paths:
            raise ValueError(f"no recorded documents (*.json) in {folder}")
        for path in paths:
            self._read(path)
        self._order()

    # -- reading ---------------------------------------------------------------------------------

    def _read(self, path: Path) -> None:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if "items" in tree:
            for item in tree["items"]:
                self._keep_model(item)
        elif "modelVersions" in tree:
            self._keep_model(tree)
        elif "modelId" in tree:
            version_id = int(tree["id"])
            self._rewrite_version(tree, version_id, str(tree.get("model", {}).get("type")))
            self._versions[version_id] = tree
            self._owners[version_id] = int(tree["modelId"])
        elif "url" in tree:
            self.images[int(tree["id"])] = tree
        else:
            raise ValueError(f"{path}: neither a model, a version, an image nor a page of models")

    def _keep_model(self, item: Json) -> None:
        hub_id = int(item["id"])
        for version in item["modelVersions"]:
            self._owners[int(version["id"])] = hub_id
            self._rewrite_version(version, int(version["id"]), str(item["type"]))
        states = self._states.setdefault(hub_id, [])
        states.append(item)

    def _rewrite_version(self, version: Json, version_id: int, model_type: str) -> None:
        known = {file.hub_id: file for file in self._files.get(version_id, ())}
        for position, file in enumerate(version.get("files", ())):
            # Early documents have files without an id.
            file_id = int(file.get("id") or version_id * 100 + position)
            content = (
                known[file_id].content
                if file_id in known
                else self._content(file, file_id, model_type)
            )
            metadata = dict(file.get("metadata") or {})
            kind, name = str(file["type"]), str(file["name"])
            known[file_id] = SimFile(file_id, version_id, name, kind, metadata, content)
            if not self._as_recorded:
                self._rewrite_file(file, content)
        self._files[version_id] = list(known.values())
        if not self._as_recorded and "downloadUrl" in version:
            version["downloadUrl"] = _at_hub(str(version["downloadUrl"]))

    def _content(self, file: Json, file_id: int, model_type: str) -> ContentKey:
        kind = _KINDS.get(Path(str(file["name"])).suffix.lower(), "archive")
        if kind == "lora" and model_type == "Checkpoint":
            kind = "checkpoint"
        # Files with one published hash stay the same bytes.
        sha256 = (file.get("hashes") or {}).get("SHA256")
        return self._contents.key(kind, zlib.crc32(str(sha256 or file_id).encode()) | 1 << 40)

    def _rewrite_file(self, file: Json, content: ContentKey) -> None:
        facts = self._contents.describe(content)
        published = file.get("hashes")
        if published:
            # The keys that were published stay, except those our small files cannot have.
            true = facts.hashes()
            file["hashes"] = {key: true[key] for key in published if key in true}
        if file.get("sizeKB"):
            file["sizeKB"] = facts.size_bytes / 1024
        if "downloadUrl" in file:
            file["downloadUrl"] = _at_hub(str(file["downloadUrl"]))

    def _order(self) -> None:
        """(Re)build the orders from the documents of the present state."""
        self._strand.clear()
        for hub_id in self._states:
            item = self._current(hub_id)
            dates = [_date_ms(version) for version in item["modelVersions"]]
            newest = max((date for date in dates if date is not None), default=-1)
            self._strand.place(Order.NEWEST, (newest, hub_id), hub_id)
            stats = item.get("stats") or {}
            counts = [int(stats.get(name) or 0) for name in ("thumbsUpCount", "downloadCount")]
            self._strand.place(Order.RATED, (counts[0], counts[1]), hub_id)

    # -- the Source contract -----------------------------------------------------------------------

    def advance(self) -> None:
        self.state += 1
        self._order()

    def _current(self, hub_id: int) -> Json:
        states = self._states[hub_id]
        return states[min(self.state, len(states) - 1)]

    def has(self, hub_id: int) -> bool:
        return hub_id in self._states

    def ids(self) -> Iterator[int]:
        return iter(self._states)

    def traits(self, hub_id: int) -> Traits:
        item = self._current(hub_id)
        # Documents of 2023 have no level, only a flag.
        level = item.get("nsfwLevel", 28 if item.get("nsfw") else 1)
        return Traits(
            type=str(item["type"]),
            level=int(level),
            minor=bool(item.get("minor")),
            poi=bool(item.get("poi")),
            mode=item.get("mode"),
            lenient=not self._strict,
        )

    def document(self, hub_id: int) -> Json:
        return copy.deepcopy(self._current(hub_id))

    def owner(self, version_id: int) -> int | None:
        return self._owners.get(version_id)

    def version_document(self, version_id: int) -> Json | None:
        found = self._versions.get(version_id)
        return copy.deepcopy(found) if found else None

    def version_ids(self) -> list[int]:
        return list(self._owners)

    def files(self, version_id: int) -> list[SimFile]:
        return self._files.get(version_id, [])

    def version_of_file(self, file_id: int) -> int | None:
        for version_id, files in self._files.items():
            if any(file.hub_id == file_id for file in files):
                return version_id
        return None

    def access(self, version_id: int) -> str:
        return "open"

    def strands(self) -> Sequence[ListStrand | SyntheticStrand]:
        return (self._strand,)


def _recorded_date(path: Path) -> tuple[str, str]:
    found = re.search(r"(20\d\d-\d\d)-", path.name)
    return (found[1] if found else _UNDATED), path.name


def _at_hub(url: str) -> str:
    """The same path and query at this hub."""
    parts = urllib.parse.urlsplit(url)
    return HOST + urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))


def _date_ms(version: Json) -> int | None:
    text = version.get("publishedAt") or version.get("createdAt")
    if not text:
        return None
    date = datetime.datetime.fromisoformat(str(text))
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    return int(date.timestamp() * 1000)

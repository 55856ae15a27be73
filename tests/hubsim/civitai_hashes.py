"""Which versions hold a file of a hash: the by-hash answers of the CivitAI dialect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.hubsim import messages
from tests.hubsim.messages import Request, Response
from tests.hubsim.population import Json

if TYPE_CHECKING:
    from tests.hubsim.civitai import Civitai


class HashLookups:
    def __init__(self, hub: Civitai) -> None:
        self._hub = hub
        self._hashes: dict[str, list[int]] | None = None
        self._hashed_at: object = None

    def _versions_of_hash(self, value: str) -> list[int]:
        """Versions of published models that have a file of this hash, the oldest first.

        The index is made at the first question and again after a change: a walk over the whole
        catalog, which takes a second for every ten thousand models.
        """
        at = (self._hub.catalog.changes, len(self._hub.catalog.sources))
        if self._hashes is None or self._hashed_at != at:
            self._hashes, self._hashed_at = {}, at
            for hub_id in self._hub.catalog.ids():
                traits = self._hub.catalog.traits(hub_id)
                item = self._hub.catalog.document(hub_id)
                if traits and traits.published and not self._hub.hidden(traits) and item:
                    self._index_hashes(item, self._hashes)
        return self._hashes.get(value.upper(), [])

    @staticmethod
    def _index_hashes(item: Json, index: dict[str, list[int]]) -> None:
        for version in item["modelVersions"]:
            for file in version.get("files", ()):
                for value in (file.get("hashes") or {}).values():
                    versions = index.setdefault(str(value).upper(), [])
                    if version["id"] not in versions:
                        versions.append(version["id"])
                        versions.sort()

    def one(self, value: str) -> Response:
        versions = self._versions_of_hash(value)
        shown = self._hub.version_then(versions[0]) if versions else None
        if shown is None:
            return messages.document(404, {"error": "Model not found"})
        return self._hub.shown(shown)

    def _hash_list(self, request: Request, most: int) -> list[str] | None:
        try:
            values = json.loads(request.body)
        except ValueError:
            return None
        if not isinstance(values, list) or len(values) > most:
            return None
        good = all(isinstance(value, str) and len(value) == 64 for value in values)
        return values if good else None

    def bulk_versions(self, request: Request) -> Response:
        values = self._hash_list(request, 100)
        if values is None:
            return messages.document(400, {"error": "Expected at most 100 SHA256 hashes"})
        found = [self._versions_of_hash(value) for value in values]
        # Not in the order that was asked for.
        chosen = sorted(versions[0] for versions in found if versions)
        return self._hub.shown([self._hub.version_then(version_id) for version_id in chosen])

    def bulk_ids(self, request: Request) -> Response:
        values = self._hash_list(request, 10_000)
        if values is None:
            return messages.document(400, {"error": "Expected at most 10000 SHA256 hashes"})
        found = []
        for value in values:
            versions = self._versions_of_hash(value)
            if versions:
                owner = self._hub.catalog.owner(versions[0])
                found.append(
                    {"modelVersionId": versions[0], "modelId": owner, "hash": value.upper()}
                )
        return self._hub.shown(found)

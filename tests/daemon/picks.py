"""Which models of the simulated hub a test uses."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.hubsim import Hub
from tests.hubsim.population import SPECIALS


class Pick(NamedTuple):
    """One file of the hub."""

    ref: str
    model: str
    version: int
    file: int
    name: str
    sha256: str
    size_bytes: int

    @property
    def download(self) -> str:
        """The hub's own address of it, as faults match it."""
        return f"/api/download/models/{self.version}"

    @property
    def stored(self) -> str:
        """The address at the storage host, as faults match it."""
        return f"/*/model/{self.version}/{self.file}/*"


def pick_of(document: dict[str, Any], number: int = 0) -> Pick:
    """The newest version's file of that number."""
    version = document["modelVersions"][0]
    file = version["files"][number]
    ref = f"civitai:{document['id']}@{version['id']}#{file['id']}"
    sha256 = str(file["hashes"].get("SHA256", "")).lower()
    size_bytes = round(float(file["sizeKB"]) * 1024)
    return Pick(
        ref,
        f"civitai:{document['id']}",
        version["id"],
        file["id"],
        file["name"],
        sha256,
        size_bytes,
    )


def ordinary(hub: Hub, suffix: str = ".safetensors") -> Iterator[Pick]:
    """Public files of models with nothing special about them, smallest ids first."""
    special = {hub.catalog.special(name) for name in SPECIALS}
    contents = set()
    for hub_id in sorted(hub.truth(digests=False)):
        document = hub.document(hub_id)
        if hub_id in special or document is None:
            continue
        pick = pick_of(document)
        public = document["modelVersions"][0].get("availability") == "Public"
        if public and pick.name.endswith(suffix) and pick.sha256 not in contents:
            contents.add(pick.sha256)
            yield pick

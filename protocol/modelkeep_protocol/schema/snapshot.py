"""The catalog as one file: writing and reading it."""

from typing import Annotated

from msgspec import Meta, Struct

from modelkeep_protocol.schema.common import PathText, ShortText


class ExportCatalog(Struct, frozen=True):
    """Where to write the snapshot; ``since`` is an older one that it is a delta against."""

    path: PathText
    since: PathText = ""


class ImportCatalog(Struct, frozen=True):
    """Which snapshot to read. ``trust`` are public keys, in hex, besides our own."""

    path: PathText
    trust: Annotated[list[ShortText], Meta(max_length=20)] = []


class SnapshotTask(Struct, frozen=True):
    """An export or import. ``state``: none, running, finished, failed, canceled."""

    kind: str  # export, import
    state: str
    path: str
    models: int
    total: int | None
    size_bytes: int
    fraction: float | None
    eta_s: float | None
    new: int  # import: models that were not known
    changed: int  # import: models of which the file knew newer facts
    key: str  # who signed it
    code: str | None  # of the error
    error: str | None
    hint: str | None

"""Files on disk."""

from msgspec import Struct

from modelkeep_protocol.schema.common import Limit, PathText, ShortText


class ListFiles(Struct, frozen=True):
    """Which files to list; empty texts stand for all."""

    text: ShortText = ""  # part of the path
    state: ShortText = ""
    root: PathText = ""
    limit: Limit = 100
    after: PathText = ""  # the page after this path


class LibraryFile(Struct, frozen=True):
    """A file on disk and what is known of it."""

    path: str
    size_bytes: int
    sha256: str | None
    ref: str | None
    name: str | None
    state: str
    verdict: str | None
    mtime_ms: int


class LibraryFiles(Struct, frozen=True):
    """One page of files."""

    items: list[LibraryFile]
    total: int


class Root(Struct, frozen=True):
    """One watched folder."""

    path: str
    layout: str
    state: str
    files: int
    size_bytes: int
    watching: str  # events, polling, off
    warning: str | None


class Roots(Struct, frozen=True):
    """All watched folders."""

    items: list[Root]


class AddRoot(Struct, frozen=True):
    """A folder to watch."""

    path: PathText
    layout: ShortText = "auto"


class PickRoot(Struct, frozen=True):
    """One watched folder, or all."""

    path: PathText = ""  # empty: all


class ScanCounts(Struct, frozen=True):
    """What one walk found, against what was known."""

    path: str
    seen: int
    new: int
    changed: int
    moved: int
    gone: int
    skipped: dict[str, int]


class ScanResult(Struct, frozen=True):
    """One walk for each folder."""

    items: list[ScanCounts]

"""What somebody wants: one file in the hub's words."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WantedFile:
    """One file somebody wants, in the hub's words."""

    hub: str
    ref: str
    name: str  # of a repository's file the path there
    save_as: str = ""  # its name here, where the hub's would not do
    file_key: int | None = None
    model_type: str = ""
    file_kind: str = "Model"
    base_model: str | None = None
    size_bytes: int | None = None
    size_tolerance_bytes: int = 0
    sha256: bytes | None = None
    git_sha1: bytes | None = None
    revision: str | None = None  # where a hub has commits: the one that this is true for
    repository: str = ""  # it keeps its place among the files of this one
    priority: int = 0
    to: Path | None = None  # another destination than transfer.root; the file lies in it directly

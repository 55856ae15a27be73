"""What is known of one model file without loading it: the input of every guess."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelkeepd.kinds.tensors import Shape


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Facts of one file; every one of them may be missing.

    ``folders`` are the names of the folders it lies in, the innermost first. ``tensors`` has the
    shapes in PyTorch's order, None where only the name is known. ``numbers`` are the small whole
    numbers in a pickle (a hypernetwork's keys). ``tags`` are words from beside the file.
    """

    name: str = ""
    size_bytes: int = 0
    format: str = ""
    folders: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    gguf: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    tensors: Mapping[str, Shape | None] = field(default_factory=dict)
    numbers: frozenset[int] = frozenset()
    tags: tuple[str, ...] = ()
    sha256: bytes | None = None

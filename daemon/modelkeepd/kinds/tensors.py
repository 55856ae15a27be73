"""A file's tensors as the rules look at them: names and shapes, with the usual prefixes cut off.

Pure. Tests on thousands of names are tests on one text, so that a rule costs a search of it.
"""

import re
from collections.abc import Iterator, Mapping

Shape = tuple[int, ...]

_PREFIXES = (
    "model.diffusion_model.",
    "base_model.model.",
    "model.model.",
    "diffusion_model.",
    "transformer.",
    "module.",
    "_orig_mod.",
    "unet.",
    "net.",
)
_WRAPPERS = ("state_dict.", "model_state_dict.", "params_ema.", "params.")


class Tensors:
    """Names are tested both as they are and without a prefix; a shape may be unknown (None)."""

    def __init__(self, shapes: Mapping[str, Shape | None]) -> None:
        self.count = len(shapes)
        self.shapes: dict[str, Shape | None] = {}
        for name, shape in shapes.items():
            self.shapes.setdefault(name, shape)
            for prefix in (*_WRAPPERS, *_PREFIXES):
                if name.startswith(prefix):
                    self.shapes.setdefault(name[len(prefix) :], shape)
                    break
        self._text = "\n" + "\n".join(self.shapes) + "\n"
        # trainers write dots as underscores
        self._flat = self._text.replace(".", "_")

    def has(self, *names: str) -> bool:
        """Every one of these names."""
        return all(name in self.shapes for name in names)

    def begins(self, *prefixes: str) -> bool:
        """Some name begins with one of these."""
        return any(f"\n{prefix}" in self._text for prefix in prefixes)

    def ends(self, *suffixes: str) -> bool:
        """Some name ends with one of these."""
        return any(f"{suffix}\n" in self._text for suffix in suffixes)

    def holds(self, *parts: str) -> bool:
        """One of these is a part of some name, dots and underscores alike."""
        return any(part.replace(".", "_") in self._flat for part in parts)

    def finds(self, pattern: str) -> bool:
        """A pattern occurs in some name, where dots were turned into underscores."""
        return re.search(pattern, self._flat) is not None

    def dim(self, name: str, at: int) -> int | None:
        """One dimension of a tensor, None when there is none such."""
        shape = self.shapes.get(name)
        if shape is None or not -len(shape) <= at < len(shape):
            return None
        return shape[at]

    def dims(self, pattern: str, at: int) -> Iterator[int]:
        """That dimension of every tensor whose name, with underscores, has this pattern."""
        wanted = re.compile(pattern)
        for name, shape in self.shapes.items():
            if shape and -len(shape) <= at < len(shape) and wanted.search(name.replace(".", "_")):
                yield shape[at]

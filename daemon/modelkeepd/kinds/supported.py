"""The list of well-known models that modelkeep vouches for: supported.toml.

A list for people, shipped with the package and laid over the catalog: it adds to what a hub says
and never replaces it. It holds no hashes and no files; those are the hubs' to state.
"""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

import msgspec

from modelkeepd.kinds.table import BadTable, is_known, table, word_key


class SupportedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model. Sizes are rounded, as its makers publish them.

    ``memory_gb`` is what the largest part takes on an accelerator in the precision it is published
    in, with some room to work. ``marker`` must be in the model's name on a hub whose references
    are numbers: a number alone proves nothing.
    """

    hub: str
    ref: str
    name: str
    type: str
    base: str
    size_gb: float
    memory_gb: float
    about: str
    marker: str = ""


def supported_models() -> Sequence[SupportedModel]:
    """The whole list, in the file's order."""
    return tuple(_by_ref().values())


def supported(hub: str, ref_id: str, name: str = "") -> SupportedModel | None:
    """What the list says of a model of a hub, or None."""
    found = _by_ref().get((hub, ref_id.lower()))
    if found is None or (found.marker and found.marker not in word_key(name)):
        return None
    return found


@cache
def _by_ref() -> Mapping[tuple[str, str], SupportedModel]:
    return read_supported((files(__package__) / "supported.toml").read_text(encoding="utf-8"))


def read_supported(
    text: str, file: str = "supported.toml"
) -> dict[tuple[str, str], SupportedModel]:
    """The models of a list, by hub and reference. Raises BadTable."""
    # the entries' lines, in order
    lines = [
        number for number, line in enumerate(text.splitlines(), 1) if line.strip() == "[[model]]"
    ]
    try:
        entries = tomllib.loads(text).get("model", [])
    except tomllib.TOMLDecodeError as exc:
        raise BadTable(f"{file}: {exc}") from exc
    found: dict[tuple[str, str], SupportedModel] = {}
    for line, entry in zip(lines, entries, strict=True):
        try:
            model = msgspec.convert(entry, SupportedModel)
        except msgspec.ValidationError as exc:
            raise BadTable(f"{file}:{line}: {exc}") from exc
        key = (model.hub, model.ref.lower())
        if key in found:
            raise BadTable(f"{file}:{line}: {model.hub} {model.ref} stands there twice")
        if model.type not in table().types or not is_known("base", model.base):
            raise BadTable(f"{file}:{line}: {model.type!r} or {model.base!r} is not in kinds.toml")
        if model.marker != word_key(model.marker) or (model.ref.isdecimal() and not model.marker):
            raise BadTable(f"{file}:{line}: a number needs a marker of small letters and digits")
        found[key] = model
    return found

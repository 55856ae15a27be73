"""Which fields of a hub's answers modelkeep reads, and without which it can't go on.

Pure. They are taken from the parsers' own structures, so the two can't drift apart. A path
is the names from the answer's root down: ``("body", "items", "[]", "id")``.
"""

import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

import msgspec

from modelkeepd.hubs import civitai_wire, huggingface_wire

Path = tuple[str, ...]
Role = Literal["essential", "read", "unread"]

BODY: Path = ("body",)
ELEMENT, ANY_KEY = "[]", "{}"

# what the parsers make something of, for each of our types: numbers are taken from texts too
_TAKEN: dict[Any, frozenset[str]] = {
    bool: frozenset({"bool"}),
    int: frozenset({"int", "float", "string"}),
    float: frozenset({"int", "float", "string"}),
    str: frozenset({"string"}),
}
# a map is an object that has a great many keys
_OBJECT, _ARRAY = frozenset({"object", "map"}), frozenset({"array"})
_ANY = frozenset({"bool", "int", "float", "string", "object", "map", "array"})


class Reads(msgspec.Struct, frozen=True):
    """The fields of one endpoint that are read, with the types that can be used.

    Of a document that has one of ``withdrawn``, what stands inside of its lists says nothing.
    """

    usable: Mapping[Path, frozenset[str]]
    essential: frozenset[Path]
    withdrawn: frozenset[Path] = frozenset()

    def role(self, path: Path) -> Role:
        """What a path is to us."""
        if path in self.essential:
            return "essential"
        return "read" if path in self.usable else "unread"

    def can_use(self, path: Path, kind: str) -> bool:
        """Whether a value of this type says something to us there."""
        return kind in self.usable.get(path, _ANY)


@cache
def reads_of(hub: str, operation: str) -> Reads:
    """What is read of this endpoint; nothing of one that is not known."""
    if hub == "civitai":
        return _civitai(operation)
    if hub == "huggingface":
        return _huggingface(operation)
    return Reads({}, frozenset())


def _civitai(operation: str) -> Reads:
    version: tuple[Path, ...] = (
        ("id",), ("files",), ("files", ELEMENT, "hashes"), ("files", ELEMENT, "downloadUrl"),
    )  # fmt: skip
    model: tuple[Path, ...] = (
        ("id",),
        ("modelVersions",),
        *(("modelVersions", ELEMENT, *path) for path in version),
    )
    match operation:
        case "list" | "ids":
            envelope: dict[Path, frozenset[str]] = {
                BODY: _OBJECT,
                (*BODY, "items"): _ARRAY,
                (*BODY, "metadata"): _OBJECT,
                (*BODY, "metadata", "nextCursor"): frozenset({"string", "int"}),
            }
            place: Path = (*BODY, "items", ELEMENT)
            usable = {**envelope, **_fields(civitai_wire.WireModel, place)}
            essential = {BODY, (*BODY, "items"), (*BODY, "metadata")}
            if operation == "list":
                # without it every page looks like the last
                essential.add((*BODY, "metadata", "nextCursor"))
            return Reads(usable, frozenset(essential | {(*place, *path) for path in model}))
        case "model" | "details":
            usable = {BODY: _OBJECT, **_fields(civitai_wire.WireModel, BODY)}
            essential = {BODY, *((*BODY, *path) for path in model)}
            # by id, archived models have no files; suspects come in rows of them
            return Reads(usable, frozenset(essential), frozenset({(*BODY, "mode")}))
        case "version":
            usable = {BODY: _OBJECT, **_fields(civitai_wire.WireVersionDocument, BODY)}
            paths = (("modelId",), *version)
            return Reads(usable, frozenset({BODY, *((*BODY, *path) for path in paths)}))
    return Reads({}, frozenset())


def _fields(struct: type[msgspec.Struct], place: Path) -> dict[Path, frozenset[str]]:
    found: dict[Path, frozenset[str]] = {place: _OBJECT}
    hints = typing.get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        _add_hint(found, (*place, field.encode_name), hints[field.name])
    return found


def _add_hint(found: dict[Path, frozenset[str]], path: Path, hint: Any) -> None:
    options = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    taken: frozenset[str] = frozenset()
    for option in options:
        if get_origin(option) is list:
            taken |= _ARRAY
            _add_hint(found, (*path, ELEMENT), get_args(option)[0])
        elif isinstance(option, type) and issubclass(option, msgspec.Struct):
            taken |= _OBJECT
            found.update(_fields(option, path))
        elif option is not type(None):
            taken |= _TAKEN.get(option, _ANY)
    found[path] = taken


def _huggingface(operation: str) -> Reads:
    identity: set[Path] = {("_id",), ("id",), ("lastModified",)}
    match operation:
        case "list":
            place: Path = (*BODY, ELEMENT)
            # where the list goes on
            usable = {BODY: _ARRAY, ("headers", "link"): frozenset({"string"})}
        case "model" | "details" | "look":
            place = BODY
            usable = {}
            identity |= {("siblings",), ("siblings", ELEMENT, "rfilename")}
        case _:
            return Reads({}, frozenset())
    usable.update(_fields(huggingface_wire.WireModel, place))
    return Reads(usable, frozenset({BODY, *((*place, *path) for path in identity)}))


def shown(path: Path) -> str:
    """A path as people write it: ``items[].modelVersions[].id``."""
    if path[:1] and path[0].endswith(":"):  # of an answer with another status than 200
        return f"{path[0]} {shown(path[1:])}" if len(path) > 1 else path[0][:-1]
    inner = path[1:] if path[:1] == BODY else path
    if not inner:
        return "(the whole answer)"
    text = ""
    for part in inner:
        text += part if part in (ELEMENT, ANY_KEY) else f".{part}" if text else part
    return text

"""The settings' tree as a list of keys: for the environment, flags, messages and the reference."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from modelkeepd.settings.tree import Settings

ENVIRONMENT_PREFIX = "MODELKEEP_"


class Key(Struct, frozen=True):
    """One leaf of the tree, for the reference page and the environment."""

    path: tuple[str, ...]
    hint: Any
    default: Any
    description: str

    @property
    def dotted(self) -> str:
        """As in ``--set`` and in messages: ``sync.auto``."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + "_".join(self.path).upper()

    @property
    def type(self) -> str:
        """What may be written, in words."""
        hint, meta = bare(self.hint)
        if get_origin(hint) is Literal:
            return " | ".join(f'"{word}"' for word in get_args(hint))
        if get_origin(hint) is tuple:
            return "list of tables" if is_of_tables(hint) else "list of texts"
        bounds = [
            f"{word} {bound:g}" if isinstance(bound, float) else f"{word} {bound}"
            for word, bound in (
                ("above", meta.gt), ("from", meta.ge), ("to", meta.le)
            )
            if bound is not None
        ]  # fmt: skip
        word = {bool: "true | false", int: "integer", float: "number", str: "text"}[hint]
        return " ".join((word, *bounds))


def keys(section: Struct | None = None, prefix: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every leaf key. Lists appear once, as ``library.roots``."""
    section = Settings() if section is None else section
    for name, hint in hints(type(section)).items():
        _, meta = bare(hint)
        value = getattr(section, name)
        if isinstance(value, Struct):
            yield from keys(value, (*prefix, name))
        else:
            yield Key((*prefix, name), hint, value, meta.description or "")


def table_keys(struct: type[Struct]) -> Iterator[Key]:
    """The keys of one table of a list of tables. Required ones have no default."""
    for field in msgspec.structs.fields(struct):
        hint = hints(struct)[field.name]
        _, meta = bare(hint)
        default = None if field.default is msgspec.NODEFAULT else field.default
        yield Key((field.name,), hint, default, meta.description or "")


def hints(struct: type[Struct]) -> dict[str, Any]:
    """The types of a section's keys, with what annotates them."""
    return get_type_hints(struct, include_extras=True)


def is_of_tables(hint: Any) -> bool:
    """Whether this is a list of tables, rather than of texts."""
    if get_origin(hint) is not tuple:
        return False
    element, _ = bare(get_args(hint)[0])
    return isinstance(element, type) and issubclass(element, Struct)


def bare(hint: Any) -> tuple[Any, Meta]:
    """The type without its annotations, and all of those as one."""
    if get_origin(hint) is not Annotated:
        return hint, Meta()
    plain, *metas = get_args(hint)
    merged: dict[str, Any] = {}
    for meta in metas:
        for name in ("gt", "ge", "le", "description", "examples"):
            if getattr(meta, name) is not None:
                merged[name] = getattr(meta, name)
    return plain, Meta(**merged)

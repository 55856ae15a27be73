"""The table of kinds: kinds.toml, read once and checked, and the lookups in it. Pure.

Owns the file's form: what is not in it (an unknown key, one word in two places, a reference to
nothing) is refused with the line it stands in. Words are compared by ``word_key`` alone.
"""

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, TypeVar

import msgspec

OTHER = "Other"


class BadTable(ValueError):
    """The data file is wrong; the message names the file, the line and what to do."""


class TypeKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A type of model."""

    about: str
    group: str
    name: str = ""
    also: tuple[str, ...] = ()
    folder: dict[str, str] = {}
    pipelines: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


class BaseKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A base model. Without ``family`` it is its own."""

    about: str
    name: str = ""
    family: str = ""
    also: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base models of one architecture; ``base`` stands for them where no more is known.

    ``share``: how often it then is that one.
    """

    about: str
    base: str
    name: str = ""
    share: float = 0.8


class Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model may be about."""

    about: str
    name: str = ""
    tags: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()


class FileKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hub's word for what a file of a model is; ``type`` is the type it has by itself."""

    about: str
    name: str = ""
    type: str = ""
    also: tuple[str, ...] = ()


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program's arrangement of folders; without ``other`` everything lies in the root."""

    about: str
    name: str = ""
    also: tuple[str, ...] = ()
    other: str = ""
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """The whole file, and its words by key."""

    types: Mapping[str, TypeKind]
    bases: Mapping[str, BaseKind]
    families: Mapping[str, Family]
    topics: Mapping[str, Topic]
    file_kinds: Mapping[str, FileKind]
    layouts: Mapping[str, Layout]
    type_words: Mapping[str, str]
    base_words: Mapping[str, str]
    file_kind_words: Mapping[str, str]
    layout_words: Mapping[str, str]
    topic_words: Mapping[str, str]


def word_key(text: str) -> str:
    """How words are compared: letters and digits, without case and width."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in text.lower() if char.isalnum())


# --- reading ------------------------------------------------------------------------------------

_SECTIONS: dict[str, type[Any]] = {
    "layout": Layout,
    "file_kind": FileKind,
    "type": TypeKind,
    "family": Family,
    "base": BaseKind,
    "topic": Topic,
}
_HEADER = re.compile(r'^\[([a-z_]+)\.(?:"([^"]*)"|([^\]]+))\]')

Kind = TypeVar("Kind", TypeKind, BaseKind, Family, Topic, FileKind, Layout)


@cache
def table() -> Table:
    """The table shipped with this package."""
    return read_table((files(__package__) / "kinds.toml").read_text(encoding="utf-8"))


def read_table(text: str, file: str = "kinds.toml") -> Table:
    """The table in a text. Raises BadTable."""
    lines = _lines(text)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise BadTable(f"{file}: {exc}") from exc

    def wrong(section: str, name: str, what: str) -> BadTable:
        return BadTable(f"{file}:{lines.get((section, name), 1)}: [{section}.{name}] {what}")

    for section in data:
        if section not in _SECTIONS:
            raise BadTable(f"{file}: [{section}.…] is no section; known are {', '.join(_SECTIONS)}")
    read: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for section, shape in _SECTIONS.items():
        for name, entry in data.get(section, {}).items():
            try:
                if not isinstance(entry, dict) or "name" in entry:
                    raise msgspec.ValidationError("is named by its header")
                read[section][name] = msgspec.convert({**entry, "name": name}, shape)
            except msgspec.ValidationError as exc:
                raise wrong(section, name, str(exc)) from exc

    def words(section: str, of: Callable[[Any], Iterable[str]]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, entry in read[section].items():
            # the name may be among its own other words; that is no second place
            for word in dict.fromkeys(map(word_key, (name, *of(entry)))):
                if found.setdefault(word, name) != name:
                    raise wrong(
                        section, name, f"has the word {word!r}, which [{section}.{found[word]}] has"
                    )
        return found

    result = Table(
        types=read["type"],
        bases=read["base"],
        families=read["family"],
        topics=read["topic"],
        file_kinds=read["file_kind"],
        layouts=read["layout"],
        type_words=words("type", lambda kind: kind.also),
        base_words=words("base", lambda kind: (*kind.also, *kind.repositories)),
        file_kind_words=words("file_kind", lambda kind: kind.also),
        layout_words=words("layout", lambda kind: kind.also),
        topic_words=words("topic", lambda kind: kind.tags),
    )
    for part in ("pipelines", "libraries", "tags", "classes"):
        _once(read["type"], part, lambda name, what: wrong("type", name, what))
    for part in ("repositories", "begins"):
        _once(read["base"], part, lambda name, what: wrong("base", name, what))
    _check_references(result, wrong)
    return result


def _once(kinds: Mapping[str, Any], part: str, wrong: Callable[[str, str], BadTable]) -> None:
    owner: dict[str, str] = {}
    for name, kind in kinds.items():
        for word in getattr(kind, part):
            if owner.setdefault(word.lower(), name) != name:
                raise wrong(name, f"{part} has {word!r}, which {owner[word.lower()]} has")


def _check_references(read: Table, wrong: Callable[[str, str, str], BadTable]) -> None:
    for name, type_ in read.types.items():
        for layout in type_.folder:
            if layout not in read.layouts:
                raise wrong("type", name, f"folder names the layout {layout!r}, which is none")
    for name, kind in read.file_kinds.items():
        if kind.type and kind.type not in read.types:
            raise wrong("file_kind", name, f"type names {kind.type!r}, which is none")
    for name, base in read.bases.items():
        if base.family and base.family not in read.families and base.family not in read.bases:
            raise wrong("base", name, f"family names {base.family!r}, which is none")
    for name, family in read.families.items():
        if family.base not in read.bases:
            raise wrong("family", name, f"base names {family.base!r}, which is none")


def _lines(text: str) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _HEADER.match(line)
        if match is not None:
            found.setdefault((match[1], match[2] or match[3]), number)
    return found


# --- lookups ------------------------------------------------------------------------------------


def types() -> Sequence[TypeKind]:
    """All types, in the file's order."""
    return tuple(table().types.values())


def bases() -> Sequence[BaseKind]:
    """All base models, in the file's order."""
    return tuple(table().bases.values())


@lru_cache(4_000)
def canonical_type(word: str) -> str:
    """Our name for a type; an unknown word comes back as it is."""
    return table().type_words.get(word_key(word), word)


@lru_cache(20_000)
def canonical_base(word: str) -> str:
    """Our name for a base model; an unknown word comes back as it is."""
    return table().base_words.get(word_key(word), word)


def canonical_layout(name: str) -> str | None:
    """Our name for a layout, or None."""
    return table().layout_words.get(word_key(name))


@lru_cache(4_000)
def family_of(base: str) -> str:
    """The family of a base model; one without, and an unknown one, is its own."""
    name = canonical_base(base)
    kind = table().bases.get(name)
    if kind is None:
        return name
    return kind.family or kind.name


@lru_cache(20_000)
def is_known(kind: str, word: str) -> bool:
    """Whether the table has this word for a ``type``, a ``base`` or a ``file_type``."""
    words = {
        "type": table().type_words,
        "base": table().base_words,
        "file_type": table().file_kind_words,
    }[kind]
    return word_key(word) in words


@lru_cache(4_000)
def own_type(model_type: str, file_kind: str) -> str:
    """The type a file has: its kind's where that says so, else its model's."""
    read = table()
    kind = read.file_kinds.get(read.file_kind_words.get(word_key(file_kind), ""))
    return kind.type if kind is not None and kind.type else canonical_type(model_type)


def folder(layout: str, model_type: str, file_kind: str) -> str:
    """Where such a file belongs below a root of this layout; '' is the root itself.

    An unknown layout is treated as ``flat``; an unknown type goes where the layout puts others.
    """
    read = table()
    arrangement = read.layouts[canonical_layout(layout) or "flat"]
    if not arrangement.other:
        return ""
    kind = read.types.get(own_type(model_type, file_kind))
    return (kind.folder.get(arrangement.name) if kind else None) or arrangement.other

"""The list of kinds as people see it: the table's, and the words hubs used beside it."""

from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from modelkeepd.kinds.seen import seen_words
from modelkeepd.kinds.table import bases, family_of, folder, types, word_key

_LAYOUT = "comfyui"


@dataclass(frozen=True, slots=True)
class ListedKind:
    """One type or base model. ``folder`` is below a root of ComfyUI's layout, None for bases."""

    kind: str
    name: str
    synonyms: tuple[str, ...]
    about: str
    family: str
    folder: str | None
    is_known: bool
    first_seen_ms: int | None


def listed_kinds(db: apsw.Connection, kind: str = "", text: str = "") -> list[ListedKind]:
    """Types and base models, those seen on hubs and unknown to us last.

    ``kind`` is type, base, or empty for both; ``text`` is a part of a name or synonym.
    """
    wanted = word_key(text)
    return [
        each
        for each in (*_known(), *_seen(db))
        if kind in ("", each.kind)
        and (not wanted or any(wanted in word_key(word) for word in (each.name, *each.synonyms)))
    ]


def _known() -> Iterator[ListedKind]:
    for type_ in types():
        place = folder(_LAYOUT, type_.name, "")
        yield ListedKind(
            "type", type_.name, type_.also, type_.about, type_.group, place, True, None
        )
    for base in bases():
        yield ListedKind(
            "base",
            base.name,
            (*base.also, *base.repositories),
            base.about,
            family_of(base.name),
            None,
            True,
            None,
        )


def _seen(db: apsw.Connection) -> Iterator[ListedKind]:
    for seen in seen_words(db):
        if seen.kind == "file_type":
            continue
        place = folder(_LAYOUT, seen.word, "") if seen.kind == "type" else None
        about = f"used by {seen.hub}, not known to this version"
        yield ListedKind(seen.kind, seen.word, (), about, "", place, False, seen.first_seen_ms)

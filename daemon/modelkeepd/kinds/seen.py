"""Words for kinds that hubs use and the table does not have: kept and announced when first seen.

Owns the table ``kind_seen``. ``register`` is a unit for who writes catalog rows: words that the
table knows cost a dictionary's look, so that it may be called for every page. Repository names as
base models (``org/name``) are references, not kinds, and are passed over.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import apsw

from modelkeepd.kinds.table import is_known, word_key

SeenKind = Literal["type", "base", "file_type"]

# when a word was last seen is kept to the day: not a write for each page
_DAY_MS = 86_400_000
_MAX_WORD_CHARS = 200


class Transaction(Protocol):
    """The part of the store's transaction that is needed here."""

    @property
    def db(self) -> apsw.Connection: ...

    @property
    def now_ms(self) -> int: ...

    def emit(self, topic: str, kind: str, subject: str, payload: Mapping[str, object]) -> int: ...


class _File(Protocol):
    @property
    def kind(self) -> str: ...


class _Version(Protocol):
    @property
    def files(self) -> Sequence[_File]: ...


class Worded(Protocol):
    """A model as its hub's document says, in so far as it names kinds."""

    @property
    def type(self) -> str: ...

    @property
    def base_models(self) -> Sequence[str]: ...

    @property
    def versions(self) -> Sequence[_Version]: ...


@dataclass(frozen=True, slots=True)
class SeenWord:
    """A word as a hub writes it. ``hub`` is where."""

    kind: SeenKind
    word: str
    hub: str
    first_seen_ms: int = 0
    last_seen_ms: int = 0


def words_used(hub: str, models: Iterable[Worded]) -> list[SeenWord]:
    """The words for kinds in these models, each once."""
    found: dict[tuple[SeenKind, str], None] = {}
    for model in models:
        found["type", model.type] = None
        for base in model.base_models:
            found["base", base] = None
        for version in model.versions:
            for file in version.files:
                found["file_type", file.kind] = None
    return [SeenWord(kind, word, hub) for kind, word in found]


def register(tx: Transaction, words: Iterable[SeenWord]) -> list[SeenWord]:
    """Keep those of the words that are unknown; one event ``kind.new`` for each new one."""
    new: list[SeenWord] = []
    for seen in dict.fromkeys(words):
        key = word_key(seen.word)
        if not key or is_known(seen.kind, seen.word):
            continue
        if (seen.kind == "base" and "/" in seen.word) or len(seen.word) > _MAX_WORD_CHARS:
            continue
        tx.db.execute(
            "INSERT INTO kind_seen VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT DO NOTHING",
            (seen.kind, seen.hub, key, seen.word, tx.now_ms),
        )
        if tx.db.changes():
            new.append(seen)
            tx.emit("model", "kind.new", seen.word, {"kind": seen.kind, "hub": seen.hub})
        else:
            tx.db.execute(
                "UPDATE kind_seen SET last_seen_ms = ?4"
                " WHERE kind = ?1 AND hub = ?2 AND key = ?3 AND last_seen_ms < ?4 - ?5",
                (seen.kind, seen.hub, key, tx.now_ms, _DAY_MS),
            )
    return new


def adopt(tx: Transaction, kind: SeenKind, word: str, hub: str) -> bool:
    """Take in a value that a hub's list of its own kinds has; True when it was new to us."""
    return bool(register(tx, [SeenWord(kind, word, hub)]))


def seen_words(db: apsw.Connection) -> list[SeenWord]:
    """The unknown words seen so far, the newest first."""
    rows: list[Any] = db.execute(
        "SELECT kind, word, hub, first_seen_ms, last_seen_ms FROM kind_seen"
        " ORDER BY first_seen_ms DESC, kind, word"
    ).fetchall()
    return [SeenWord(*row) for row in rows]

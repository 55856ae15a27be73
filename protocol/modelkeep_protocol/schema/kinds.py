"""Types and base models as data, and guesses for files that say neither."""

from msgspec import Struct

from modelkeep_protocol.schema.common import PathText, ShortText


class ListKinds(Struct, frozen=True):
    """Which words to list; empty texts stand for all."""

    kind: ShortText = ""  # type, base
    text: ShortText = ""  # part of a name or a synonym


class Kind(Struct, frozen=True):
    """One type or base model. ``is_known`` is false for what only a hub has named so far."""

    kind: str
    name: str
    synonyms: list[str]
    about: str
    folder: str | None  # below the library's root, in ComfyUI's layout
    is_known: bool
    first_seen_ms: int | None


class Kinds(Struct, frozen=True):
    """All that match."""

    items: list[Kind]


class PickFile(Struct, frozen=True):
    """A model file on this machine."""

    path: PathText


class KindGuess(Struct, frozen=True):
    """What a file may be: ``confidence`` from 0 to 1, with the reasons."""

    kind: str  # type, base
    name: str
    confidence: float
    reasons: list[str]


class KindGuesses(Struct, frozen=True):
    """The likeliest first."""

    path: str
    items: list[KindGuess]


class ConfirmKind(Struct, frozen=True):
    """What a file really is; later guesses learn from it. Empty texts say nothing."""

    path: PathText
    type: ShortText = ""
    base: ShortText = ""

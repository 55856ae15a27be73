"""Text analysis for search: normal form, words, CJK bigrams, Japanese morphemes.

One function, ``tokens``, makes what is indexed, and one, ``pattern``, makes what is looked for; a
text has a word exactly when the word's pattern occurs in the text's tokens in a row. Nothing here
knows of the index or of queries.

Scripts written without spaces, or with particles glued to the word (Han, kana, bopomofo, Hangul,
Thai, Lao, Burmese, Khmer), are cut into overlapping pairs plus the last character of each run: a
pattern of pairs in a row is then the same as "is a substring". Hangul is among them because Korean
particles follow the noun without a space, so that whole words would miss most uses. Everything
else is words.
"""

import importlib
import re
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

# Longer words are blobs (base64, hashes joined with names); both sides cut them alike.
WORD_MAX_CHARS = 64
# A description beyond this is an attack or a log; its beginning is indexed.
TEXT_MAX_CHARS = 100_000

# Stands between two texts in one field, so that no phrase reaches over; never in a token.
GAP = "\0"

_KANA = "\u3031-\u3035\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
_HAN = "\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HANGUL = "\u1100-\u11ff\uac00-\ud7a3"
_BOPOMOFO = "\u3105-\u312f\u31a0-\u31bf"
_UNSPACED = "\u0e01-\u0e4e\u0e50-\u0eff\u1000-\u109f\u1780-\u17ff"
_PAIRED = _UNSPACED + _KANA + _HAN + _HANGUL + _BOPOMOFO
# vowel signs and points, which are no letters to Python: without them words fall apart
_MARKS = "\u0300-\u036f\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0971-\u0dff"

_TOKEN = re.compile(f"[{_PAIRED}]+|(?:[^\\W_{_PAIRED}]|[{_MARKS}])+")
# every ASCII character but letters and digits becomes a blank: 15 times as fast as a pattern
_ASCII_BLANKS = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_IS_PAIRED = re.compile(f"[{_PAIRED}]")
_FIRST_PAIRED = "\u0e01"
_SURROGATE = re.compile("[\ud800-\udfff]")
_HAS_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d]")  # the last: half-width
_JAPANESE_RUN = re.compile(f"[{_KANA}{_HAN}]+")
_SPACES = re.compile(r"\s+")
_SEPARATORS = re.compile(r"[\s_\-]+")


def normalize(text: str) -> str:
    """The form in which texts are compared: compatibility forms folded, case folded."""
    if text.isascii():
        return text.lower()
    # half of a character, from broken JSON: no encoder takes it
    text = _SURROGATE.sub("\ufffd", text)
    # folding can undo the composition, hence the second round
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


def squeeze(text: str) -> str:
    """``normalize`` with every run of white space as one blank and none at the ends."""
    return _SPACES.sub(" ", normalize(text)).strip()


def loose_key(text: str) -> str:
    """A name without case, blanks, hyphens and underscores: ``SDXL 1.0`` is ``sdxl1.0``."""
    return _SEPARATORS.sub("", normalize(text))


def tag_key(text: str) -> str:
    """A tag without case, words one blank apart: ``Blue_Hair`` is ``blue hair``."""
    return _SEPARATORS.sub(" ", normalize(text)).strip()


def is_paired(character: str) -> bool:
    """Whether this character is of a script that is indexed in pairs."""
    return character >= _FIRST_PAIRED and _IS_PAIRED.match(character) is not None


def tokens(text: str) -> list[str]:
    """The tokens of a text in the order of their positions."""
    text = text[:TEXT_MAX_CHARS]
    if text.isascii():
        return _ascii_words(text).split()
    text = normalize(text)
    result: list[str] = []
    for run in _TOKEN.findall(text):
        if is_paired(run[0]):
            result += map("".join, pairwise(run))
            result.append(run[-1])
        else:
            result.append(run[:WORD_MAX_CHARS])
    return result


def joined_tokens(texts: Sequence[str]) -> str:
    """The tokens of several texts, blanks between, ``GAP`` between two texts.

    The same as ``tokens`` of each, but for the number of blanks.
    """
    return f" {GAP} ".join(
        _ascii_words(text[:TEXT_MAX_CHARS]) if text.isascii() else " ".join(tokens(text))
        for text in texts
    )


def _ascii_words(text: str) -> str:
    words = text.translate(_ASCII_BLANKS)
    if _has_long_word(words):
        return " ".join(word[:WORD_MAX_CHARS] for word in words.split())
    return words


def _has_long_word(words: str) -> bool:
    start = 0
    while start + WORD_MAX_CHARS < len(words):
        blank = words.rfind(" ", start, start + WORD_MAX_CHARS + 1)
        if blank < 0:
            return True
        start = blank + 1
    return False


@dataclass(frozen=True, slots=True)
class Pattern:
    """Tokens that must stand in a row; of the last one only the beginning, with ``prefix``."""

    tokens: tuple[str, ...]
    prefix: bool

    def occurs_in(self, text_tokens: Sequence[str]) -> bool:
        """Whether the tokens of one text contain this pattern."""
        size = len(self.tokens)
        if size == 0:
            return False
        *exact, last = self.tokens
        for end in range(size - 1, len(text_tokens)):
            candidate = text_tokens[end]
            hit = candidate.startswith(last) if self.prefix else candidate == last
            if hit and list(text_tokens[end - size + 1 : end]) == exact:
                return True
        return False


def pattern(text: str, *, prefix: bool = False) -> Pattern:
    """What to look for so as to find ``text``; ``prefix`` leaves its last word open."""
    found = tokens(text)
    if not found or not is_paired(found[-1][0]):
        # a cut word stands for all words with the same beginning
        return Pattern(tuple(found), prefix)
    # The last token is the final character alone, which only a run that ends there has.
    if len(found) >= 2 and len(found[-2]) == 2 and is_paired(found[-2][0]):
        return Pattern(tuple(found[:-1]), prefix=False)
    # A single character: any pair that begins with it, or itself.
    return Pattern(tuple(found), prefix=True)


def has_japanese(text: str) -> bool:
    """Whether the text has kana. Han alone may as well be Chinese."""
    return not text.isascii() and _HAS_KANA.search(text) is not None


def has_kana_or_han(text: str) -> bool:
    """Whether the text may be Japanese: for queries, where one word has no context."""
    return not text.isascii() and _JAPANESE_RUN.search(normalize(text)) is not None


class Morphology:
    """Cuts Japanese into words, each in its dictionary form, for ranking only.

    The dictionary is loaded on first need and the analyzer is used by one thread at a time (its
    lattice is shared state).
    """

    # particles, auxiliaries, symbols, fillers: in every text, so they rank nothing
    _EMPTY_CLASSES = frozenset({"助詞", "助動詞", "記号", "フィラー", "感動詞", "連体詞", "接続詞"})

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tagger: Any = None

    @property
    def is_loaded(self) -> bool:
        """Whether the dictionary has been needed so far."""
        return self._tagger is not None

    def words(self, texts: Iterable[str]) -> list[str]:
        """The content words of the Japanese runs in ``texts``."""
        runs = [
            run
            for text in texts
            if not text.isascii()
            for run in _JAPANESE_RUN.findall(normalize(text[:TEXT_MAX_CHARS]))
        ]
        if not runs:
            return []
        result: list[str] = []
        with self._lock:
            if self._tagger is None:
                self._tagger = self._load()
            # one call for all runs; blanks separate them and are never part of a word
            for word in self._tagger(" ".join(runs)):
                feature = word.feature
                if feature[0] in self._EMPTY_CLASSES:
                    continue
                base = feature[6] if len(feature) > 6 and feature[6] != "*" else word.surface
                # a dictionary form may hold what this analyzer's normal form does not
                result.append(_SPACES.sub("", normalize(base))[:WORD_MAX_CHARS])
        return [word for word in result if word]

    @staticmethod
    def _load() -> Any:
        fugashi = importlib.import_module("fugashi")
        ipadic = importlib.import_module("ipadic")
        return fugashi.GenericTagger(ipadic.MECAB_ARGS)


MORPHOLOGY = Morphology()

"""What modelkeep knows of types of model, base models, kinds of file, layouts and topics.

Owns the data (kinds.toml, supported.toml), the lookups in it, the guesses for files and
repositories that state no type, what is learnt from a user's confirmations, and the tables of words
seen and guesses confirmed. It reads no model file and asks no hub: facts are handed in. Unknown
words are never an error; they come back as they are.
"""

from modelkeepd.kinds.guess import BaseGuess, Guess
from modelkeepd.kinds.huggingface import huggingface_base, huggingface_type
from modelkeepd.kinds.seen import SeenWord, adopt, register, seen_words, words_used
from modelkeepd.kinds.table import (
    bases,
    canonical_base,
    canonical_type,
    family_of,
    folder,
    types,
)
from modelkeepd.kinds.topics import canonical_topic, topics, topics_of

__all__ = [
    "BaseGuess",
    "Guess",
    "SeenWord",
    "adopt",
    "bases",
    "canonical_base",
    "canonical_topic",
    "canonical_type",
    "family_of",
    "folder",
    "huggingface_base",
    "huggingface_type",
    "register",
    "seen_words",
    "topics",
    "topics_of",
    "types",
    "words_used",
]

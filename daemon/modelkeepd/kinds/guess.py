"""The shape of a guess: a word, how sure, and why, in sentences for people."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guess:
    """A type of model. ``confidence`` is 0 (nothing speaks for it) to 1 (certain)."""

    type: str
    confidence: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BaseGuess:
    """A base model, in the same way."""

    base: str
    confidence: float
    reasons: tuple[str, ...]

"""Single pieces of evidence about a file, and how they are weighed together. Pure.

A clue names a type, a base model or a family of base models, how sure it is alone, and why. Clues
for one word add up like independent witnesses; words that contradict each other take from each
other's confidence in proportion to their odds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from modelkeepd.kinds.guess import BaseGuess, Guess
from modelkeepd.kinds.table import family_of, table

About = Literal["type", "base", "family"]

MOST = 0.99
_LEAST = 0.05


@dataclass(frozen=True, slots=True)
class Clue:
    """``weight`` is 0 to 1: how often this clue alone is right."""

    about: About
    word: str
    weight: float
    reason: str


def base_clue(base: str, weight: float, reason: str) -> Clue:
    """A base model named in words: one that stands for its family may be any of the family's."""
    family = family_of(base)
    kind = table().families.get(family)
    if kind is not None and kind.base == base:
        return Clue("family", family, weight, reason)
    return Clue("base", base, weight, reason)


def type_guesses(clues: Iterable[Clue]) -> tuple[Guess, ...]:
    """The types the clues speak for, the likeliest first."""
    by_word = _by_word(clue for clue in clues if clue.about == "type")
    scores = {word: _together(found) for word, found in by_word.items()}
    return tuple(
        Guess(word, confidence, _reasons(by_word[word])) for word, confidence in _ranked(scores)
    )


def base_guesses(clues: Iterable[Clue]) -> tuple[BaseGuess, ...]:
    """The base models the clues speak for, the likeliest first.

    A family that shows in a file is shared out: to members that other clues name, and the rest, as
    far as experience goes, to the member that stands for the family.
    """
    wanted = [clue for clue in clues if clue.about != "type"]
    by_family: dict[str, list[Clue]] = {}
    for clue in wanted:
        family = clue.word if clue.about == "family" else family_of(clue.word)
        by_family.setdefault(family, []).append(clue)
    families = dict(_ranked({name: _together(found) for name, found in by_family.items()}))
    guesses: list[BaseGuess] = []
    for family, confidence in families.items():
        found = by_family[family]
        general = [clue for clue in found if clue.about == "family"]
        members = _by_word(clue for clue in found if clue.about == "base")
        scores = dict(_ranked({word: _together(each) for word, each in members.items()}))
        left = max(0.0, 1.0 - sum(scores.values()))
        kind = table().families.get(family)
        if kind is not None and general:
            scores[kind.base] = scores.get(kind.base, 0.0) + left * kind.share
        elif general:
            scores[family] = scores.get(family, 0.0) + left
        elif scores:
            # only members were named: what speaks for them is in the family's confidence already
            confidence /= _together(found)
        for word, score in scores.items():
            share = round(min(MOST, confidence * score), 3)
            if share >= _LEAST:
                guesses.append(BaseGuess(word, share, _reasons([*members.get(word, ()), *general])))
    return tuple(sorted(guesses, key=lambda guess: (-guess.confidence, guess.base)))


def _by_word(clues: Iterable[Clue]) -> dict[str, list[Clue]]:
    found: dict[str, list[Clue]] = {}
    for clue in clues:
        found.setdefault(clue.word, []).append(clue)
    return found


def _together(clues: Iterable[Clue]) -> float:
    """Independent witnesses: wrong only if all of them are."""
    wrong = 1.0
    for clue in clues:
        wrong *= 1.0 - min(clue.weight, MOST)
    return min(1.0 - wrong, MOST)


def _ranked(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    odds = {word: score / (1.0 - score) for word, score in scores.items()}
    total = sum(odds.values()) or 1.0
    found = [
        (word, round(scores[word] * odds[word] / total, 3)) for word in scores if scores[word] > 0
    ]
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def _reasons(clues: Iterable[Clue]) -> tuple[str, ...]:
    by_weight = sorted(clues, key=lambda clue: -clue.weight)
    return tuple(dict.fromkeys(clue.reason for clue in by_weight))

"""What a user's confirmations teach about other files. Pure.

A small additive model: each confirmation counts, for each feature of its file, one for the word
that was confirmed. Of another file with such a feature the smoothed share of a word is a clue like
any other; features that agree strengthen it, features that meet different words weaken it. Of a
file with the same content a confirmation is the answer.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from modelkeepd.kinds.clues import Clue
from modelkeepd.kinds.facts import FileFacts
from modelkeepd.kinds.guess import BaseGuess, Guess
from modelkeepd.kinds.infer import Inference
from modelkeepd.kinds.table import canonical_base, canonical_type

# how much a feature of this kind says by itself: the form of a file most, its size least
_STRENGTH = {"form": 1.0, "parent": 1.0, "author": 0.8, "folder": 0.8, "word": 0.6, "size": 0.4}
# one confirmation counts 0.6 of its feature's strength, five 0.85, twenty 0.95
_PRIOR, _PRIOR_TOTAL = 0.5, 1.5
_AGREEING = 0.7
# files that share a folder, words and a size may still be of different kinds
_UNLIKE = 0.6
_MAX_FEATURES = 40
_WORD = re.compile(r"[^\W\d_]{3,}")
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A user said of a file what it is; None where nothing was said."""

    fingerprint: bytes
    sha256: bytes | None
    type: str | None
    base: str | None
    features: tuple[str, ...]
    at_ms: int = 0


def features_of(facts: FileFacts) -> tuple[str, ...]:
    """By what another file may resemble this one, as ``kind:value``."""
    found: list[str] = []
    if facts.tensors:
        found.append(f"form:{_form(facts.tensors)}")
    for key in ("ss_sd_model_name", "modelspec.merged_from", "general.base_model.0.name"):
        parent = facts.metadata.get(key) or str(facts.gguf.get(key, ""))
        if parent and parent != "None":
            found.append(f"parent:{parent[:100].lower()}")
    author = facts.metadata.get("modelspec.author") or str(facts.gguf.get("general.author", ""))
    if author:
        found.append(f"author:{author[:100].lower()}")
    if facts.folders:
        found.append(f"folder:{facts.folders[0][:100].lower()}")
    stem = facts.name.rpartition(".")[0] or facts.name
    found += (f"word:{word.lower()[:40]}" for word in _WORD.findall(stem))
    if facts.size_bytes:
        # within some percent
        found.append(f"size:{facts.format}:{round(16 * _log2(facts.size_bytes))}")
    return tuple(dict.fromkeys(found))[:_MAX_FEATURES]


def _form(names: Iterable[str]) -> str:
    """Files of one architecture and flavor have one form, whatever their depth and rank."""
    shapes = sorted({_DIGITS.sub("#", name) for name in names})
    return hashlib.blake2b("\n".join(shapes).encode("utf-8", "replace"), digest_size=8).hexdigest()


def _log2(number: int) -> float:
    exponent = number.bit_length() - 1
    return exponent + (number / (1 << exponent) - 1)


class Learned:
    """What was confirmed so far."""

    def __init__(self, confirmations: Iterable[Confirmation] = ()) -> None:
        self._by_content: dict[bytes, Confirmation] = {}
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        for each in confirmations:
            self._by_content[each.fingerprint] = each
            if each.sha256 is not None:
                self._by_content[each.sha256] = each
            for feature in each.features:
                for about, word in (("type", each.type), ("base", each.base)):
                    if word is not None:
                        self._counts.setdefault((about, feature), Counter())[word] += 1

    def decided(self, *contents: bytes | None) -> Confirmation | None:
        """What was said of exactly this content (its fingerprint or its sha256)."""
        for content in contents:
            if content is not None and content in self._by_content:
                return self._by_content[content]
        return None

    def clues(self, facts: FileFacts) -> Iterator[Clue]:
        """What was said of files like this one."""
        weights: dict[tuple[str, str], list[float]] = {}
        alike: set[tuple[str, str]] = set()
        counts: Counter[tuple[str, str]] = Counter()
        for feature in features_of(facts):
            strength = _STRENGTH[feature.partition(":")[0]]
            for about in ("type", "base"):
                seen = self._counts.get((about, feature))
                if seen is None:
                    continue
                total = seen.total()
                for word, count in seen.items():
                    share = (count + _PRIOR) / (total + _PRIOR_TOTAL)
                    weights.setdefault((about, word), []).append(strength * share)
                    counts[about, word] = max(counts[about, word], count)
                    if strength == 1.0:
                        alike.add((about, word))
        for (about, word), found in weights.items():
            best = max(found)
            weight = 1.0 - (1.0 - best) * _AGREEING ** (len(found) - 1)
            if (about, word) not in alike:
                weight *= _UNLIKE
            times = counts[about, word]
            files = "a file" if times == 1 else f"{times} files"
            yield Clue(
                "type" if about == "type" else "base",
                word,
                min(0.97, weight),
                f"you confirmed {word} for {files} like it",
            )


def with_decision(guesses: Inference, decision: Confirmation | None) -> Inference:
    """The guesses, with what was said of this very content in place of what it replaces."""
    if decision is None:
        return guesses
    reason = ("you confirmed it for this file",)
    if decision.type is not None:
        guesses = replace(guesses, types=(Guess(decision.type, 1.0, reason),))
    if decision.base is not None:
        guesses = replace(guesses, bases=(BaseGuess(decision.base, 1.0, reason),))
    return guesses


def confirmation(
    facts: FileFacts, fingerprint: bytes, type_: str | None, base: str | None
) -> Confirmation:
    """A confirmation in our words, with what other files may share with this one."""
    return Confirmation(
        fingerprint,
        facts.sha256,
        canonical_type(type_) if type_ else None,
        canonical_base(base) if base else None,
        features_of(facts),
    )

"""Who lives in the synthetic catalog: ids, kinds, shares, and what decides who is listed.

Everything is computed from (seed, index), cheaply enough to ask for a million models. The shares
follow what was counted on the real hub. Documents are made in `synthetic.py`.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

# Recorded documents end below these, so that both can be served together.
FIRST_MODEL_ID = 3_000_000
FIRST_VERSION_ID = 10_000_000
VERSIONS_EACH = 200  # version ids reserved for a model
FILES_EACH = 8  # file ids reserved for a version
HOST = "http://hub.invalid"  # stands for the host in URLs until a response is written

_MASK = (1 << 64) - 1
_quantile = statistics.NormalDist().inv_cdf


def mix(value: int) -> int:
    """A 64-bit hash of an integer (the finisher of splitmix64)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def log_normal(median: float, spread: float, share: float) -> float:
    """The value below which `share` of a log-normal distribution lies."""
    return median * math.exp(spread * _quantile(min(max(share, 1e-7), 1 - 1e-7)))


def model_id(index: int) -> int:
    return FIRST_MODEL_ID + 3 * index + mix(index) % 3


def index_of(hub_id: int) -> int:
    return (hub_id - FIRST_MODEL_ID) // 3


def version_id(index: int, number: int) -> int:
    return FIRST_VERSION_ID + index * VERSIONS_EACH + number


# One model of each kind has a fixed place in every catalog of 40 models or more, so that tests
# and demonstrations need not search for it; the rest of the catalog has them by their shares.
SPECIALS: tuple[str, ...] = (
    "null_date", "archived", "taken_down", "gated", "early_access", "downloads_disabled", "poi",
    "minor", "level_zero", "fresh", "wrong_sha256", "size_zero", "duplicate_names", "pickle",
    "zip", "gguf", "no_visible_version", "whole_kilobytes", "many_versions", "no_creator",
    "slash_in_name", "japanese", "chinese", "korean", "russian", "emoji", "soft_variants",
    "unknown_type", "two_mebibytes", "mature_only", "null_stats", "twin_a", "twin_b",
    "reuploaded_a", "reuploaded_b", "numeric_creator", "no_description", "checkpoint",
    "tied_a", "tied_b",
)  # fmt: skip
SPECIALS_LEAST = 40

_TYPES = (
    ("LORA", 914), ("Checkpoint", 33), ("LoCon", 19), ("TextualInversion", 18), ("Workflows", 9),
    ("Hypernetwork", 1), ("Controlnet", 1), ("Upscaler", 1), ("VAE", 1), ("Poses", 1),
    ("Wildcards", 1), ("MotionModule", 1),
)  # fmt: skip
_SPECIAL_TYPES = {
    "pickle": "Checkpoint", "checkpoint": "Checkpoint", "zip": "Poses", "gguf": "Checkpoint",
    "soft_variants": "Checkpoint", "unknown_type": "HoloModule",
}  # fmt: skip
# PG, PG-13 and below, R, mature only, unrated; as the union of the versions' levels.
_LEVELS = [1] * 96 + [3] * 56 + [7] * 40 + [15] * 14 + [31] * 20 + [28] * 22 + [60] * 7 + [0]


def spread(shares: Sequence[tuple[str, int]]) -> list[str]:
    """A table of 1024 names in which each has its share."""
    total, names, ends, at = sum(share for _, share in shares), [], [], 0
    for name, share in shares:
        at += share
        names.append(name)
        ends.append(at)
    return [names[bisect_right(ends, slot * total // 1024)] for slot in range(1024)]


_TYPE_TABLE = spread(_TYPES)


@dataclass(slots=True)
class Traits:
    """What decides whether a model is listed."""

    type: str
    level: int
    minor: bool = False
    poi: bool = False
    mode: str | None = None
    published: bool = True
    versionless: bool = False  # a row of the hub's query that yields no item
    special: str | None = None
    lenient: bool = False  # shown whatever the rules of visibility say


class Population:
    """The models of one seed and count, as numbers."""

    def __init__(self, seed: int, count: int, plain: frozenset[int] = frozenset()) -> None:
        """Models in `plain` are ordinary ones with one version, for others to dress up."""
        self.seed = seed
        self.count = count
        self._plain = plain
        self._salt = mix(seed)
        # A list asks for a model's traits, then for its document, which needs them again.
        self._last_index, self._last_traits = -1, Traits("", 0)
        self.has_specials = count >= SPECIALS_LEAST
        self.creators = max(3, count // 9)
        # Numbers of shared contents: re-uploads draw from a small range, so that some meet.
        self.shared_contents = max(1, count // 60)
        # A run of rows without a visible version: whole pages of the crawl come out empty.
        self.gap = range(count // 2, count // 2 + 230) if count >= 4000 else range(0)

    def hash(self, index: int, salt: int) -> int:
        """64 random bits for one use (`salt`, below 2**20) of one model."""
        return mix(self._salt ^ (index << 20) ^ salt)

    def special(self, index: int) -> str | None:
        if self.has_specials and index < len(SPECIALS) and index not in self._plain:
            return SPECIALS[index]
        return None

    def traits(self, index: int) -> Traits:
        """Shared with the next caller of the same index: copy before changing."""
        if index == self._last_index:
            return self._last_traits
        self._last_index = index
        self._last_traits = traits = self._make_traits(index)
        return traits

    def _make_traits(self, index: int) -> Traits:
        special = self.special(index)
        if special is not None:
            return _special_traits(special)
        if index in self._plain:
            return Traits("LORA", 1)
        bits = self.hash(index, 1)
        traits = Traits(_TYPE_TABLE[bits & 1023], _LEVELS[bits >> 10 & 255])
        if bits >> 18 & 63 == 0:
            traits.minor, traits.level = True, 1
        traits.poi = bits >> 24 & 127 == 0
        rare = bits >> 31 & 511
        if rare < 2:
            traits.mode = "Archived" if rare == 0 else "TakenDown"
        elif rare == 2:
            traits.published = False
        elif rare == 3 or index in self.gap:
            traits.versionless = True
        return traits

    def popularity(self, rank: int) -> tuple[int, int]:
        """(downloads, thumbs up) of the model at a popularity rank; never rises with the rank."""
        share = (rank + 0.5) / max(self.count, rank + 1)
        downloads = int(log_normal(300, 1.55, 1 - share))
        return downloads, downloads // 9

    def version_count(self, index: int) -> int:
        if self.special(index) == "many_versions":
            return 31
        if index in self._plain:
            return 1
        draw = self.hash(index, 2) % 10_000
        if draw < 8_400:
            return 1
        if draw < 9_500:
            return 2
        if draw < 9_915:
            return 3 + draw % 3
        return 6 + draw % 14 if draw < 9_990 else 20 + draw % 30

    def early_access(self, index: int, number: int) -> bool:
        special = self.special(index)
        if special is not None:
            return special == "early_access"
        return number > 0 and index % 89 == 0

    def access(self, index: int, number: int) -> str:
        """Who may download a version: open, login, early_access or disabled."""
        if self.early_access(index, number):
            return "early_access"
        special = self.special(index)
        if special is not None:
            return {"gated": "login", "downloads_disabled": "disabled"}.get(special, "open")
        draw = self.hash(index, 0x8000 + number) % 200
        return "login" if draw < 6 else "disabled" if draw == 6 else "open"


def _special_traits(special: str) -> Traits:
    traits = Traits(_SPECIAL_TYPES.get(special, "LORA"), 1, special=special)
    match special:
        case "archived":
            traits.mode = "Archived"
        case "taken_down":
            traits.mode = "TakenDown"
        case "poi":
            traits.poi = True
        case "minor":
            traits.minor = True
        case "level_zero":
            traits.level = 0
        case "mature_only":
            traits.level = 28
        case "no_visible_version":
            traits.versionless = True
    return traits

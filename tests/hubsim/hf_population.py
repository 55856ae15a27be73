"""Who lives in the synthetic Hugging Face catalog: ids, dates, counters, kinds, shares.

Everything is computed from (seed, index), cheaply enough to list a million repositories. Creation
dates never fall with the index, and an `_id` begins with its creation date, as the real ones do:
so the order of `_id` is the order of the index. What a repository is called and holds is made in
`hf_repos.py` and `hf_files.py`.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass, field

from tests.hubsim.population import log_normal, mix, spread

BIRTH_S = 1_788_220_800  # 2026-09-01, the newest date before any change
SENTINEL_S = 1_646_263_744  # 2022-03-02T23:29:04: "before anybody wrote it down"
_FIRST_S = SENTINEL_S + 86_400
_FIRST_EDIT_S = 1_583_020_800  # 2020-03-01: repositories are older than the record of their birth
_LATE_S = BIRTH_S - 300 * 86_400
_BLOCK = 64
_MACHINE = "36468d70ff"  # the middle of every synthetic _id

# One repository of each kind has a fixed place in every catalog of 80 or more, so that tests and
# demonstrations need not search. The first ones are as old as the record of births goes back.
_OLD = ("one_part", "tied_a", "tied_b", "pickle")
_YOUNG = (
    "gated_auto", "gated_manual", "renamed", "disabled", "private", "diffusers", "single_file",
    "lora", "gguf", "sharded", "transformers", "peft", "bare", "no_card", "no_pipeline_tag",
    "japanese", "chinese", "many_files", "large_card", "card_lists", "empty_file", "odd_paths",
    "float_trending", "twin_a", "twin_b", "unsafe", "unscanned", "pull_request", "tagged",
    "merge", "mixed_case", "no_safetensors_block", "text_in_lfs",
)  # fmt: skip
SPECIALS = _OLD + _YOUNG
SPECIALS_LEAST = 80

_KINDS = (
    ("transformers", 26), ("lora", 16), ("gguf", 15), ("pickle", 13), ("peft", 9),
    ("diffusers", 6), ("single_file", 5), ("bare", 6), ("other", 4),
)  # fmt: skip
_KIND_TABLE = spread(_KINDS)
_SPECIAL_KINDS = {
    "one_part": "pickle", "tied_a": "pickle", "tied_b": "transformers", "pickle": "pickle",
    "gated_auto": "single_file", "gated_manual": "transformers", "diffusers": "diffusers",
    "single_file": "single_file", "gguf": "gguf", "sharded": "transformers", "peft": "peft",
    "transformers": "transformers", "bare": "bare", "no_card": "single_file",
    "no_pipeline_tag": "other", "many_files": "other", "unsafe": "pickle", "unscanned": "pickle",
    "merge": "transformers", "no_safetensors_block": "diffusers", "card_lists": "transformers",
}  # fmt: skip


@dataclass(slots=True)
class Repo:
    """One repository as it stands: what lists show of it, and what the rest is made from."""

    key: str  # _id
    name: str  # org/name
    index: int  # -1: recorded
    created_ms: int
    modified_ms: int
    downloads: int
    likes: int
    kind: str = "other"
    special: str | None = None
    trending: float | None = None
    gated: bool | str = False
    disabled: bool = False
    gone: str | None = None  # "removed", "private": nobody is shown anything of it
    library: str | None = None
    pipeline_tag: str | None = None
    license: str | None = None
    languages: tuple[str, ...] = ()
    base_model: str | None = None
    relation: str = "finetune"
    family: str = ""
    topics: tuple[str, ...] = ()
    tags: list[str] = field(default_factory=list)
    commits: int = 1
    sha: str = ""

    @property
    def author(self) -> str | None:
        author, slash, _ = self.name.rpartition("/")
        return author if slash else None


@functools.cache
def _counter_table(median: float, width: float) -> list[int]:
    return [int(log_normal(median, width, (slot + 0.5) / 16384)) for slot in range(16384)]


class Population:
    """The repositories of one seed and count, as numbers."""

    def __init__(self, seed: int, count: int, plain: frozenset[int] = frozenset()) -> None:
        """Those in `plain` are single files, for others to dress up."""
        self.seed = seed
        self.count = count
        self._plain = plain
        self._salt = mix(seed ^ 0x4846)
        self.has_specials = count >= SPECIALS_LEAST
        self.old_count = max(len(_OLD) * 3 // 2, count // 33) if self.has_specials else 0
        self._first_old_count = self.old_count * 2 // 3
        self.authors = max(3, count // 6)
        self._step = max(1, (BIRTH_S - _FIRST_S) // max(1, count - self.old_count + _BLOCK))
        self._old_step = max(1, (_FIRST_S - _FIRST_EDIT_S) // max(1, self.old_count))
        # A share of what is older than a year was edited again in the last one.
        oldest_share = max(0, _LATE_S - _FIRST_S) // self._step
        self.late_limit = min(count, self.old_count + oldest_share) if count >= 64 else 0
        self.late_count = len(range(3, self.late_limit, 8))
        self._late_scale = self._coprime(self.late_count)
        self._late_unscale = pow(self._late_scale, -1, self.late_count or 1)
        self._late_step = max(1, (BIRTH_S - _LATE_S) // max(1, self.late_count))

    @staticmethod
    def _coprime(count: int) -> int:
        scale = max(1, int(count * 0.6180339887))
        while math.gcd(scale, max(count, 1)) != 1:
            scale += 1
        return scale

    def hash(self, index: int, salt: int) -> int:
        """64 random bits for one use (`salt`, below 2**20) of one repository."""
        return mix(self._salt ^ (index << 20) ^ salt)

    # -- ids ---------------------------------------------------------------------------------------

    @staticmethod
    def key_at(created_s: int, index: int) -> str:
        return f"{created_s:08x}{_MACHINE}{index:06x}"

    def key(self, index: int) -> str:
        return self.key_at(self.created_s(index), index)

    def index_of(self, key: str) -> int | None:
        """The index in a key of this catalog's form, whether or not there is such a repository."""
        if len(key) != 24 or key[8:18] != _MACHINE:
            return None
        try:
            return int(key[18:], 16)
        except ValueError:
            return None

    def special(self, index: int) -> str | None:
        if not self.has_specials or index in self._plain:
            return None
        if index < len(_OLD):
            return _OLD[index]
        young = index - self.old_count
        return _YOUNG[young] if 0 <= young < len(_YOUNG) else None

    def special_index(self, name: str) -> int:
        return _OLD.index(name) if name in _OLD else self.old_count + _YOUNG.index(name)

    @property
    def first_ordinary(self) -> int:
        return self.old_count + len(_YOUNG) if self.has_specials else 0

    def kind(self, index: int, special: str | None) -> str:
        if index in self._plain:
            return "single_file"
        if special is not None:
            return _SPECIAL_KINDS.get(special, "lora")
        kind = _KIND_TABLE[self.hash(index, 1) & 1023]
        # Nothing of before 2022 is an adapter or quantized for a desktop.
        return "pickle" if index < self.old_count and kind != "transformers" else kind

    # -- dates -------------------------------------------------------------------------------------

    def _slot_s(self, position: int) -> int:
        """The moment of a place in the history: every place has its own stretch of time."""
        bits = mix(position ^ self.seed << 20)
        if position < self.old_count:
            return _FIRST_EDIT_S + position * self._old_step + bits % self._old_step
        return _FIRST_S + (position - self.old_count) * self._step + bits % self._step

    def _tied(self, index: int) -> bool:
        """Whether this index and its neighbor were created in the same second."""
        even = index & ~1
        if even < self.old_count or even + 1 >= self.count:
            return False
        return mix(even >> 1 ^ self.seed << 7) % 23 == 0

    def created_s(self, index: int) -> int:
        if index < self._first_old_count:
            return SENTINEL_S
        if index < self.old_count:
            return SENTINEL_S + 1
        return self._slot_s(index & ~1 if self._tied(index) else index)

    def created_at(self, rank: int) -> int:
        """The index at a rank of the newest first; equal dates in the order of their _id."""
        young = self.count - self.old_count
        if rank >= young + self.old_count - self._first_old_count:
            return rank - (young + self.old_count - self._first_old_count)
        if rank >= young:
            return self._first_old_count + rank - young
        index = self.count - 1 - rank
        return index ^ 1 if self._tied(index) else index

    def is_late(self, index: int) -> bool:
        return index < self.late_limit and index & 7 == 3

    def _shuffled(self, position: int) -> int:
        """Swap positions inside blocks: edits follow births, but not strictly. Self-inverse."""
        block = position // _BLOCK
        inside = self.old_count <= block * _BLOCK and (block + 1) * _BLOCK <= self.count
        if not inside:
            return position
        return block * _BLOCK + ((position % _BLOCK) ^ (mix(block ^ self.seed << 3) & 63))

    def modified_s(self, index: int) -> int:
        if self.is_late(index):
            rank = (index >> 3) * self._late_scale % self.late_count
            return self._late_slot_s(rank)
        position = self._shuffled(index)
        # A block later than anything in the block was born.
        return self._slot_s(position if position < self.old_count else position + _BLOCK)

    def modified_at(self, rank: int) -> int:
        """The index at a rank of the last edited first, the late ones left where they were."""
        return self._shuffled(self.count - 1 - rank)

    def place_s(self, rank: int) -> int:
        """The moment that rank stands for; that of its repository, unless it is a late one."""
        position = self.count - 1 - rank
        return self._slot_s(position if position < self.old_count else position + _BLOCK)

    def _late_slot_s(self, rank: int) -> int:
        low = BIRTH_S - (rank + 1) * self._late_step
        return low + mix(rank ^ self.seed << 11) % self._late_step

    def late_at(self, rank: int) -> tuple[int, int]:
        """(moment, index) at a rank of the late ones, the last edited first."""
        index = (self._late_unscale * rank % self.late_count) * 8 + 3
        return self._late_slot_s(rank), index

    # -- counters and access -----------------------------------------------------------------------

    def downloads(self, index: int) -> int:
        bits = self.hash(index, 2)
        value = _counter_table(9.0, 2.4)[bits & 16383]
        return value + value * (bits >> 14 & 255) // 1024

    def likes(self, index: int) -> int:
        bits = self.hash(index, 3)
        return _counter_table(0.4, 1.9)[bits & 16383]

    def trending(self, index: int) -> int | None:
        bits = self.hash(index, 4)
        return 1 + (bits >> 8 & 1023) ** 2 // 9000 if bits & 63 == 0 else None

    def gated(self, index: int, special: str | None) -> bool | str:
        if special is not None:
            return {"gated_auto": "auto", "gated_manual": "manual"}.get(special, False)
        draw = self.hash(index, 5) % 200
        return "auto" if draw < 3 else "manual" if draw < 5 else False

    def commits(self, index: int) -> int:
        return 2 + self.hash(index, 6) % 4

    def sha(self, key: str, number: int | str) -> str:
        """The commit of that number: 40 hex digits, and every repository has its own."""
        text = f"{self.seed}/{key}/{number}".encode()
        return hashlib.sha1(text, usedforsecurity=False).hexdigest()

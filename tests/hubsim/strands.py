"""Ordered runs of models that are merged into the hub's lists.

A strand can start anywhere in any order without walking there: the synthetic one computes ids and
dates from ranks, the others are sorted lists. Keys of all strands compare with each other.

Newest and Oldest: (date, id); no date sorts last. Popularity orders: (first count, second count,
-strand, -position), because the real tie-break by id cannot be computed from a rank, and a total
order that never changes is all a crawl can tell.
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.hubsim.population import Population, index_of, mix, model_id

_FIRST_MS = 1_668_556_800_000  # 2022-11-16, the first models
_BLOCK = 64
NO_DATE_MS = 1 << 50  # how a missing date sorts when the oldest come first

Key = tuple[int, ...]


class Order(enum.Enum):
    NEWEST = "newest"
    OLDEST = "oldest"
    RATED = "rated"  # thumbs up, downloads
    DOWNLOADED = "downloaded"  # downloads, thumbs up


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a list starts: at the first row not before `key`, or after it when exclusive."""

    key: Key
    inclusive: bool


def popularity_pair(order: Order, downloads: int, thumbs: int) -> tuple[int, int]:
    return (downloads, thumbs) if order is Order.DOWNLOADED else (thumbs, downloads)


def _first_rank(count: int, before: Callable[[int], bool]) -> int:
    """The first rank in range(count) that `before` is false of; `before` never turns back."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if before(middle):
            low = middle + 1
        else:
            high = middle
    return low


class SyntheticStrand:
    """All synthetic models the hub started with, less those in `skip` (they moved elsewhere)."""

    def __init__(self, population: Population, birth_ms: int) -> None:
        self.skip: set[int] = set()
        self._population = population
        self._seed = population.seed
        self._count = count = population.count
        self._birth_ms = birth_ms
        self._step = max(2, (birth_ms - _FIRST_MS) // max(count, 1))
        # An affine map with a step near the golden section scatters popularity over the ids.
        self._scale = max(1, int(count * 0.6180339887))
        while math.gcd(self._scale, max(count, 1)) != 1:
            self._scale += 1
        self._shift = mix(self._seed) % max(count, 1)
        self._unscale = pow(self._scale, -1, count) if count > 1 else 0

    # -- by date: ranks from the newest on -------------------------------------------------------

    def _shuffled(self, position: int) -> int:
        """Swap positions inside blocks: dates follow ids, but not strictly. Its own inverse."""
        block = position // _BLOCK
        if (block + 1) * _BLOCK > self._count:
            return position
        return block * _BLOCK + ((position % _BLOCK) ^ (mix(block ^ self._seed) & 63))

    def _tied(self, rank: int) -> bool:
        """Whether ranks 2k and 2k+1 share one date (published in one go by a schedule)."""
        return mix(rank >> 1 ^ self._seed << 7) % 37 == 0 and (rank | 1) < self._count

    def _at(self, rank: int) -> Key:
        """(date, index) at a rank."""
        index = self._shuffled(self._count - 1 - rank)
        if not self._tied(rank):
            return self._slot(rank), index
        other = self._shuffled(self._count - 1 - (rank ^ 1))
        # Ties are listed with the higher id first.
        return self._slot(rank | 1), other if (rank & 1 == 0) == (index < other) else index

    def _slot(self, rank: int) -> int:
        """The date a rank has by itself: every rank has its own stretch of time."""
        low = self._birth_ms - (rank + 1) * self._step
        bits = mix(rank ^ self._seed << 20)
        if bits & 7 == 0 and self._step > 2000:
            return low + -low % 1000  # scheduled: on the full second
        return low + bits % self._step

    def date_of(self, index: int) -> int:
        rank = self._count - 1 - self._shuffled(index)
        return self._slot(rank | 1 if self._tied(rank) else rank)

    def _date_key(self, rank: int) -> Key:
        date_ms, index = self._at(rank)
        return date_ms, model_id(index)

    # -- by popularity ---------------------------------------------------------------------------

    def popularity_rank(self, index: int) -> int:
        return (self._scale * index + self._shift) % self._count

    def popularity_key(self, order: Order, hub_id: int) -> Key | None:
        index = index_of(hub_id)
        if not 0 <= index < self._count:
            return None
        return self._popular(order, self.popularity_rank(index))

    def _popular(self, order: Order, rank: int) -> Key:
        return (*popularity_pair(order, *self._population.popularity(rank)), 0, -rank)

    def rows(self, order: Order, bound: Bound | None) -> Iterator[tuple[Key, int]]:
        if order in (Order.RATED, Order.DOWNLOADED):
            start = 0
            if bound:
                start = _first_rank(
                    self._count, lambda rank: self._popular(order, rank) > bound.key
                )
            for rank in range(start, self._count):
                index = self._unscale * (rank - self._shift) % self._count
                yield self._popular(order, rank), model_id(index)
            return
        if order is Order.NEWEST:
            start = 0
            if bound and bound.inclusive:
                start = _first_rank(self._count, lambda rank: self._date_key(rank) > bound.key)
            elif bound:
                start = _first_rank(self._count, lambda rank: self._date_key(rank) >= bound.key)
            ranks = range(start, self._count)
        else:
            last = self._count
            if bound:
                last = _first_rank(self._count, lambda rank: self._date_key(rank) >= bound.key)
            ranks = range(last - 1, -1, -1)
        for rank in ranks:
            date_ms, index = self._at(rank)
            if index not in self.skip:
                hub_id = model_id(index)
                yield (date_ms, hub_id), hub_id


class ListStrand:
    """A few models in sorted lists. `number` is the strand's place among equals."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._dated: list[tuple[Key, int]] = []
        self._popular: dict[int, tuple[int, int]] = {}  # id -> thumbs, downloads

    def place(self, order: Order, key: Key, hub_id: int) -> None:
        """Put a model in: NEWEST with its (date, id), RATED with its (thumbs, downloads)."""
        if order is Order.NEWEST:
            self._dated = [row for row in self._dated if row[1] != hub_id]
            insort(self._dated, (key, hub_id))
        else:
            self._popular[hub_id] = (key[0], key[1])

    def clear(self) -> None:
        self._dated.clear()
        self._popular.clear()

    def popularity_key(self, order: Order, hub_id: int) -> Key | None:
        counts = self._popular.get(hub_id)
        if counts is None:
            return None
        thumbs, downloads = counts
        return (*popularity_pair(order, downloads, thumbs), -self._number, hub_id)

    def rows(self, order: Order, bound: Bound | None) -> Iterator[tuple[Key, int]]:
        if order is Order.NEWEST:
            stop = len(self._dated)
            if bound:
                find = bisect_right if bound.inclusive else bisect_left
                stop = find(self._dated, bound.key, key=lambda row: row[0])
            yield from self._dated[:stop][::-1]
            return
        if order is Order.OLDEST:
            for key in sorted((NO_DATE_MS if k[0] < 0 else k[0], k[1]) for k, _ in self._dated):
                if bound is None or key >= bound.key:
                    yield key, key[1]
            return
        keyed = [(self.popularity_key(order, hub_id) or (), hub_id) for hub_id in self._popular]
        for pair in sorted(keyed, reverse=True):
            if bound is None or pair[0] <= bound.key:
                yield pair

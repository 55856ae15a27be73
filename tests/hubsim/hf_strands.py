"""The orders of the Hugging Face list: key descending, `_id` ascending, no key last.

A row's place is a tuple that sorts upwards: (0 or 1 without a key, minus the key, _id). The
synthetic repositories are found at any place by computing; orders of counters are sorted once,
when first asked for. What was changed or recorded stands in short lists of its own.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Set
from typing import Protocol

from tests.hubsim.hf_population import Population, Repo

Place = tuple[int, float, str]
SORTS = ("createdAt", "downloads", "lastModified", "likes", "trendingScore")
_INDEX_BITS = 24


def place_of(sort: str, repo: Repo) -> Place:
    value: float | None
    match sort:
        case "createdAt":
            value = repo.created_ms
        case "lastModified":
            value = repo.modified_ms
        case "downloads":
            value = repo.downloads
        case "likes":
            value = repo.likes
        case _:
            value = repo.trending
    return (1, 0, repo.key) if value is None else (0, -value, repo.key)


class Strand(Protocol):
    def rows(self, sort: str, after: Place | None, skip: Set[str]) -> Iterator[tuple[Place, str]]:
        """(place, _id) of the rows behind a place, in order, without those in `skip`."""
        ...


def _first_behind(count: int, place: Callable[[int], Place], after: Place | None) -> int:
    """The first rank whose place is behind `after`."""
    low, high = 0, count if after is not None else 0
    while low < high:
        middle = (low + high) // 2
        if after is not None and place(middle) <= after:
            low = middle + 1
        else:
            high = middle
    return low


class SyntheticStrand:
    """The repositories of a population."""

    def __init__(self, population: Population) -> None:
        self._population = population
        self._counters: dict[str, array[int]] = {}

    def rows(self, sort: str, after: Place | None, skip: Set[str]) -> Iterator[tuple[Place, str]]:
        found: Iterator[Place]
        if sort == "lastModified":
            runs = [self._steady(after), self._late(after)]
            found = iter(heapq.merge(*runs))
        elif sort == "createdAt":
            count = self._population.count
            found = self._walk(count, self._created, after)
        else:
            found = self._counted(sort, after)
        for place in found:
            if place[2] not in skip:
                yield place, place[2]

    @staticmethod
    def _walk(count: int, place: Callable[[int], Place], after: Place | None) -> Iterator[Place]:
        for rank in range(_first_behind(count, place, after), count):
            yield place(rank)

    def _created(self, rank: int) -> Place:
        index = self._population.created_at(rank)
        created_s = self._population.created_s(index)
        return 0, -created_s * 1000, self._population.key_at(created_s, index)

    def _edited(self, rank: int) -> Place:
        population = self._population
        key = population.key(population.modified_at(rank))
        return 0, -population.place_s(rank) * 1000, key

    def _steady(self, after: Place | None) -> Iterator[Place]:
        population = self._population
        start = _first_behind(population.count, self._edited, after)
        for rank in range(start, population.count):
            if not population.is_late(population.modified_at(rank)):
                yield self._edited(rank)

    def _edited_late(self, rank: int) -> Place:
        moment_s, index = self._population.late_at(rank)
        return 0, -moment_s * 1000, self._population.key(index)

    def _late(self, after: Place | None) -> Iterator[Place]:
        return self._walk(self._population.late_count, self._edited_late, after)

    # -- counters ----------------------------------------------------------------------------------

    def _counted(self, sort: str, after: Place | None) -> Iterator[Place]:
        """A walk through a sorted table: a key in the high bits, the index in the low ones."""
        population = self._population
        table = self._counters.get(sort)
        if table is None:
            value = getattr(population, "trending" if sort == "trendingScore" else sort)
            values = ((value(index), index) for index in range(population.count))
            table = self._counters[sort] = array(
                "q", sorted((_table_key(number, index) for number, index in values))
            )

        def place(rank: int) -> Place:
            assert table is not None
            negative, index = table[rank] >> _INDEX_BITS, table[rank] & ((1 << _INDEX_BITS) - 1)
            key = population.key(index)
            return (1, 0, key) if negative == 1 else (0, negative, key)

        return self._walk(population.count, place, after)


def _table_key(value: int | None, index: int) -> int:
    # No key sorts behind 0, the largest of the negated ones.
    return (1 if value is None else -value) << _INDEX_BITS | index


class ListStrand:
    """A few repositories, sorted when they are asked for after a change."""

    def __init__(self, repos: Callable[[], Iterator[Repo]]) -> None:
        self._repos = repos
        self._sorted: dict[str, list[Place]] = {}

    def changed(self) -> None:
        self._sorted.clear()

    def rows(self, sort: str, after: Place | None, skip: Set[str]) -> Iterator[tuple[Place, str]]:
        places = self._sorted.get(sort)
        if places is None:
            places = self._sorted[sort] = sorted(place_of(sort, repo) for repo in self._repos())
        start = 0 if after is None else bisect_right(places, after)
        # A list that was changed under a walk goes on where the walk stood.
        at = start
        while at < len(places):
            place = places[at]
            if place[2] not in skip:
                yield place, place[2]
            at += 1

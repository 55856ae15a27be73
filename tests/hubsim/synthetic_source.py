"""The synthetic models as a source of the catalog: where each stands, and which came later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.hubsim.bytes import Contents
from tests.hubsim.population import (
    FILES_EACH,
    FIRST_VERSION_ID,
    SPECIALS,
    VERSIONS_EACH,
    Json,
    Population,
    Traits,
    index_of,
    model_id,
)
from tests.hubsim.strands import ListStrand, Order, SyntheticStrand
from tests.hubsim.synthetic import Synthesizer
from tests.hubsim.synthetic_files import SimFile

BIRTH_MS = 1_788_220_800_000  # 2026-09-01, the newest date before any change
_TIE_MS = BIRTH_MS - 40 * 86_400_000
_LAST_RANK = 1 << 40


class SyntheticSource:
    verbatim = False

    def __init__(
        self, count: int, seed: int, contents: Contents, large_files: Sequence[int] = ()
    ) -> None:
        # index -> size: the newest models are the large files.
        self._large = {count - 1 - place: size for place, size in enumerate(large_files)}
        self.population = Population(seed, count, frozenset(self._large))
        self._make = Synthesizer(self.population, contents)
        self._contents = contents
        self._base = SyntheticStrand(self.population, BIRTH_MS)
        self._moved = ListStrand(1)
        self._added = ListStrand(2)
        self._dates: dict[int, int | None] = {}  # index -> newest date, where it is not the base's
        self._later: dict[int, list[int]] = {}  # index -> dates of versions that came later
        self._added_count = 0
        self._last_id = -1
        if self.population.has_specials:
            self._move(SPECIALS.index("null_date"), None)
            self._move(SPECIALS.index("tied_a"), _TIE_MS)
            self._move(SPECIALS.index("tied_b"), _TIE_MS)

    # -- changes -----------------------------------------------------------------------------------

    def _move(self, index: int, date_ms: int | None) -> None:
        hub_id = model_id(index)
        self._base.skip.add(index)
        self._moved.place(Order.NEWEST, (-1 if date_ms is None else date_ms, hub_id), hub_id)
        self._dates[index] = date_ms

    def add(self, date_ms: int) -> int:
        """One more model; its id is higher than all others."""
        index = self.population.count + self._added_count
        self._added_count += 1
        self._move(index, date_ms)
        self._added.place(Order.RATED, (0, 0), model_id(index))
        return model_id(index)

    def add_version(self, hub_id: int, date_ms: int) -> None:
        index = index_of(hub_id)
        later = self._later.setdefault(index, [])
        if self.population.version_count(index) + len(later) >= VERSIONS_EACH:
            raise ValueError(f"model {hub_id} has all the versions it can have")
        later.append(date_ms)
        self._move(index, date_ms)

    # -- the Source contract -----------------------------------------------------------------------

    def has(self, hub_id: int) -> bool:
        if hub_id == self._last_id:
            return True
        index = index_of(hub_id)
        known = 0 <= index < self.population.count + self._added_count
        if known and model_id(index) == hub_id:
            self._last_id = hub_id
            return True
        return False

    def ids(self) -> Iterator[int]:
        return map(model_id, range(self.population.count + self._added_count))

    def large_ids(self) -> list[int]:
        return [model_id(index) for index in self._large]

    def traits(self, hub_id: int) -> Traits:
        return self.population.traits(index_of(hub_id))

    def document(self, hub_id: int) -> Json:
        index = index_of(hub_id)
        later = self._later.get(index, ())
        ours = index < self.population.count
        if index in self._dates and not (later and ours):
            date = self._dates[index]
            later = later if ours else ()
        else:
            date = self._base.date_of(index)
        rank = self._base.popularity_rank(index) if ours else _LAST_RANK
        document = self._make.document(index, date, rank, later)
        if index in self._large:
            self._make_large(document, index)
        return document

    def _make_large(self, document: Json, index: int) -> None:
        size_bytes = self._large[index]
        document["name"] = f"Large file {size_bytes} bytes"
        version = document["modelVersions"][0]
        file = version["files"][0]
        version["files"] = [file]
        facts = self._contents.describe(Contents.large_key(size_bytes, index))
        file |= {"name": f"large_{size_bytes}.safetensors", "sizeKB": facts.size_bytes / 1024}
        file["hashes"] = facts.hashes()

    def _place(self, version: int) -> tuple[int, int] | None:
        """(index, number) of a version that exists."""
        index, number = divmod(version - FIRST_VERSION_ID, VERSIONS_EACH)
        if not 0 <= index < self.population.count + self._added_count:
            return None
        count = self.population.version_count(index) + len(self._later.get(index, ()))
        return (index, number) if number < count else None

    def owner(self, version: int) -> int | None:
        place = self._place(version)
        return None if place is None else model_id(place[0])

    def files(self, version: int) -> list[SimFile]:
        """The contents of a version's files. Their names are the document's business."""
        place = self._place(version)
        if place is None:
            return []
        index, number = place
        if index in self._large:
            key = Contents.large_key(self._large[index], index)
            return [SimFile(version * FILES_EACH, version, "", "Model", {}, key)]
        traits = self.population.traits(index)
        return self._make.files.of_version(traits, index, number, "")

    def version_of_file(self, file_id: int) -> int | None:
        version = file_id // FILES_EACH
        return version if self._place(version) else None

    def access(self, version: int) -> str:
        place = self._place(version)
        if place is None or place[0] in self._large:
            return "open"
        return self.population.access(*place)

    def strands(self) -> Sequence[ListStrand | SyntheticStrand]:
        return (self._base, self._moved, self._added)

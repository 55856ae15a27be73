"""The simulated hub's catalog: every model, in every order the hub can list, and its changes.

Joins sources (the synthetic models, recorded documents) into one ordered whole and lays changes
over them: additions, edits, new versions, removals. Orders are computed, not stored, so that a
catalog of a million models starts at once. What a request may see of it is the dialect's business.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.hubsim.bytes import Contents
from tests.hubsim.strands import Bound, ListStrand, Order, SyntheticStrand, popularity_pair
from tests.hubsim.synthetic import (
    FILES_EACH,
    FIRST_VERSION_ID,
    HOST,
    SPECIALS,
    VERSIONS_EACH,
    Json,
    SimFile,
    Synthesizer,
    Traits,
    index_of,
    model_id,
)

BIRTH_MS = 1_788_220_800_000  # 2026-09-01, the newest date before any change
_LARGE_VERSION_ID = 5_000_000


class Source(Protocol):
    """Models of one origin. `verbatim` documents are served as they are, in every view."""

    verbatim: bool

    def has(self, hub_id: int) -> bool: ...
    def ids(self) -> Iterator[int]: ...
    def traits(self, hub_id: int) -> Traits: ...
    def document(self, hub_id: int) -> Json: ...
    def owner(self, version_id: int) -> int | None: ...
    def files(self, version_id: int) -> list[SimFile]: ...
    def access(self, version_id: int) -> str: ...
    def strands(self) -> Sequence[ListStrand | SyntheticStrand]: ...


class SyntheticSource:
    verbatim = False

    def __init__(
        self, count: int, seed: int, contents: Contents, large_files: Sequence[int]
    ) -> None:
        self.count = count
        self.make = Synthesizer(seed, count, contents)
        self.base = SyntheticStrand(self.make, count, BIRTH_MS)
        self.moved = ListStrand(1)
        self.added = ListStrand(2)
        self.last_date: dict[int, int | None] = {}
        self.later_versions: dict[int, list[int]] = {}
        self.added_count = 0
        self._contents = contents
        self._large = tuple(large_files)
        if self.make.has_specials:
            self._move(SPECIALS.index("null_date"), None)

    def _move(self, index: int, date_ms: int | None) -> None:
        hub_id = model_id(index)
        self.base.skip.add(index)
        self.moved.place(Order.NEWEST, (-1 if date_ms is None else date_ms, hub_id), hub_id)
        self.last_date[index] = date_ms

    def add(self, date_ms: int) -> int:
        index = self.count + self.added_count
        self.added_count += 1
        hub_id = model_id(index)
        self.moved.place(Order.NEWEST, (date_ms, hub_id), hub_id)
        self.added.place(Order.RATED, (0, 0), hub_id)
        self.last_date[index] = date_ms
        return hub_id

    def add_version(self, hub_id: int, date_ms: int) -> int:
        index = index_of(hub_id)
        self.later_versions.setdefault(index, []).append(date_ms)
        self._move(index, date_ms)
        number = self.make.version_count(index) + len(self.later_versions[index]) - 1
        return FIRST_VERSION_ID + index * VERSIONS_EACH + number

    def has(self, hub_id: int) -> bool:
        index = index_of(hub_id)
        return 0 <= index < self.count + self.added_count and model_id(index) == hub_id

    def ids(self) -> Iterator[int]:
        return map(model_id, range(self.count + self.added_count))

    def traits(self, hub_id: int) -> Traits:
        return self.make.traits(index_of(hub_id))

    def date(self, index: int) -> int | None:
        if index in self.last_date:
            return self.last_date[index]
        return self.base.date_of(index)

    def document(self, hub_id: int) -> Json:
        index = index_of(hub_id)
        later = self.later_versions.get(index, ())
        date = self.base.date_of(index) if later else self.date(index)
        rank = self.base.popularity_rank(index) if index < self.count else 1 << 40
        document = self.make.document(index, date, rank, later)
        for number, size in enumerate(self._large):
            if index == self.count - 1 - number:
                self._make_large(document, number, size)
        return document

    def _make_large(self, document: Json, number: int, size_bytes: int) -> None:
        document["name"] = f"Large file {size_bytes} bytes"
        version = document["modelVersions"][0]
        file = version["files"][0]
        facts = self._contents.describe(Contents.large_key(size_bytes, number))
        file |= {"name": f"large_{size_bytes}.safetensors", "sizeKB": facts.size_bytes / 1024}
        file["hashes"] = facts.hashes()

    def owner(self, version_id: int) -> int | None:
        index, number = divmod(version_id - FIRST_VERSION_ID, VERSIONS_EACH)
        if not 0 <= index < self.count + self.added_count:
            return None
        count = self.make.version_count(index) + len(self.later_versions.get(index, ()))
        return model_id(index) if number < count else None

    def files(self, version_id: int) -> list[SimFile]:
        index, number = divmod(version_id - FIRST_VERSION_ID, VERSIONS_EACH)
        # Names come from the document, where changes are laid over them; contents from here.
        files = self.make.files(self.make.traits(index), index, number, "x")
        for place, size in enumerate(self._large):
            if index == self.count - 1 - place:
                key = Contents.large_key(size, place)
                return [SimFile(version_id * FILES_EACH, version_id, "x", "Model", {}, key)]
        return files

    def access(self, version_id: int) -> str:
        index, number = divmod(version_id - FIRST_VERSION_ID, VERSIONS_EACH)
        if any(index == self.count - 1 - place for place in range(len(self._large))):
            return "open"
        return self.make.access(self.make.traits(index), index, number)

    def strands(self) -> Sequence[ListStrand | SyntheticStrand]:
        return (self.base, self.moved, self.added)


@dataclass(slots=True)
class Overlay:
    """What changed of one model since the hub was started."""

    removed: bool = False
    published: bool = True
    mode: str | None = None
    edits: int = 0
    no_versions: bool = False
    fields: dict[str, object] = field(default_factory=dict)
    file_names: dict[int, str] = field(default_factory=dict)


class Catalog:
    def __init__(
        self,
        sources: Sequence[Source],
        contents: Contents,
        *,
        seed: int = 1,
    ) -> None:
        self.sources = list(sources)
        self.contents = contents
        self.changes = 0
        self.now_ms = BIRTH_MS + 3_600_000
        self._overlays: dict[int, Overlay] = {}
        self._random = random.Random(seed)

    # -- looking -------------------------------------------------------------------------------

    @property
    def synthetic(self) -> SyntheticSource:
        for source in self.sources:
            if isinstance(source, SyntheticSource):
                return source
        raise LookupError("this hub serves recorded documents only")

    def special(self, name: str) -> int:
        """The id of the model of a named kind (`synthetic.SPECIALS`)."""
        if not self.synthetic.make.has_specials:
            raise LookupError("a catalog under 40 models has no special ones")
        return model_id(SPECIALS.index(name))

    def ids(self) -> list[int]:
        return [hub_id for source in self.sources for hub_id in source.ids()]

    def source(self, hub_id: int) -> Source | None:
        for source in self.sources:
            if source.has(hub_id):
                return source
        return None

    def traits(self, hub_id: int) -> Traits | None:
        source = self.source(hub_id)
        if source is None:
            return None
        traits = source.traits(hub_id)
        overlay = self._overlays.get(hub_id)
        if overlay:
            if overlay.removed:
                return None
            traits.published = traits.published and overlay.published
            traits.mode = overlay.mode or traits.mode
            traits.versionless = traits.versionless or overlay.no_versions
        return traits

    def document(self, hub_id: int) -> Json | None:
        """The model's list item at full visibility, or None; URLs start with `HOST`."""
        source = self.source(hub_id)
        if source is None:
            return None
        document = source.document(hub_id)
        overlay = self._overlays.get(hub_id)
        if overlay is None:
            return document
        if overlay.removed:
            return None
        return _lay_over(document, overlay)

    def owner(self, version_id: int) -> int | None:
        for source in self.sources:
            owner = source.owner(version_id)
            if owner is not None:
                return owner
        return None

    def files(self, version_id: int) -> list[SimFile]:
        for source in self.sources:
            if source.owner(version_id) is not None:
                return source.files(version_id)
        return []

    def access(self, version_id: int) -> str:
        for source in self.sources:
            if source.owner(version_id) is not None:
                return source.access(version_id)
        return "open"

    def rows(self, order: Order, bound: Bound | None) -> Iterator[tuple[tuple[int, ...], int]]:
        """(key, id) from the bound on, in the order; nothing is filtered."""
        strands = [strand for source in self.sources for strand in source.strands()]
        runs = [strand.rows(order, bound) for strand in strands]
        return heapq.merge(*runs, reverse=order is not Order.OLDEST)

    def popularity(self, order: Order, hub_id: int) -> tuple[int, ...] | None:
        """The full sort key of a model in a popularity order, when it is in the catalog."""
        for source in self.sources:
            for strand in source.strands():
                key = strand.popularity_key(order, hub_id)
                if key is not None:
                    return key
        return None

    def large_files(self) -> list[int]:
        source = self.synthetic
        return [model_id(source.count - 1 - place) for place in range(len(source._large))]

    # -- changing ------------------------------------------------------------------------------

    def change(self, wanted: Mapping[str, object]) -> dict[str, list[int]]:
        """Change the catalog; see README.md for the words. Answers which ids each word touched.

        Words of existing models take ids, or a number: so many are picked by the seed.
        """
        done: dict[str, list[int]] = {}
        self.changes += 1
        unknown = set(wanted) - {"add", "set", "file_names", *_CHANGES, "new_version"}
        if unknown:
            raise ValueError(f"unknown change: {', '.join(sorted(unknown))}")
        for word, what in wanted.items():
            if word == "add":
                done[word] = [self.synthetic.add(self._tick()) for _ in range(int(str(what)))]
            elif word == "set":
                done[word] = self._set(what)
            elif word == "file_names":
                done[word] = self._rename(what)
            else:
                done[word] = self._chosen(what)
                for hub_id in done[word]:
                    if word == "new_version":
                        self.synthetic.add_version(hub_id, self._tick())
                    else:
                        _CHANGES[word](self._overlay(hub_id))
        return done

    def _tick(self) -> int:
        self.now_ms += 60_000
        return self.now_ms

    def _overlay(self, hub_id: int) -> Overlay:
        return self._overlays.setdefault(hub_id, Overlay())

    def _chosen(self, what: object) -> list[int]:
        if isinstance(what, list | tuple):
            missing = [hub_id for hub_id in what if self.source(hub_id) is None]
            if missing:
                raise ValueError(f"no such models: {missing}")
            return [int(hub_id) for hub_id in what]
        # Only ordinary models are picked: a test counts on the special ones being as they were.
        source = self.synthetic
        chosen: list[int] = []
        first = len(SPECIALS) if source.make.has_specials else 0
        for _attempt in range(source.count * 4):
            if len(chosen) == int(str(what)):
                break
            hub_id = model_id(self._random.randrange(first, source.count))
            traits = self.traits(hub_id)
            plain = traits and traits.published and not (traits.mode or traits.poi)
            if plain and traits.level & 1 and not traits.versionless and hub_id not in chosen:
                chosen.append(hub_id)
        return chosen

    def _set(self, what: object) -> list[int]:
        if not isinstance(what, Mapping):
            raise ValueError("set takes {id: {key: value}}")
        for hub_id, fields in what.items():
            self._overlay(int(hub_id)).fields.update(fields)
        return [int(hub_id) for hub_id in what]

    def _rename(self, what: object) -> list[int]:
        if not isinstance(what, Mapping):
            raise ValueError("file_names takes {file id: name}")
        touched: list[int] = []
        for file_id, name in what.items():
            version_id = self._version_of_file(int(file_id))
            owner = self.owner(version_id)
            if owner is None:
                raise ValueError(f"no such file: {file_id}")
            self._overlay(owner).file_names[int(file_id)] = str(name)
            touched.append(owner)
        return touched

    def _version_of_file(self, file_id: int) -> int:
        for source in self.sources:
            find = getattr(source, "version_of_file", None)
            if find is not None and find(file_id) is not None:
                return int(find(file_id))
        return file_id // FILES_EACH


def _edit(overlay: Overlay) -> None:
    overlay.edits += 1


def _remove(overlay: Overlay) -> None:
    overlay.removed = True


def _unpublish(overlay: Overlay) -> None:
    overlay.published = False


def _take_down(overlay: Overlay) -> None:
    overlay.mode = "TakenDown"


def _archive(overlay: Overlay) -> None:
    overlay.mode = "Archived"


def _empty_versions(overlay: Overlay) -> None:
    overlay.no_versions = True


def _restore(overlay: Overlay) -> None:
    overlay.removed = overlay.no_versions = False
    overlay.published, overlay.mode = True, None


_CHANGES = {
    "edit": _edit,
    "remove": _remove,
    "unpublish": _unpublish,
    "takedown": _take_down,
    "archive": _archive,
    "empty_versions": _empty_versions,
    "restore": _restore,
}


def _lay_over(document: Json, overlay: Overlay) -> Json:
    if overlay.edits:
        document["description"] = (
            f"{document.get('description') or ''}<p>Edited {overlay.edits} times.</p>"
        )
    versions = document["modelVersions"]
    if overlay.no_versions:
        document["modelVersions"] = []
    for version in versions:
        if overlay.mode == "Archived":
            version["files"] = []
            version.pop("downloadUrl", None)
        elif overlay.mode == "TakenDown":
            version["images"] = []
        for file in version["files"]:
            file["name"] = overlay.file_names.get(file.get("id"), file["name"])
    if overlay.mode:
        document["mode"] = overlay.mode
    return {**document, **overlay.fields}


__all__ = [
    "BIRTH_MS", "HOST", "Bound", "Catalog", "Order", "Overlay", "Source", "SyntheticSource",
    "popularity_pair",
]  # fmt: skip

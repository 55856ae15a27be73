"""The simulated hub's catalog: every model, in every order the hub can list, and its changes.

Joins sources (the synthetic models, recorded documents) into one ordered whole and lays changes
over them: additions, edits, new versions, removals. Orders are computed, not stored, so that a
catalog of a million models starts at once. What a request may see of it is the dialect's business.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from tests.hubsim.bytes import Contents
from tests.hubsim.population import SPECIALS, Json, Traits, model_id
from tests.hubsim.strands import Bound, Key, ListStrand, Order, SyntheticStrand
from tests.hubsim.synthetic_files import SimFile
from tests.hubsim.synthetic_source import BIRTH_MS, SyntheticSource


class Source(Protocol):
    """Models of one origin. `verbatim` documents are served as they are, in every view."""

    verbatim: bool

    def has(self, hub_id: int) -> bool: ...
    def ids(self) -> Iterator[int]: ...
    def traits(self, hub_id: int) -> Traits: ...
    def document(self, hub_id: int) -> Json: ...
    def owner(self, version: int) -> int | None: ...
    def files(self, version: int) -> list[SimFile]: ...
    def version_of_file(self, file_id: int) -> int | None: ...
    def access(self, version: int) -> str: ...
    def strands(self) -> Sequence[ListStrand | SyntheticStrand]: ...


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
    def __init__(self, sources: Sequence[Source], contents: Contents, *, seed: int = 1) -> None:
        self.sources = list(sources)
        self.contents = contents
        self.changes = 0  # how often it changed: what is derived from it is stale then
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
        """The id of the model of a named kind (`population.SPECIALS`)."""
        if not self.synthetic.population.has_specials:
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
        if overlay is not None:
            if overlay.removed:
                return None
            traits = replace(traits)
            traits.published = traits.published and overlay.published
            traits.mode = overlay.mode or traits.mode
            traits.versionless = traits.versionless or overlay.no_versions
            # A recorded document is listed whatever it says, but not once it was taken away.
            traits.lenient = traits.lenient and overlay.mode is None
        return traits

    def document(self, hub_id: int) -> Json | None:
        """The model's list item at full visibility, or None; URLs start with `HOST`."""
        source = self.source(hub_id)
        if source is None:
            return None
        overlay = self._overlays.get(hub_id)
        if overlay is None:
            return source.document(hub_id)
        return None if overlay.removed else _lay_over(source.document(hub_id), overlay)

    def _source_of_version(self, version: int) -> Source | None:
        return next((s for s in self.sources if s.owner(version) is not None), None)

    def owner(self, version: int) -> int | None:
        source = self._source_of_version(version)
        return None if source is None else source.owner(version)

    def files(self, version: int) -> list[SimFile]:
        source = self._source_of_version(version)
        return [] if source is None else source.files(version)

    def access(self, version: int) -> str:
        source = self._source_of_version(version)
        return "open" if source is None else source.access(version)

    def rows(self, order: Order, bound: Bound | None) -> Iterator[tuple[Key, int]]:
        """(key, id) from the bound on, in the order; nothing is filtered."""
        strands = [strand for source in self.sources for strand in source.strands()]
        runs = [strand.rows(order, bound) for strand in strands]
        return heapq.merge(*runs, reverse=order is not Order.OLDEST)

    def popularity(self, order: Order, hub_id: int) -> Key | None:
        """The full sort key of a model in a popularity order, when it is in the catalog."""
        for source in self.sources:
            for strand in source.strands():
                key = strand.popularity_key(order, hub_id)
                if key is not None:
                    return key
        return None

    # -- changing ------------------------------------------------------------------------------

    def change(self, wanted: Mapping[str, object]) -> dict[str, list[int]]:
        """Change the catalog; README.md lists the words. Answers which models each word touched.

        Words of existing models take ids, or a number: so many are picked by the seed.
        """
        unknown = set(wanted) - {"add", "new_version", "set", "file_names", *_CHANGES}
        if unknown:
            raise ValueError(f"unknown change: {', '.join(sorted(unknown))}")
        self.changes += 1
        return {word: self._change(word, what) for word, what in wanted.items()}

    def _change(self, word: str, what: object) -> list[int]:
        if word == "add":
            return [self.synthetic.add(self._tick()) for _ in range(int(str(what)))]
        if word == "set":
            return self._set(what)
        if word == "file_names":
            return self._rename(what)
        chosen = self._chosen(what)
        for hub_id in chosen:
            if word == "new_version":
                self.synthetic.add_version(hub_id, self._tick())
            else:
                _CHANGES[word](self._overlay(hub_id))
        return chosen

    def _tick(self) -> int:
        self.now_ms += 60_000
        return self.now_ms

    def _overlay(self, hub_id: int) -> Overlay:
        return self._overlays.setdefault(hub_id, Overlay())

    def _chosen(self, what: object) -> list[int]:
        if isinstance(what, list | tuple | set | frozenset):
            missing = [hub_id for hub_id in what if self.source(int(hub_id)) is None]
            if missing:
                raise ValueError(f"no such models: {missing}")
            return [int(hub_id) for hub_id in what]
        # Only ordinary models are picked: a test counts on the special ones being as they were.
        population = self.synthetic.population
        wanted, first = int(str(what)), len(SPECIALS) if population.has_specials else 0
        chosen: list[int] = []
        for _attempt in range(100 * wanted + 1000):
            if len(chosen) == wanted or first >= population.count:
                break
            hub_id = model_id(self._random.randrange(first, population.count))
            traits = self.traits(hub_id)
            if traits and traits.level & 1 and _is_plain(traits) and hub_id not in chosen:
                chosen.append(hub_id)
        return chosen

    def _set(self, what: object) -> list[int]:
        if not isinstance(what, Mapping):
            raise ValueError("set takes {id: {key: value}}")
        for hub_id, fields in what.items():
            self._overlay(self._chosen([int(hub_id)])[0]).fields.update(fields)
        return [int(hub_id) for hub_id in what]

    def _rename(self, what: object) -> list[int]:
        if not isinstance(what, Mapping):
            raise ValueError("file_names takes {file id: name}")
        return [self._rename_one(int(file_id), str(name)) for file_id, name in what.items()]

    def _rename_one(self, file_id: int, name: str) -> int:
        for source in self.sources:
            version = source.version_of_file(file_id)
            owner = None if version is None else source.owner(version)
            if owner is not None:
                self._overlay(owner).file_names[file_id] = name
                return owner
        raise ValueError(f"no such file: {file_id}")


def _is_plain(traits: Traits) -> bool:
    odd = traits.mode or traits.poi or traits.minor or traits.versionless
    return traits.published and not odd


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


_CHANGES: dict[str, Callable[[Overlay], None]] = {
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
        old = document.get("description") or ""
        document["description"] = f"{old}<p>Edited {overlay.edits} times.</p>"
    if overlay.no_versions:
        document["modelVersions"] = []
    if overlay.mode:
        document["mode"] = overlay.mode
    for version in document["modelVersions"]:
        if overlay.mode == "Archived":
            version["files"] = []
            version.pop("downloadUrl", None)
        elif overlay.mode == "TakenDown":
            version["images"] = []
        for file in version.get("files", ()):
            file["name"] = overlay.file_names.get(file.get("id"), file["name"])
    return {**document, **overlay.fields}

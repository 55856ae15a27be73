"""The Hugging Face dialect's catalog: every repository under its names, in every order.

Joins sources (the synthetic repositories, recorded documents) and lays changes over them. Keyed on
`_id`, which a rename leaves alone. Who may see what of it is the dialect's business.
"""

from __future__ import annotations

import heapq
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from tests.hubsim.bytes import ContentKey, Contents
from tests.hubsim.hf_files import Blobs, RepoFile, kind_of
from tests.hubsim.hf_population import BIRTH_S, SPECIALS, Repo
from tests.hubsim.hf_source import MISSING, SyntheticRepos
from tests.hubsim.hf_strands import ListStrand, Place, Strand
from tests.hubsim.population import Json
from tests.hubsim.synthetic import iso


class RepoSource(Protocol):
    """Repositories of one origin. `verbatim` documents keep the keys they were recorded with."""

    verbatim: bool

    @property
    def strand(self) -> Strand: ...
    def has(self, key: str) -> bool: ...
    def ids(self) -> Iterator[str]: ...
    def repo(self, key: str) -> Repo: ...
    def find(self, name: str) -> str | None: ...
    def sha(self, key: str, number: int) -> str: ...
    def files(self, key: str, number: int) -> list[RepoFile]: ...
    def has_pull_request(self, key: str) -> bool: ...
    def is_tagged(self, key: str) -> bool: ...
    def value(self, key: str, field: str) -> object: ...
    def own_keys(self, key: str) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Commit:
    number: int
    sha: str
    date_ms: int
    title: str


@dataclass(slots=True)
class Edit:
    """One commit made since the hub was started."""

    date_ms: int
    title: str
    path: str | None = None  # a file that is new, or has new bytes, from this commit on


@dataclass(slots=True)
class Overlay:
    """What changed of one repository since the hub was started."""

    name: str | None = None
    gone: str | None = None
    public: bool = False  # made public again, whatever it was at the start
    gated: bool | str | None = None
    disabled: bool | None = None
    downloads: int | None = None
    likes: int | None = None
    edits: list[Edit] = field(default_factory=list)
    fields: dict[str, object] = field(default_factory=dict)


# What the columns of a row say, by the names they have in documents.
_COLUMNS: dict[str, Callable[[Repo], object]] = {
    "id": lambda repo: repo.name,
    "modelId": lambda repo: repo.name,
    "author": lambda repo: MISSING if repo.author is None else repo.author,
    "private": lambda repo: False,
    "disabled": lambda repo: repo.disabled,
    "gated": lambda repo: repo.gated,
    "downloads": lambda repo: repo.downloads,
    "likes": lambda repo: repo.likes,
    "tags": lambda repo: repo.tags,
    "sha": lambda repo: repo.sha,
    "createdAt": lambda repo: iso(repo.created_ms),
    "lastModified": lambda repo: iso(repo.modified_ms),
    "trendingScore": lambda repo: MISSING if repo.trending is None else repo.trending,
    "pipeline_tag": lambda repo: MISSING if repo.pipeline_tag is None else repo.pipeline_tag,
    "library_name": lambda repo: MISSING if repo.library is None else repo.library,
}


class RepoCatalog:
    def __init__(self, sources: Sequence[RepoSource], contents: Contents, *, seed: int = 1) -> None:
        self.sources = list(sources)
        self.contents = contents
        self.blobs = Blobs(contents)
        self.now_ms = BIRTH_S * 1000 + 3_600_000
        self.overlays: dict[str, Overlay] = {}
        self.random = random.Random(seed)
        self._names: dict[str, str] = {}  # names given by changes, in lower case -> _id
        self._aliases: dict[str, str] = {}  # names left by renames
        self._moved: dict[str, None] = {}  # synthetic ones that stand elsewhere than computed
        self._moved_strand = ListStrand(lambda: (self._known(key) for key in self._moved))
        for source in self.sources:
            if isinstance(source, SyntheticRepos) and source.population.has_specials:
                self._moved[self.special("float_trending")] = None

    # -- looking -----------------------------------------------------------------------------------

    @property
    def synthetic(self) -> SyntheticRepos:
        for source in self.sources:
            if isinstance(source, SyntheticRepos):
                return source
        raise LookupError("this hub serves recorded documents only")

    def special(self, name: str) -> str:
        """The `_id` of the repository of a named kind (`hf_population.SPECIALS`)."""
        population = self.synthetic.population
        if not population.has_specials:
            raise LookupError("a catalog this small has no special repositories")
        return population.key(population.special_index(name))

    def specials(self) -> dict[str, str]:
        return {name: self.special(name) for name in SPECIALS}

    def ids(self) -> Iterator[str]:
        for source in self.sources:
            yield from source.ids()

    def source(self, key: str) -> RepoSource | None:
        return next((source for source in self.sources if source.has(key)), None)

    def _source(self, key: str) -> RepoSource:
        source = self.source(key)
        if source is None:
            raise ValueError(f"no such repository: {key}")
        return source

    def repo(self, key: str) -> Repo | None:
        """The repository as it stands now, gone or not; shared unless it was changed."""
        return None if self.source(key) is None else self._known(key)

    def _known(self, key: str) -> Repo:
        source = self._source(key)
        base = source.repo(key)
        overlay = self.overlays.get(key)
        if overlay is None:
            return base
        repo = replace(base)
        repo.name = overlay.name or base.name
        repo.gone = overlay.gone or (None if overlay.public else base.gone)
        repo.gated = base.gated if overlay.gated is None else overlay.gated
        repo.disabled = base.disabled if overlay.disabled is None else overlay.disabled
        repo.downloads = base.downloads if overlay.downloads is None else overlay.downloads
        repo.likes = base.likes if overlay.likes is None else overlay.likes
        if overlay.edits:
            repo.modified_ms = overlay.edits[-1].date_ms
            repo.commits = base.commits + len(overlay.edits)
            repo.sha = source.sha(key, repo.commits - 1)
        tags = overlay.fields.get("tags")
        repo.tags = list(tags) if isinstance(tags, list) else base.tags
        return repo

    def find(self, name: str) -> Repo | None:
        """The repository a name leads to; it may be called otherwise now, or be gone."""
        low = name.lower()
        key = self._names.get(low)
        if key is None:
            key = next((k for source in self.sources if (k := source.find(low))), None)
        if key is None or self._known(key).gone:
            key = self._aliases.get(low, key)
        return None if key is None else self._known(key)

    def rows(self, sort: str, after: Place | None) -> Iterator[tuple[Place, str]]:
        """(place, _id) behind a place, in the order; nothing is filtered."""
        skip = self._moved.keys()
        nothing: frozenset[str] = frozenset()
        runs = [self._moved_strand.rows(sort, after, nothing)]
        runs += [source.strand.rows(sort, after, skip) for source in self.sources]
        return heapq.merge(*runs)

    # -- documents ---------------------------------------------------------------------------------

    def value(self, repo: Repo, name: str) -> object:
        """One field of a repository's document, or MISSING."""
        overlay = self.overlays.get(repo.key)
        if overlay is not None and name in overlay.fields:
            return overlay.fields[name]
        source = self._source(repo.key)
        if name == "_id" and not source.verbatim:
            return repo.key
        if source.verbatim:
            value = source.value(repo.key, name)
            if value is MISSING or overlay is None or name not in _COLUMNS:
                return value
            return _COLUMNS[name](repo) if name not in ("private", "trendingScore") else value
        if name in _COLUMNS:
            return _COLUMNS[name](repo)
        if name == "siblings":
            return [{"rfilename": file.path} for file in self.files(repo)]
        if name == "usedStorage":
            files = self.files(repo)
            return sum(self.blobs.size_bytes(file) for file in files) * 2
        return source.value(repo.key, name)

    def bears_id(self, repo: Repo) -> bool:
        """Whether its documents say its `_id`: odd recordings may not."""
        source = self._source(repo.key)
        return not source.verbatim or source.value(repo.key, "_id") == repo.key

    def document(self, repo: Repo, names: Iterable[str]) -> Json:
        """`_id` and the named fields, as far as the repository has them, in that order."""
        found: Json = {}
        for name in ("_id", *names):
            value = self.value(repo, name)
            if value is not MISSING:
                found[name] = value
        return found

    # -- commits and files -------------------------------------------------------------------------

    def commits(self, repo: Repo) -> list[Commit]:
        """All commits of the main branch, oldest first."""
        source = self._source(repo.key)
        base = source.repo(repo.key)
        overlay = self.overlays.get(repo.key) or Overlay()
        span = max(0, base.modified_ms - base.created_ms)
        found = []
        for number in range(base.commits):
            late = base.commits - 1 - number
            date_ms = base.modified_ms - span * late // max(1, base.commits)
            titles = ("initial commit", "Upload folder using huggingface_hub")
            title = titles[number] if number < 2 else "Update README.md"
            found.append(Commit(number, source.sha(repo.key, number), date_ms, title))
        for edit in overlay.edits:
            number = len(found)
            sha = source.sha(repo.key, number)
            found.append(Commit(number, sha, edit.date_ms, edit.title))
        return found

    def files(self, repo: Repo, number: int | None = None) -> list[RepoFile]:
        """The files at a commit; at the last one when none is named."""
        source = self._source(repo.key)
        number = repo.commits - 1 if number is None else number
        files = {file.path: file for file in source.files(repo.key, number)}
        overlay = self.overlays.get(repo.key)
        if overlay is not None:
            first = source.repo(repo.key).commits
            for place, edit in enumerate(overlay.edits[: max(0, number - first + 1)]):
                if edit.path is not None:
                    old = files.get(edit.path)
                    content = self._new_content(repo.key, edit.path, place, old)
                    files[edit.path] = RepoFile(edit.path, content)
        return list(files.values())

    def _new_content(self, key: str, path: str, place: int, old: RepoFile | None) -> ContentKey:
        number = zlib.crc32(f"{key}/{path}/{place}".encode()) | 1 << 41
        if old is None or old.content is None:
            return self.contents.key(kind_of(path), number)
        if old.content.kind == "large":
            return Contents.large_key(old.content.base, number)
        return self.contents.key(old.content.kind, number, variant=old.content.variant)

    def has_pull_request(self, repo: Repo) -> bool:
        return self._source(repo.key).has_pull_request(repo.key)

    def is_tagged(self, repo: Repo) -> bool:
        return self._source(repo.key).is_tagged(repo.key)

    # -- for those who change it -------------------------------------------------------------------

    def tick(self) -> int:
        self.now_ms += 60_000
        return self.now_ms

    def overlay(self, key: str) -> Overlay:
        """The overlay of a repository, to be changed now; its place in the lists is made anew."""
        if not self._source(key).verbatim:
            self._moved[key] = None
        self.reordered()
        return self.overlays.setdefault(key, Overlay())

    def reordered(self) -> None:
        self._moved_strand.changed()
        for source in self.sources:
            if isinstance(source.strand, ListStrand):
                source.strand.changed()

    def place_new(self, key: str) -> None:
        self._moved[key] = None
        self.reordered()

    def is_taken(self, name: str, but: str = "") -> bool:
        """Whether a repository that is there (other than `but`) has this name."""
        found = self.find(name)
        if found is None or found.gone or found.key == but:
            return False
        return found.name.lower() == name.lower()

    def give_name(self, key: str, name: str, *, leave_alias: bool = True) -> None:
        """Call a repository otherwise; its old name leads to it, until another one takes that."""
        if self.is_taken(name, but=key):
            raise ValueError(f"the name {name} is taken")
        old = self._known(key).name
        if self._names.get(old.lower()) == key:
            del self._names[old.lower()]
        if leave_alias:
            self._aliases[old.lower()] = key
        self._names[name.lower()] = key
        self.overlay(key).name = name

"""A folder of recorded Hugging Face answers as a source of the catalog.

Every repository's document is served by its name and listed with its own keys; sizes and hashes
are those of bytes made here. What is no such document (an answer to `expand`, a redirect, an
error) is served for the very request its `.http.json` names. Documents that share an `_id` are
states of one repository, the oldest recording first.
"""

from __future__ import annotations

import copy
import datetime
import email.utils
import hashlib
import json
import re
import urllib.parse
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hubsim import messages
from tests.hubsim.bytes import Contents
from tests.hubsim.hf_files import Blobs, RepoFile, Text, is_large, kind_of
from tests.hubsim.hf_population import Repo
from tests.hubsim.hf_source import MISSING
from tests.hubsim.hf_strands import ListStrand
from tests.hubsim.messages import Request, Response
from tests.hubsim.population import Json

_SIDECAR = ".http.json"
_MODELS = "/api/models/"
# Said of a connection or a cache, not of the answer.
_PASSING = frozenset(
    {"content-length", "connection", "date", "transfer-encoding", "content-encoding", "etag"}
)


class RecordedRepos:
    """Recorded documents; `state` says which of two documents with one `_id` is served."""

    verbatim = True

    def __init__(self, folder: Path, contents: Contents, *, as_recorded: bool = False) -> None:
        self.state = 0
        self._contents = contents
        self._blobs = Blobs(contents)
        self._as_recorded = as_recorded
        self._states: dict[str, list[Json]] = {}
        self._answers: dict[tuple[str, str, frozenset[tuple[str, str]]], Response] = {}
        self._redirects: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self.strand = ListStrand(lambda: map(self.repo, self._states))
        documents: list[tuple[float, str, Json]] = []
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.suffix in (".json", ".txt") and _SIDECAR not in path.name:
                documents += self._read(path)
        if not documents and not self._answers:
            raise ValueError(f"no recorded answers (*.json) in {folder}")
        for _, _, document in sorted(documents, key=lambda found: found[:2]):
            self._keep(document)
        self._name()

    # -- reading -----------------------------------------------------------------------------------

    def _read(self, path: Path) -> list[tuple[float, str, Json]]:
        """(moment, name, document) of the repositories in a file; anything else is an answer."""
        sidecar = path.with_name(path.name.removesuffix(path.suffix) + _SIDECAR)
        recorded: Json = json.loads(sidecar.read_bytes()) if sidecar.is_file() else {}
        raw = path.read_bytes()
        if path.suffix == ".json":
            tree = json.loads(raw)
            items = tree if isinstance(tree, list) else [tree]
            if items and _is_query(recorded) is None and all(map(_is_repository, items)):
                moment = _moment(recorded)
                return [(moment or _modified(item), path.name, item) for item in items]
        self._keep_answer(recorded, raw)
        return []

    def _keep_answer(self, recorded: Json, raw: bytes) -> None:
        request = recorded.get("request") or {}
        url = urllib.parse.urlsplit(str(request.get("url") or ""))
        if not url.path or not isinstance(recorded.get("status"), int):
            return  # a file that says neither what it is nor what it answers
        headers: dict[str, str] = recorded.get("headers") or {}
        kept = [(key, value) for key, value in headers.items() if key.lower() not in _PASSING]
        kind = next((value for key, value in kept if key.lower() == "content-type"), "text/plain")
        rest = [pair for pair in kept if pair[0].lower() != "content-type"]
        response = messages.raw(recorded["status"], raw, kind, *rest)
        query = frozenset(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        method = str(request.get("method") or "GET")
        self._answers[method, urllib.parse.unquote(url.path), query] = response
        location = response.header("Location") or ""
        if recorded["status"] == 307 and location.startswith(_MODELS):
            old = url.path.removeprefix(_MODELS).lower()
            self._redirects[old] = location.removeprefix(_MODELS).lower()

    def _keep(self, document: Json) -> None:
        name = str(document.get("id") or document.get("modelId"))
        key = document.get("_id") or hashlib.sha256(name.lower().encode()).hexdigest()[:24]
        if not self._as_recorded:
            for sibling in _siblings(document):
                self._rewrite(str(key), sibling)
        self._states.setdefault(str(key), []).append(document)

    def _rewrite(self, key: str, sibling: Json) -> None:
        """Sizes and hashes that were recorded become those of the bytes made here."""
        if not sibling.keys() & {"size", "lfs", "blobId"}:
            return
        blob = self._blobs.describe(self._file(key, str(sibling.get("rfilename")), sibling))
        sibling |= {"size": blob.size_bytes, "blobId": blob.git_sha1}
        if isinstance(sibling.get("lfs"), dict) and blob.sha256 is not None:
            sibling["lfs"] |= {
                "sha256": blob.sha256,
                "size": blob.size_bytes,
                "pointerSize": blob.pointer_size,
            }

    def _name(self) -> None:
        """Who has which name now: a name of an older state leads to its repository still."""
        self._names.clear()
        for key, states in self._states.items():
            for document in states[: self.state + 1]:
                self._names.setdefault(_name_of(document).lower(), key)
        for key in self._states:
            self._names[_name_of(self._document(key)).lower()] = key
        for old, new in self._redirects.items():
            if new in self._names:
                self._names.setdefault(old, self._names[new])

    # -- the source contract -----------------------------------------------------------------------

    def advance(self) -> None:
        self.state += 1
        self._name()
        self.strand.changed()

    def _document(self, key: str, number: int | None = None) -> Json:
        states = self._states[key]
        return states[min(self.state if number is None else number, len(states) - 1)]

    def has(self, key: str) -> bool:
        return key in self._states

    def ids(self) -> Iterator[str]:
        return iter(self._states)

    def repo(self, key: str) -> Repo:
        document = self._document(key)
        born = _milliseconds(document.get("createdAt")) or _birth_in(key)
        gated = document.get("gated")
        tags = document.get("tags")
        count = min(self.state, len(self._states[key]) - 1) + 1
        trending = document.get("trendingScore")
        return Repo(
            key,
            _name_of(document),
            -1,
            born,
            _milliseconds(document.get("lastModified")) or born,
            _number(document.get("downloads")),
            _number(document.get("likes")),
            gated=gated if isinstance(gated, str) else False,
            disabled=document.get("disabled") is True,
            trending=trending if isinstance(trending, int | float) else None,
            library=_text(document.get("library_name")),
            pipeline_tag=_text(document.get("pipeline_tag")),
            tags=[str(tag) for tag in tags] if isinstance(tags, list) else [],
            commits=count,
            sha=self.sha(key, count - 1),
        )

    def find(self, name: str) -> str | None:
        return self._names.get(name)

    def sha(self, key: str, number: int) -> str:
        """The recorded commit of a state, or one made up for a change since."""
        states = self._states[key]
        recorded = states[number].get("sha") if number < len(states) else None
        if isinstance(recorded, str) and number <= self.state:
            return recorded
        text = f"{key}/{number}".encode()
        return hashlib.sha1(text, usedforsecurity=False).hexdigest()

    def files(self, key: str, number: int) -> list[RepoFile]:
        document = self._document(key, min(number, self.state))
        return [
            self._file(key, str(sibling["rfilename"]), sibling, number)
            for sibling in _siblings(document)
        ]

    def _file(self, key: str, path: str, sibling: Json, number: int = 0) -> RepoFile:
        if not is_large(path) and "lfs" not in sibling:
            edit = f" {number}" if path == "README.md" else ""
            return RepoFile(path, plain=Text(f"{path} of {key}{edit}\n".encode()))
        # Files that were recorded with one hash stay the same bytes.
        lfs = sibling.get("lfs")
        recorded = lfs.get("sha256") if isinstance(lfs, dict) else None
        seed = zlib.crc32(str(recorded or f"{key}/{path}").encode()) | 1 << 42
        return RepoFile(path, self._contents.key(kind_of(path), seed))

    def has_pull_request(self, key: str) -> bool:
        return False

    def is_tagged(self, key: str) -> bool:
        return False

    def own_keys(self, key: str) -> list[str]:
        return [name for name in self._document(key) if name != "_id"]

    def value(self, key: str, field: str) -> object:
        document = self._document(key)
        return copy.deepcopy(document[field]) if field in document else MISSING

    # -- answers to one request --------------------------------------------------------------------

    def answer(self, request: Request) -> Response | None:
        """What was recorded for exactly this request, unless a document says it better."""
        found = self._answers.get((request.method, request.path, frozenset(request.query)))
        if found is None:
            return None
        return messages.Response(found.status, list(found.headers), found.body)


def _is_query(recorded: Json) -> str | None:
    """The query of the recorded request, when it changes what the answer holds."""
    url = str((recorded.get("request") or {}).get("url") or "")
    query = urllib.parse.urlsplit(url).query
    return query if "expand" in query else None


def _is_repository(item: Any) -> bool:
    """Whether JSON is a repository's own document: an answer to `expand` has hardly a key."""
    if not isinstance(item, dict) or not ("id" in item or "modelId" in item):
        return False
    return bool(item.keys() & {"siblings", "tags", "lastModified", "createdAt", "sha"})


def _name_of(document: Json) -> str:
    return str(document.get("id") or document.get("modelId"))


def _moment(recorded: Json) -> float | None:
    for name, value in (recorded.get("headers") or {}).items():
        if name.lower() == "date":
            try:
                return email.utils.parsedate_to_datetime(str(value)).timestamp()
            except ValueError:
                return None
    return None


def _modified(document: Json) -> float:
    return (_milliseconds(document.get("lastModified")) or 0) / 1000


def _milliseconds(text: object) -> int | None:
    try:
        date = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    return round(date.timestamp() * 1000)


def _siblings(document: Json) -> list[Json]:
    """The files of a document, as far as they are told of sensibly."""
    siblings = document.get("siblings")
    return [
        sibling
        for sibling in (siblings if isinstance(siblings, list) else ())
        if isinstance(sibling, dict) and "rfilename" in sibling
    ]


def _birth_in(key: str) -> int:
    """The creation date that an `_id` begins with."""
    return int(key[:8], 16) * 1000 if re.fullmatch("[0-9a-f]{24}", key) else 0


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

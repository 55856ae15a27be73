"""Reads a models.json: bytes to entries. Pure.

Nobody specified the format and people edited it by hand. So every field of an entry is read for
itself: one of the wrong type is named and left out, the entry and its text stay. Only what is no
JSON, or has no list of entries, is refused as a whole.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from modelkeepd.hubs.reference import BadReference, is_repo_name, parse_reference

MAX_BYTES = 16 << 20
MAX_ENTRIES = 100_000
MAX_CHARS = 20_000
MAX_LIST = 1_000
_LARGEST = 2**63 - 1

_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?)(i?)b?(?:ytes?)?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_CREATED = ("created_at", "createdAt", "created", "added_at", "timestamp", "date")
_UPDATED = ("updated_at", "updatedAt", "updated", "modified_at", "last_modified", "last_used")
_SURROGATE = re.compile("[\ud800-\udfff]")


class BrokenFile(Exception):
    """The file is no models.json; the message says why, for the user."""


@dataclass(slots=True)
class Entry:
    """One model of the file. ``trouble`` names the fields that could not be read."""

    position: int
    raw: str
    name: str | None = None
    description: str | None = None
    size_bytes: int | None = None
    required_memory_bytes: int | None = None
    source: str | None = None
    repo_id: str | None = None
    hub: str | None = None
    ref_id: str | None = None
    path: str | None = None
    artifacts: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    created_ms: int | None = None
    updated_ms: int | None = None
    trouble: list[str] = field(default_factory=list)


def read_entries(data: bytes) -> list[Entry]:
    """The entries of a file. Raises BrokenFile."""
    if len(data) > MAX_BYTES:
        raise BrokenFile(f"it is larger than {MAX_BYTES >> 20} MiB, too large for a list of models")
    if not data.strip():
        raise BrokenFile("it is empty")
    try:
        document = json.loads(data, parse_int=_whole)
    except (ValueError, RecursionError) as exc:
        raise BrokenFile(f"it is no JSON: {str(exc)[:200] or type(exc).__name__}") from exc
    found = list(_listed(document))
    if len(found) > MAX_ENTRIES:
        raise BrokenFile(f"it has {len(found)} entries; {MAX_ENTRIES} are read at most")
    return [_entry(position, name, value) for position, (name, value) in enumerate(found)]


def _listed(document: Any) -> Iterator[tuple[str | None, Any]]:
    """A list, an object with a list in ``models``, or an object of entries by name."""
    if isinstance(document, dict) and isinstance(document.get("models"), list | dict):
        document = document["models"]
    if isinstance(document, list):
        yield from ((None, value) for value in document)
    elif isinstance(document, dict) and all(isinstance(value, dict) for value in document.values()):
        yield from document.items()
    else:
        raise BrokenFile("it has no list of models")


def _whole(digits: str) -> int | float:
    # a number of a million digits takes a minute to read
    return int(digits) if len(digits) <= 20 else math.inf


def _entry(position: int, name: str | None, value: Any) -> Entry:
    entry = Entry(position, json.dumps(value), name=_text(name))
    if not isinstance(value, dict):
        entry.trouble.append(f"it is no object but a {type(value).__name__}")
        return entry
    reader = _Fields(value, entry.trouble)
    entry.name = reader.text("name") or entry.name
    entry.description = reader.text("description")
    entry.size_bytes = reader.size("size", "size_bytes")
    entry.required_memory_bytes = reader.size("required_memory", "required_memory_bytes")
    entry.source = reader.text("source")
    entry.repo_id = reader.text("repo_id")
    entry.path = reader.text("path")
    entry.artifacts = reader.texts("artifacts")
    entry.tags = tuple(dict.fromkeys(reader.texts("tags")))
    entry.created_ms = reader.time(*_CREATED)
    entry.updated_ms = reader.time(*_UPDATED)
    entry.hub, entry.ref_id = _model_of(entry.source, entry.repo_id)
    return entry


class _Fields:
    """Takes fields of one entry apart; what doesn't fit is noted."""

    def __init__(self, value: Mapping[str, Any], trouble: list[str]) -> None:
        self._value = value
        self._trouble = trouble

    def text(self, name: str) -> str | None:
        value = self._value.get(name)
        if value is None or isinstance(value, str):
            return _text(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        self._odd(name, value)
        return None

    def size(self, *names: str) -> int | None:
        """Bytes. A small number is GB, as such lists have it; a text may name its unit."""
        name, value = self._first(names)
        size = None if value is None else _bytes(value, plain=name.endswith("_bytes"))
        if size is None and value is not None:
            self._odd(name, value)
        return size

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, of objects that name something, or one text with commas."""
        value = self._value.get(name)
        if value is None:
            return ()
        if isinstance(value, str):
            value = value.split(",")
        if isinstance(value, dict):
            value = list(value)
        if not isinstance(value, list):
            self._odd(name, value)
            return ()
        found: list[str] = []
        for item in value[:MAX_LIST]:
            if isinstance(item, dict):
                item = next((item[k] for k in ("path", "name", "file", "url") if k in item), None)
            text = _text(item) if isinstance(item, str) else None
            if text is None:
                self._odd(f"an item of {name}", item)
            else:
                found.append(text)
        return tuple(found)

    def time(self, *names: str) -> int | None:
        """Milliseconds: of a date, of seconds, or of milliseconds."""
        name, value = self._first(names)
        at_ms = None if value is None else _milliseconds(value)
        if at_ms is None and value is not None:
            self._odd(name, value)
        return at_ms

    def _first(self, names: tuple[str, ...]) -> tuple[str, Any]:
        return next(
            ((name, self._value[name]) for name in names if self._value.get(name) is not None),
            (names[0], None),
        )

    def _odd(self, name: str, value: Any) -> None:
        note = f"{name} is odd ({type(value).__name__})"
        if note not in self._trouble:
            self._trouble.append(note)


def _bytes(value: object, *, plain: bool) -> int | None:
    unit = 1
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            return None
        value, plain = float(match[1]), plain or bool(match[2])
        unit = (1024 if match[3] else 1000) ** _POWERS[match[2].lower()]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        return None
    if not plain:
        unit = 10**9 if value < 1_000 else 10**6 if value < 1_000_000 else 1
    size = round(value * unit)
    return size if size <= _LARGEST else None


def _milliseconds(value: object) -> int | None:
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value.strip())
            found = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found = round(value if value > 10**11 else value * 1000)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found < 2**53 else None


def _text(value: str | None) -> str | None:
    if value is None:
        return None
    # half of a character, from broken JSON: no database takes it
    return _SURROGATE.sub("\ufffd", value.replace("\0", "")).strip()[:MAX_CHARS] or None


def _model_of(source: str | None, repo_id: str | None) -> tuple[str | None, str | None]:
    """The model an entry names: by its repository's name, a reference or a URL."""
    on_civitai = source is not None and "civitai" in source.lower()
    if repo_id is not None:
        if repo_id.isascii() and repo_id.isdecimal() and on_civitai:
            return "civitai", str(int(repo_id[:18]))
        if is_repo_name(repo_id) and "/" in repo_id and not on_civitai:
            return "huggingface", repo_id
    for text in (repo_id, source):
        if text is None or (":" not in text and "/" not in text):
            continue
        try:
            reference = parse_reference(text)
        except BadReference:
            continue
        if reference.hub is not None and reference.model is not None:
            return reference.hub, reference.model
    return None, None

"""What changed between two documents of a model, in the words of people.

Pure. What the parser reads is compared as it reads it; everything else of the raw documents is
compared field by field, so that a change this program knows nothing of is shown all the same.
Bounded: hostile documents make a short list, not a long wait.
"""

import json
import logging
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from modelkeepd.hubs.contract import OddDocument, ParsedFile, ParsedModel, ParsedVersion

log = logging.getLogger(__name__)

MAX_FIELDS = 40
MAX_TEXT = 240
MAX_NAMES = 100
_MAX_DEPTH = 32
_MAX_KEY = 80

# Where a document says what the parsed shapes are compared for, or what changes by itself and
# tells nobody anything. Lists are "[]"; what lies below these is not looked at.
_READ_BY_PARSERS = {
    "civitai": """
        id name type description nsfwLevel creator tags stats mode baseModels
        modelVersions[].id modelVersions[].index modelVersions[].name modelVersions[].baseModel
        modelVersions[].publishedAt modelVersions[].createdAt modelVersions[].updatedAt
        modelVersions[].description modelVersions[].trainedWords modelVersions[].availability
        modelVersions[].stats modelVersions[].images modelVersions[].downloadUrl
        modelVersions[].files[].id modelVersions[].files[].name modelVersions[].files[].type
        modelVersions[].files[].sizeKB modelVersions[].files[].hashes
        modelVersions[].files[].primary modelVersions[].files[].downloadUrl
        modelVersions[].files[].scannedAt modelVersions[].files[].metadata.format""",
    "huggingface": """
        _id id modelId author tags downloads downloadsAllTime likes trendingScore gated sha
        lastModified createdAt siblings spaces inference usedStorage""",
}
_READ = {hub: frozenset(paths.split()) for hub, paths in _READ_BY_PARSERS.items()}
# whole elements of these lists come and go as versions and files
_ELEMENTS = frozenset({"modelVersions[]", "modelVersions[].files[]"})
_FIELD_KINDS = {
    **dict.fromkeys(
        ("allowCommercialUse", "allowNoCredit", "allowDerivatives", "allowDifferentLicense"),
        "license",
    ),
    **dict.fromkeys(
        [
            f"modelVersions[].files[].{scan}Scan{told}"
            for scan in ("pickle", "virus")
            for told in ("Result", "Message")
        ],
        "scan",
    ),
}
# what a list row of Hugging Face holds: a detail document repeats it at another time
_IN_LIST_ROWS = """author createdAt lastModified sha downloads likes gated disabled private
    library_name pipeline_tag tags safetensors"""
_LIST_FIELDS = frozenset(_IN_LIST_ROWS.split())


class Difference(msgspec.Struct, frozen=True):
    """One thing that was ``before`` and is ``after``; ``version`` is the hub's id of one.

    Of things that come in sets ``before`` holds what went and ``after`` what came.
    """

    kind: str
    what: str
    before: Any = None
    after: Any = None
    version: str | None = None


class State(msgspec.Struct, frozen=True):
    """A document ready to be compared; None where it could not be read as that."""

    parsed: ParsedModel | None
    tree: Any


def read_state(hub: str, raw: bytes, parse: Callable[[str, bytes], ParsedModel]) -> State:
    """A document as ``differences`` takes it. Reads anything."""
    try:
        parsed = parse(hub, raw)
    except OddDocument:
        parsed = None
    except Exception:  # a parser's own fault must not hide what else is known
        log.exception("parser failed", extra={"facts": {"hub": hub}})
        parsed = None
    try:
        tree = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        try:
            tree = json.loads(raw)  # NaN and lone surrogates
        except (ValueError, RecursionError):
            tree = None
    return State(parsed, tree)


def differences(hub: str, old: State, new: State, *, kind: str = "model") -> list[Difference]:
    """What is other in ``new``. ``kind`` "detail": of two documents that only add the files."""
    found: list[Difference] = []
    if old.parsed is not None and new.parsed is not None:
        if kind == "model":
            found += _model(old.parsed, new.parsed)
        found += _versions(old.parsed, new.parsed, commits=kind == "model")
    skipped = _READ.get(hub, frozenset())
    if kind != "model":
        skipped |= _LIST_FIELDS
    try:
        found += _fields(old.tree, new.tree, skipped)
    except RecursionError:
        found.append(Difference("field", "fields nested too deep to be compared"))
    return found


def _model(old: ParsedModel, new: ParsedModel) -> Iterator[Difference]:
    for kind, what, attribute in (
        ("renamed", "reference", "ref_id"),
        ("name", "name", "name"),
        ("type", "type", "type"),
        ("creator", "creator", "creator"),
        ("license", "license", "license"),
        ("license", "commercial use", "commercial"),
        ("gating", "gating", "gated"),
        ("state", "state", "hub_state"),
        ("nsfw", "nsfw level", "nsfw_level"),
    ):
        before, after = getattr(old, attribute), getattr(new, attribute)
        if kind == "name" and (before, after) == (old.ref_id, new.ref_id):
            continue  # on a hub where they are one
        if before != after:
            yield Difference(kind, what, before, after)
    yield from _text("description", "description", old.description, new.description, None)
    yield from _set("tags", "tags", old.tags, new.tags, None)
    counted = [name for name in ("downloads", "likes") if getattr(old, name) != getattr(new, name)]
    if counted:
        yield Difference(
            "statistics",
            "statistics",
            {name: getattr(old, name) for name in counted},
            {name: getattr(new, name) for name in counted},
        )


def _versions(old: ParsedModel, new: ParsedModel, *, commits: bool) -> Iterator[Difference]:
    before = {version.hub_id: version for version in old.versions}
    after = {version.hub_id: version for version in new.versions}
    for hub_id, version in after.items():
        if hub_id not in before:
            yield Difference("version", "version added", None, version.name, hub_id)
        else:
            yield from _version(before[hub_id], version, commits)
    for hub_id, version in before.items():
        if hub_id not in after:
            yield Difference("version", "version withdrawn", version.name, None, hub_id)


def _version(old: ParsedVersion, new: ParsedVersion, commits: bool) -> Iterator[Difference]:
    for kind, what, attribute in (
        ("version", "version name", "name"),
        ("version", "base model", "base_model"),
        ("version", "availability", "availability"),
        ("version", "published", "published_ms"),
        ("commit", "commit", "revision"),
    ):
        before, after = getattr(old, attribute), getattr(new, attribute)
        if before != after and (commits or kind != "commit"):
            yield Difference(kind, what, before, after, new.hub_id)
    yield from _text("description", "version text", old.description, new.description, new.hub_id)
    yield from _set("words", "trigger words", old.trained_words, new.trained_words, new.hub_id)
    if old.image_urls != new.image_urls:
        gone = len(set(old.image_urls) - set(new.image_urls))
        come = len(set(new.image_urls) - set(old.image_urls))
        if gone or come:
            yield Difference("pictures", "pictures", gone, come, new.hub_id)
    if old.files_known and new.files_known:
        yield from _files(old.files, new.files, new.hub_id)


def _files(
    old: tuple[ParsedFile, ...], new: tuple[ParsedFile, ...], version: str
) -> Iterator[Difference]:
    before = {file.hub_id or file.name: file for file in old}
    after = {file.hub_id or file.name: file for file in new}
    for key, file in after.items():
        was = before.get(key)
        if was is None:
            yield Difference("file", "file added", None, _facts(file), version)
            continue
        if _is_other_content(was, file):
            yield Difference("file", "file replaced", _facts(was), _facts(file), version)
        elif was.name != file.name:
            yield Difference("file", "file renamed", was.name, file.name, version)
        if was.kind != file.kind:
            yield Difference("file", f"type of {file.name}", was.kind, file.kind, version)
    for key, file in before.items():
        if key not in after:
            yield Difference("file", "file removed", _facts(file), None, version)


def _is_other_content(old: ParsedFile, new: ParsedFile) -> bool:
    """What one of the two documents leaves out tells nothing."""
    pairs = (
        (old.sha256, new.sha256),
        (old.git_sha1, new.git_sha1),
        (old.size_bytes, new.size_bytes),
    )
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    # sizes are rounded by some hubs: a hash that is known on both sides decides
    hashes = [pair for pair in known if isinstance(pair[0], bytes)]
    return any(one != other for one, other in hashes or known)


def _facts(file: ParsedFile) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": file.name, "size_bytes": file.size_bytes}
    if file.sha256 is not None:
        facts["sha256"] = file.sha256.hex()
    if file.git_sha1 is not None:
        facts["git_sha1"] = file.git_sha1.hex()
    return facts


def _set(
    kind: str, what: str, old: Iterable[str], new: Iterable[str], version: str | None
) -> Iterator[Difference]:
    before, after = dict.fromkeys(old), dict.fromkeys(new)
    gone = [name for name in before if name not in after]
    come = [name for name in after if name not in before]
    if gone or come:
        yield Difference(kind, what, gone[:MAX_NAMES], come[:MAX_NAMES], version)


def _text(kind: str, what: str, old: str, new: str, version: str | None) -> Iterator[Difference]:
    if old != new:
        yield Difference(kind, what, *excerpts(old, new), version)


def excerpts(old: str, new: str) -> tuple[str, str]:
    """The part in which two texts differ, with some of what stands around it."""
    shorter = min(len(old), len(new))
    start = _common(old, new, shorter)
    end = _common(old[start:][::-1], new[start:][::-1], shorter - start)
    start = max(0, start - 30)
    end = max(0, end - 30)
    return _cut(old, start, end), _cut(new, start, end)


def _common(one: str, other: str, limit: int) -> int:
    """How many characters at the beginning are the same, found by halving."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _cut(text: str, start: int, end: int) -> str:
    part = text[start : len(text) - end]
    if len(part) > MAX_TEXT:
        part, end = part[: MAX_TEXT - 1], 1
    return ("…" if start else "") + part + ("…" if end else "")


def _fields(old: Any, new: Any, skipped: frozenset[str]) -> list[Difference]:
    found: list[Difference] = []
    more = 0
    for plain, path, before, after in _walk(old, new, skipped):
        if len(found) == MAX_FIELDS:
            more += 1
        else:
            kind = _FIELD_KINDS.get(plain, "field")
            found.append(Difference(kind, path, _short(before), _short(after)))
    if more:
        found.append(Difference("field", f"{more} more fields"))
    return found


def _walk(old: Any, new: Any, skipped: frozenset[str]) -> Iterator[tuple[str, str, Any, Any]]:
    """Differing leaves: path with lists as [], path for people, before, after."""
    # a stack, not recursion: a hub's document may be nested as deep as it likes
    left: list[tuple[str, str, Any, Any, int]] = [("", "", old, new, 0)]
    while left:
        plain, path, before, after, depth = left.pop()
        if before == after or plain in skipped or _are_nan(before, after):
            continue
        pairs = None if depth == _MAX_DEPTH else _children(before, after)
        if pairs is None:
            if plain not in _ELEMENTS:
                yield plain, path, before, after
            continue
        in_list = isinstance(before, list)
        dot = "." if plain else ""
        for key, one, other in reversed(pairs):
            # a key may be as long as the document, and stand above thousands of others
            name = str(key)[:_MAX_KEY]
            below = (
                (f"{plain}[]", f"{path}[{name}]") if in_list
                else (f"{plain}{dot}{name}", f"{path}{dot}{name}")
            )  # fmt: skip
            left.append((*below, one, other, depth + 1))


def _are_nan(one: Any, other: Any) -> bool:
    return all(isinstance(value, float) and math.isnan(value) for value in (one, other))


def _children(old: Any, new: Any) -> list[tuple[Any, Any, Any]] | None:
    """The parts of two values side by side, or None where they are compared as wholes."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [(key, old.get(key), new.get(key)) for key in dict.fromkeys((*old, *new))]
    if isinstance(old, list) and isinstance(new, list):
        before, after = _by_key(old), _by_key(new)
        if before is not None and after is not None:
            keys = dict.fromkeys((*before, *after))
            return [(key, before.get(key), after.get(key)) for key in keys]
    return None


def _by_key(items: list[Any]) -> Mapping[Hashable, Any] | None:
    """A list of objects by what tells them apart: an element that moved is no change."""
    if not all(isinstance(item, dict) for item in items):
        return None
    for name in ("id", "rfilename", "name"):
        keys = [item.get(name) for item in items]
        if all(isinstance(key, str | int) for key in keys) and len(set(keys)) == len(keys):
            return dict(zip(keys, items, strict=True))
    return dict(enumerate(items))


def _short(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else _as_json(value)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "…"

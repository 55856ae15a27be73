"""What differs between the shape an endpoint had and the one it has now.

Pure. A difference counts when chance can't explain it: had a field been there all along as often
as it is now, how probable is it that every sighting falls into the newer documents? The same test,
turned round, tells a field that is gone from one that is rare. So one odd document is nothing, and
a hub's own mixture of documents is nothing.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import msgspec

from modelkeepd.api_changes.reads import ANY_KEY, BODY, ELEMENT, Path, Reads, Role, shown
from modelkeepd.api_changes.shape import FORMS, HOSTS, QUERIES, VALUES, Node, Shape
from modelkeepd.api_changes.wording import suggestion

Kind = Literal[
    "field_added", "field_gone", "field_rarer", "type_changed", "became_nullable",
    "enum_value_new", "status_new", "header_changed", "url_shape_changed", "cursor_changed",
    "envelope_changed", "endpoint_new",
]  # fmt: skip
Severity = Literal["harmless", "adopted", "degraded", "breaking"]

SEVERITIES: tuple[Severity, ...] = ("harmless", "adopted", "degraded", "breaking")
MAX_CHANGES = 100
GOOD = "200"

_SET_KINDS: dict[str, Kind] = {
    VALUES: "enum_value_new",
    HOSTS: "url_shape_changed",
    QUERIES: "url_shape_changed",
    FORMS: "cursor_changed",
}
# answers that every client meets now and then
_ORDINARY = frozenset({"404", "410", "408", "429", "499", "500", "502", "503", "504"})
# what it means where a field may be null from now on, and where it is gone
_NULLABLE: dict[Role, Severity] = {"essential": "degraded", "read": "adopted", "unread": "harmless"}
_GONE: dict[Role, Severity] = {"essential": "breaking", "read": "degraded", "unread": "harmless"}
_BY_ID = frozenset({"model", "version", "details", "look", "resolve"})


class Evidence(msgspec.Struct, frozen=True):
    """How much must have been seen before something counts."""

    before: int = 30  # documents that had the place, in the shape before
    chance: float = 1e-6
    always: float = 0.9  # what was there this often can be gone
    status_seen: int = 3


STATISTICS = Evidence()
# two shapes as they stand, whatever their numbers
STRUCTURE = Evidence(before=1, chance=1.0, always=0.0, status_seen=1)


class Change(msgspec.Struct, frozen=True):
    """One difference. ``before`` and ``after`` are phrases; ``place`` is ``path`` for programs."""

    kind: Kind
    severity: Severity
    path: str
    before: str
    after: str
    suggestion: str
    place: Path
    example: str = ""


def compare(
    before: Shape,
    after: Shape,
    reads: Reads,
    *,
    operation: str = "",
    evidence: Evidence = STATISTICS,
    known: Collection[str] = (),
) -> list[Change]:
    """The changes, the worst first. ``known`` are enumeration values that are no news."""
    found: list[Change] = []
    for status, node in after.statuses.items():
        old = before.statuses.get(status)
        if old is None:
            if (
                node.docs >= evidence.status_seen
                and before.answers >= min(evidence.before, 5)
                and before.answers > 0
            ):
                found.append(_new_status(status, node, operation))
            continue
        walk = _Walk(reads if status == GOOD else Reads({}, frozenset()), evidence, known)
        prefix: Path = () if status == GOOD else (f"{status}:",)
        found += walk.changes(old, node, prefix)
    found.sort(key=lambda change: (-SEVERITIES.index(change.severity), change.path))
    return found[:MAX_CHANGES]


def worst(changes: Sequence[Change]) -> Severity:
    """The highest severity among changes; ``harmless`` of none."""
    return max((c.severity for c in changes), key=SEVERITIES.index, default="harmless")


class _Walk:
    def __init__(self, reads: Reads, evidence: Evidence, known: Collection[str]) -> None:
        self._reads = reads
        self._evidence = evidence
        self._known = known

    def changes(self, old: Node, new: Node, path: Path) -> Iterator[Change]:
        yield from self._types(old, new, path)
        yield from self._sets(old, new, path)
        if not old.is_map and not new.is_map:
            yield from self._keys(old, new, path)
        if old.any_key is not None and new.any_key is not None:
            yield from self.changes(old.any_key, new.any_key, (*path, ANY_KEY))
        if old.element is not None and new.element is not None:
            yield from self.changes(old.element, new.element, (*path, ELEMENT))

    def _keys(self, old: Node, new: Node, path: Path) -> Iterator[Change]:
        n, m = old.types.get("object", 0), new.types.get("object", 0)
        for key, child in new.keys.items():
            place, mine = (*path, key), old.keys.get(key)
            if mine is not None:
                yield from self._rarer(mine, child, n, m, place)
                yield from self.changes(mine, child, place)
            elif self._is_news(child.docs, n, m):
                kind: Kind = "header_changed" if _is_header(place) else "field_added"
                role = self._reads.role(place)
                severity: Severity = "harmless" if role == "unread" else "adopted"
                yield made(kind, severity, place, role, "not there", _phrase(child, m))
        for key, child in old.keys.items():
            if key not in new.keys and self._is_gone(child.docs, n, m):
                place = (*path, key)
                yield gone(place, self._reads.role(place), _phrase(child, n), f"in none of {m}")

    def _rarer(self, old: Node, new: Node, n: int, m: int, path: Path) -> Iterator[Change]:
        """Half the hub's machines with a new program look like this."""
        role = self._reads.role(path)
        was_always = n >= self._evidence.before and old.docs >= 0.99 * n
        is_body = role != "unread" and not _is_header(path)  # short lists have no next page
        if is_body and was_always and m >= 50 and new.docs <= 0.8 * m:
            before, after = _phrase(old, n), _phrase(new, m)
            yield made("field_rarer", "degraded", path, role, before, after)

    def _types(self, old: Node, new: Node, path: Path) -> Iterator[Change]:
        role = self._reads.role(path)
        fresh = [
            kind
            for kind, count in new.types.items()
            if (kind not in old.types and self._is_news(count, old.docs, new.docs))
            or (role != "unread" and kind != "null" and self._is_the_rule(kind, old, new))
        ]
        before, after = _types_phrase(old), _types_phrase(new)
        if "null" in fresh:
            severity = _NULLABLE[role]
            if role == "essential" and set(new.types) == {"null"}:
                severity = "breaking"
            yield made("became_nullable", severity, path, role, before, after)
        if any(kind != "null" for kind in fresh):
            usable = {k for k in new.types if k != "null" and self._reads.can_use(path, k)}
            taken = all(self._reads.can_use(path, kind) for kind in fresh if kind != "null")
            yield retyped(path, role, before, after, is_usable=bool(usable), is_taken=taken)

    def _sets(self, old: Node, new: Node, path: Path) -> Iterator[Change]:
        n, m = old.types.get("string", 0), new.types.get("string", 0)
        for name, values in new.sets.items():
            known = old.sets.get(name, {})
            if values is None or known is None:
                continue
            fresh = [
                value
                for value, count in values.items()
                if value not in known and value not in self._known and self._is_news(count, n, m)
            ]
            if fresh:
                kind: Kind = "header_changed" if _is_header(path) else _SET_KINDS[name]
                role = self._reads.role(path)
                severity: Severity = "harmless" if role == "unread" else "adopted"
                if kind == "cursor_changed":
                    severity = "degraded"
                before, after = _listed(known), _listed(fresh)
                yield made(kind, severity, path, role, before, after, example=after)

    def _is_news(self, count: int, n: int, m: int) -> bool:
        return n >= self._evidence.before and _chance(count, m, n) <= self._evidence.chance

    def _is_the_rule(self, kind: str, old: Node, new: Node) -> bool:
        """Whether a type that was an exception is none any more: it may be an old one's return."""
        count, n, m = new.types[kind], old.docs, new.docs
        share = (old.types.get(kind, 0) + 1) / (n + 2)
        if n < self._evidence.before or share > 0.1 or count < 0.9 * m:
            return False
        # of m documents, some choice of count with a type that so few had
        return m * math.log(2) + count * math.log(share) <= math.log(self._evidence.chance)

    def _is_gone(self, count: int, n: int, m: int) -> bool:
        often = n >= self._evidence.before and count >= self._evidence.always * n
        return often and m > 0 and _chance(count, n, m) <= self._evidence.chance


def _chance(count: int, here: int, elsewhere: int) -> float:
    """That all of ``count`` sightings fall among ``here`` documents and none elsewhere."""
    total = here + elsewhere
    return math.exp(count * math.log(here / total)) if here and total else 1.0


def gone(path: Path, role: Role, before: str, after: str) -> Change:
    """A field that is not there any more."""
    severity = _GONE[role]
    if _is_header(path):
        return made("header_changed", severity, path, role, before, after)
    kind: Kind = "envelope_changed" if role == "essential" and _is_envelope(path) else "field_gone"
    return made(kind, severity, path, role, before, after)


def retyped(
    path: Path, role: Role, before: str, after: str, *, is_usable: bool, is_taken: bool
) -> Change:
    """A field of other types: some of them ``usable`` by us, or all of the new ones ``taken``."""
    severity: Severity = "harmless"
    if role != "unread" and not is_taken:
        severity = "breaking" if role == "essential" and not is_usable else "degraded"
    elif role != "unread":
        severity = "adopted"
    is_envelope = role == "essential" and _is_envelope(path)
    kind: Kind = "envelope_changed" if is_envelope else "type_changed"
    return made(kind, severity, path, role, before, after)


def _new_status(status: str, node: Node, operation: str) -> Change:
    number = status.partition(" ")[0]
    severity: Severity = "degraded"
    if number in _ORDINARY or (operation in _BY_ID and number in ("401", "403")):
        severity = "harmless"
    body = node.keys.get("body")
    after = _types_phrase(body) if body is not None else status.partition(" ")[2]
    path: Path = (f"{status}:",)
    return made("status_new", severity, path, "unread", "never", f"{status}, {after}")


def made(
    kind: Kind,
    severity: Severity,
    path: Path,
    role: Role,
    before: str,
    after: str,
    *,
    example: str = "",
) -> Change:
    """A change with its words."""
    text = shown(path)
    advice = suggestion(kind, severity, role, text)
    return Change(kind, severity, text, before, after, advice, path, example)


def _is_header(path: Path) -> bool:
    return "headers" in (path[1:2] if path[0].endswith(":") else path[:1])


def _is_envelope(path: Path) -> bool:
    return path in (BODY, (*BODY, "items"), (*BODY, "metadata"))


def _phrase(node: Node, parents: int) -> str:
    share = 100 * node.docs / parents if parents else 0.0
    shown_share = "all" if node.docs >= parents else f"{share:.3g} %"
    return f"{_types_phrase(node)}, in {shown_share} of {parents}"


def _types_phrase(node: Node) -> str:
    return " or ".join(sorted(node.types)) or "nothing"


def _listed(values: Collection[str]) -> str:
    few = sorted(values)[:12]
    return ", ".join(few) + (f" and {len(values) - 12} more" if len(values) > 12 else "")

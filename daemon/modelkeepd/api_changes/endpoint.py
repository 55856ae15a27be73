"""One endpoint as it is being learnt: its shape so far, what is new since, and what looks broken.

Pure state, no I/O. Answers are added to a window; from time to time the window is compared with
the shape before and, when nothing has changed, becomes part of it; but only after the next window,
or a change that began at its end would be taken in without a word. What would stop us is watched
answer by answer: an essential field that is missing from several answers in a row, where it had
always been, is a break. One odd page is none.
"""

import math
from collections import deque
from collections.abc import Collection, Sequence

import msgspec

from modelkeepd.api_changes.answer import Seen
from modelkeepd.api_changes.compare import (
    GOOD,
    SEVERITIES,
    Change,
    Evidence,
    compare,
    gone,
    retyped,
)
from modelkeepd.api_changes.places import (
    backdate,
    document_place,
    find,
    forget,
    leave_out_new,
    place_in,
    retype,
)
from modelkeepd.api_changes.reads import BODY, ELEMENT, Path, Reads, reads_of
from modelkeepd.api_changes.shape import Node, Shape, add_shape, halve, merged, scale
from modelkeepd.api_changes.wording import example_of

# changes of a version may be compared with what was learnt in a year, not with all time
REMEMBERED_DOCUMENTS = 20_000
NEW_VERSION_DOCUMENTS = 100
# an endpoint so new has nothing to spare for comparisons
_FEW_ANSWERS = 100
# the kinds of change by which something may be there no more
_GOINGS = frozenset({"field_gone", "envelope_changed", "header_changed"})


class Patience(msgspec.Struct, frozen=True):
    """How much is gathered before something is decided."""

    evidence: Evidence = Evidence()
    # the first answers are the shape, whatever they are
    first_answers: int = 5
    first_documents: int = 60
    compare_every: int = 5
    window_documents: int = 60
    # a break: so many answers in a row, of what this share of all documents had
    broken_answers: int = 3
    essential_share: float = 0.5


class Streak(msgspec.Struct):
    """Answers in a row in which one essential field could not be used."""

    answers: int = 0
    documents: int = 0
    types: set[str] = set()


class Endpoint:
    """What is known of (hub, operation). ``version`` counts the shapes it has had."""

    def __init__(
        self,
        hub: str,
        operation: str,
        *,
        version: int = 1,
        base: Shape | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.hub, self.operation = hub, operation
        self.version = version
        self.base = base or Shape()
        self.past = Shape()  # the window before this one
        self.window = Shape()
        self.is_paused = False
        self.is_unsaved = False
        self._patience = patience or Patience()
        self._reads: Reads = reads_of(hub, operation)
        self._streaks: dict[Path, Streak] = {}
        self._samples: deque[bytes] = deque(maxlen=12)
        self._compared_at = 0
        self._document: Path = BODY  # where documents stand

    @property
    def is_new(self) -> bool:
        """Still in the first answers, which are learnt whole."""
        wanted = self._patience
        return (
            self.base.answers < wanted.first_answers or self.base.documents < wanted.first_documents
        )

    @property
    def is_suspect(self) -> bool:
        """Something essential was missing of late."""
        return bool(self._streaks)

    @property
    def documents(self) -> int:
        """How many documents the shape was learnt from, as far as it remembers."""
        return self.base.documents + self.past.documents + self.window.documents

    def learn(self, seen: Seen, known: Collection[str] = ()) -> list[Change]:
        """Take in one answer; the changes that are certain by now, breaking ones included.

        The endpoint itself stays as it is until ``settled`` has been kept and is ``adopted``.
        """
        self.is_unsaved = True
        if seen.samples:
            self._samples.extend(seen.samples)
            self._document = document_place(seen.shape)
        if self._is_withdrawn(seen):
            for child in seen.shape.statuses[GOOD].keys["body"].keys.values():
                child.element = None
        if self.is_new:
            add_shape(self.base, seen.shape)
            return []
        breaks = self._breaks(seen)
        add_shape(self.window, seen.shape)
        if breaks:
            return breaks
        found: list[Change] = []
        if self.window.answers - self._compared_at >= self._patience.compare_every:
            self._compared_at = self.window.answers
            found = self.differences(known)
            if not found and self._is_full():
                self._fold()
        return found

    def differences(self, known: Collection[str] = ()) -> list[Change]:
        """What the newer documents show that the shape before has not, but breaks.

        What is gone shows in the window alone: older ones still have it.
        """
        pairs = [(self.base, self.window)]
        if self.past.answers:
            pairs.append((self.base, self._recent()))
            if self.base.answers < _FEW_ANSWERS:
                pairs.append((merged(self.base, self.past), self.window))
        found: list[Change] = []
        for before, after in pairs:
            places = {change.place for change in found}
            changes = self._compared(before, after, known)
            if after is not self.window:
                changes = [c for c in changes if c.kind not in ("field_gone", "field_rarer")]
            found += [change for change in changes if change.place not in places]
        found.sort(key=lambda change: -SEVERITIES.index(change.severity))
        return [self._with_example(change) for change in found if change.severity != "breaking"]

    def _compared(self, before: Shape, after: Shape, known: Collection[str]) -> list[Change]:
        return compare(
            before,
            after,
            self._reads,
            operation=self.operation,
            evidence=self._patience.evidence,
            known=known,
        )

    def _recent(self) -> Shape:
        return merged(self.past, self.window)

    def settled(self, changes: Sequence[Change]) -> Shape:
        """The shape after ``changes``: what is gone is forgotten, what is new belongs to it.

        It begins with a short memory, or what is new would count as rare for years.
        """
        shape, recent = merged(self.base), self._recent()
        # of the frame there is one in each answer: so many must be left that it can be judged
        answers = 2 * self._patience.evidence.before
        while shape.documents > NEW_VERSION_DOCUMENTS and (
            shape.answers > answers or shape.documents > 4 * NEW_VERSION_DOCUMENTS
        ):
            halve(shape)
        for change in changes:
            old = place_in(shape, change.place)
            if change.kind in _GOINGS and place_in(self.window, change.place) is None:
                forget(shape, change.place)
                forget(recent, change.place)
            elif old is not None and change.kind in ("type_changed", "envelope_changed"):
                # as often as before, but of the new types alone: the old ones would be news again
                old.types, old.sets, old.keys, old.element = {}, {}, {}, None
        self._leave_out_untold(self.base, recent, {change.place for change in changes})
        add_shape(shape, recent)
        told = {change.place for change in changes if change.kind == "field_rarer"}
        for status, root in self.base.statuses.items():
            if status in shape.statuses:
                place: Path = () if status == GOOD else (f"{status}:",)
                self._go_on_expecting(root, shape.statuses[status], place, told)
        for change in changes:
            newer = self.window if place_in(self.window, change.place) is not None else recent
            if change.kind == "field_added":
                backdate(shape, newer, change.place)
            elif change.kind == "type_changed":
                retype(shape, newer, change.place)
        return shape

    def _leave_out_untold(self, old: Shape, recent: Shape, told: Collection[Path]) -> None:
        """Take out of newer answers what is new in them and not yet certain to be.

        In the next version it would be known, and never be told.
        """
        for status, node in list(recent.statuses.items()):
            before = old.statuses.get(status)
            place: Path = () if status == GOOD else (f"{status}:",)
            if before is not None:
                leave_out_new(before, node, place, told, self._patience.evidence.before)
            elif place not in told:
                del recent.statuses[status]

    def _go_on_expecting(self, old: Node, whole: Node, path: Path, told: Collection[Path]) -> None:
        """Let what was nearly always there be so still, unless it was ``told`` not to be.

        A new version mostly begins amid documents of both kinds: what is new is certain before
        what is gone is, which would look like a rare field from then on and never be missed.
        """
        n, total = old.types.get("object", 0), whole.types.get("object", 0)
        for key, child in old.keys.items():
            mine, place = whole.keys.get(key), (*path, key)
            if mine is None:
                continue
            is_expected = place not in told and child.docs >= self._patience.evidence.always * n
            if is_expected and 0 < mine.docs * n < child.docs * total:
                scale(mine, child.docs * total, mine.docs * n)
            self._go_on_expecting(child, mine, place, told)
        if old.element is not None and whole.element is not None:
            self._go_on_expecting(old.element, whole.element, (*path, ELEMENT), told)

    def without(self, place: Path) -> Shape:
        """The shape that expects nothing at ``place``: a person has accepted a break."""
        shape = merged(self.base)
        forget(shape, place)
        return shape

    def adopt(self, shape: Shape) -> None:
        """A new version: this is the shape from now on."""
        self.version += 1
        self.base = shape
        self._forget_windows()

    def whole(self) -> Shape:
        """All that is known, to be kept."""
        return merged(self.base, self.past, self.window)

    def heals(self, seen: Seen) -> bool:
        """Whether this answer has all that is essential again."""
        node = seen.shape.statuses.get(GOOD)
        if node is None or not seen.shape.documents or self._is_withdrawn(seen):
            return False
        return all(usable or self._never_had(path) for path, _, usable, _ in self._essentials(node))

    def _is_withdrawn(self, seen: Seen) -> bool:
        """Whether this document lacks much by nature."""
        node = seen.shape.statuses.get(GOOD)
        found = [find(node, path) for path in self._reads.withdrawn] if node is not None else []
        return any(mark is not None and "string" in mark.types for mark in found)

    def _never_had(self, path: Path) -> bool:
        parent, child = self._before(path)
        n = 0 if parent is None else parent.types.get("object", 0)
        is_known = n >= self._patience.first_answers
        return is_known and (child is None or child.docs < self._patience.essential_share * n)

    def start_afresh(self) -> None:
        """Forget what was new, be it broken: after a pause, counting begins anew."""
        self._streaks.clear()
        self._forget_windows()

    def _forget_windows(self) -> None:
        self.past, self.window, self._compared_at = Shape(), Shape(), 0

    def _is_full(self) -> bool:
        return (
            self.window.documents >= self._patience.window_documents
            or self.window.answers >= 4 * self._patience.window_documents
        )

    def _fold(self) -> None:
        for status, node in self.past.statuses.items():
            if status in self.base.statuses:
                self._drop_types(self.base.statuses[status], node)
        add_shape(self.base, self.past)
        if self.base.documents > REMEMBERED_DOCUMENTS:
            halve(self.base)
        self.past, self.window, self._compared_at = self.window, Shape(), 0

    def _drop_types(self, old: Node, new: Node) -> None:
        """Forget types that have quietly gone: should one come back, that is news again."""
        for kind, count in list(old.types.items()):
            if kind not in new.types and new.docs and old.docs >= self._patience.evidence.before:
                chance = count * math.log(old.docs / (old.docs + new.docs))
                if chance < math.log(self._patience.evidence.chance) and len(old.types) > 1:
                    del old.types[kind]
        for key, child in new.keys.items():
            if key in old.keys:
                self._drop_types(old.keys[key], child)
        if old.element is not None and new.element is not None:
            self._drop_types(old.element, new.element)

    def _essentials(self, node: Node) -> list[tuple[Path, int, int, set[str]]]:
        """Of each essential path: documents that could have it, that have it usable, its types."""
        found = []
        for path in self._reads.essential:
            parent, child = find(node, path[:-1]), find(node, path)
            if parent is None:
                continue
            parents = parent.types.get("object", 0)
            if not parents:
                continue
            kinds = dict(child.types) if child is not None else {}
            usable = [n for k, n in kinds.items() if k != "null" and self._reads.can_use(path, k)]
            found.append((path, parents, max(usable, default=0), set(kinds)))
        return found

    def _breaks(self, seen: Seen) -> list[Change]:
        node = seen.shape.statuses.get(GOOD)
        if node is None:
            return []
        found = []
        for path, parents, usable, kinds in self._essentials(node):
            missing = None if usable else self._chance_of_missing(path)
            if missing is None:
                self._streaks.pop(path, None)
                continue
            streak = self._streaks.setdefault(path, Streak())
            streak.answers += 1
            streak.documents += parents
            streak.types |= kinds
            if (
                streak.answers >= self._patience.broken_answers
                and missing**streak.documents <= self._patience.evidence.chance
            ):
                found.append(self._break(path, streak))
        # what stands inside of a missing field is missing with it
        found.sort(key=lambda change: len(change.place))
        return found[:1]

    def _chance_of_missing(self, path: Path) -> float | None:
        """How probable it is that a document lacks this; None where that is nothing unusual."""
        parent, child = self._before(path)
        if parent is None or child is None:
            return None
        n, evidence = parent.types.get("object", 0), self._patience.evidence
        if n < min(evidence.before, self._patience.first_answers):
            return None
        if child.docs < self._patience.essential_share * n:
            return None
        # as often as it was missing before, and once more for what has not been seen
        return (n - min(child.docs, n) + 1) / (n + 2)

    def _before(self, path: Path) -> tuple[Node | None, Node | None]:
        """What stood around a place, and there, in the shape before."""
        root = self.base.statuses.get(GOOD)
        return (None, None) if root is None else (find(root, path[:-1]), find(root, path))

    def _break(self, path: Path, streak: Streak) -> Change:
        root = self.base.statuses[GOOD]
        old = find(root, path)
        assert old is not None
        before = " or ".join(sorted(old.types))
        count = f"{streak.answers} answers in a row"
        if streak.types:
            after = f"{' or '.join(sorted(streak.types))}, in {count}"
            change = retyped(path, "essential", before, after, is_usable=False, is_taken=False)
        else:
            change = gone(path, "essential", before, f"missing from {count}")
        return self._with_example(change)

    def _with_example(self, change: Change) -> Change:
        if change.example:
            return change
        if change.place[: len(self._document)] != self._document:
            return change  # of the envelope, and samples are documents
        inner = change.place[len(self._document) :]
        is_gone = change.kind == "field_gone"
        example = example_of(list(self._samples)[::-1], inner, is_gone=is_gone)
        return msgspec.structs.replace(change, example=example)

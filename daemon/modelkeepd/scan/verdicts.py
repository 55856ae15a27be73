"""The verdict ladder: what the scanner may say of a file.

Owns the words and their order. Default deny: `safe` is the outcome of a proof, never of having
found nothing. Whatever could not be looked at (a cap, an error, an unknown format) is
`not-scanned`, which counts as worse than `review` and never as `safe`.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    SAFE = "safe"
    REVIEW = "review"
    NOT_SCANNED = "not-scanned"
    MALFORMED = "malformed"
    DANGEROUS = "dangerous"


_ORDER = {verdict: rank for rank, verdict in enumerate(Verdict)}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of the whole when its parts have these; of nothing, `not-scanned`."""
    return max(verdicts, key=_ORDER.__getitem__, default=Verdict.NOT_SCANNED)


@dataclass(frozen=True, slots=True)
class Reason:
    """One finding: the rule's stable name, what it means here, and where in the file."""

    rule: str
    what: str
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """The very bytes a verdict is about; any difference voids it."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Report:
    verdict: Verdict
    format: str
    reasons: tuple[Reason, ...] = ()
    subject: Subject | None = None


@dataclass(slots=True)
class Findings:
    """Collects reasons while a part is examined; the verdict only ever moves up the ladder.

    It starts at what the part would be if nothing more came: a proof starts at `safe`, everything
    else no better than `review`.
    """

    verdict: Verdict
    reasons: list[Reason]

    @classmethod
    def starting_at(cls, verdict: Verdict) -> "Findings":
        return cls(verdict, [])

    def add(self, verdict: Verdict, rule: str, what: str, offset: int | None = None) -> None:
        self.verdict = worst((self.verdict, verdict))
        if len(self.reasons) < MAX_REASONS:
            self.reasons.append(Reason(rule, what, offset))

    def note(self, rule: str, what: str, offset: int | None = None) -> None:
        """A reason that tells the user something without moving the verdict."""
        self.add(self.verdict, rule, what, offset)

    def merge(self, other: "Findings") -> None:
        self.verdict = worst((self.verdict, other.verdict))
        self.reasons.extend(other.reasons[: MAX_REASONS - len(self.reasons)])


MAX_REASONS = 64
"""A hostile file must not make a report of millions of lines; the verdict keeps counting."""


class Malformed(Exception):
    """A structural rule is broken; carries the rule's name so that the report can show it."""

    def __init__(self, rule: str, what: str, offset: int | None = None) -> None:
        super().__init__(what)
        self.rule = rule
        self.what = what
        self.offset = offset

"""Faults as data: which requests go wrong, and how.

A fault is `{"match": {...}, "do": {...}}`. For every request the list is gone through in order and
the first fault that fits and is not used up is applied. This module decides and changes requests
and responses; the lying itself is done by the server from `Delivery`. README.md lists the words.
"""

from __future__ import annotations

import fnmatch
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.hubsim.fault_actions import AFTERWARDS, FIRST
from tests.hubsim.messages import Request, Response

_MATCH_WORDS = {
    "path", "regex", "method", "storage", "nth", "after", "times", "chance", "range",
}  # fmt: skip


@dataclass(slots=True)
class Fault:
    match: Mapping[str, object]
    do: Mapping[str, object]
    after: int
    times: int | None
    seen: int = 0
    used: int = 0

    @classmethod
    def of(cls, spec: Mapping[str, object]) -> Fault:
        """Read a fault; raises ValueError that says which word is not understood."""
        unknown = set(spec) - {"match", "do"}
        match, do = spec.get("match", {}), spec.get("do")
        if isinstance(do, str):
            do = {do: {}}
        if unknown or not isinstance(match, Mapping) or not isinstance(do, Mapping) or not do:
            raise ValueError(f'a fault is {{"match": {{...}}, "do": {{...}}}}, not {spec!r}')
        for word in set(match) - _MATCH_WORDS:
            raise ValueError(f"unknown word in match: {word}; known: {sorted(_MATCH_WORDS)}")
        for word in set(do) - set(FIRST) - set(AFTERWARDS):
            raise ValueError(f"unknown fault: {word}; known: {sorted({*FIRST, *AFTERWARDS})}")
        after, times = int(str(match.get("after", 0))), match.get("times", 1)
        if "nth" in match:
            after, times = int(str(match["nth"])) - 1, match.get("times", 1)
        if "chance" in match and "times" not in match:
            times = None
        # 0 and null mean: for ever.
        return cls(match, do, after, int(str(times)) if times else None)

    def fits(self, request: Request) -> bool:
        match = self.match
        if "storage" in match and bool(match["storage"]) != request.storage:
            return False
        if "method" in match and str(match["method"]).upper() != request.method:
            return False
        if "path" in match and not fnmatch.fnmatchcase(request.path, str(match["path"])):
            return False
        if "range" in match and bool(match["range"]) != (request.header("range") is not None):
            return False
        return "regex" not in match or bool(re.search(str(match["regex"]), request.target))

    def to_json(self) -> dict[str, object]:
        return {
            "match": dict(self.match),
            "do": dict(self.do),
            "seen": self.seen,
            "used": self.used,
        }


class Faults:
    """The script of one hub. Faults are consumed in the order they were added."""

    def __init__(self, specs: Iterable[Mapping[str, object]] = (), seed: int = 1) -> None:
        self._random = random.Random(seed)
        self.items = [Fault.of(spec) for spec in specs]

    def add(self, path: str | None = None, do: object = None, **match: object) -> Fault:
        """`add("/api/v1/models", {"status": 500}, times=2)`; a path may have * and ?."""
        if path is not None:
            match["path"] = path
        fault = Fault.of({"match": match, "do": do})
        self.items.append(fault)
        return fault

    def extend(self, specs: Iterable[Mapping[str, object]]) -> None:
        self.items += [Fault.of(spec) for spec in specs]

    def clear(self) -> None:
        self.items.clear()

    def take(self, request: Request) -> Fault | None:
        """The fault for this request, if any; counts it as used."""
        for fault in self.items:
            if not fault.fits(request):
                continue
            fault.seen += 1
            if fault.seen <= fault.after or (fault.times and fault.used >= fault.times):
                continue
            chance = fault.match.get("chance")
            if chance is not None and self._random.random() >= float(str(chance)):
                continue
            fault.used += 1
            return fault
        return None


def before(fault: Fault, request: Request) -> Response | None:
    """Let the fault change the request; a Response given back replaces the dialect's answer."""
    for word, args in fault.do.items():
        change = FIRST.get(word)
        response = change(request, args) if change else None
        if response is not None:
            return response
    return None


def after(fault: Fault, request: Request, response: Response) -> Response:
    for word, args in fault.do.items():
        change = AFTERWARDS.get(word)
        if change:
            response = change(request, response, args)
    return response

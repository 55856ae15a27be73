"""Named points where a test may kill or break the process; nothing in production.

``MODELKEEP_FAILPOINTS="transfer.after_rename=kill;store.before_commit=raise:3"``: at the third
commit raise, at the first rename die by SIGKILL. Names are ``domain.before_thing`` or
``domain.after_thing``.
"""

import os
import signal
import threading

_lock = threading.Lock()


class FailpointReached(Exception):
    """Raised at a fail-point set to ``raise``."""


def _parse(text: str) -> dict[str, tuple[str, int]]:
    points: dict[str, tuple[str, int]] = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        name, _, action = part.partition("=")
        word, _, count = action.partition(":")
        if word not in ("kill", "raise") or not (count or "1").isdecimal():
            raise ValueError(f"MODELKEEP_FAILPOINTS: {part!r} is not NAME=kill|raise[:N]")
        points[name] = (word, int(count or "1"))
    return points


_points: dict[str, tuple[str, int]] = _parse(os.environ.get("MODELKEEP_FAILPOINTS", ""))


def configure(text: str) -> None:
    """Replace the points set (tests, in process)."""
    _points.clear()
    _points.update(_parse(text))


def hit(name: str) -> None:
    """Die or raise here if a test asked for it."""
    if not _points:
        return
    with _lock:
        found = _points.get(name)
        if found is None:
            return
        action, left = found
        if left > 1:
            _points[name] = (action, left - 1)
            return
        del _points[name]
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise FailpointReached(name)

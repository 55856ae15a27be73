"""Quiet hours: when background work leaves the hubs, and the user's line, alone. Pure."""

import re
from datetime import datetime, time

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def is_quiet(now: datetime, text: str) -> bool:
    """Whether local time ``now`` lies in ``HH:MM-HH:MM``, over midnight where that is earlier.

    The first minute is quiet and the last is not; from an hour to the same hour is the whole day.
    An empty text is never quiet, nor is one that is no span of hours.
    """
    found = _HOURS.fullmatch(text.strip())
    if found is None:
        return False
    start, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    at = now.time().replace(tzinfo=None)
    if start < end:
        return start <= at < end
    return at >= start or at < end


def local_time(wall_ms: int) -> datetime:
    """The machine's local time, by the daemon's clock."""
    return datetime.fromtimestamp(wall_ms / 1000).astimezone()

"""A hub's own rate limit, as its ``RateLimit`` and ``RateLimit-Policy`` headers tell it.

Pure. The hub's numbers win over ours: what it has left is spread over the rest of its window for
background work, and a share is kept for people; when nothing is left, everybody waits.
"""

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

Urgency = Literal["interactive", "background"]

# of a window, kept for what people ask for
RESERVE_SHARE = 0.1
# a number from outside: after this long the hub is asked again whatever it said
LONGEST_WINDOW_S = 900.0

_ITEM = re.compile(r'"([^"]{1,64})"((?:\s*;\s*[a-z]{1,8}=[^;,"]{1,20})+)')
_PARAMETER = re.compile(r"([a-z]{1,8})=(\d{1,12})(?=\s*(?:;|$))")


class Quota(msgspec.Struct, frozen=True):
    """What one answer says of one of the hub's limits."""

    name: str
    left: int
    resets_s: float
    size: int | None = None


def read_quotas(headers: Mapping[str, str]) -> tuple[Quota, ...]:
    """The limits that an answer's headers tell; nothing when they tell none that can be read.

    ``RateLimit: "api";r=489;t=211`` with ``RateLimit-Policy: "fixed window";"api";q=500;w=300``.
    """
    sizes = {
        name: given["q"]
        for name, given in _items(headers.get("ratelimit-policy", ""))
        if "q" in given
    }
    return tuple(
        Quota(name, given["r"], min(float(given["t"]), LONGEST_WINDOW_S), sizes.get(name))
        for name, given in _items(headers.get("ratelimit", ""))
        if "r" in given and "t" in given
    )


def _items(value: str) -> list[tuple[str, dict[str, int]]]:
    return [
        (found[1], {name: int(number) for name, number in _PARAMETER.findall(found[2])})
        for found in _ITEM.finditer(value[:1000])
    ]


class Window:
    """One of a hub's limits, as far as it is known now."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.left: int | None = None
        self.size: int | None = None
        self._resets_at = float("-inf")
        self._background_at = float("-inf")

    def learn(self, quota: Quota, now: float, under_way: int = 0) -> None:
        """An answer tells. ``under_way`` requests are not in its number yet."""
        self.left = max(0, quota.left - under_way)
        self.size = quota.size if quota.size is not None else self.size
        self._resets_at = now + quota.resets_s

    def resets_s(self, now: float) -> float | None:
        """Until the window ends; None when none is known to run."""
        return self._resets_at - now if self._resets_at > now else None

    def left_at(self, now: float) -> int | None:
        """Requests left; None when that is not known."""
        return self.left if self._resets_at > now else None

    def spent(self, urgency: Urgency, now: float) -> None:
        """A request goes out."""
        if self.left is not None:
            self.left = max(0, self.left - 1)
        if urgency == "background":
            self._background_at = now

    def wait_s(self, urgency: Urgency, now: float) -> float:
        """How long such a request has to wait for this limit."""
        # a second more: the hub's clock is not ours
        rest_s = self._resets_at + 1.0 - now
        if self.left is None or rest_s <= 0:
            return 0.0
        if self.left == 0:
            return rest_s
        if urgency == "interactive":
            return 0.0
        free = self.left - round((self.size or 0) * RESERVE_SHARE)
        if free <= 0:
            return rest_s
        return max(0.0, self._background_at + rest_s / free - now)

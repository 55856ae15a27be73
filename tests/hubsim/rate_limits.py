"""Request quotas in fixed windows: per caller and bucket, announced on every response."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Window:
    ends_s: float
    used: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What a caller has left of one bucket."""

    bucket: str
    quota: int
    left: int
    reset_s: int
    window_s: int
    refused: bool

    def headers(self) -> list[tuple[str, str]]:
        return [
            ("RateLimit", f'"{self.bucket}";r={self.left};t={self.reset_s}'),
            (
                "RateLimit-Policy",
                f'"fixed window";"{self.bucket}";q={self.quota};w={self.window_s}',
            ),
        ]


class RateLimits:
    """A window begins with the first request after the one before it ended."""

    def __init__(
        self, quotas: Mapping[str, int], window_s: int, now_s: Callable[[], float]
    ) -> None:
        self._quotas = dict(quotas)
        self._window_s = window_s
        self._now_s = now_s
        self._windows: dict[tuple[str, str], _Window] = {}

    def spend(self, caller: str, bucket: str) -> Standing:
        """Count one request; a refused one costs nothing."""
        now_s = self._now_s()
        window = self._windows.get((caller, bucket))
        if window is None or now_s >= window.ends_s:
            window = self._windows[caller, bucket] = _Window(now_s + self._window_s)
        quota = self._quotas[bucket]
        refused = window.used >= quota
        window.used += not refused
        reset_s = max(1, math.ceil(window.ends_s - now_s))
        left = max(0, quota - window.used)
        return Standing(bucket, quota, left, reset_s, self._window_s, refused)

"""When to try again: pure arithmetic on attempts, Retry-After and chance.

Owns the schedule. Sleeps nowhere and knows no job: the caller hands in the attempt's number and a
source of chance.
"""

import random
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Full jitter: a delay anywhere between zero and an exponentially growing bound."""

    first_s: float = 1.0
    cap_s: float = 300.0
    max_attempts: int = 8
    retry_after_cap_s: float = 3600.0
    quick_attempts: int = 4  # within one run, before the job is put to wait

    def delay_s(self, attempts: int, retry_after_s: float | None, chance: random.Random) -> float:
        """Seconds until attempt number ``attempts + 1``; the far side's wish is a floor."""
        bound = min(self.cap_s, self.first_s * 2.0 ** min(attempts, 30))
        jittered = chance.uniform(0.0, bound)
        if retry_after_s is None:
            return jittered
        floor = min(max(retry_after_s, 0.0), self.retry_after_cap_s)
        return floor + min(jittered, 1.0 + floor * 0.1)


def parse_retry_after(value: str | None, now_ms: int) -> float | None:
    """Seconds from either form of the header; 0 for the past, None for rubbish."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        at = parsedate_to_datetime(value)
        return max(0.0, at.timestamp() - now_ms / 1000)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None

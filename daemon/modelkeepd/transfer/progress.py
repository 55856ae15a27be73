"""How far a running job is and how fast: latest values, never history."""

from collections import deque
from dataclasses import dataclass, field

from modelkeepd.transfer.contract import Progress

_WINDOW = 8


@dataclass(slots=True, eq=False)
class LiveProgress:
    """What a running job counts; lost with the process, and that is fine."""

    total_bytes: int | None
    fetched: Progress = field(default_factory=Progress)
    samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_WINDOW))


@dataclass(frozen=True, slots=True)
class ProgressNow:
    bytes_done: int
    total_bytes: int | None
    rate_bytes_per_s: float
    eta_s: float | None


class Sampler:
    """Rates over the last few samples."""

    def add(self, progress: LiveProgress, now_s: float) -> None:
        progress.samples.append((now_s, progress.fetched.received_bytes))

    def now(self, progress: LiveProgress) -> ProgressNow:
        rate = 0.0
        if len(progress.samples) >= 2:
            (first_s, first), (last_s, last) = progress.samples[0], progress.samples[-1]
            rate = (last - first) / (last_s - first_s) if last_s > first_s else 0.0
        done, total = progress.fetched.position, progress.total_bytes
        eta = (total - done) / rate if total is not None and rate > 0 else None
        return ProgressNow(done, total, rate, eta)

"""The machine's clocks behind one object, so that tests can hand in their own.

Wall time is for people and for rows; monotonic time is for waiting and rates; boot time also
counts suspend. Waiting itself is always trio's, so that trio's mock clock works.
"""

import time


class Clocks:
    """The real clocks."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never go backwards and stand still during suspend."""
        return time.monotonic()

    def boot(self) -> float:
        """Seconds since boot including suspend, where the system has such a clock."""
        clock_boottime = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if clock_boottime is None else time.clock_gettime(clock_boottime)

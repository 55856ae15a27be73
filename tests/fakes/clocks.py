"""Clocks a test sets by hand. They move only when told to."""

from modelkeepd.clocks import Clocks


class FakeClocks(Clocks):
    """Wall, monotonic and boot time, each settable on its own."""

    def __init__(
        self, wall_ms: int = 1_750_000_000_000, monotonic: float = 1_000.0, boot: float = 1_000.0
    ) -> None:
        self.set_wall_ms = wall_ms
        self.set_monotonic = monotonic
        self.set_boot = boot

    def wall_ms(self) -> int:
        return self.set_wall_ms

    def monotonic(self) -> float:
        return self.set_monotonic

    def boot(self) -> float:
        return self.set_boot

    def advance(self, seconds: float) -> None:
        """Time passes: all three move."""
        self.set_wall_ms += round(seconds * 1000)
        self.set_monotonic += seconds
        self.set_boot += seconds

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: monotonic time stands still."""
        self.set_wall_ms += round(seconds * 1000)
        self.set_boot += seconds

    def set_the_clock(self, seconds: float) -> None:
        """Somebody, or the network, sets the wall clock forth or back."""
        self.set_wall_ms += round(seconds * 1000)

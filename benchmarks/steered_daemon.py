"""A daemon whose clocks are set from outside: ``python -m benchmarks.steered_daemon``.

The daemon itself, unchanged, with other clocks handed in: wall, monotonic and boot time are the
machine's and the number of seconds that stands in the file ``MK_CLOCK_FILE``, which may grow while
it runs. A week passes in the time that its work takes.
"""

import functools
import mmap
import os
import struct
import sys
from pathlib import Path

from modelkeepd import app
from modelkeepd.__main__ import main
from modelkeepd.clocks import Clocks

FILE_VARIABLE = "MK_CLOCK_FILE"
_SECONDS = struct.Struct("d")


class SteeredClocks(Clocks):
    """The machine's, and some seconds."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._ahead = mmap.mmap(file.fileno(), _SECONDS.size, access=mmap.ACCESS_READ)

    def _ahead_s(self) -> float:
        found: float = _SECONDS.unpack(self._ahead)[0]
        return found

    def wall_ms(self) -> int:
        return super().wall_ms() + round(self._ahead_s() * 1000)

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead_s()

    def boot(self) -> float:
        return super().boot() + self._ahead_s()


def steer(path: Path, ahead_s: float) -> None:
    """Set the clocks of whoever reads them there, now and later."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.write(_SECONDS.pack(ahead_s))


def steered(path: Path) -> float:
    """How many seconds ahead they are."""
    found: float = _SECONDS.unpack(path.read_bytes())[0]
    return found


if __name__ == "__main__":
    clocks = SteeredClocks(Path(os.environ[FILE_VARIABLE]))
    app.serve = functools.partial(app.serve, clocks=clocks)
    sys.exit(main())

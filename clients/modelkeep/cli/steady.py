"""A connection for following: it outlives a restart of the daemon.

Only for questions that may be asked twice. Jobs are the daemon's and have their numbers for life,
so whoever follows them goes on where it was.
"""

from __future__ import annotations

import time

from modelkeep.connect import CALL_S, Connection, NoDaemon

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# a restart takes a second or two; who is away for longer was stopped
PATIENCE_S = 15.0
_PAUSE_S = 0.3


class Steady:
    """``say`` gets a line when the daemon has gone, and when it is back."""

    def __init__(self, daemon: Connection, say: Callable[[str], None]) -> None:
        self._daemon: Connection | None = daemon
        self._say = say
        self._away_since: float | None = None

    def call(self, method: str, params: dict[str, Any], *, deadline_s: float = CALL_S) -> Any:
        """As ``Connection.call``. Raises NoDaemon when the daemon stays away."""
        while True:
            try:
                if self._daemon is None:
                    self._daemon = Connection()
                answer = self._daemon.call(method, params, deadline_s=deadline_s)
            except NoDaemon as gone:
                self._wait(gone)
            else:
                if self._away_since is not None:
                    self._away_since = None
                    self._say("the daemon is back")
                return answer

    def close(self) -> None:
        """Hang up."""
        if self._daemon is not None:
            self._daemon.close()
            self._daemon = None

    def _wait(self, gone: NoDaemon) -> None:
        """A pause before the next try; raises when there was no answer for too long."""
        self.close()
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._say(f"{gone.lines[0]}; waiting for it to come back")
        elif now - self._away_since >= PATIENCE_S:
            raise gone
        time.sleep(_PAUSE_S)

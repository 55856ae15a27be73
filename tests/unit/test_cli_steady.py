"""Following over a restart of the daemon: how long, and what is said."""

import pytest

from modelkeep.cli import steady
from modelkeep.cli.steady import PATIENCE_S, Steady
from modelkeep.connect import NoDaemon

GONE = NoDaemon("the daemon at X went away", "It was stopped.", "Start it.")


class Clock:
    """Stands for the module ``time``: pauses pass at once."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Daemon:
    """A connection whose calls end as listed; hung up, it is not asked again."""

    def __init__(self, *ends):
        self.ends = list(ends)
        self.is_open = True

    def call(self, method, params, *, deadline_s):
        assert self.is_open
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    def close(self):
        self.is_open = False


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(steady, "time", clock)
    return clock


def connecting(monkeypatch, *results):
    """Each new connection is the next of these; the last for ever."""
    left = list(results)

    def connect():
        result = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(steady, "Connection", connect)


def test_a_restart_is_waited_for_and_told(monkeypatch, clock):
    said = []
    connecting(monkeypatch, GONE, GONE, Daemon("again", GONE), Daemon("and again"))
    daemon = Steady(Daemon("first", GONE), said.append)
    assert [daemon.call("m", {}) for _ in range(3)] == ["first", "again", "and again"]
    away, back = "the daemon at X went away; waiting for it to come back", "the daemon is back"
    assert said == [away, back, away, back]


def test_who_stays_away_is_given_up(monkeypatch, clock):
    said = []
    connecting(monkeypatch, GONE)
    daemon = Steady(Daemon(GONE), said.append)
    began = clock.now
    with pytest.raises(NoDaemon):
        daemon.call("m", {})
    assert PATIENCE_S <= clock.now - began < PATIENCE_S + 1
    assert len(said) == 1
    daemon.close()


def test_other_errors_are_not_waited_for(clock):
    daemon = Steady(Daemon(ValueError("broken")), lambda _line: None)
    with pytest.raises(ValueError, match="broken"):
        daemon.call("m", {})

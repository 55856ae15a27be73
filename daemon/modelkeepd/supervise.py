"""Starts services in a listed order, keeps them running, stops them in exactly the reverse.

A service is ready when it is usable. One that crashes is restarted with backoff; an essential one
that keeps crashing ends the daemon. Stopping is one service at a time, each in its own shielded
scope: nested nurseries would all be canceled at once, the database before its users.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

log = logging.getLogger(__name__)

# 0.5 s, doubled, at most 30 s; five crashes within ten minutes are too many
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
CRASHES_ALLOWED = 5
CRASH_WINDOW_S = 600.0


class Service(Protocol):
    """One part of the daemon."""

    name: str
    essential: bool

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Work until canceled; call ``task_status.started()`` once usable."""


class StopRequest:
    """Somebody wants the daemon to end: a signal, a client, a crash."""

    def __init__(self) -> None:
        self.reason = ""
        self.failed = False
        self._asked = trio.Event()

    def request(self, reason: str, *, failed: bool = False) -> None:
        """Ask; the first reason stays."""
        if not self._asked.is_set():
            self.reason, self.failed = reason, failed
            self._asked.set()

    @property
    def requested(self) -> bool:
        """Whether anybody asked."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Until somebody asks."""
        await self._asked.wait()


@dataclass(slots=True)
class Running:
    """A service under supervision."""

    service: Service
    name: str
    state: str = "starting"
    crashes: list[float] = field(default_factory=list)
    scope: trio.CancelScope = field(default_factory=lambda: trio.CancelScope(shield=True))
    # the start may go on: it is usable, or will not be for now
    settled: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)

    async def stop(self, grace_s: float) -> bool:
        """Cancel and wait; False when it overran ``grace_s``."""
        self.scope.cancel(reason="shutdown")
        with trio.move_on_after(grace_s, shield=True):
            await self.ended.wait()
        return self.ended.is_set()


class Supervisor:
    """Runs the services of one daemon."""

    def __init__(
        self,
        services: Sequence[Service],
        stop: StopRequest,
        *,
        clock: Callable[[], float] = trio.current_time,
        service_grace_s: float = 2.0,
    ) -> None:
        self.stop = stop
        self.running: list[Running] = []
        self._services = services
        self._clock = clock
        self._grace_s = service_grace_s

    @property
    def states(self) -> dict[str, str]:
        """Name of each service and how it is."""
        return {running.name: running.state for running in self.running}

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> list[str]:
        """Start all, wait for the stop request, stop all. Returns who did not stop in time."""
        late: list[str] = []
        async with trio.open_nursery() as nursery:
            try:
                for service in self._services:
                    running = Running(service, service.name)
                    self.running.append(running)
                    nursery.start_soon(self._keep_running, running)
                    await self._settled_or_stopping(running)
                    if self.stop.requested:
                        break
                else:
                    on_ready()
                await self.stop.wait()
            finally:
                with trio.CancelScope(shield=True):
                    for running in reversed(self.running):
                        if not await running.stop(self._grace_s):
                            late.append(running.name)
                            _log(log.error, "service did not stop in time", running)
        return late

    async def _settled_or_stopping(self, running: Running) -> None:
        # a start that hangs must not keep the daemon from stopping
        async with trio.open_nursery() as nursery:

            async def give_up() -> None:
                await self.stop.wait()
                nursery.cancel_scope.cancel(reason="stopping")

            nursery.start_soon(give_up)
            await running.settled.wait()
            nursery.cancel_scope.cancel(reason="settled")

    async def _keep_running(self, running: Running) -> None:
        """Run one service again and again until it is stopped or gives up."""
        try:
            with running.scope:
                goes_on = True
                while goes_on:
                    goes_on = await self._live_and_crash(running)
        except Exception:
            # raised while it was canceled: the others' stopping is none of its business
            _log(log.exception, "service failed while stopping", running)
        finally:
            if running.state != "failed":
                running.state = "stopped"
            running.ended.set()
            running.settled.set()

    async def _live_and_crash(self, running: Running) -> bool:
        """One life of a service and the pause after it; False when it was the last one."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(running.service.run)
                running.state = "running"
                running.settled.set()
            _log(log.warning, "service ended", running)
        except Exception:
            _log(log.exception, "service crashed", running)
        now = self._clock()
        running.crashes = [at for at in running.crashes if now - at < CRASH_WINDOW_S]
        running.crashes.append(now)
        too_many = len(running.crashes) >= CRASHES_ALLOWED
        running.state = "failed" if too_many else "restarting"
        if running.service.essential and (too_many or not running.settled.is_set()):
            # at start-up an essential service has one chance: say so at once
            why = "keeps crashing" if running.settled.is_set() else "could not start"
            running.state = "failed"
            self.stop.request(f"{running.name} {why}", failed=True)
            return False
        running.settled.set()
        await trio.sleep(_delay_s(len(running.crashes)))
        return True


def _delay_s(crashes: int) -> float:
    """Before the next life, by the number of recent crashes."""
    if crashes >= CRASHES_ALLOWED:
        return LONGEST_DELAY_S
    return float(min(FIRST_DELAY_S * 2 ** (crashes - 1), LONGEST_DELAY_S))


def _log(write: Callable[..., None], message: str, running: Running) -> None:
    write(message, extra={"facts": {"service": running.name}})

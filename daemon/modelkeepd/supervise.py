"""Starts services in a listed order, keeps them running, stops them in exactly the reverse.

A service is ready when it is usable. One that crashes is restarted with backoff; an essential one
that keeps crashing ends the daemon. Stopping is one service at a time, each in its own shielded
scope: nested nurseries would all be canceled at once, the database before its users.
"""

import logging
import math
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


class GaveUp(Exception):
    """A service crashed too often or never became ready."""


@dataclass(slots=True)
class Running:
    """A service under supervision."""

    service: Service
    state: str = "starting"
    crashes: list[float] = field(default_factory=list)
    scope: trio.CancelScope = field(default_factory=lambda: trio.CancelScope(shield=True))
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
        return {running.service.name: running.state for running in self.running}

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> list[str]:
        """Start all, wait for the stop request, stop all. Returns who did not stop in time."""
        late: list[str] = []
        async with trio.open_nursery() as nursery:
            try:
                for service in self._services:
                    running = Running(service)
                    self.running.append(running)
                    await nursery.start(self._keep_running, running)
                    if self.stop.requested:
                        break
                else:
                    on_ready()
                await self.stop.wait()
            finally:
                with trio.CancelScope(shield=True):
                    for running in reversed(self.running):
                        if not await running.stop(self._grace_s):
                            late.append(running.service.name)
                            log.error(
                                "service did not stop",
                                extra={"facts": {"service": running.service.name}},
                            )
                if late:
                    nursery.cancel_scope.cancel(reason="overrun")
        return late

    async def _keep_running(self, running: Running, *, task_status: trio.TaskStatus[None]) -> None:
        """Run one service again and again until it is stopped or gives up."""
        told = _Once(task_status)
        name = running.service.name
        delay_s = FIRST_DELAY_S
        try:
            with running.scope:
                while True:
                    try:
                        async with trio.open_nursery() as nursery:
                            await nursery.start(self._one_life, running)
                            running.state = "running"
                            told.started()
                        running.state = "ended"
                        log.warning("service ended", extra={"facts": {"service": name}})
                    except Exception:
                        log.exception("service crashed", extra={"facts": {"service": name}})
                    now = self._clock()
                    running.crashes = [t for t in running.crashes if now - t < CRASH_WINDOW_S]
                    running.crashes.append(now)
                    if len(running.crashes) >= CRASHES_ALLOWED:
                        running.state = "failed"
                        if running.service.essential:
                            self.stop.request(f"{name} keeps crashing", failed=True)
                            return
                        delay_s = LONGEST_DELAY_S
                    else:
                        running.state = "restarting"
                    if not told.done and running.service.essential:
                        # at start-up an essential service has one chance: say so at once
                        self.stop.request(f"{name} could not start", failed=True)
                        return
                    told.started()
                    await trio.sleep(delay_s)
                    delay_s = min(delay_s * 2, LONGEST_DELAY_S)
        finally:
            if running.state in ("starting", "running", "restarting"):
                running.state = "stopped"
            running.ended.set()
            told.started()

    async def _one_life(self, running: Running, *, task_status: trio.TaskStatus[None]) -> None:
        await running.service.run(task_status=task_status)


class _Once:
    """task_status.started() may be called once; restarts must not call it again."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status
        self.done = False

    def started(self) -> None:
        if not self.done:
            self.done = True
            self._task_status.started()


async def overrun_guard(stop: StopRequest, limit_s: float, leave: Callable[[], None]) -> None:
    """After ``limit_s`` of stopping call ``leave``: trio can't kill a task that ignores it."""
    await stop.wait()
    await trio.sleep(limit_s if math.isfinite(limit_s) else 0)
    leave()

"""The supervisor: services start in order, stop in exactly the reverse, and are kept alive."""

import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from modelkeepd.supervise import (
    CRASH_WINDOW_S,
    CRASHES_ALLOWED,
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    Service,
    StopRequest,
    Supervisor,
)

Life = Callable[["Part"], Awaitable[None]]


async def forever(part: "Part") -> None:
    await trio.sleep_forever()


async def crash(part: "Part") -> None:
    await trio.sleep(1)
    raise ValueError("broken")


class Part:
    """A service that does as it is told and writes down what happens to it."""

    def __init__(
        self,
        name: str,
        diary: list[str],
        *,
        life: Life = forever,
        start: Life | None = None,
        essential: bool = False,
    ) -> None:
        self.name = name
        self.essential = essential
        self.lives: list[float] = []
        self._diary, self._life, self._start = diary, life, start

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.lives.append(trio.current_time())
        try:
            if self._start is not None:
                await self._start(self)
            self._diary.append(f"+{self.name}")
            task_status.started()
            await self._life(self)
        finally:
            self._diary.append(f"-{self.name}")


def parts(diary: list[str], *names: str) -> list[Part]:
    return [Part(name, diary) for name in names]


def supervisor(services: list[Part], stop: StopRequest | None = None) -> Supervisor:
    as_services: list[Service] = list(services)
    return Supervisor(as_services, stop or StopRequest())


UP_AND_DOWN = ["+store", "+sync", "+rpc", "-rpc", "-sync", "-store"]


async def test_a_stop_request_stops_in_exactly_the_reverse_order(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    supervised = supervisor(parts(diary, "store", "sync", "rpc"))

    def ready() -> None:
        diary.append("ready")
        assert set(supervised.states.values()) == {"running"}
        supervised.stop.request("test")
        supervised.stop.request("too late")

    assert await supervised.run(ready) == []
    assert diary == [*UP_AND_DOWN[:3], "ready", *UP_AND_DOWN[3:]]
    assert supervised.stop.reason == "test"
    assert not supervised.stop.failed
    assert set(supervised.states.values()) == {"stopped"}


async def test_each_is_gone_before_the_next_is_told(autojump_clock: MockClock) -> None:
    diary: list[str] = []

    async def slow_to_leave(part: Part) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    services = [Part(name, diary, life=slow_to_leave) for name in ("store", "sync", "rpc")]
    supervised = supervisor(services)
    began = trio.current_time()
    assert await supervised.run(lambda: supervised.stop.request("test")) == []
    assert diary == UP_AND_DOWN
    assert trio.current_time() - began == pytest.approx(3)


async def test_a_cancel_from_above_stops_in_the_same_order(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    supervised = supervisor(parts(diary, "store", "sync", "rpc"))
    with trio.move_on_after(5):
        await supervised.run()
    assert diary == UP_AND_DOWN


async def test_an_exception_in_the_ready_call_stops_in_the_same_order(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []

    def broken() -> None:
        raise ValueError("no service manager")

    with pytest.RaisesGroup(ValueError):
        await supervisor(parts(diary, "store", "sync", "rpc")).run(broken)
    assert diary == UP_AND_DOWN


async def test_a_crash_restarts_that_service_alone(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    diary: list[str] = []
    part = Part("sync", diary, life=lambda p: crash(p) if len(p.lives) == 1 else forever(p))
    supervised = supervisor([Part("store", diary), part, Part("rpc", diary)])
    with trio.move_on_after(10):
        await supervised.run()
    assert diary == ["+store", "+sync", "+rpc", "-sync", "+sync", "-rpc", "-sync", "-store"]
    assert part.lives[1] - part.lives[0] == pytest.approx(1 + FIRST_DELAY_S)
    assert "service crashed" in caplog.text
    assert "broken" in caplog.text, "the traceback is there"


async def test_a_service_that_ends_by_itself_is_started_again(autojump_clock: MockClock) -> None:
    diary: list[str] = []

    async def short(part: Part) -> None:
        await trio.sleep(1)

    part = Part("sync", diary, life=short)
    with trio.move_on_after(2):
        await supervisor([part]).run()
    assert len(part.lives) == 2


async def test_pauses_grow_and_crashes_long_ago_are_forgiven(autojump_clock: MockClock) -> None:
    diary: list[str] = []

    async def crash_in_bursts(part: Part) -> None:
        # three quick crashes, a good long life, and so on
        await trio.sleep(CRASH_WINDOW_S * 2 if len(part.lives) % 4 == 0 else 0)
        raise ValueError("broken")

    part = Part("sync", diary, life=crash_in_bursts, essential=True)
    supervised = supervisor([part])
    with trio.move_on_after(CRASH_WINDOW_S * 10):
        await supervised.run()
    assert len(part.lives) > 12
    assert not supervised.stop.failed
    pauses = [later - earlier for earlier, later in zip(part.lives, part.lives[1:], strict=False)]
    assert pauses[:3] == pytest.approx([FIRST_DELAY_S * 2**n for n in range(3)])
    assert pauses[4:7] == pytest.approx([FIRST_DELAY_S * 2**n for n in range(1, 4)])


async def test_an_essential_service_that_keeps_crashing_ends_the_daemon(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    part = Part("sync", diary, life=crash, essential=True)
    supervised = supervisor([Part("store", diary), part, Part("rpc", diary)])
    assert await supervised.run() == []
    assert len(part.lives) == CRASHES_ALLOWED
    assert (supervised.stop.reason, supervised.stop.failed) == ("sync keeps crashing", True)
    assert diary[-2:] == ["-rpc", "-store"]
    assert supervised.states["sync"] == "failed"


async def test_another_service_that_keeps_crashing_is_tried_now_and_then(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    part = Part("watcher", diary, life=crash)
    supervised = supervisor([part])
    with trio.move_on_after(60 * 60):
        await supervised.run()
    assert not supervised.stop.requested
    pauses = [later - earlier for earlier, later in zip(part.lives, part.lives[1:], strict=False)]
    assert pauses[CRASHES_ALLOWED:] == pytest.approx(
        [1 + LONGEST_DELAY_S] * len(pauses[CRASHES_ALLOWED:])
    )
    assert len(pauses) > 60
    assert supervised.states["watcher"] == "failed"


async def refuse(part: Part) -> None:
    raise OSError("the port is taken")


async def test_an_essential_service_that_can_not_start_ends_the_start(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    services = parts(diary, "store", "sync", "rpc")
    services[1] = Part("sync", diary, start=refuse, essential=True)
    supervised = supervisor(services)
    assert await supervised.run(lambda: diary.append("ready")) == []
    assert diary == ["+store", "-sync", "-store"]
    assert (supervised.stop.reason, supervised.stop.failed) == ("sync could not start", True)
    assert len(services[1].lives) == 1


async def test_another_service_that_can_not_start_does_not_hold_up_the_rest(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    services = parts(diary, "store", "watcher", "rpc")
    services[1] = Part("watcher", diary, start=refuse)
    supervised = supervisor(services)
    seen: dict[str, str] = {}

    def ready() -> None:
        seen.update(supervised.states)
        supervised.stop.request("test")

    await supervised.run(ready)
    assert seen == {"store": "running", "watcher": "restarting", "rpc": "running"}


async def test_a_service_that_returns_before_it_was_ready_has_failed(
    autojump_clock: MockClock,
) -> None:
    class Hasty(Part):
        async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
            await trio.lowlevel.checkpoint()

    supervised = supervisor([Hasty("rpc", [], essential=True)])
    await supervised.run()
    assert supervised.stop.failed


@pytest.mark.parametrize("way", ["request", "cancel"])
async def test_a_start_that_hangs_does_not_keep_the_daemon_from_stopping(
    way: str, autojump_clock: MockClock
) -> None:
    diary: list[str] = []
    supervised = supervisor([Part("store", diary), Part("sync", diary, start=forever)])
    ready: list[bool] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervised.run, lambda: ready.append(True))
        await trio.testing.wait_all_tasks_blocked()
        if way == "request":
            supervised.stop.request("SIGTERM")
        else:
            nursery.cancel_scope.cancel()
    assert diary == ["+store", "-sync", "-store"]
    assert not ready


async def test_a_stop_during_the_pause_after_a_crash_is_at_once(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    supervised = supervisor([Part("sync", diary, life=crash)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervised.run)
        await trio.sleep(1.1)
        assert supervised.states == {"sync": "restarting"}
        supervised.stop.request("test")
    assert trio.current_time() < 10
    assert diary == ["+sync", "-sync"]


async def test_one_that_fails_while_stopping_does_not_disturb_the_others(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    diary: list[str] = []

    async def fail_on_the_way_out(part: Part) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("could not save")

    services = parts(diary, "store", "sync", "rpc")
    services[1] = Part("sync", diary, life=fail_on_the_way_out)
    supervised = supervisor(services)
    assert await supervised.run(lambda: supervised.stop.request("test")) == []
    assert diary == UP_AND_DOWN
    assert "could not save" in caplog.text


async def test_one_that_ignores_its_cancellation_is_reported_and_the_others_stop(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    diary: list[str] = []

    async def stubborn(part: Part) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    services = parts(diary, "store", "sync", "rpc")
    services[1] = Part("sync", diary, life=stubborn)
    supervised = supervisor(services)
    late = await supervised.run(lambda: supervised.stop.request("test"))
    assert late == ["sync"]
    assert diary == ["+store", "+sync", "+rpc", "-rpc", "-store", "-sync"]
    [line] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert line.message == "service did not stop in time"
    assert line.__dict__["facts"] == {"service": "sync"}

"""Starts the daemon and ends it: the lock, the store, then the services that ``wiring`` made.

They start in ``wiring``'s order and stop in exactly the reverse. Everything that differs in a
test (clocks, VFS) is handed in here.
"""

import functools
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from modelkeep_protocol.paths import Paths
from modelkeepd import exit_codes, logs, platform
from modelkeepd.clocks import Clocks
from modelkeepd.secrets import BadSecret
from modelkeepd.settings import BadSettings, Settings, load_settings
from modelkeepd.store import StoreError, open_store
from modelkeepd.supervise import StopRequest
from modelkeepd.wiring import Daemon, hub_configs, wire

log = logging.getLogger(__name__)

# SIGTERM to end, work in flight included (issue: within 5 s)
STOP_LIMIT_S = 4.5


def main(paths: Paths, flags: Sequence[str], *, check_only: bool = False) -> int:
    """Run the daemon for ``paths`` until it is asked to stop; returns its exit code."""
    platform.return_memory_early()
    os.umask(0o077)
    platform.forbid_core_files()
    try:
        settings, warnings = load_settings(Path(paths.config_file), flags=flags)
        hub_configs(settings, Path(paths.config_dir))  # to refuse a bad token before anything
    except (BadSettings, BadSecret) as exc:
        print(f"modelkeepd: {exc}", file=sys.stderr)
        return exit_codes.CONFIG
    logs.configure(settings.log.level, settings.log.format)
    for warning in warnings:
        log.warning("settings", extra={"facts": {"warning": warning}})
    if check_only:
        print(f"{paths.config_file}: {len(warnings)} warnings, no errors")
        return exit_codes.CLEAN
    try:
        # the config folder may be the user's own and shared: it is made, never changed
        Path(paths.config_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (paths.state_dir, paths.cache_dir, paths.runtime_dir):
            platform.private_folder(Path(folder))
        if Path(paths.socket).is_dir():
            raise IsADirectoryError(f"{paths.socket} is a folder: remove it")
        lock = platform.InstanceLock(Path(paths.lock))
    except platform.AlreadyRunning as exc:
        print(
            f"modelkeepd: {exc}\n"
            "  There is one daemon for each home; its clients find it by themselves.\n"
            "  Stop it with `modelkeep stop`, or give this one its own MODELKEEP_HOME.",
            file=sys.stderr,
        )
        return exit_codes.ALREADY_RUNNING
    except OSError as exc:
        print(f"modelkeepd: can't use its folders: {exc}", file=sys.stderr)
        return exit_codes.CONFIG
    try:
        return trio.run(
            functools.partial(serve, paths, settings, warnings), strict_exception_groups=True
        )
    except BaseExceptionGroup as group:
        failure = _leaf(group)
        if not isinstance(failure, StoreError | BadSettings):
            raise
        print(f"modelkeepd: {failure}", file=sys.stderr)
        return exit_codes.STORE if isinstance(failure, StoreError) else exit_codes.CONFIG
    finally:
        lock.release()


def _leaf(group: BaseException) -> BaseException:
    """The one exception inside nested groups of one; else the group."""
    while isinstance(group, BaseExceptionGroup) and len(group.exceptions) == 1:
        group = group.exceptions[0]
    return group


async def serve(
    paths: Paths, settings: Settings, warnings: Sequence[str], clocks: Clocks | None = None
) -> int:
    """Open the store, run the services, wait for the end. Returns the exit code."""
    stop = StopRequest()
    clocks = clocks or Clocks()
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, stop)
        nursery.start_soon(_leave_in_time, stop)
        async with open_daemon(paths, settings, warnings, stop, clocks) as daemon:
            late = await daemon.supervisor.run(on_ready=functools.partial(_ready, daemon))
        nursery.cancel_scope.cancel(reason="stopped")
    log.info("stopped", extra={"facts": {"reason": stop.reason}})
    if late:
        return exit_codes.OVERRUN
    return exit_codes.CRASHED if stop.failed else exit_codes.CLEAN


@asynccontextmanager
async def open_daemon(
    paths: Paths,
    settings: Settings,
    warnings: Sequence[str],
    stop: StopRequest,
    clocks: Clocks,
    *,
    vfs: str | None = None,
) -> AsyncIterator[Daemon]:
    """The daemon with its store open and nothing started; tests use this too."""
    async with (
        open_store(Path(paths.database), clocks=clocks, vfs=vfs) as store,
        wire(paths, settings, warnings, store, stop, clocks) as daemon,
    ):
        yield daemon


def _ready(daemon: Daemon) -> None:
    platform.notify("READY=1", f"STATUS=serving {daemon.paths.socket}")
    log.info("ready", extra={"facts": {"socket": daemon.paths.socket, "epoch": daemon.store.epoch}})


async def _watch_signals(
    stop: StopRequest, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        task_status.started()
        async for number in received:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                log.info("settings are read at the start; restart to change them")
                continue
            if stop.requested:
                log.warning("second signal: leaving at once", extra={"facts": {"signal": name}})
                os._exit(exit_codes.OVERRUN)
            stop.request(name)


async def _leave_in_time(stop: StopRequest) -> None:
    """Trio can't kill a task that ignores its cancellation, nor a thread that hangs."""
    await stop.wait()
    platform.notify("STOPPING=1")
    await trio.sleep(STOP_LIMIT_S)
    log.error("stopping took too long; leaving", extra={"facts": {"limit_s": STOP_LIMIT_S}})
    logging.shutdown()
    os._exit(exit_codes.OVERRUN)

"""A real daemon process to be measured, and how: its memory, its processor time, its answers."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from modelkeep.connect import Connection
from tests.process.living import ROOT, LivingDaemon

MIB = 1 << 20
INDEX_LIMIT_S = 3_600.0
PARALLEL_FILES = 8


def row(
    name: str, workload: str, ours: float, unit: str, goal: float | None, **more: Any
) -> dict[str, Any]:
    """One line of the report; the goal is a limit."""
    facts = ", ".join(f"{key} {value}" for key, value in more.items())
    print(f"{name}: {ours:.4g} {unit} {facts}".rstrip(), flush=True)
    return {
        "name": f"footprint.{name}",
        "workload": workload,
        "ours": float(f"{ours:.4g}"),
        "theirs": None,
        "unit": unit,
        "ratio": None,
        "goal": None if goal is None else f"<= {goal:g}",
        "met": None if goal is None else ours <= goal,
        **more,
    }


class AlteredDaemon(LivingDaemon):
    """One that is started by a module of ours."""

    def __init__(self, home: Path, hub_url: str, *, module: str, **options: Any) -> None:
        super().__init__(home, hub_url, **options)
        self._module = module

    def start(self, **environment: str) -> None:
        assert self.process is None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                env={**self.environment, **environment},
                cwd=ROOT,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )


_QUIET = (f"parallel_files = {PARALLEL_FILES}", "[sync]", "auto = false")


@contextmanager
def quiet_daemon(
    home: Path, hub_url: str = "http://127.0.0.1:9", requests_per_s: float = 500
) -> Iterator[LivingDaemon]:
    """A started one that syncs nothing by itself."""
    daemon = LivingDaemon(home, hub_url, settings=_QUIET)
    config = home / "config.toml"
    pace = "requests_per_second = {:g}".format
    config.write_text(config.read_text().replace(pace(500), pace(requests_per_s)))
    with _started(daemon):
        yield daemon


@contextmanager
def altered_daemon(
    home: Path, hub_url: str, module: str, environment: Mapping[str, str]
) -> Iterator[LivingDaemon]:
    """The same, started by a module of ours."""
    daemon = AlteredDaemon(home, hub_url, module=module, environment=environment, settings=_QUIET)
    with _started(daemon):
        yield daemon


@contextmanager
def _started(daemon: LivingDaemon) -> Iterator[None]:
    daemon.start()
    try:
        yield
    finally:
        if daemon.process is not None:
            daemon.process.kill()
            daemon.process.wait(10)


def stop(daemon: LivingDaemon) -> None:
    """A clean stop: the next start must not have to begin an epoch."""
    if code := daemon.stop():
        raise SystemExit(f"the daemon ended with {code}:\n{daemon.log_tail()}")


def until_indexed(daemon: LivingDaemon, models: int) -> None:
    """Wait until searches see every model, and for the merging after it."""
    deadline = time.monotonic() + INDEX_LIMIT_S
    while not (status := daemon.call("daemon.status"))["catalog"]["indexed"]:
        if time.monotonic() > deadline:
            raise SystemExit(f"not indexed within {INDEX_LIMIT_S:.0f} s: {status['catalog']}")
        time.sleep(0.2)
    if status["catalog"]["models"] < models:
        raise SystemExit(f"the home has {status['catalog']['models']} models")


def process_of(daemon: LivingDaemon) -> psutil.Process:
    assert daemon.process is not None
    return psutil.Process(daemon.process.pid)


def rss_anon_mib(pid: int) -> float:
    """Memory of its own: what it would give back if it ended, files of the page cache excepted."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this system does not tell RssAnon")


def cpu_s(pid: int) -> float:
    """Processor time of all its threads, also of those that ended, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)


def switches(process: psutil.Process) -> int:
    """How often its threads were woken."""
    total = 0
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def timed_ms(connection: Connection, method: str, **params: Any) -> float:
    began = time.perf_counter()
    connection.call(method, params)
    return (time.perf_counter() - began) * 1000

"""Eight downloads, a sync, searches, status and library scans at once, on a living daemon.

Part of ``benchmarks.footprint``. The hub holds the downloads to a pace, so that the load lasts; it
and the clients share the machine with the daemon.
"""

import itertools
import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks import lagged_daemon
from benchmarks.measured_daemon import (
    MIB,
    PARALLEL_FILES,
    altered_daemon,
    cpu_s,
    process_of,
    row,
    rss_anon_mib,
    stop,
    timed_ms,
    until_indexed,
)
from benchmarks.synthetic_catalog import query_mix
from modelkeep.connect import Connection
from modelkeep_protocol.errors import ModelkeepError
from tests.hubsim.population import model_id
from tests.process.living import HubProcess, LivingDaemon, hub_process

FILES, FILE_BYTES = PARALLEL_FILES, 64 * MIB
SYNCED_MODELS = 100_000
SEARCHERS = 2


def loaded(home: Path, models: int, load_s: float) -> list[dict[str, Any]]:
    """Put the daemon of this home, which is used up by it, under load from a hub of its own."""
    # the newest models are the large files: the first page of the sync brings them
    hub_options = ("--models", str(SYNCED_MODELS), "--seed", "21")
    large = [f"--large-file={FILE_BYTES}"] * FILES
    notes = home / "lag"
    how = ("benchmarks.lagged_daemon", {lagged_daemon.FILE_VARIABLE: str(notes)})
    with hub_process(*hub_options, *large) as hub, altered_daemon(home, hub.url, *how) as daemon:
        until_indexed(daemon, models)
        load = Load(daemon, hub, models, load_s)
        results = load.run()
        stop(daemon)
    lags_ms = [
        lag_s * 1000
        for at_s, lag_s in lagged_daemon.read_notes(notes)
        if load.began_s <= at_s <= load.ended_s
    ]
    cuts = statistics.quantiles(lags_ms, n=1_000)
    what = f"{load.what}: p99 of how late the loop woke a task that slept 10 ms"
    facts = {"p50": cuts[499], "p999": cuts[998], "worst": max(lags_ms)}
    rounded = {name: round(value, 1) for name, value in facts.items()}
    return [*results, row("load.lag", what, cuts[989], "ms", 20, **rounded)]


class Load:
    """Eight downloads, a sync, searches, scans of the library; everybody's waiting is measured."""

    def __init__(self, daemon: LivingDaemon, hub: HubProcess, models: int, load_s: float) -> None:
        self._daemon = daemon
        self._hub = hub
        self._models = models
        self._load_s = load_s
        self._over = threading.Event()
        self._taken_ms: dict[str, list[float]] = {"ping": [], "status": [], "search": []}
        self._failures: list[BaseException] = []
        self._peak = {"rss": 0.0, "anon": 0.0}
        self.began_s = self.ended_s = 0.0  # monotonic
        self.what = ""

    def run(self) -> list[dict[str, Any]]:
        daemon, pid = self._daemon, process_of(self._daemon).pid
        pace = int(FILE_BYTES / self._load_s)
        slow = {"match": {"storage": True, "times": 0}, "do": {"slow": pace}}
        self._hub.control("faults", [slow])
        before = daemon.call("daemon.status")["catalog"]["models"]
        daemon.call("sync.start")
        refs = daemon.until(self._large_refs, "the large files are listed")
        jobs = daemon.call("transfer.get", refs=refs)["jobs"]
        self.began_s, cpu = time.monotonic(), cpu_s(pid)
        mixes = [query_mix(seed=1 + seed) for seed in range(SEARCHERS)]
        loops = [
            threading.Thread(target=self._repeat, args=("ping", 0.01, itertools.repeat({}))),
            threading.Thread(target=self._repeat, args=("status", 0.5, itertools.repeat({}))),
            *(
                threading.Thread(
                    target=self._repeat,
                    args=("search", 0.03, ({"query": q} for q in itertools.cycle(mix))),
                )
                for mix in mixes
            ),
            threading.Thread(target=self._watch_memory, args=(pid,)),
            threading.Thread(target=self._scan),
        ]
        for loop in loops:
            loop.start()
        try:
            done = daemon.until(lambda: self._ended(jobs), "the downloads end", 300)
        finally:
            self._over.set()
            for loop in loops:
                loop.join()
        self.ended_s = time.monotonic()
        took_s = self.ended_s - self.began_s
        if self._failures:
            raise SystemExit(f"a call failed under load: {self._failures[0]!r}")
        if not done or any(job["state"] != "done" for job in done):
            raise SystemExit(f"downloads failed: {[job['error'] for job in done]}")
        run = daemon.call("sync.status")["runs"][0]
        busy = (cpu_s(pid) - cpu) / took_s * 100
        synced = daemon.call("daemon.status")["catalog"]["models"] - before
        return self._results(took_s, busy, synced, run["state"])

    def _results(
        self, took_s: float, busy: float, synced: int, sync_state: str
    ) -> list[dict[str, Any]]:
        self.what = what = (
            f"{self._models} models; {FILES} downloads of {FILE_BYTES // MIB} MiB, a sync,"
            f" {SEARCHERS} searchers, scans, for {took_s:.0f} s"
        )
        every = sorted(itertools.chain.from_iterable(self._taken_ms.values()))
        p99 = {
            f"{name}_p99": round(statistics.quantiles(times, n=100)[98], 1)
            for name, times in self._taken_ms.items()
        }
        cores = os.cpu_count() or 1
        return [
            row("load.rpc", f"{what}: p99 of all calls", statistics.quantiles(every, n=100)[98],
                "ms", 100, calls=len(every), worst=round(every[-1], 1), **p99),
            row("load.memory", f"{what}: peak RSS", self._peak["rss"], "MiB", 300,
                rss_anon=round(self._peak["anon"])),
            row("load.cpu", f"{what}: of {cores} processors", busy / cores, "%", 60,
                synced=synced, sync=sync_state),
        ]  # fmt: skip

    def _large_refs(self) -> list[str] | None:
        refs = []
        try:
            for place in range(FILES):
                ref = f"civitai:{model_id(SYNCED_MODELS - 1 - place)}"
                shown = self._daemon.call("catalog.show", ref=ref)
                refs.append(shown["versions"][0]["files"][0]["ref"])
        except ModelkeepError:
            return None
        return refs

    def _ended(self, jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = self._daemon.call(
            "transfer.list", ids=[job["id"] for job in jobs]
        )["jobs"]
        over = all(job["state"] in ("done", "failed", "quarantined") for job in found)
        return found if over or self._failures else None

    def _repeat(self, kind: str, pause_s: float, params: Iterator[dict[str, Any]]) -> None:
        method = {"ping": "daemon.ping", "status": "daemon.status", "search": "catalog.search"}
        try:
            with Connection(self._daemon.paths.socket) as connection:
                while not self._over.wait(pause_s):
                    self._taken_ms[kind].append(timed_ms(connection, method[kind], **next(params)))
        except Exception as exc:
            self._failures.append(exc)

    def _watch_memory(self, pid: int) -> None:
        process = psutil.Process(pid)
        while not self._over.wait(0.05):
            self._peak["rss"] = max(self._peak["rss"], process.memory_info().rss / MIB)
            self._peak["anon"] = max(self._peak["anon"], rss_anon_mib(pid))

    def _scan(self) -> None:
        try:
            while not self._over.wait(1.0):
                self._daemon.call("library.scan")
        except Exception as exc:
            self._failures.append(exc)

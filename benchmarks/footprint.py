"""What a whole daemon costs: ``python -m benchmarks.footprint [--size small|full]``.

A real ``modelkeepd`` process over a home with 100,000 or 1,000,000 models (``built_home``), a
watched folder with some files, and no client but this one. Measured in this order: the start after
a clean stop, searches over the RPC, memory after a thousand of them, rest, and a load of eight
downloads with a sync, searches and a library scan at once. There is no peer: the goals are the
project's own.

``--home DIR`` keeps the home, or uses the one that an earlier run kept there.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.built_home import build
from benchmarks.synthetic_catalog import query_mix
from modelkeep.connect import Connection
from modelkeep_protocol.errors import ModelkeepError
from modelkeep_protocol.paths import find_paths
from tests.hubsim.population import model_id
from tests.process.living import HubProcess, LivingDaemon, hub_process, living_daemon


class Size:
    """How much of everything."""

    def __init__(self, models: int, idle_s: float, starts: int, load_s: float) -> None:
        self.models, self.idle_s, self.starts, self.load_s = models, idle_s, starts, load_s


SIZES = {"small": Size(100_000, 20, 5, 10), "full": Size(1_000_000, 60, 5, 20)}
SEARCHES = 1_000
INDEX_LIMIT_S = 3_600.0
MIB = 1 << 20
# of the load
FILES, FILE_BYTES = 8, 64 * MIB
SYNCED_MODELS = 100_000
SEARCHERS = 2


def main() -> int:
    """Measure and print; the last line is the results as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--models", type=int, help="another number of models")
    parser.add_argument("--home", type=Path, help="keep the home here")
    options = parser.parse_args()
    size = SIZES[options.size]
    if options.models:
        size.models = options.models
    if options.home is not None:
        print(json.dumps(measure(options.home, size)))
        return 0
    with tempfile.TemporaryDirectory(prefix="mk-footprint-") as home:
        print(json.dumps(measure(Path(home), size)))
    return 0


def measure(home: Path, size: Size) -> list[dict[str, Any]]:
    """Everything, in the docstring's order."""
    results = [disk(home, size)]
    starts = [start_once(home, size) for _ in range(size.starts)]
    results += starting(size, starts)
    with quiet_daemon(home) as daemon:
        until_indexed(daemon, size)
        results += searching(daemon, size)
        results.append(memory(daemon, size))
        results += idling(daemon, size)
        stop(daemon)
    with tempfile.TemporaryDirectory(prefix="mk-load-") as copy:
        # a copy: what is left is a home in the midst of a sync
        shutil.copytree(home, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run"))
        results += loaded(Path(copy), size)
    return results


def loaded(home: Path, size: Size) -> list[dict[str, Any]]:
    """The load, with a hub of its own."""
    # the newest models are the large files: the first page of the sync brings them
    hub_options = ("--models", str(SYNCED_MODELS), "--seed", "21")
    large = [f"--large-file={FILE_BYTES}"] * FILES
    with hub_process(*hub_options, *large) as hub, quiet_daemon(home, hub.url) as daemon:
        until_indexed(daemon, size)
        results = Load(daemon, hub, size).run()
        stop(daemon)
    return results


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


# --- the daemon under test ---


@contextmanager
def quiet_daemon(home: Path, hub_url: str = "http://127.0.0.1:9") -> Iterator[LivingDaemon]:
    """A started one that syncs nothing by itself."""
    settings = [f"parallel_files = {FILES}", "[sync]", "auto = false"]
    with living_daemon(home, hub_url, settings=settings) as daemon:
        yield daemon


def stop(daemon: LivingDaemon) -> None:
    """A clean stop: the next start must not have to begin an epoch."""
    if code := daemon.stop():
        raise SystemExit(f"the daemon ended with {code}:\n{daemon.log_tail()}")


def until_indexed(daemon: LivingDaemon, size: Size) -> None:
    """Wait until searches see every model, and for the merging after it."""
    deadline = time.monotonic() + INDEX_LIMIT_S
    while not (status := daemon.call("daemon.status"))["catalog"]["indexed"]:
        if time.monotonic() > deadline:
            raise SystemExit(f"not indexed within {INDEX_LIMIT_S:.0f} s: {status['catalog']}")
        time.sleep(0.2)
    if status["catalog"]["models"] < size.models:
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


# --- the home ---


def disk(home: Path, size: Size) -> dict[str, Any]:
    """Build the home where there is none; its bytes for each model."""
    paths = find_paths({"MODELKEEP_HOME": str(home)})
    database, index = Path(paths.database), Path(paths.search_index)
    if not database.exists():
        began = time.perf_counter()
        raw_bytes = build(database, size.models)
        facts = f"{size.models} models of {raw_bytes:.0f} raw bytes"
        print(f"built {facts} in {time.perf_counter() - began:.0f} s", flush=True)
        models = home / "models"
        for number in range(200):
            path = models / f"folder{number % 20}" / f"{number}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(safetensors(4_096, number))
    with quiet_daemon(home) as daemon:
        began = time.perf_counter()
        until_indexed(daemon, size)
        took_s = time.perf_counter() - began
        peak = process_of(daemon).memory_info().rss / MIB
        print(f"indexed after {took_s:.1f} s, RSS then {peak:.0f} MiB", flush=True)
        # the writer merges and rests ten seconds after the last commit
        time.sleep(12)
        print(f"RssAnon at rest after it {rss_anon_mib(process_of(daemon).pid):.0f} MiB")
        stop(daemon)
    on_disk = {"database": database.stat().st_size, "index": folder_bytes(index)}
    each = {name: round(value / size.models) for name, value in on_disk.items()}
    total = sum(on_disk.values()) / size.models
    return row("disk", f"{size.models} models, db and index", total, "bytes/model", None, **each)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def safetensors(size_bytes: int, number: int) -> bytes:
    data = random.Random(number).randbytes(size_bytes)
    tensor = {"w": {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}}
    head = json.dumps(tensor).encode()
    return len(head).to_bytes(8, "little") + head + data


# --- starting ---


def start_once(home: Path, size: Size) -> dict[str, float]:
    """Seconds from the start of the process to each first answer."""
    began = time.perf_counter()
    found: dict[str, float] = {}
    with quiet_daemon(home) as daemon:
        daemon.call("daemon.ping")
        found["ping"] = time.perf_counter() - began
        status = daemon.call("daemon.status")
        found["status"] = time.perf_counter() - began
        daemon.call("catalog.search", query="anime", limit=20)
        found["search"] = time.perf_counter() - began
        if status["catalog"]["models"] < size.models:
            raise SystemExit("the first status does not count the models")
        until_indexed(daemon, size)
        assert daemon.process is not None
        found["cpu"] = cpu_s(daemon.process.pid)
        stop(daemon)
    return found


def starting(size: Size, starts: Sequence[dict[str, float]]) -> list[dict[str, Any]]:
    medians = {key: statistics.median(one[key] for one in starts) for key in starts[0]}
    bare = statistics.median(_bare_start_s() for _ in range(len(starts)))
    more = {f"{key}_s": round(value, 2) for key, value in medians.items() if key != "status"}
    what = f"{size.models} models, index there, process start to first status, {len(starts)} starts"
    more["bare_python_s"] = round(bare, 3)
    return [row("ready", what, medians["status"], "s", 1.0, **more)]


def _bare_start_s() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


# --- searching ---


def timed_ms(connection: Connection, method: str, **params: Any) -> float:
    began = time.perf_counter()
    connection.call(method, params)
    return (time.perf_counter() - began) * 1000


def searching(daemon: LivingDaemon, size: Size) -> list[dict[str, Any]]:
    """The issue's three kinds of list, then the mix; end to end over the RPC."""
    tags = most_used_tags(daemon)
    kinds: list[tuple[str, str, float | None, Callable[[int], dict[str, Any]]]] = [
        ("rpc.list", "100 models listed", 5.0, lambda n: {"query": "", "limit": 100}),
        ("rpc.tag", "one tag, 20 listed", 3.0, lambda n: {"query": tags[n % len(tags)]}),
        ("rpc.source", "one source, 20 listed", 2.0, lambda n: {"query": "source:civitai"}),
    ]
    results = []
    with Connection(daemon.paths.socket) as connection:
        taken: dict[str, list[float]] = {name: [] for name, *_ in kinds}
        for number, (name, _, _, params) in itertools.product(range(210), kinds):
            taken[name].append(timed_ms(connection, "catalog.search", **params(number)))
        for name, what, goal, _ in kinds:
            results.append(latencies(name, size, what, taken[name][10:], goal))
        mix = query_mix()
        times = [
            timed_ms(connection, "catalog.search", query=mix[number % len(mix)])
            for number in range(SEARCHES)
        ]
        what = f"{SEARCHES} searches of the JA+EN mix, 20 listed"
        results.append(latencies("rpc.mix", size, what, times, None))
    return results


def most_used_tags(daemon: LivingDaemon) -> list[str]:
    found = daemon.call("catalog.complete", kind="tags", prefix="", limit=200)
    return [f'tag:"{tag}"' for tag in found["items"]]


def latencies(
    name: str, size: Size, what: str, times: Sequence[float], goal: float | None
) -> dict[str, Any]:
    cuts = statistics.quantiles(times, n=100)
    p95 = round(cuts[94], 2)
    workload = f"{size.models} models, {what}, over the RPC, p50 of {len(times)}"
    return row(name, workload, cuts[49], "ms", goal, p95_ms=p95)


# --- memory and rest ---


def memory(daemon: LivingDaemon, size: Size) -> dict[str, Any]:
    process = process_of(daemon)
    rss = round(process.memory_info().rss / MIB)
    what = f"{size.models} models, RssAnon after {SEARCHES} searches"
    threads = process.num_threads()
    return row("memory", what, rss_anon_mib(process.pid), "MiB", 150, rss=rss, threads=threads)


def idling(daemon: LivingDaemon, size: Size) -> list[dict[str, Any]]:
    process = process_of(daemon)
    time.sleep(12)  # what was begun by the searches, and the writer's rest, is over
    cpu, woken, began = cpu_s(process.pid), switches(process), time.monotonic()
    time.sleep(size.idle_s)
    took_s = time.monotonic() - began
    percent = (cpu_s(process.pid) - cpu) / took_s * 100
    per_s = round((switches(process) - woken) / took_s, 2)
    what = f"{size.models} models, a watched folder, {size.idle_s:.0f} s at rest, of one processor"
    return [row("idle", what, percent, "%", 0.2, wakeups_per_s=per_s)]


# --- everything at once ---


class Load:
    """Eight downloads, a sync, searches, scans of the library; everybody's waiting is measured."""

    def __init__(self, daemon: LivingDaemon, hub: HubProcess, size: Size) -> None:
        self._daemon = daemon
        self._hub = hub
        self._size = size
        self._over = threading.Event()
        self._taken_ms: dict[str, list[float]] = {"ping": [], "status": [], "search": []}
        self._failures: list[BaseException] = []
        self._peak = {"rss": 0.0, "anon": 0.0}

    def run(self) -> list[dict[str, Any]]:
        daemon, pid = self._daemon, process_of(self._daemon).pid
        pace = int(FILE_BYTES / self._size.load_s)
        slow = {"match": {"storage": True, "times": 0}, "do": {"slow": pace}}
        self._hub.control("faults", [slow])
        before = daemon.call("daemon.status")["catalog"]["models"]
        daemon.call("sync.start")
        refs = daemon.until(self._large_refs, "the large files are listed")
        jobs = daemon.call("transfer.get", refs=refs)["jobs"]
        began, cpu = time.monotonic(), cpu_s(pid)
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
        took_s = time.monotonic() - began
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
        what = (
            f"{self._size.models} models; {FILES} downloads of {FILE_BYTES // MIB} MiB, a sync,"
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


if __name__ == "__main__":
    sys.exit(main())

"""What a whole daemon costs: ``python -m benchmarks.footprint [--size small|full|huge]``.

First the disk: bytes for each model of both hubs, each really synced from its simulated hub
(``synced_home``). Then a real ``modelkeepd`` process over a home with 100,000 or 1,000,000 models
(``built_home``), a watched folder with some files, and no client but this one. Measured in this
order: the start after a clean stop, searches over the RPC, memory after a thousand of them, rest,
and a load of eight downloads with a sync, searches and a library scan at once, in which the lag of
the daemon's loop is measured from inside (``lagged_daemon``). There is no peer: the goals are the
project's own. ``huge`` is three million models, two of them Hugging Face's, without the load.

``--home DIR`` keeps the home, or uses the one that an earlier run kept there.
"""

import argparse
import itertools
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.built_home import build
from benchmarks.combined_load import loaded
from benchmarks.measured_daemon import (
    MIB,
    cpu_s,
    process_of,
    quiet_daemon,
    row,
    rss_anon_mib,
    stop,
    switches,
    timed_ms,
    until_indexed,
)
from benchmarks.synced_home import bytes_each
from benchmarks.synthetic_catalog import query_mix
from modelkeep.connect import Connection
from modelkeep_protocol.paths import find_paths
from tests.process.living import LivingDaemon


class Size:
    """How much of everything. ``repositories`` of the models are Hugging Face's."""

    def __init__(
        self,
        models: int,
        idle_s: float,
        starts: int,
        load_s: float,
        *,
        synced: int,
        repositories: int = 0,
    ) -> None:
        self.models, self.idle_s, self.starts, self.load_s = models, idle_s, starts, load_s
        self.synced, self.repositories = synced, repositories

    @property
    def of_hubs(self) -> dict[str, int]:
        """Models by hub."""
        return {
            "civitai": self.models - self.repositories,
            "huggingface": self.repositories,
        }


SIZES = {
    "small": Size(100_000, 20, 5, 10, synced=5_000),
    "full": Size(1_000_000, 60, 5, 20, synced=100_000),
    "huge": Size(3_000_000, 60, 3, 0, synced=0, repositories=2_000_000),
}
SEARCHES = 1_000
GOALS_AT = 100_000
LIBRARY_FILES = 200


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
    results = [*synced(size), disk(home, size)]
    starts = [start_once(home, size) for _ in range(size.starts)]
    results += starting(size, starts)
    with quiet_daemon(home) as daemon:
        until_indexed(daemon, size.models)
        results += searching(daemon, size)
        results.append(memory(daemon, size))
        results += idling(daemon, size)
        stop(daemon)
    if not size.load_s:
        return results
    with tempfile.TemporaryDirectory(prefix="mk-load-") as copy:
        # a copy: what is left is a home in the midst of a sync
        shutil.copytree(home, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run"))
        results += loaded(Path(copy), size.models, size.load_s)
    return results


# --- the home ---


def synced(size: Size) -> list[dict[str, Any]]:
    """Bytes on disk for each model, by hub, after a real sync."""
    results = []
    for hub in ("civitai", "huggingface"):
        if size.synced:
            each = {name: round(value) for name, value in bytes_each(hub, size.synced).items()}
            what = f"{each.pop('models')} models synced from {hub}, with the raw documents"
            total = each.pop("total")
            results.append(row(f"disk.{hub}", what, total, "bytes/model", None, **each))
    return results


def disk(home: Path, size: Size) -> dict[str, Any]:
    """Build the home where there is none; its bytes for each model."""
    paths = find_paths({"MODELKEEP_HOME": str(home)})
    database, index = Path(paths.database), Path(paths.search_index)
    if not database.exists():
        began = time.perf_counter()
        raw = build(database, size.of_hubs)
        facts = ", ".join(f"{hub}: {each:.0f} raw bytes" for hub, each in raw.items())
        took_s = time.perf_counter() - began
        print(f"built {size.models} models ({facts}) in {took_s:.0f} s", flush=True)
    for number in range(LIBRARY_FILES):
        path = home / "models" / f"folder{number % 20}" / f"{number}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(safetensors(4_096, number))
    with quiet_daemon(home) as daemon:
        began = time.perf_counter()
        until_indexed(daemon, size.models)
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
        until_indexed(daemon, size.models)
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


def searching(daemon: LivingDaemon, size: Size) -> list[dict[str, Any]]:
    """The issue's three kinds of list, then the mix; end to end over the RPC."""
    tags = most_used_tags(daemon)
    kinds: list[tuple[str, str, float | None, Callable[[int], dict[str, Any]]]] = [
        ("rpc.list", "100 models listed", 5.0, lambda n: {"query": "", "limit": 100}),
        ("rpc.tag", "one tag, 20 listed", 3.0, lambda n: {"query": tags[n % len(tags)]}),
        ("rpc.source", "one source, 20 listed", 2.0, lambda n: {"query": "source:civitai"}),
    ]
    results = []
    has_goal = size.models <= GOALS_AT  # the issue names them for that many
    with Connection(daemon.paths.socket) as connection:
        taken: dict[str, list[float]] = {name: [] for name, *_ in kinds}
        for number, (name, _, _, params) in itertools.product(range(210), kinds):
            taken[name].append(timed_ms(connection, "catalog.search", **params(number)))
        for name, what, goal, _ in kinds:
            results.append(
                latencies(name, size, what, taken[name][10:], goal if has_goal else None)
            )
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


if __name__ == "__main__":
    sys.exit(main())

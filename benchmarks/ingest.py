"""Full ingest against a bare loop: ``python -m benchmarks.ingest [--size small|full]``.

For each hub both get the same pages, made once by the simulated hub and kept in a file
(``kept_pages``): its own work is in neither figure.

**Ours** is what the daemon runs: SyncService and CatalogService on a fresh home, asking over real
HTTP (rate limit lifted), from the first request until every model is in the store *and* in the
search index. **Theirs** is one loop over the pages in that file (``bare_ingest``).

Runs are interleaved, medians given, each run in a process of its own. Beside the rates: peak RSS,
and the bytes on disk that the run left, the database with the raw documents and the index.
``--hub`` measures one hub alone.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

from benchmarks.bare_ingest import theirs
from benchmarks.kept_pages import HUBS, make_pages, open_client, serving
from modelkeepd.catalog.service import CatalogService
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.store import open_store
from modelkeepd.sync.service import SyncService, SyncSettings

# models, runs of each side
SIZES = {"small": (20_000, 3), "full": (1_000_000, 1)}
GOAL = 0.6


def main() -> int:
    """Measure and print; the last line is the results as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--models", type=int, help="another number of models")
    parser.add_argument("--hub", choices=HUBS, help="this one alone")
    parser.add_argument("--part", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        with tempfile.TemporaryDirectory(dir=options.folder) as home:
            if options.part == "ours":
                found = trio.run(ours, options.hub, Path(home), options.url)
                # closing the store has brought its log into the database
                found["database_bytes"] = _size(Path(home), "db*")
                found["index_bytes"] = _size(Path(home), "index/*")
            else:
                found = theirs(options.hub, Path(home), options.folder)
            print(json.dumps(found))
        return 0
    models, rounds = SIZES[options.size]
    hubs = [options.hub] if options.hub else HUBS
    print(json.dumps([measure(hub, options.models or models, rounds) for hub in hubs]))
    return 0


def measure(hub: str, models: int, rounds: int) -> dict[str, Any]:
    """Both rates for one hub, from interleaved runs."""
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory(prefix="mk-ingest-") as name:
        folder = Path(name)
        began = time.perf_counter()
        count, size_bytes = make_pages(hub, models, folder)
        took_s = time.perf_counter() - began
        print(f"{hub}: {count} models, {size_bytes >> 20} MiB of pages, made in {took_s:.0f} s")
        with serving(folder) as url:
            for _ in range(rounds):
                for part, results in runs.items():
                    results.append(_run(part, hub, folder, url))
                    print(part, results[-1], flush=True)
    for result in [*runs["ours"], *runs["theirs"]]:
        if result["models"] != count:
            raise SystemExit(f"a run brought in {result['models']} of {count} models")

    def median(part: str, key: str) -> float:
        return statistics.median(result[key] for result in runs[part])

    ours_rate, their_rate = (
        count / median("ours", "searchable_s"),
        count / median("theirs", "all_s"),
    )
    ratio = ours_rate / their_rate
    what = f"{hub}: full ingest of {count} models over HTTP until searchable, against one bare loop"
    return {
        "name": f"ingest.{hub}",
        "workload": what,
        "ours": round(ours_rate),
        "theirs": round(their_rate),
        "unit": "models/s",
        "ratio": round(ratio, 2),
        "goal": f">= {GOAL}",
        "met": ratio >= GOAL,
        "stored_s": round(median("ours", "stored_s"), 1),
        "searchable_s": round(median("ours", "searchable_s"), 1),
        "cpu_s": round(median("ours", "cpu_s"), 1),
        "peak_rss_mib": round(median("ours", "rss_mib")),
        "raw_bytes": round(size_bytes / count),
        "database_bytes": round(median("ours", "database_bytes") / count),
        "index_bytes": round(median("ours", "index_bytes") / count),
    }


def _run(part: str, hub: str, folder: Path, url: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.ingest", "--part", part, "--hub", hub]
    command += ["--folder", str(folder), "--url", url]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{part} failed")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _size(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern))


async def ours(hub: str, home: Path, url: str) -> dict[str, float]:
    """The daemon's two services on a fresh home."""
    client, http = open_client(hub, url)
    async with open_store(home / "db") as store, trio.open_nursery() as nursery:
        catalog = CatalogService(store, home / "index", DocumentCodec())
        sync = SyncService(store, {hub: client}, SyncSettings(auto=False))
        await nursery.start(catalog.run)
        await nursery.start(sync.run)
        began = time.perf_counter()
        await sync.start(hub)
        while (status := sync.status(hub)[0]).state != "idle":
            if status.state == "failed":
                raise SystemExit(f"sync failed: {status.error}")
            await trio.sleep(0.02)
        stored_s = time.perf_counter() - began
        await catalog.caught_up_with(store.feed.last_seq)
        searchable_s = time.perf_counter() - began
        total = (await catalog.search("", limit=1)).total
        nursery.cancel_scope.cancel()
    await http.aclose()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "models": total,
        "stored_s": stored_s,
        "searchable_s": searchable_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "rss_mib": usage.ru_maxrss / 1024,
    }


if __name__ == "__main__":
    raise SystemExit(main())

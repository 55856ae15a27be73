"""Searches while a hub is read whole, against the same searches when nothing happens.

Part of ``benchmarks.search``. A real daemon over a built home; the hub is a file of kept pages
(``kept_pages``), so that what comes in is new. Once it comes as fast as the daemon takes it, which
no hub allows, and once at the pace of the settings, a request and a half a second.
"""

import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.built_home import build
from benchmarks.kept_pages import make_pages, serving
from benchmarks.measured_daemon import quiet_daemon, stop, timed_ms, until_indexed
from benchmarks.synthetic_catalog import query_mix
from modelkeep.connect import Connection
from modelkeep_protocol.paths import find_paths
from tests.process.living import LivingDaemon

HUB = "civitai"
SEARCHES = 400
PACED_S = 8.0
PACE = 1.5
PAUSE_S = 0.005
GOAL = 2.0


def measure(models: int, ingested: int) -> list[dict[str, Any]]:
    """p95 while up to ``ingested`` models come into a catalog of ``models``, at both paces."""
    with tempfile.TemporaryDirectory(prefix="mk-during-") as name:
        home, pages = Path(name) / "home", Path(name) / "pages"
        pages.mkdir()
        build(Path(find_paths({"MODELKEEP_HOME": str(home)}).database), {HUB: models})
        make_pages(HUB, ingested, pages)
        with quiet_daemon(home) as daemon:
            until_indexed(daemon, models)
            stop(daemon)
        copy = Path(name) / "copy"  # an unfinished crawl would go on by itself
        shutil.copytree(home, copy, ignore=shutil.ignore_patterns("run"))
        with serving(pages) as url:
            results = [_hasty(home, url, models, ingested), _paced(copy, url, models)]
    return results


def _hasty(home: Path, url: str, models: int, ingested: int) -> dict[str, Any]:
    """As fast as it can, until the first view is read."""
    with quiet_daemon(home, url) as daemon:
        until_indexed(daemon, models)
        quiet = _times(daemon, _so_many())
        began = time.monotonic()
        daemon.call("sync.start", hub=HUB, full=True)
        asked = itertools.count()

        def goes_on() -> bool:
            if next(asked) % 20:
                return True
            run = _run(daemon)
            return bool(run["models_seen"] < 0.95 * ingested and run["state"] == "running")

        during = _times(daemon, goes_on)
        rate = _run(daemon)["models_seen"] / (time.monotonic() - began)
        daemon.until(lambda: _run(daemon)["state"] == "finished", "the crawl", 3_600)
        stop(daemon)
    what = f"{models} models, the mix over the RPC while {rate:.0f} a second come in"
    return _row("during_ingest", what, during, quiet)


def _paced(home: Path, url: str, models: int) -> dict[str, Any]:
    """At the settings' own pace."""
    with quiet_daemon(home, url, PACE) as daemon:
        until_indexed(daemon, models)
        quiet = _times(daemon, _so_many())
        daemon.call("sync.start", hub=HUB, full=True)
        over_s = time.monotonic() + PACED_S
        during = _times(daemon, lambda: time.monotonic() < over_s)
        stop(daemon)
    what = f"{models} models, the mix over the RPC during a full crawl of {PACE} requests a second"
    return _row("during_ingest.paced", what, during, quiet)


def _row(name: str, what: str, during: list[float], quiet: list[float]) -> dict[str, Any]:
    (p50, p95), (quiet_p50, quiet_p95) = map(_p50_and_p95, (during, quiet))
    print(f"{name}: p95 {p95:.2f} ms, quiet {quiet_p95:.2f} ms", flush=True)
    return {
        "name": f"search.{name}",
        "workload": f"{what}, p95 of {len(during)}, against quiet",
        "ours": round(p95, 2),
        "theirs": round(quiet_p95, 2),
        "unit": "ms",
        "ratio": round(p95 / quiet_p95, 2),
        "goal": f"<= {GOAL:g}",
        "met": p95 / quiet_p95 <= GOAL,
        "p50": round(p50, 2),
        "quiet_p50": round(quiet_p50, 2),
    }


def _run(daemon: LivingDaemon) -> dict[str, Any]:
    run: dict[str, Any] = daemon.call("sync.status")["runs"][0]
    return run


def _so_many() -> Callable[[], bool]:
    left = itertools.count(SEARCHES, -1)
    return lambda: next(left) > 0


def _times(daemon: LivingDaemon, goes_on: Callable[[], bool]) -> list[float]:
    """Milliseconds of one search after the other, some pause between them."""
    mix = itertools.cycle(query_mix())
    with Connection(daemon.paths.socket) as connection:
        taken = []
        while goes_on():
            taken.append(timed_ms(connection, "catalog.search", query=next(mix)))
            time.sleep(PAUSE_S)
    return taken


def _p50_and_p95(values: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[94]

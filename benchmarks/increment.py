"""What a mirror asks of the hubs to stay true: ``python -m benchmarks.increment``.

**Discovery.** Requests to learn a day's news against a full crawl of the same hub, counted by the
simulated hub's own log: a real daemon over real HTTP, a full crawl, then days of changes, each
followed by the news; the median day. A day brings a million models so many new ones: CivitAI 590,
as many more get a new version (16,000 a month on 890,000, counted); Hugging Face 1,500, as many
others are changed (an assumption: the hub has grown by about half a million in half a year). All
that is new must be in the catalog then. At the small size every view costs a page at least, so the
goal is not judged. Hugging Face is also measured with the filters that the product has by itself.

**Delay** of what no news show, by the requests a day: see ``detection_delay``.

**A week of use**, in requests against asking the hubs each time: see ``week_of_use``. And the time
of a search: over the RPC, against the same words asked of both hubs at once over HTTP. These hubs
hold a hundred models, so that their own searching costs next to nothing: what is left is the
request. Once as they answer here, and once with a stated distance.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks import detection_delay
from benchmarks.two_hubs import DAY_S, HUBS, SteeredDaemon, TwoHubs, steered, two_hubs
from benchmarks.week_of_use import Week
from modelkeep.connect import Connection

# models, owned ones
SIZES = {"small": (4_000, 200), "full": (1_000_000, 1_000)}
GOALS_AT = 1_000_000
GOAL = 0.005
DAYS = 3
# of a million, in a day
CHANGES = {
    "civitai": {"add": 590, "new_version": 590},
    "huggingface": {"add": 1_500, "edit": 1_500},
}
SEARCHED_MODELS = 100
DISTANCE_S = 0.150
SEARCHES = 40
SEARCH_GOAL = 0.02


def main() -> int:
    """Measure and print; the last line is the results as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.increment", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--models", type=int, help="another number of models")
    parser.add_argument("--only", choices=("discovery", "delay", "week", "search"))
    options = parser.parse_args()
    models, owned = SIZES[options.size]
    models = options.models or models
    results: list[dict[str, Any]] = []
    if options.only in (None, "discovery", "week", "search"):
        with two_hubs(models) as hubs, tempfile.TemporaryDirectory(prefix="mk-increment-") as name:
            folder = Path(name)
            results += Discovery(hubs, folder / "all", models).run()
            if options.only in (None, "discovery"):
                results += Discovery(hubs, folder / "own", models, filters=None).run(HUBS[1:])
            if options.only in (None, "week"):
                results += Week(hubs, folder / "all", owned, lambda: a_day(hubs, models)).run()
            if options.only in (None, "search"):
                results += searching(hubs, folder / "all", models)
    if options.only in (None, "delay"):
        results += detection_delay.measure(options.size)
    print(json.dumps(results))
    return 0


def a_day(hubs: TwoHubs, models: int, only: Sequence[str] = HUBS) -> dict[str, dict[str, Any]]:
    """What a day changes; the models it touched, by hub and word."""
    touched = {}
    for hub in only:
        shares = CHANGES[hub].items()
        words = {word: max(1, round(count * models / 1_000_000)) for word, count in shares}
        touched[hub] = hubs.change(hub, words)
    return touched


# --- discovery ---


class Discovery:
    """Full crawls, days and news of one home."""

    def __init__(
        self,
        hubs: TwoHubs,
        home: Path,
        models: int,
        *,
        filters: Sequence[str] | None = (),
    ) -> None:
        self._hubs = hubs
        self._home = home
        self._models = models
        self._filters = filters

    def run(self, only: Sequence[str] = HUBS) -> list[dict[str, Any]]:
        """A line for each of these hubs."""
        full: dict[str, int] = {}
        news: dict[str, list[int]] = {hub: [] for hub in only}
        changed: dict[str, int] = {}
        with steered(self._home, self._hubs, filters=self._filters, only=only) as it:
            for hub in only:
                self._hubs.take_log(hub)
                began = time.monotonic()
                run = it.sync(hub)
                full[hub] = len(self._hubs.take_log(hub))
                took_s = time.monotonic() - began
                print(f"{hub}: {run['models_seen']} models in {took_s:.0f} s", flush=True)
            for _ in range(DAYS):
                touched = a_day(self._hubs, self._models, only)
                it.set_now(max(self._hubs.now_ms(), it.now_ms() + round(DAY_S * 1000)))
                for hub in only:
                    it.sync(hub)
                    news[hub].append(len(self._hubs.take_log(hub)))
                    ids = [one for some in touched[hub].values() for one in some]
                    changed[hub] = _CHECK[hub](self._hubs, it, ids, self._filters)
        return [self._row(hub, full[hub], news[hub], changed[hub]) for hub in only]

    def _row(self, hub: str, full: int, news: Sequence[int], changed: int) -> dict[str, Any]:
        name, which = hub, "everything"
        if self._filters is None:
            name, which = f"{hub}.filters", "the product's own filters"
        day = statistics.median(news)
        ratio = day / full
        is_judged = self._models >= GOALS_AT and self._filters is not None
        print(f"discovery, {name}: {news} requests a day against {full}", flush=True)
        return {
            "name": f"increment.discovery.{name}",
            "workload": f"{self._models} models, {which}; requests for a day's news ({changed}"
            f" models), all found, against a full crawl; median of {DAYS} days",
            "ours": day,
            "theirs": full,
            "unit": "requests",
            "ratio": round(ratio, 5),
            "goal": f"<= {GOAL} at {GOALS_AT} models",
            "met": ratio <= GOAL if is_judged else None,
        }


def _check_civitai(hubs: TwoHubs, it: SteeredDaemon, ids: Sequence[int], _: object) -> int:
    """Every version that a list of the hub shows of these models is in the catalog; how many
    models that are."""
    shown: dict[str, set[str]] = {}
    for at in range(0, len(ids), 100):
        some = ",".join(map(str, ids[at : at + 100]))
        for view in ("&nsfw=true", ""):
            page = hubs.ask("civitai", f"/api/v1/models?ids={some}&limit=100{view}")
            for item in page["items"]:
                versions = {str(version["id"]) for version in item["modelVersions"]}
                shown.setdefault(str(item["id"]), set()).update(versions)
    hubs.take_log("civitai")
    for model, versions in shown.items():
        rows = it.rows(
            "SELECT v.hub_id FROM version v JOIN model m USING (model_key)"
            " WHERE m.hub = 'civitai' AND m.hub_id = ?",
            model,
        )
        if missing := versions - {row[0] for row in rows}:
            raise SystemExit(f"civitai {model}: the news did not bring the versions {missing}")
    return len(shown)


def _check_huggingface(
    hubs: TwoHubs, it: SteeredDaemon, keys: Sequence[str], filters: Sequence[str] | None
) -> int:
    """These repositories stand at the hub's commit; how many that are."""
    found = 0
    for key in keys:
        rows = it.rows(
            "SELECT v.revision FROM version v JOIN model m USING (model_key)"
            " WHERE m.hub = 'huggingface' AND m.hub_id = ?",
            key,
        )
        if not rows and filters is None:
            continue  # no filter fits it
        wanted = hubs.document("huggingface", key)["sha"]
        if not rows or rows[0][0] != wanted:
            raise SystemExit(f"huggingface {key}: the news did not bring the commit {wanted}")
        found += 1
    return found


_CHECK: dict[str, Callable[..., int]] = {
    "civitai": _check_civitai,
    "huggingface": _check_huggingface,
}


# --- search ---


def searching(hubs: TwoHubs, home: Path, models: int) -> list[dict[str, Any]]:
    """The same words asked of the daemon and of both hubs."""
    with steered(home, hubs) as it, two_hubs(SEARCHED_MODELS) as peers:
        it.until_indexed()
        words = it.words(SEARCHES)
        with Connection(it.daemon.paths.socket) as connection:
            calls = [
                partial(connection.call, "catalog.search", {"query": word, "limit": 20})
                for word in [*words, *words]
            ]
            ours = [_timed_ms(call) for call in calls][len(words) :]
        near = [max(times) for times in _asked(peers, words)]
        for hub in HUBS:
            stall = {"match": {"path": "/api/*", "times": 0}, "do": {"stall": DISTANCE_S}}
            peers.fault(hub, stall)
        far = [max(times) for times in _asked(peers, words)]
    distance = f"{DISTANCE_S * 1000:.0f} ms away"
    return [
        _search_row("near", models, "the hubs answer at once", ours, near),
        _search_row("away", models, f"the hubs are {distance}", ours, far),
    ]


def _asked(hubs: TwoHubs, words: Sequence[str]) -> Iterator[list[float]]:
    """Milliseconds that each hub took, word by word."""
    asks = {"civitai": ("/api/v1/models", "query"), "huggingface": ("/api/models", "search")}
    with httpx.Client(headers={"User-Agent": "benchmark/1"}, timeout=30) as client:

        def ask(hub: str, word: str) -> None:
            path, name = asks[hub]
            url = f"{hubs.url(hub)}{path}"
            client.get(url, params={name: word, "limit": 20}).raise_for_status().json()

        for hub in HUBS:
            ask(hub, words[0])  # opens the connection
        for word in words:
            yield [_timed_ms(partial(ask, hub, word)) for hub in HUBS]


def _timed_ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _search_row(
    name: str, models: int, where: str, ours: Sequence[float], theirs: Sequence[float]
) -> dict[str, Any]:
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(f"search, {where}: {mine:.2f} ms against {other:.1f} ms", flush=True)
    return {
        "name": f"increment.search.{name}",
        "workload": f"a search of {models} models over the RPC, against both hubs at once over"
        f" HTTP; {where}; median of {len(ours)}",
        "ours": round(mine, 2),
        "theirs": round(other, 1),
        "unit": "ms",
        "ratio": round(mine / other, 4),
        "goal": f"<= {SEARCH_GOAL}",
        "met": mine / other <= SEARCH_GOAL,
    }


if __name__ == "__main__":
    raise SystemExit(main())

"""A scripted week of use of a mirror, in requests to the hubs, against asking them each time.

Part of ``benchmarks.increment``. The numbers of a day are an assumption, and all of the result
hangs on them; they stand for somebody who collects models and looks for some every evening:

    40 searches over both hubs; 20 models looked at (12 of CivitAI, 8 of Hugging Face); 4 files
    fetched (3 and 1), of models just looked at; one check of all owned models for something newer

**Theirs** is counted, not run: today's tools ask each hub for each search, and once for each model
looked at, each file resolved, each owned model checked. The requests for the files' bytes are the
same both ways and left out.
**Ours** is done, on a real daemon over real HTTP, seven days by its clock, and read from the hubs'
logs. Each day the hubs change as ``day_of`` says and the news are fetched. *Interactive* are the
requests that use itself caused. *Upkeep* adds what keeps the same answers true: the news, the
hubs' own lists of values, and the refetch of the owned models, which is a day's, seven times. The
whole budget that background work has is far more, since it keeps a million other models true too:
it is given beside.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.two_hubs import DAY_S, HUBS, SteeredDaemon, TwoHubs, steered
from modelkeepd.api_changes.lists import SOURCES
from modelkeepd.settings import Settings

DAYS = 7
SEARCHES = 40
SHOWS = {"civitai": 12, "huggingface": 8}
GETS = {"civitai": 3, "huggingface": 1}
# of the owned models
OWNED_SHARE = {"civitai": 0.85, "huggingface": 0.15}
# a day's refetch begins with the owned ones; they are some batches
REFETCH_BUDGET = 200
GOAL = 0.05
_GOT = ("done", "failed", "quarantined", "waiting")


class Week:
    """The week, on a home whose hubs have been read whole."""

    def __init__(
        self, hubs: TwoHubs, home: Path, owned: int, day_of: Callable[[], dict[str, Any]]
    ) -> None:
        self._hubs = hubs
        self._home = home
        self._owned = owned
        self._day_of = day_of
        self.interactive = 0
        self.news = 0

    def run(self) -> list[dict[str, Any]]:
        """Live through it; the lines of results."""
        with steered(self._home, self._hubs) as it:
            it.until_indexed()
            owned = self._collect(it)
            for hub in HUBS:
                self._hubs.take_log(hub)
            shown = {hub: self._popular(it, hub, SHOWS[hub] * DAYS) for hub in HUBS}
            for day in range(DAYS):
                self._day(it, day, shown)
        return self._results(len(owned), self._refetched())

    # --- before it ---

    def _collect(self, it: SteeredDaemon) -> set[str]:
        """Get the library; the references of the owned models."""
        for hub, share in OWNED_SHARE.items():
            skip = SHOWS[hub] * DAYS
            refs = self._popular(it, hub, round(self._owned * share * 1.3), skip=skip)
            self._get(it, refs, round(self._owned * share))
        it.until_indexed()
        return set(self._owned_now(it))

    def _popular(self, it: SteeredDaemon, hub: str, count: int, *, skip: int = 0) -> list[str]:
        """The most used adapters, which are small files; those to own are not those to look at."""
        found: list[str] = []
        total = count
        while len(found) < min(count, total):
            page = it.daemon.call(
                "catalog.search",
                query=f"hub:{hub} type:lora state:listed",
                sort="downloads",
                limit=min(1_000, count - len(found)),
                offset=skip + len(found),
            )
            total = max(0, page["total"] - skip)
            if not page["items"]:
                break
            found += [item["ref"] for item in page["items"]]
        return found

    def _get(self, it: SteeredDaemon, refs: Sequence[str], wanted: int) -> None:
        """Get one file each of the first so many that can be had, a hundred at a time."""
        had = 0
        for at in range(0, len(refs), 100):
            if had >= wanted:
                return
            some = refs[at : at + min(100, wanted - had)]
            jobs = it.daemon.call("transfer.get", refs=list(some))["jobs"]
            ids = [job["id"] for job in jobs]

            def over(ids: list[int] = ids) -> Any:
                found = it.daemon.call("transfer.list", ids=ids)["jobs"]
                return all(job["state"] in _GOT for job in found) and found

            done = it.daemon.until(over, "the library", 600) if ids else []
            had += sum(job["state"] == "done" for job in done)

    def _owned_now(self, it: SteeredDaemon) -> dict[str, int]:
        """Reference and newest date of each owned model: the check for something newer."""
        found: dict[str, int] = {}
        while True:
            page = it.daemon.call(
                "catalog.search", query="owned:yes", sort="name", limit=1_000, offset=len(found)
            )
            found |= {item["ref"]: item["updated_ms"] for item in page["items"]}
            if len(found) >= page["total"] or not page["items"]:
                return found

    # --- a day ---

    def _day(self, it: SteeredDaemon, day: int, shown: dict[str, list[str]]) -> None:
        before = self._owned_now(it)
        published = [ref for ref in before if ref.startswith("civitai:")][day::DAYS][:2]
        self._day_of()
        touched = self._hubs.change("civitai", {"new_version": [_key(ref) for ref in published]})
        it.set_now(max(self._hubs.now_ms(), it.now_ms() + round(DAY_S * 1000)))
        for hub in HUBS:
            it.sync(hub)
            self.news += len(self._hubs.take_log(hub))
        it.until_indexed()
        self._use(it, day, shown)
        after = self._owned_now(it)
        newer = {ref for ref in before if after[ref] > before[ref]}
        if not {f"civitai:{key}" for key in touched["new_version"]} <= newer:
            raise SystemExit(f"of {published}, {newer} were seen to be newer")
        for hub in HUBS:
            self.interactive += sum(not _is_watch(asked.path) for asked in self._hubs.take_log(hub))

    def _use(self, it: SteeredDaemon, day: int, shown: dict[str, list[str]]) -> None:
        words = it.words(SEARCHES)
        for number in range(SEARCHES):
            it.daemon.call("catalog.search", query=words[number % len(words)], limit=20)
        for hub, count in SHOWS.items():
            today = shown[hub][day * count : (day + 1) * count]
            for ref in today:
                it.daemon.call("catalog.show", ref=ref)
            self._get(it, today[: GETS[hub]], GETS[hub])

    # --- after it ---

    def _refetched(self) -> int:
        """Requests of one day's refetch that ask for models of the library's files."""
        with steered(self._home, self._hubs, auto=True, budget=REFETCH_BUDGET, only=HUBS[:1]) as it:
            files = "SELECT model_key FROM library_file WHERE state = 'present'"
            sql = f"SELECT hub_id FROM model WHERE hub = 'civitai' AND model_key IN ({files})"
            keys = {row[0] for row in it.rows(sql)}
            it.set_now(it.now_ms() + round(DAY_S * 1000))
            self._hubs.take_log("civitai")
            it.sync("civitai")  # wakes it up: the refetch follows

            def is_over() -> bool:
                [hub] = it.daemon.call("daemon.status")["hubs"]
                return hub["requests"]["background_left"] == 0 or it.is_refetched("civitai")

            it.daemon.until(is_over, "the refetch", 600)
            asked = [set(one.ids()) for one in self._hubs.take_log("civitai")]
            # the news have just shown some of them
            sql = "SELECT hub_id FROM model WHERE hub = 'civitai' AND seen_ms > ?"
            true = {row[0] for row in it.rows(sql, it.now_ms() - round(DAY_S * 500))}
        if missing := keys - true:
            raise SystemExit(f"{len(missing)} of {len(keys)} owned models were not refetched")
        return sum(bool(ids & keys) for ids in asked)

    def _results(self, owned: int, refetched: int) -> list[dict[str, Any]]:
        theirs = DAYS * (SEARCHES * len(HUBS) + sum(SHOWS.values()) + sum(GETS.values()) + owned)
        watch = sum(math.ceil(DAYS * DAY_S * 1000 / source.every_ms) for source in SOURCES)
        upkeep = self.interactive + self.news + DAYS * refetched + watch
        hubs = Settings().hubs
        budget = sum(getattr(hubs, hub).background_requests_per_day for hub in HUBS) * DAYS
        script = (
            f"a week: {SEARCHES} searches, {sum(SHOWS.values())} looks, {sum(GETS.values())} gets"
            f" a day, {owned} owned models checked daily"
        )
        facts = {"interactive": self.interactive, "news": self.news, "watch": watch,
                 "owned_refetch": DAYS * refetched, "background_budget": budget}  # fmt: skip
        return [
            _row("interactive", f"{script}; requests that use caused", self.interactive, theirs),
            _row("upkeep", f"{script}; with news and owned refetch", upkeep, theirs, **facts),
        ]


def _row(name: str, workload: str, ours: int, theirs: int, **facts: Any) -> dict[str, Any]:
    print(f"week, {name}: {ours} requests against {theirs}; {facts}", flush=True)
    return {
        "name": f"increment.week.{name}",
        "workload": workload,
        "ours": ours,
        "theirs": theirs,
        "unit": "requests",
        "ratio": round(ours / theirs, 4),
        "goal": f"<= {GOAL}",
        "met": ours / theirs <= GOAL,
        **facts,
    }


def _key(ref: str) -> int:
    return int(ref.partition(":")[2])


def _is_watch(path: str) -> bool:
    return path in {source.path for source in SOURCES}

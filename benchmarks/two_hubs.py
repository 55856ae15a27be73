"""A real daemon over both simulated hubs, whose days pass when they are told to.

What the hubs were asked is read from their own logs.
"""

import json
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from benchmarks import steered_daemon
from benchmarks.measured_daemon import AlteredDaemon
from tests.process.living import HubProcess, LivingDaemon, hub_process

DAY_S = 86_400.0
LONGEST_S = 3_600.0
HUBS = ("civitai", "huggingface")


class Asked(msgspec.Struct, frozen=True):
    """One request to a hub's API; those for files' bytes are left out."""

    path: str
    params: tuple[tuple[str, str], ...]

    def ids(self) -> tuple[str, ...]:
        """The models asked for in bulk."""
        return tuple(i for name, value in self.params if name == "ids" for i in value.split(","))


class TwoHubs:
    """Both hubs, and the homes of daemons that mirror them."""

    def __init__(self, hubs: dict[str, HubProcess]) -> None:
        self._hubs = hubs

    def change(self, hub: str, what: dict[str, Any]) -> dict[str, list[Any]]:
        """The hub's catalog changes; which models each word touched."""
        found: dict[str, list[Any]] = self._hubs[hub].control("change", what)
        return found

    def now_ms(self) -> int:
        """By the hub whose clock is ahead of the other's."""
        return max(int(hub.control("state")["now_ms"]) for hub in self._hubs.values())

    def ask(self, hub: str, path: str) -> Any:
        """An answer of the hub, asked by nobody of ours."""
        request = urllib.request.Request(self._hubs[hub].url + path)
        request.add_header("User-Agent", "benchmark/1")
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    def document(self, hub: str, key: object) -> Any:
        """What the hub has of a model, listed or not."""
        return self.ask(hub, f"/_sim/document?id={key}")

    def url(self, hub: str) -> str:
        return self._hubs[hub].url

    def fault(self, hub: str, fault: dict[str, Any]) -> None:
        """From now on the hub misbehaves like this."""
        self._hubs[hub].control("faults", [fault])

    def take_log(self, hub: str) -> list[Asked]:
        """The requests since this was last asked."""
        log = self._hubs[hub].control("log")
        self._hubs[hub].control("reset_log", {})
        return [
            Asked(entry["path"], tuple(parse_qsl(urlsplit(entry["target"]).query)))
            for entry in log
            if not entry["storage"] and _is_api(entry["path"])
        ]


def _is_api(path: str) -> bool:
    is_bytes = path.startswith(("/api/download/", "/api/resolve-cache/"))
    return path.startswith("/api/") and not is_bytes


@contextmanager
def two_hubs(models: int, seed: int = 11) -> Iterator[TwoHubs]:
    """Two hubs of so many models."""
    size = ("--models", str(models), "--seed", str(seed))
    with hub_process(*size) as first, hub_process("--dialect", HUBS[1], *size) as second:
        yield TwoHubs(dict(zip(HUBS, (first, second), strict=True)))


class SteeredDaemon:
    """A running daemon and its clock."""

    def __init__(self, daemon: LivingDaemon, clock: Path) -> None:
        self.daemon = daemon
        self._clock = clock

    def now_ms(self) -> int:
        """The daemon's wall time."""
        return round((time.time() + steered_daemon.steered(self._clock)) * 1000)

    def set_now(self, wall_ms: int) -> None:
        """From now on it is later than that; never earlier than it was."""
        ahead_s = (wall_ms + 60_000) / 1000 - time.time()
        steered_daemon.steer(self._clock, max(ahead_s, steered_daemon.steered(self._clock)))

    def sync(self, hub: str) -> dict[str, Any]:
        """News, or the whole list of a hub that was never read; the run, when it is over."""
        [begun] = self.daemon.call("sync.start", hub=hub)["runs"]

        def finished() -> Any:
            for run in self.daemon.call("sync.status")["runs"]:
                if run["hub"] == hub and run["run_id"] == begun["run_id"]:
                    if run["state"] == "failed":
                        raise SystemExit(f"the sync of {hub} failed: {run['error']}")
                    return run if run["state"] == "finished" else None
            return None

        found: dict[str, Any] = self.daemon.until(finished, f"a sync of {hub}", LONGEST_S)
        return found

    def is_refetched(self, hub: str) -> bool:
        """Whether a refetch that was begun in the last hour is over."""
        since_ms = self.now_ms() - 3_600_000
        sql = "SELECT 1 FROM sync_run WHERE hub = ? AND kind = 'refetch' AND state = 'finished'"
        return bool(self.rows(f"{sql} AND started_ms > ?", hub, since_ms))

    def until_indexed(self) -> None:
        """Until searches see everything."""
        self.daemon.until(
            lambda: self.daemon.call("daemon.status")["catalog"]["indexed"], "index", LONGEST_S
        )

    def words(self, count: int) -> list[str]:
        """What the most used tags say: something to search for."""
        tags = self.daemon.call("catalog.complete", kind="tags", prefix="", limit=5 * count)
        return [tag for tag in tags["items"] if tag.isalpha()][:count]

    def rows(self, sql: str, *values: object) -> list[Any]:
        """Straight from its database."""
        with closing(sqlite3.connect(f"file:{self.daemon.paths.database}?mode=ro", uri=True)) as db:
            return db.execute(sql, values).fetchall()


@contextmanager
def steered(
    home: Path,
    hubs: TwoHubs,
    *,
    auto: bool = False,
    budget: int = 0,
    filters: Sequence[str] | None = (),
    only: Sequence[str] = HUBS,
) -> Iterator[SteeredDaemon]:
    """A daemon with the hubs' clock. ``budget``: background requests a day to each hub; ``filters``
    of Hugging Face: none, that is everything; None: the product's own."""
    clock = home / "clock"
    home.mkdir(parents=True, exist_ok=True)
    if not clock.exists():
        steered_daemon.steer(clock, float("-inf"))
    daemon = AlteredDaemon(
        home,
        hubs.url("civitai"),
        module="benchmarks.steered_daemon",
        environment={steered_daemon.FILE_VARIABLE: str(clock)},
    )
    lines = ["[sync]", f"auto = {str(auto).lower()}", "[transfer]", "reserve_bytes = 0"]
    lines += ["[library]", "settle_s = 0.2"]
    lines += ["[[library.roots]]", f'path = "{daemon.models}"', 'layout = "comfyui"']
    for hub in HUBS:
        lines += [f"[hubs.{hub}]", f'base_url = "{hubs.url(hub)}"', "requests_per_second = 1000"]
        lines += [f"background_requests_per_day = {budget}"]
        lines += [f"enabled = {str(hub in only).lower()}"]
        if hub == "huggingface" and filters is not None:
            lines += [f"filters = {json.dumps(list(filters))}"]
    (home / "config.toml").write_text("\n".join(lines))
    steady = SteeredDaemon(daemon, clock)
    steady.set_now(hubs.now_ms())
    daemon.start()
    try:
        yield steady
        if code := daemon.stop():
            raise SystemExit(f"the daemon ended with {code}:\n{daemon.log_tail()}")
    finally:
        if daemon.process is not None:
            print(daemon.log_tail(), file=sys.stderr)
            daemon.process.kill()
            daemon.process.wait(10)

"""The whole daemon inside a test: real socket, real database, real folders, a hub beside it.

With the fixture ``fast_time`` time runs faster here than outside (``RATE``), for the waits between
tries and nothing else: a test never waits for a length of time, only for what it wants to see.
"""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw
import trio

from modelkeep.aio import AsyncClient, open_client
from modelkeep_protocol import schema
from modelkeep_protocol.paths import Paths, find_paths
from modelkeepd import app, logs, platform
from modelkeepd.clocks import Clocks
from modelkeepd.settings import load_settings
from modelkeepd.supervise import StopRequest
from modelkeepd.wiring import Daemon
from tests.hubsim import Hub

T = TypeVar("T")

RATE = 10.0
# of the fast clock: what takes longer hangs
LIMIT_S = 40.0 * RATE
FINAL = frozenset({"done", "failed", "quarantined", "canceled"})


class FastClocks(Clocks):
    """The daemon's clocks at the pace of trio's."""

    def __init__(self) -> None:
        self._wall_ms = time.time() * 1000
        self._began = time.monotonic()

    def _gone_s(self) -> float:
        return (time.monotonic() - self._began) * RATE

    def wall_ms(self) -> int:
        return int(self._wall_ms + self._gone_s() * 1000)

    def monotonic(self) -> float:
        return self._gone_s()

    def boot(self) -> float:
        return self._gone_s()


class House:
    """One running daemon and a client of it."""

    def __init__(self, paths: Paths, daemon: Daemon, client: AsyncClient, models: Path) -> None:
        self.paths = paths
        self.daemon = daemon
        self.client = client
        self.models = models

    async def call(self, method: str, **params: Any) -> Any:
        """One call over the socket; the result Struct."""
        return await self.client.call(
            method, params, deadline_s=80_000
        )  # a test may make time jump

    async def until(self, what: str, holds: Callable[[], Awaitable[T]]) -> T:
        """Ask again and again until the answer is true; that answer."""
        found: Any = None
        with trio.move_on_after(LIMIT_S):
            while not (found := await holds()):  # noqa: ASYNC110
                await trio.sleep(0.02 * RATE)
            return found  # type: ignore[no-any-return]
        raise AssertionError(f"{what}: it never came to that; last seen: {found!r}")

    async def run(self) -> schema.SyncRun:
        """The hub's current or last sync; waits for the first one to begin."""

        async def begun() -> list[schema.SyncRun]:
            runs: schema.SyncRuns = await self.call("sync.status")
            return runs.runs

        return (await self.until("a sync", begun))[0]

    async def synced(self, after_run: int = 0) -> schema.SyncRun:
        """Wait for a finished sync later than ``after_run``."""

        async def finished() -> schema.SyncRun | None:
            runs = (await self.call("sync.status")).runs
            over = runs and runs[0].state == "finished" and runs[0].run_id > after_run
            return runs[0] if over else None

        found = await self.until("a finished sync", finished)
        assert found is not None
        return found

    async def sync_again(self) -> schema.SyncRun:
        """Another whole sync."""
        before = (await self.run()).run_id
        await self.call("sync.start")
        return await self.synced(before)

    async def search_caught_up(self) -> None:
        """Wait until search knows what the catalog knows."""

        async def caught_up() -> bool:
            status: schema.Status = await self.call("daemon.status")
            return status.catalog.indexed

        await self.until("search catches up", caught_up)

    async def get(self, *refs: str, **params: Any) -> list[schema.Job]:
        """Queue files; their jobs as first answered."""
        answer: schema.GetResult = await self.call("transfer.get", refs=list(refs), **params)
        assert answer.errors == []
        return answer.jobs

    async def ended(
        self, jobs: Sequence[schema.Job], states: frozenset[str] = FINAL
    ) -> list[schema.Job]:
        """Each of these jobs as it was when first seen in one of the states."""
        found: dict[int, schema.Job] = {}

        async def over() -> bool:
            left = [job.id for job in jobs if job.id not in found]
            now: schema.Jobs = await self.call("transfer.list", ids=left)
            found.update((job.id, job) for job in now.jobs if job.state in states)
            return len(found) == len({job.id for job in jobs})

        await self.until("the jobs end", over)
        return [found[job.id] for job in jobs]

    def rows(self, sql: str, *bindings: Any) -> list[Any]:
        """What another program sees in the database."""
        db = apsw.Connection(self.paths.database, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return db.execute(sql, bindings).fetchall()
        finally:
            db.close()

    def files(self) -> list[str]:
        """All files below the library folder, work folders left out, relative."""
        return sorted(
            str(path.relative_to(self.models))
            for path in self.models.rglob("*")
            if path.is_file() and ".modelkeep" not in path.parts
        )

    def crashes(self) -> dict[str, int]:
        """Services that crashed, and how often."""
        running = self.daemon.supervisor.running
        return {each.name: len(each.crashes) for each in running if each.crashes}


class Records(logging.Handler):
    """Keeps every line the daemon would write, formatted."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.faults: list[str] = []
        self.setFormatter(logs.TextFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        self.lines.append(line)
        if record.exc_info:
            self.faults.append(line)


def write_config(
    home: Path, hub_url: str, settings: Sequence[str] = (), name: str = "civitai"
) -> Path:
    """A home with a config file and a library folder; the folder."""
    models = home / "models"
    models.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(
        "\n".join(
            (
                f"[hubs.{name}]",
                f'base_url = "{hub_url}"',
                "requests_per_second = 1000",
                f"[hubs.{'huggingface' if name == 'civitai' else 'civitai'}]",
                "enabled = false",
                "[[library.roots]]",
                f'path = "{models}"',
                'layout = "comfyui"',
                "[transfer]",
                "reserve_bytes = 0",
                *settings,
            )
        )
    )
    return models


@asynccontextmanager
async def open_house(
    home: Path,
    hub: Hub | str,
    *,
    settings: Sequence[str] = (),
    token: str = "",
    name: str = "civitai",
) -> AsyncIterator[House]:
    """Run the daemon of ``home`` for the length of a block; it must end cleanly.

    ``name`` says which hub it is. No service may crash and no exception may be logged meanwhile.
    """
    url = hub if isinstance(hub, str) else hub.base_url
    models = write_config(home, url, settings, name)
    if token:
        (home / f"{name}.token").touch(mode=0o600)
        (home / f"{name}.token").write_text(token)
    paths = find_paths({"MODELKEEP_HOME": str(home)})
    for folder in (paths.state_dir, paths.cache_dir, paths.runtime_dir):
        platform.private_folder(Path(folder))
    loaded, warnings = load_settings(Path(paths.config_file), environ={})
    stop = StopRequest()
    records = Records()
    root = logging.getLogger()
    root.addHandler(records)
    failure: Exception | None = None
    try:
        async with app.open_daemon(paths, loaded, warnings, stop, FastClocks()) as daemon:
            daemon.supervisor._grace_s *= RATE
            late: list[str] = []

            async def run(*, task_status: trio.TaskStatus[None]) -> None:
                late.extend(await daemon.supervisor.run(on_ready=task_status.started))

            async with trio.open_nursery() as nursery:
                await nursery.start(run)
                async with open_client(paths.socket) as client:
                    house = House(paths, daemon, client, models)
                    try:
                        yield house
                    except Exception as error:  # raised below, or the nursery would wrap it
                        failure = error
                    finally:
                        stop.request("the test is over")
            assert late == [] or failure
            assert house.crashes() == {}
            assert not stop.failed
    finally:
        root.removeHandler(records)
    if failure is not None:
        raise failure
    assert records.faults == []

"""Exports and imports as tasks, and two homes that exchange snapshots at random."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from modelkeepd.hubs.contract import parse_model
from modelkeepd.snapshot import export
from modelkeepd.snapshot.errors import SnapshotBusy
from modelkeepd.snapshot.keys import BadKey
from modelkeepd.snapshot.service import SnapshotService
from tests.fakes.catalogs import Home, civitai, huggingface, open_home


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with open_home(tmp_path / "home") as opened:
        await opened.sync("civitai", *(civitai(n) for n in range(1, 9)))
        opened.clocks.advance(10)
        yield opened


async def started(home: Home, folder: Path, nursery: trio.Nursery) -> SnapshotService:
    service = SnapshotService(home.store, home.codec, folder, parse=parse_model, clocks=home.clocks)
    await nursery.start(service.run)
    return service


async def ended(service: SnapshotService) -> Any:
    while service.task.state == "running":  # noqa: ASYNC110 - as clients do
        await trio.sleep(0.005)
    return service.task


async def test_what_is_written_is_read_again_as_tasks(
    home: Home, tmp_path: Path, nursery: trio.Nursery
) -> None:
    service = await started(home, tmp_path / "config", nursery)
    assert service.task.state == "none"
    file = tmp_path / "c.mks"
    assert service.export(file).state == "running"
    task = await ended(service)
    assert (task.state, task.models, task.fraction, task.code) == ("finished", 8, 1.0, None)
    line = (tmp_path / "config" / "snapshot.pub").read_text().strip()
    assert task.key == line
    assert service.import_(file).kind == "import"
    task = await ended(service)
    assert (task.state, task.models, task.new, task.changed) == ("finished", 8, 0, 0)
    nursery.cancel_scope.cancel()


async def test_one_at_a_time_and_the_next_after_a_cancel(
    home: Home, tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BATCH", 1)
    service = await started(home, tmp_path, nursery)
    service.export(tmp_path / "c.mks")
    with pytest.raises(SnapshotBusy, match="under way"):
        service.import_(tmp_path / "c.mks")
    task = await service.cancel()
    assert (task.state, task.code) == ("canceled", "canceled")
    assert not (tmp_path / "c.mks").exists()
    service.export(tmp_path / "c.mks")
    assert (await ended(service)).state == "finished"
    assert (await service.cancel()).state == "finished"
    nursery.cancel_scope.cancel()


async def test_failures_are_told_in_the_task(
    home: Home, tmp_path: Path, nursery: trio.Nursery
) -> None:
    service = await started(home, tmp_path / "config", nursery)
    service.import_(tmp_path / "none.mks")
    task = await ended(service)
    assert (task.state, task.code) == ("failed", "invalid")
    assert "can't be opened" in task.error
    with pytest.raises(BadKey):
        service.import_(tmp_path / "none.mks", ["no key"])
    other = tmp_path / "other.mks"
    async with open_home(tmp_path / "other") as stranger:
        await stranger.sync("civitai", civitai(1))
        await stranger.export(other)
    service.import_(other)
    task = await ended(service)
    assert (task.state, task.code) == ("failed", "denied")
    key = stranger.key.public.hex()
    assert task.hint.endswith(f"--trust {key}")
    service.import_(other, [key])
    assert (await ended(service)).state == "finished"
    nursery.cancel_scope.cancel()


class Player:
    """A home that remembers every state it was ever told of."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.told: dict[tuple[str, str], set[bytes]] = {}
        self.exported: Path | None = None

    def hear(self, hub: str, number: int, raw: bytes) -> None:
        hub_id = str(number) if hub == "civitai" else f"{number:024x}"
        self.told.setdefault((hub, hub_id), set()).add(raw)

    async def sync(self, rng: random.Random) -> None:
        number = rng.randint(1, 4)
        hub = rng.choice(("civitai", "huggingface"))
        make = civitai if hub == "civitai" else huggingface
        # few values: both homes often meet the same state, at different times
        raw = make(number, tags=[rng.choice(("p", "qq", "rrr", "ssss"))])
        self.hear(hub, number, raw)
        await self.home.sync(hub, raw)

    async def check(self) -> None:
        """Nothing it was told is lost, and all of it is in the order of time."""
        for (hub, hub_id), states in self.told.items():
            found = await self.home.history(hub, hub_id)
            assert states <= {raw for _, raw in found}
            times = [ms for ms, _ in found]
            assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("seed", range(6))
async def test_homes_that_exchange_snapshots_agree_and_forget_nothing(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    async with open_home(tmp_path / "a") as a, open_home(tmp_path / "b", 1_750_000_000_500) as b:
        players = [Player(a), Player(b)]
        for number in range(60):
            one, other = rng.sample(players, 2)
            for player in players:  # about the same time in both
                late_ms = max(p.home.clocks.wall_ms() for p in players)
                player.home.clocks.advance((late_ms - player.home.clocks.wall_ms()) // 1000)
            if rng.random() < 0.85:
                await one.sync(rng)
                continue
            file = tmp_path / f"{number}.mks"
            since = one.exported if rng.random() < 0.5 else None
            await one.home.export(file, since=since)
            one.exported = file
            if since is None:
                other.home.clocks.advance(2)
                await other.home.take(file, one.home.key)
                for key in one.told:
                    newest = (await one.home.history(*key))[0][1]
                    other.told.setdefault(key, set()).add(newest)
            await other.check()
        for one, other in (players, players[::-1]):
            await one.home.export(tmp_path / "last.mks")
            other.home.clocks.advance(5)
            await other.home.take(tmp_path / "last.mks", one.home.key)
            await other.check()
        contents = [(await p.home.content())["models"] for p in players]
        assert {n: row[1] for n, row in contents[0].items()} == {
            n: row[1] for n, row in contents[1].items()
        }

"""Whole weeks of both simulated hubs over real HTTP: changes, faults, kills, and then the truth.

What an in-memory hub can't show: the clients' own ways of telling absent from hidden, renames by
redirect, details of real repositories. One seed each in everyday runs, many in nightly ones.
"""

import hashlib
import json
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modelkeepd import failpoints
from modelkeepd.hubs.breaker import BreakerPolicy
from modelkeepd.hubs.contract import Hub, parse_model
from modelkeepd.hubs.documents import DocumentCodec, read_document
from modelkeepd.hubs.host import Manners
from modelkeepd.hubs.opening import HubConfig, open_hubs
from modelkeepd.hubs.retry import RetryPolicy
from modelkeepd.store import Store, open_store
from modelkeepd.sync import plan
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.lane import Lane, Ports, SyncSettings
from modelkeepd.sync.patience import Waits
from modelkeepd.sync.schedule import Cadence
from modelkeepd.sync.suspects import Trust
from tests.fakes.clocks import FakeClocks
from tests.hubsim import Hub as SimulatedHub
from tests.hubsim import open_hubsim
from tests.hubsim.messages import canonical

DAY_S = 86_400.0
SETTINGS = SyncSettings(
    cadence=Cadence(sweep_s=2 * DAY_S, rare_sweep_s=3 * DAY_S),
    trust=Trust(unlisted_every_ms=3 * 86_400_000),
    retry_failed_s=60.0,
    waits=Waits(base_s=0.001, cap_s=0.002),
    wake_jitter_s=0.0,
)
MANNERS = Manners(
    retry=RetryPolicy(attempts=2, base_s=0.001, cap_s=0.002, patience_s=0.5),
    breaker=BreakerPolicy(open_s=0.01, longest_s=0.02),
)
LISTS = {"civitai": "/api/v1/models", "huggingface": "/api/models"}
MODELS = {"civitai": 60, "huggingface": 60}
_PASSING: tuple[Any, ...] = (
    {"status": 500}, {"status": 503}, "html200", "truncated_json", "hang_up", "cut", "garbage",
)  # fmt: skip
FAULTS: Mapping[str, tuple[Any, ...]] = {
    "civitai": (
        *_PASSING, {"status": 429}, "repeat_page", {"cursor_loop": "same"}, "empty_page"
    ),
    # its 429 names a window of minutes, which are waited out
    "huggingface": _PASSING,
}  # fmt: skip
CHANGES: Mapping[str, tuple[str, ...]] = {
    "civitai": ("add", "edit", "new_version", "remove", "unpublish", "takedown", "archive"),
    "huggingface": (
        "add", "edit", "new_file", "replace_file", "counters", "rename", "remove", "make_private",
        "gate", "disable", "restore", "reuse_name",
    ),
}  # fmt: skip


class Week:
    """One simulated hub and one catalog through some days."""

    def __init__(self, hub: SimulatedHub, dialect: str, folder: Path, seed: int) -> None:
        self.sim, self.dialect, self.folder = hub, dialect, folder
        self.rng = random.Random(seed)
        self.clocks = FakeClocks(wall_ms=1_790_000_000_000)
        self.changed: set[str] = set()

    def lane(self, store: Store, hub: Hub) -> Lane:
        parse = partial(parse_model, self.dialect, texts=False)
        intake = Intake(store, self.dialect, DocumentCodec(), parse)
        return Lane(hub, intake, SETTINGS, Ports(), self.clocks, random.Random(1))

    async def live(self, days: int = 1) -> None:
        """A life of the daemon, some days long."""
        config = HubConfig(
            self.dialect, self.sim.base_url, requests_per_second=10_000, page_size=10
        )
        async with (
            open_hubs([config], manners=MANNERS, rng=random.Random(1)) as hubs,
            open_store(self.folder / "db", clocks=self.clocks) as store,
        ):
            lane = self.lane(store, hubs.background[self.dialect])
            await lane.recall()
            for _ in range(days):
                self.clocks.advance(DAY_S + 60)
                await lane.work()

    async def live_dangerously(self) -> None:
        """A life with faults, which may end suddenly."""
        path = LISTS[self.dialect]
        for _ in range(self.rng.randrange(4)):
            do = self.rng.choice(FAULTS[self.dialect])
            self.sim.fail(path, do, after=self.rng.randrange(6))
        if self.rng.random() < 0.6:
            name = self.rng.choice(["page", "finish", "refetch", "look", "details", "begin"])
            when = self.rng.choice(["before", "after"])
            failpoints.configure(f"sync.{name}.{when}_commit=raise:{self.rng.randrange(1, 8)}")
        try:
            await self.live()
        except failpoints.FailpointReached:
            pass
        except ExceptionGroup as group:
            _, other = group.split(failpoints.FailpointReached)
            if other is not None:
                raise other from None
        finally:
            failpoints.configure("")

    def change(self) -> None:
        for _ in range(self.rng.randrange(1, 6)):
            word = self.rng.choice(CHANGES[self.dialect])
            try:
                done = self.sim.change({word: self.rng.randrange(1, 3)})
            except ValueError:  # its name was given away meanwhile
                continue
            self.changed |= {str(key) for key in done[word]}

    def bring_back(self) -> None:
        """Some of what went away is there again."""
        if self.dialect == "civitai":
            some = sorted(self.changed)[: self.rng.randrange(4)]
            self.sim.change({"restore": [int(key) for key in some]})


async def weeks(dialect: str, folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if dialect == "civitai":  # whose page size is no setting
        monkeypatch.setattr(plan, "LIMITS", (0.1, 0.09, 0.03))
    async with open_hubsim(dialect=dialect, models=MODELS[dialect], seed=seed) as hub:
        week = Week(hub, dialect, folder, seed)
        for _ in range(4):
            await week.live_dangerously()
            week.change()
        week.bring_back()
        hub.faults.clear()
        await week.live(days=8)
        async with open_store(folder / "db") as store:
            await store.read(partial(AGREES[dialect], hub=hub))


def agrees_civitai(db: Any, hub: SimulatedHub) -> None:
    codec, truth = DocumentCodec(), hub.truth()
    rows = db.execute("SELECT model_key, hub_id, hub_state FROM model").fetchall()
    assert {int(hub_id) for _, hub_id, _ in rows} >= truth.keys()
    for key, hub_id, state in rows:
        entry = truth.get(int(hub_id))
        if entry is None:
            # by its id the hub still shows what its creator has archived
            traits = hub.world.catalog.traits(int(hub_id))
            is_there = traits is not None and traits.published and traits.mode == "Archived"
            assert state == ("archived" if is_there else "gone"), (hub_id, traits)
            continue
        assert state in ("listed", "taken_down"), hub_id
        raw = read_document(db, codec, key)
        assert raw is not None
        digest = hashlib.sha256(canonical(json.loads(raw))).hexdigest()
        assert digest == (entry["mature_sha256"] or entry["sfw_sha256"]), hub_id


def agrees_huggingface(db: Any, hub: SimulatedHub) -> None:
    codec, truth = DocumentCodec(), hub.truth()
    rows = db.execute(
        "SELECT model_key, m.hub_id, hub_state, ref_id, downloads, likes, gated,"
        " revision, files_revision FROM model m JOIN version USING (model_key)"
    ).fetchall()
    shown = {key for key, entry in truth.items() if entry["state"] in ("listed", "disabled")}
    assert {row[1] for row in rows} >= shown
    for key, hub_id, state, ref_id, downloads, likes, gated, revision, detailed in rows:
        entry = truth[hub_id]
        if hub_id not in shown:
            assert state == "gone", (hub_id, entry)
            continue
        assert state == ("listed" if entry["state"] == "listed" else "taken_down"), hub_id
        assert (ref_id, downloads, likes) == (entry["id"], entry["downloads"], entry["likes"])
        assert (gated or False) == entry["gated"]
        raw = read_document(db, codec, key)
        assert raw is not None
        assert json.loads(raw)["tags"] == entry["tags"]
        assert revision == entry["sha"]
        if state == "listed":
            assert detailed == revision, hub_id
            assert _files_digest(db, key) == entry["files_sha256"], hub_id


def _files_digest(db: Any, key: int) -> str:
    files = db.execute(
        "SELECT name, size_bytes, lower(hex(coalesce(sha256, git_sha1))) FROM file"
        " WHERE model_key = ? AND gone_ms IS NULL",
        (key,),
    ).fetchall()
    return hashlib.sha256(canonical(sorted(files))).hexdigest()


AGREES = {"civitai": agrees_civitai, "huggingface": agrees_huggingface}
EVERYDAY = [("civitai", 3), ("huggingface", 3)]
MANY = [(dialect, seed) for dialect in AGREES for seed in range(100, 120)]


@pytest.mark.parametrize(("dialect", "seed"), EVERYDAY)
async def test_after_weeks_of_trouble_the_catalog_is_the_hubs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: str, seed: int
) -> None:
    await weeks(dialect, tmp_path, seed, monkeypatch)


@pytest.mark.nightly
@pytest.mark.parametrize(("dialect", "seed"), MANY)
async def test_after_many_weeks_of_trouble_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: str, seed: int
) -> None:
    await weeks(dialect, tmp_path, seed, monkeypatch)

"""Whatever a hub does and whenever the daemon dies: in the end the catalog is the hub's.

Scripts of changes, faults, kills and clock jumps; then the faults end, some days pass with their
increments, sweeps, refetches and looks, and nothing may differ. Time is a clock set by hand.
"""

import json
import random
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelkeepd import failpoints
from modelkeepd.catalog.detail import model_named
from modelkeepd.hubs.contract import parse_model
from modelkeepd.hubs.documents import DocumentCodec, read_document
from modelkeepd.store import Store, open_store
from modelkeepd.sync.intake import Intake
from modelkeepd.sync.lane import Lane, Ports, SyncSettings
from modelkeepd.sync.patience import Waits
from modelkeepd.sync.schedule import Cadence
from modelkeepd.sync.suspects import Trust
from tests.fakes.changing_hub import FAULTS, ChangingHub, Killed, canonical
from tests.fakes.clocks import FakeClocks
from tests.fakes.living_hub import START_MS, Manner

DAY_S = 86_400.0
SETTINGS = SyncSettings(
    cadence=Cadence(sweep_s=2 * DAY_S, rare_sweep_s=3 * DAY_S),
    trust=Trust(unlisted_every_ms=3 * 86_400_000),
    retry_failed_s=60.0,
    waits=Waits(base_s=0.0, cap_s=0.0),
    slice_requests=7,
    wake_jitter_s=0.0,
)
COMMITS = ("page", "begin", "finish", "refetch", "queue", "look", "details", "resume")


class World:
    """A hub, a folder with a catalog, and time."""

    def __init__(self, manner: Manner, folder: Path, *, models: int, skew_s: float) -> None:
        self.folder = folder
        self.clocks = FakeClocks(wall_ms=START_MS + 30 * 86_400_000)
        self.hub = ChangingHub(manner, models=models, page_size=3)
        self.skew_ms = round(skew_s * 1000)
        self.hub.now_ms = self.clocks.wall_ms() + self.skew_ms

    def lane(self, store: Store) -> Lane:
        name = self.hub.name
        intake = Intake(store, name, DocumentCodec(), partial(parse_model, name, texts=False))
        return Lane(self.hub, intake, SETTINGS, Ports(), self.clocks, random.Random(1))

    def pass_time(self, seconds: float) -> None:
        self.clocks.advance(seconds)
        self.hub.now_ms += round(seconds * 1000)

    async def live(self, *, kill_commit: tuple[str, int] | None = None) -> bool:
        """One life of the daemon, until nothing is due; False when it was killed."""
        self.hub.requests.clear()
        if kill_commit is not None:
            failpoints.configure("sync.{}=raise:{}".format(*kill_commit))
        try:
            async with open_store(self.folder / "db", clocks=self.clocks) as store:
                lane = self.lane(store)
                await lane.recall()
                await lane.work()
        except (Killed, failpoints.FailpointReached, BaseExceptionGroup) as death:
            leaves = _leaves(death)
            assert all(isinstance(e, (Killed, failpoints.FailpointReached)) for e in leaves), leaves
            return False
        finally:
            failpoints.configure("")
            self.hub.kill_at = None
        return True

    async def settle(self, days: int = 8) -> None:
        """The faults are over; days go by."""
        self.hub.calm_down()
        self.hub.requests.clear()
        async with open_store(self.folder / "db", clocks=self.clocks) as store:
            lane = self.lane(store)
            await lane.recall()
            for _ in range(days):
                self.pass_time(DAY_S + 60)
                await lane.work()

    async def check(self) -> None:
        async with open_store(self.folder / "db", clocks=self.clocks) as store:
            await store.read(partial(agrees, hub=self.hub))


def agrees(db: Any, hub: ChangingHub) -> None:
    """The catalog against the hub's truth, model by model."""
    codec = DocumentCodec()
    rows = {
        row[0]: row[1:]
        for row in db.execute(
            "SELECT hub_id, model_key, ref_id, hub_state, gone_ms FROM model WHERE hub = ?",
            (hub.name,),
        ).fetchall()
    }
    truth = hub.truth()
    assert truth.keys() <= rows.keys()
    assert rows.keys() <= hub.lives.keys()
    for hub_id, (key, ref_id, state, gone_ms) in rows.items():
        life = hub.lives[hub_id]
        if life.is_gone:
            assert state == "gone", hub_id
            assert gone_ms is not None
            continue
        wanted = {"Archived": "archived", "TakenDown": "taken_down"}
        assert state == wanted.get(hub.modes.get(hub_id, ""), "listed"), hub_id
        assert (ref_id, gone_ms) == (life.ref_id, None)
        document = read_document(db, codec, key)
        assert document is not None
        view = next(view for view in hub.views if view in life.views)
        assert canonical(json.loads(document)) == canonical(hub._as_seen(life, view))
        _columns_agree(db, hub, key, document)
        _files_agree(db, hub, key, life)
        for name, owner in hub.names.items():
            if owner == hub_id:
                assert model_named(db, hub.name, name) in (key, None)


def _columns_agree(db: Any, hub: ChangingHub, key: int, document: bytes) -> None:
    parsed = parse_model(hub.name, document, texts=False)
    ((name, downloads, tags),) = db.execute(
        "SELECT name, downloads, tags FROM model WHERE model_key = ?", (key,)
    ).fetchall()
    assert (name, downloads) == (parsed.name, parsed.downloads)
    assert tuple(msgspec.json.decode(tags)) == parsed.tags


def _files_agree(db: Any, hub: ChangingHub, key: int, life: Any) -> None:
    full = json.dumps(hub.full_document(life) if hub.details_apart else hub._as_seen(life, "x"))
    parsed = parse_model(hub.name, full.encode(), texts=False)
    wanted = {
        (version.hub_id, file.name, file.size_bytes, file.sha256)
        for version in parsed.versions
        for file in version.files
    }
    found = db.execute(
        "SELECT v.hub_id, f.name, f.size_bytes, f.sha256 FROM file f JOIN version v"
        " USING (version_key) WHERE f.model_key = ? AND f.gone_ms IS NULL AND v.gone_ms IS NULL",
        (key,),
    ).fetchall()
    assert set(found) == wanted
    assert len(found) == len(wanted)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]


def change(world: World, word: str, pick: int) -> None:
    """One change of the hub, of the model that ``pick`` names."""
    hub = world.hub
    hub_id = sorted(hub.lives)[pick % len(hub.lives)] if hub.lives else hub.add()
    life = hub.lives[hub_id]
    match word:
        case "add":
            hub.add()
        case "edit" if not life.is_gone:
            hub.edit(hub_id)
        case "publish" if not life.is_gone:
            hub.publish(hub_id)
        case "count":
            hub.count(hub_id)
        case "remove":
            hub.remove(hub_id)
        case "restore" if hub.names[life.ref_id] == hub_id:
            hub.modes.pop(hub_id, None)
            hub.restore(hub_id)
        case "rename" if hub.name == "huggingface" and not life.is_gone:
            hub.rename(hub_id)
        case "take_name" if life.is_gone and hub.names[life.ref_id] == hub_id:
            if hub.name == "huggingface":
                hub.add(name=life.ref_id)
        case "takedown" if hub.name == "civitai" and not life.is_gone:
            hub.set_mode(hub_id, "TakenDown")
        case "archive" if hub.name == "civitai" and not life.is_gone:
            hub.set_mode(hub_id, "Archived")
        case "lose_versions" if hub.name == "civitai":
            hub.versionless.add(hub_id)
        case "find_versions":
            hub.versionless.discard(hub_id)
        case "move" if hub.name == "civitai":
            hub.move(hub_id, [hub.views, hub.views[:1], hub.views[1:]][pick % 3])


CHANGES = (
    "add", "edit", "publish", "count", "remove", "restore", "rename", "take_name", "takedown",
    "archive", "lose_versions", "find_versions", "move",
)  # fmt: skip
JUMPS_S = (-400 * DAY_S, -3_700.0, 3_700.0, 40 * DAY_S)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.sampled_from(CHANGES), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.sampled_from([60.0, 3_600.0, DAY_S, 3 * DAY_S])),
        st.tuples(st.just("live"), st.lists(st.sampled_from(FAULTS), max_size=4)),
        st.tuples(st.just("kill_request"), st.integers(1, 25)),
        st.tuples(
            st.just("kill_commit"),
            st.sampled_from(COMMITS),
            st.sampled_from(["before", "after"]),
            st.integers(1, 6),
        ),
        st.tuples(st.just("jump"), st.sampled_from(JUMPS_S)),
    ),
    max_size=14,
)


async def play(world: World, script: list[tuple[Any, ...]]) -> None:
    for step in script:
        match step:
            case ("change", word, pick):
                change(world, word, pick)
            case ("wait", seconds):
                world.pass_time(seconds)
            case ("live", faults):
                world.hub.faults = list(faults)
                await world.live()
            case ("kill_request", number):
                world.hub.kill_at = number
                await world.live()
            case ("kill_commit", name, when, number):
                await world.live(kill_commit=(f"{name}.{when}_commit", number))
            case ("jump", seconds):
                world.clocks.set_the_clock(seconds)
    await world.settle()
    await world.check()


def prove(manner: Manner, script: list[tuple[Any, ...]], models: int, skew_s: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trio.run(play, World(manner, Path(folder), models=models, skew_s=skew_s), script)


given_scripts = given(
    script=steps,
    models=st.integers(0, 12),
    skew_s=st.sampled_from([0.0, -7_200.0, 7_200.0]),
)
quick = settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
long = settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given_scripts
def test_after_any_script_the_catalog_is_civitais(
    script: list[tuple[Any, ...]], models: int, skew_s: float
) -> None:
    prove("civitai", script, models, skew_s)


@quick
@given_scripts
def test_after_any_script_the_catalog_is_hugging_faces(
    script: list[tuple[Any, ...]], models: int, skew_s: float
) -> None:
    prove("huggingface", script, models, skew_s)


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("manner", ["civitai", "huggingface"])
def test_after_very_many_scripts_too(manner: Manner) -> None:
    @long
    @given_scripts
    def run(script: list[tuple[Any, ...]], models: int, skew_s: float) -> None:
        prove(manner, script, models, skew_s)

    run()

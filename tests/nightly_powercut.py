"""Power cuts on the store: ``python -m tests.nightly_powercut --disks 10000 --seed 1``.

A trial runs jobs (FULL) and catalog pages (NORMAL) mixed through the real store on a logging VFS,
then cuts the power at random points of the log and examines the disks that may be left. One of
those disks is worked on further and cut again, so that recovery too is cut.

After each unit the contents of the tables are digested, so a rebuilt disk must equal the state
after some unit: no half unit, and NORMAL units are lost only from the end. Which unit it is must
be no earlier than the last one acknowledged with FULL.
"""

import argparse
import hashlib
import itertools
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import apsw
import trio

from modelkeepd.store import Durability, Store, StoreError, Tx, open_store
from modelkeepd.store.event_log import last_seq, trim
from modelkeepd.transfer.jobs import NewJob, advance, enqueue
from modelkeepd.transfer.states import Event
from tests.fakes.clocks import FakeClocks
from tests.fakes.powercut_vfs import Disk, Mark, Op, Platters, PowerCutVFS, write_disk

NAME = "modelkeep.db"
UNITS = 20  # a session
CUTS = 100  # a trial
# a checkpoint every few units, not every 4 MB
CHECKPOINT_PAGES = 40

_vfs_names = (f"powercut-{number}" for number in itertools.count())


@dataclass(frozen=True, slots=True)
class Begun:
    unit: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    unit: int
    durability: Durability


@dataclass(frozen=True, slots=True)
class Opened:
    epoch: str


@dataclass
class Knowledge:
    """What the callers of the store knew at the moment of the cut."""

    begun: int = 0
    acknowledged: int = 0
    acknowledged_full: int = 0
    epoch: str | None = None

    def learn(self, fact: object) -> None:
        match fact:
            case Begun(unit):
                self.begun = unit
            case Acknowledged(unit, durability):
                self.acknowledged = unit
                if durability is Durability.FULL:
                    self.acknowledged_full = unit
            case Opened(epoch):
                self.epoch = epoch


@dataclass
class Result:
    """Counts over all disks; ``faults`` says what was wrong with the first few."""

    disks: int = 0
    corrupt: int = 0
    lost: int = 0
    half: int = 0
    epochs_wrong: int = 0
    rolled_back: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.corrupt or self.lost or self.half or self.epochs_wrong)

    def line(self, seed: int) -> str:
        return json.dumps(
            {
                "name": "powercut",
                "seed": seed,
                "disks": self.disks,
                "corrupt": self.corrupt,
                "acknowledged_lost": self.lost,
                "half_units": self.half,
                "epochs_wrong": self.epochs_wrong,
                "normal_rolled_back": self.rolled_back,
                "disks_per_s": round(self.disks / self.seconds) if self.seconds else None,
                "sqlite": apsw.sqlite_lib_version(),
            }
        )


# The workload -----------------------------------------------------------------------------------


class Workload:
    """Numbered units of work on one database; remembers the digest after each."""

    def __init__(self, rng: random.Random) -> None:
        self.digests = {0: NOTHING}
        self.unit = 0
        self._rng = rng

    async def run(self, vfs: PowerCutVFS, path: Path) -> None:
        """Two sessions with a clean stop after each."""
        clocks = FakeClocks()
        epoch_names = (f"e{self._rng.getrandbits(64):x}" for _ in itertools.count())
        for _ in range(2):
            async with open_store(
                path, vfs=vfs.name, clocks=clocks, new_epoch_id=lambda: next(epoch_names)
            ) as store:
                vfs.mark(Opened(store.epoch))
                for _ in range(UNITS):
                    clocks.advance(1)
                    await self._step(store, vfs)

    async def _step(self, store: Store, vfs: PowerCutVFS) -> None:
        self.unit += 1
        durability, body = self._rng.choice(
            [
                (Durability.FULL, self._enqueue),
                (Durability.FULL, self._advance),
                (Durability.NORMAL, self._page),
                (Durability.NORMAL, self._page),
                (Durability.NORMAL, self._trim),
            ]
        )
        vfs.mark(Begun(self.unit))

        def unit(tx: Tx) -> None:
            tx.db.wal_autocheckpoint(CHECKPOINT_PAGES)
            body(tx)
            tx.emit("metrics", "trial.unit", f"unit:{self.unit}", {})
            self.digests[self.unit] = digest(tx.db)

        apply = partial(store.apply, unit, durability=durability, name="trial.unit")
        if self._rng.random() < 0.3:
            await _while_a_reader_looks(store, apply)
        else:
            await apply()
        vfs.mark(Acknowledged(self.unit, durability))

    def _enqueue(self, tx: Tx) -> None:
        jobs = [
            NewJob("civitai", f"civitai:{self.unit}@1#{n}", f"file {n}.safetensors", "/r", "loras")
            for n in range(self._rng.randint(1, 8))
        ]
        enqueue(tx, jobs, [f"part-{self.unit}-{n}" for n in range(len(jobs))])

    def _advance(self, tx: Tx) -> None:
        queued = tx.db.execute("SELECT job_id FROM job WHERE state = 'queued' LIMIT 5").fetchall()
        for (job_id,) in queued:
            advance(tx, int(str(job_id)), self._rng.choice((Event.START, Event.CANCEL)))

    def _page(self, tx: Tx) -> None:
        rng = self._rng
        seq = tx.emit("sync", "page", "civitai", {"hub": "civitai", "count": 5})
        for hub_id in rng.sample(range(60), 5):
            raw = rng.randbytes(rng.choice((200, 2_000, 9_000)))
            key = tx.db.execute(
                "INSERT INTO model (hub, hub_id, ref_id, name, type, base_models, tags,"
                " hub_state, first_seen_ms, seen_ms, changed_seq, doc_hash)"
                " VALUES ('civitai', ?1, ?1, ?2, 'LORA', '[]', '[]', 'listed', ?3, ?3, ?4, ?5)"
                " ON CONFLICT (hub, hub_id) DO UPDATE SET name = excluded.name,"
                " seen_ms = excluded.seen_ms, changed_seq = excluded.changed_seq,"
                " doc_hash = excluded.doc_hash RETURNING model_key",
                (str(hub_id), raw[:9].hex(), tx.now_ms, seq, raw[:32]),
            ).get
            tx.db.execute("INSERT OR REPLACE INTO document VALUES (?, NULL, ?, ?)", (key, raw, seq))

    def _trim(self, tx: Tx) -> None:
        trim(tx, keep_rows=60)


TABLES = ("job", "model", "event_log", "sqlite_sequence")


NOTHING = hashlib.sha256(b"[]" * len(TABLES)).digest()


def digest(db: apsw.Connection) -> bytes:
    """Of everything the units write."""
    hashed = hashlib.sha256()
    for table in TABLES:
        hashed.update(repr(db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()).encode())
    for key, raw in db.execute("SELECT model_key, raw FROM document ORDER BY 1"):
        hashed.update(b"%d " % key + raw)
    return hashed.digest()


async def _while_a_reader_looks(store: Store, act: Callable[[], Awaitable[None]]) -> None:
    """A reader holds an old snapshot meanwhile, so that no checkpoint can finish."""
    looking, done = threading.Event(), threading.Event()

    def query(db: apsw.Connection) -> None:
        digest(db)
        looking.set()
        done.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.read, query)
        await trio.to_thread.run_sync(looking.wait)
        try:
            await act()
        finally:
            done.set()


# The examination --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What a rebuilt disk holds."""

    unit: int
    epochs: list[str]
    clean: bool
    digest: bytes


def read_disk(path: Path) -> Found:
    """Open it as any SQLite program would. Raises apsw.Error."""
    db = apsw.Connection(str(path))
    try:
        db.pragma("synchronous", "OFF")  # this disk is thrown away
        verdict = db.pragma("integrity_check")
        if verdict != "ok":
            raise apsw.CorruptError(str(verdict))
        if not db.pragma("user_version"):  # cut before there was a schema
            return Found(0, [], False, NOTHING)
        subject = db.execute(
            "SELECT subject FROM event_log WHERE kind = 'trial.unit' ORDER BY seq DESC LIMIT 1"
        ).get
        return Found(
            unit=0 if subject is None else int(str(subject).removeprefix("unit:")),
            epochs=[str(name) for (name,) in db.execute("SELECT name FROM epoch").fetchall()],
            clean=bool(db.execute("SELECT value FROM meta WHERE key = 'clean_stop'").get),
            digest=digest(db),
        )
    finally:
        db.close()


def judge(
    path: Path, knowledge: Knowledge, digests: dict[int, bytes], result: Result
) -> Found | None:
    """Hold the database at ``path`` against what was promised; None when it broke a promise."""
    result.disks += 1
    try:
        found = read_disk(path)
    except apsw.Error as exc:
        result.corrupt += 1
        result.faults.append(f"{type(exc).__name__}: {exc}")
        return None
    fault = f"last unit {found.unit}, epochs {found.epochs}, clean {found.clean}; {knowledge}"
    # a clean-stop mark promises the NORMAL ones too
    promised = knowledge.acknowledged if found.clean else knowledge.acknowledged_full
    if found.unit < promised:
        result.lost += 1
    elif found.unit > knowledge.begun or found.digest != digests[found.unit]:
        result.half += 1
    elif knowledge.epoch is not None and knowledge.epoch not in found.epochs:
        result.epochs_wrong += 1
    else:
        result.rolled_back += found.unit < knowledge.acknowledged
        return found
    result.faults.append(fault)
    return None


async def start_again(path: Path, found: Found, result: Result) -> None:
    """The daemon's own start on such a disk: a new epoch, unless the stop was clean."""
    try:
        async with open_store(path) as store:
            newest = await store.read(last_seq)
    except StoreError as exc:
        result.corrupt += 1
        result.faults.append(f"does not start: {exc}")
        return
    continued = store.epoch in found.epochs
    if continued != found.clean or (not continued and store.epoch_start_seq != newest):
        result.epochs_wrong += 1
        result.faults.append(f"started as {store.epoch} after {store.epoch_start_seq}: {found}")


# The trial --------------------------------------------------------------------------------------

Alteration = Callable[[Op], Op | None]


def unaltered(op: Op) -> Op | None:
    return op


def run_trial(
    seed: int, result: Result, folder: Path, cuts: int, alter: Alteration = unaltered
) -> None:
    """A workload, half of the cuts, more work on one of the disks left, the other half.

    ``alter`` changes the log before it is played back: the proof that faults would be found.
    """
    rng = random.Random(seed)
    started = time.perf_counter()
    workload = Workload(rng)
    disk: Disk = {}
    for number in (cuts - cuts // 2, cuts // 2):
        live = _empty(folder / "live")
        write_disk(disk, live)
        base = workload.unit
        vfs = PowerCutVFS(next(_vfs_names), live)
        try:
            trio.run(workload.run, vfs, live / NAME)
        except StoreError as exc:
            result.corrupt += 1
            result.faults.append(f"can't be worked on: {exc}")
            break
        finally:
            vfs.unregister()
        good = _cut(vfs, base, number, workload.digests, rng, result, folder, alter)
        if good is None:
            break
        disk, workload.unit = good
    result.seconds += time.perf_counter() - started


def _cut(
    vfs: PowerCutVFS,
    base: int,
    number: int,
    digests: dict[int, bytes],
    rng: random.Random,
    result: Result,
    folder: Path,
    alter: Alteration,
) -> tuple[Disk, int] | None:
    """Examine ``number`` disks; one of the good ones with its last unit."""
    cuts = sorted(rng.choices(range(vfs.first_cut, len(vfs.log) + 1), k=number))
    platters, knowledge, played = Platters(), Knowledge(base, base, base), 0
    chosen = None
    for cut in cuts:
        for original in vfs.log[played:cut]:
            op = alter(original)
            if isinstance(op, Mark):
                knowledge.learn(op.fact)
            elif op is not None:
                platters.play(op)
        played = cut
        disk = platters.after_power_cut(rng)
        path = _empty(folder / "rebuilt") / NAME
        write_disk(disk, path.parent)
        found = judge(path, knowledge, digests, result)
        if found is None:
            continue
        if rng.random() < 1 / 25:
            trio.run(start_again, path, found, result)
        if chosen is None or rng.random() < 0.3:
            chosen = disk, found.unit
    return chosen


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def run_campaign(disks: int, seed: int, folder: Path, alter: Alteration = unaltered) -> Result:
    """Trials with consecutive seeds until so many disks have been examined."""
    result = Result()
    for number in itertools.count():
        left = disks - result.disks
        if left <= 0:
            return result
        run_trial(seed * 1_000_003 + number, result, folder, min(CUTS, left), alter)
    raise AssertionError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line of JSON; 0 when every promise was kept on every disk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--disks", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="powercut-") as folder:
        result = run_campaign(options.disks, options.seed, Path(folder))
    for fault in result.faults[:20]:
        print(fault, file=sys.stderr)
    print(result.line(options.seed))
    return 0 if result.is_good else 1


if __name__ == "__main__":
    sys.exit(main())

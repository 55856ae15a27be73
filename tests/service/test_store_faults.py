"""The disk says no: every single call may fail, the disk may be full, the folder read-only."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import apsw
import pytest

from modelkeepd.store import Durability, StoreError, StoreFull, Tx, open_store
from tests.fakes.powercut_vfs import PowerCutVFS

ROOT = Path(__file__).parents[2]

FAILURES = [
    (apsw.IOError, StoreError),
    (apsw.FullError, StoreFull),
    (apsw.ReadOnlyError, StoreError),
]


class FailNth:
    """Lets the N-th call of the disk fail, once."""

    def __init__(self, error: type[apsw.Error]) -> None:
        self.error = error
        self.left = 0

    @property
    def has_failed(self) -> bool:
        return self.left <= 0

    def __call__(self, method: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error(f"injected into {method}")


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[PowerCutVFS]:
    vfs = PowerCutVFS("failing", tmp_path)
    yield vfs
    vfs.unregister()


def put(tx: Tx, unit: int) -> None:
    # a checkpoint's failure is no commit's; an exception of a Python VFS would look like one
    tx.db.wal_autocheckpoint(0)
    rows = [(f"{unit}.{n}", bytes(2_000)) for n in range(8)]
    tx.db.executemany("INSERT INTO meta VALUES (?, ?)", rows)
    tx.emit("node", "put", str(unit), {})


def units(db: apsw.Connection) -> list[int]:
    """The units that are there, none of them in part."""
    rows = db.execute(
        "SELECT CAST(key AS INTEGER), count(*) FROM meta WHERE key GLOB '*.*' GROUP BY 1"
    ).fetchall()
    assert all(count == 8 for _, count in rows)
    subjects = db.execute("SELECT subject FROM event_log ORDER BY seq").fetchall()
    assert [int(str(subject)) for (subject,) in subjects] == [unit for unit, _ in rows]
    return [int(str(unit)) for unit, _ in rows]


@pytest.mark.parametrize(("raised", "expected"), FAILURES)
@pytest.mark.parametrize("durability", list(Durability))
async def test_any_call_of_a_unit_may_fail_and_the_next_unit_works(
    tmp_path: Path,
    failing: PowerCutVFS,
    raised: type[apsw.Error],
    expected: type[StoreError],
    durability: Durability,
) -> None:
    there, errors = list[int](), set[tuple[type[StoreError], bool]]()
    fault = FailNth(raised)
    async with open_store(tmp_path / "m.db", vfs=failing.name) as store:
        for nth in range(1, 10_000):
            fault.left = nth
            failing.before_call = fault
            try:
                await store.apply(partial(put, unit=nth), durability=durability, name="test.put")
            except StoreError as exc:
                errors.add((type(exc), "(test.put" in str(exc)))
            else:
                there.append(nth)
            exhausted = not fault.has_failed
            failing.before_call = None
            assert await store.read(units) == there
            assert store.feed.last_seq == len(there)
            if exhausted:
                break
        assert nth > 20
        assert errors == {(expected, True)}
        await store.apply(partial(put, unit=nth + 1), durability=durability, name="test.put")
    async with open_store(tmp_path / "m.db") as store:
        assert await store.read(units) == [*there, nth + 1]
        assert await store.read(lambda db: db.pragma("integrity_check")) == "ok"


@pytest.mark.parametrize(("raised", "expected"), FAILURES)
async def test_any_call_of_a_start_may_fail_and_the_next_start_works(
    tmp_path: Path, failing: PowerCutVFS, raised: type[apsw.Error], expected: type[StoreError]
) -> None:
    fault = FailNth(raised)
    failing.before_call = fault
    errors = set[type[StoreError]]()
    for nth in range(1, 10_000):
        fault.left = nth
        try:
            async with open_store(tmp_path / "m.db", vfs=failing.name):
                exhausted = not fault.has_failed
                fault.left = 0
        except StoreError as exc:
            errors.add(type(exc))
        else:
            if exhausted:
                break
    assert nth > 20
    assert errors == {expected}
    failing.before_call = None
    async with open_store(tmp_path / "m.db", vfs=failing.name) as store:
        await store.apply(partial(put, unit=1), durability=Durability.FULL, name="test.put")
        assert await store.read(lambda db: db.pragma("integrity_check")) == "ok"


async def test_a_query_that_meets_a_bad_sector_fails_and_the_next_one_works(
    tmp_path: Path,
) -> None:
    async with open_store(tmp_path / "m.db") as store:
        await store.apply(partial(put, unit=1), durability=Durability.FULL, name="test.put")
    vfs = PowerCutVFS("bad-sector", tmp_path)
    fault = FailNth(apsw.IOError)
    async with open_store(tmp_path / "m.db", vfs=vfs.name) as store:
        vfs.before_read = fault
        for _ in range(4):  # every reader
            fault.left = 1
            with pytest.raises(StoreError, match=r"failed \(reading.*disk"):
                await store.read(lambda db: db.execute("SELECT * FROM model").fetchall())
        vfs.before_read = None
        for _ in range(4):
            assert await store.read(units) == [1]
    vfs.unregister()


# The real thing, in child processes -------------------------------------------------------------


def run_child(command: list[str]) -> dict[str, object]:
    """Run a child of this test and return what it reports."""
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return report


def test_on_a_really_full_disk_units_fail_cleanly_and_work_again_with_room(
    tmp_path: Path,
) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux)")
    mount = f"mount -t tmpfs -o size=16m tmpfs {tmp_path}"
    namespace = ["unshare", "-Urm", "sh", "-c"]
    if subprocess.run([*namespace, mount], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces that may mount a tmpfs")
    child = f"exec {sys.executable} -m tests.process.store_child full {tmp_path}"
    report = run_child([*namespace, f"{mount} && {child}"])
    assert report == {
        "start_on_full_disk": "StoreFull",
        "start_with_room": "opened",
        "unit_on_full_disk": "StoreFull",
        "all_acknowledged_there": True,
        "read_on_full_disk": True,
        "unit_with_room": True,
        "migration_on_full_disk": "StoreFull",
        "left_by_it": ["m.db"],
        "migration_with_room": True,
        "integrity": "ok",
    }


def bound_by_permissions() -> list[str]:
    """A command that runs another as a user whom permission bits bind, root or not."""
    if os.geteuid():
        return []
    # in a user namespace that knows no other user, root's privileges reach no file
    prefix = ["unshare", "-U"]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux), or not to be root")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces, or not to be root")
    return prefix


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("new database in a read-only folder", "may not write in the folder"),
        ("read-only folder", "may not write in the folder"),
        ("read-only file", "may not read and write the file"),
    ],
)
def test_what_may_not_be_written_is_said_clearly(tmp_path: Path, what: str, text: str) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    path = folder / "m.db"
    command = [
        *bound_by_permissions(),
        *(sys.executable, "-m", "tests.process.store_child", "open", str(path)),
    ]
    if not what.startswith("new"):
        assert run_child(command) == {"opened": True}
    (path if what.endswith("file") else folder).chmod(0o555)
    report = run_child(command)
    folder.chmod(0o755)
    assert report["error"] == "StoreError"
    assert text in str(report["text"])
    assert str(path) in str(report["text"])

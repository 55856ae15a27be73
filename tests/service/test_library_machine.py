"""Random file operations against a model of the disk: identity is kept, nothing is read twice.

The machine drives the parts that decide (walk, merge, clerk, units) without the watcher, with a
look at the disk after random runs of operations: what the rows say must then be what the disk
holds, and a file that only moved must be the row that it was.
"""

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.clocks import Clocks
from modelkeepd.library.clerk import Clerk, identity_of
from modelkeepd.library.fingerprint import read_hashes
from modelkeepd.library.hashing import keep_results, next_tasks, read_task
from modelkeepd.library.reconcile import reconcile
from modelkeepd.library.roots import add_root, read_roots, root_online
from modelkeepd.store import Durability, Store, open_store

NAMES = st.sampled_from([f"{folder}{name}.ckpt" for folder in ("", "a/", "b/") for name in "xyz"])
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), NAMES, st.integers(0, 3)),
    st.tuples(st.just("move"), NAMES, NAMES),
    st.tuples(st.just("swap"), NAMES, NAMES),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("link"), NAMES, NAMES),
    st.tuples(st.just("move folder"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("look")),
)


@dataclass
class World:
    """What the test believes: which file (by a number of its own) lies where, with what in it."""

    root: Path
    writes: int = 0
    """Each written content gets a time of its own, so that a reused inode is told apart."""
    rows: dict[int, int] = field(default_factory=dict)
    """Row to its file's time, as of the last look."""

    def files(self) -> dict[str, Path]:
        return {str(path): path for path in self.root.rglob("*.ckpt")}


def operate(world: World, operation: tuple[object, ...]) -> None:
    paths = [world.root / str(each) for each in operation[1:]]
    match operation:
        case ("write", _, number):
            paths[0].parent.mkdir(exist_ok=True)
            paths[0].unlink(missing_ok=True)
            paths[0].write_bytes(bytes([int(str(number))]) * 100)
            world.writes += 1
            os.utime(paths[0], (world.writes, world.writes))
        case ("move", _, _) if paths[0].exists() and paths[0] != paths[1]:
            paths[1].parent.mkdir(exist_ok=True)
            paths[0].rename(paths[1])
        case ("swap", _, _) if all(path.exists() for path in paths) and paths[0] != paths[1]:
            aside = world.root / "aside"
            paths[0].rename(aside)
            paths[1].rename(paths[0])
            aside.rename(paths[1])
        case ("delete", _):
            paths[0].unlink(missing_ok=True)
        case ("link", _, _) if paths[0].exists() and not paths[1].exists():
            paths[1].parent.mkdir(exist_ok=True)
            paths[1].hardlink_to(paths[0])
        case ("move folder", name) if paths[0].is_dir():
            paths[0].rename(world.root / "c")
            (world.root / "c").rename(world.root / ("b" if name == "a" else "a")) if not (
                world.root / ("b" if name == "a" else "a")
            ).exists() else (world.root / "c").rename(paths[0])


async def look(store: Store, clerk: Clerk, world: World, disk: trio.CapacityLimiter) -> None:
    (root,) = await store.read(read_roots)
    known = set(world.rows.values())
    await reconcile(store, clerk, root, disk=disk)
    tasks = await store.read(partial(next_tasks, now_ms=1 << 50))
    results = [await trio.to_thread.run_sync(read_task, task, lambda: None) for task in tasks]
    await store.apply(
        partial(keep_results, results=results), durability=Durability.NORMAL, name="test.keep"
    )
    rows = await store.read(
        lambda db: db.execute(
            "SELECT path, sha256, mtime_ns, file_id FROM library_file WHERE state = 'present'"
        ).fetchall()
    )
    files = world.files()
    assert {row[0] for row in rows} == files.keys()
    for path, sha256, mtime_ns, _ in rows:
        assert mtime_ns == files[path].stat().st_mtime_ns
        assert sha256 == read_hashes(path).sha256
    # A file seen before, under whatever name, was not read again and kept its row.
    read = [files[task.path].stat() for task in tasks]
    assert not [status for status in read if status.st_mtime_ns in known and status.st_nlink == 1]
    alone = {row[2]: row[3] for row in rows if files[row[0]].stat().st_nlink == 1}
    for file_id, mtime_ns in world.rows.items():
        assert alone.get(mtime_ns, file_id) == file_id
    world.rows = {file_id: mtime_ns for mtime_ns, file_id in alone.items()}


@settings(max_examples=25, deadline=None)
@given(st.lists(OPERATIONS, min_size=1, max_size=25))
def test_rows_follow_the_disk_through_any_operations(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[object, ...]]
) -> None:
    home = tmp_path_factory.mktemp("machine")
    world = World(home / "root")
    world.root.mkdir()

    async def main() -> None:
        async with open_store(home / "state.db", clocks=Clocks()) as store:
            clerk, disk = Clerk(store), trio.CapacityLimiter(1)
            text = str(world.root)
            device, inode = identity_of(text) or (0, 0)
            for unit in (
                partial(add_root, path=text, layout="flat", origin="user"),
                partial(root_online, root_id=1, device=device, inode=inode),
            ):
                await store.apply(unit, durability=Durability.NORMAL, name="test.root")
            for operation in [*operations, ("look",)]:
                if operation[0] == "look":
                    await look(store, clerk, world, disk)
                else:
                    operate(world, operation)

    trio.run(main)

"""kill -9 in the midst of exports and imports: a file is whole or not there, an import goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelkeepd.snapshot.container import Reader
from modelkeepd.snapshot.keys import own_key
from tests.fakes.catalogs import open_home

ROOT = Path(__file__).parents[2]


def child(*arguments: object, failpoints: str = "") -> int:
    """Run one child to its end, however it comes; its return code."""
    return subprocess.run(
        [sys.executable, "-m", "tests.process.snapshot_child", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "MODELKEEP_FAILPOINTS": failpoints},
        timeout=60,
        check=False,
        stdout=subprocess.DEVNULL,
    ).returncode


async def content(folder: Path) -> dict[str, Any]:
    async with open_home(folder) as home:
        return await home.content()


@pytest.mark.parametrize(
    "point",
    ["snapshot.after_export_block=kill:3", "snapshot.before_rename=kill",
     "snapshot.after_rename=kill"],
)  # fmt: skip
def test_a_killed_export_leaves_a_whole_file_or_none(tmp_path: Path, point: str) -> None:
    home, file = tmp_path / "alice", tmp_path / "out" / "c.mks"
    file.parent.mkdir()
    assert child("fill", home) == 0
    assert child("export", home, file, failpoints=point) == -signal.SIGKILL
    is_there = file.exists()
    assert is_there == (point == "snapshot.after_rename=kill")
    if is_there:
        with Reader(file) as reader:
            for number in range(len(reader.blocks)):
                reader.block(number)
    # and nothing is in the way of the next
    assert child("export", home, file) == 0
    assert [path.name for path in file.parent.iterdir()] == ["c.mks"]


async def test_an_import_killed_again_and_again_ends_in_the_whole_catalog(tmp_path: Path) -> None:
    alice, bob, file = tmp_path / "alice", tmp_path / "bob", tmp_path / "c.mks"
    assert child("fill", alice) == 0
    assert child("export", alice, file) == 0
    key = own_key(alice).public.hex()
    points = [
        "snapshot.begin.before_commit=kill", "snapshot.block.before_commit=kill:2",
        "snapshot.block.after_commit=kill:2", "snapshot.after_import_block=kill:1",
        "snapshot.block.after_commit=kill:1", "snapshot.block.before_commit=kill:1",
    ]  # fmt: skip
    for point in points:
        assert child("import", bob, file, key, failpoints=point) == -signal.SIGKILL, point
    assert child("import", bob, file, key) == 0
    assert await content(bob) == await content(alice)
    assert child("import", bob, file, key) == 0
    assert await content(bob) == await content(alice)

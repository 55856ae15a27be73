"""kill -9 on a real process with the store open: nothing acknowledged is lost, nothing is half."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
import trio

from modelkeepd.store import open_store
from tests.process.store_child import LATEST, MIGRATIONS, PARTS

ROOT = Path(__file__).parents[2]
SEED = 20260302


class Zygote:
    """A process that has everything loaded and forks one to be killed for each request."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.process.store_child", "zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, **request: object) -> int:
        """Begin one; its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        word, pid = self.line()
        assert word == "pid"
        return int(pid)

    def line(self) -> tuple[str, str]:
        """The next thing it says, first word and the rest; "end" is the last of a request."""
        assert self._process.stdout is not None
        word, _, rest = self._process.stdout.readline().strip().partition(" ")
        return word, rest

    def rest(self) -> list[tuple[str, str]]:
        """All it says to its end."""
        lines = [self.line()]
        while lines[-1][0] != "end":
            lines.append(self.line())
        return lines

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()


def units(path: Path) -> set[int]:
    """The units on the disk, found whole by a plain SQLite."""
    db = apsw.Connection(str(path))
    try:
        assert db.pragma("integrity_check") == "ok"
        if not db.pragma("user_version"):
            return set()
        rows = db.execute("SELECT subject, count(*) FROM event_log GROUP BY subject").fetchall()
        assert all(count == PARTS for _, count in rows)
        numbers = [seq for (seq,) in db.execute("SELECT seq FROM event_log ORDER BY seq")]
        assert numbers == list(range(1, len(numbers) + 1))
        return {int(str(subject)) for subject, _ in rows}
    finally:
        db.close()


@pytest.mark.parametrize("rounds", [50, pytest.param(500, marks=pytest.mark.nightly)])
def test_killed_at_random_instants_every_acknowledged_unit_is_there(
    tmp_path: Path, zygote: Zygote, rounds: int
) -> None:
    rng, path = random.Random(SEED), tmp_path / "m.db"
    acknowledged, epochs, first = set[int](), list[str](), 1
    for _ in range(rounds):
        pid = zygote.start(do="stream", path=str(path), first=first)
        lines = []
        # some are killed while they open the store; the others somewhere in a later unit
        for _ in range(rng.choice((0, 0, 1, 2, 5, 20))):
            lines.append(zygote.line())
        for _ in range(rng.randrange(200_000)):
            pass  # lets the instant of the kill drift through a unit's own time
        os.kill(pid, signal.SIGKILL)
        lines += zygote.rest()
        assert lines[-1] == ("end", f"-{signal.SIGKILL.value}")
        acknowledged |= {int(number) for word, number in lines if word == "ack"}
        epochs += [name for word, name in lines if word == "epoch"]
        there = units(path)
        assert acknowledged <= there
        # at most the one whose acknowledgment was not written any more
        assert len(there - acknowledged) <= 1
        assert there == set(range(1, len(there) + 1))
        first = len(there) + 1
        acknowledged = there
    assert len(set(epochs)) == len(epochs) > rounds // 3
    assert len(acknowledged) > rounds


POINTS = [
    ("store.before_backup_rename", LATEST, False),
    ("store.after_backup_rename", LATEST, True),
    ("store.after_backup_folder_sync", LATEST, True),
    ("store.before_migration", LATEST, True),
    ("store.before_migration_commit", LATEST, True),
    ("store.after_migration_commit", LATEST + 1, True),
    ("store.before_epoch_commit", LATEST + 1, True),
    ("store.after_epoch_commit", LATEST + 1, True),
    ("store.before_clean_stop", LATEST + 1, True),
    ("store.after_clean_stop", LATEST + 1, True),
]


def test_killed_at_each_step_of_a_migration_it_is_wholly_done_or_not_at_all(
    tmp_path: Path, zygote: Zygote
) -> None:
    for name, version, has_backup in POINTS:
        folder = tmp_path / name
        folder.mkdir()
        path = folder / "m.db"
        trio.run(_make, path)
        zygote.start(do="migrate", path=str(path), failpoints=f"{name}=kill")
        assert zygote.rest()[-1] == ("end", f"-{signal.SIGKILL.value}"), name

        found = _read(path)
        assert found == (version, 20), name
        backup = folder / f"m.db.v{LATEST}.backup"
        assert backup.exists() == has_backup, name
        # the next start finishes it
        zygote.start(do="migrate", path=str(path))
        assert zygote.rest() == [("migrated", ""), ("end", "0")], name
        assert _read(path) == (LATEST + 1, 20), name
        assert _read(backup) == (LATEST, 20), name
        assert sorted(entry.name for entry in folder.iterdir()) == ["m.db", backup.name], name


async def _make(path: Path) -> None:
    async with open_store(path, migrations=MIGRATIONS[:-1]):
        pass
    db = apsw.Connection(str(path))
    db.executemany("INSERT INTO meta VALUES (?, 'x')", [(f"k{n}",) for n in range(20)])
    db.close()


def _read(path: Path) -> tuple[int, int]:
    """The schema's number and how many of the twenty rows are where it has them."""
    db = apsw.Connection(str(path))
    try:
        assert db.pragma("integrity_check") == "ok"
        version = int(db.pragma("user_version"))
        table = "note" if version > LATEST else "meta"
        rows = db.execute(f"SELECT count(*) FROM {table} WHERE key LIKE 'k%'").get
        return version, int(str(rows))
    finally:
        db.close()

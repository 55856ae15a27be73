"""Power cuts: 500 rebuilt disks, and the proof that the harness would see what it looks for."""

import random
from pathlib import Path

from modelkeepd.store import Durability
from tests.fakes.powercut_vfs import Disk, Link, Mark, Op, Platters, Sync, Truncate, Unlink, Write
from tests.nightly_powercut import Acknowledged, Result, run_campaign

SEED = 20260301


def judged(result: Result) -> tuple[int, int, int, int]:
    return result.corrupt, result.lost, result.half, result.epochs_wrong


def test_no_disk_is_corrupt_and_no_acknowledged_job_is_lost(tmp_path: Path) -> None:
    result = run_campaign(500, SEED, tmp_path)
    assert judged(result) == (0, 0, 0, 0), result.faults
    assert result.disks == 500
    # the cuts were real: pages of the mirror, which are not synced, did go back
    assert result.rolled_back > 50


def test_a_disk_that_ignores_syncs_would_be_noticed(tmp_path: Path) -> None:
    def unsynced(op: Op) -> Op | None:
        return None if isinstance(op, Sync) else op

    result = run_campaign(60, SEED, tmp_path, unsynced)
    assert result.corrupt > 5
    assert result.lost > 5


def test_a_job_committed_with_normal_would_be_noticed(tmp_path: Path) -> None:
    def believed(op: Op) -> Op | None:
        match op:
            case Mark(Acknowledged(unit, _)):
                return Mark(Acknowledged(unit, Durability.FULL))
        return op

    result = run_campaign(60, SEED, tmp_path, believed)
    assert result.lost > 5
    assert result.corrupt == 0


class TestPlatters:
    """The rules by which disks are rebuilt, on logs small enough to read."""

    def cut(self, log: list[Op], seed: int) -> Disk:
        platters = Platters()
        for op in log:
            platters.play(op)
        return platters.after_power_cut(random.Random(seed))

    def disks(self, log: list[Op]) -> list[Disk]:
        return [self.cut(log, seed) for seed in range(300)]

    def test_what_was_synced_is_always_there(self) -> None:
        log: list[Op] = [Link("a", 0), Write(0, 0, b"x" * 700), Sync(0, folder=True)]
        assert all(disk == {"a": b"x" * 700} for disk in self.disks(log))

    def test_what_was_not_may_be_there_or_missing_or_torn_at_a_sector(self) -> None:
        log: list[Op] = [
            Link("a", 0),
            Write(0, 0, b"-" * 1536),
            Sync(0, folder=True),
            Write(0, 256, b"x" * 1024),
        ]
        seen = {disk["a"] for disk in self.disks(log)}
        assert {b"-" * 1536, b"-" * 256 + b"x" * 1024 + b"-" * 256} <= seen
        assert b"-" * 256 + b"x" * 256 + b"-" * 1024 in seen
        for content in seen:  # around the write nothing ever changes
            assert content[:256] + content[1280:] == b"-" * 512

    def test_a_sync_of_one_file_says_nothing_of_another(self) -> None:
        log: list[Op] = [
            *(Link("a", 0), Sync(0, folder=True), Link("b", 1), Sync(1, folder=True)),
            *(Write(0, 0, b"x"), Write(1, 0, b"y"), Sync(1, folder=False)),
        ]
        disks = self.disks(log)
        assert {disk["b"] for disk in disks} == {b"y"}
        assert {disk["a"] for disk in disks} >= {b"", b"x"}

    def test_a_deleted_file_may_come_back_until_its_folder_is_synced(self) -> None:
        log: list[Op] = [Link("a", 0), Write(0, 0, b"x"), Sync(0, folder=True)]
        deleted = self.disks([*log, Unlink("a", synced=False)])
        assert {len(disk) for disk in deleted} == {0, 1}
        assert self.disks([*log, Unlink("a", synced=True)]) == [{}] * 300

    def test_a_killed_process_loses_nothing_it_has_written(self) -> None:
        platters = Platters()
        for op in [Link("a", 0), Write(0, 0, b"abc"), Truncate(0, 2), Write(0, 4, b"z")]:
            platters.play(op)
        assert platters.after_kill() == {"a": b"ab\0\0z"}

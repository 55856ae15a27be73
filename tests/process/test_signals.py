"""Signals at any instant: a clean and quick end, whatever is in flight; readiness told truly."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from modelkeep.connect import Connection
from modelkeepd import exit_codes
from tests.process.living import HubProcess, LivingDaemon, hub_process, living_daemon

# twenty are the promise; a run of the suite does a part
ROUNDS = int(os.environ.get("SIGNAL_ROUNDS", "4"))
SEED = int(os.environ.get("SIGNAL_SEED", "1"))
NO_HUB = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _rows(daemon: LivingDaemon, sql: str) -> list[Any]:
    db = apsw.Connection(daemon.paths.database, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def _queue_downloads(daemon: LivingDaemon) -> list[int]:
    rows = _rows(
        daemon,
        "SELECT m.hub_id FROM model m JOIN file f USING (model_key) JOIN version v USING"
        " (version_key) WHERE f.name LIKE '%.safetensors' AND v.availability = 'Public'"
        " GROUP BY f.sha256 LIMIT 60",
    )
    answer = daemon.call("transfer.get", refs=[f"civitai:{hub_id}" for (hub_id,) in rows])
    return [job["id"] for job in answer["jobs"] if job["id"]]


def _in_flight(daemon: LivingDaemon) -> str:
    status = daemon.call("daemon.status")
    syncs = any(hub["sync"]["state"] == "running" for hub in status["hubs"])
    hashes = status["library"]["unhashed"] > 0
    return f"{syncs:d}{status['queue']['active'] > 0:d}{hashes:d}"


def _catalog_is_the_hubs(daemon: LivingDaemon, hub: HubProcess) -> None:
    found = Counter(row[0] for row in _rows(daemon, "SELECT hub_id FROM model"))
    assert found == Counter(set(hub.control("truth?digests=0")))
    assert _rows(daemon, "PRAGMA integrity_check") == [("ok",)]


def test_signals_at_random_instants_end_it_cleanly_and_a_restart_goes_on(home: Path) -> None:
    """Sync, downloads and hashing are in flight. A stop that takes too long is exit code 81."""
    chance = random.Random(SEED)
    with (
        hub_process("--models", "1200", "--seed", "31") as hub,
        living_daemon(home, hub.url) as daemon,
    ):
        daemon.call("daemon.ping")
        daemon.until(lambda: len(_rows(daemon, "SELECT 1 FROM model")) > 200, "first pages")
        # slow enough that they last as long as the stopping
        slow = {"match": {"path": "/api/v1/models", "times": 0}, "do": {"stall": {"seconds": 0.2}}}
        hub.control(
            "faults", [slow, {"match": {"storage": True, "times": 0}, "do": {"slow": 2000}}]
        )
        jobs = _queue_downloads(daemon)
        assert len(jobs) > 20
        for number in range(4):
            with (daemon.models / f"large{number}.safetensors").open("wb") as file:
                file.truncate(200 << 30)  # zeros that are nowhere: minutes to hash
        daemon.call("library.scan")
        kinds = Counter[str]()
        for number in range(ROUNDS):
            is_up = chance.random() < 0.8
            if is_up:
                kinds[_in_flight(daemon)] += 1
            time.sleep(chance.uniform(0, 0.3))
            asked = signal.SIGTERM if number % 2 else signal.SIGINT
            code = daemon.stop(asked)
            # before it listens, a signal does what it does to any process
            assert code == exit_codes.CLEAN or (not is_up and code == -asked), daemon.log_tail()
            daemon.start()
        assert any(kind[1:] == "11" for kind in kinds), kinds
        for path in daemon.models.glob("large*"):
            path.unlink()
        hub.control("faults", [])
        daemon.synced(120)
        _catalog_is_the_hubs(daemon, hub)

        def over() -> list[dict[str, Any]] | None:
            found = daemon.call("transfer.list", ids=jobs)["jobs"]
            ended = [job for job in found if job["state"] in ("done", "failed", "quarantined")]
            return found if len(ended) == len(found) else None

        states = Counter(job["state"] for job in daemon.until(over, "the jobs end", 120))
        assert states["done"] > len(jobs) * 0.7, states
        assert "Traceback" not in daemon.log.read_text()
        assert daemon.stop() == exit_codes.CLEAN


def test_a_signal_while_it_is_starting_ends_it(home: Path) -> None:
    chance = random.Random(SEED)
    with living_daemon(home, NO_HUB) as daemon:
        daemon.call("daemon.ping")
        for _ in range(3):
            assert daemon.stop() in (exit_codes.CLEAN, -signal.SIGTERM), daemon.log_tail()
            daemon.start()
            time.sleep(chance.uniform(0.2, 0.8))
        assert daemon.stop() in (exit_codes.CLEAN, -signal.SIGTERM), daemon.log_tail()
        daemon.start()
        daemon.call("daemon.ping")
        assert daemon.stop() == exit_codes.CLEAN


@contextmanager
def _writing(daemon: LivingDaemon) -> Iterator[None]:
    """Somebody else writes to the database: the daemon's last words must wait."""
    db = apsw.Connection(daemon.paths.database)
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        db.execute("ROLLBACK")
        db.close()


def test_a_second_signal_ends_a_stop_that_hangs(home: Path) -> None:
    with living_daemon(home, NO_HUB, settings=["[sync]", "auto = false"]) as daemon:
        daemon.call("daemon.ping")
        assert daemon.process is not None
        with _writing(daemon):
            daemon.process.send_signal(signal.SIGTERM)
            daemon.until(lambda: not Path(daemon.paths.socket).exists() or _is_mute(daemon), "stop")
            assert daemon.stop(signal.SIGTERM) == exit_codes.OVERRUN
        assert "second signal" in daemon.log_tail()
        daemon.start()
        daemon.call("daemon.ping")
        assert daemon.stop() == exit_codes.CLEAN


def _is_mute(daemon: LivingDaemon) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(daemon.paths.socket)) != 0


def test_a_stop_that_hangs_is_cut_short_and_costs_nothing(home: Path) -> None:
    with living_daemon(home, NO_HUB, settings=["[sync]", "auto = false"]) as daemon:
        daemon.call("daemon.ping")
        with _writing(daemon):
            assert daemon.stop() == exit_codes.OVERRUN
        assert "stopping took too long" in daemon.log_tail()
        daemon.start()
        daemon.call("daemon.ping")
        assert daemon.stop() == exit_codes.CLEAN


def test_the_service_manager_is_told_when_a_call_is_answered_and_when_it_stops(
    home: Path, tmp_path: Path
) -> None:
    address = tmp_path / "notify"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        living_daemon(
            home,
            NO_HUB,
            settings=["[sync]", "auto = false"],
            environment={"NOTIFY_SOCKET": str(address)},
        ) as daemon,
    ):
        # the one that was started found nobody at that address: that is no reason to fail
        daemon.call("daemon.ping")
        assert daemon.stop() == exit_codes.CLEAN
        manager.bind(str(address))
        manager.settimeout(20)
        daemon.start()
        assert "READY=1" in manager.recv(4096).decode().splitlines()
        with Connection(daemon.paths.socket) as connection:  # at once, without another try
            assert connection.call("daemon.ping", {})["at_ms"]
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until(lambda: "restart to change them" in daemon.log_tail(), "SIGHUP is logged")
        assert daemon.call("daemon.ping")["at_ms"]
        with _writing(daemon):
            daemon.process.send_signal(signal.SIGTERM)
            assert manager.recv(4096).decode().splitlines() == ["STOPPING=1"]
            assert daemon.process.poll() is None  # it tells before, not after
        assert daemon.process.wait(10) == exit_codes.CLEAN
        daemon.process = None


def test_stdin_and_a_closed_pipe_for_its_log_are_no_matter(home: Path) -> None:
    """SIGPIPE: who reads the log may go away."""
    daemon = LivingDaemon(home, NO_HUB)
    process = subprocess.Popen(
        [sys.executable, "-m", "modelkeepd"],
        env=daemon.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    daemon.process = process
    try:
        daemon.call("daemon.ping")
        assert process.stderr is not None
        process.stderr.close()
        process.send_signal(signal.SIGHUP)  # makes it write a line
        assert daemon.call("daemon.ping")["at_ms"]
        assert daemon.stop() == exit_codes.CLEAN
    finally:
        if daemon.process is not None:
            process.kill()
            process.wait(10)

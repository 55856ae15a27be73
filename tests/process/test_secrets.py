"""D27: a canary token through the whole daemon; then it is looked for everywhere."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.fakes.command import keep
from tests.process.living import HubProcess, LivingDaemon, hub_process, living_daemon

CANARY = "canary-7d1f2a9c55e04b6e"


def _work(daemon: LivingDaemon, hub: HubProcess) -> None:
    """All that a token is used for: a sync, downloads that work, fail, are redirected, are cut."""
    daemon.synced()
    daemon.until(lambda: daemon.call("daemon.status")["catalog"]["indexed"], "indexed")
    special = hub.control("specials")
    names = ("gated", "early_access", "downloads_disabled", "wrong_sha256", "pickle", "japanese")
    refs = [f"civitai:{special[name]}" for name in names]
    page = daemon.call("catalog.search", query="type:lora", limit=8)
    faults: list[dict[str, Any]] = [
        # to a stranger, who answers 404 and would log what he is sent
        {"match": {"path": "/api/download/*", "nth": 8}, "do": {"redirect": f"{hub.url}/nowhere"}},
        {"match": {"storage": True, "nth": 2}, "do": {"cut": 1000}},
        {"match": {"storage": True, "nth": 4}, "do": {"status": 500}},
        {"match": {"path": "/api/download/*", "nth": 10}, "do": {"status": 500}},
    ]
    hub.control("faults", faults)
    answer = daemon.call("transfer.get", refs=[*refs, *(item["ref"] for item in page["items"])])
    numbers = [job["id"] for job in answer["jobs"] if job["id"]]

    def over() -> bool:
        jobs = daemon.call("transfer.list", ids=numbers)["jobs"]
        return all(job["state"] in ("done", "failed", "quarantined", "waiting") for job in jobs)

    daemon.until(over, "the jobs end")
    assert any(job["state"] == "done" for job in daemon.call("transfer.list", ids=numbers)["jobs"])


def _processes(pid: int) -> list[int]:
    """The daemon and all below it."""
    found = [pid]
    for number in found:
        for children in Path(f"/proc/{number}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here")
@pytest.mark.parametrize("source", ["file", "environment", "credential"])
def test_the_token_goes_to_the_hub_and_nowhere_else(tmp_path: Path, source: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {}
    # where it is kept is the one place where it may be
    kept = home / "civitai.token"
    if source == "credential":
        kept = tmp_path / "credentials/civitai-token"
        kept.parent.mkdir()
        environment["CREDENTIALS_DIRECTORY"] = str(kept.parent)
    if source == "environment":
        environment["MODELKEEP_CIVITAI_TOKEN"] = CANARY
    else:
        kept.touch(mode=0o600)
        kept.write_text(CANARY)
    quick = source != "file"
    with (
        hub_process("--models", "60", "--token", CANARY) as hub,
        living_daemon(
            home,
            hub.url,
            settings=["[log]", 'level = "debug"', 'format = "json"'],
            environment=environment,
        ) as daemon,
    ):
        if quick:
            daemon.synced()
        else:
            _work(daemon, hub)
        status = daemon.call("daemon.status")
        assert status["hubs"][0]["has_token"] is True
        assert CANARY not in str(status)
        assert daemon.process is not None
        pids = _processes(daemon.process.pid)
        for pid in pids:
            assert CANARY.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            if source != "environment" or pid != daemon.process.pid:
                assert CANARY.encode() not in environ
        if not quick:
            shown = [
                keep(home, *words).stdout + keep(home, *words).stderr
                for words in (["status", "--json"], ["queue", "list", "--all", "--json"],
                              ["events", "--since", f"{status['daemon']['epoch']}:0",
                               "--no-follow", "--json"])
            ]  # fmt: skip
            assert all(len(text) > 100 for text in shown)
            assert CANARY not in "".join(shown)
        log = hub.control("log")
        sent = [entry for entry in log if CANARY in str(entry)]
        assert sent, "it was never used"
        assert all(not entry["storage"] for entry in sent)
        assert all(CANARY not in entry["target"] for entry in log)
        if not quick:
            assert any(entry["storage"] for entry in log)
        # a crash that is no clean end must not write it either
        daemon.kill()
    found = _files_with_the_canary(tmp_path)
    assert found - {kept} == set()


def _files_with_the_canary(folder: Path) -> set[Path]:
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and CANARY.encode() in path.read_bytes():
            found.add(path)
    database = folder / "home/state/modelkeep.db"
    db = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        # compressed documents too
        rows = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        for (table,) in rows:
            for row in db.execute(f'SELECT * FROM "{table}"'):
                assert CANARY not in repr(row), table
    finally:
        db.close()
    return found


def test_a_core_file_is_not_written(tmp_path: Path) -> None:
    """It would hold the token: a crash by signal leaves none, whatever the limit is."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    home = tmp_path / "home"
    try:
        with living_daemon(home, "http://127.0.0.1:9") as daemon:
            daemon.call("daemon.ping")
            assert daemon.process is not None
            soft, _ = resource.prlimit(daemon.process.pid, resource.RLIMIT_CORE)
            assert soft == 0
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def test_ctrl_c_shows_no_secret_and_no_traceback(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "civitai.token").touch(mode=0o600)
    (home / "civitai.token").write_text(CANARY)
    with living_daemon(home, "http://127.0.0.1:9") as daemon:
        daemon.call("daemon.ping")
        assert daemon.stop(signal.SIGINT) == 0
        text = daemon.log.read_text()
        assert CANARY not in text
        assert "Traceback" not in text


def test_the_token_is_no_setting(tmp_path: Path) -> None:
    """In a config file, which is shared and copied, it would be in the wrong place: it is said."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(f'[hubs.civitai]\ntoken = "{CANARY}"\n')
    ended = subprocess.run(
        [sys.executable, "-m", "modelkeepd", "--check"],
        env={**os.environ, "MODELKEEP_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 0
    assert "unknown key hubs.civitai.token" in ended.stderr
    assert CANARY not in ended.stdout + ended.stderr

"""Search is a projection: killed, deleted or without a hub it ends with what the catalog knows."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from tests.process.living import LivingDaemon, hub_process, living_daemon

MODELS = 500
NO_HUB = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a whole catalog, stopped; its hub is gone."""
    home = tmp_path_factory.mktemp("synced") / "home"
    with hub_process("--models", str(MODELS)) as hub, living_daemon(home, hub.url) as daemon:
        daemon.synced()
        _agrees(daemon)
        assert daemon.stop() == 0
    return home


@pytest.fixture
def home(synced: Path, tmp_path: Path) -> Path:
    shutil.copytree(synced, tmp_path / "home", ignore=shutil.ignore_patterns("run", "*.log"))
    return tmp_path / "home"


def _count(daemon: LivingDaemon) -> int:
    db = apsw.Connection(daemon.paths.database, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(str(db.execute("SELECT count(*) FROM model WHERE hub_state <> 'gone'").get))
    finally:
        db.close()


def _agrees(daemon: LivingDaemon) -> None:
    """Search finds as many models as there are, and one by its name."""

    def caught_up() -> bool:
        found = daemon.call("catalog.search", query="", limit=1)["total"]
        return daemon.call("daemon.status")["catalog"]["indexed"] and found == _count(daemon)

    daemon.until(caught_up, "search catches up")
    some = daemon.call("catalog.search", query="", limit=30)["items"]
    for item in some[::10]:
        words = f'"{item["name"]}"'
        found = daemon.call("catalog.search", query=words, limit=1000)["items"]
        assert item["ref"] in [each["ref"] for each in found], words


@pytest.mark.parametrize("where", ["before", "after"])
def test_killed_around_the_commit_of_the_index_it_catches_up(tmp_path: Path, where: str) -> None:
    """Pages are in the catalog by then that the index has not seen, or has and did not say."""
    home = tmp_path / "home"
    point = f"catalog.{where}_index_commit=kill:2"
    with hub_process("--models", str(MODELS)) as hub:
        daemon = LivingDaemon(home, hub.url)
        died = subprocess.run(
            [sys.executable, "-m", "modelkeepd"],
            env={**daemon.environment, "MODELKEEP_FAILPOINTS": point},
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
        assert died.returncode == -9
        assert _count(daemon) > 0
        with living_daemon(home, hub.url) as daemon:
            daemon.synced()
            _agrees(daemon)
            assert daemon.stop() == 0


def _delete(index: Path) -> None:
    shutil.rmtree(index)


def _empty(index: Path) -> None:
    for path in index.iterdir():
        path.unlink()


def _scramble(index: Path) -> None:
    for path in sorted(index.iterdir())[:3]:
        if path.is_file():
            path.write_bytes(b"\xa5" * path.stat().st_size)


@pytest.mark.parametrize("harm", [_delete, _empty, _scramble])
def test_an_index_harmed_while_stopped_is_made_anew(
    home: Path, harm: Callable[[Path], None]
) -> None:
    harm(home / "cache/search")
    with living_daemon(home, NO_HUB) as daemon:
        _agrees(daemon)
        assert daemon.stop() == 0


@pytest.mark.parametrize("harm", [_delete, _empty])
def test_an_index_harmed_while_running_is_made_anew(
    home: Path, harm: Callable[[Path], None]
) -> None:
    with living_daemon(home, NO_HUB) as daemon:
        _agrees(daemon)
        harm(home / "cache/search")
        _agrees(daemon)
        assert (home / "cache/search").is_dir()
        assert daemon.stop() == 0
        daemon.start()
        _agrees(daemon)
        assert daemon.stop() == 0


def test_with_the_hub_gone_everything_known_is_found_and_shown(home: Path) -> None:
    with living_daemon(home, NO_HUB) as daemon:
        _agrees(daemon)
        page = daemon.call("catalog.search", query="type:lora style", sort="downloads", limit=5)
        assert page["total"] > 0
        for item in page["items"]:
            shown = daemon.call("catalog.show", ref=item["ref"], raw=True)
            assert shown["raw"]["name"] == item["name"]
            assert shown["versions"]
        assert daemon.stop() == 0

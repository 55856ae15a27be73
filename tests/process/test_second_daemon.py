"""One daemon for each home, and what it refuses to start on: with a text that helps, at once."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from modelkeepd import exit_codes
from tests.process.living import LivingDaemon, living_daemon

NO_HUB = "http://127.0.0.1:9"


def ends(home: Path, *options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a daemon that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "modelkeepd", *options],
        env={**os.environ, "MODELKEEP_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


def configured(home: Path, *lines: str) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    config = home / "config.toml"
    no_hubs = ("[hubs.huggingface]", "enabled = false", "[hubs.civitai]", f'base_url = "{NO_HUB}"')
    config.write_text("\n".join((*no_hubs, *lines)))
    return config


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of a home that has seen a daemon."""
    with living_daemon(tmp_path_factory.mktemp("kept") / "home", NO_HUB) as daemon:
        daemon.call("daemon.ping")
        assert daemon.stop() == exit_codes.CLEAN
        return Path(daemon.paths.database).read_bytes()


def with_database(home: Path, content: bytes) -> Path:
    configured(home)
    path = home / "state/modelkeep.db"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content)
    return path


# -- a second one ---------------------------------------------------------------------------------


def test_a_second_daemon_is_told_so_and_the_first_goes_on(home: Path) -> None:
    with living_daemon(home, NO_HUB) as first:
        pid = first.call("daemon.status")["daemon"]["pid"]
        second = ends(home)
        assert second.returncode == exit_codes.ALREADY_RUNNING
        assert f"pid {pid}" in second.stderr
        assert "MODELKEEP_HOME" in second.stderr
        assert "Traceback" not in second.stderr
        status = first.call("daemon.status")["daemon"]
        assert status["pid"] == pid
        assert set(status["services"].values()) == {"running"}
        assert first.stop() == exit_codes.CLEAN


def test_what_a_killed_daemon_leaves_is_no_hindrance(home: Path) -> None:
    with living_daemon(home, NO_HUB) as daemon:
        daemon.call("daemon.ping")
        daemon.kill()
        assert Path(daemon.paths.socket).is_socket()
        assert Path(daemon.paths.lock).exists()
        daemon.start()
        daemon.call("daemon.ping")
        assert daemon.stop() == exit_codes.CLEAN


def plant_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as planted:
        planted.bind(str(path))


def plant_link(path: Path) -> None:
    (path.parent.parent / "elsewhere").write_text("precious")
    path.symlink_to(path.parent.parent / "elsewhere")


@pytest.mark.parametrize(
    "plant", [plant_socket, plant_link, Path.write_text], ids=lambda p: p.__name__
)
def test_whatever_lies_at_the_socket_is_replaced_and_what_it_points_to_is_not(
    home: Path, plant: Callable[[Path], None]
) -> None:
    daemon = LivingDaemon(home, NO_HUB)
    path = Path(daemon.paths.socket)
    path.parent.mkdir(mode=0o700)
    if plant is Path.write_text:
        path.write_text("a file")
    else:
        plant(path)
    with living_daemon(home, NO_HUB) as daemon:
        daemon.call("daemon.ping")
        assert path.is_socket()
        assert not path.is_symlink()
        assert path.stat().st_mode & 0o777 == 0o600
        assert daemon.stop() == exit_codes.CLEAN
    if plant is plant_link:
        assert (home / "elsewhere").read_text() == "precious"


def test_a_link_at_the_lock_is_refused_and_not_followed(home: Path, tmp_path: Path) -> None:
    configured(home)
    (home / "run").mkdir(mode=0o700)
    (tmp_path / "precious").write_text("precious")
    (home / "run/daemon.lock").symlink_to(tmp_path / "precious")
    ended = ends(home)
    assert ended.returncode == exit_codes.CONFIG
    assert "daemon.lock" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_link_for_the_run_folder_is_refused(home: Path, tmp_path: Path) -> None:
    configured(home)
    (tmp_path / "theirs").mkdir()
    (home / "run").symlink_to(tmp_path / "theirs")
    ended = ends(home)
    assert ended.returncode == exit_codes.CONFIG
    assert f"{home}/run" in ended.stderr
    assert "link" in ended.stderr
    assert list((tmp_path / "theirs").iterdir()) == []


def test_a_folder_at_the_socket_is_said(home: Path) -> None:
    configured(home)
    (home / "run/rpc.sock").mkdir(parents=True)
    ended = ends(home)
    assert ended.returncode == exit_codes.CONFIG
    assert "rpc.sock is a folder" in ended.stderr
    assert "Traceback" not in ended.stderr


# -- settings -------------------------------------------------------------------------------------


def test_a_typo_in_the_settings_is_a_warning_with_a_suggestion(home: Path) -> None:
    config = configured(home, "[sync]", "auot = false")
    checked = ends(home, "--check")
    assert checked.returncode == exit_codes.CLEAN
    assert f"{config}:6: unknown key sync.auot" in checked.stderr
    assert "auto" in checked.stderr.partition("auot")[2]
    assert "1 warnings, no errors" in checked.stdout
    with living_daemon(home, NO_HUB, settings=["[sync]", "auot = false"]) as daemon:
        [warning] = daemon.call("daemon.status")["warnings"]
        assert "auot" in warning
        assert daemon.stop() == exit_codes.CLEAN


@pytest.mark.parametrize(
    ("line", "said"),
    [("settle_s = -1", "library.settle_s"), ("settle_s = = 2", "not valid TOML")],
)
def test_bad_settings_are_refused_with_file_and_line(home: Path, line: str, said: str) -> None:
    config = configured(home, "[library]", line)
    for options in ((), ("--check",)):
        ended = ends(home, *options)
        assert ended.returncode == exit_codes.CONFIG
        assert f"{config}:6" in ended.stderr
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr
    assert not (home / "state").exists()


def test_a_destination_that_is_no_path_is_refused(home: Path) -> None:
    configured(home, "[transfer]", 'root = "~nobody-at-all/models"')
    ended = ends(home)
    assert ended.returncode == exit_codes.CONFIG
    assert "transfer.root" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_config_that_is_no_text_or_a_folder_is_refused(home: Path) -> None:
    config = configured(home)
    config.write_bytes(b"\xff\xfe\x00[sync]")
    assert ends(home).returncode == exit_codes.CONFIG
    config.unlink()
    config.mkdir()
    ended = ends(home)
    assert ended.returncode == exit_codes.CONFIG
    assert "Traceback" not in ended.stderr


def test_a_token_file_that_holds_none_is_refused_without_showing_it(home: Path) -> None:
    configured(home)
    (home / "civitai.token").touch(mode=0o600)
    (home / "civitai.token").write_bytes(b"two words\n")
    ended = ends(home)
    assert ended.returncode == exit_codes.CONFIG, ended.stderr
    assert f"{home}/civitai.token" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "words" not in ended.stderr


def test_a_token_file_that_others_can_read_is_refused_with_the_command_that_mends_it(
    home: Path,
) -> None:
    configured(home)
    (home / "civitai.token").write_text("canary-0123456789")
    (home / "civitai.token").chmod(0o644)
    ended = ends(home)
    assert ended.returncode == exit_codes.CONFIG, ended.stderr
    assert f"chmod 600 {home}/civitai.token" in ended.stderr
    assert "canary" not in ended.stderr


# -- the database ---------------------------------------------------------------------------------


def damage_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"this is no database!")


def damage_first_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(3996))


def foreign(path: Path) -> None:
    path.unlink()
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE theirs (x); PRAGMA application_id = 77")
    other.close()


def newer(path: Path) -> None:
    ours = apsw.Connection(str(path))
    ours.execute("PRAGMA user_version = 9999")
    ours.close()


def emptied(path: Path) -> None:
    path.with_name(path.name + ".v1.backup").write_bytes(path.read_bytes())
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (damage_header, "damaged"),
        (damage_first_page, "damaged"),
        (foreign, "another program"),
        (newer, "schema 9999"),
        (emptied, "is empty"),
        (folder, "it is a folder"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_database_that_is_not_fit_is_left_as_it_is_and_no_restart_is_asked_for(
    home: Path, kept: bytes, harm: Callable[[Path], None], said: str
) -> None:
    path = with_database(home, kept)
    harm(path)
    before = path.read_bytes() if path.is_file() else b""
    for _ in range(2 if harm is newer else 1):  # nor does a second try make it worse
        ended = ends(home)
        assert ended.returncode == exit_codes.STORE, ended.stderr
        assert exit_codes.STORE in exit_codes.DO_NOT_RESTART
        assert said in ended.stderr
        assert str(path) in ended.stderr
        assert "Traceback" not in ended.stderr
        assert (path.read_bytes() if path.is_file() else b"") == before


def test_moving_a_damaged_database_away_is_a_way_out(home: Path, kept: bytes) -> None:
    path = with_database(home, kept)
    damage_header(path)
    shutil.move(path, home / "damaged.db")
    with living_daemon(home, NO_HUB) as daemon:
        daemon.call("daemon.ping")
        assert daemon.stop() == exit_codes.CLEAN


# -- folders --------------------------------------------------------------------------------------


def test_a_library_root_that_is_not_there_is_offline_and_comes_online_by_itself(
    home: Path, tmp_path: Path
) -> None:
    root = tmp_path / "volume"
    settings = ["[[library.roots]]", f'path = "{root}"']
    text = ["[sync]", "auto = false", *settings]
    with living_daemon(home, NO_HUB, settings=text) as daemon:

        def state() -> str:
            roots = daemon.call("library.roots")["items"]
            return str({item["path"]: item["state"] for item in roots}[str(root)])

        daemon.until(lambda: state() == "offline", "the missing root is offline")
        assert daemon.call("daemon.status")["library"]["offline_roots"] == 1
        root.mkdir()
        (root / "a.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
        daemon.call("library.scan", path=str(root))
        daemon.until(lambda: state() == "online", "the root is back")
        found = daemon.until(
            lambda: daemon.call("library.list", root=str(root))["items"], "its file is known"
        )
        assert [item["path"] for item in found] == [f"{root}/a.safetensors"]
        # away again: offline, and nothing is forgotten
        root.rename(tmp_path / "away")
        daemon.until(lambda: state() == "offline", "the root is away")
        assert len(daemon.call("library.list", root=str(root))["items"]) == 1
        assert daemon.stop() == exit_codes.CLEAN

"""Where everything lives, the same for daemon and clients."""

import os
import re

import pytest

from modelkeep_protocol.paths import MAX_SOCKET_PATH_BYTES, find_paths

LONG = "/home/" + "x" * 120


def test_a_home_of_ones_own_holds_everything() -> None:
    paths = find_paths({"MODELKEEP_HOME": "/srv/mk", "XDG_STATE_HOME": "/elsewhere"}, "linux", 1000)
    assert paths.home == "/srv/mk"
    assert paths.config_file == "/srv/mk/config.toml"
    assert paths.database == "/srv/mk/state/modelkeep.db"
    assert paths.search_index == "/srv/mk/cache/search"
    assert paths.socket == "/srv/mk/run/rpc.sock"
    assert paths.lock == "/srv/mk/run/daemon.lock"


def test_a_relative_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    assert find_paths({"MODELKEEP_HOME": "mk"}, "linux", 1000).home == "/tmp/mk"


def test_without_a_home_the_platforms_folders_are_used() -> None:
    paths = find_paths({"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/7"}, "linux", 7)
    assert paths.home is None
    assert paths.config_file == "/home/u/.config/modelkeep/config.toml"
    assert paths.database == "/home/u/.local/state/modelkeep/modelkeep.db"
    assert paths.cache_dir == "/home/u/.cache/modelkeep"
    assert paths.socket == "/run/user/7/modelkeep/rpc.sock"
    without = find_paths({"HOME": "/home/u"}, "linux", 7)
    assert without.socket == "/home/u/.local/state/modelkeep/run/rpc.sock"
    mac = find_paths({"HOME": "/Users/u"}, "darwin", 501)
    assert mac.config_dir == "/Users/u/Library/Application Support/modelkeep"
    assert mac.cache_dir == "/Users/u/Library/Caches/modelkeep"


def test_the_service_managers_folders_win_and_the_first_of_several_is_taken() -> None:
    environ = {
        "HOME": "/home/u",
        "STATE_DIRECTORY": "/var/lib/mk:/var/lib/other",
        "CACHE_DIRECTORY": "/var/cache/mk",
        "RUNTIME_DIRECTORY": "/run/mk",
        "CONFIGURATION_DIRECTORY": "/etc/mk",
        "XDG_STATE_HOME": "/ignored",
    }
    paths = find_paths(environ, "linux", 7)
    assert paths.database == "/var/lib/mk/modelkeep.db"
    assert (paths.cache_dir, paths.runtime_dir) == ("/var/cache/mk", "/run/mk")
    assert paths.config_file == "/etc/mk/config.toml"


@pytest.mark.parametrize(
    "environ",
    [
        {"MODELKEEP_HOME": LONG},
        {"MODELKEEP_HOME": "/h/" + "語" * 40},
        {"HOME": LONG},
        {"MODELKEEP_HOME": LONG, "XDG_RUNTIME_DIR": "/run/user/7"},
        {"MODELKEEP_HOME": LONG, "XDG_RUNTIME_DIR": "/" + "r" * 90},
        {"MODELKEEP_HOME": LONG, "XDG_RUNTIME_DIR": "/" + "語" * 30},
    ],
)
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_long_path_gets_a_short_socket(environ: dict[str, str], platform: str) -> None:
    paths = find_paths(environ, platform, 4_000_000_000)
    assert len(os.fsencode(paths.socket)) <= MAX_SOCKET_PATH_BYTES
    assert paths.socket == find_paths(environ, platform, 4_000_000_000).socket
    other = {**environ, "MODELKEEP_HOME": LONG + "2"}
    assert find_paths(other, platform, 4_000_000_000).socket != paths.socket
    # the database stays where it was wanted
    assert paths.database.startswith(environ.get("MODELKEEP_HOME", environ.get("HOME", "")))


def test_the_short_folder_stands_where_nobody_else_can_replace_it() -> None:
    """Below a folder of another user it could be swapped; /tmp itself is sticky."""
    runtime = find_paths({"MODELKEEP_HOME": LONG}, "linux", 1000).runtime_dir
    assert re.fullmatch(r"/tmp/modelkeep-1000-[0-9a-f]{12}", runtime)


@pytest.mark.parametrize("length", range(80, 110))
def test_the_limit_is_exact(length: int) -> None:
    home = "/" + "h" * (length - 1)
    wanted = f"{home}/run/rpc.sock"
    paths = find_paths({"MODELKEEP_HOME": home}, "linux", 1000)
    assert (paths.socket == wanted) == (len(wanted) <= MAX_SOCKET_PATH_BYTES)

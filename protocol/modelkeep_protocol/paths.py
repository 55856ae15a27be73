"""Where everything lives: one function for daemon and clients, light enough for every command.

``MODELKEEP_HOME=DIR`` puts all under DIR; otherwise the platform's folders, and the service
manager's (``STATE_DIRECTORY`` …) where it names some. Creates nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # see errors
if TYPE_CHECKING:
    from collections.abc import Mapping

# sun_path holds 108 bytes on Linux and 104 on macOS; libzmq and a suffix need some of them
MAX_SOCKET_PATH_BYTES = 100


class Paths:
    """Absolute paths, as text. ``home`` is None when the platform's folders are used."""

    __slots__ = ("cache_dir", "config_dir", "home", "runtime_dir", "state_dir")

    def __init__(
        self, home: str | None, config_dir: str, state_dir: str, cache_dir: str, runtime_dir: str
    ) -> None:
        self.home = home
        self.config_dir = config_dir
        self.state_dir = state_dir
        self.cache_dir = cache_dir
        self.runtime_dir = runtime_dir

    @property
    def config_file(self) -> str:
        """The daemon's settings."""
        return f"{self.config_dir}/config.toml"

    @property
    def database(self) -> str:
        """The one SQLite file."""
        return f"{self.state_dir}/modelkeep.db"

    @property
    def search_index(self) -> str:
        """A projection of the database; may be deleted at any time."""
        return f"{self.cache_dir}/search"

    @property
    def lock(self) -> str:
        """Held by the one daemon of this home."""
        return f"{self.runtime_dir}/daemon.lock"

    @property
    def socket(self) -> str:
        """The daemon's RPC socket."""
        return f"{self.runtime_dir}/rpc.sock"


def find_paths(
    environ: Mapping[str, str] | None = None, platform: str = sys.platform, uid: int | None = None
) -> Paths:
    """The paths for this environment, platform (as ``sys.platform``) and user id."""
    environ = os.environ if environ is None else environ
    uid = os.getuid() if uid is None else uid
    home = environ.get("MODELKEEP_HOME")
    if home:
        home = os.path.abspath(home)
        return _with_short_runtime(
            Paths(home, home, f"{home}/state", f"{home}/cache", f"{home}/run"), home, environ, uid
        )
    user = environ.get("HOME") or "/"
    if platform == "darwin":
        base = f"{user}/Library/Application Support/modelkeep"
        paths = Paths(None, base, base, f"{user}/Library/Caches/modelkeep", f"{base}/run")
        return _with_short_runtime(paths, base, environ, uid)
    config = environ.get("XDG_CONFIG_HOME") or f"{user}/.config"
    state = environ.get("XDG_STATE_HOME") or f"{user}/.local/state"
    cache = environ.get("XDG_CACHE_HOME") or f"{user}/.cache"
    runtime = environ.get("XDG_RUNTIME_DIR")
    paths = Paths(
        None,
        _first(environ.get("CONFIGURATION_DIRECTORY")) or f"{config}/modelkeep",
        _first(environ.get("STATE_DIRECTORY")) or f"{state}/modelkeep",
        _first(environ.get("CACHE_DIRECTORY")) or f"{cache}/modelkeep",
        _first(environ.get("RUNTIME_DIRECTORY"))
        or (f"{runtime}/modelkeep" if runtime else f"{state}/modelkeep/run"),
    )
    return _with_short_runtime(paths, paths.runtime_dir, environ, uid)


def _first(directories: str | None) -> str | None:
    # systemd joins several with colons
    return directories.split(":", 1)[0] if directories else None


def _with_short_runtime(paths: Paths, key: str, environ: Mapping[str, str], uid: int) -> Paths:
    if len(os.fsencode(paths.socket)) <= MAX_SOCKET_PATH_BYTES:
        return paths
    import hashlib

    short = hashlib.sha256(os.fsencode(key)).hexdigest()[:12]
    base = environ.get("XDG_RUNTIME_DIR")
    if base and len(os.fsencode(base)) <= 60:
        paths.runtime_dir = f"{base}/modelkeep-{short}"
    else:
        # right below /tmp, whose sticky bit keeps others from replacing the folder once it is ours
        paths.runtime_dir = f"/tmp/modelkeep-{uid}-{short}"
    return paths

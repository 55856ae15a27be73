"""What to say when no daemon answers: where we looked, why probably, how to mend it.

Looks at files and environment only; starts nothing. Imported when it is needed, never before.
"""

from __future__ import annotations

import os
import sys

from modelkeep.zmtp import TimedOut

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from collections.abc import Mapping

UNIT = "modelkeepd.service"
_UNIT_FOLDERS = (
    "{config}/systemd/user",
    "/etc/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
)


def explain(path: str, exc: Exception) -> tuple[str, str, str]:
    """Three lines for a socket path and what went wrong there."""
    if isinstance(exc, PermissionError):
        owner = _owner(path)
        return (
            f"the daemon at {path} belongs to another user",
            f"Only {owner} may talk to it; you are {_user_name(os.getuid())}.",
            f"Become that user (sudo -u {owner} modelkeep ...), or start your own: modelkeepd &",
        )
    where = f"no daemon answers at {path}"
    if isinstance(exc, FileNotFoundError):
        why = "There is no socket: it is not running, or it runs with another MODELKEEP_HOME."
    elif isinstance(exc, ConnectionRefusedError):
        why = "The socket is a left-over: the daemon that made it has ended."
    elif isinstance(exc, TimedOut):
        why = "Someone listens there but does not answer: it hangs, or is starting."
        return where, why, "See what it does (its log), and restart it: " + start_command()
    else:
        why = f"Something is there that can't be talked to: {exc}."
        return where, why, "Find out what it is, end it, and start the daemon: " + start_command()
    return where, why, "Start it: " + start_command()


def start_command(environ: Mapping[str, str] | None = None, platform: str = sys.platform) -> str:
    """The command that starts the daemon on this machine, as it is installed."""
    environ = os.environ if environ is None else environ
    if environ.get("MODELKEEP_HOME"):
        return "modelkeepd &"  # a service would use another home
    user = environ.get("HOME") or "/"
    if platform == "darwin":
        agents = f"{user}/Library/LaunchAgents"
        try:
            labels = [n[: -len(".plist")] for n in os.listdir(agents) if "modelkeep" in n]
        except OSError:
            labels = []
        if labels:
            return f"launchctl kickstart gui/{os.getuid()}/{labels[0]}"
        return "modelkeepd &"
    config = environ.get("XDG_CONFIG_HOME") or f"{user}/.config"
    for folder in _UNIT_FOLDERS:
        if os.path.exists(f"{folder.format(config=config)}/{UNIT}"):
            return f"systemctl --user start {UNIT.partition('.')[0]}"
    return "modelkeepd &"


def _owner(path: str) -> str:
    """Who owns the socket, or the nearest folder of it that can be looked at."""
    while path and path != "/":
        try:
            return _user_name(os.stat(path).st_uid)
        except OSError:
            path = os.path.dirname(path)
    return "another user"


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"

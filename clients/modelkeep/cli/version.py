"""``modelkeep version`` and ``--version``."""

from __future__ import annotations

from modelkeep import __version__, connect
from modelkeep.cli.spec import Command
from modelkeep_protocol import PROTOCOL_MAJOR, PROTOCOL_MINOR, errors, methods
from modelkeep_protocol.errors import ModelkeepError

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Output

_PROTOCOL = f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}"


def print_version(out: Output) -> int:
    """Of the client alone: asks nobody."""
    if out.json:
        out.document({"client": __version__, "protocol": _PROTOCOL})
    else:
        out.line(f"modelkeep {__version__}")
    return errors.EXIT_OK


def run(args: dict[str, Any], out: Output) -> int:
    """Of client and daemon; a daemon that is not there is no error here."""
    daemon: str | None = None
    protocol: str | None = None
    try:
        status = connect.call(methods.DAEMON_STATUS, {}, deadline_s=5.0)["daemon"]
        daemon, protocol = status["version"], status["protocol"]
    except ModelkeepError as exc:
        out.note(exc.message)
    if out.json:
        out.document(
            {
                "client": __version__,
                "protocol": _PROTOCOL,
                "daemon": daemon,
                "daemon_protocol": protocol,
            }
        )
        return errors.EXIT_OK
    out.fields(f"modelkeep {__version__}", f"protocol {_PROTOCOL}")
    if daemon is not None:
        out.fields(f"modelkeepd {daemon}", f"protocol {protocol}")
    return errors.EXIT_OK


VERBS = {
    "version": {
        "": Command(
            "version",
            "versions of client, protocol and daemon",
            run,
            examples=(("modelkeep version", "both"), ("modelkeep --version", "the client's only")),
        )
    }
}

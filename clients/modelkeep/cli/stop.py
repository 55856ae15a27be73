"""``modelkeep stop``."""

from __future__ import annotations

from modelkeep.cli.spec import Command
from modelkeep.connect import Connection
from modelkeep_protocol import errors, methods
from modelkeep_protocol.errors import ModelkeepError

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Output

STOP_S = 15.0


def run(args: dict[str, Any], out: Output) -> int:
    """Ask it to stop, and wait until it hangs up."""
    with Connection() as daemon:
        daemon.call(methods.DAEMON_STOP, {})
        if not daemon.wait_closed(STOP_S):
            raise ModelkeepError(
                errors.DEADLINE,
                f"the daemon has not stopped within {STOP_S:g} s",
                "its log says what it waits for",
            )
    if out.json:
        out.document({"stopped": True})
    else:
        out.note("the daemon has stopped; downloads go on where they were when it starts again")
    return errors.EXIT_OK


VERBS = {
    "stop": {
        "": Command(
            "stop",
            "stop the daemon",
            run,
            examples=(("modelkeep stop", "stop cleanly, and wait for it"),),
            about=(
                "A service manager may start it again; then stop the service instead: "
                "systemctl --user stop modelkeepd"
            ),
        )
    }
}

"""Asking before something is lost: in a terminal only, elsewhere ``--yes`` must be said."""

from __future__ import annotations

import sys

from modelkeep.cli import text
from modelkeep.cli.parse import UsageError
from modelkeep_protocol import errors
from modelkeep_protocol.errors import ModelkeepError

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from modelkeep.cli.output import Output


def confirm(what: str, out: Output) -> None:
    """Return when a person says yes. Raises UsageError or the error ``canceled``."""
    if out.json or not sys.stdin.isatty() or not out.stderr.isatty():
        raise UsageError(f"this would {what}: nobody can be asked here", "say --yes to do it")
    out.draw(f"{text.safe(what[0].upper() + what[1:])}? [y/N] ")
    if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
        raise ModelkeepError(errors.CANCELED, "nothing was done")

"""``modelkeep catalog``: the catalog as one file, written and read."""

from __future__ import annotations

import time

from modelkeep.cli import text
from modelkeep.cli.parse import UsageError
from modelkeep.cli.progress import Display, bar
from modelkeep.cli.refs import folder
from modelkeep.cli.spec import FOLDER, MANY, Argument, Command, Option
from modelkeep.connect import Connection
from modelkeep_protocol import errors, methods
from modelkeep_protocol.errors import ModelkeepError

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Output

POLL_S = 0.3


def export(args: dict[str, Any], out: Output) -> int:
    """Write the catalog to a file."""
    params = {"path": folder(args["file"]), "since": folder(args["since"])}
    return _run(methods.SNAPSHOT_EXPORT, params, out)


def import_(args: dict[str, Any], out: Output) -> int:
    """Merge a file into the catalog."""
    params = {"path": folder(args["file"]), "trust": [_key(each) for each in args["trust"]]}
    return _run(methods.SNAPSHOT_IMPORT, params, out)


def _key(text: str) -> str:
    """A key as it was given, or from the ``snapshot.pub`` it names."""
    if len(text) == 64 and "/" not in text:
        return text
    try:
        with open(folder(text), encoding="ascii") as file:
            return file.readline(200).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(
            f"--trust {text!r} is neither a key of 64 hex digits nor a readable file: {exc}",
            "the signer's home has it in snapshot.pub",
        ) from None


def _run(method: str, params: dict[str, Any], out: Output) -> int:
    with Connection() as daemon:
        task = daemon.call(method, params)
        display = Display(out)
        try:
            while task["state"] == "running":
                display.show([_progress(task)])
                time.sleep(POLL_S)
                task = daemon.call(methods.SNAPSHOT_STATUS, {})
        except KeyboardInterrupt:
            display.close()
            daemon.call(methods.SNAPSHOT_CANCEL, {})
            out.note(
                "ended; nothing half-written is left"
                if task["kind"] == "export"
                else "ended; what was read is kept, and the same command goes on from there"
            )
            return errors.EXIT_INTERRUPTED
        finally:
            display.close()
    if task["state"] != "finished":
        raise ModelkeepError(
            task["code"] or errors.CANCELED,
            task["error"] or f"the {task['kind']} was {task['state']}",
            task["hint"] or "",
        )
    if out.json:
        out.document(task)
    elif out.quiet:
        out.fields(task["path"])
    else:
        out.line(_done(task))
    return errors.EXIT_OK


def _progress(task: dict[str, Any]) -> str:
    shown = f"{task['kind']} "
    if task["fraction"] is not None:
        shown += f"{bar(task['fraction'])} "
    shown += f"{text.counted(task['models'], 'model')}, {text.size(task['size_bytes'])}"
    if task["eta_s"] is not None:
        shown += f", {text.duration(task['eta_s'])} left"
    return shown


def _done(task: dict[str, Any]) -> str:
    shown = (
        f"{text.safe(task['path'])}: {text.counted(task['models'], 'model')}, "
        f"{text.size(task['size_bytes'])}"
    )
    if task["kind"] == "import":
        shown += f"; {task['new']:,} new, {task['changed']:,} changed"
    return f"{shown}; signed by {text.safe(task['key'])}" if task["key"] else shown


_FILE = Argument("file", "1", "the snapshot", kind=FOLDER, complete="folder")

VERBS = {
    "catalog": {
        "export": Command(
            "catalog export",
            "write the catalog to one signed file",
            export,
            examples=(
                ("modelkeep catalog export catalog.mks", "all of it"),
                ("modelkeep catalog export new.mks --since catalog.mks", "what changed since"),
            ),
            arguments=(_FILE,),
            options=(
                Option(("--since",), FOLDER, "only what changed since this one", metavar="FILE"),
            ),
            about=(
                "Models, documents, dated facts and former names; no file of yours, no token, no "
                "job. Ctrl-C leaves nothing half-written."
            ),
        ),
        "import": Command(
            "catalog import",
            "merge a snapshot into the catalog",
            import_,
            examples=(
                ("modelkeep catalog import catalog.mks", "one of your own"),
                ("modelkeep catalog import friend.mks --trust snapshot.pub", "somebody else's"),
            ),
            arguments=(_FILE,),
            options=(
                Option(("--trust",), MANY, "accept this signer: a key, or the file", metavar="KEY"),
            ),
            about=(
                "Newer facts here are never lost: of each model the later document wins. Safe to "
                "interrupt: the same command goes on where it was."
            ),
        ),
    }
}  # fmt: skip

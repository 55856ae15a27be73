"""``modelkeep sync``: begin a sync or show the one under way; ``--wait`` follows it."""

from __future__ import annotations

import time

from modelkeep.cli import text
from modelkeep.cli.progress import Display, bar
from modelkeep.cli.spec import FLAG, Argument, Command, Option
from modelkeep.connect import Connection
from modelkeep_protocol import errors, methods

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Output

POLL_S = 0.3
_ENDED = frozenset(("finished", "failed", "interrupted"))


def run(args: dict[str, Any], out: Output) -> int:
    """Start, then print what runs; or follow it to its end."""
    with Connection() as daemon:
        params = {"hub": args["hub"] or "", "full": args["full"]}
        runs = daemon.call(methods.SYNC_START, params)["runs"]
        if args["wait"]:
            try:
                runs = _follow(daemon, runs, out)
            except KeyboardInterrupt:
                out.note("the sync goes on in the daemon; modelkeep sync --wait follows it again")
                return errors.EXIT_INTERRUPTED
    if out.json:
        out.document({"runs": runs})
    elif not runs:
        out.note("no hub is in use: see `enabled` below [hubs.NAME] in config.toml")
    elif not (args["wait"] and out.is_terminal and not out.quiet):
        # where the progress was seen, the end of it was too
        _print(runs, out)
        if not args["wait"]:
            out.hint("follow it to its end: modelkeep sync --wait")
    failed = sum(run["state"] != "finished" for run in runs) if args["wait"] else 0
    if not failed:
        return errors.EXIT_OK
    return errors.EXIT_FAILED if failed == len(runs) else errors.EXIT_SOME_FAILED


def _print(runs: list[dict[str, Any]], out: Output) -> None:
    if out.is_terminal and not out.quiet:
        for run in runs:
            out.line(_line(run, out))
        return
    for run in runs:
        out.fields(
            run["hub"], run["kind"], run["state"], run["pages"],
            run["models_seen"], run["models_new"], run["models_changed"], run["odd"],
        )  # fmt: skip


def _follow(daemon: Connection, runs: list[dict[str, Any]], out: Output) -> list[dict[str, Any]]:
    wanted = {run["hub"]: run["run_id"] for run in runs}
    told: dict[str, tuple[str, str]] = {}
    display = Display(out)
    try:
        while True:
            latest = daemon.call(methods.SYNC_STATUS, {})["runs"]
            # a run that was taken up again after a failure bears a later number
            runs = [r for r in latest if r["run_id"] >= wanted.get(r["hub"], 1 << 62)]
            for run in runs:
                step = (run["state"], run["phase"])
                if told.get(run["hub"]) != step:
                    told[run["hub"]] = step
                    display.event(_line(run, out))
            if all(run["state"] in _ENDED for run in runs):
                return runs
            display.show([_progress(run) for run in runs if run["state"] not in _ENDED])
            time.sleep(POLL_S)
    finally:
        display.close()


def _line(run: dict[str, Any], out: Output) -> str:
    shown = f"{text.safe(run['hub'])}: {run['kind']} sync {out.state(run['state'])}"
    if run["state"] not in _ENDED and run["phase"]:
        shown += f" ({text.safe(run['phase'])})"
    shown += (
        f", {text.counted(run['models_seen'], 'model')} in {text.counted(run['pages'], 'page')}: "
        f"{run['models_new']:,} new, {run['models_changed']:,} changed"
    )
    if run["odd"]:
        shown += f", {run['odd']:,} odd"
    if run["gaps"]:
        shown += f", {text.counted(run['gaps'], 'gap')} in the hub's list"
    if run["ended_ms"] is not None:
        shown += f", took {text.duration((run['ended_ms'] - run['started_ms']) / 1000)}"
    if run["error"]:
        shown += f"; {text.safe(run['error'])}"
        if run["hint"]:
            shown += f" ({text.safe(run['hint'])})"
    return shown


def _progress(run: dict[str, Any]) -> str:
    seen, total, share = run["models_seen"], run["total_estimate"], run["fraction"]
    shown = f"{text.safe(run['hub'])} "
    if share is None and total:
        share = seen / total
    if share is not None:
        shown += f"{bar(share)} "
    shown += text.count(seen)
    shown += f" of about {text.count(total)} models" if total else " models"
    if run["state"] == "waiting":
        why = run["error"] or "the hub asks for a pause"
        again = run["waiting_s"]
        after = "" if again is None else f", again in {text.duration(again)}"
        return f"{shown}, waiting: {text.safe(why)}{after}"
    if run["models_per_s"]:
        shown += f", {run['models_per_s']:,.0f} a second"
    if run["eta_s"] is not None:
        shown += f", {text.duration(run['eta_s'])} left"
    return shown


VERBS = {
    "sync": {
        "": Command(
            "sync",
            "start or show a sync with the hubs",
            run,
            examples=(
                ("modelkeep sync", "bring all hubs up to date"),
                ("modelkeep sync civitai --wait", "one hub, with progress to its end"),
                ("modelkeep sync --full --wait", "read everything again"),
            ),
            arguments=(Argument("hub", "?", "the hub; all when none is named", complete="hubs"),),
            options=(
                Option(("--full",), FLAG, "a full crawl instead of what changed"),
                Option(("--wait",), FLAG, "show progress and wait for the end"),
            ),
            about=(
                "The sync runs in the daemon: Ctrl-C ends the watching, not the sync. A sync that "
                "is under way is shown, not started twice."
            ),
        )
    }
}

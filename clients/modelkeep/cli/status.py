"""``modelkeep status``."""

from __future__ import annotations

import time

from modelkeep import connect
from modelkeep.cli import text
from modelkeep.cli.spec import Command
from modelkeep_protocol import methods

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Output


def run(args: dict[str, Any], out: Output) -> int:
    """Ask and print."""
    status = connect.call(methods.DAEMON_STATUS, {})
    if out.json:
        out.document(status)
        return 0
    for name, shown in _lines(status, out):
        if out.is_terminal:
            out.line(f"{text.pad(name, 9)} {shown}")
        else:
            out.line(f"{name}\t{shown}")
    for warning in status["warnings"]:
        out.warn(warning)
    _hint(status, out)
    return 0


def _lines(status: dict[str, Any], out: Output) -> list[tuple[str, str]]:
    daemon, catalog = status["daemon"], status["catalog"]
    queue, library = status["queue"], status["library"]
    lines = [
        (
            "daemon",
            (
                f"{out.state('running')}, version {text.safe(daemon['version'])}, "
                f"pid {daemon['pid']}, up {text.duration(daemon['uptime_s'])}"
            ),
        )
    ]
    if out.verbose:
        lines.append(("home", f"{text.safe(daemon['home'])} (protocol {daemon['protocol']})"))
    for name, state in daemon["services"].items():
        if out.verbose or state != "running":
            lines.append(("service", f"{text.safe(name)}: {out.state(state)}"))
    lines.append(
        (
            "catalog",
            f"{text.counted(catalog['models'], 'model')}, "
            f"{text.counted(catalog['versions'], 'version')}, "
            f"{text.counted(catalog['files'], 'file')}"
            + ("" if catalog["indexed"] else "; search is catching up")
            + _some(catalog["odd_documents"], "odd document kept raw", "odd documents kept raw"),
        )
    )
    active = f"{queue['active']:,} active"
    if queue["active"]:
        active += f" at {text.rate(queue['rate_bytes_per_s'])}"
    parts = [active, f"{queue['waiting']:,} waiting"]
    for state in ("paused", "failed", "quarantined"):
        if queue[state]:
            parts.append(f"{queue[state]:,} {out.state(state)}")
    lines.append(("queue", ", ".join(parts)))
    folders = text.counted(library["roots"], "folder")
    if library["offline_roots"]:
        folders += f", {library['offline_roots']} {out.state('offline')}"
    lines.append(
        (
            "library",
            f"{text.counted(library['files'], 'file')}, {text.size(library['size_bytes'])} "
            f"in {folders}; {library['identified']:,} identified"
            + _some(library["unhashed"], "still to be hashed", "still to be hashed"),
        )
    )
    lines += [("hub", _hub(hub, out)) for hub in status["hubs"]]
    return lines


def _some(number: int, one: str, many: str) -> str:
    return f"; {number:,} {one if number == 1 else many}" if number else ""


def _hub(hub: dict[str, Any], out: Output) -> str:
    name, run = text.safe(hub["name"]), hub["sync"]
    shown = f"{name}: last synced {text.ago(hub['last_sync_ms'])}"
    if out.verbose:
        shown += f", {text.safe(hub['base_url'])}, {'with' if hub['has_token'] else 'no'} token"
    if hub["next_sync_ms"] is not None and (run is None or run["state"] == "finished"):
        shown += f", next {_when(hub['next_sync_ms'])}"
    shown += _requests(hub["requests"], out)
    for breaker in hub["breakers"]:
        shown += f"; {text.safe(breaker['operation'])} {out.state(breaker['state'])}"
        shown += f" ({text.safe(breaker['reason'])})"
    if hub["is_quiet"]:
        shown += "; quiet hours"
    if out.verbose:
        shown += _coverage(hub["coverage"])
        for change in hub["breaker_history"][-3:]:
            shown += f"; {text.ago(change['at_ms'])} {text.safe(change['operation'])}"
            shown += f" {text.safe(change['state'])} ({text.safe(change['reason'])})"
    if run is None or run["state"] == "finished":
        return shown
    shown += f"; sync {out.state(run['state'])}: {text.counted(run['models_seen'], 'model')} seen"
    if run["total_estimate"]:
        shown += f" of about {text.count(run['total_estimate'])}"
    if run["eta_s"] is not None and run["state"] == "running":
        shown += f", about {text.duration(run['eta_s'])} left"
    if run["error"]:
        shown += f" ({text.safe(run['error'])})"
    return shown


def _requests(requests: dict[str, Any] | None, out: Output) -> str:
    if requests is None:
        return ""
    shown = f"; {requests['sent_today']:,} requests today, {requests['saved_today']:,} saved"
    left = [
        f"{number:,} left {where}"
        for number, where in (
            (requests["left"], "in the hub's window"),
            (requests["background_left"], "of today's budget"),
        )
        if number is not None
    ]
    shown += f", {', '.join(left)}" if left else ""
    if out.verbose:
        shown += f"; {requests['per_s']:.3g} a second, in all {requests['sent']:,} sent"
        shown += f" and {requests['saved']:,} saved"
    return shown


def _coverage(coverage: dict[str, Any] | None) -> str:
    if coverage is None:
        return ""
    shown = f"; {text.counted(coverage['models'], 'model')}, {coverage['gone']:,} gone"
    if coverage["suspects"]:
        shown += f", {coverage['suspects']:,} in doubt"
    if coverage["details"]:
        shown += f", files of {coverage['details']:,} known in full"
    if coverage["oldest_seen_ms"] is not None:
        shown += f", each looked at since {text.ago(coverage['oldest_seen_ms'])}"
    return shown


def _when(at_ms: int) -> str:
    seconds = at_ms / 1000 - time.time()
    return "now" if seconds < 1 else f"in {text.duration(seconds)}"


def _hint(status: dict[str, Any], out: Output) -> None:
    """The next step, when there is one that is likely wanted."""
    if status["queue"]["failed"]:
        out.hint("why: modelkeep queue --state failed; again: modelkeep queue retry --all")
    elif status["queue"]["active"]:
        out.hint("follow the downloads: modelkeep queue watch")
    elif not status["catalog"]["models"]:
        out.hint("fill the catalog: modelkeep sync --wait")
    elif not status["library"]["roots"]:
        out.hint("watch a folder of models: modelkeep library add DIR")


VERBS = {
    "status": {
        "": Command(
            "status",
            "daemon, catalog, queue and library at a glance",
            run,
            examples=(
                ("modelkeep status", "everything at a glance"),
                ("modelkeep status --json", "the same for a script"),
                ("modelkeep status -v", "with services, addresses and folders"),
            ),
            about="Says how to start the daemon when it is not running (exit code 3).",
        )
    }
}

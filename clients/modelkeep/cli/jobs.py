"""Download jobs as the command line shows and follows them.

Following is asking again and again: the jobs are the daemon's and go on without us.
"""

from __future__ import annotations

import time

from modelkeep.cli import text
from modelkeep.cli.progress import Display, bar
from modelkeep_protocol import errors, methods

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from modelkeep.cli.output import Column, Output
    from modelkeep.cli.steady import Steady
    from modelkeep.connect import Connection

    Job = dict[str, Any]

POLL_S = 0.2
# ids a request and jobs an answer may hold
PAGE = 1000
FINAL = frozenset(("done", "failed", "quarantined", "canceled"))
RUNNING = frozenset(("resolving", "downloading", "verifying", "scanning", "placing"))
UNFINISHED = ("queued", *sorted(RUNNING), "waiting", "paused")
STATES = (*UNFINISHED, "done", "failed", "quarantined", "canceled")

COLUMNS: tuple[Column, ...] = (
    ("JOB", "id", "text"),
    ("STATE", "state", "state"),
    ("DONE", "share", "text"),
    ("SIZE", "size_bytes", "size"),
    ("NAME", "name", "wide"),
    ("REF", "ref", "spare"),
    ("NOTE", "note", "wide"),
)


def fetch(daemon: Connection | Steady, ids: list[int], states: Iterable[str] = ()) -> list[Job]:
    """All jobs with these ids, or in these states; in queue order."""
    jobs: list[Job] = []
    for start in range(0, len(ids) or 1, PAGE):
        after = 0
        while True:
            page = daemon.call(
                methods.TRANSFER_LIST,
                {
                    "ids": ids[start : start + PAGE],
                    "states": list(states),
                    "limit": PAGE,
                    "after_id": after,
                },
            )["jobs"]
            jobs += page
            if ids or len(page) < PAGE:
                break
            after = page[-1]["id"]
    return jobs


def rows(jobs: Iterable[Job]) -> list[Job]:
    """The jobs with what a table adds: the share that is done, and a note."""
    return [{**job, "share": _share(job), "note": note(job)} for job in jobs]


def _share(job: Job) -> str:
    if job["state"] == "done":
        return "100%"
    return f"{int(100 * job['done_bytes'] / job['size_bytes'])}%" if job["size_bytes"] else ""


def note(job: Job) -> str:
    """What else there is to know of a job: why it failed, what it warns of, how fast it is."""
    if job["error"]:
        return str(job["error"]["message"])
    if job["warning"]:
        return str(job["warning"])
    if job["state"] == "downloading" and job["rate_bytes_per_s"]:
        shown = text.rate(job["rate_bytes_per_s"])
        return shown if job["eta_s"] is None else f"{shown}, {text.duration(job['eta_s'])} left"
    return ""


def change_line(job: Job, out: Output) -> str:
    """A job's new state in one line; when it failed, what to do in a second one."""
    name = f"{'job ' + str(job['id']) if job['id'] else 'owned'} {text.safe(job['name'])}"
    if job["state"] == "done" and job["path"]:
        return f"{name}: {out.state('done')}, {text.safe(job['path'])}"
    why = note(job) if job["state"] not in RUNNING else ""
    line = f"{name}: {out.state(job['state'])}" + (f", {text.safe(why)}" if why else "")
    hint = job["error"].get("hint") if job["error"] else None
    return f"{line}\n  {text.safe(hint)}" if hint else line


def follow(
    look: Callable[[], list[Job]], out: Output, changed: Callable[[Job], None], display: Display
) -> list[Job]:
    """Look at jobs until all are in a final state; ``changed`` gets each job at each new state."""
    told: dict[int, str] = {}
    try:
        while True:
            jobs = look()
            for job in jobs:
                if told.get(job["id"]) != job["state"]:
                    told[job["id"]] = job["state"]
                    changed(job)
            if all(job["state"] in FINAL for job in jobs):
                return jobs
            display.show(_progress(jobs))
            time.sleep(POLL_S)
    finally:
        display.close()


def _progress(jobs: list[Job]) -> list[str]:
    """A line a running job, and one for all when there are several."""
    lines = []
    for job in jobs:
        if job["state"] in RUNNING:
            share = job["done_bytes"] / job["size_bytes"] if job["size_bytes"] else 0.0
            what = note(job) if job["state"] == "downloading" else job["state"]
            lines.append(
                f"{bar(share)} {text.size(job['size_bytes'])} {text.safe(job['name'])}  "
                + text.safe(what)
            )
    if len(jobs) > 1 or not lines:
        over = sum(job["state"] in FINAL for job in jobs)
        all_bytes = sum(job["size_bytes"] or 0 for job in jobs)
        done_bytes = sum(
            (job["size_bytes"] or 0) if job["state"] == "done" else job["done_bytes"]
            for job in jobs
        )
        rate = sum(job["rate_bytes_per_s"] for job in jobs if job["state"] in RUNNING)
        line = f"{bar(done_bytes / all_bytes if all_bytes else 0.0)} {over} of {len(jobs)} files"
        line += f", {text.size(done_bytes)} of {text.size(all_bytes)}"
        if rate:
            line += f", {text.rate(rate)}, {text.duration((all_bytes - done_bytes) / rate)} left"
        elif not lines:
            line += f", {', '.join(sorted({job['state'] for job in jobs} - FINAL))}"
        lines.append(line)
    return lines


def exit_code(results: list[str]) -> int:
    """The exit code for several things: an error code each, '' for those that went well."""
    failed = [code for code in results if code]
    if not failed:
        return errors.EXIT_OK
    if len(failed) < len(results):
        return errors.EXIT_SOME_FAILED
    codes = {errors.exit_code(code) for code in failed}
    return codes.pop() if len(codes) == 1 else errors.EXIT_FAILED


def result_of(job: Job) -> str:
    """The error code a finished job counts for; '' when it is done."""
    state = job["state"]
    if state == "done":
        return ""
    if state == "canceled":
        return errors.CONFLICT  # someone else canceled it: it failed, nobody pressed Ctrl-C here
    if state == "quarantined":
        return errors.INFECTED
    return str((job["error"] or {}).get("code", errors.INTERNAL))

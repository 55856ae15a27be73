"""``modelkeep get``: queue downloads; ``--wait`` follows them to the library."""

from __future__ import annotations

from modelkeep.cli import jobs, text
from modelkeep.cli.progress import Display
from modelkeep.cli.refs import folder, for_daemon
from modelkeep.cli.spec import FLAG, FOLDER, NUMBER, TEXT, Argument, Command, Option
from modelkeep.connect import Connection
from modelkeep_protocol import errors, methods
from modelkeep_protocol.errors import ModelkeepError

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Output

# resolving asks the hubs, for each reference
RESOLVE_S = 120.0


def run(args: dict[str, Any], out: Output) -> int:
    """Queue, say what was queued; or wait for it."""
    with Connection() as daemon:
        answer = daemon.call(
            methods.TRANSFER_GET,
            {
                "refs": [for_daemon(ref) for ref in args["ref"]],
                "file": args["file"] or "",
                "to": folder(args["to"]),
                "priority": args["priority"],
                "dry_run": args["dry_run"],
            },
            deadline_s=RESOLVE_S,
        )
        queued, problems = answer["jobs"], answer["errors"]
        if len(args["ref"]) == 1 and not queued and len(problems) == 1:
            problem = problems[0]
            raise ModelkeepError(problem["code"], problem["message"], problem.get("hint", ""))
        if not out.json:
            for problem in problems:
                out.problem(problem)
        if args["wait"] and not args["dry_run"]:
            return _wait(daemon, answer, out)
    if out.json:
        out.document(answer)
    else:
        _print(queued, answer["total_bytes"], args["dry_run"], out)
        if args["dry_run"]:
            _print_left_out(answer.get("left_out", []), out)
    return jobs.exit_code([p["code"] for p in problems] + [""] * len(queued))


def _print(queued: list[dict[str, Any]], total_bytes: int, dry_run: bool, out: Output) -> None:
    wanted = [job for job in queued if job["id"] or job["state"] != "done"]
    for job in queued:
        if job not in wanted and not out.quiet:
            out.note(f"{job['name']} is in the library already: {job['path']}")
    out.table(jobs.COLUMNS, jobs.rows(wanted))
    if dry_run:
        out.note(f"would download {text.counted(len(wanted), 'file')}, {text.size(total_bytes)}")
    elif wanted:
        out.note(f"queued {text.counted(len(wanted), 'file')}, {text.size(total_bytes)}")
        out.hint("follow: modelkeep queue watch")


def _print_left_out(left_out: list[dict[str, Any]], out: Output) -> None:
    for left in left_out:
        names = ", ".join(text.safe(name) for name in left["names"])
        more = ", …" if left["count"] > len(left["names"]) else ""
        size = text.size(left["size_bytes"])
        out.note(
            f"left out {text.counted(left['count'], 'file')}, {size}, {text.safe(left['why'])}: "
            f"{names}{more}"
        )


def _wait(daemon: Connection, answer: dict[str, Any], out: Output) -> int:
    from modelkeep.cli.steady import Steady  # most commands follow nothing

    queued, problems = answer["jobs"], answer["errors"]
    owned = [job for job in queued if not job["id"]]
    ids = [job["id"] for job in queued if job["id"]]
    display = Display(out)
    for job in owned:
        display.event(f"{text.safe(job['name'])} is in the library already: {_path(job)}")
    ended: list[dict[str, Any]] = []
    if ids:
        steady = Steady(daemon, display.event)
        try:
            ended = jobs.follow(
                lambda: jobs.fetch(steady, ids),
                out,
                lambda job: display.event(jobs.change_line(job, out)),
                display,
            )
        except KeyboardInterrupt:
            out.note("the download goes on in the daemon; modelkeep queue watch shows it")
            out.note(f"stop it: modelkeep queue cancel {' '.join(map(str, ids[:20]))}")
            return errors.EXIT_INTERRUPTED
        finally:
            steady.close()
    results = owned + ended
    if out.json:
        out.document({"jobs": results, "errors": problems, "total_bytes": answer["total_bytes"]})
    else:
        for job in results:
            if job["state"] == "done":
                out.line(_path(job))
    gone = [errors.NOT_FOUND] * (len(ids) - len(ended))
    return jobs.exit_code(
        [problem["code"] for problem in problems] + [jobs.result_of(job) for job in results] + gone
    )


def _path(job: dict[str, Any]) -> str:
    return text.safe(job["path"] or "")


VERBS = {
    "get": {
        "": Command(
            "get",
            "download models into the library",
            run,
            examples=(
                ("modelkeep get civitai:1102", "the newest version's primary file"),
                ("modelkeep get civitai:1102@1301 --wait", "one version, to its end"),
                ("modelkeep get hf:org/name --dry-run", "what of a repository would come"),
                ("modelkeep get 'hf:org/name#model-Q4_K_M.gguf'", "one file of a repository"),
                ("modelkeep get hf:org/name --file '*.safetensors' --to ./models", "by pattern"),
                ("modelkeep get civitai:1 civitai:2 --wait --json", "several, for a script"),
            ),
            arguments=(Argument("ref", "+", "what to get; modelkeep help refs", complete="refs"),),
            options=(
                Option(("--file",), TEXT, "files to take, by name or path (the model)",
                       metavar="PATTERN"),
                Option(("--to",), FOLDER, "where to (the library, by layout and type)",
                       metavar="DIR"),
                Option(("--priority",), NUMBER, "-100 to 100; higher goes first", metavar="N",
                       default=0),
                Option(("--dry-run",), FLAG, "say what would be downloaded"),
                Option(("--wait",), FLAG, "show progress and wait until all files are in place"),
            ),
            about=(
                "A file is in the library only after its size and hash were verified and it was "
                "scanned. Of a repository the model comes in one format, with its configurations; "
                "--dry-run tells what is left out. Waiting survives a restart of the daemon; "
                "Ctrl-C ends the waiting, not the download. Exit codes: 4 not found, 5 "
                "denied or gated, 6 some of several failed, 1 otherwise."
            ),
        )
    }
}  # fmt: skip

"""``modelkeep queue``: see and steer the downloads."""

from __future__ import annotations

from modelkeep import connect
from modelkeep.cli import jobs, text
from modelkeep.cli.confirm import confirm
from modelkeep.cli.parse import UsageError
from modelkeep.cli.progress import Display
from modelkeep.cli.spec import COUNT, FLAG, MANY, NUMBER, Argument, Command, Option
from modelkeep.connect import Connection
from modelkeep_protocol import errors, methods

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from modelkeep.cli.output import Output

# what a list without words shows: what is going on and what needs a person
_SHOWN = (*jobs.UNFINISHED, "failed", "quarantined")


def list_jobs(args: dict[str, Any], out: Output) -> int:
    """One page of jobs."""
    states = args["state"] or ([] if args["all"] or args["job"] else list(_SHOWN))
    page = connect.call(
        methods.TRANSFER_LIST,
        {
            "ids": args["job"],
            "states": states,
            "limit": args["limit"],
            "after_id": args["after"],
        },
    )
    if out.json:
        out.document(page)
        return errors.EXIT_OK
    listed = page["jobs"]
    out.table(jobs.COLUMNS, jobs.rows(listed))
    if not listed and not args["job"]:
        out.note("no such jobs" if args["state"] else "the queue is empty")
    elif page["total"] > len(listed):
        out.note(f"{len(listed):,} of {page['total']:,} jobs")
        out.hint(f"more: modelkeep queue list --after {listed[-1]['id']}")
    missing = set(args["job"]) - {job["id"] for job in listed}
    return _missing(missing, len(args["job"]), out)


def _missing(missing: set[int], asked: int, out: Output) -> int:
    for number in sorted(missing):
        out.problem({"message": f"there is no job {number}", "hint": ""})
    return jobs.exit_code([errors.NOT_FOUND] * len(missing) + [""] * (asked - len(missing)))


def watch(args: dict[str, Any], out: Output) -> int:
    """Follow jobs until none is left to follow."""
    from modelkeep.cli.steady import Steady  # most commands follow nothing

    display = Display(out)

    def changed(job: dict[str, Any]) -> None:
        if out.json:
            out.json_line(job)
        elif out.is_terminal:
            display.event(jobs.change_line(job, out))
        else:
            out.fields(job["id"], job["state"], job["name"], job["path"], jobs.note(job))
            out.stdout.flush()

    daemon = Steady(Connection(), display.event)
    ids: list[int] = list(args["job"])

    def look() -> list[dict[str, Any]]:
        if args["job"]:
            return jobs.fetch(daemon, ids)
        # jobs that come meanwhile are followed as well; those seen once, to their end
        seen = set(ids)
        active = jobs.fetch(daemon, [], jobs.UNFINISHED)
        ids.extend(job["id"] for job in active if job["id"] not in seen)
        gone = seen - {job["id"] for job in active}
        return (jobs.fetch(daemon, sorted(gone)) if gone else []) + active

    try:
        ended = jobs.follow(look, out, changed, display)
    except KeyboardInterrupt:
        out.note("the downloads go on in the daemon")
        return errors.EXIT_INTERRUPTED
    finally:
        daemon.close()
    if not ended and not args["job"]:
        out.note("nothing is being downloaded")
    missing = set(args["job"]) - {job["id"] for job in ended}
    return _missing(missing, len(args["job"]), out)


def _steer(method: str, done: str, asks: str = "") -> Callable[[dict[str, Any], Output], int]:
    """A verb that does one thing to the jobs that are named, or to all."""

    def run(args: dict[str, Any], out: Output) -> int:
        if bool(args["job"]) == args["all"]:
            raise UsageError(
                "name the jobs, or say --all", "modelkeep queue lists the jobs and their numbers"
            )
        if asks and args["all"] and not args["yes"]:
            confirm(asks, out)
        page = connect.call(method, {"ids": args["job"], "all": args["all"]})
        return _steered(page, args["job"], done, out)

    return run


def _steered(page: dict[str, Any], ids: list[int], done: str, out: Output) -> int:
    if out.json:
        out.document(page)
    else:
        out.table(jobs.COLUMNS, jobs.rows(page["jobs"]))
        out.note(f"{text.counted(len(page['jobs']), 'job')} {done}")
    if not ids:
        return errors.EXIT_OK
    missing = set(ids) - {job["id"] for job in page["jobs"]}
    return _missing(missing, len(set(ids)), out)


def move(args: dict[str, Any], out: Output) -> int:
    """Set the priority."""
    page = connect.call(methods.TRANSFER_MOVE, {"ids": args["job"], "priority": args["priority"]})
    return _steered(page, args["job"], f"moved to priority {args['priority']}", out)


_JOBS = Argument("job", "*", "numbers of jobs", kind=COUNT, metavar="JOB", complete="jobs")
_ALL = Option(("--all",), FLAG, "all jobs it makes sense for")

VERBS = {
    "queue": {
        "list": Command(
            "queue list",
            "the jobs: what is going on, and what needs you",
            list_jobs,
            examples=(
                ("modelkeep queue", "what is going on"),
                ("modelkeep queue --state failed", "why something failed"),
                ("modelkeep queue list --all --json", "finished ones too, for a script"),
            ),
            arguments=(_JOBS,),
            options=(
                Option(("--state",), MANY, "only jobs in this state; may be repeated",
                       metavar="STATE", choices=jobs.STATES),
                Option(("--all",), FLAG, "finished and canceled jobs too"),
                Option(("--limit",), COUNT, "how many to list (100)", metavar="N", default=100),
                Option(("--after",), COUNT, "those that follow this job", metavar="JOB",
                       default=0),
            ),
        ),
        "watch": Command(
            "queue watch",
            "follow the downloads to their end",
            watch,
            examples=(
                ("modelkeep queue watch", "all that is going on"),
                ("modelkeep queue watch 12 13", "two jobs"),
                ("modelkeep queue watch --json", "a JSON line for each change of state"),
            ),
            arguments=(_JOBS,),
            about="Goes on over a restart of the daemon. Ctrl-C ends it; the downloads go on.",
        ),
        "pause": Command(
            "queue pause",
            "pause jobs; they keep what they have",
            _steer(methods.TRANSFER_PAUSE, "paused"),
            examples=(("modelkeep queue pause 12", "one job"),
                      ("modelkeep queue pause --all", "everything")),
            arguments=(_JOBS,),
            options=(_ALL,),
        ),
        "resume": Command(
            "queue resume",
            "let paused jobs go on",
            _steer(methods.TRANSFER_RESUME, "resumed"),
            examples=(("modelkeep queue resume 12", "one job"),
                      ("modelkeep queue resume --all", "everything that is paused")),
            arguments=(_JOBS,),
            options=(_ALL,),
        ),
        "cancel": Command(
            "queue cancel",
            "cancel jobs and drop what they have fetched",
            _steer(methods.TRANSFER_CANCEL, "canceled", "cancel all jobs and drop their parts"),
            examples=(("modelkeep queue cancel 12 13", "two jobs"),
                      ("modelkeep queue cancel --all --yes", "everything, without asking")),
            arguments=(_JOBS,),
            options=(_ALL, Option(("-y", "--yes"), FLAG, "don't ask")),
        ),
        "retry": Command(
            "queue retry",
            "try failed jobs again",
            _steer(methods.TRANSFER_RETRY, "queued again"),
            examples=(("modelkeep queue retry 12", "one job"),
                      ("modelkeep queue retry --all", "everything that failed")),
            arguments=(_JOBS,),
            options=(_ALL,),
        ),
        "move": Command(
            "queue move",
            "change the order: set the priority of jobs",
            move,
            examples=(("modelkeep queue move 12 --priority 10", "before the others"),
                      ("modelkeep queue move 12 --priority -10", "after the others")),
            arguments=(Argument("job", "+", "numbers of jobs", kind=COUNT, metavar="JOB",
                                complete="jobs"),),
            options=(Option(("--priority",), NUMBER, "-100 to 100; higher goes first (1)",
                            metavar="N", default=1),),
        ),
    }
}  # fmt: skip

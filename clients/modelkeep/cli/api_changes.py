"""``modelkeep api-changes``: how the hubs' APIs changed, and what follows from it."""

from __future__ import annotations

from modelkeep import connect
from modelkeep.cli import text
from modelkeep.cli.spec import COUNT, TEXT, Argument, Command, Option
from modelkeep_protocol import methods

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Column, Output

CHANGES: tuple[Column, ...] = (
    ("ID", "id", "count"),
    ("WHEN", "at_ms", "time"),
    ("HUB", "hub", "text"),
    ("ENDPOINT", "operation", "text"),
    ("SEVERITY", "severity", "text"),
    ("CHANGE", "kind", "text"),
    ("WHERE", "path", "wide"),
)
ENDPOINTS: tuple[Column, ...] = (
    ("HUB", "hub", "text"),
    ("ENDPOINT", "operation", "text"),
    ("VERSION", "version", "count"),
    ("SINCE", "since_ms", "time"),
    ("LAST", "last_ms", "time"),
    ("ANSWERS", "documents", "count"),
    ("PAUSED", "paused", "wide"),
)
SEVERITIES = ("harmless", "adopted", "degraded", "breaking")


def list_changes(args: dict[str, Any], out: Output) -> int:
    """The newest changes."""
    page = connect.call(
        methods.API_CHANGES,
        {
            "hub": args["hub"] or "",
            "severity": args["severity"] or "",
            "limit": args["limit"],
            "before_id": args["before"] or 0,
        },
    )
    if out.json:
        out.document(page)
        return 0
    _print(page["items"], out)
    if not page["items"]:
        out.note("no change of a hub's API was seen")
    elif len(page["items"]) < page["total"]:
        out.note(f"{len(page['items']):,} of {page['total']:,} changes")
        out.hint(f"older: the same with --before {page['items'][-1]['id']}")
    return 0


def endpoints(args: dict[str, Any], out: Output) -> int:
    """What is known of each endpoint."""
    page = connect.call(methods.API_ENDPOINTS, {})
    if out.json:
        out.document(page)
        return 0
    _endpoints(page["items"], out)
    return 0


def diff(args: dict[str, Any], out: Output) -> int:
    """Two versions of an endpoint's answers."""
    page = connect.call(
        methods.API_DIFF,
        {
            "hub": args["hub"],
            "operation": args["endpoint"],
            "from_version": args["from"] or 0,
            "to_version": args["to"] or 0,
        },
    )
    if out.json:
        out.document(page)
        return 0
    _print(page["items"], out)
    if not page["items"]:
        out.note("these two versions do not differ")
    return 0


def accept(args: dict[str, Any], out: Output) -> int:
    """A person has seen a change."""
    change = connect.call(methods.API_ACCEPT, {"id": args["id"]})
    if out.json:
        out.document(change)
    else:
        _print([change], out)
    return 0


def resume(args: dict[str, Any], out: Output) -> int:
    """Ask a paused endpoint again."""
    page = connect.call(methods.API_RESUME, {"hub": args["hub"], "operation": args["endpoint"]})
    if out.json:
        out.document(page)
    else:
        _endpoints(page["items"], out)
    return 0


def _print(changes: list[dict[str, Any]], out: Output) -> None:
    out.table(CHANGES, changes)
    if out.quiet or not out.is_terminal:
        return
    for change in changes:
        if change["severity"] == "harmless" and not out.verbose:
            continue
        out.line()
        out.line(out.style(f"{change['id']}  {text.safe(change['path'])}", "bold"))
        for name in ("before", "after", "example"):
            if change[name] not in (None, "", []):
                shown = text.safe(str(change[name]))
                out.line(f"  {text.pad(name, 8)} {text.cut(shown, out.columns - 12)}")
        out.line(f"  {text.safe(change['suggestion'])}")


def _endpoints(items: list[dict[str, Any]], out: Output) -> None:
    out.table(ENDPOINTS, items)
    if not items:
        out.note("no hub has been asked yet")


_HUB = Argument("hub", "1", "the hub", complete="hubs")
_ENDPOINT = Argument("endpoint", "1", "the endpoint's name, as `endpoints` lists it")

VERBS = {
    "api-changes": {
        "list": Command(
            "api-changes list",
            "changes of the hubs' APIs",
            list_changes,
            examples=(
                ("modelkeep api-changes", "all, the newest first"),
                ("modelkeep api-changes list civitai --severity breaking", "what stopped work"),
            ),
            arguments=(Argument("hub", "?", "the hub; all when none is named", complete="hubs"),),
            options=(
                Option(("--severity",), TEXT, "only these", metavar="WORD", choices=SEVERITIES),
                Option(("--limit",), COUNT, "how many to list (50)", metavar="N", default=50),
                Option(("--before",), COUNT, "those before this change", metavar="ID"),
            ),
            about=(
                "harmless: noted. adopted: a new value that is used from now on. degraded: a field "
                "that is read is gone, the raw documents stay. breaking: the endpoint is paused "
                "instead of taking in what is not understood."
            ),
        ),
        "endpoints": Command(
            "api-changes endpoints",
            "what is known of the hubs' endpoints",
            endpoints,
            examples=(("modelkeep api-changes endpoints", "versions, and which are paused"),),
        ),
        "diff": Command(
            "api-changes diff",
            "the difference between two versions of an endpoint's answers",
            diff,
            examples=(
                ("modelkeep api-changes diff civitai list", "the newest against the one before"),
                ("modelkeep api-changes diff civitai list --from 1 --to 4", "others"),
            ),
            arguments=(_HUB, _ENDPOINT),
            options=(
                Option(("--from",), COUNT, "the older version", metavar="N"),
                Option(("--to",), COUNT, "the newer version", metavar="N"),
            ),
        ),
        "accept": Command(
            "api-changes accept",
            "mark a change as seen",
            accept,
            examples=(("modelkeep api-changes accept 12", "seen"),),
            arguments=(Argument("id", "1", "the change's id", kind=COUNT),),
        ),
        "resume": Command(
            "api-changes resume",
            "ask a paused endpoint again",
            resume,
            examples=(("modelkeep api-changes resume civitai list", "try it"),),
            arguments=(_HUB, _ENDPOINT),
            about="A paused endpoint is also tried now and then by itself.",
        ),
    }
}

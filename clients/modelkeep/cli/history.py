"""``modelkeep history``: how a model changed, the newest first."""

from __future__ import annotations

from modelkeep import connect
from modelkeep.cli import text
from modelkeep.cli.refs import for_daemon
from modelkeep.cli.spec import COUNT, FLAG, Argument, Command, Option
from modelkeep_protocol import methods

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Output

# a value of a change in a terminal, before `-v`
_VALUE_COLUMNS = 60
_DATES = frozenset(("published", "updated"))


def run(args: dict[str, Any], out: Output) -> int:
    """Ask and print."""
    page = connect.call(
        methods.CATALOG_HISTORY,
        {
            "ref": for_daemon(args["ref"]),
            "limit": args["limit"],
            "before_ms": args["before"],
            "statistics": args["statistics"],
        },
    )
    if out.json:
        out.document(page)
        return 0
    day = ""
    for change in page["items"]:
        if not out.is_terminal:
            out.fields(
                text.stamp(change["at_ms"]), change["kind"], change["version"], change["what"],
                _value(change["before"]), _value(change["after"]),
            )  # fmt: skip
            continue
        if (at := text.moment(change["at_ms"])[:16]) != day:
            day = at
            out.line(out.style(at, "bold"))
        out.line(_line(change, out))
    if out.is_terminal and not args["statistics"] and not out.quiet:
        for counter in page["statistics"]:
            if counter["before"] != counter["after"]:
                out.note(
                    f"{counter['name']}: {text.count(counter['before'])} → "
                    f"{text.count(counter['after'])} since {text.day(counter['since_ms'])}"
                )
    if page["damaged"]:
        out.warn("what is older is damaged and can't be read; what is shown is whole")
    if not page["items"] and not page["more"]:
        out.note(f"{page['ref']} has not changed since it is in the catalog")
    elif page["more"]:
        out.hint(f"older: the same with --before {page['next_before_ms']}")
    return 0


def _line(change: dict[str, Any], out: Output) -> str:
    line = f"  {text.pad(text.safe(change['kind']), 10)}  "
    if change["version"]:
        line += f"{out.style(text.safe(change['version']), 'dim')}  "
    line += text.safe(change["what"])
    read = _date if change["what"] in _DATES else _value
    before, after = read(change["before"]), read(change["after"])
    if not out.verbose:
        before, after = text.cut(before, _VALUE_COLUMNS), text.cut(after, _VALUE_COLUMNS)
    if before and after:
        line += f": {text.safe(before)} → {text.safe(after)}"
    elif after:
        line += f": {out.style('+', 'green')} {text.safe(after)}"
    elif before:
        line += f": {out.style('-', 'red')} {text.safe(before)}"
    return line


def _date(value: Any) -> str:
    return text.moment(value) if isinstance(value, int) else _value(value)


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict) and "size_bytes" in value:
        return _file(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    from modelkeep.cli.output import dump_json

    return dump_json(value)


def _file(value: dict[str, Any]) -> str:
    """A file as people tell one from another: its name, size and the beginning of its hash."""
    size_bytes = value["size_bytes"]
    parts = [str(value.get("name") or ""), text.size(size_bytes) if size_bytes else ""]
    if value.get("sha256"):
        parts.append(f"sha256 {str(value['sha256'])[:12]}")
    elif value.get("git_sha1"):
        parts.append(f"git {str(value['git_sha1'])[:12]}")
    return ", ".join(part for part in parts if part)


VERBS = {
    "history": {
        "": Command(
            "history",
            "how a model changed",
            run,
            examples=(
                ("modelkeep history civitai:1102", "what changed, and when it was seen"),
                ("modelkeep history civitai:1102 --statistics", "downloads and likes too"),
                ("modelkeep history hf:org/name --json", "for a script"),
            ),
            arguments=(Argument("ref", "1", "a reference or a path", complete="refs"),),
            options=(
                Option(("--statistics",), FLAG, "changes of counters too"),
                Option(("--limit",), COUNT, "how many to list (50)", metavar="N", default=50),
                Option(("--before",), COUNT, "those seen before this time", metavar="MS"),
            ),
            about=(
                "Every change that a sync saw is kept: licence, trigger words, a file replaced "
                "under the same version, renames, takedowns. The dates are those of the syncs."
            ),
        )
    }
}

"""``modelkeep library``: the files on disk and the watched folders."""

from __future__ import annotations

from modelkeep import connect
from modelkeep.cli import text
from modelkeep.cli.refs import folder
from modelkeep.cli.spec import COUNT, FOLDER, TEXT, Argument, Command, Option
from modelkeep_protocol import methods

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Column, Output

FILES: tuple[Column, ...] = (
    ("PATH", "path", "wide"),
    ("SIZE", "size_bytes", "size"),
    ("STATE", "state", "state"),
    ("SCAN", "verdict", "text"),
    ("REF", "ref", "text"),
    ("NAME", "name", "wide"),
)
# a pipe gets what a script needs before what a person likes to see
FILES_PIPED: tuple[Column, ...] = (
    ("PATH", "path", "text"),
    ("SIZE", "size_bytes", "size"),
    ("STATE", "state", "state"),
    ("SHA256", "sha256", "text"),
    ("REF", "ref", "text"),
    ("SCAN", "verdict", "text"),
)
ROOTS: tuple[Column, ...] = (
    ("FOLDER", "path", "wide"),
    ("LAYOUT", "layout", "text"),
    ("STATE", "state", "state"),
    ("FILES", "files", "count"),
    ("SIZE", "size_bytes", "size"),
    ("WATCHING", "watching", "text"),
)
SCANNED: tuple[Column, ...] = (
    ("FOLDER", "path", "wide"),
    ("SEEN", "seen", "count"),
    ("NEW", "new", "count"),
    ("CHANGED", "changed", "count"),
    ("MOVED", "moved", "count"),
    ("GONE", "gone", "count"),
    ("SKIPPED", "left_out", "count"),
)
# a walk of a large folder on a slow disk
SCAN_S = 3600.0


def list_files(args: dict[str, Any], out: Output) -> int:
    """One page of files."""
    page = connect.call(
        methods.LIBRARY_LIST,
        {
            "text": args["text"] or "",
            "state": args["state"] or "",
            "root": folder(args["root"]),
            "limit": args["limit"],
            "after": folder(args["after"]),
        },
    )
    if out.json:
        out.document(page)
        return 0
    items = page["items"]
    out.table(FILES if out.is_terminal else FILES_PIPED, items)
    if not page["total"]:
        out.note("no files are known" if not args["text"] else "no such files")
        out.hint("watch a folder: modelkeep library add DIR")
    elif len(items) < page["total"]:
        out.note(f"{len(items):,} of {page['total']:,} files")
        if items:
            out.hint(f"more: the same with --after {text.safe(items[-1]['path'])}")
    return 0


def roots(args: dict[str, Any], out: Output) -> int:
    """The watched folders."""
    return _print_roots(connect.call(methods.LIBRARY_ROOTS, {}), out)


def add(args: dict[str, Any], out: Output) -> int:
    """Watch a folder."""
    page = connect.call(
        methods.LIBRARY_ADD, {"path": folder(args["dir"]), "layout": args["layout"]}
    )
    code = _print_roots(page, out)
    out.hint("see what is in it: modelkeep library list; as it is read: modelkeep events")
    return code


def remove(args: dict[str, Any], out: Output) -> int:
    """Stop watching; the files stay."""
    page = connect.call(methods.LIBRARY_REMOVE, {"path": folder(args["dir"])})
    code = _print_roots(page, out)
    out.note("the folder is no longer watched; its files are where they were")
    return code


def _print_roots(page: dict[str, Any], out: Output) -> int:
    if out.json:
        out.document(page)
        return 0
    out.table(ROOTS, page["items"])
    for root in page["items"]:
        if root["warning"]:
            out.warn(f"{root['path']}: {root['warning']}")
    if not page["items"]:
        out.note("no folder is watched")
        out.hint("watch one: modelkeep library add DIR")
    return 0


def scan(args: dict[str, Any], out: Output) -> int:
    """Walk the folders now."""
    result = connect.call(methods.LIBRARY_SCAN, {"path": folder(args["dir"])}, deadline_s=SCAN_S)
    if out.json:
        out.document(result)
        return 0
    items = [{**item, "left_out": sum(item["skipped"].values())} for item in result["items"]]
    out.table(SCANNED, items)
    for item in items:
        for why, number in item["skipped"].items():
            out.note(f"{item['path']}: {number:,} skipped, {why}")
    return 0


_DIR = Argument("dir", "1", "the folder", kind=FOLDER, complete="folder")

VERBS = {
    "library": {
        "list": Command(
            "library list",
            "the model files on disk",
            list_files,
            examples=(
                ("modelkeep library", "all files"),
                ("modelkeep library list detail --state present", "by a part of the path"),
                ("modelkeep library list --root ~/ComfyUI/models --json", "one folder"),
            ),
            arguments=(Argument("text", "?", "a part of the path"),),
            options=(
                Option(("--state",), TEXT, "only files in this state", metavar="STATE"),
                Option(("--root",), FOLDER, "only below this folder", metavar="DIR"),
                Option(("--limit",), COUNT, "how many to list (100)", metavar="N", default=100),
                Option(("--after",), FOLDER, "those that follow this path", metavar="PATH"),
            ),
        ),
        "roots": Command(
            "library roots",
            "the watched folders",
            roots,
            examples=(("modelkeep library roots", "folders, their layout and state"),),
        ),
        "add": Command(
            "library add",
            "watch a folder",
            add,
            examples=(
                ("modelkeep library add ~/ComfyUI/models", "its layout is recognized"),
                ("modelkeep library add /data/loras --layout flat", "or said"),
            ),
            arguments=(_DIR,),
            options=(
                Option(("--layout",), TEXT, "comfyui, forge, flat … (auto)", metavar="LAYOUT",
                       default="auto"),
            ),
            about="Nothing in the folder is changed.",
        ),
        "remove": Command(
            "library remove",
            "stop watching a folder; its files stay",
            remove,
            examples=(("modelkeep library remove /data/loras", "forget the folder"),),
            arguments=(Argument("dir", "1", "the folder", kind=FOLDER, complete="roots"),),
        ),
        "scan": Command(
            "library scan",
            "walk the watched folders now",
            scan,
            examples=(
                ("modelkeep library scan", "all of them"),
                ("modelkeep library scan /data/loras", "one of them"),
            ),
            arguments=(Argument("dir", "?", "the folder", kind=FOLDER, complete="roots"),),
            about="Rarely needed: folders are watched, and walked after start and overflow.",
        ),
    }
}  # fmt: skip

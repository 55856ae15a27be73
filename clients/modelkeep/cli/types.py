"""``modelkeep types``: the known types and base models, and guesses for files without any."""

from __future__ import annotations

from modelkeep import connect
from modelkeep.cli import text
from modelkeep.cli.parse import UsageError
from modelkeep.cli.refs import folder
from modelkeep.cli.spec import FOLDER, TEXT, Argument, Command, Option
from modelkeep_protocol import methods

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Column, Output

COLUMNS: tuple[Column, ...] = (
    ("KIND", "kind", "text"),
    ("NAME", "name", "text"),
    ("FOLDER", "folder", "text"),
    ("KNOWN", "is_known", "yes"),
    ("ALSO", "synonyms", "spare"),
    ("ABOUT", "about", "wide"),
)
KINDS = ("type", "base")


def list_kinds(args: dict[str, Any], out: Output) -> int:
    """All that match."""
    page = connect.call(
        methods.KINDS_LIST, {"kind": args["kind"] or "", "text": args["text"] or ""}
    )
    if out.json:
        out.document(page)
        return 0
    out.table(COLUMNS, page["items"])
    if not page["items"]:
        out.note("no such type or base model")
    return 0


def guess(args: dict[str, Any], out: Output) -> int:
    """What a file may be."""
    return _print(connect.call(methods.KINDS_GUESS, {"path": folder(args["file"])}), out)


def confirm(args: dict[str, Any], out: Output) -> int:
    """What a file really is."""
    if not (args["type"] or args["base"]):
        raise UsageError(
            "nothing is confirmed", "say what it is: --type LORA, --base 'SDXL 1.0', or both"
        )
    params = {
        "path": folder(args["file"]),
        "type": args["type"] or "",
        "base": args["base"] or "",
    }
    return _print(connect.call(methods.KINDS_CONFIRM, params), out, is_said=True)


def _print(answer: dict[str, Any], out: Output, *, is_said: bool = False) -> int:
    if out.json:
        out.document(answer)
        return 0
    for item in answer["items"]:
        if not out.is_terminal:
            out.fields(item["kind"], item["name"], round(item["confidence"], 3))
            continue
        share = f"{item['confidence'] * 100:3.0f} %"
        out.line(
            f"{text.pad(item['kind'], 5)} {share}  {out.style(text.safe(item['name']), 'bold')}"
        )
        for reason in item["reasons"]:
            out.line(f"             {text.safe(reason)}")
    if not answer["items"]:
        out.note("nothing about this file tells what it is")
    if not is_said:
        out.hint("say what it is: modelkeep types confirm FILE --type TYPE --base BASE")
    return 0


_FILE = Argument("file", "1", "a model file", kind=FOLDER, complete="folder")

VERBS = {
    "types": {
        "list": Command(
            "types list",
            "known types and base models",
            list_kinds,
            examples=(
                ("modelkeep types", "all of them"),
                ("modelkeep types list flux --kind base", "base models with flux in a name"),
            ),
            arguments=(Argument("text", "?", "a part of a name or synonym"),),
            options=(
                Option(("--kind",), TEXT, "types or base models", metavar="KIND", choices=KINDS),
            ),
        ),
        "guess": Command(
            "types guess",
            "what a file may be",
            guess,
            examples=(("modelkeep types guess ./unknown.safetensors", "with the reasons"),),
            arguments=(_FILE,),
        ),
        "confirm": Command(
            "types confirm",
            "say what a file is; later guesses learn from it",
            confirm,
            examples=(
                ("modelkeep types confirm ./unknown.safetensors --type LORA", "its type"),
                ("modelkeep types confirm ./x.safetensors --base 'Flux.1 D'", "its base model"),
            ),
            arguments=(_FILE,),
            options=(
                Option(("--type",), TEXT, "the type", metavar="TYPE", complete="types"),
                Option(("--base",), TEXT, "the base model", metavar="BASE", complete="bases"),
            ),
        ),
    }
}

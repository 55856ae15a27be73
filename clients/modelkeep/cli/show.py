"""``modelkeep show``."""

from __future__ import annotations

from modelkeep import connect
from modelkeep.cli import text
from modelkeep.cli.refs import for_daemon
from modelkeep.cli.spec import FLAG, Argument, Command, Option
from modelkeep_protocol import methods

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Output

# what a terminal shows of a description before `-v`
_DESCRIPTION_LINES = 12
_VERSIONS = 10


def run(args: dict[str, Any], out: Output) -> int:
    """Ask and print."""
    model = connect.call(
        methods.CATALOG_SHOW,
        {"ref": for_daemon(args["ref"]), "raw": args["raw"], "fresh": args["fresh"]},
    )
    if out.json:
        out.document(model)
        return 0
    if out.quiet:
        out.fields(model["ref"])
        return 0
    if args["raw"]:
        out.document(model.get("raw"))
        return 0
    for name, shown in _fields(model):
        out.line(
            f"{out.style(text.pad(name, 12), 'dim')} {shown}"
            if out.is_terminal
            else f"{name}\t{shown}"
        )
    _versions(model["versions"], out)
    _description(model["description"], out)
    if model.get("stale"):
        why = f": {model['stale_why']}" if model.get("stale_why") else ""
        out.warn(f"the files' facts are {text.duration(model['age_s'])} old{why}")
    if not model["owned"]:
        out.hint(f"download it: modelkeep get {text.safe(model['ref'])}")
    return 0


def _fields(model: dict[str, Any]) -> list[tuple[str, str]]:
    asked: list[tuple[str, object]] = [
        ("ref", model["ref"]),
        ("name", model["name"]),
        ("type", model["type"]),
        ("base model", ", ".join(model["base_models"])),
        ("creator", model["creator"]),
        ("tags", ", ".join(model["tags"])),
        ("downloads", text.count(model["downloads"])),
        ("likes", text.count(model["likes"])),
        ("nsfw level", model["nsfw_level"]),
        ("commercial", {True: "yes", False: "no", None: "unknown"}[model["commercial"]]),
        ("license", model.get("license")),
        ("memory", f"about {model['memory_gb']:g} GB" if model.get("memory_gb") else None),
        ("access", _access(model)),
        ("revision", model.get("revision")),
        ("published", text.day(model["published_ms"])),
        ("updated", text.day(model["updated_ms"])),
        ("on the hub", _on_hub(model)),
        ("owned", "yes" if model["owned"] else "no"),
        ("page", model["url"]),
    ]
    if model.get("revisions"):
        asked.append(("revisions", model["revisions"]))
    return [(name, text.safe(str(v))) for name, v in asked if v not in (None, "", "?")]


def _access(model: dict[str, Any]) -> str | None:
    """How content is come by, where it is not free."""
    return {
        None: None,
        "auto": "gated: agree to the conditions on its page",
        "manual": "gated: ask for access on its page",
    }.get(model.get("gated"), f"gated: {model.get('gated')}")


def _on_hub(model: dict[str, Any]) -> str:
    state: str = model["hub_state"]
    return f"{state} since {text.day(model['gone_ms'])}" if model.get("gone_ms") else state


def _versions(versions: list[dict[str, Any]], out: Output) -> None:
    shown = versions if out.verbose or not out.is_terminal else versions[:_VERSIONS]
    for version in shown:
        if not out.is_terminal:
            out.fields("version", version["ref"], version["name"], version["base_model"])
            for file in version["files"]:
                out.fields(
                    "file", file["ref"], file["name"], file["size_bytes"], file["sha256"],
                    file["owned_path"],
                )  # fmt: skip
            continue
        out.line()
        about = [text.safe(version["base_model"] or ""), text.day(version["published_ms"])]
        if version["availability"] not in (None, "Public"):
            about.append(text.safe(version["availability"]))
        out.line(
            f"{out.style(text.safe(version['name']), 'bold')}  {text.safe(version['ref'])}  "
            + "  ".join(part for part in about if part)
        )
        if version["trained_words"]:
            out.line(f"  words: {text.safe(', '.join(version['trained_words']))}")
        for file in version["files"]:
            out.line(_file(file, out))
    if len(shown) < len(versions):
        older = text.counted(len(versions) - len(shown), "older version")
        out.note(f"{older}: modelkeep show -v")


def _file(file: dict[str, Any], out: Output) -> str:
    mark = "*" if file["primary"] else " "
    line = f"  {mark} {text.pad(text.size(file['size_bytes']), 8, right=True)}  "
    line += f"{text.safe(file['name'])}  {out.style(text.safe(file['kind']), 'dim')}"
    if out.verbose and file["sha256"]:
        line += f"\n      sha256:{text.safe(file['sha256'])}"
    if file["owned_path"]:
        line += f"\n      {out.style('have', 'green')} {text.safe(file['owned_path'])}"
    return line


def _description(description: str, out: Output) -> None:
    lines = text.safe_lines(description.strip()).split("\n") if description.strip() else []
    if not lines:
        return
    if not out.is_terminal:
        out.fields("description", description.strip())
        return
    out.line()
    kept = lines if out.verbose else lines[:_DESCRIPTION_LINES]
    for line in kept:
        out.line(line if out.verbose else text.cut(line, 4 * out.columns))
    if len(kept) < len(lines):
        out.note(f"… {text.counted(len(lines) - len(kept), 'more line')}: modelkeep show -v")


VERBS = {
    "show": {
        "": Command(
            "show",
            "everything known of one model",
            run,
            examples=(
                ("modelkeep show civitai:1102", "a model"),
                ("modelkeep show civitai:1102@1301", "one version of it"),
                ("modelkeep show ./some-lora.safetensors", "the model a file belongs to"),
                ("modelkeep show sha256:HEX --json", "by hash, for a script"),
                ("modelkeep show civitai:1102 --raw", "the hub's own document"),
            ),
            arguments=(Argument("ref", "1", "what to show; modelkeep help refs", complete="refs"),),
            options=(
                Option(("--raw",), FLAG, "the document as the hub sent it"),
                Option(("--fresh",), FLAG, "ask the hub now, however young the answer is"),
            ),
            about=(
                "Answered from the catalog, without the hub. Of Hugging Face the sizes and hashes "
                "of the files are asked for when they are missing or older than ten minutes; when "
                "the hub is down, the last answer is shown with its age."
            ),
        )
    }
}

"""``modelkeep completion SHELL``, and the hidden command its scripts ask for live values."""

from __future__ import annotations

import os

from modelkeep import connect
from modelkeep.cli.spec import Argument, Command
from modelkeep_protocol import errors, methods
from modelkeep_protocol.errors import ModelkeepError

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Output

SCRIPTS = {"bash": "modelkeep.bash", "zsh": "_modelkeep", "fish": "modelkeep.fish"}
# nobody waits longer for a TAB
LIVE_S = 0.4
LIMIT = 100
# fields of a query and the kind of their values
_QUERY_FIELDS = {
    "tag:": "tags",
    "type:": "types",
    "base:": "bases",
    "creator:": "creators",
    "hub:": "",
    "nsfw:": "",
    "downloads:": "",
    "size:": "",
    "updated:": "",
    "commercial:": "",
    "owned:": "",
    "supported:": "",
    "topic:": "",
    "family:": "",
}
_TOPICS = ("style", "concept", "pose", "character", "clothing", "background")
_FIXED = {
    "hub:": ("civitai", "huggingface"),
    "commercial:": ("yes", "no"),
    "owned:": ("yes", "no"),
    "supported:": ("yes", "no"),
    "topic:": _TOPICS,
}
_HUBS = ("civitai", "huggingface")


def script_path(shell: str) -> str:
    """Where the packaged script is."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return f"{package}/completion/{SCRIPTS[shell]}"


def run(args: dict[str, Any], out: Output) -> int:
    """Print the script."""
    path = script_path(args["shell"])
    try:
        with open(path, encoding="utf-8") as file:
            script = file.read()
    except OSError as exc:
        raise ModelkeepError(
            errors.INTERNAL,
            f"the script {path} can't be read: {exc.strerror}",
            "the installation is incomplete; install modelkeep again",
        ) from None
    if out.json:
        out.document({"shell": args["shell"], "script": script})
    else:
        out.stdout.write(script)
    return errors.EXIT_OK


def complete(args: dict[str, Any], out: Output) -> int:
    """Values that begin with the prefix, one a line. Never fails and never takes long."""
    try:
        values = _live(args["kind"], args["prefix"] or "")
    except ModelkeepError:
        values = []
    for value in values:
        if value.isprintable():
            out.line(value)
    return errors.EXIT_OK


def _live(kind: str, prefix: str) -> list[str]:
    if kind == "hubs":
        return [hub for hub in _HUBS if hub.startswith(prefix)]
    if kind == "query":
        dash = "-" if prefix.startswith("-") else ""
        field, colon, value = prefix[len(dash) :].partition(":")
        field += colon
        if not colon:
            return [dash + name for name in _QUERY_FIELDS if name.startswith(field)]
        if field in _FIXED:
            return [dash + field + v for v in _FIXED[field] if v.startswith(value)]
        if not _QUERY_FIELDS.get(field):
            return []
        found = _ask(_QUERY_FIELDS[field], value.lstrip('"'))
        return [dash + field + (f'"{v}"' if " " in v else v) for v in found]
    return _ask(kind, prefix)


def _ask(kind: str, prefix: str) -> list[str]:
    with connect.Connection(deadline_s=LIVE_S) as daemon:
        answer = daemon.call(
            methods.CATALOG_COMPLETE,
            {"kind": kind, "prefix": prefix[:200], "limit": LIMIT},
            deadline_s=LIVE_S,
        )
    items: list[str] = answer["items"]
    return items


VERBS = {
    "completion": {
        "": Command(
            "completion",
            "the completion script of a shell",
            run,
            examples=(
                ('eval "$(modelkeep completion bash)"', "in ~/.bashrc"),
                ('modelkeep completion zsh > "${fpath[1]}/_modelkeep"', "once"),
                ("modelkeep completion fish > ~/.config/fish/completions/modelkeep.fish", "once"),
            ),
            arguments=(Argument("shell", "1", "the shell", choices=tuple(SCRIPTS)),),
        )
    },
    "__complete": {
        "": Command(
            "__complete",
            "values for completion scripts",
            complete,
            examples=(("modelkeep __complete tags ani", "tags that begin with ani"),),
            arguments=(
                Argument("kind", "1", "what is completed"),
                Argument("prefix", "?", "what is typed already"),
            ),
            takes_dashed_words=True,
        )
    },
}

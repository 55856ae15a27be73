"""docs/cli.md."""

from modelkeep.cli import commands, topics
from modelkeep.cli import help as help_pages
from modelkeep.cli.spec import FLAG, GLOBAL_OPTIONS, MANY, Argument, Command, Option
from modelkeep.reference import tree
from modelkeep_protocol import errors

_INTRO = """\
# The command line

<!-- Made by `python -m modelkeep.reference`; edit the tables in clients/modelkeep/cli instead. -->

`modelkeep` asks the daemon, `modelkeepd`, over its socket. Work that takes long is a job of the
daemon: Ctrl-C ends the waiting, never the work, and says how to see it again.

- **Results on stdout, everything else on stderr.** In a terminal results are tables with sizes and
  times for people; in a pipe they are lines with tabs between, with bytes and UTC times.
- **`--json`**, before or after any command: one JSON document, or one JSON object a line when
  following. Keys are only ever added.
- **`-q`** prints only ids, references or paths, one a line.
- **No daemon?** Three lines say where it was looked for, why it probably is not there, and the
  command that starts it. Exit code 3.
- **Foreign texts** (names, tags, descriptions) are shown with control and direction characters
  written out, in tables, pipes and JSON.
- **Options** may stand anywhere; `--name=value`, `-n5` and `--` work; nothing is abbreviated, and
  what is misspelled is answered with what was probably meant.
"""

_SETUP = """\
## Completion and man page

```
eval "$(modelkeep completion bash)"                                        # in ~/.bashrc
modelkeep completion zsh > "${fpath[1]}/_modelkeep"                        # once
modelkeep completion fish > ~/.config/fish/completions/modelkeep.fish      # once
man modelkeep
```

Tags, models, jobs and folders are completed with what the daemon knows; without a daemon, nothing
is offered and nothing waits.
"""

_SPEED = """\
## How it is fast

`modelkeep status` takes half the time of `python -c "import zmq, msgpack"`
(`python -m benchmarks.cli`). The everyday path speaks ZMTP, ZeroMQ's protocol, itself
(`modelkeep/zmtp.py`), reads plain maps, parses words by its own table (argparse, with the `re` it
needs, costs more than everything else together) and loads one command's module. A test holds the
list of modules it may import.
"""


def page() -> str:
    """The whole file."""
    parts = [_INTRO, "## Options of every command\n\n" + _options(GLOBAL_OPTIONS) + "\n"]
    parts.append("## Commands\n")
    for group, title in commands.GROUPS.items():
        parts.append(f"### {title}\n")
        parts += [
            _command(command)
            for command in tree.all_commands()
            if commands.COMMANDS[command.name.split()[0]][1] == group
        ]
    parts += [_exit_codes(), _json_keys(), _topic("refs"), _topic("query")]
    parts.append("[search.md](search.md) describes the query language in full.\n")
    parts += [_topic("environment"), _SETUP, _SPEED]
    return "\n".join(parts)


def _command(command: Command) -> str:
    lines = [f"#### `{help_pages.usage(command)}`", ""]
    lines += [f"{command.summary[0].upper()}{command.summary[1:]}. {command.about}".strip(), ""]
    lines += ["```", *(f"{line:<56}  # {what}" for line, what in command.examples), "```", ""]
    rows = "".join(_row(a.metavar, a) for a in command.arguments)
    rows += "".join(_row(_shown(o), o) for o in command.options)
    if rows:
        lines += ["| | |", "|---|---|", rows]
    return "\n".join(lines)


def _options(options: tuple[Option, ...]) -> str:
    return "| | |\n|---|---|\n" + "".join(_row(_shown(option), option) for option in options)


def _row(shown: str, thing: Option | Argument) -> str:
    choices = f": {', '.join(thing.choices)}" if thing.choices else ""
    return f"| `{shown}` | {thing.help.replace('|', chr(92) + '|')}{choices} |\n"


def _shown(option: Option) -> str:
    value = "" if option.kind == FLAG else f" {option.metavar}"
    return ", ".join(option.names) + value + ("…" if option.kind == MANY else "")


def _exit_codes() -> str:
    lines = ["## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in errors.EXIT_CODES.items()]
    lines += [
        "",
        'With `--json` an error is `{"error": {"code", "message", "hint"}}` on stdout.',
        "",
        "| error code | exit code | meaning |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{code}` | {errors.exit_code(code)} | {meaning} |"
        for code, meaning in errors.CODES.items()
    ]
    several = (
        "A daemon that can't be reached is `unavailable` with exit code 3. Of several references "
        "or jobs, some of which failed: 6; all of them for the same reason: that reason's code; "
        "otherwise 1."
    )
    return "\n".join([*lines, "", several, ""])


_KEYS = {
    "status": (
        (
            '{"daemon": {"version", "pid", "uptime_s"}, "catalog": {"models", "versions", '
            '"files"}, "queue": {"active", "waiting", "failed"}, "library": {"files", '
            '"size_bytes"}, "hubs": [...]}'
        ),
        "",
    ),
    "search": (
        (
            '{"total", "items": [{"ref", "name", "hub", "type", "base_model", "creator", "tags", '
            '"downloads", "nsfw_level", "owned"}]}'
        ),
        "",
    ),
    "show": (
        (
            '{"ref", "name", ..., "versions": [{"ref", "name", "files": [{"name", "size_bytes", '
            '"sha256"}]}]}'
        ),
        'and `"raw"` with `--raw`',
    ),
    "get --wait": (
        (
            '{"jobs": [{"id", "ref", "state", "path", "sha256", "error"}], "errors": [{"code", '
            '"message", "hint", "ref"}]}'
        ),
        "at the end, a job a file; one with id 0 was in the library already",
    ),
    "queue": ('{"jobs": [...], "total"}', "jobs as above"),
    "queue watch": ("", "a job a line, at each change of its state"),
    "library list": ('{"items": [{"path", "size_bytes", "sha256", "ref", "state"}]}', ""),
    "events": (
        '{"cursor", "at_ms", "topic", "kind", "subject", "payload"}',
        'an event a line; `{"fresh": true, "cursor"}` when events were missed for good',
    ),
}


def _json_keys() -> str:
    lines = [
        "## Keys of `--json` that scripts may rely on",
        "",
        "More may stand beside them; `protocol/modelkeep_protocol/schema/` has all.",
        "",
        "| command | keys |",
        "|---|---|",
    ]
    for command, (keys, words) in _KEYS.items():
        shown = ", ".join(part for part in (f"`{keys}`" if keys else "", words) if part)
        lines.append(f"| `{command}` | {shown} |")
    return "\n".join([*lines, ""])


def _topic(name: str) -> str:
    title = {"refs": "References", "query": "Queries", "environment": "Environment"}[name]
    return f"## {title}\n\n```\n{topics.TOPICS[name][1].strip()}\n```\n"

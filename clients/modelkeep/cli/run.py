"""One command from its words to its exit code; the edge where errors become codes."""

from __future__ import annotations

import os
import sys

from modelkeep.cli.output import Output
from modelkeep.cli.parse import UsageError, parse
from modelkeep.connect import NoDaemon
from modelkeep_protocol import errors
from modelkeep_protocol.errors import ModelkeepError


def run(words: list[str]) -> int:
    """Run one command line. Returns its exit code; raises nothing but what is a bug of ours."""
    for stream in (sys.stdout, sys.stderr):
        # a character the terminal can't show must not end the command
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    out = Output()
    try:
        code = _run(words, out)
        out.stdout.flush()
        return code
    except BrokenPipeError:
        # the reader has seen enough; keep the interpreter from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.EXIT_OK


def _run(words: list[str], out: Output) -> int:
    # known before anything else: a wrong command line is answered in the form asked for
    options = words[: words.index("--")] if "--" in words else words
    out.json = "--json" in options
    try:
        parsed = parse(words)
        shared = parsed.shared
        out.set_up(
            json=shared["json"],
            quiet=shared["quiet"],
            verbose=shared["verbose"],
            color=shared["color"],
        )
        if shared["help"] or (parsed.command is None and not shared["version"]):
            from modelkeep.cli.help import print_help

            return print_help(parsed, out)
        if shared["version"]:
            from modelkeep.cli.version import print_version

            return print_version(out)
        assert parsed.command is not None
        return parsed.command.run(parsed.values, out)
    except UsageError as exc:
        out.error(exc)
        return errors.EXIT_USAGE
    except NoDaemon as exc:
        out.error(exc)
        return errors.EXIT_NO_DAEMON
    except ModelkeepError as exc:
        out.error(exc)
        return errors.exit_code(exc.code)
    except KeyboardInterrupt:
        out.note("interrupted")
        return errors.EXIT_INTERRUPTED

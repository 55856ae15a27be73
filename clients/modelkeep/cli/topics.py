"""Help that is not about one command."""

from __future__ import annotations

from modelkeep_protocol import errors

_QUERY = """
A query is words and fields; all must match.

Words:
  anime style             both words, in name, tags, description, trained words, creator
  "anime style"           the words in this order
  水彩                    any part of a Japanese, Chinese or Korean text

Operators:
  a OR b                  either
  NOT a, -a               without
  (a OR b) c              parentheses group

Fields:
  tag:x  type:lora  base:"SDXL 1.0"  creator:x  hub:civitai
  nsfw:<=2  downloads:>1000  size:<2GB  updated:>2026-01-01
  commercial:yes          pictures made with it may be sold
  owned:yes               a file of it is in the library
  topic:style             what its tags are about: style, concept, pose, character …
  family:flux             base models of one architecture
  supported:yes           on the list of well-known models, with what they need
  source:x                as hub, type, base and creator say where it is from

The shell takes quotes, < and > for its own: put such a query in single quotes.
  modelkeep search '"line art" base:"SDXL 1.0" downloads:>1000'

docs/search.md has all of it.
"""

_REFS = """
A reference names a model, a version or a file. All of these are understood:

References:
  civitai:1102            a model on CivitAI
  civitai:1102@1301       a version of it
  hf:org/name             a repository on Hugging Face
  hf:org/name@main        at a revision
  urn:air:sdxl:lora:civitai:1102@1301
  https://civitai.com/models/1102?modelVersionId=1301
  https://huggingface.co/org/name
  sha256:HEX              whatever has this content
  ./file.safetensors      the model this file belongs to
"""

_ENVIRONMENT = """
Variables:
  MODELKEEP_HOME          a folder for everything: config.toml, state, cache, run
  XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_CACHE_HOME, XDG_RUNTIME_DIR
                          where these are otherwise (Linux)
  NO_COLOR                when not empty: no color
  CLICOLOR_FORCE          when not 0: color in pipes too; --color wins over both
  TERM=dumb               no color, no progress bars
  COLUMNS                 the width of tables

The daemon reads the same folders; both must agree for the socket to be found:
  $MODELKEEP_HOME/run/rpc.sock, or $XDG_RUNTIME_DIR/modelkeep/rpc.sock
A path that is too long for a socket is replaced by a short one.
"""


def _exit_codes() -> str:
    lines = ["Exit codes:"]
    lines += [f"  {code:<6}{meaning}" for code, meaning in errors.EXIT_CODES.items()]
    lines += [
        "",
        'With --json an error is {"error": {"code", "message", "hint"}} on stdout. Codes:',
        "",
    ]
    lines += [
        f"  {code:<13}{errors.exit_code(code):>3}  {meaning}"
        for code, meaning in errors.CODES.items()
    ]
    lines += ["", "A daemon that can't be reached is `unavailable` with exit code 3."]
    return "\n".join(lines)


TOPICS: dict[str, tuple[str, str]] = {
    "query": ("the language of search", _QUERY),
    "refs": ("how models, versions and files are named", _REFS),
    "exit-codes": ("exit codes, and error codes of --json", _exit_codes()),
    "environment": ("variables and folders", _ENVIRONMENT),
}

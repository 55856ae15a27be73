"""The generated parts of docs/protocol.md and all of docs/configuration.md.

``python -m tests.protocol.reference`` writes them; tests fail while they are not current.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from msgspec import Struct
from msgspec import inspect as shapes

from modelkeep_protocol import codec, envelope, errors, events, schema, session
from modelkeep_protocol.paths import MAX_SOCKET_PATH_BYTES
from modelkeepd.rpc import port, server
from modelkeepd.settings import NOT_SETTINGS, LibraryRoot, Settings, keys, table_keys

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def error_codes() -> str:
    """What each code means, and how the command line ends with it."""
    return table(
        ("code", "meaning", "exit code"),
        ((f"`{c}`", meaning, str(errors.exit_code(c))) for c, meaning in errors.CODES.items()),
    )


def limits() -> str:
    """Every number a client can run into."""
    rows = (
        ("bytes of a frame to the daemon", codec.MAX_REQUEST_BYTES, "hung up on"),
        ("bytes of a frame to a client", codec.MAX_REPLY_BYTES, "`internal`: ask for less"),
        ("levels of maps and lists", codec.MAX_DEPTH, "`invalid`"),
        ("values in a frame", codec.MAX_ITEMS, "`invalid`"),
        ("calls open at once, each client", session.MAX_OPEN_CALLS, "`busy`"),
        ("an id", envelope.MAX_ID, "`invalid`"),
        ("credit given at once", envelope.MAX_CREDIT, "`invalid`"),
        ("credit a stream holds", server.MAX_STREAM_CREDIT, "the rest is nothing"),
        ("characters of a method's name", session.MAX_METHOD_CHARS, "`invalid`"),
        ("ms, a deadline", session.MAX_DEADLINE_MS, "`invalid`"),
        ("ms, a unary call without one", server.DEFAULT_DEADLINE_MS, "`deadline`"),
        ("messages a second, each client", int(server.PEER_RATE), "`busy`"),
        ("messages at once before that counts", int(server.PEER_BURST), "`busy`"),
        ("bytes that count as one message", server.BYTES_PER_TOKEN, ""),
        ("frames a client leaves unread", port.OUTBOX_FRAMES, "thrown away, `busy`"),
        ("bytes a client leaves unread", port.OUTBOX_BYTES, "thrown away, `busy`"),
        ("clients", server.MAX_PEERS, "the idle make room, else `busy`"),
        ("s of silence without open calls", int(server.LEASE_S), "forgotten"),
        ("s of silence with a stream open", int(server.STREAM_LEASE_S), "forgotten"),
        ("ms to say the ZMTP greeting", port.HANDSHAKE_MS, "hung up on"),
        ("bytes of a socket's path", MAX_SOCKET_PATH_BYTES, "a short path instead"),
    )
    return table(
        ("what", "at most", "beyond it"),
        ((what, f"{number:,}".replace(",", " "), beyond) for what, number, beyond in rows),
    )


def method_table() -> str:
    """One line a method."""
    return table(
        ("method", "params", "result", "kind", "since", "what it does"),
        (
            (
                f"`{method.name}`",
                _link(method.params),
                _link(method.result),
                ("stream" if method.stream else "unary")
                + (", changes state" if method.changes_state else ""),
                method.since,
                method.doc,
            )
            for method in schema.METHODS.values()
        ),
    )


def types() -> str:
    """Every Struct that is a parameter, a result or inside one, in the order of the source."""
    comments = _field_comments()
    parts = []
    for struct in structs():
        info = shapes.type_info(struct)
        assert isinstance(info, shapes.StructType)
        rows = [
            (
                f"`{field.encode_name}`",
                _type(field.type),
                _default(field),
                comments.get((struct.__name__, field.name), ""),
            )
            for field in info.fields
        ]
        doc = _plain(inspect.getdoc(struct) or "")
        body = table(("field", "type", "default", ""), rows) if rows else "No fields.\n"
        parts.append(f"#### {struct.__name__}\n\n{doc}\n\n{body}")
    return "\n".join(parts)


def event_kinds() -> str:
    """Topics, and the kinds of event under each."""
    parts = []
    for topic, meaning in events.TOPICS.items():
        rows = [(f"`{kind}`", _plain(means)) for kind, means in events.KINDS[topic].items()]
        body = "\n" + table(("kind", "subject: meaning; payload"), rows) if rows else ""
        parts.append(f"**`{topic}`**: {meaning}.\n{body}")
    return "\n".join(parts)


def structs() -> list[type[Struct]]:
    """The Structs of the schema that stand in the method table or inside one that does."""
    wanted: set[str] = set()
    for method in schema.METHODS.values():
        for struct in (method.params, method.result):
            wanted |= {inner.__name__ for inner in _inside(shapes.type_info(struct))}
    return [found for module in _modules() for name, found in _own(module) if name in wanted]


def _modules() -> list[ModuleType]:
    """The schema's modules in the order a reader wants them: that of the methods."""
    names = dict.fromkeys(
        ("common", *(method.name.partition(".")[0] for method in schema.METHODS.values()))
    )
    found = {
        each.name: importlib.import_module(f"{schema.__name__}.{each.name}")
        for each in pkgutil.iter_modules(schema.__path__)
    }
    return [found.pop(name) for name in names if name in found] + list(found.values())


def _own(module: ModuleType) -> list[tuple[str, type[Struct]]]:
    return [
        (name, value)
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]


def _inside(info: shapes.Type) -> Iterator[type[Struct]]:
    match info:
        case shapes.StructType():
            yield info.cls
            for field in info.fields:
                yield from _inside(field.type)
        case shapes.ListType():
            yield from _inside(info.item_type)
        case shapes.DictType():
            yield from _inside(info.value_type)
        case shapes.UnionType():
            for inner in info.types:
                yield from _inside(inner)
        case shapes.Metadata():
            yield from _inside(info.type)


def _type(info: shapes.Type) -> str:
    match info:
        case shapes.StructType():
            return _link(info.cls)
        case shapes.Metadata():
            return _type(info.type)
        case shapes.BoolType():
            return "boolean"
        case shapes.IntType():
            return "integer" + _bounds(info.ge, info.le)
        case shapes.FloatType():
            return "number"
        case shapes.StrType():
            return "text" + (f", ≤ {info.max_length} characters" if info.max_length else "")
        case shapes.ListType():
            shortest = f"{info.min_length} to " if info.min_length else "≤ "
            longest = f", {shortest}{info.max_length} of them" if info.max_length else ""
            return f"list of {_type(info.item_type)}{longest}"
        case shapes.DictType():
            return f"map to {_type(info.value_type)}"
        case shapes.UnionType():
            return " or ".join(_type(inner) for inner in info.types)
        case shapes.NoneType():
            return "nil"
        case shapes.AnyType():
            return "anything"
    raise NotImplementedError(info)


def _bounds(low: int | None, high: int | None) -> str:
    shown = "2⁵³" if high == 2**53 else str(high)
    return "" if low is None or high is None else f", {low} to {shown}"


def _default(field: shapes.Field) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is msgspec.NODEFAULT:
        assert callable(field.default_factory)
        value = field.default_factory()
    return "nil" if value is None else f"`{msgspec.json.encode(value).decode()}`"


def _link(struct: type[Struct]) -> str:
    return f"[{struct.__name__}](#{struct.__name__.lower()})"


def _plain(docstring: str) -> str:
    return docstring.replace("``", "`")


def _field_comments() -> dict[tuple[str, str], str]:
    """The comment behind each field in the source; Python itself forgets them."""
    found = {}
    for module in _modules():
        source = inspect.getsource(module)
        lines = source.splitlines()
        for node in ast.parse(source).body:
            if not isinstance(node, ast.ClassDef):
                continue
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    assert field.end_lineno is not None
                    rest = lines[field.end_lineno - 1][field.end_col_offset :]
                    found[node.name, field.target.id] = rest.strip().removeprefix("# ")
    return found


BLOCKS: dict[str, Callable[[], str]] = {
    "errors": error_codes,
    "limits": limits,
    "methods": method_table,
    "types": types,
    "events": event_kinds,
}


def protocol_page(text: str) -> str:
    """The page with its generated blocks made anew."""
    return _BLOCK.sub(lambda m: f"{m.group(1)}\n{BLOCKS[m.group(2)]()}\n{m.group(3)}", text)


CONFIGURATION_HEAD = """\
# Configuration

<!-- Made by `python -m tests.protocol.reference` from daemon/modelkeepd/settings. -->

The daemon reads `config.toml` in its configuration folder: `$MODELKEEP_HOME/config.toml` when that
variable is set, otherwise `~/.config/modelkeep/config.toml` on Linux and
`~/Library/Application Support/modelkeep/config.toml` on macOS. No file is needed: every key has a
default. Settings are read once, at the start.

From weakest to strongest: the default, `config.toml`, the environment variable, `modelkeepd --set
KEY=VALUE` (may be repeated). In variables and `--set`, texts need no quotes; other values are
written as in TOML: `MODELKEEP_SYNC_AUTO=false`, `--set 'library.roots=[{path = "/data"}]'`.

A key that does not exist is warned about, with its line and the nearest one that does. A value that
can't be used ends the start with exit code 78 and a message that names file, line, key and rule.
`modelkeepd --check` reads everything and starts nothing.

```toml
[sync]
auto = true

[[library.roots]]
path = "/data/ComfyUI/models"
layout = "comfyui"

[transfer]
root = "/data/ComfyUI/models"
```
"""

CONFIGURATION_TAIL = """\
## Not settings

| variable | what it is |
| --- | --- |
| `MODELKEEP_HOME` | a folder that holds everything: configuration, state, cache, socket |
| `MODELKEEP_CIVITAI_TOKEN` | the token for CivitAI, where no credential of the service manager is |
| `MODELKEEP_HUGGINGFACE_TOKEN` | the same for Hugging Face |
| `MODELKEEP_FAILPOINTS` | for tests: where to stop or fail |

A hub's token is no setting and is never written into `config.toml`. It is looked for in the
service manager's `$CREDENTIALS_DIRECTORY/civitai-token`, in `$MODELKEEP_CIVITAI_TOKEN`, and in
the file `civitai.token` beside `config.toml`, which must be readable by you alone (`chmod 600`);
for Hugging Face, `huggingface` stands in all three names.
"""


def configuration_page() -> str:
    """All of docs/configuration.md."""
    assert set(re.findall(r"^\| `(MODELKEEP_\w+)`", CONFIGURATION_TAIL, re.M)) >= NOT_SETTINGS
    parts = [CONFIGURATION_HEAD]
    section = None
    for key in keys():
        if key.path[:-1] != section:
            section = key.path[:-1]
            parts.append(f"\n## `[{'.'.join(section)}]`\n\n{_section_doc(section)}\n")
        parts.append(
            f"\n### `{key.dotted}`\n\n{key.description}\n\n"
            f"Type: {key.type}. Default: {_toml(key.default)}. Variable: `{key.variable}`.\n"
        )
        if key.path == ("library", "roots"):
            rows = [
                (
                    f"`{inner.dotted}`",
                    inner.type,
                    "required" if inner.default is None else _toml(inner.default),
                    inner.description,
                )
                for inner in table_keys(LibraryRoot)
            ]
            parts.append("\n" + table(("key of each table", "type", "default", ""), rows))
    return "".join(parts) + "\n" + CONFIGURATION_TAIL


def _section_doc(path: tuple[str, ...]) -> str:
    section: Any = Settings()
    for part in path:
        section = getattr(section, part)
    return inspect.getdoc(section) or ""


def _toml(value: object) -> str:
    if value == ():
        return "none"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        texts = ", ".join(f'"{text}"' for text in value)
        return f"`[{texts}]`"
    return f"`{str(value).lower()}`"


def main() -> int:
    """Write what is not current."""
    page = DOCS / "protocol.md"
    page.write_text(protocol_page(page.read_text(encoding="utf-8")), encoding="utf-8")
    (DOCS / "configuration.md").write_text(configuration_page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

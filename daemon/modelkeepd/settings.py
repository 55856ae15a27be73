"""Every setting: its type, unit, default and meaning; and how they are read and refused.

Defaults < ``config.toml`` < environment < flags. Unknown keys are warned about, with the nearest
known one; bad values are refused with file and line. Nothing here has an effect by itself.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

ENVIRONMENT_PREFIX = "MODELKEEP_"
# variables of ours that are no settings
NOT_SETTINGS = frozenset({"MODELKEEP_HOME", "MODELKEEP_FAILPOINTS"})

# how far a key is looked for in a config file, for the line in a message
_MAX_TRIES = 50

# from the root or from one's own home; no control characters, which no folder has but by mistake
_ABSOLUTE = r"^(/|~/)[^\x00-\x1f]*$"

_AnyStruct = TypeVar("_AnyStruct", bound=Struct)
Text = Annotated[str, Meta(max_length=4096)]
Layout = Literal["auto", "comfyui", "a1111", "flat"]
# midnight may lie inside
_HOURS = r"^(|([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)$"


class HubSettings(Struct, frozen=True):
    """One hub."""

    base_url: Annotated[
        Text,
        Meta(
            description="The hub's address. Tests point it at the simulated hub.",
            pattern="^https?://",
        ),
    ]
    enabled: Annotated[bool, Meta(description="Whether this hub is used at all.")] = True
    requests_per_second: Annotated[
        float,
        Meta(
            description="Upper limit of requests to this hub, averaged over ten seconds. The hub's"
            " own limits and its complaints make it less.",
            gt=0,
            le=1000,
        ),
    ] = 1.5
    sync_every_h: Annotated[
        float, Meta(description="News of this hub are fetched this often.", ge=0.25, le=8760)
    ] = 24.0
    quiet_hours: Annotated[
        str,
        Meta(
            description="No background requests in these hours of local time, as in"
            " `23:00-07:30`. Empty: none are quiet.",
            max_length=11,
            pattern=_HOURS,
            examples=["23:00-07:30"],
        ),
    ] = ""
    # 5,000 requests read all of CivitAI's million models anew in some four days (100 a request,
    # twice for what only one of its two views shows), in less than an hour a day
    background_requests_per_day: Annotated[
        int,
        Meta(
            description="Requests a day (UTC) that background work may spend; the first full"
            " crawl, and what people ask for, are not held back by it.",
            ge=0,
            le=10_000_000,
        ),
    ] = 5_000
    detail_ttl_s: Annotated[
        float,
        Meta(
            description="A model's details that are not older are shown without asking the hub.",
            ge=0,
            le=30 * 86_400,
        ),
    ] = 600.0


class HuggingFaceSettings(HubSettings, frozen=True):
    """Hugging Face, which holds far more than people run at home."""

    # The whole hub is 2.5 million repositories and more, most of them checkpoints of somebody's
    # training run. These six tags are what image, video and language programs at home load: a
    # tenth of the rows, in some hundred requests. Original weights of language models are left
    # out; their GGUF files, which are what is run, are in.
    filters: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...],
        Meta(
            description="Tags of the repositories to mirror: each is one list. With a comma"
            " between, a repository must have all of them. An empty list: everything.",
            max_length=64,
        ),
    ] = ("diffusers", "diffusion-single-file", "comfyui", "text-to-image", "lora", "gguf")
    page_size: Annotated[int, Meta(description="Rows asked for at once.", ge=10, le=1_000)] = 1_000


class Hubs(Struct, frozen=True):
    """The hubs."""

    civitai: HubSettings = HubSettings("https://civitai.com")
    # 10,000 requests are 7 % of what its limits leave an address without a token in a day
    huggingface: HuggingFaceSettings = HuggingFaceSettings(
        "https://huggingface.co", background_requests_per_day=10_000
    )


class Sync(Struct, frozen=True):
    """Mirroring the hubs' catalogs."""

    auto: Annotated[
        bool,
        Meta(description="The first start begins the full fetch by itself."),
    ] = True


class LibraryRoot(Struct, frozen=True):
    """One watched folder."""

    path: Annotated[str, Meta(description="An absolute path.", max_length=4096, pattern=_ABSOLUTE)]
    layout: Annotated[Layout, Meta(description="How the folder is organized.")] = "auto"


class Library(Struct, frozen=True):
    """What is on disk."""

    roots: Annotated[
        tuple[LibraryRoot, ...],
        Meta(description="Folders to watch; more can be added by `modelkeep library add`."),
    ] = ()
    settle_s: Annotated[
        float,
        Meta(description="A file is looked at after it was quiet for this long.", ge=0, le=3600),
    ] = 2.0
    reconcile_every_s: Annotated[
        float,
        Meta(description="All folders are walked again this often.", ge=10, le=30 * 86_400),
    ] = 21_600.0
    hash_threads: Annotated[
        int, Meta(description="Files hashed at the same time.", ge=1, le=16)
    ] = 1


class Transfer(Struct, frozen=True):
    """Downloads."""

    root: Annotated[
        Text,
        Meta(description="Where new files go, by layout and type. Empty: the first root."),
    ] = ""
    layout: Annotated[Layout, Meta(description="How `root` is organized.")] = "auto"
    parallel_files: Annotated[
        int, Meta(description="Files downloaded at the same time.", ge=1, le=32)
    ] = 3
    reserve_bytes: Annotated[
        int, Meta(description="Free space on a disk that downloads never touch.", ge=0, le=1 << 50)
    ] = 512 << 20
    review: Annotated[
        Literal["place", "quarantine"],
        Meta(
            description="What to do with files that can't be proven safe, as pickles can't:"
            " place them with a warning, or set them aside."
        ),
    ] = "quarantine"


class Events(Struct, frozen=True):
    """The event log."""

    keep_rows: Annotated[
        int, Meta(description="Older events are forgotten beyond this many.", ge=1000)
    ] = 200_000
    keep_days: Annotated[
        int, Meta(description="Events older than this are forgotten.", ge=1, le=3650)
    ] = 90


class Log(Struct, frozen=True):
    """The daemon's own log, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least to log.")
    ] = "info"
    format: Annotated[
        Literal["text", "json"], Meta(description="One line a fact, as text or as JSON.")
    ] = "text"


class Settings(Struct, frozen=True):
    """All settings of the daemon."""

    sync: Sync = Sync()
    hubs: Hubs = Hubs()
    library: Library = Library()
    transfer: Transfer = Transfer()
    events: Events = Events()
    log: Log = Log()


class BadSettings(Exception):
    """A setting that can't be used; the text names place, rule and what to do."""


class Key(Struct, frozen=True):
    """One leaf of the tree, for the reference page and the environment."""

    path: tuple[str, ...]
    hint: Any
    default: Any
    description: str

    @property
    def dotted(self) -> str:
        """As in ``--set`` and in messages: ``sync.auto``."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + "_".join(self.path).upper()

    @property
    def type(self) -> str:
        """What may be written, in words."""
        hint, meta = _bare(self.hint)
        if get_origin(hint) is Literal:
            return " | ".join(f'"{word}"' for word in get_args(hint))
        if get_origin(hint) is tuple:
            return "list of tables" if _is_of_tables(hint) else "list of texts"
        bounds = [
            f"{word} {bound:g}" if isinstance(bound, float) else f"{word} {bound}"
            for word, bound in (
                ("above", meta.gt), ("from", meta.ge), ("to", meta.le)
            )
            if bound is not None
        ]  # fmt: skip
        word = {bool: "true | false", int: "integer", float: "number", str: "text"}[hint]
        return " ".join((word, *bounds))


def keys(section: Struct | None = None, prefix: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every leaf key. Lists appear once, as ``library.roots``."""
    section = Settings() if section is None else section
    for name, hint in _hints(type(section)).items():
        _, meta = _bare(hint)
        value = getattr(section, name)
        if isinstance(value, Struct):
            yield from keys(value, (*prefix, name))
        else:
            yield Key((*prefix, name), hint, value, meta.description or "")


def table_keys(struct: type[Struct]) -> Iterator[Key]:
    """The keys of one table of a list of tables. Required ones have no default."""
    for field in msgspec.structs.fields(struct):
        hint = _hints(struct)[field.name]
        _, meta = _bare(hint)
        default = None if field.default is msgspec.NODEFAULT else field.default
        yield Key((field.name,), hint, default, meta.description or "")


def load_settings(
    config_file: Path,
    environ: Mapping[str, str] = os.environ,
    flags: Sequence[str] = (),
) -> tuple[Settings, list[str]]:
    """Read all sources. ``flags`` are ``key.path=value`` texts.

    Returns the settings and warnings for a person. Raises BadSettings.
    """
    reader = _FileReader(config_file)
    values, warnings = reader.values, reader.warnings
    reader.read()
    known = list(keys())
    by_variable = {key.variable: key for key in known}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        if variable.endswith("_TOKEN"):
            continue
        key = by_variable.get(variable)
        if key is None:
            warnings.append(f"{variable} is no setting{_nearest(variable, by_variable)}")
            continue
        values[key.path] = _from_text(key, text, f"the environment variable {variable}")
    by_name = {key.dotted: key for key in known}
    for flag in flags:
        name, equals, text = flag.partition("=")
        key = by_name.get(name)
        if not equals or key is None:
            raise BadSettings(f"--set {flag}: write KEY=VALUE{_nearest(name, by_name)}")
        values[key.path] = _from_text(key, text, f"--set {flag}")
    return _replaced(Settings(), values, ()), warnings


Values = dict[tuple[str, ...], Any]


def _replaced(section: _AnyStruct, values: Values, path: tuple[str, ...]) -> _AnyStruct:
    """The section with its leaves from ``values``, where those have some."""
    changes: dict[str, Any] = {}
    for name in section.__struct_fields__:
        here, value = (*path, name), getattr(section, name)
        if isinstance(value, Struct):
            changes[name] = _replaced(value, values, here)
        elif here in values:
            changes[name] = values[here]
    return msgspec.structs.replace(section, **changes)


def _from_text(key: Key, text: str, source: str) -> Any:
    """A value from the environment or the command line: TOML, where texts need no quotes."""
    value: Any = text
    bare, _ = _bare(key.hint)
    is_text = bare is str or get_origin(bare) is Literal
    if not is_text or text[:1] in ('"', "'"):
        # TOML that does not parse is tried as the text it is, and refused by its type
        with suppress(ValueError, RecursionError):
            parsed = tomllib.loads(f"value = {text}")
            value = parsed["value"] if len(parsed) == 1 else text
    return _checked(key.hint, value, f"{source}: {key.dotted}")


def _checked(hint: Any, value: Any, place: str) -> Any:
    try:
        return msgspec.convert(value, hint)
    except (msgspec.ValidationError, RecursionError) as exc:
        rule = str(exc)
        # TOML has tables and lists
        for ours, theirs in (("`object`", "a table"), ("`array`", "a list"), ("Object", "table")):
            rule = rule.replace(ours, theirs)
        examples = _bare(hint)[1].examples
        if examples and "regex" in rule:
            rule = f"expected a text such as {examples[0]!r}, got {value!r:.100}"
        raise BadSettings(f"{place}: {rule[:1].lower()}{rule[1:]}") from exc


class _FileReader:
    """Takes a config file apart: leaves into ``values``, what it does not know into ``warnings``.

    Every leaf is checked by itself, so that what is wrong can be named with its line.
    """

    def __init__(self, path: Path) -> None:
        self.values: Values = {}
        self.warnings: list[str] = []
        self._path = path
        self._text = ""

    def read(self) -> None:
        """Read the file; one that does not exist sets nothing. Raises BadSettings."""
        try:
            self._text = self._path.read_text(encoding="utf-8")
            tree = tomllib.loads(self._text)
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as exc:
            raise BadSettings(f"{self._path} can't be read: {exc}") from exc
        except (ValueError, RecursionError) as exc:
            # not all of tomllib's refusals are TOMLDecodeErrors: numbers of 5,000 digits, say
            found = re.search(r"\(at line (\d+)", str(exc))
            at = f":{found.group(1)}" if found else ""
            raise BadSettings(f"{self._path}{at}: not valid TOML: {exc}") from exc
        self._take_table(tree, Settings(), ())

    def _take_table(self, table: dict[str, Any], section: Struct, path: tuple[str, ...]) -> None:
        hints = _hints(type(section))
        for name, value in self._known(table, hints, path):
            here, inner = (*path, name), getattr(section, name)
            hint, _ = _bare(hints[name])
            if isinstance(inner, Struct):
                if not isinstance(value, dict):
                    raise BadSettings(f"{self._place(here)}: expected a table [{'.'.join(here)}]")
                self._take_table(value, inner, here)
            elif _is_of_tables(hint):
                self.values[here] = self._take_list(value, get_args(hint)[0], here)
            else:
                self.values[here] = _checked(hints[name], value, self._place(here))

    def _take_list(self, entries: Any, struct: type[Struct], path: tuple[str, ...]) -> Any:
        if not isinstance(entries, list):
            raise BadSettings(f"{self._place(path)}: expected tables [[{'.'.join(path)}]]")
        hints, found = _hints(struct), []
        for index, entry in enumerate(entries):
            here = (*path, str(index))
            if isinstance(entry, dict):
                known = dict(self._known(entry, hints, here))
                for name, value in known.items():
                    _checked(hints[name], value, self._place((*here, name)))
                entry = known
            found.append(_checked(struct, entry, self._place(here)))
        return tuple(found)

    def _known(
        self, table: dict[str, Any], hints: Mapping[str, Any], path: tuple[str, ...]
    ) -> Iterator[tuple[str, Any]]:
        for name, value in table.items():
            if name in hints:
                yield name, value
            else:
                here = (*path, name)
                nearest = _nearest(name, hints)
                self.warnings.append(f"{self._at(here)}: unknown key {_dotted(here)}{nearest}")

    def _place(self, path: tuple[str, ...]) -> str:
        return f"{self._at(path)}: {_dotted(path)}"

    def _at(self, path: tuple[str, ...]) -> str:
        line = _line_of(self._text, path)
        return f"{self._path}:{line}" if line else str(self._path)


def _dotted(path: tuple[str, ...]) -> str:
    # a name in a file may hold anything
    return ".".join(part if part.isprintable() else ascii(part) for part in path)[:200]


def _line_of(text: str, path: tuple[str, ...]) -> int | None:
    """The line a key stands on, 1-based. tomllib keeps no positions.

    It is the first line that names the key and whose addition brings it into being; lines are
    added until they parse, as a value may span several.
    """
    lines = text.splitlines(keepends=True)
    named = next((part for part in reversed(path) if not part.isdecimal()), "")
    candidates = [number for number, line in enumerate(lines, 1) if named in line]
    for number in candidates[:_MAX_TRIES]:
        for end in range(number, min(number + _MAX_TRIES, len(lines)) + 1):
            try:
                tree = tomllib.loads("".join(lines[:end]))
            except (ValueError, RecursionError):
                continue
            if _has(tree, path):
                return number
            break
    return None


def _has(tree: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if isinstance(tree, list):
            if not part.isdecimal() or int(part) >= len(tree):
                return False
            tree = tree[int(part)]
        elif isinstance(tree, dict) and part in tree:
            tree = tree[part]
        else:
            return False
    return True


def _hints(struct: type[Struct]) -> dict[str, Any]:
    return get_type_hints(struct, include_extras=True)


def _is_of_tables(hint: Any) -> bool:
    if get_origin(hint) is not tuple:
        return False
    element, _ = _bare(get_args(hint)[0])
    return isinstance(element, type) and issubclass(element, Struct)


def _bare(hint: Any) -> tuple[Any, Meta]:
    """The type without its annotations, and all of those as one."""
    if get_origin(hint) is not Annotated:
        return hint, Meta()
    bare, *metas = get_args(hint)
    merged: dict[str, Any] = {}
    for meta in metas:
        for name in ("gt", "ge", "le", "description", "examples"):
            if getattr(meta, name) is not None:
                merged[name] = getattr(meta, name)
    return bare, Meta(**merged)


def _nearest(name: str, known: Iterable[str]) -> str:
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""

"""Every setting: its type, unit, default and meaning; and how they are read and refused.

Defaults < ``config.toml`` < environment < flags. Unknown keys are warned about, with the nearest
known one; bad values are refused with file and line. Nothing here has an effect by itself.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

ENVIRONMENT_PREFIX = "MODELKEEP_"
# variables of ours that are no settings
NOT_SETTINGS = frozenset({"MODELKEEP_HOME", "MODELKEEP_FAILPOINTS"})

Text = Annotated[str, Meta(max_length=4096)]
Layout = Literal["auto", "comfyui", "a1111", "flat"]


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
            description="Upper limit of background requests, averaged over ten seconds.",
            gt=0,
            le=1000,
        ),
    ] = 1.5


class Hubs(Struct, frozen=True):
    """The hubs."""

    civitai: HubSettings = HubSettings("https://civitai.com")
    huggingface: HubSettings = HubSettings("https://huggingface.co")


class Sync(Struct, frozen=True):
    """Mirroring the hubs' catalogs."""

    auto: Annotated[
        bool,
        Meta(description="The first start begins the full fetch by itself."),
    ] = True


class LibraryRoot(Struct, frozen=True):
    """One watched folder."""

    path: Annotated[
        str, Meta(description="An absolute path.", min_length=1, max_length=4096, pattern="^[/~]")
    ]
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
        int, Meta(description="Free space on a disk that downloads never touch.", ge=0)
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
    type: str
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


def keys(struct: Any = Settings, prefix: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every leaf key. Lists of tables appear once, as ``library.roots``."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        hint, meta = hints[field.name], None
        if get_origin(hint) is Annotated:
            parts = get_args(hint)
            hint = parts[0]
            metas = [part for part in parts[1:] if isinstance(part, Meta) and part.description]
            meta = metas[0] if metas else None
        path = (*prefix, field.name)
        if isinstance(hint, type) and issubclass(hint, Struct):
            yield from keys(hint, path)
        else:
            default = None if field.default is msgspec.NODEFAULT else field.default
            yield Key(path, _type_name(hint), default, (meta and meta.description) or "")


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " | ".join(f'"{word}"' for word in get_args(hint))
    if get_origin(hint) is tuple:
        return "list of tables"
    return getattr(hint, "__name__", str(hint))


def load_settings(
    config_file: Path,
    environ: Mapping[str, str] = os.environ,
    flags: Sequence[str] = (),
) -> tuple[Settings, list[str]]:
    """Read all sources. ``flags`` are ``key.path=value`` texts.

    Returns the settings and warnings for a person. Raises BadSettings.
    """
    warnings: list[str] = []
    text, tree = "", {}
    try:
        text = config_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as exc:
        raise BadSettings(f"{config_file} can't be read: {exc}") from exc
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise BadSettings(f"{config_file}: not valid TOML: {exc}") from exc
    warnings += _drop_unknown(tree, Settings, (), f"{config_file}", text)
    # each source is checked on its own first, so that an error names its source
    _convert(_with_base_urls(tree), lambda path: _place(config_file, text, path))
    by_variable = {key.variable: key for key in keys()}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        if variable.endswith("_TOKEN"):
            continue
        key = by_variable.get(variable)
        if key is None:
            warnings.append(f"{variable} is no setting{_nearest(variable, by_variable)}")
            continue
        _assign(tree, key.path, value, f"the environment variable {variable}")
    by_name = {key.dotted: key for key in keys()}
    for flag in flags:
        name, equals, value = flag.partition("=")
        key = by_name.get(name)
        if not equals or key is None:
            raise BadSettings(f"--set {flag}: write KEY=VALUE{_nearest(name, by_name)}")
        _assign(tree, key.path, value, f"--set {flag}")
    settings = _convert(_with_base_urls(tree), lambda path: "settings: " + ".".join(path))
    return settings, warnings


def _with_base_urls(tree: dict[str, Any]) -> dict[str, Any]:
    """A ``[hubs.x]`` table without ``base_url`` keeps that hub's default one."""
    hubs = tree.get("hubs")
    if not isinstance(hubs, dict):
        return tree
    filled = dict(hubs)
    for name, table in hubs.items():
        default = getattr(Hubs(), name, None)
        if isinstance(table, dict) and default is not None:
            filled[name] = {"base_url": default.base_url, **table}
    return {**tree, "hubs": filled}


def _assign(tree: dict[str, Any], path: tuple[str, ...], text: str, source: str) -> None:
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word or path is a text
    node = tree
    for part in path[:-1]:
        node = node.setdefault(part, {})
    before = node.get(path[-1])
    node[path[-1]] = value
    try:
        _convert(_with_base_urls(tree), lambda _path: source)
    except BadSettings:
        # a text that looks like a number, where a text is wanted
        node[path[-1]] = text
        try:
            _convert(_with_base_urls(tree), lambda _path: source)
        except BadSettings:
            node[path[-1]] = value if before is None else before
            node[path[-1]] = value
            _convert(_with_base_urls(tree), lambda _path: source)


def _convert(tree: dict[str, Any], place: Any) -> Settings:
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as exc:
        rule, _, where = str(exc).partition(" - at `$.")
        path = tuple(where.rstrip("`").replace("[", ".").replace("]", "").split("."))
        known = ".".join(part for part in path if part not in ("...", ""))
        raise BadSettings(
            f"{place(path)}: {known or 'settings'}: {rule[:1].lower()}{rule[1:]}"
        ) from exc


def _drop_unknown(
    tree: dict[str, Any], struct: Any, path: tuple[str, ...], source: str, text: str
) -> list[str]:
    warnings: list[str] = []
    hints = get_type_hints(struct)
    for name in list(tree):
        here = (*path, name)
        if name not in hints:
            line = _line_of(text, here)
            at = f"{source}:{line}" if line else source
            warnings.append(f"{at}: unknown key {'.'.join(here)}{_nearest(name, hints)}")
            del tree[name]
            continue
        hint, value = hints[name], tree[name]
        if isinstance(hint, type) and issubclass(hint, Struct) and isinstance(value, dict):
            warnings += _drop_unknown(value, hint, here, source, text)
        elif get_origin(hint) is tuple and isinstance(value, list):
            item = get_args(hint)[0]
            for entry in value:
                if isinstance(entry, dict):
                    warnings += _drop_unknown(entry, item, here, source, text)
    return warnings


def _nearest(name: str, known: Any) -> str:
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def _place(config_file: Path, text: str, path: tuple[str, ...]) -> str:
    line = _line_of(text, path)
    return f"{config_file}:{line}" if line else str(config_file)


def _line_of(text: str, path: tuple[str, ...]) -> int | None:
    """The line a key stands on (1-based). tomllib keeps no positions, so look for it."""
    words = [part for part in path if part and part != "..."]
    indexes = [int(word) for word in words if word.isdecimal()]
    names = [word for word in words if not word.isdecimal()]
    section: list[str] = []
    seen: dict[str, int] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("["):
            header = line.strip("[]# ").split("]")[0]
            section = [part.strip().strip("\"'") for part in header.split(".")]
            if line.startswith("[["):
                seen[header] = seen.get(header, -1) + 1
                if indexes and section == names[: len(section)] and seen[header] != indexes[0]:
                    section = ["\0"]
            if section == names:
                return number
            continue
        key = line.partition("=")[0].strip()
        dotted = section + [part.strip().strip("\"'") for part in key.split(".")]
        if "=" in line and dotted == names[: len(dotted)] and len(dotted) >= len(section) + 1:
            return number
    return None

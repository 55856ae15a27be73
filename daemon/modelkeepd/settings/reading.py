"""Reads settings: defaults < ``config.toml`` < environment < flags.

Unknown keys are warned about, with the nearest known one; bad values are refused with file and
line.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from modelkeepd.settings.keys import ENVIRONMENT_PREFIX, Key, bare, hints, is_of_tables, keys
from modelkeepd.settings.tree import Settings

# variables of ours that are no settings
NOT_SETTINGS = frozenset({"MODELKEEP_HOME", "MODELKEEP_FAILPOINTS"})

# how far a key is looked for in a config file, for the line in a message
_MAX_TRIES = 50

_AnyStruct = TypeVar("_AnyStruct", bound=Struct)


class BadSettings(Exception):
    """A setting that can't be used; the text names place, rule and what to do."""


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
    plain, _ = bare(key.hint)
    is_text = plain is str or get_origin(plain) is Literal
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
        examples = bare(hint)[1].examples
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
        of_section = hints(type(section))
        for name, value in self._known(table, of_section, path):
            here, inner = (*path, name), getattr(section, name)
            hint, _ = bare(of_section[name])
            if isinstance(inner, Struct):
                if not isinstance(value, dict):
                    raise BadSettings(f"{self._place(here)}: expected a table [{'.'.join(here)}]")
                self._take_table(value, inner, here)
            elif is_of_tables(hint):
                self.values[here] = self._take_list(value, get_args(hint)[0], here)
            else:
                self.values[here] = _checked(of_section[name], value, self._place(here))

    def _take_list(self, entries: Any, struct: type[Struct], path: tuple[str, ...]) -> Any:
        if not isinstance(entries, list):
            raise BadSettings(f"{self._place(path)}: expected tables [[{'.'.join(path)}]]")
        of_struct, found = hints(struct), []
        for index, entry in enumerate(entries):
            here = (*path, str(index))
            if isinstance(entry, dict):
                known = dict(self._known(entry, of_struct, here))
                for name, value in known.items():
                    _checked(of_struct[name], value, self._place((*here, name)))
                entry = known
            found.append(_checked(struct, entry, self._place(here)))
        return tuple(found)

    def _known(
        self, table: dict[str, Any], wanted: Mapping[str, Any], path: tuple[str, ...]
    ) -> Iterator[tuple[str, Any]]:
        for name, value in table.items():
            if name in wanted:
                yield name, value
            else:
                here = (*path, name)
                nearest = _nearest(name, wanted)
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


def _nearest(name: str, known: Iterable[str]) -> str:
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""

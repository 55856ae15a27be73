"""JSON that forgives: structures decoded field by field, single values made harmless.

What every hub's reader needs and none owns. A value that does not fit is left out; text comes out
as UTF-8 without control characters, numbers fit a row. Knows no hub.
"""

import json
import re
import types
import typing
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from modelkeepd.hubs.contract import OddDocument
from modelkeepd.hubs.plain_text import tidy

S = TypeVar("S", bound=msgspec.Struct)

MAX_NAME = 1_000
MAX_TAGS = 1_000


def load_json(raw: bytes) -> Any:
    """JSON as Python's own parser takes it: NaN and lone surrogates too, numbers of any length.

    What is nested deeper than any document of a hub is left out. Raises OddDocument.
    """
    try:
        try:
            return json.loads(raw, parse_int=_integer)
        except RecursionError:
            return json.loads(_shallow(raw), parse_int=_integer)
    except (ValueError, RecursionError) as exc:
        raise OddDocument(f"no JSON: {type(exc).__name__}: {str(exc)[:200]}") from exc


def split_array(raw: bytes) -> list[bytes]:
    """The elements of a JSON array, each in its own bytes, whatever is odd within them.

    Slower than a decoder by far: for pages that have refused to decode. Raises OddDocument when it
    is no array, or when one of its elements is no JSON.
    """
    elements = _split(raw.strip(), b"[]")
    for element in elements:
        load_json(element)
    return elements


def split_object(raw: bytes) -> dict[str, bytes]:
    """The values of a JSON object, in the same manner."""
    found: dict[str, bytes] = {}
    for member in _split(raw.strip(), b"{}"):
        named = _MEMBER.match(member)
        if named is None:
            raise OddDocument("no JSON: an object's member without a name")
        value = member[named.end() :]
        load_json(value)
        found[str(load_json(named[1]))] = value
    return found


_STRING_PATTERN = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_MEMBER = re.compile(rb"(" + _STRING_PATTERN + rb")\s*:\s*", re.DOTALL)
_MARKS = re.compile(_STRING_PATTERN + rb"|[\[\]{},]", re.DOTALL)
_DEEPEST = 100


def _split(raw: bytes, brackets: bytes) -> list[bytes]:
    """What stands between the commas of the outermost brackets."""
    if len(raw) < 2 or raw[:1] + raw[-1:] != brackets:
        raise OddDocument("no JSON: it does not begin and end as it should")
    parts: list[bytes] = []
    depth, start = 0, 1
    for mark in _MARKS.finditer(raw):
        sign = mark[0]
        if sign in (b"[", b"{"):
            depth += 1
        elif sign in (b"]", b"}"):
            depth -= 1
            if depth == 0 and mark.end() != len(raw):
                raise OddDocument("no JSON: it ends before its end")
        elif sign == b"," and depth == 1:
            parts.append(raw[start : mark.start()].strip())
            start = mark.end()
    if depth != 0:
        raise OddDocument("no JSON: its brackets don't close")
    last = raw[start:-1].strip()
    return [*parts, last] if parts or last else []


def _shallow(raw: bytes) -> bytes:
    """The same document with null for what lies too deep."""
    parts: list[bytes] = []
    depth, kept_to = 0, 0
    for mark in _MARKS.finditer(raw):
        sign = mark[0]
        if sign in (b"[", b"{"):
            depth += 1
            if depth == _DEEPEST:
                parts += (raw[kept_to : mark.start()], b"null")
        elif sign in (b"]", b"}"):
            if depth == _DEEPEST:
                kept_to = mark.end()
            depth -= 1
    return b"".join([*parts, raw[kept_to:]]) if depth == 0 else raw


def _integer(digits: str) -> int | float:
    # int() refuses thousands of digits; no field of ours holds hundreds
    return int(digits) if len(digits) < 400 else float(digits)


def lenient(value: object, wanted: type[S]) -> S:
    """``value`` as ``wanted`` with every field that does not fit left at its default.

    Never raises: a value that is no object at all gives an empty structure.
    """
    made = wanted()
    if isinstance(value, dict):
        for name, key, hint in _fields(wanted):
            found = value.get(key)
            if found is not None:
                setattr(made, name, _coerce(found, hint))
    return made


@cache
def _fields(wanted: type[msgspec.Struct]) -> list[tuple[str, str, Any]]:
    """Each field's name, its key in JSON and its type."""
    hints = typing.get_type_hints(wanted)
    return [(f.name, f.encode_name, hints[f.name]) for f in msgspec.structs.fields(wanted)]


def _coerce(value: Any, hint: Any) -> Any:
    """``value`` as one of the hint's types, else None."""
    if hint is Any:
        return value
    for option in get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
        if option is type(None):
            continue
        found = _coerce_one(value, option)
        if found is not None:
            return found
    return None


def _coerce_one(value: Any, option: Any) -> Any:
    if get_origin(option) is list:
        if not isinstance(value, list):
            return None
        (inner,) = get_args(option)
        return [c for c in (_coerce_one(v, inner) for v in value) if c is not None]
    if isinstance(option, type) and issubclass(option, msgspec.Struct):
        return lenient(value, option) if isinstance(value, dict) else None
    if option is bool:
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if option is int:
        return _whole(value)
    if option is float:
        return _number(value)
    # a purely numeric user name came as a JSON number once
    if option is str and isinstance(value, (str, int, float)):
        text = value if isinstance(value, str) else repr(value)
        # pairs of surrogates become their character, a lone one the replacement character
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return None


def _whole(value: Any) -> int | None:
    number = _number(value)
    if number is None or not number.is_integer() or abs(number) >= 2**62:
        return None
    return value if isinstance(value, int) else int(number)


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, (int, float, str)) else None
    except (ValueError, OverflowError):
        return None
    # NaN and infinity compare unequal to every bound
    return number if number is not None and abs(number) < 2**80 else None


def count(value: int | None) -> int | None:
    """A counter or a size in bytes, if it is one."""
    # counters beyond what a row holds are no counters
    return value if value is not None and 0 <= value < 2**53 else None


def sha256_of(text: str | None) -> bytes | None:
    """The 32 bytes that 64 hexadecimal digits stand for."""
    return _digest(text, 32)


def sha1_of(text: str | None) -> bytes | None:
    """The 20 bytes that 40 hexadecimal digits stand for."""
    return _digest(text, 20)


def _digest(text: str | None, size_bytes: int) -> bytes | None:
    if text is None or len(text) != 2 * size_bytes:
        return None
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        return None
    return digest if len(digest) == size_bytes else None  # fromhex() skips blanks


def time_ms(text: str | None) -> int | None:
    """An ISO 8601 time in ms since 1970, UTC where it names no zone."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        # some endpoints drop the Z: all of the hub's times are UTC
        milliseconds = round(
            (at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp() * 1000
        )
    except (ValueError, OverflowError):
        return None
    return milliseconds if milliseconds >= 0 else None


def text_of(text: str | None, limit: int) -> str | None:
    """One line of at most ``limit`` characters, or None when nothing is left of it."""
    if not text:
        return None
    if len(text) <= limit and text.isprintable() and text[0] != " " and text[-1] != " ":
        return text
    return tidy(text, limit).replace("\n", " ") or None


def texts_of(values: list[str] | None, most: int, limit: int) -> list[str]:
    """The first ``most`` of them, each as ``text_of`` makes it."""
    if not values:
        return []
    return [text for value in values[:most] if (text := text_of(value, limit))]

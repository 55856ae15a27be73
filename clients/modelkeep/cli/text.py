"""Texts for people: foreign ones made harmless, widths in columns, sizes, counts and times.

Names, tags and descriptions come from strangers: a terminal must never take one for a command,
and a reader never for another name.
"""

from __future__ import annotations

import time

# joiners that scripts and emoji need, and the wide and the fixed space
_KEPT = frozenset("\u200c\u200d\u3000\u00a0")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def safe(text: str) -> str:
    """The text with control, direction and invisible characters written out as escapes."""
    if text.isprintable():
        return text
    return "".join(map(_safe_character, text))


def safe_lines(text: str) -> str:
    """As :func:`safe`, with line breaks kept: for descriptions."""
    return "\n".join(map(safe, text.split("\n")))


def _safe_character(character: str) -> str:
    if character.isprintable() or character in _KEPT:
        return character
    short = _SHORT.get(character)
    if short is not None:
        return short
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def width(text: str) -> int:
    """Columns a terminal uses for it."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    columns = 0
    for character in text:
        if category(character) in ("Mn", "Me", "Cf"):
            continue
        columns += 2 if east_asian_width(character) in "WF" else 1
    return columns


def cut(text: str, columns: int) -> str:
    """The text in at most so many columns, with an ellipsis when something is left out."""
    if width(text) <= columns:
        return text
    taken, used = [], 0
    for character in text:
        used += width(character)
        if used > columns - 1:
            break
        taken.append(character)
    return "".join(taken) + "…"


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """The text filled up with spaces."""
    missing = " " * (columns - width(text))
    return missing + text if right else text + missing


def size(size_bytes: float | None) -> str:
    """``6.46 GB``; decimal units, as disks and hubs count."""
    if size_bytes is None:
        return "?"
    if size_bytes < 1000:
        return f"{int(size_bytes)} B"
    value = float(size_bytes)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.5 or unit == "PB":
            break
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def rate(bytes_per_s: float) -> str:
    """``12.3 MB/s``."""
    return f"{size(bytes_per_s)}/s"


def count(number: int | None) -> str:
    """``1,234,567``."""
    return "?" if number is None else f"{number:,}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 file``, ``2 files``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    whole = max(int(seconds + 0.5), 0)
    if whole < 60:
        return f"{whole} s"
    for above, big, small, one, other in (
        (3600, 60, 1, "min", "s"),
        (86400, 3600, 60, "h", "min"),
        (1 << 62, 86400, 3600, "d", "h"),
    ):
        if whole < above:
            rest = whole % big // small
            return f"{whole // big} {one}" + (f" {rest} {other}" if rest else "")
    raise AssertionError


def ago(at_ms: int | None, now_ms: float | None = None) -> str:
    """``3 h 2 min ago``, ``never``."""
    if at_ms is None:
        return "never"
    seconds = ((time.time() * 1000 if now_ms is None else now_ms) - at_ms) / 1000
    return f"{duration(seconds)} ago" if seconds >= 1 else "just now"


def moment(at_ms: int | None) -> str:
    """Local date and time, ``2026-11-22 15:04:05``."""
    return _strftime("%Y-%m-%d %H:%M:%S", at_ms, "never")


def day(at_ms: int | None) -> str:
    """Local date."""
    return _strftime("%Y-%m-%d", at_ms, "?")


def stamp(at_ms: int | None) -> str:
    """The time for programs: ISO 8601, UTC."""
    if at_ms is None:
        return ""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1000))
    except (OverflowError, ValueError, OSError):
        return str(at_ms)


def _strftime(form: str, at_ms: int | None, missing: str) -> str:
    if at_ms is None:
        return missing
    try:
        return time.strftime(form, time.localtime(at_ms / 1000))
    except (OverflowError, ValueError, OSError):
        return "?"

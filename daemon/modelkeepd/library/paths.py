"""Paths as text: reversible for every file name a disk can hold. Pure.

SQLite, msgpack and JSON want valid Unicode; file names are bytes. A byte that is no UTF-8 becomes
one character of the last private-use plane (U+10FF00 plus the byte), and so do the bytes of a
name that really uses those characters: two files never share a text, and `from_text` gives the
very name back.
"""

import os
import re

_BASE = 0x10FF00
_RESERVED = re.compile("[\U0010ff80-\U0010ffff]")
_ODD = re.compile("[\ud800-\udfff\U0010ff80-\U0010ffff]")


def to_text(path: str) -> str:
    """The storable text of an OS path (as `os.fsdecode` gives it)."""
    if path.isascii() or not _ODD.search(path):
        return path
    return _ODD.sub(_escape, path)


def _escape(match: "re.Match[str]") -> str:
    raw = match[0].encode("utf-8", "surrogateescape")
    return "".join(chr(_BASE + byte) for byte in raw)


def from_text(text: str) -> str:
    """The OS path behind a stored text."""
    if text.isascii() or not _RESERVED.search(text):
        return text
    raw = b"".join(
        bytes((ord(char) - _BASE,)) if ord(char) >= _BASE + 0x80 else os.fsencode(char)
        for char in text
    )
    return os.fsdecode(raw)


def signed(number: int) -> int:
    """An unsigned 64-bit number as SQLite can hold it."""
    return number - (1 << 64) if number >= 1 << 63 else number


def inside(folder: str, path: str) -> bool:
    """Is `path` somewhere below `folder`? Both absolute texts."""
    return path.startswith(folder if folder.endswith("/") else folder + "/")


def below(folder: str) -> tuple[str, str]:
    """The half-open range of texts that lie below a folder, for SQL on an ordered path."""
    base = folder.rstrip("/")
    return base + "/", base + "0"  # '0' is the character after '/'

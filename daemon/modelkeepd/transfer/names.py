"""Local names for remote files: total, pure functions (threats D1).

Owns what a name on disk may look like. Every hostile text goes in; a single path component that
is legal on Linux, macOS and Windows comes out. Refuses to look at the disk: the caller says which
names are taken.
"""

import re
import unicodedata
from collections.abc import Container
from itertools import chain

MAX_NAME_BYTES = 150
_FALLBACK = "model"
_SEPARATORS = re.compile(r"[/\\]")
_WINDOWS_FORBIDDEN = re.compile(r'[<>:"|?*]')
# One suffix that looks like a file type survives shortening.
_SUFFIX = re.compile(r"\.[A-Za-z0-9_]{1,16}\Z")
_RESERVED = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"]
    + [f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"]
)
# Letters that draw nothing although Unicode does not call them format characters.
_INVISIBLE = frozenset(
    chain(
        [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0],
        range(0x180B, 0x1810),
        range(0xFE00, 0xFE10),
        range(0xE0100, 0xE01F0),
    )
)
_DROPPED_CATEGORIES = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])


def safe_name(hostile: str) -> str:
    """A single component, <= 150 bytes of UTF-8, in NFC, with nothing hidden in it; idempotent."""
    name = hostile
    for _ in range(8):
        cleaned = _clean(name)
        if cleaned == name:
            break
        name = cleaned
    return name


def fold(name: str) -> str:
    """The key under which two names would meet on a case- or form-insensitive file system.

    Coarser than any real one, on purpose: a false meeting only costs a number in a name.
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded).casefold()


def unique_name(hostile: str, discriminator: str, taken: Container[str]) -> str:
    """A safe name whose ``fold`` is not in ``taken``.

    The plain name when it is free, else with the discriminator (the hub's version or file id,
    which is how people tell two files of one name apart), else with a number as well.
    """
    name = safe_name(hostile)
    if fold(name) not in taken:
        return name
    stem, suffix = split_suffix(name)
    mark = re.sub(r"[^A-Za-z0-9]+", "-", discriminator)[:40].strip("-")
    number = 1
    while True:
        tail = "-".join(filter(None, [mark, str(number) if number > 1 or not mark else ""]))
        candidate = safe_name(f"{_shorten(stem, MAX_NAME_BYTES - len(tail) - 20)}-{tail}{suffix}")
        if fold(candidate) not in taken:
            return candidate
        number += 1


def split_suffix(name: str) -> tuple[str, str]:
    """``("model.fp16", ".safetensors")``; the suffix may be empty."""
    found = _SUFFIX.search(name)
    if found is None or found.start() == 0:
        return name, ""
    return name[: found.start()], found.group()


def _clean(name: str) -> str:
    name = unicodedata.normalize("NFC", name)
    name = "".join(_visible(character) for character in name)
    parts = (part.strip() for part in _SEPARATORS.split(name))
    name = "_".join(part for part in parts if part.strip("."))
    name = _WINDOWS_FORBIDDEN.sub("_", name)
    name = name.lstrip(" .-~").rstrip(" .")
    stem, suffix = split_suffix(name)
    stem = _shorten(stem, MAX_NAME_BYTES - len(suffix)).rstrip(" .") if suffix else stem
    name = _shorten(stem + suffix, MAX_NAME_BYTES).rstrip(" .")
    if name.partition(".")[0].strip().upper() in _RESERVED:
        name = _shorten("_" + name, MAX_NAME_BYTES).rstrip(" .")
    return name or _FALLBACK


def _visible(character: str) -> str:
    if ord(character) in _INVISIBLE:
        return ""
    category = unicodedata.category(character)
    if category in _DROPPED_CATEGORIES:
        return ""
    return " " if category == "Zs" else character


def _shorten(text: str, limit_bytes: int) -> str:
    encoded = text.encode("utf-8")
    return text if len(encoded) <= limit_bytes else encoded[:limit_bytes].decode("utf-8", "ignore")

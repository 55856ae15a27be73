"""Reads what a GGUF file's header says: its plain values and the shapes of its tensors.

Owns the layout of versions 2 and 3, either byte order. Bounded by bytes, counts and nesting: a
vocabulary is passed over, a header that lies ends the reading, and what was read so far is kept.
Proves nothing; that is the scanner's work.
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

ReadAt = Callable[[int, int], bytes]
Value = str | int | float | bool

MAX_HEADER_BYTES = 64 << 20
MAX_KEYS = 10_000
MAX_TENSORS = 50_000
MAX_ITEMS = 2_000_000
MAX_TEXT_BYTES = 4_096
_MAX_KEY_BYTES = 65_535
_MAX_NAME_BYTES = 300
_MAX_DEPTH = 4
_WINDOW_BYTES = 1 << 20

_FIXED = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), tuple("BbHhIif?Qqd"), strict=True))
_STRING, _ARRAY = 8, 9


class _Ended(Exception):
    """The header lies, or is longer than what is read of one."""


@dataclass(slots=True)
class GgufHeader:
    """Values that are no lists and no long texts; shapes in PyTorch's order."""

    values: dict[str, Value] = field(default_factory=dict)
    tensors: dict[str, tuple[int, ...] | None] = field(default_factory=dict)


def read_gguf(read_at: ReadAt, size_bytes: int) -> GgufHeader:
    """The header of the file behind `read_at(offset, length)`, as far as it can be read."""
    header = GgufHeader()
    with suppress(_Ended, UnicodeDecodeError):  # what was read before is true
        _Reader(read_at, size_bytes).read(header)
    return header


class _Reader:
    def __init__(self, read_at: ReadAt, size_bytes: int) -> None:
        self._read_at = read_at
        self._end = min(size_bytes, MAX_HEADER_BYTES)
        self._at = 4
        self._window = b""
        self._window_at = 0
        self._order = "<"
        self._items = 0

    def read(self, header: GgufHeader) -> None:
        version = self._number("I")
        if version & 0xFFFF == 0:
            self._order = ">"
            version = int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in (2, 3):
            raise _Ended
        tensors, keys = self._number("Q"), self._number("Q")
        if keys > MAX_KEYS or tensors > MAX_TENSORS:
            raise _Ended
        for _ in range(keys):
            name = self._text(_MAX_KEY_BYTES)
            value = self._value(self._number("I"), 0)
            if value is not None and name is not None:
                header.values[name] = value
        for _ in range(tensors):
            name = self._text(_MAX_NAME_BYTES)
            dimensions = self._number("I")
            if dimensions > 8 or name is None:
                raise _Ended
            # the fastest dimension comes first
            shape = tuple(self._number("Q") for _ in range(dimensions))[::-1]
            self._skip(12)
            header.tensors[name] = shape

    def _value(self, kind: int, depth: int) -> Value | None:
        if kind == _STRING:
            return self._text(MAX_TEXT_BYTES)
        if kind == _ARRAY:
            self._array(depth)
            return None
        code = _FIXED.get(kind)
        if code is None:
            raise _Ended
        found: Value = struct.unpack(self._order + code, self._take(struct.calcsize("=" + code)))[0]
        return found

    def _array(self, depth: int) -> None:
        """Passed over: nothing in a list tells what the file is."""
        kind, count = self._number("I"), self._number("Q")
        code = _FIXED.get(kind)
        if code is not None:
            self._skip(struct.calcsize("=" + code) * count)
            return
        self._items += count
        if depth >= _MAX_DEPTH or self._items > MAX_ITEMS or kind not in (_STRING, _ARRAY):
            raise _Ended
        for _ in range(count):
            if kind == _STRING:
                self._skip(self._number("Q"))
            else:
                self._array(depth + 1)

    def _text(self, longest_bytes: int) -> str | None:
        """A text; None for one that is longer, which is passed over."""
        length = self._number("Q")
        if length > longest_bytes:
            self._skip(length)
            return None
        return self._take(length).decode("utf-8")

    def _number(self, code: str) -> int:
        return int(struct.unpack(self._order + code, self._take(struct.calcsize("=" + code)))[0])

    def _skip(self, length: int) -> None:
        if length > self._end - self._at:
            raise _Ended
        self._at += length

    def _take(self, length: int) -> bytes:
        if length > self._end - self._at:
            raise _Ended
        start = self._at - self._window_at
        if start < 0 or start + length > len(self._window):
            self._window = self._read_at(
                self._at, min(max(length, _WINDOW_BYTES), self._end - self._at)
            )
            self._window_at, start = self._at, 0
            if len(self._window) < length:
                raise _Ended
        self._at += length
        return self._window[start : start + length]

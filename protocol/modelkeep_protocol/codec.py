"""Frames of bytes to plain values and back: msgpack with every limit spelled out.

Refused: frames over the limit, nesting deeper than :data:`MAX_DEPTH`, more than
:data:`MAX_ITEMS` values, extension types, keys that are not text, duplicate keys, bytes after the
value, text that is not UTF-8, numbers that are not finite. The ``msgpack`` package has no option
for depth or for the number of values, so those are counted by a scan of the headers before anything
is built; most frames are too small to need it.
"""

from __future__ import annotations

import msgpack  # type: ignore[import-untyped,unused-ignore]

TYPE_CHECKING = False  # see errors
if TYPE_CHECKING:
    from typing import Any

MAX_REQUEST_BYTES = 1 << 20
MAX_REPLY_BYTES = 32 << 20
MAX_DEPTH = 16
MAX_ITEMS = 100_000


class BadFrame(ValueError):
    """The bytes are not a message this protocol allows; the text says why."""


def pack(value: object) -> bytes:
    """Encode a plain value. Raises BadFrame for what the wire does not carry."""
    try:
        try:
            packed: bytes = msgpack.packb(value, use_bin_type=True)
        except UnicodeEncodeError:
            # a file name that is no text: shown with its odd bytes written out
            packed = msgpack.packb(value, use_bin_type=True, unicode_errors="backslashreplace")
    except (TypeError, ValueError, OverflowError) as exc:
        raise BadFrame(f"can't be sent: {exc}") from exc
    return packed


def unpack(frame: bytes) -> Any:
    """Decode a frame from a peer that is not trusted. Raises BadFrame and nothing else."""
    if len(frame) > MAX_REQUEST_BYTES:
        raise BadFrame(f"a frame of {len(frame)} bytes; the limit is {MAX_REQUEST_BYTES}")
    # most frames have too few bytes that could open a level to be too deep, and are too short to
    # hold too many values: what msgpack itself refuses is then all there is to refuse
    if (
        len(frame) > MAX_ITEMS
        or len(frame) - len(frame.translate(None, _OPENS_LEVEL)) > MAX_DEPTH
        or 0xCA in frame  # floats are looked at
        or 0xCB in frame
    ):
        _check_shape(frame)
    return _decode(frame, MAX_REQUEST_BYTES, _map_without_duplicates)


def unpack_trusted(frame: bytes) -> Any:
    """Decode a frame from one's own daemon: size and form are checked, depth by msgpack alone."""
    if len(frame) > MAX_REPLY_BYTES:
        raise BadFrame(f"a frame of {len(frame)} bytes; the limit is {MAX_REPLY_BYTES}")
    return _decode(frame, MAX_REPLY_BYTES, None)


def _decode(frame: bytes, limit: int, hook: Any) -> Any:
    try:
        return msgpack.unpackb(
            frame,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=hook,
            ext_hook=_no_extension,
            max_str_len=limit,
            max_bin_len=limit,
            max_array_len=limit,
            max_map_len=limit,
            max_ext_len=0,
        )
    except BadFrame:
        raise
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError) as exc:
        # msgpack's own errors (ExtraData, FormatError, StackError) are ValueErrors
        raise BadFrame(f"not a valid msgpack message: {exc or type(exc).__name__}") from exc


def _map_without_duplicates(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key, value in pairs:
        if type(key) is not str:
            raise BadFrame("a key that is not text")
        if key in built:
            raise BadFrame(f"the key {key[:40]!r} stands twice")
        built[key] = value
    return built


def _no_extension(code: int, data: bytes) -> Any:
    raise BadFrame(f"extension type {code}; this protocol has none")


def _check_shape(frame: bytes) -> None:
    """Walk the headers: depth, number of values, finite numbers, without building anything."""
    position, length = 0, len(frame)
    # what counts promise is counted when they are read, so that a huge one ends it at once
    items = 1
    # values still to come at each open level; a map of n has 2n
    open_levels = [1]
    while open_levels:
        if open_levels[-1] == 0:
            open_levels.pop()
            continue
        open_levels[-1] -= 1
        if position >= length:
            raise BadFrame("the frame ends in the middle of a value")
        head = frame[position]
        position += 1
        if head <= 0x7F or head >= 0xE0 or head in _PLAIN:
            continue
        if 0xA0 <= head <= 0xBF:
            position += head & 0x1F
            continue
        if head in _FIXED:
            if head in (0xCA, 0xCB) and not _is_finite(frame, position, head):
                raise BadFrame("a number that is not finite")
            position += _FIXED[head]
            continue
        if head in _SIZED:
            width = _SIZED[head]
            position += width + int.from_bytes(frame[position : position + width], "big")
            continue
        if head <= 0x8F:
            children = 2 * (head & 0x0F)
        elif head <= 0x9F:
            children = head & 0x0F
        elif head in _COUNTED:
            width, each = _COUNTED[head]
            children = each * int.from_bytes(frame[position : position + width], "big")
            position += width
        else:
            raise BadFrame(f"byte 0x{head:02x} is no type this protocol has")
        items += children
        if items > MAX_ITEMS:
            raise BadFrame(f"more than {MAX_ITEMS} values in one frame")
        if len(open_levels) > MAX_DEPTH:
            raise BadFrame(f"nested deeper than {MAX_DEPTH} levels")
        open_levels.append(children)
    if position != length:
        raise BadFrame("the frame's length and its contents disagree")


def _is_finite(frame: bytes, position: int, head: int) -> bool:
    # all bits of the exponent set: infinity or no number
    top = int.from_bytes(frame[position : position + 2], "big")
    mask = 0x7F80 if head == 0xCA else 0x7FF0
    return top & mask != mask


_PLAIN = frozenset((0xC0, 0xC2, 0xC3))  # nil, false, true
# floats and integers: bytes that follow the head
_FIXED = {
    0xCA: 4, 0xCB: 8,
    0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
}  # fmt: skip
# binaries and texts: width of the length that follows
_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
# arrays and maps: width of the count, values a count stands for
_COUNTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
# what may open a level: maps and arrays (and bytes inside texts that look like them)
_OPENS_LEVEL = bytes((*range(0x80, 0xA0), *_COUNTED))

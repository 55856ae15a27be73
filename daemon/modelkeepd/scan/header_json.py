"""Reads the JSON header of a safetensors file, strictly and without building a tree.

Owns the grammar: an object of tensor descriptions plus an optional `__metadata__` of strings.
Names are checked for duplicates after their escapes are resolved, numbers must be plain integers,
nesting and lengths are bounded. It works on the bytes with a handful of regular expressions, so
that neither a hostile header's depth nor its count of tiny values costs recursion or memory. It
does not judge what the tensors say; safetensors.py does.
"""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from modelkeepd.scan.verdicts import Malformed

_SPACE = re.compile(rb"[ \t\n\r]*+")
_STRING = re.compile(
    rb'"([^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+)"'
)
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_WORD = re.compile(rb"[A-Za-z_]++")
# The shape every writer in use produces. Anything else, right or wrong, takes the slow way below,
# which accepts more spellings of the same and names the rule when there is none.
_PLAIN_TENSOR = re.compile(
    rb'[ \t\n\r]*+\{[ ]?"dtype":[ ]?"([A-Za-z0-9_]{1,32})",[ ]?"shape":[ ]?\[([0-9, ]{0,400})\],'
    rb'[ ]?"data_offsets":[ ]?\[([0-9]{1,18}),[ ]?([0-9]{1,18})\][ ]?\}'
)
_PLAIN_SHAPE = re.compile(rb"(?:(?:0|[1-9][0-9]{0,17})(?:, ?(?:0|[1-9][0-9]{0,17}))*+)?")

MAX_DEPTH = 32
MAX_DIGITS = 20
MAX_DIMENSIONS = 64
MAX_NAME_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Tensor:
    name: bytes
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int
    offset: int
    extra_key: str | None = None


@dataclass(frozen=True, slots=True)
class NullMetadata:
    """`"__metadata__": null`: not foreseen by the format, accepted by the reference reader."""

    offset: int


def check_utf8(header: bytes) -> None:
    """Raise unless the header is UTF-8; decodes in slices, so nothing of its size is built."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    step = 1 << 20
    for start in range(0, len(header), step):
        try:
            decoder.decode(header[start : start + step], start + step >= len(header))
        except UnicodeDecodeError:
            raise Malformed("header-not-utf8", "the header is not UTF-8 text", 8 + start) from None


class HeaderReader:
    """Walks one header once; `entries()` yields what it describes, in file order.

    `metadata` then holds the values of `__metadata__` of up to `keep_bytes` each; by default none.
    """

    def __init__(self, header: bytes, *, keep_bytes: int = -1) -> None:
        self._text = header
        self._at = 0
        self._names: set[bytes] = set()
        # longer ones are not unescaped
        self._keep_bytes = min(keep_bytes, MAX_NAME_BYTES)
        self.metadata: dict[bytes, bytes] = {}

    def entries(self, *, plain: bool = True) -> Iterator[Tensor | NullMetadata]:
        """Yield the tensors; `plain=False` avoids the short cut (tests hold both to one answer)."""
        if self._text[:1] != b"{":
            raise Malformed("header-start", "the header does not begin with '{'", 8)
        self._at = 1
        first = True
        while not self._closes(b"}", first):
            first = False
            at = self._at
            name = self._key("duplicate-name", self._names)
            if name == b"__metadata__":
                null = self._metadata()
                if null is not None:
                    yield null
                continue
            match = _PLAIN_TENSOR.match(self._text, self._at) if plain else None
            if match is not None and _PLAIN_SHAPE.fullmatch(match[2]) and _canonical(match):
                shape = tuple(map(int, match[2].split(b","))) if match[2] else ()
                if len(shape) <= MAX_DIMENSIONS:
                    self._at = match.end()
                    yield Tensor(
                        name, match[1].decode(), shape, int(match[3]), int(match[4]), 8 + at
                    )
                    continue
            yield self._tensor(name, at)
        rest = self._text[self._at :].lstrip(b" ")
        if rest:
            raise Malformed(
                "header-padding",
                "bytes other than spaces follow the header's JSON",
                8 + len(self._text) - len(rest),
            )

    # the grammar, one method a construct

    def _tensor(self, name: bytes, at: int) -> Tensor:
        shown = _shown(name)
        self._open(b"{", "tensor-not-object", f"tensor {shown} is not an object")
        keys: set[bytes] = set()
        dtype: str | None = None
        shape: tuple[int, ...] | None = None
        offsets: tuple[int, ...] | None = None
        extra: str | None = None
        first = True
        while not self._closes(b"}", first):
            first = False
            key = self._key("duplicate-key", keys)
            if key == b"dtype":
                self._skip_space()
                if self._text[self._at : self._at + 1] != b'"':
                    self._fail("dtype-not-string", f"the dtype of {shown} is not a string")
                dtype = self._string()[:64].decode("utf-8", "replace")
            elif key == b"shape":
                shape = self._integers("shape-not-list", f"the shape of {shown}", MAX_DIMENSIONS)
            elif key == b"data_offsets":
                offsets = self._integers("offsets-not-a-pair", f"data_offsets of {shown}", 2)
                if len(offsets) != 2:
                    self._fail("offsets-not-a-pair", f"data_offsets of {shown} are not two numbers")
            else:
                extra = _shown(key)
                self._skip_value()
        if dtype is None or shape is None or offsets is None:
            raise Malformed(
                "missing-key", f"tensor {shown} lacks dtype, shape or data_offsets", 8 + at
            )
        return Tensor(name, dtype, shape, offsets[0], offsets[1], 8 + at, extra)

    def _metadata(self) -> NullMetadata | None:
        self._skip_space()
        if self._text.startswith(b"null", self._at):
            self._at += 4
            return NullMetadata(8 + self._at - 4)
        self._open(b"{", "metadata-not-strings", "__metadata__ is not an object")
        keys: set[bytes] = set()
        first = True
        while not self._closes(b"}", first):
            first = False
            key = self._key("duplicate-metadata", keys)
            self._skip_space()
            if self._text[self._at : self._at + 1] != b'"':
                self._fail("metadata-not-strings", f"metadata {_shown(key)} is not a string")
            value = self._string()
            if len(value) <= self._keep_bytes:
                self.metadata[key] = value
        return None

    def _integers(self, rule: str, what: str, limit: int) -> tuple[int, ...]:
        self._open(b"[", rule, f"{what} is not a list")
        numbers: list[int] = []
        first = True
        while not self._closes(b"]", first):
            first = False
            if len(numbers) >= limit:
                self._fail(rule, f"{what} has more than {limit} numbers")
            numbers.append(self._integer(what))
        return tuple(numbers)

    def _integer(self, what: str) -> int:
        self._skip_space()
        match = _NUMBER.match(self._text, self._at)
        if match is None:
            self._fail("number-not-integer", f"{what} holds something that is no number")
        raw = match[0]
        if raw.startswith(b"-"):
            self._fail("number-negative", f"{what} holds a negative number")
        if not raw.isdigit():
            self._fail("number-not-integer", f"{what} holds a number that is no integer")
        if len(raw) > MAX_DIGITS or int(raw) > (1 << 63) - 1:
            self._fail("number-too-large", f"{what} holds a number of more than 63 bits")
        self._at = match.end()
        return int(raw)

    def _skip_value(self) -> None:
        """Pass over any JSON value (the extra key of some future writer), iteratively."""
        closers: list[bytes] = []
        seen: list[set[bytes]] = []
        while True:
            self._skip_space()
            char = self._text[self._at : self._at + 1]
            if char in (b"{", b"["):
                if len(closers) >= MAX_DEPTH:
                    self._fail("header-deep", f"values are nested deeper than {MAX_DEPTH}")
                self._at += 1
                closers.append(b"}" if char == b"{" else b"]")
                seen.append(set())
                if not self._closes(closers[-1], True):
                    if closers[-1] == b"}":
                        self._key("duplicate-key", seen[-1])
                    continue
                closers.pop()
                seen.pop()
            elif char == b'"':
                self._string()
            else:
                self._scalar()
            while closers and self._closes(closers[-1], False):
                closers.pop()
                seen.pop()
            if not closers:
                return
            if closers[-1] == b"}":
                self._key("duplicate-key", seen[-1])

    def _scalar(self) -> None:
        match = _WORD.match(self._text, self._at)
        if match is not None and match[0] in (b"true", b"false", b"null"):
            self._at = match.end()
            return
        match = _NUMBER.match(self._text, self._at)
        if match is None:
            self._fail("header-json", "the header is not JSON")
        self._at = match.end()

    def _key(self, rule: str, seen: set[bytes]) -> bytes:
        self._skip_space()
        key = self._string()
        if len(key) > MAX_NAME_BYTES:
            self._fail("name-too-long", f"a name has {len(key)} bytes")
        if key in seen:
            self._fail(rule, f"the name {_shown(key)} appears twice")
        seen.add(key)
        self._skip_space()
        if self._text[self._at : self._at + 1] != b":":
            self._fail("header-json", "the header is not JSON: a name without ':'")
        self._at += 1
        return key

    def _string(self) -> bytes:
        match = _STRING.match(self._text, self._at)
        if match is None:
            self._fail("header-json", "the header is not JSON: a string is broken")
        raw: bytes = match[1]
        if b"\\u" in raw or (b"\\" in raw and len(raw) <= MAX_NAME_BYTES):
            try:
                resolved = json.loads(match[0]).encode("utf-8")
            except UnicodeEncodeError:
                self._fail("header-not-utf8", "a string holds half a surrogate pair")
            raw = resolved
        self._at = match.end()
        return raw

    def _open(self, bracket: bytes, rule: str, what: str) -> None:
        self._skip_space()
        if self._text[self._at : self._at + 1] != bracket:
            self._fail(rule, what)
        self._at += 1

    def _closes(self, bracket: bytes, first: bool) -> bool:
        """At the end of the container? If not, stand on its next element."""
        self._skip_space()
        char = self._text[self._at : self._at + 1]
        if char == bracket:
            self._at += 1
            return True
        if first:
            return False
        if char != b",":
            self._fail("header-json", "the header is not JSON: a comma or an end is missing")
        self._at += 1
        return False

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _fail(self, rule: str, what: str) -> NoReturn:
        raise Malformed(rule, what, 8 + self._at)


def _canonical(match: re.Match[bytes]) -> bool:
    """Offsets without leading zeros (JSON forbids them; the slow way says so)."""
    return all(raw == b"0" or raw[0] != 0x30 for raw in (match[3], match[4]))


def _shown(name: bytes) -> str:
    return repr(name[:80].decode("utf-8", "replace"))

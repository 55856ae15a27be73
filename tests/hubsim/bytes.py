"""File contents of the simulated hub, and their true hashes.

A content is named by a small key (kind, base number, variant, tail) and made from it on demand, so
a catalog of a million models stores no bytes. Hashes stay cheap: the hash states after a base's
common prefix are kept, and a file's hash is one copied state plus 32 bytes. This module knows
nothing of models or HTTP.
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
import struct
import zlib
from dataclasses import dataclass
from typing import Protocol

from tests.hubsim import formats, formats_models
from tests.hubsim.formats import Base

_AUTOV1_START, _AUTOV1_SIZE, _AUTOV1_LEAST = 1 << 20, 1 << 16, 2 << 20
_HEADER_LIMIT = 16 << 20

# kind -> (how many different bases, smallest and largest size in bytes)
POOL: dict[str, tuple[int, int, int]] = {
    "lora": (160, 4_000, 500_000),
    "checkpoint": (40, 80_000, 2_000_000),
    "embedding": (12, 1_600, 60_000),
    "pickle_checkpoint": (24, 60_000, 900_000),
    "pickle_embedding": (12, 3_000, 60_000),
    "archive": (40, 2_000, 120_000),
    "gguf": (8, 20_000, 600_000),
    "config": (6, 0, 0),
    "workflow": (12, 0, 0),
    "unet": (12, 60_000, 900_000),
    "vae": (8, 20_000, 200_000),
    "text_encoder": (8, 30_000, 300_000),
    "llm_shard": (16, 80_000, 500_000),
    "adapter": (24, 16_000, 120_000),
    "diffusers_lora": (60, 8_000, 300_000),
    "llm_gguf": (10, 200_000, 900_000),
    "pickle_weights": (24, 30_000, 400_000),
}
_BUILDERS = formats.BUILDERS | formats_models.BUILDERS
# One base in eight of these is large enough (over 2 MiB) for the hub to publish AutoV1.
_BIG_KINDS = {"lora": 2_300_000, "checkpoint": 2_600_000}


@dataclass(frozen=True, slots=True)
class ContentKey:
    kind: str
    base: int
    tail: bytes
    variant: int = 0


@dataclass(frozen=True, slots=True)
class Described:
    """What the hub publishes of a content. `autov1` is None for files under 2 MiB."""

    size_bytes: int
    sha256: str
    autov3: str
    crc32: str
    autov1: str | None

    def hashes(self) -> dict[str, str]:
        found = {
            "AutoV2": self.sha256[:10],
            "SHA256": self.sha256,
            "CRC32": self.crc32,
            "AutoV3": self.autov3,
        }
        return {"AutoV1": self.autov1, **found} if self.autov1 else found


class Body(Protocol):
    """A response body of known size that can be read anywhere."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes | memoryview: ...


@dataclass(frozen=True, slots=True)
class BytesBody:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, size: int) -> memoryview:
        return memoryview(self.data)[offset : offset + size]


@dataclass(frozen=True, slots=True)
class SliceBody:
    """Bytes `start` to `stop` of another body."""

    whole: Body
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def read(self, offset: int, size: int) -> bytes | memoryview:
        return self.whole.read(self.start + offset, min(size, self.size - offset))


@dataclass(frozen=True, slots=True)
class FlippedBody:
    """Another body with `count` bytes from `offset` on inverted: right size, wrong bytes."""

    whole: Body
    offset: int
    count: int

    @property
    def size(self) -> int:
        return self.whole.size

    def read(self, offset: int, size: int) -> bytes | memoryview:
        data = self.whole.read(offset, size)
        first, last = max(self.offset, offset), min(self.offset + self.count, offset + len(data))
        if first >= last:
            return data
        changed = bytearray(data)
        for position in range(first - offset, last - offset):
            changed[position] ^= 0xFF
        return bytes(changed)


@dataclass(frozen=True, slots=True)
class LargeBody:
    """A safetensors file of any size: a header, one repeated block, a tail. Costs no memory."""

    head: bytes
    size: int
    tail: bytes
    block: bytes

    def read(self, offset: int, size: int) -> bytes | memoryview:
        size = min(size, self.size - offset)
        if offset < len(self.head):
            return memoryview(self.head)[offset : offset + size]
        end = self.size - len(self.tail)
        if offset >= end:
            return memoryview(self.tail)[offset - end : offset - end + size]
        # At most up to the end of the block; callers read on from where the answer stopped.
        start = (offset - len(self.head)) % len(self.block)
        stop = min(len(self.block), start + min(size, end - offset))
        return memoryview(self.block)[start:stop]


def read_all(body: Body) -> bytes:
    out = bytearray()
    while len(out) < body.size:
        out += body.read(len(out), body.size - len(out))
    return bytes(out)


def header_end(first_bytes: bytes) -> int:
    """Where AutoV3 starts: after the safetensors header, or after 8 bytes of anything else."""
    length = struct.unpack("<Q", first_bytes[:8])[0]
    return 8 + (length if length < _HEADER_LIMIT else 0)


def describe_bytes(data: bytes) -> Described:
    """The hub's hashes the plain way, over a whole file in memory (the tests' yardstick)."""
    big = len(data) >= _AUTOV1_LEAST
    window = data[_AUTOV1_START : _AUTOV1_START + _AUTOV1_SIZE]
    return Described(
        len(data),
        hashlib.sha256(data).hexdigest().upper(),
        hashlib.sha256(data[header_end(data) :]).hexdigest()[:12].upper(),
        struct.pack("<I", zlib.crc32(data)).hex().upper(),
        hashlib.sha256(window).hexdigest()[:8].upper() if big else None,
    )


class _Prepared:
    """Hash states after a base's prefix."""

    __slots__ = ("after_header", "autov1", "crc", "finish", "sha", "size")

    def __init__(self, base: Base) -> None:
        prefix = base.prefix
        self.finish = base.finish
        self.size = len(prefix)
        self.sha = hashlib.sha256(prefix)
        self.after_header = hashlib.sha256(prefix[header_end(prefix) :])
        self.crc = zlib.crc32(prefix)
        self.autov1: str | None = None
        if self.size >= _AUTOV1_LEAST:
            window = prefix[_AUTOV1_START : _AUTOV1_START + _AUTOV1_SIZE]
            self.autov1 = hashlib.sha256(window).hexdigest()[:8].upper()


class Contents:
    """All contents of one hub. The same seed and key always give the same bytes."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._prepared: dict[tuple[str, int, int], _Prepared] = {}
        self._large: dict[ContentKey, Described] = {}
        self._base = functools.lru_cache(maxsize=12)(self._build)

    def key(
        self, kind: str, number: int, *, variant: int = 0, base: int | None = None
    ) -> ContentKey:
        """The content number `number` of a kind; equal numbers mean equal bytes."""
        tail = hashlib.blake2b(b"%d:%d" % (self._seed, number), digest_size=32).digest()
        pick = int.from_bytes(tail[:4], "little") if base is None else base
        return ContentKey(kind, pick % POOL[kind][0], tail, variant)

    @staticmethod
    def large_key(size_bytes: int, number: int) -> ContentKey:
        return ContentKey("large", size_bytes, b"%032d" % number)

    def _build(self, kind: str, number: int, variant: int) -> Base:
        # Text seeds go through SHA-512, so the bytes do not depend on hash randomization.
        rng = random.Random(f"{self._seed}/{kind}/{number}")
        _count, least, most = POOL[kind]
        size = 0
        if most:
            size = int(least * math.exp(rng.random() * math.log(most / least)))
        if number % 8 == 7 and kind in _BIG_KINDS:
            size = _BIG_KINDS[kind]
        return _BUILDERS[kind](rng, size, variant)

    def _prefix(self, key: ContentKey) -> _Prepared:
        at = (key.kind, key.base, key.variant)
        prepared = self._prepared.get(at)
        if prepared is None:
            prepared = self._prepared[at] = _Prepared(self._base(*at))
        return prepared

    def describe(self, key: ContentKey) -> Described:
        if key.kind == "large":
            return self._describe_large(key)
        prepared = self._prefix(key)
        end = prepared.finish(key.tail)
        whole = prepared.sha.copy()
        whole.update(end)
        tensors = prepared.after_header.copy()
        tensors.update(end)
        return Described(
            prepared.size + len(end),
            whole.hexdigest().upper(),
            tensors.hexdigest()[:12].upper(),
            struct.pack("<I", zlib.crc32(end, prepared.crc)).hex().upper(),
            prepared.autov1,
        )

    def size_bytes(self, key: ContentKey) -> int:
        """The size alone, for those who do not want to pay for hashes."""
        if key.kind == "large":
            return key.base
        return self._prefix(key).size + formats.TAIL_SIZE

    def body(self, key: ContentKey) -> Body:
        if key.kind == "large":
            return self._large_body(key)
        base = self._base(key.kind, key.base, key.variant)
        return BytesBody(base.prefix + base.finish(key.tail))

    def _large_body(self, key: ContentKey) -> LargeBody:
        tensor = b'{"weight":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}'
        # The header is a fixed 256 bytes, so that the whole file has exactly the size asked for.
        data_size = key.base - 256
        head = (tensor % (data_size, data_size)).ljust(248)
        block = _large_block(self._seed)
        return LargeBody(struct.pack("<Q", 248) + head, key.base, key.tail, block)

    def _describe_large(self, key: ContentKey) -> Described:
        known = self._large.get(key)
        if known is None:
            body = self._large_body(key)
            whole, tensors, crc, at = hashlib.sha256(), hashlib.sha256(), 0, 0
            window = bytearray()
            while at < body.size:
                data = body.read(at, 1 << 20)
                whole.update(data)
                crc = zlib.crc32(data, crc)
                if at >= len(body.head):
                    tensors.update(data)
                if at < _AUTOV1_START + _AUTOV1_SIZE:
                    window += data
                at += len(data)
            window = window[_AUTOV1_START : _AUTOV1_START + _AUTOV1_SIZE]
            known = self._large[key] = Described(
                body.size,
                whole.hexdigest().upper(),
                tensors.hexdigest()[:12].upper(),
                struct.pack("<I", crc).hex().upper(),
                hashlib.sha256(window).hexdigest()[:8].upper(),
            )
        return known


@functools.lru_cache(maxsize=2)
def _large_block(seed: int) -> bytes:
    return formats.half_floats(random.Random(f"{seed}/large").randbytes(1 << 20))

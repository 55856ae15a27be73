"""The file around the records: header, compressed blocks, a signed index, a footer.

Owns the bytes of the format and knows nothing of models. The index lists each block with its place,
its sizes and its sha256, and the signature covers header and index: so whoever holds the public key
knows every byte to be right before it is decompressed, may read blocks in any order, and finds
where a former reading ended.
"""

import hashlib
import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Annotated, Protocol

import msgspec

from modelkeepd.hubs.documents import DocumentDamaged, pack, unpack
from modelkeepd.snapshot.errors import SnapshotDamaged, SnapshotFileError, SnapshotTooNew

# as PNG's: not text, and broken by whoever converts line ends or cuts the eighth bit
MAGIC = b"\x89MKC\r\n\x1a\n"
VERSION = 1
_PREFIX = struct.Struct("<8sII")  # magic, version, length of the header
_FOOTER = struct.Struct("<QQ64s8s")  # where the index is, its length, signature, magic
_SIGNED = b"modelkeep catalog snapshot\0"
LEVEL = 9
MAX_HEADER_BYTES = 1 << 20
MAX_INDEX_BYTES = 64 << 20
# two documents of the largest size we keep, and some room
MAX_BLOCK_BYTES = 136 << 20

_Length = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Signer(Protocol):
    """Who vouches for a snapshot."""

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        ...


class Base(msgspec.Struct, frozen=True):
    """The snapshot that a delta goes on from."""

    id: _Digest
    created_ms: int


class Header(msgspec.Struct, frozen=True):
    """What stands first. ``epoch`` and ``high_…`` are the writer's own, for its next delta."""

    created_ms: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
    program: Annotated[str, msgspec.Meta(max_length=200)]
    key: _Digest  # the signer's public key: 32 bytes as well
    nonce: Annotated[str, msgspec.Meta(max_length=64)]
    epoch: Annotated[str, msgspec.Meta(max_length=200)]
    high_seq: _Length
    high_odd_id: _Length
    base: Base | None = None


class Block(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a block lies, and what it must be."""

    offset: _Length
    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_BLOCK_BYTES + (1 << 20))]
    raw_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_BLOCK_BYTES)]
    records: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
    sha256: _Digest


class Counts(msgspec.Struct, frozen=True):
    """What is in a snapshot, and what of the catalog could not be put there."""

    models: _Length = 0
    details: _Length = 0
    facts: _Length = 0
    aliases: _Length = 0
    odd: _Length = 0
    dictionaries: _Length = 0
    unreadable: _Length = 0


class Index(msgspec.Struct, frozen=True):
    """The table of contents, which comes last and is signed."""

    blocks: list[Block]
    counts: Counts


class Writer:
    """Writes one snapshot into an open file. Not thread-safe; one thread at a time."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self._file = file
        encoded = msgspec.json.encode(header)
        start = _PREFIX.pack(MAGIC, VERSION, len(encoded)) + encoded
        self._digest = hashlib.sha256(start).digest()
        self._blocks: list[Block] = []
        self.size_bytes = 0
        self._write(start)

    @property
    def id(self) -> str:
        """The snapshot's name for ever: the sha256 of its beginning."""
        return self._digest.hex()

    def add_block(self, records: Sequence[bytes]) -> None:
        """Write encoded records as one block."""
        raw = b"\xdd" + len(records).to_bytes(4, "big") + b"".join(records)
        stored = pack(raw, LEVEL)
        digest = hashlib.sha256(stored).hexdigest()
        self._blocks.append(Block(self.size_bytes, len(stored), len(raw), len(records), digest))
        self._write(stored)

    def finish(self, counts: Counts, signer: Signer) -> None:
        """Write the index and sign. The caller syncs and renames."""
        index = msgspec.json.encode(Index(self._blocks, counts))
        if len(index) > MAX_INDEX_BYTES:
            raise SnapshotFileError("the catalog is too large for one snapshot")
        signature = signer.sign(_signed(self._digest, index))
        at = self.size_bytes
        self._write(index)
        self._write(_FOOTER.pack(at, len(index), signature, MAGIC))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.size_bytes += len(data)


def _signed(snapshot_id: bytes, index: bytes) -> bytes:
    return _SIGNED + snapshot_id + hashlib.sha256(index).digest()


class Reader:
    """An open snapshot whose signature holds. Closed by its context.

    Whether the key that signed it is one to trust is for the caller to decide.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path)
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def _load(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        prefix = self._read(0, min(_PREFIX.size, size))
        if len(prefix) < _PREFIX.size or not prefix.startswith(MAGIC):
            raise SnapshotDamaged(
                f"{self.path} is no snapshot of a catalog",
                hint="modelkeep catalog export writes one",
            )
        _, version, header_bytes = _PREFIX.unpack(prefix)
        if version > VERSION:
            raise SnapshotTooNew(
                f"{self.path} has format {version}, this modelkeep reads up to {VERSION}",
                hint="install a newer modelkeep, or export it again with this one",
            )
        if version < 1 or header_bytes > min(MAX_HEADER_BYTES, size - _PREFIX.size):
            raise self._damaged("its beginning is not as it was written")
        if size < _PREFIX.size + header_bytes + _FOOTER.size:
            raise self._damaged("it is cut off")
        start = self._read(0, _PREFIX.size + header_bytes)
        footer = self._read(size - _FOOTER.size, _FOOTER.size)
        at, index_bytes, signature, magic = _FOOTER.unpack(footer)
        if magic != MAGIC:
            raise self._damaged("it is cut off, or its end is not as it was written")
        if index_bytes > MAX_INDEX_BYTES or at + index_bytes + _FOOTER.size != size:
            raise self._damaged("its end does not fit its length")
        index = self._read(at, index_bytes)
        digest = hashlib.sha256(start)
        self.id = digest.hexdigest()
        try:
            self.header = msgspec.json.decode(start[_PREFIX.size :], type=Header)
        except (msgspec.MsgspecError, RecursionError, ValueError) as exc:
            raise self._damaged("its beginning is not as it was written") from exc
        self.key = bytes.fromhex(self.header.key)
        if not _verify(self.key, signature, _signed(digest.digest(), index)):
            raise self._damaged("its signature is not right")
        try:
            decoded = msgspec.json.decode(index, type=Index)
        except (msgspec.MsgspecError, RecursionError, ValueError) as exc:
            raise self._damaged("its index can't be read") from exc
        self.blocks = decoded.blocks
        self.counts = decoded.counts
        self.size_bytes = size
        end = len(start)
        for block in self.blocks:
            if block.offset != end:
                raise self._damaged("its index leaves something out")
            end += block.size_bytes
        if end != at:
            raise self._damaged("its index leaves something out")

    def check(self, number: int) -> int:
        """Compare one block's bytes with the index; its size. Raises SnapshotDamaged."""
        return len(self._stored(number))

    def block(self, number: int) -> bytes:
        """One block's records, as a msgpack array. Raises SnapshotDamaged."""
        stored = self._stored(number)
        expected = self.blocks[number].raw_bytes
        try:
            raw = unpack(stored, expected)
        except DocumentDamaged as exc:
            raise self._damaged(f"block {number} does not decompress: {exc}") from exc
        if raw[:1] != b"\xdd" or int.from_bytes(raw[1:5], "big") != self.blocks[number].records:
            raise self._damaged(f"block {number} does not hold what the index says")
        return raw

    def _stored(self, number: int) -> bytes:
        block = self.blocks[number]
        stored = self._read(block.offset, block.size_bytes)
        if hashlib.sha256(stored).hexdigest() != block.sha256:
            raise self._damaged(f"block {number} is not as it was written")
        return stored

    def _read(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._file.fileno(), length, offset)
        except OSError as exc:
            raise SnapshotFileError(f"{self.path} can't be read: {exc.strerror}") from exc
        if len(data) != length:
            raise self._damaged("it became shorter while it was read")
        return data

    def _damaged(self, why: str) -> SnapshotDamaged:
        return SnapshotDamaged(
            f"{self.path} is damaged: {why}", hint="copy it again from where it came from"
        )


def _verify(key: bytes, signature: bytes, message: bytes) -> bool:
    # 10 ms and some megabytes: only for those who use snapshots
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _open(path: Path) -> IO[bytes]:
    try:
        # opening a FIFO would wait for a writer
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as exc:
        raise SnapshotFileError(
            f"{path} can't be opened: {getattr(exc, 'strerror', None) or exc}"
        ) from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SnapshotFileError(f"{path} is no file", hint="give the path of a snapshot file")
    return os.fdopen(descriptor, "rb")

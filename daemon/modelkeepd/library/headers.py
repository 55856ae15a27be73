"""Reads of a model file what tells its kind, without loading it: headers and names, in a thread.

Owns which part of which format is read, and how much. Executes nothing: of a pickle only the texts
and small numbers among its opcodes are taken, which are names, not promises. What can't be read
gives fewer facts, never an error; only a file that can't be opened does.
"""

import io
import os
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

from modelkeepd.kinds.facts import FileFacts
from modelkeepd.library.fingerprint import Stamp, fingerprint_of, open_regular
from modelkeepd.library.gguf import read_gguf
from modelkeepd.library.paths import from_text, to_text
from modelkeepd.scan.header_json import HeaderReader, NullMetadata
from modelkeepd.scan.safetensors import MAX_READ_BYTES
from modelkeepd.scan.sniff import HEAD_BYTES, LEGACY_TORCH, TAIL_BYTES, sniff
from modelkeepd.scan.verdicts import Malformed

ReadAt = Callable[[int, int], bytes]
Shapes = dict[str, tuple[int, ...] | None]

MAX_TENSORS = 100_000
MAX_PICKLE_BYTES = 4 << 20
_MAX_OPCODES = 400_000
_MAX_NAME_CHARS = 300
_MAX_VALUE_BYTES = 16 << 10
_FOLDERS = 4


@dataclass(frozen=True, slots=True)
class Looked:
    """The facts of a file, and by what it is known again."""

    facts: FileFacts
    stamp: Stamp
    fingerprint: bytes


def look_inside(path: str) -> Looked:
    """The facts of the regular file at a path (text). Raises OSError."""
    place = PurePath(path)
    with open_regular(from_text(path)) as handle:
        stamp = Stamp.of(os.fstat(handle))
        fingerprint = fingerprint_of(handle, stamp.size_bytes)

        def read_at(offset: int, length: int) -> bytes:
            return _pread(handle, offset, length)

        size = stamp.size_bytes
        head = read_at(0, HEAD_BYTES)
        format_ = sniff(head, size, read_at(max(0, size - TAIL_BYTES), TAIL_BYTES))
        metadata: dict[str, str] = {}
        values: dict[str, str | int | float | bool] = {}
        tensors: Shapes = {}
        numbers: set[int] = set()
        if format_ == "safetensors":
            _safetensors(read_at, size, tensors, metadata)
        elif format_ == "gguf":
            header = read_gguf(read_at, size)
            values, tensors = header.values, header.tensors
        elif format_ == "zip":
            _pickled(_zipped_pickle(handle), tensors, numbers)
        elif format_ in ("pickle", "torch-legacy"):
            _pickled(read_at(0, MAX_PICKLE_BYTES), tensors, numbers)
    facts = FileFacts(
        name=place.name,
        size_bytes=size,
        format=format_,
        folders=tuple(folder.name for folder in place.parents if folder.name)[:_FOLDERS],
        metadata=metadata,
        gguf=values,
        tensors=tensors,
        numbers=frozenset(numbers),
    )
    return Looked(facts, stamp, fingerprint)


def absolute_text(path: str) -> str:
    """How the library writes the path that a person means. Raises OSError, ValueError."""
    return to_text(os.path.realpath(from_text(path)))


def _pread(handle: int, offset: int, length: int) -> bytes:
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(handle, length, offset)):
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)


def _safetensors(
    read_at: ReadAt, size_bytes: int, tensors: Shapes, metadata: dict[str, str]
) -> None:
    length = int.from_bytes(read_at(0, 8), "little")
    if length > min(MAX_READ_BYTES, size_bytes - 8):
        return
    reader = HeaderReader(read_at(8, length), keep_bytes=_MAX_VALUE_BYTES)
    try:
        for entry in reader.entries():
            if isinstance(entry, NullMetadata) or len(tensors) >= MAX_TENSORS:
                continue
            if len(entry.name) <= _MAX_NAME_CHARS:  # no layer is called by a page of text
                tensors[entry.name.decode("utf-8", "replace")] = entry.shape
    except Malformed:
        pass  # what stood before the fault was read
    for key, value in reader.metadata.items():
        metadata[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")


def _zipped_pickle(handle: int) -> bytes:
    """The pickle of torch's layout: one folder with data.pkl, not compressed."""
    try:
        with (
            io.FileIO(os.dup(handle)) as raw,
            zipfile.ZipFile(raw) as archive,
        ):
            for info in archive.infolist()[:10_000]:
                if info.filename.endswith("/data.pkl") and info.filename.count("/") == 1:
                    if info.compress_type != zipfile.ZIP_STORED:
                        return b""
                    with archive.open(info) as member:
                        return member.read(MAX_PICKLE_BYTES)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        pass
    return b""


def _pickled(data: bytes, tensors: Shapes, numbers: set[int]) -> None:
    """The texts among the opcodes that may be names, and the small numbers."""
    if data.startswith(LEGACY_TORCH):
        # three small pickles stand before the one that matters
        for _ in range(3):
            end = _walk(data, {}, set())
            data = data[end:]
    _walk(data, tensors, numbers)


def _walk(data: bytes, tensors: Shapes, numbers: set[int]) -> int:
    stream = io.BytesIO(data)
    try:
        for count, (_, value, _) in enumerate(pickletools.genops(stream)):
            if count > _MAX_OPCODES or len(tensors) >= MAX_TENSORS:
                break
            if isinstance(value, str) and 1 < len(value) <= _MAX_NAME_CHARS:
                tensors.setdefault(value, None)
            elif isinstance(value, int) and 0 < value <= 4_096:
                numbers.add(value)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError):
        pass  # cut short, or no pickle after all: the names before are names
    return stream.tell()

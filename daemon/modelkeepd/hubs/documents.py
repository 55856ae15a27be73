"""How raw documents are kept: their hash, and their compression with trained dictionaries.

Owns the byte formats of the columns ``raw`` and ``doc_hash``. Which documents are kept, and when,
is sync's. A dictionary is trained once per hub and kind from the first documents seen; it never
changes and is never removed, since old rows need it.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from typing import Any

import apsw
import msgspec
import zstandard

LEVEL = 3
# what one decompressed document may take: the largest recorded is under 1 MiB
MAX_DOCUMENT_BYTES = 64 << 20
DICTIONARY_BYTES = 96 << 10
TRAIN_AFTER_DOCUMENTS = 400
_TRAIN_MAX_SAMPLE_BYTES = 32 << 10

_decoder = msgspec.json.Decoder()
_canonical = msgspec.json.Encoder(order="deterministic")


class DocumentDamaged(Exception):
    """A kept document does not decompress."""


def document_hash(raw: bytes) -> bytes:
    """16 bytes that tell one document from another. Equal documents may differ in them when the
    hub wrote their keys in another order: see ``same_document``."""
    return hashlib.blake2b(raw, digest_size=16).digest()


def same_document(one: bytes, other: bytes) -> bool:
    """Whether two documents differ in nothing but the order of keys and blanks.

    A deployment of the hub must not turn its whole catalog into changes. Costs several times a
    hash, so it is asked only when the hashes differ.
    """
    return _canonical_form(one) == _canonical_form(other)


def _canonical_form(raw: bytes) -> bytes:
    try:
        return _canonical.encode(_decoder.decode(raw))
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return _stdlib_canonical(raw)


def _stdlib_canonical(raw: bytes) -> bytes:
    # NaN and lone surrogates: JSON to Python's parser only
    try:
        return json.dumps(json.loads(raw), sort_keys=True).encode()
    except (ValueError, RecursionError):
        return raw


def train_dictionary(samples: Sequence[bytes]) -> bytes | None:
    """A dictionary from these documents, or None when they are too few or too alike.

    Takes about a second: call it in a thread.
    """
    cut: list[bytes | bytearray | memoryview] = [
        sample[:_TRAIN_MAX_SAMPLE_BYTES] for sample in samples
    ]
    if sum(map(len, cut)) < 10 * DICTIONARY_BYTES:
        return None
    try:
        return zstandard.train_dictionary(
            DICTIONARY_BYTES, cut, k=1024, d=8, level=LEVEL
        ).as_bytes()
    except zstandard.ZstdError:
        return None


class DocumentCodec:
    """Compresses and decompresses documents; safe to share between threads.

    Knows the dictionaries it was given and reads others from the database it is handed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dicts: dict[int, zstandard.ZstdCompressionDict] = {}
        self._newest: dict[tuple[str, str], int] = {}
        # zstd contexts are not thread-safe and cost much to make: one per thread and dictionary
        self._local = threading.local()

    def load(self, db: apsw.Connection) -> None:
        """Learn every dictionary of this database."""
        rows: list[tuple[Any, ...]] = db.execute(
            "SELECT dict_id, hub, kind, bytes FROM document_dict ORDER BY dict_id"
        ).fetchall()
        for dict_id, hub, kind, data in rows:
            self.add(dict_id, hub, kind, data)

    def add(self, dict_id: int, hub: str, kind: str, data: bytes) -> None:
        """Learn one dictionary and compress ``kind`` of ``hub`` with it from now on."""
        dictionary = zstandard.ZstdCompressionDict(data)
        dictionary.precompute_compress(level=LEVEL)
        with self._lock:
            self._dicts[dict_id] = dictionary
            self._newest[hub, kind] = max(dict_id, self._newest.get((hub, kind), 0))

    def dictionary_for(self, hub: str, kind: str) -> int | None:
        """The dictionary new documents of this kind are compressed with, if there is one."""
        return self._newest.get((hub, kind))

    def compress(self, raw: bytes, dict_id: int | None) -> bytes:
        """``raw`` as one zstd frame. ``dict_id`` must be known."""
        return self._compressor(dict_id).compress(raw)

    def decompress(
        self, blob: bytes, dict_id: int | None, db: apsw.Connection | None = None
    ) -> bytes:
        """The document in ``blob``. Raises DocumentDamaged; never makes more than the bound."""
        if dict_id is not None and dict_id not in self._dicts and db is not None:
            self.load(db)
        try:
            size = zstandard.frame_content_size(blob)
            if size > MAX_DOCUMENT_BYTES:
                raise DocumentDamaged(f"a document claims {size} bytes")
            return self._decompressor(dict_id).decompress(blob, max_output_size=MAX_DOCUMENT_BYTES)
        except (zstandard.ZstdError, KeyError) as exc:
            raise DocumentDamaged(f"a kept document (dictionary {dict_id}): {exc}") from exc

    def _compressor(self, dict_id: int | None) -> zstandard.ZstdCompressor:
        made: dict[int | None, zstandard.ZstdCompressor] = self._local.__dict__.setdefault("c", {})
        found = made.get(dict_id)
        if found is None:
            dictionary = None if dict_id is None else self._dicts[dict_id]
            found = zstandard.ZstdCompressor(
                level=LEVEL, dict_data=dictionary, write_checksum=True, write_content_size=True
            )
            made[dict_id] = found
        return found

    def _decompressor(self, dict_id: int | None) -> zstandard.ZstdDecompressor:
        made: dict[int | None, zstandard.ZstdDecompressor] = self._local.__dict__.setdefault(
            "d", {}
        )
        found = made.get(dict_id)
        if found is None:
            dictionary = None if dict_id is None else self._dicts[dict_id]
            found = made[dict_id] = zstandard.ZstdDecompressor(dict_data=dictionary)
        return found


def read_document(db: apsw.Connection, codec: DocumentCodec, model_key: int) -> bytes | None:
    """The newest raw document of a model, or None when there is none."""
    row = db.execute(
        "SELECT raw, dict_id FROM document WHERE model_key = ?", (model_key,)
    ).fetchone()
    return None if row is None else codec.decompress(row[0], row[1], db)

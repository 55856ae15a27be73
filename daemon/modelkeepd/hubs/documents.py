"""How raw documents are kept: their hash, and their compression, by dictionary or as deltas.

Owns the byte formats of the columns ``raw`` and ``doc_hash``. Which documents are kept, and when,
is sync's. A dictionary is trained once per hub and kind from the first documents seen; it never
changes and is never removed, since old rows need it. A delta is an older document compressed with
the next newer one as its dictionary, so it can only be read together with that one.
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
# for longer documents the tables of zstd would take more than 32 MB for a moment
MAX_DELTA_SOURCE_BYTES = 8 << 20
TRAIN_AFTER_DOCUMENTS = 400
_TRAIN_MAX_SAMPLE_BYTES = 32 << 10
_TRAIN_AFTER_BYTES = 10 * DICTIONARY_BYTES

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


def suffice(samples: Sequence[bytes]) -> bool:
    """Whether a dictionary can be trained from these documents: rows of a list are short, and it
    takes thousands of them."""
    if len(samples) < TRAIN_AFTER_DOCUMENTS:
        return False
    return sum(min(len(one), _TRAIN_MAX_SAMPLE_BYTES) for one in samples) >= _TRAIN_AFTER_BYTES


def train_dictionary(samples: Sequence[bytes]) -> bytes | None:
    """A dictionary from these documents, or None when they are too few or too alike.

    Takes about a second: call it in a thread.
    """
    cut: list[bytes | bytearray | memoryview] = [
        sample[:_TRAIN_MAX_SAMPLE_BYTES] for sample in samples
    ]
    if sum(map(len, cut)) < _TRAIN_AFTER_BYTES:
        return None
    try:
        return zstandard.train_dictionary(
            DICTIONARY_BYTES, cut, k=1024, d=8, level=LEVEL
        ).as_bytes()
    except zstandard.ZstdError:
        return None


def is_dictionary(data: bytes) -> bool:
    """Whether these bytes are a trained dictionary that gives back what it compressed."""
    sample = b"a document " * 10
    try:
        dictionary = zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_FULLDICT)
        frame = zstandard.ZstdCompressor(dict_data=dictionary).compress(sample)
        return zstandard.ZstdDecompressor(dict_data=dictionary).decompress(frame) == sample
    except zstandard.ZstdError:
        return False


def pack(raw: bytes, level: int) -> bytes:
    """Many documents as one frame, which tells its length and holds no checksum."""
    return zstandard.ZstdCompressor(level=level, write_content_size=True).compress(raw)


def unpack(frame: bytes, size_bytes: int) -> bytes:
    """What ``pack`` was given. Raises DocumentDamaged unless it is of exactly this length."""
    try:
        if zstandard.frame_content_size(frame) != size_bytes:
            raise DocumentDamaged(f"it is not {size_bytes} bytes long")
        return zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=size_bytes, allow_extra_data=False
        )
    except zstandard.ZstdError as exc:
        raise DocumentDamaged(str(exc)) from exc


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

    def delta(self, old: bytes, new: bytes) -> bytes:
        """``old``, to be read again with ``new`` at hand; takes some 15 ms a MB.

        Of very long documents it is a whole frame, which ``apply_delta`` reads just as well.
        """
        if max(len(old), len(new)) > MAX_DELTA_SOURCE_BYTES:
            return self.compress(old, None)
        # The level's own tables forget most of a dictionary of megabytes: one changed byte of 2 MB
        # cost 450 kB with them, 0.2 kB with these (measured). They take 8 bytes an entry.
        tables = {}
        if len(new) > 512 << 10:
            tables = dict.fromkeys(("hash_log", "chain_log"), len(new).bit_length() - 1)
        parameters = zstandard.ZstdCompressionParameters.from_level(
            LEVEL,
            source_size=len(old),
            dict_size=len(new),
            # all of ``new`` must be in reach from the last byte of ``old``
            window_log=max(zstandard.WINDOWLOG_MIN, (len(old) + len(new)).bit_length()),
            write_checksum=True,
            write_content_size=True,
            **tables,
        )
        compressor = zstandard.ZstdCompressor(
            compression_params=parameters, dict_data=_as_dictionary(new)
        )
        return compressor.compress(old)

    def apply_delta(self, new: bytes, delta: bytes) -> bytes:
        """The document of which ``delta`` was made. Raises DocumentDamaged.

        That ``new`` is the right one is checked too: the frame holds a checksum of its content.
        """
        try:
            size = zstandard.frame_content_size(delta)
            if size > MAX_DOCUMENT_BYTES:
                raise DocumentDamaged(f"a document claims {size} bytes")
            decompressor = zstandard.ZstdDecompressor(dict_data=_as_dictionary(new))
            return decompressor.decompress(delta, max_output_size=MAX_DOCUMENT_BYTES)
        except (zstandard.ZstdError, MemoryError) as exc:
            raise DocumentDamaged(f"a kept difference: {exc}") from exc

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


def _as_dictionary(raw: bytes) -> zstandard.ZstdCompressionDict:
    # by default a document that happens to begin like a dictionary would be taken for one
    return zstandard.ZstdCompressionDict(raw, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def read_document(db: apsw.Connection, codec: DocumentCodec, model_key: int) -> bytes | None:
    """The newest raw document of a model, or None when there is none."""
    row = db.execute(
        "SELECT raw, dict_id FROM document WHERE model_key = ?", (model_key,)
    ).fetchone()
    return None if row is None else codec.decompress(row[0], row[1], db)

"""Vocabularies of SentencePiece tokenizers (``tokenizer.model``, ``spiece.model``).

Owns a strict walk over the few fields that such a file has: a protobuf message of pieces (text,
score, kind), then the settings of trainer and normalizer. A file that is this to its last byte
holds nothing that a reader would call or open.
"""

from modelkeepd.scan.verdicts import Findings, Verdict

MAX_BYTES = 64 << 20
_PIECE, _LAST_FIELD = 1, 5
_VARINT, _BYTES, _FLOAT = 0, 2, 5
# of a piece: its text, its score, its kind
_PIECE_FIELDS = frozenset({(1, _BYTES), (2, _FLOAT), (3, _VARINT)})
_FIRST_PIECES = 3


class _Broken(Exception):
    """Another file than it should be; ``args`` hold where."""


def looks_like(head: bytes) -> bool:
    """Whether a file that begins so may be one: its first pieces are sound."""
    at = 0
    try:
        for _ in range(_FIRST_PIECES):
            field, start, end = _field(head, at, len(head))
            if field != _PIECE:
                return False
            _check_piece(head, start, end)
            at = end
    except _Broken:
        return False
    return True


def examine(data: bytes, size: int) -> Findings:
    """The verdict on the whole file, of which ``data`` is what was read."""
    findings = Findings.starting_at(Verdict.REVIEW)
    if len(data) < size:
        findings.add(
            Verdict.NOT_SCANNED, "sentencepiece-not-read", f"only {len(data)} bytes were read"
        )
        return findings
    at = 0
    try:
        while at < size:
            field, start, end = _field(data, at, size)
            if field == _PIECE:
                _check_piece(data, start, end)
            at = end
    except _Broken:
        findings.add(
            Verdict.NOT_SCANNED,
            "sentencepiece-broken",
            "no SentencePiece vocabulary to its end",
            at,
        )
        return findings
    findings.note("sentencepiece", "a tokenizer's vocabulary; nothing in it is called")
    return findings


def _field(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Number, start and end of the length-delimited field at this place."""
    tag, at = _varint(data, at, end)
    if tag & 7 != _BYTES or not 1 <= tag >> 3 <= _LAST_FIELD:
        raise _Broken(at)
    length, at = _varint(data, at, end)
    if length > end - at:
        raise _Broken(at)
    return tag >> 3, at, at + length


def _check_piece(data: bytes, at: int, end: int) -> None:
    while at < end:
        tag, at = _varint(data, at, end)
        if (tag >> 3, tag & 7) not in _PIECE_FIELDS:
            raise _Broken(at)
        if tag & 7 == _VARINT:
            _, at = _varint(data, at, end)
        elif tag & 7 == _FLOAT:
            at += 4
        else:
            length, at = _varint(data, at, end)
            try:
                data[at : at + length].decode()
            except UnicodeDecodeError:
                raise _Broken(at) from None
            at += length
    if at != end:
        raise _Broken(at)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 35:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _Broken(at)

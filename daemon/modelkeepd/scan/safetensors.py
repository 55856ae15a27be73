"""Proves the structure of a safetensors file, or names the rule it breaks.

Owns the rules of the format. A file whose header is well formed, whose tensors' types and shapes
agree with their spans, and whose spans cover the data exactly, holds numbers and text only: that
is the one proof that gives `safe`. Only the header is read; a 10 GB file costs what its header
costs.
"""

from array import array
from collections.abc import Callable

from modelkeepd.scan.header_json import HeaderReader, NullMetadata, Tensor, check_utf8
from modelkeepd.scan.verdicts import Findings, Malformed, Verdict

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""
MAX_READ_BYTES = 25_000_000
"""Ours (and the hub client's): a larger header is legal, and stays unread rather than trusted."""

DTYPE_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
_MAX_ELEMENTS = (1 << 63) - 1


def examine(
    read_at: Callable[[int, int], bytes], size_bytes: int, *, plain: bool = True
) -> Findings:
    """Judge the file behind `read_at(offset, length)`; `safe` only if every rule holds."""
    findings = Findings.starting_at(Verdict.SAFE)
    try:
        _prove(read_at, size_bytes, findings, plain)
    except Malformed as broken:
        findings.add(Verdict.MALFORMED, broken.rule, broken.what, broken.offset)
    return findings


def _prove(
    read_at: Callable[[int, int], bytes], size_bytes: int, findings: Findings, plain: bool
) -> None:
    if size_bytes < 8:
        raise Malformed("too-short", f"{size_bytes} bytes cannot hold a header length", 0)
    length = int.from_bytes(read_at(0, 8), "little")
    if length > MAX_HEADER_BYTES:
        raise Malformed(
            "header-too-long", f"the header claims {length} bytes, over {MAX_HEADER_BYTES}", 0
        )
    if 8 + length > size_bytes:
        raise Malformed(
            "header-past-end", f"the header claims {length} bytes, the file has {size_bytes}", 0
        )
    if length < 2:
        raise Malformed("header-empty", "the header is empty", 0)
    if length > MAX_READ_BYTES:
        findings.add(
            Verdict.NOT_SCANNED,
            "header-not-read",
            f"a header of {length} bytes is over our limit of {MAX_READ_BYTES}",
            0,
        )
        return
    header = read_at(8, length)
    if len(header) != length:
        raise Malformed("header-past-end", "the file ended inside its header", 8)
    check_utf8(header)
    _check_tensors(HeaderReader(header), size_bytes - 8 - length, findings, plain)


def _check_tensors(reader: HeaderReader, data_bytes: int, findings: Findings, plain: bool) -> None:
    covered = 0
    ordered = True
    begins, ends = array("Q"), array("Q")
    for entry in reader.entries(plain=plain):
        if isinstance(entry, NullMetadata):
            findings.add(Verdict.REVIEW, "metadata-null", "__metadata__ is null", entry.offset)
            continue
        _check_tensor(entry, data_bytes, findings)
        ordered = ordered and entry.begin == covered
        covered = entry.end
        begins.append(entry.begin)
        ends.append(entry.end)
    if not ordered:
        covered = _cover(begins, ends)
    if covered < data_bytes:
        raise Malformed(
            "data-trailing", f"{data_bytes - covered} bytes at the end belong to no tensor"
        )


def _check_tensor(tensor: Tensor, data_bytes: int, findings: Findings) -> None:
    shown = repr(tensor.name[:80].decode("utf-8", "replace"))
    if tensor.begin > tensor.end:
        raise Malformed("offsets-reversed", f"{shown} ends before it begins", tensor.offset)
    if tensor.end > data_bytes:
        raise Malformed(
            "data-past-end",
            f"{shown} ends at {tensor.end}, the file holds {data_bytes} bytes of data",
            tensor.offset,
        )
    elements = 1
    empty = False
    for dimension in tensor.shape:
        if dimension == 0:
            empty = True
            continue
        elements *= dimension
        if elements > _MAX_ELEMENTS:
            raise Malformed("shape-overflow", f"the shape of {shown} overflows", tensor.offset)
    if empty:
        elements = 0
    if tensor.extra_key is not None:
        findings.add(
            Verdict.REVIEW,
            "extra-key",
            f"{shown} has an unknown key {tensor.extra_key}",
            tensor.offset,
        )
    bits = DTYPE_BITS.get(tensor.dtype)
    if bits is None:
        findings.add(
            Verdict.REVIEW,
            "dtype-unknown",
            f"{shown} has the unknown type {tensor.dtype!r}; its size cannot be checked",
            tensor.offset,
        )
        return
    if elements * bits % 8:
        raise Malformed("dtype-not-whole-bytes", f"{shown} ends inside a byte", tensor.offset)
    if elements * bits // 8 != tensor.end - tensor.begin:
        raise Malformed(
            "span-mismatch",
            f"{shown} needs {elements * bits // 8} bytes and spans {tensor.end - tensor.begin}",
            tensor.offset,
        )


def _cover(begins: "array[int]", ends: "array[int]") -> int:
    """How far spans in any order cover the data without hole or overlap; raises if they do not."""
    # One integer a span: sorting 300,000 of them stays within tens of megabytes.
    spans = sorted(begin << 64 | end for begin, end in zip(begins, ends, strict=True))
    covered = 0
    for span in spans:
        begin, end = span >> 64, span & ((1 << 64) - 1)
        if begin > covered:
            raise Malformed("data-hole", f"bytes {covered} to {begin} belong to no tensor")
        if begin < covered:
            raise Malformed("data-overlap", f"two tensors share the bytes from {begin}")
        covered = end
    return covered

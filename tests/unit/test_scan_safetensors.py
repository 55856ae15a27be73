"""Only a safetensors file that keeps every rule is `safe`; the rule that is broken is named."""

import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.scan import Verdict, safetensors, scan_file
from modelkeepd.scan.verdicts import Findings

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def pack(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + body


def examine(data: bytes, *, plain: bool = True) -> Findings:
    return safetensors.examine(
        lambda offset, length: data[offset : offset + length], len(data), plain=plain
    )


def rules(findings: Findings) -> set[str]:
    return {reason.rule for reason in findings.reasons}


GOOD: dict[str, bytes] = {
    "one tensor": pack({"w": ONE}, bytes(4)),
    "no tensors": pack({}),
    "metadata only": pack({"__metadata__": {"format": "pt"}}),
    "scalar": pack({"w": {**ONE, "shape": []}}, bytes(4)),
    "zero-size dimension": pack(
        {"a": ONE, "e": {"dtype": "F32", "shape": [0, 7], "data_offsets": [4, 4]}}, bytes(4)
    ),
    "any order of names": pack(
        {"b": {**ONE, "data_offsets": [4, 8]}, "a": {**ONE, "data_offsets": [0, 4]}}, bytes(8)
    ),
    "padding with spaces": pack(json.dumps({"w": ONE}).encode() + b"   ", bytes(4)),
    "compact": pack(json.dumps({"w": ONE}, separators=(",", ":")).encode(), bytes(4)),
    "four-bit pairs": pack({"w": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, bytes(1)),
    "keys in another order": pack(
        b'{"w":{"data_offsets":[0,4],"shape":[1],"dtype":"F32"}}', bytes(4)
    ),
    "escapes and other scripts": pack(
        {"__metadata__": {"名前": "水彩\n\t\"'"}, "層.重み": ONE}, bytes(4)
    ),
}

BAD: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "too-short"),
    "no header": (struct.pack("<Q", 0), "header-empty"),
    "length past the end": (pack({"w": ONE}, bytes(4), length=1 << 20), "header-past-end"),
    "length over the limit": (pack({"w": ONE}, bytes(4), length=1 << 40), "header-too-long"),
    "length of 2^63": (pack({"w": ONE}, bytes(4), length=(1 << 63) + 5), "header-too-long"),
    "leading space": (pack(b" " + json.dumps({"w": ONE}).encode(), bytes(4)), "header-start"),
    "not an object": (pack(b"[1, 2, 3]"), "header-start"),
    "padding with NUL": (pack(json.dumps({"w": ONE}).encode() + b"\0", bytes(4)), "header-padding"),
    "not UTF-8": (pack(b'{"\xff":1}'), "header-not-utf8"),
    "half a surrogate": (pack(b'{"\\ud800":1}'), "header-not-utf8"),
    "overlap": (
        pack({"a": ONE, "b": {**ONE, "data_offsets": [2, 6]}}, bytes(6)),
        "data-overlap",
    ),
    "hole": (pack({"a": ONE, "b": {**ONE, "data_offsets": [8, 12]}}, bytes(12)), "data-hole"),
    "first not at zero": (pack({"a": {**ONE, "data_offsets": [4, 8]}}, bytes(8)), "data-hole"),
    "trailing byte": (pack({"w": ONE}, bytes(5)), "data-trailing"),
    "missing byte": (pack({"w": ONE}, bytes(3)), "data-past-end"),
    "data without tensors": (pack({}, b"x"), "data-trailing"),
    "duplicate name": (
        pack(
            b'{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
            b'"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            bytes(4),
        ),
        "duplicate-name",
    ),
    "duplicate name by escape": (
        pack(
            b'{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
            b'"\\u0077":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            bytes(4),
        ),
        "duplicate-name",
    ),
    "duplicate key of a tensor": (
        pack(b'{"w":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        "duplicate-key",
    ),
    "duplicate metadata": (pack(b'{"__metadata__":{"a":"1","a":"2"}}'), "duplicate-metadata"),
    "metadata that is no text": (pack({"__metadata__": {"a": 1}}), "metadata-not-strings"),
    "shape that lies": (pack({"w": {**ONE, "shape": [9]}}, bytes(4)), "span-mismatch"),
    "shape that overflows": (
        pack({"w": {**ONE, "shape": [1 << 32, 1 << 32, 4]}}, bytes(4)),
        "shape-overflow",
    ),
    "overflow hidden by a zero": (
        pack({"w": {**ONE, "shape": [1 << 40, 1 << 40, 0], "data_offsets": [0, 0]}}),
        "shape-overflow",
    ),
    "reversed": (pack({"w": {**ONE, "data_offsets": [4, 0]}}, bytes(4)), "offsets-reversed"),
    "negative": (pack({"w": {**ONE, "shape": [-1]}}, bytes(4)), "number-negative"),
    "float": (
        pack(b'{"w":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', bytes(4)),
        "number-not-integer",
    ),
    "exponent": (
        pack(b'{"w":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}', bytes(4)),
        "number-not-integer",
    ),
    "bool": (pack({"w": {**ONE, "shape": [True]}}, bytes(4)), "number-not-integer"),
    "NaN": (
        pack(b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)),
        "number-not-integer",
    ),
    "leading zero": (
        pack(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,04]}}', bytes(4)),
        "header-json",
    ),
    "a number of 400,000 digits": (
        pack(b'{"w":{"dtype":"F32","shape":[' + b"9" * 400_000 + b'],"data_offsets":[0,4]}}'),
        "number-too-large",
    ),
    "three offsets": (
        pack({"w": {**ONE, "data_offsets": [0, 4, 8]}}, bytes(4)),
        "offsets-not-a-pair",
    ),
    "no offsets": (pack({"w": {"dtype": "F32", "shape": [1]}}, bytes(4)), "missing-key"),
    "a tensor that is a number": (pack({"w": 7}), "tensor-not-object"),
    "dtype that is a number": (pack({"w": {**ONE, "dtype": 4}}, bytes(4)), "dtype-not-string"),
    "half a byte": (
        pack({"w": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}, bytes(2)),
        "dtype-not-whole-bytes",
    ),
    "deep metadata": (
        pack(b'{"__metadata__":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
        "metadata-not-strings",
    ),
    "deep extra key": (
        pack(b'{"w":{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}}"),
        "header-deep",
    ),
    "half an object": (pack(b'{"w":'), "tensor-not-object"),
    "a comma too many": (pack(b'{"__metadata__":{},}'), "header-json"),
}


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("case", GOOD)
def test_a_file_that_keeps_every_rule_is_safe(case: str, plain: bool) -> None:
    assert examine(GOOD[case], plain=plain).verdict is Verdict.SAFE


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("case", BAD)
def test_a_broken_rule_is_named(case: str, plain: bool) -> None:
    data, rule = BAD[case]
    findings = examine(data, plain=plain)
    assert (findings.verdict, rules(findings)) == (Verdict.MALFORMED, {rule})


@pytest.mark.parametrize(
    ("header", "rule"),
    [
        ({"w": {**ONE, "dtype": "Q9"}}, "dtype-unknown"),
        ({"w": {**ONE, "later": {"a": [1, {"b": None}], "c": []}}}, "extra-key"),
        (b'{"__metadata__":null,"w":' + json.dumps(ONE).encode() + b"}", "metadata-null"),
    ],
)
def test_what_only_a_future_writer_would_do_needs_a_look(header: Any, rule: str) -> None:
    findings = examine(pack(header, bytes(4)))
    assert (findings.verdict, rules(findings)) == (Verdict.REVIEW, {rule})


def test_a_header_over_our_own_limit_is_not_called_safe() -> None:
    length = safetensors.MAX_READ_BYTES + 1
    findings = safetensors.examine(
        lambda offset, size: struct.pack("<Q", length) if offset == 0 else b"", length + 8
    )
    assert findings.verdict is Verdict.NOT_SCANNED


NUMBERS = re.compile(rb"(?<![\w.\"])\d+(?![\w.\"])")


def reference_says_valid(data: bytes) -> bool:
    """The rules once more, as plainly as they can be written."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length], parse_constant=lambda _: 1 / 0)
        spans = []
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            begin, end = tensor["data_offsets"]
            elements = 1
            for dimension in tensor["shape"]:
                elements *= dimension
            if elements * safetensors.DTYPE_BITS[tensor["dtype"]] != 8 * (end - begin):
                return False
            spans.append((begin, end))
        at = 0
        for begin, end in sorted(spans):
            if begin != at:
                return False
            at = end
        return at == len(data) - 8 - length
    except (ValueError, KeyError, TypeError, ZeroDivisionError, struct.error):
        return False


@st.composite
def valid_files(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Header and body of a valid file."""
    header: dict[str, Any] = {}
    at = 0
    names = draw(st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=5))
    for name in names:
        if name == "__metadata__":
            continue
        dtype = draw(st.sampled_from(["U8", "F16", "F32", "I64"]))
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        elements = 1
        for dimension in shape:
            elements *= dimension
        size = elements * safetensors.DTYPE_BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.dictionaries(st.text(max_size=5), st.text(max_size=9)))
    compact = (",", ":") if draw(st.booleans()) else None
    raw = json.dumps(header, ensure_ascii=draw(st.booleans()), separators=compact)
    try:
        return raw.encode(), bytes(at)
    except UnicodeEncodeError:
        return b"{}", b""


@settings(max_examples=150, deadline=None)
@given(valid_files(), st.data())
def test_no_mutated_number_is_safe_unless_the_rules_still_hold(
    file: tuple[bytes, bytes], data: st.DataObject
) -> None:
    header, body = file
    whole = pack(header, body)
    assert examine(whole).verdict is Verdict.SAFE
    places = list(NUMBERS.finditer(header))
    if not places:
        return
    place = data.draw(st.sampled_from(places))
    new = data.draw(
        st.sampled_from([b"0", b"1", b"3", b"8", b"-1", b"2.0", b"1e3", b"true", b"NaN", b'"4"'])
        | st.integers(0, 1 << 70).map(lambda number: str(number).encode())
    )
    mutated = pack(header[: place.start()] + new + header[place.end() :], body)
    verdicts = {examine(mutated, plain=plain).verdict for plain in (True, False)}
    assert len(verdicts) == 1
    if Verdict.SAFE in verdicts:
        assert reference_says_valid(mutated)
    length = data.draw(st.integers(0, 1 << 66)) % (1 << 64)
    relabeled = struct.pack("<Q", length) + whole[8:]
    if examine(relabeled).verdict is Verdict.SAFE:
        assert reference_says_valid(relabeled)


@settings(max_examples=150, deadline=None)
@given(valid_files(), st.data())
def test_no_mutated_byte_makes_it_raise_or_lie(
    file: tuple[bytes, bytes], data: st.DataObject
) -> None:
    whole = bytearray(pack(*file))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    mutated = bytes(whole)
    verdicts = {examine(mutated, plain=plain).verdict for plain in (True, False)}
    assert len(verdicts) == 1
    if Verdict.SAFE in verdicts:
        assert reference_says_valid(mutated)


@pytest.mark.parametrize("case", GOOD)
def test_a_file_cut_anywhere_is_never_safe(case: str) -> None:
    data = GOOD[case]
    for length in range(len(data)):
        assert examine(data[:length]).verdict is not Verdict.SAFE, length


def test_a_large_file_costs_what_its_header_costs(tmp_path: Path) -> None:
    size = 10 << 30
    tensors = 2_500
    each = size // tensors
    header = {
        f"model.diffusion_model.input_blocks.{number}.weight": {
            "dtype": "U8",
            "shape": [each],
            "data_offsets": [number * each, (number + 1) * each],
        }
        for number in range(tensors)
    }
    path = tmp_path / "big.safetensors"
    raw = pack(header)
    with path.open("wb") as file:
        file.write(raw)
        file.truncate(len(raw) + each * tensors)
    assert scan_file(path).verdict is Verdict.SAFE
    read = 0
    with path.open("rb") as file:

        def read_at(offset: int, length: int) -> bytes:
            nonlocal read
            read += length
            return os.pread(file.fileno(), length, offset)

        assert safetensors.examine(read_at, path.stat().st_size).verdict is Verdict.SAFE
    assert read == len(raw)

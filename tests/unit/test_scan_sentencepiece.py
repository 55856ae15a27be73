"""Vocabularies of tokenizers: known by their structure to the last byte, and by nothing less."""

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.scan import sentencepiece
from modelkeepd.scan.scanner import MAX_TEXT_BYTES, scan_file
from modelkeepd.scan.verdicts import Reason, Report, Verdict
from modelkeepd.transfer.policy import allowed


def piece(text: str, score: float, kind: int = 0) -> bytes:
    name = text.encode()
    body = b"\x0a" + bytes([len(name)]) + name + b"\x15" + struct.pack("<f", score)
    body += b"\x18" + bytes([kind]) if kind else b""
    return b"\x0a" + bytes([len(body)]) + body


VOCABULARY = b"".join(
    [piece("<unk>", 0, 2), piece("<s>", 0, 3), piece("</s>", 0, 3)]
    + [piece(f"▁word{number}", -number) for number in range(300)]
    + [b"\x12\x03abc", b"\x1a\x00"]
)


def scanned(tmp_path: Path, content: bytes, name: str = "spiece.model") -> Report:
    (tmp_path / name).write_bytes(content)
    return scan_file(tmp_path / name)


def test_a_sound_vocabulary_goes_in_whatever_the_policy(tmp_path: Path) -> None:
    report = scanned(tmp_path, VOCABULARY)
    assert (report.verdict, report.format) == (Verdict.REVIEW, "sentencepiece")
    assert allowed(report, "quarantine")


@pytest.mark.parametrize(
    "content",
    [
        VOCABULARY[:-1],
        VOCABULARY + b"x",
        VOCABULARY + b"\x80\x04.",
        VOCABULARY[:900] + b"\xff" * 40,
    ],
    ids=["cut", "a byte more", "a pickle behind", "rubbish inside"],
)
def test_anything_else_is_not_one(tmp_path: Path, content: bytes) -> None:
    report = scanned(tmp_path, content)
    assert report.verdict is Verdict.NOT_SCANNED
    assert not allowed(report, "quarantine")


@settings(max_examples=100)
@given(st.binary(max_size=200), st.integers(0, len(VOCABULARY)))
def test_no_bytes_break_the_walk(more: bytes, cut: int) -> None:
    content = VOCABULARY[:cut] + more
    sentencepiece.looks_like(content[:4096])
    findings = sentencepiece.examine(content, len(content))
    assert findings.verdict in (Verdict.REVIEW, Verdict.NOT_SCANNED)


def test_what_was_not_read_whole_is_not_proven() -> None:
    findings = sentencepiece.examine(VOCABULARY, len(VOCABULARY) + 1)
    assert findings.verdict is Verdict.NOT_SCANNED


@pytest.mark.parametrize("at", [0, (1 << 20) - 4, (1 << 20) + 5, (2 << 20) - 1])
def test_a_mark_between_two_pieces_of_a_large_text_is_found(tmp_path: Path, at: int) -> None:
    text = bytearray(b'{"a": "' + b"x" * (3 << 20) + b'"}')
    text[at + 10 : at + 18] = b"auto_map"
    report = scanned(tmp_path, bytes(text), "tokenizer.json")
    assert (report.verdict, report.format) == (Verdict.REVIEW, "json")
    assert [(reason.rule, reason.offset) for reason in report.reasons] == [("remote-code", at + 10)]
    assert not allowed(report, "quarantine")


def test_a_text_is_read_as_far_as_the_limit_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "vocab.json"
    with path.open("wb") as file:
        file.write(b'{"a": "')
        file.write(b"x" * 5000)
        file.truncate(5007)
    assert allowed(scan_file(path), "quarantine")
    with path.open("r+b") as file:
        file.seek(MAX_TEXT_BYTES)
        file.write(b'"}')
    report = scan_file(path)
    assert report.verdict is Verdict.NOT_SCANNED
    assert not allowed(report, "quarantine")


@pytest.mark.parametrize(
    ("verdict", "format_", "rules", "quarantine", "place"),
    [
        (Verdict.SAFE, "safetensors", [], True, True),
        (Verdict.REVIEW, "json", ["text"], True, True),
        (Verdict.REVIEW, "text", ["text"], True, True),
        (Verdict.REVIEW, "json", ["remote-code"], False, True),
        (Verdict.REVIEW, "text", ["text", "extension-lies"], False, True),
        (Verdict.REVIEW, "pickle", ["text"], False, True),
        (Verdict.NOT_SCANNED, "json", ["text-not-read"], False, True),
        (Verdict.MALFORMED, "json", ["text"], False, False),
        (Verdict.DANGEROUS, "text", ["yaml-python"], False, False),
    ],
)
def test_what_is_placed(
    verdict: Verdict, format_: str, rules: list[str], quarantine: bool, place: bool
) -> None:
    report = Report(verdict, format_, tuple(Reason(rule, "what") for rule in rules))
    assert (allowed(report, "quarantine"), allowed(report, "place")) == (quarantine, place)

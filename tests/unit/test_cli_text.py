"""Texts for people: harmless, as wide as they are, and in figures one can read."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeep.cli import text


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        ("plain name", "plain name"),
        ("水彩 カワイイ 한국어 Привет 🎨", "水彩 カワイイ 한국어 Привет 🎨"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b2J", "\\x9b2J"),  # a control sequence in one character
        ("two\nlines\tand\rmore", "two\\nlines\\tand\\rmore"),
        ("evil\u202egpj.exe", "evil\\u202egpj.exe"),
        ("\u2066isolated\u2069", "\\u2066isolated\\u2069"),
        ("para\u2029graph", "para\\u2029graph"),
        ("bell\x07 null\x00 del\x7f", "bell\\x07 null\\x00 del\\x7f"),
        ("half \udc80 character", "half \\udc80 character"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("family 👨\u200d👩\u200d👧 wide\u3000space", "family 👨\u200d👩\u200d👧 wide\u3000space"),
    ],
)
def test_foreign_text_is_harmless(foreign, shown):
    assert text.safe(foreign) == shown


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_no_control_or_direction_character_ever_comes_through(foreign):
    shown = text.safe(foreign)
    for character in shown:
        assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        )  # fmt: skip


def test_lines_are_kept_only_where_they_are_meant():
    assert text.safe_lines("a\nb\x1b") == "a\nb\\x1b"


@pytest.mark.parametrize(
    ("shown", "columns"),
    [("", 0), ("abc", 3), ("水彩", 4), ("カ", 2), ("ｶ", 1), ("e\u0301", 1), ("🎨", 2), ("한국", 4)],
)
def test_widths_are_those_of_a_terminal(shown, columns):
    assert text.width(shown) == columns


@given(st.text(st.characters(categories=("L", "N", "P", "S"))), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_cutting_never_leaves_too_much(shown, columns):
    cut = text.cut(shown, columns)
    assert text.width(cut) <= columns
    if text.width(shown) <= columns:
        assert cut == shown


def test_padding_counts_wide_characters_twice():
    assert text.pad("水彩", 6) == "水彩  "
    assert text.pad("7", 3, right=True) == "  7"


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (6_460_000_000, "6.46 GB"),
        (12_345_678, "12.3 MB"),
        (228_000_000, "228 MB"),
        (999_600_000, "1.00 GB"),
        (5 * 10**18, "5000 PB"),
    ],
)
def test_sizes(size_bytes, shown):
    assert text.size(size_bytes) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-3, "0 s"),
        (45, "45 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86400 * 3 + 4 * 3600, "3 d 4 h"),
    ],
)
def test_durations(seconds, shown):
    assert text.duration(seconds) == shown


def test_times():
    assert text.ago(None) == "never"
    assert text.ago(1000, now_ms=1500) == "just now"
    assert text.ago(0, now_ms=7_200_000) == "2 h ago"
    assert text.stamp(1_700_000_000_000) == "2023-11-14T22:13:20Z"
    assert text.stamp(None) == ""
    assert text.day(None) == "?"


@pytest.mark.parametrize("at_ms", [2**53, -(2**53), 10**15])
def test_a_time_no_calendar_has_is_no_crash(at_ms):
    assert text.stamp(at_ms)
    assert text.moment(at_ms)
    assert text.day(at_ms)


def test_numbers_of_things():
    assert text.counted(1, "file") == "1 file"
    assert text.counted(1234, "file") == "1,234 files"
    assert text.count(None) == "?"

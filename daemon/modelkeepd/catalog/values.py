"""Values of number fields in queries: counts, sizes, dates, levels, comparisons and ranges.

Pure text to inclusive integer bounds. A value denotes an interval (a day is 86,400,000 ms): ``<``
ends before it, ``<=`` at its end, ``>`` begins after it, ``>=`` at its beginning.
"""

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from modelkeepd.catalog.text import normalize

_LARGEST = 2**63 - 1
_DATES = (-1, 253_402_300_799_999)  # 1969-12-31T23:59:59.999Z to the end of 9999

_COMPARISON = re.compile(r"(<=|>=|=<|=>|<|>|=|)(.+)", re.DOTALL)
_DECIMAL = re.compile(r"(-?\d{1,19}(?:\.\d{1,9})?)([a-z]*)", re.ASCII)
_COUNT_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}
_SIZE_UNITS = {
    "": 1,
    "b": 1,
    **{f"{p}{b}": 1000 ** (i + 1) for i, p in enumerate("kmgt") for b in ("", "b")},
    **{f"{p}i{b}": 1024 ** (i + 1) for i, p in enumerate("kmgt") for b in ("", "b")},
}
_LEVELS = {"pg": 1, "pg13": 2, "pg-13": 2, "r": 4, "x": 8, "xxx": 16, "blocked": 32}
_DATE = re.compile(
    r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:t(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?z?)?)?)?",
    re.ASCII,
)

EXAMPLES = {
    "nsfw": "nsfw:<=2, nsfw:pg, nsfw:no",
    "downloads": "downloads:>1000, downloads:1k..5k",
    "likes": "likes:>=100",
    "published": "published:2026-01, published:2025-06-01..2025-12-31",
    "updated": "updated:>2026-01-01",
    "size": "size:<2GB, size:100MB..500MB",
}


class BadValue(ValueError):
    """The text is no value of this field; the message says what was wrong with it."""


@dataclass(frozen=True, slots=True)
class _Interval:
    """First and last integer that a value denotes; ``rounded`` is what it means by itself."""

    first: int
    last: int
    rounded: tuple[int, int] | None = None


def bounds(field: str, text: str) -> tuple[int | None, int | None]:
    """Inclusive bounds for one field's value such as ``>1k``, ``2026-01`` or ``1GB..2GB``."""
    text = normalize(text).strip()
    if field == "nsfw" and text in ("no", "yes"):
        return (1, 2) if text == "no" else (4, None)
    if ".." in text:
        low_text, _, high_text = text.partition("..")
        low_text, high_text = low_text.strip(), high_text.strip()
        if not low_text and not high_text:
            raise BadValue("a range needs a bound on at least one side")
        low = _interval(field, low_text).first if low_text else None
        high = _interval(field, high_text).last if high_text else None
        if low is not None and high is not None and low > high:
            raise BadValue("the range ends before it begins")
        return _clamped(field, low), _clamped(field, high)
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise BadValue("the value is missing")
    operator, value = match[1], _interval(field, match[2].strip())
    match operator:
        case "<":
            return None, _clamped(field, value.first - 1)
        case "<=" | "=<":
            return None, _clamped(field, value.last)
        case ">":
            return _clamped(field, value.last + 1), None
        case ">=" | "=>":
            return _clamped(field, value.first), None
    first, last = value.rounded or (value.first, value.last)
    if first > last:
        raise BadValue(f"{text!r} is no whole number")
    return _clamped(field, first), _clamped(field, last)


def _clamped(field: str, value: int | None) -> int | None:
    """Within what the index stores and what a canonical query can write."""
    if value is None:
        return None
    least, most = _DATES if field in ("published", "updated") else (-_LARGEST, _LARGEST)
    return max(least, min(value, most))


def _interval(field: str, text: str) -> _Interval:
    if field in ("published", "updated"):
        return _date(text)
    if field == "nsfw" and text in _LEVELS:
        return _Interval(_LEVELS[text], _LEVELS[text])
    match = _DECIMAL.fullmatch(text.replace(" ", ""))
    if match is None:
        raise BadValue(f"{text!r} is no {'size' if field == 'size' else 'number'}")
    number, unit = match.groups()
    units = _SIZE_UNITS if field == "size" else _COUNT_UNITS
    if unit not in units:
        known = "KB, MB, GB, TB, KiB, MiB, GiB, TiB" if field == "size" else "k, m"
        raise BadValue(f"{unit!r} is no unit here; known are {known}")
    exact = Fraction(number) * units[unit]
    first, last = -(-exact.numerator // exact.denominator), exact.numerator // exact.denominator
    if field != "size" or units[unit] == 1:
        return _Interval(first, last)
    # nobody knows a file's size to the byte: 2GB by itself means 1.5 to 2.5, 2.0GB 1.95 to 2.05
    half = Fraction(units[unit], 2 * 10 ** len(number.partition(".")[2]))
    return _Interval(first, last, (max(0, int(exact - half)), int(exact + half) - 1))


def _date(text: str) -> _Interval:
    match = _DATE.fullmatch(text)
    if match is None:
        raise BadValue(f"{text!r} is no date; write 2026, 2026-01, 2026-01-31 or a time after it")
    year, month, day, hour, minute, second = (int(g) if g else None for g in match.groups()[:6])
    assert year is not None
    if not 1969 <= year <= 9999:
        raise BadValue(f"the year {year} is out of range")
    try:
        start = datetime(
            year, month or 1, day or 1, hour or 0, minute or 0, second or 0, tzinfo=UTC
        )
    except ValueError as exc:
        raise BadValue(f"{text!r} is no date: {exc}") from exc
    first = calendar.timegm(start.timetuple()) * 1000
    day_ms = 86_400_000
    if match[7]:
        milliseconds = int(match[7].ljust(3, "0"))
        return _Interval(first + milliseconds, first + milliseconds)
    if second is not None:
        length = 1000
    elif minute is not None:
        length = 60_000
    elif day is not None:
        length = day_ms
    elif month is not None:
        length = calendar.monthrange(year, month)[1] * day_ms
    else:
        length = (366 if calendar.isleap(year) else 365) * day_ms
    return _Interval(first, first + length - 1)

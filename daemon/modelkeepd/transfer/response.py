"""Is this answer the file, or the piece of it, that was asked for (threats D7-D10, D13, D15)?

Pure: a head (status and headers), what was asked, and the first bytes go in; either where the
body's first byte belongs comes out, or a typed error. All of it is decided before one byte is
written. What a status outside 2xx means is told by ``refusals``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from modelkeepd.transfer.errors import (
    ContentChanged,
    EncodingRefused,
    NotAFile,
    RangeIgnored,
    RangeLie,
    SourceBroken,
    WrongSize,
    quoted,
)
from modelkeepd.transfer.origin import Url

TEXT_SUFFIXES = frozenset(
    """.json .yaml .yml .txt .md .csv .html .htm .xml .toml .ini .cfg .py .jinja .svg""".split()  # noqa: SIM905
)
REDIRECTS = frozenset([301, 302, 303, 307, 308])
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z", re.ASCII)
_PAGE_TYPES = ("text/", "application/json", "application/xml", "application/xhtml")
_PAGE_STARTS = (b"<!", b"<h", b"<H", b"<?", b"<b", b"<B", b"{", b"[")


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers of the final answer of one hop; names in lower case."""

    status: int
    headers: Sequence[tuple[str, str]]
    http_version: str = "1.1"

    def get(self, name: str) -> str | None:
        """The last value of that name."""
        return next((value for key, value in reversed(self.headers) if key == name), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True)
class Validator:
    """What tells one version of a remote file from the next, and who said so."""

    origin: str
    etag: str | None = None  # strong ones only; weak ones prove nothing about bytes
    last_modified: str | None = None
    total_bytes: int | None = None

    @property
    def if_range(self) -> str | None:
        return self.etag or self.last_modified


@dataclass(frozen=True, slots=True)
class Asked:
    """What the request said."""

    start: int = 0
    end: int | None = None  # exclusive
    held: int = (
        0  # bytes we have before the span; more than ``start`` when they cannot be continued
    )
    ranged: bool = False
    insist_on_range: bool = False
    expected_bytes: int | None = None  # of the whole file
    tolerance_bytes: int = 0  # some hubs round their sizes
    validator: Validator | None = None
    if_range: str | None = None
    file_name: str = ""  # tells whether text is to be expected
    is_text: bool = False  # it is, whatever the name
    has_token: bool = False
    at_home: bool = True  # this hop is on the hub's own origin


@dataclass(frozen=True, slots=True)
class Accepted:
    """The body may be written, its first byte at ``position``."""

    position: int
    length: int | None  # of this body, when announced
    total: int | None  # of the whole file, when known
    restarted: bool  # a whole body came in answer to a range: the prefix is void
    framed: bool  # the end of the body will be told from a lost connection
    validator: Validator


def judge(head: Head, asked: Asked, url: Url) -> Accepted:
    """Accepted for 200 and 206 that hold together; raises for every other answer but redirects."""
    _refuse_encoding(head, url)
    _refuse_page_type(head, asked, url)
    length = _content_length(head)
    framed = length is not None or head.http_version >= "2" or _chunked(head)
    validator = validator_of(head, url)
    if head.status == 206:
        first, last, total = _content_range(head, asked, url)
        if length is not None and length != last - first + 1:
            raise RangeLie(f"{url.origin} announced {length} bytes for the range {first}-{last}")
        _check_unchanged(asked, validator, total, url)
        _check_expected(total, asked, url)
        validator = _with_total(validator, total)
        return Accepted(first, last - first + 1, total, False, True, validator)
    if head.status != 200:
        raise SourceBroken(
            f"{url.origin} answered {head.status} where a file was due", status=head.status
        )
    _check_expected(length, asked, url)
    if asked.insist_on_range and _same_version(asked.validator, validator):
        raise RangeIgnored(f"{url.origin} ignored the range and sent the whole file")
    validator = _with_total(validator, length)
    return Accepted(0, length, length, asked.held > 0, framed, validator)


def _same_version(before: Validator | None, now: Validator) -> bool:
    """Nothing says that the file changed: the server merely did not listen."""
    if before is None or before.origin != now.origin:
        return True
    return before.etag == now.etag


def _with_total(validator: Validator, total: int | None) -> Validator:
    return Validator(validator.origin, validator.etag, validator.last_modified, total)


def validator_of(head: Head, url: Url) -> Validator:
    """Strong ETag and Last-Modified of an answer."""
    etag = head.get("etag")
    if etag is not None and not (len(etag) >= 2 and etag[0] == etag[-1] == '"'):
        etag = None
    modified = head.get("last-modified")
    return Validator(str(url.origin), etag, modified if _is_strong_date(head, modified) else None)


def _is_strong_date(head: Head, modified: str | None) -> bool:
    # RFC 9110 8.8.2.2: a date is strong only when the answer is dated clearly later than it.
    date = head.get("date")
    if not modified or not date:
        return False
    try:
        return (parsedate_to_datetime(date) - parsedate_to_datetime(modified)).total_seconds() >= 60
    except (ValueError, TypeError, OverflowError):
        return False


def _chunked(head: Head) -> bool:
    return any("chunked" in value.lower() for value in head.all("transfer-encoding"))


def _content_length(head: Head) -> int | None:
    value = head.get("content-length")
    if value is None or _chunked(head):
        return None
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 18 else None


def _refuse_encoding(head: Head, url: Url) -> None:
    encodings = [
        word.strip().lower()
        for value in head.all("content-encoding")
        for word in value.split(",")
        if word.strip()
    ]
    if any(word != "identity" for word in encodings):
        raise EncodingRefused(
            f"{url.origin} sent the file compressed ({quoted(', '.join(encodings), 40)}) although "
            "it was asked not to",
            "files are only taken as they are; try another source",
        )


def expects_text(file_name: str) -> bool:
    """Whether a file of this name may well be text."""
    dot = file_name.rfind(".")
    return dot >= 0 and file_name[dot:].lower() in TEXT_SUFFIXES


def _expects_text(asked: Asked) -> bool:
    return asked.is_text or expects_text(asked.file_name)


def _refuse_page_type(head: Head, asked: Asked, url: Url) -> None:
    kind = (head.get("content-type") or "").strip().lower()
    if kind.startswith("multipart/"):
        raise RangeLie(f"{url.origin} answered one range with a {quoted(kind, 40)} body")
    if kind.startswith(_PAGE_TYPES) and not _expects_text(asked):
        raise _page_error(url, asked, f"type {quoted(kind, 40)}")


def refuse_page_body(first: bytes, asked: Asked, url: Url) -> None:
    """Raises NotAFile when the body starts as a page or a message although a file was due."""
    if _expects_text(asked):
        return
    start = first[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    # A safetensors length may begin with '<' or '{' too, but never without zero bytes after it.
    if start.startswith(_PAGE_STARTS) and b"\x00" not in first[:8]:
        raise _page_error(url, asked, "a body that begins like a page or a message")


def _page_error(url: Url, asked: Asked, what: str) -> NotAFile:
    if "login" in url.target.lower():
        hint = "the hub wants a login for this file: set its token"
        return NotAFile(
            f"{url.origin} sent its login page in place of the file",
            hint,
            retryable=False,
            code="denied",
        )
    return NotAFile(
        f"{url.origin} sent a web page or a message in place of the file ({what})",
        "nothing was saved; the hub may be in maintenance, or the file may need a login",
    )


def _content_range(head: Head, asked: Asked, url: Url) -> tuple[int, int, int | None]:
    values = head.all("content-range")
    found = _CONTENT_RANGE.match(values[0].strip()) if len(values) == 1 else None
    if found is None:
        raise RangeLie(f"{url.origin} answered 206 without a readable Content-Range")
    first, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    wanted = f"{asked.start}-{'' if asked.end is None else asked.end - 1}"
    if not asked.ranged:
        raise RangeLie(f"{url.origin} sent the range {first}-{last} although none was asked for")
    if (
        first != asked.start
        or last < first
        or (asked.end is not None and last >= asked.end)
        or (total is not None and last >= total)
    ):
        raise RangeLie(f"{url.origin} sent the range {first}-{last}, asked was {wanted}")
    return first, last, total


def _check_unchanged(asked: Asked, now: Validator, total: int | None, url: Url) -> None:
    before = asked.validator
    if before is None or asked.start == 0:
        return
    changed = before.total_bytes is not None and total is not None and before.total_bytes != total
    if before.origin == now.origin:
        changed = changed or (before.etag is not None and before.etag != now.etag)
        changed = changed or (
            before.etag is None
            and before.last_modified is not None
            and now.last_modified is not None
            and before.last_modified != now.last_modified
        )
    if changed:
        raise ContentChanged(
            f"the file at {url.origin} changed since its first {asked.start} bytes were fetched",
            "starting again from zero",
        )


def _check_expected(total: int | None, asked: Asked, url: Url) -> None:
    expected = asked.expected_bytes
    if total is None or expected is None:
        return
    if abs(total - expected) > asked.tolerance_bytes:
        raise WrongSize(
            f"{url.origin} offers {total} bytes, the hub's record says {expected}",
            "the file was replaced or this is not the file; sync, then get it again",
        )

"""The judgment of answers before one byte is written (D7-D10, D13, D15, D17)."""

import pytest

from modelkeepd.transfer.errors import (
    ContentChanged,
    EncodingRefused,
    LinkExpired,
    NotAFile,
    RangeIgnored,
    RangeLie,
    Refused,
    SourceBroken,
    SourceBusy,
    TransferError,
    WrongSize,
)
from modelkeepd.transfer.origin import parse_url
from modelkeepd.transfer.refusals import refusal
from modelkeepd.transfer.response import (
    Accepted,
    Asked,
    Head,
    Validator,
    judge,
    refuse_page_body,
    validator_of,
)

URL = parse_url("https://cdn.example/m.safetensors?sig=SECRET")
HERE = "https://cdn.example"


def head(status: int, **headers: str) -> Head:
    return Head(status, [(name.replace("_", "-"), value) for name, value in headers.items()])


def asked(start: int = 0, **more: object) -> Asked:
    facts: dict[str, object] = {
        "start": start, "held": start, "ranged": start > 0, "file_name": "m.safetensors",
    }  # fmt: skip
    return Asked(**(facts | more))  # type: ignore[arg-type]


def test_a_plain_answer_starts_at_zero() -> None:
    found = judge(head(200, content_length="10", etag='"a"'), asked(), URL)
    assert found == Accepted(0, 10, 10, False, True, Validator(HERE, '"a"', None, 10))


def test_a_fitting_range_continues() -> None:
    answer = head(206, content_range="bytes 4-9/10", content_length="6", etag='"a"')
    found = judge(answer, asked(4, validator=Validator(HERE, '"a"', None, 10)), URL)
    assert (found.position, found.length, found.total, found.restarted) == (4, 6, 10, False)


def test_a_whole_body_in_answer_to_a_range_starts_over() -> None:
    found = judge(head(200, content_length="10"), asked(4), URL)
    assert (found.position, found.restarted) == (0, True)


def test_a_server_that_merely_did_not_listen_is_asked_again_when_much_is_at_stake() -> None:
    before = Validator(HERE, '"a"', None, 10)
    question = asked(4, insist_on_range=True, validator=before)
    with pytest.raises(RangeIgnored):
        judge(head(200, content_length="10", etag='"a"'), question, URL)
    changed = judge(head(200, content_length="10", etag='"b"'), question, URL)
    assert changed.restarted


@pytest.mark.parametrize(
    "content_range",
    [
        None, "", "bytes 0-9/10", "bytes 5-9/10", "bytes 4-3/10", "bytes 4-10/10", "bytes 4-9/9",
        "bytes 4-9", "bytes */10", "chunks 4-9/10", "bytes 4-9/10, 0-1/10", "bytes=4-9/10",
        "bytes -4-9/10", "bytes 4-9/1e1", "bytes ４-9/10", "bytes 4-" + "9" * 30 + "/*",
    ],
)  # fmt: skip
def test_a_lying_content_range_is_refused(content_range: str | None) -> None:
    headers = {} if content_range is None else {"content_range": content_range}
    with pytest.raises(RangeLie):
        judge(head(206, **headers), asked(4), URL)


def test_other_lies_about_ranges_are_refused() -> None:
    good = {"content_range": "bytes 4-9/10"}
    with pytest.raises(RangeLie, match="announced 5"):
        judge(head(206, content_length="5", **good), asked(4), URL)
    with pytest.raises(RangeLie, match="none was asked"):
        judge(head(206, content_range="bytes 0-9/10"), asked(), URL)
    with pytest.raises(RangeLie, match="multipart"):
        judge(head(206, content_type="multipart/byteranges; boundary=x"), asked(4), URL)
    with pytest.raises(RangeLie):
        judge(head(206, content_range="bytes 4-9/20"), asked(4, end=8), URL)
    twice = Head(206, [("content-range", "bytes 4-9/10"), ("content-range", "bytes 0-9/10")])
    with pytest.raises(RangeLie):
        judge(twice, asked(4), URL)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (Validator(HERE, '"a"', None, 10), {"etag": '"b"'}),
        (Validator(HERE, '"a"', None, 10), {"etag": 'W/"a"'}),
        (Validator(HERE, '"a"', None, 10), {}),
        (Validator(HERE, None, None, 11), {}),
        (Validator("https://other.example", '"a"', None, 11), {"etag": '"b"'}),
        (
            Validator(HERE, None, "Mon, 01 Jun 2026 00:00:00 GMT", 10),
            {
                "last_modified": "Tue, 02 Jun 2026 00:00:00 GMT",
                "date": "Wed, 10 Jun 2026 00:00:00 GMT",
            },
        ),
    ],
)  # fmt: skip
def test_a_change_between_the_parts_is_seen(before: Validator, now: dict[str, str]) -> None:
    answer = head(206, content_range="bytes 4-9/10", **now)
    with pytest.raises(ContentChanged):
        judge(answer, asked(4, validator=before), URL)


def test_another_hosts_etag_says_nothing_about_a_change() -> None:
    before = Validator("https://other.example", '"a"', None, 10)
    answer = head(206, content_range="bytes 4-9/10", etag='"b"')
    assert judge(answer, asked(4, validator=before), URL).position == 4


def test_only_strong_validators_count() -> None:
    assert validator_of(head(200, etag='W/"a"'), URL).if_range is None
    assert validator_of(head(200, etag="a"), URL).if_range is None
    assert validator_of(head(200, etag='"a"'), URL).if_range == '"a"'
    date = "Mon, 01 Jun 2026 00:00:00 GMT"
    assert validator_of(head(200, last_modified=date), URL).if_range is None
    assert validator_of(head(200, last_modified=date, date=date), URL).if_range is None
    later = "Mon, 01 Jun 2026 00:02:00 GMT"
    assert validator_of(head(200, last_modified=date, date=later), URL).if_range == date


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "identity, gzip", "gzip, gzip", "br", "zstd"])
def test_compressed_bodies_are_refused(encoding: str) -> None:
    with pytest.raises(EncodingRefused):
        judge(head(200, content_encoding=encoding), asked(), URL)
    assert judge(head(200, content_encoding="identity"), asked(), URL)


@pytest.mark.parametrize(
    "kind", ["text/html", "text/html; charset=utf-8", "TEXT/plain", "application/json", "text/xml"]
)
def test_a_page_is_not_a_model(kind: str) -> None:
    with pytest.raises(NotAFile):
        judge(head(200, content_type=kind), asked(), URL)
    assert judge(head(200, content_type=kind), asked(file_name="config.json"), URL)
    assert judge(head(200, content_type="application/octet-stream"), asked(), URL)


def test_a_login_page_says_that_a_token_is_missing() -> None:
    url = parse_url("https://hub.example/login?returnUrl=x")
    with pytest.raises(NotAFile, match="login page") as caught:
        judge(head(200, content_type="text/html"), asked(), url)
    assert (caught.value.error_code, caught.value.retryable) == ("denied", False)
    assert "token" in caught.value.hint


@pytest.mark.parametrize(
    "first",
    [
        b"<!DOCTYPE html><html>", b"<html><head>", b"  \r\n<HTML>", b"\xef\xbb\xbf<!doctype html>",
        b"<?xml version='1.0'?><Error>", b'{"error":"Unauthorized"}', b"[]\n", b"<body>",
    ],
)  # fmt: skip
def test_a_body_that_begins_like_a_page_is_refused(first: bytes) -> None:
    with pytest.raises(NotAFile):
        refuse_page_body(first, asked(), URL)
    refuse_page_body(first, asked(file_name="index.html"), URL)


@pytest.mark.parametrize(
    "first",
    [
        (0x3C).to_bytes(8, "little") + b'{"__metadata__":{}}',
        (0x7B).to_bytes(8, "little") + b'{"w":{}}',
        (0x213C).to_bytes(8, "little") + b"{",
        b"PK\x03\x04", b"\x80\x02}q\x00", b"GGUF\x03\x00\x00\x00", b"", b"x",
    ],
)  # fmt: skip
def test_models_are_not_taken_for_pages(first: bytes) -> None:
    refuse_page_body(first, asked(), URL)


def test_another_size_than_promised_is_refused_before_it_is_fetched() -> None:
    with pytest.raises(WrongSize, match="offers 12 bytes"):
        judge(head(200, content_length="12"), asked(expected_bytes=10), URL)
    assert judge(head(200, content_length="12"), asked(expected_bytes=10, tolerance_bytes=2), URL)
    with pytest.raises(WrongSize):
        judge(head(206, content_range="bytes 4-11/12"), asked(4, expected_bytes=10), URL)


def test_an_end_is_certain_only_when_it_is_framed() -> None:
    assert judge(head(200, content_length="3"), asked(), URL).framed
    assert judge(head(200, transfer_encoding="chunked"), asked(), URL).framed
    assert judge(Head(200, [], "2"), asked(), URL).framed
    assert not judge(head(200), asked(), URL).framed


STATUSES = [
    (400, Refused, "unsupported", False), (401, Refused, "denied", False),
    (402, Refused, "gated", False), (403, Refused, "gated", False),
    (404, Refused, "not_found", False), (405, Refused, "unsupported", False),
    (408, SourceBroken, "unavailable", True), (409, SourceBroken, "unavailable", True),
    (410, Refused, "not_found", False), (416, ContentChanged, "corrupt", True),
    (425, SourceBroken, "unavailable", True), (429, SourceBusy, "busy", True),
    (451, Refused, "unavailable", False), (499, SourceBroken, "unavailable", True),
    (500, SourceBroken, "unavailable", True), (502, SourceBroken, "unavailable", True),
    (503, SourceBusy, "busy", True), (504, SourceBroken, "unavailable", True),
    (520, SourceBroken, "unavailable", True), (100, Refused, "unsupported", False),
]  # fmt: skip


@pytest.mark.parametrize(("status", "kind", "code", "retryable"), STATUSES)
def test_each_status_has_its_meaning(
    status: int, kind: type[TransferError], code: str, retryable: bool
) -> None:
    error = refusal(head(status), b"", asked(), URL, 0)
    assert type(error) is kind
    assert (error.error_code, error.retryable) == (code, retryable)
    assert error.hint or kind is ContentChanged
    assert "SECRET" not in error.message + error.hint


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_by_the_storage_host_means_an_expired_address(status: int) -> None:
    error = refusal(head(status), b"<Code>ExpiredRequest</Code>", asked(at_home=False), URL, 0)
    assert isinstance(error, LinkExpired)
    assert error.retryable


def test_retry_after_is_handed_on() -> None:
    assert refusal(head(429, retry_after="7"), b"", asked(), URL, 0).retry_after_s == 7
    assert refusal(head(429), b"", asked(), URL, 0).retry_after_s is None


def test_early_access_is_told_apart_from_a_missing_token() -> None:
    body = (
        b'{"error":"Early Access","deadline":"2026-12-01T00:00:00Z","message":"You can use Buzz"}'
    )
    error = refusal(head(403), body, asked(has_token=True), URL, 0)
    assert error.error_code == "gated"
    assert "early access" in error.hint
    assert "2026-12-01" in error.message
    assert "token" in refusal(head(401), b"", asked(), URL, 0).hint
    assert "wrong" in refusal(head(401), b"", asked(has_token=True), URL, 0).hint


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":"Unauthorized","message":"log in"}', ": Unauthorized; log in"),
        (b'{"error":{"deep":1}}', ""),
        (b"<html><title>502 Bad</title>", ": 502 Bad"),
        (b"<Error><Message>Gone</Message>", ": Gone"),
        (b"plain \x1b[31m\xe2\x80\xaetext", ": plain [31m text"),
        (b"x" * 5000, ": " + "x" * 199 + "…"),
        (b"{" * 5000, ": " + "{" * 199 + "…"),
        (b"\xff\xfe", ": \ufffd\ufffd"),
        (b"", ""),
    ],
)
def test_what_the_server_said_is_shown_harmlessly(body: bytes, said: str) -> None:
    assert refusal(head(500), body, asked(), URL, 0).message == f"{HERE} answered 500{said}"

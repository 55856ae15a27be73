"""Hugging Face's answers: list pages and where they go on, and what its refusals mean."""

import json
from urllib.parse import parse_qs

import pytest

from modelkeepd.hubs.contract import (
    HubError,
    HubRefused,
    HubRejected,
    HubUnavailable,
    NotFoundOnHub,
)
from modelkeepd.hubs.http import Answer
from modelkeepd.hubs.huggingface import next_cursor, read_page
from modelkeepd.hubs.huggingface_errors import RepoDisabled, refusal

NOW_MS = 1_790_000_000_000
OURS = {"sort", "limit", "expand", "filter"}
LIST = "https://huggingface.co/api/models"


def page(body: bytes, link: str | None = None) -> Answer:
    return Answer(200, {} if link is None else {"link": link}, body)


def row(number: int, created: str | None = "2024-05-01T10:00:00.000Z") -> dict[str, object]:
    return {"_id": f"66{number:022x}", "id": f"org/m{number}", "createdAt": created}


def test_the_next_page_is_what_the_link_adds_to_our_own_question() -> None:
    link = f'<{LIST}?limit=3&expand=sha&sort=createdAt&cursor=eyJ%2B%3D&x=1>; rel="next"'
    cursor = next_cursor(link, OURS)
    assert cursor is not None
    assert parse_qs(cursor) == {"cursor": ["eyJ+="], "x": ["1"]}


@pytest.mark.parametrize(
    "link",
    [
        f'<{LIST}?cursor=abc>; rel="next"',
        f"<{LIST}?cursor=abc>;rel=next",
        f'<{LIST}?cursor=old>; rel="prev", <{LIST}?cursor=abc>; title="a"; rel="next"',
        '</api/models?cursor=abc>; rel="next"',
        '<https://elsewhere.example/api/models?cursor=abc>; rel="next"',
        '<http://u:p@127.0.0.1:1/mirror/api/models?cursor=abc&limit=9>; REL="next"',
    ],
)
def test_the_origin_of_a_link_is_never_taken(link: str) -> None:
    assert next_cursor(link, OURS) == "cursor=abc"


@pytest.mark.parametrize("link", [None, "", f'<{LIST}?cursor=a>; rel="prev"', "nonsense", "<>"])
def test_without_a_next_link_the_list_ends(link: str | None) -> None:
    assert next_cursor(link, OURS) is None


@pytest.mark.parametrize(
    "link",
    [
        f'<{LIST}>; rel="next"',
        f'<{LIST}?limit=3>; rel="next"',
        '<file:///etc/passwd?cursor=a>; rel="next"',
        '<https://huggingface.co/api/whoami-v2?cursor=a>; rel="next"',
        '<https://huggingface.co/logout?cursor=a>; rel="next"',
        '<http://[::1?cursor=a>; rel="next"',
        '<>; rel="next"',
        f'<{LIST}?cursor={"a" * 5_000}>; rel="next"',
        f'<{LIST}?{"&".join(f"a{n}=1" for n in range(300))}>; rel="next"',
    ],
)
def test_a_link_that_leads_anywhere_else_is_refused(link: str) -> None:
    with pytest.raises(HubUnavailable) as caught:
        next_cursor(link, OURS)
    assert caught.value.answered


@pytest.mark.parametrize(
    "body", [b"", b"{", b'[{"_id":1}', b"{}", b'{"error":"x"}', b"7", b"\xff", b"[" * 5_000]
)
def test_what_is_no_list_page_never_reads_as_the_end_of_the_list(body: bytes) -> None:
    with pytest.raises(HubUnavailable):
        read_page(page(body), "createdAt", OURS)


def test_an_empty_list_is_one() -> None:
    assert read_page(page(b"[]"), "createdAt", OURS).items == ()


def test_one_spoiled_row_does_not_cost_the_page_and_one_without_a_key_is_kept() -> None:
    good = json.dumps(row(5)).encode()
    body = b'[%s,{"_id":"66%022x","x":NaN},{"id":"org/old"},{"_id":7},"\\ud800"]' % (good, 6)
    items = read_page(page(body), "createdAt", OURS).items
    assert [item.hub_id for item in items] == [f"66{5:022x}", f"66{6:022x}", None, None, None]
    assert json.loads(items[2].raw) == {"id": "org/old"}
    clean = b'[%s,{"id":"org/old"},7,null]' % good
    items = read_page(page(clean), "createdAt", OURS).items
    assert [item.raw for item in items] == [good, b'{"id":"org/old"}', b"7", b"null"]


def test_positions_fall_from_page_to_page_among_rows_of_one_moment_too() -> None:
    pages = [
        [row(1, "2024-05-02T10:00:00.000Z"), row(2)], [row(3), row(4)], [row(5), row(900)],
        [row(6, "2024-04-30T23:59:59.999Z")],
    ]  # fmt: skip
    positions = [
        read_page(page(json.dumps(rows).encode()), "createdAt", OURS).next_position
        for rows in pages
    ]
    assert None not in positions
    assert positions == sorted(positions, reverse=True)
    assert len(set(positions)) == 4
    assert positions[0] is not None
    assert positions[0][0] == 1714557600000


@pytest.mark.parametrize("date", [None, 7, "", "yesterday"])
def test_rows_without_a_date_tell_no_position(date: object) -> None:
    rows = [row(1), {**row(2), "createdAt": date}]
    found = read_page(page(json.dumps(rows).encode()), "createdAt", OURS)
    assert found.next_position is None
    assert len(found.items) == 2


def headers(code: str = "", message: str = "", **more: str) -> dict[str, str]:
    named = {"x-error-code": code, "x-error-message": message}
    return {k: v for k, v in named.items() if v} | {k.replace("_", "-"): v for k, v in more.items()}


API = "huggingface /api/models/org/name"
GET = "huggingface /org/name/resolve/main/a.bin"
LISTED = "huggingface /api/models"
BAD_TOKEN = "Invalid credentials in Authorization header"
NO_USER = "Invalid username or password."


@pytest.mark.parametrize(
    ("status", "sent", "what", "error", "code"),
    [
        (401, headers(message=NO_USER), API, NotFoundOnHub, "not_found"),
        (401, headers(), API, NotFoundOnHub, "not_found"),
        (401, headers(), LISTED, HubRefused, "denied"),
        (401, headers(message=BAD_TOKEN), API, HubRefused, "denied"),
        (401, headers("GatedRepo", "Access to model org/name is restricted."), GET, HubRefused,
         "gated"),
        (403, headers("GatedRepo", "Access to model org/name is restricted."), GET, HubRefused,
         "gated"),
        (403, headers(message="Access to this resource is disabled."), API, RepoDisabled, "denied"),
        (403, headers(message="the token lacks a scope"), API, HubRefused, "denied"),
        (404, headers("RepoNotFound", "Repository not found"), API, NotFoundOnHub, "not_found"),
        (404, headers("RevisionNotFound", "Invalid rev id: x"), GET, NotFoundOnHub, "not_found"),
        (404, headers("EntryNotFound", "Entry not found"), GET, NotFoundOnHub, "not_found"),
        (404, headers(), API, NotFoundOnHub, "not_found"),
        (400, headers(), LISTED, HubRejected, "unsupported"),
        (416, headers(), GET, HubRejected, "unsupported"),
        (429, headers(), LISTED, HubUnavailable, "unavailable"),
        (451, headers(), API, HubRefused, "denied"),
        (500, headers(), LISTED, HubUnavailable, "unavailable"),
        (504, headers(), LISTED, HubUnavailable, "unavailable"),
        # the header decides before the status does
        (401, headers("RepoNotFound", BAD_TOKEN), API, NotFoundOnHub, "not_found"),
        (403, headers("EntryNotFound"), GET, NotFoundOnHub, "not_found"),
    ],
)  # fmt: skip
def test_a_refusal_means_what_the_hub_means(
    status: int, sent: dict[str, str], what: str, error: type[HubError], code: str
) -> None:
    found = refusal(Answer(status, sent, b""), what, NOW_MS)
    assert (type(found), found.code, found.status) == (error, code, status)
    assert sent.get("x-error-message", "") in found.message
    assert found.hint or isinstance(found, HubRejected | NotFoundOnHub)


def test_the_body_speaks_where_the_header_does_not() -> None:
    body = b'{"error":"Invalid credentials in Authorization header"}'
    assert isinstance(refusal(Answer(401, {}, body), API, NOW_MS), HubRefused)
    disabled = b'{"error":"Access to this resource is disabled."}'
    assert isinstance(refusal(Answer(403, {}, disabled), API, NOW_MS), RepoDisabled)


def test_who_is_kept_out_learns_where_to_ask() -> None:
    found = refusal(Answer(403, headers("GatedRepo", "restricted"), b""), GET, NOW_MS)
    assert "https://huggingface.co/org/name" in found.hint
    assert "huggingface.token" in found.hint


def test_a_message_of_the_hub_stays_one_printable_line() -> None:
    sent = headers("GatedRepo", "a\r\nb\x1b[31m" + "c" * 5_000)
    found = refusal(Answer(403, sent, b""), GET, NOW_MS)
    assert found.message.isprintable()
    assert len(found.message) < 300


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        ({"ratelimit": '"api";r=0;t=211'}, 212.0),
        ({"ratelimit": '"api";r=0;t=211', "retry-after": "7"}, 212.0),
        ({"ratelimit": '"api";r=12;t=211', "retry-after": "7"}, 7.0),
        ({"ratelimit": '"api";r=12;t=211'}, None),
        ({"retry-after": "7"}, 7.0),
        ({"ratelimit": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_spent_quota_says_when_to_come_back(sent: dict[str, str], seconds: float | None) -> None:
    found = refusal(Answer(429, sent, b"We had to rate limit you"), LISTED, NOW_MS)
    assert isinstance(found, HubUnavailable)
    assert found.retry_after_s == seconds

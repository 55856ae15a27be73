"""What a hub says of a file beside its bytes: content, commits, refusals; and git's hash."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.transfer.digests import Digests, git_sha1
from modelkeepd.transfer.errors import FileGone, FileReplaced, LinkExpired, Refused, SourceBusy
from modelkeepd.transfer.linked import Linked, check_promise, linked_of
from modelkeepd.transfer.origin import parse_url
from modelkeepd.transfer.refusals import refusal
from modelkeepd.transfer.response import Asked, Head

SHA256, SHA1, COMMIT = "a1" * 32, "b2" * 20, "c3" * 20
URL = parse_url("https://hub.example/org/name/resolve/main/x%20y.safetensors?download=true")


def head(status: int, **headers: str) -> Head:
    return Head(status, [(name.replace("_", "-"), value) for name, value in headers.items()])


LINKED: dict[str, tuple[Head, Linked | None]] = {
    "of a large file": (
        head(302, x_linked_etag=f'"{SHA256}"', x_linked_size="12", x_repo_commit=COMMIT),
        Linked(12, bytes.fromhex(SHA256), None, COMMIT),
    ),
    "of a plain file": (
        head(307, x_linked_etag=f'"{SHA1}"', x_repo_commit=COMMIT),
        Linked(None, None, bytes.fromhex(SHA1), COMMIT),
    ),
    "served by the hub itself": (
        head(200, etag=f'"{SHA1}"', x_repo_commit=COMMIT, content_length="5"),
        Linked(5, None, bytes.fromhex(SHA1), COMMIT),
    ),
    "weak": (head(302, x_linked_etag=f'W/"{SHA256}"'), Linked(None, bytes.fromhex(SHA256))),
    "in capitals": (
        head(302, x_linked_etag=SHA256.upper()), Linked(None, bytes.fromhex(SHA256)),
    ),
    "bad size": (
        head(302, x_linked_etag=f'"{SHA256}"', x_linked_size="-1"),
        Linked(None, bytes.fromhex(SHA256)),
    ),
    # a storage's own tag, as long as a sha256 and none
    "an ETag without a commit": (head(200, etag=f'"{SHA256}"'), None),
    "an ETag of a redirect": (head(302, etag=f'"{SHA256}"', x_repo_commit=COMMIT), None),
    "of several parts": (head(302, x_linked_etag='"d41d8cd98f00b204e9800998ecf8427e-38"'), None),
    "nothing": (head(302), None),
}  # fmt: skip


@pytest.mark.parametrize("case", LINKED)
def test_the_hubs_word_on_the_content(case: str) -> None:
    answer, expected = LINKED[case]
    assert linked_of(answer) == expected


def test_another_content_than_promised_is_refused_before_it_is_fetched() -> None:
    large, plain = Linked(sha256=b"l" * 32), Linked(git_sha1=b"p" * 20)
    check_promise(large, b"l" * 32, None, "x")
    check_promise(plain, None, b"p" * 20, "x")
    check_promise(plain, None, None, "x")
    for linked, sha256, sha1 in (
        (large, b"x" * 32, None),
        (plain, None, b"x" * 20),
        (plain, b"l" * 32, None),
        (large, None, b"p" * 20),
    ):
        with pytest.raises(FileReplaced) as replaced:
            check_promise(linked, sha256, sha1, "folder/x.bin")
        assert "folder/x.bin" in replaced.value.message
        assert replaced.value.hint


REFUSED: dict[str, tuple[Head, Asked, type[Refused], str, str]] = {
    "gated": (
        head(401, x_error_code="GatedRepo", x_error_message="Access to model x is restricted"),
        Asked(), Refused, "gated", "ask for access at",
    ),
    "gated with a token": (
        head(403, x_error_code="GatedRepo"), Asked(has_token=True), Refused, "gated", "access",
    ),
    "unknown to us": (
        head(401, x_error_message="Invalid username or password."), Asked(), Refused, "not_found",
        "private",
    ),
    "wrong token": (
        head(401, x_error_message="Invalid credentials in Authorization header"),
        Asked(has_token=True), Refused, "denied", "token",
    ),
    "no such repository": (
        head(404, x_error_code="RepoNotFound"), Asked(), Refused, "not_found", "sync",
    ),
    "no such file": (
        head(404, x_error_code="EntryNotFound"), Asked(), FileGone, "not_found", "sync",
    ),
    "no such commit": (
        head(404, x_error_code="RevisionNotFound"), Asked(), FileGone, "not_found", "sync",
    ),
    "closed": (
        head(403, x_error_message="Access to this resource is disabled."), Asked(), Refused,
        "denied", "taken it down",
    ),
    "no scope": (
        head(403, x_error_message="no"), Asked(has_token=True), Refused, "denied", "token",
    ),
    "no words of the hub": (head(403), Asked(), Refused, "gated", "token"),
    "words of a stranger": (
        head(404, x_error_code="EntryNotFound"), Asked(at_home=False), Refused, "not_found", "sync",
    ),
    "a stranger's gate": (
        head(403, x_error_code="GatedRepo"), Asked(at_home=False), LinkExpired, "unavailable",
        "asking",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_told_apart(case: str) -> None:
    answer, asked, kind, code, hint = REFUSED[case]
    error = refusal(answer, b"", asked, URL, 0)
    assert type(error) is kind
    assert error.error_code == code
    assert hint in error.hint
    assert "download=true" not in error.message


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"ratelimit": '"resolvers";r=0;t=57'}, 58.0),
        ({"ratelimit": '"resolvers";r=9;t=57'}, None),
        ({"ratelimit": '"resolvers";r=0;t=57', "retry-after": "3"}, 3.0),
        ({}, None),
    ],
)
def test_a_spent_limit_tells_how_long_to_wait(
    headers: dict[str, str], wait_s: float | None
) -> None:
    error = refusal(Head(429, list(headers.items())), b"", Asked(), URL, 0)
    assert isinstance(error, SourceBusy)
    assert error.retry_after_s == wait_s


def test_gits_own_hashes() -> None:
    assert git_sha1(b"").hex() == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert git_sha1(b"hello\n").hex() == "ce013625030ba8dba906f756967f9e9ca394464a"


@settings(max_examples=50)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_hashes_grow_in_pieces(content: bytes, cut: int) -> None:
    digests = Digests(len(content))
    digests.update(content[:cut])
    digests.update(memoryview(content)[cut:])
    assert digests.sha256 == hashlib.sha256(content).digest()
    assert digests.git_sha1 == git_sha1(content)
    assert Digests().git_sha1 is None
    other = Digests(len(content) + 1)
    other.update(content)
    assert other.git_sha1 is None

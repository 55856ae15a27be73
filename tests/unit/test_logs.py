"""The log: one line a fact, nothing in it that was to stay hidden, nothing that forges a line."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd import logs
from modelkeepd.secrets import Secret

CANARY = "canary-7f3a91c0de"
FORMATTERS = {"text": logs.TextFormatter(), "json": logs.JsonFormatter()}


@pytest.fixture(autouse=True)
def _no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_secrets", ())


def record(message: str, exc: BaseException | None = None, **facts: object) -> logging.LogRecord:
    exc_info = None if exc is None else (type(exc), exc, exc.__traceback__)
    made = logging.LogRecord("modelkeepd.x", logging.INFO, __file__, 1, message, (), exc_info)
    made.facts = facts
    return made


def raised(text: str) -> Exception:
    try:
        raise ValueError(text)
    except ValueError as exc:
        return exc


@pytest.fixture(params=sorted(FORMATTERS))
def formatter(request: pytest.FixtureRequest) -> logging.Formatter:
    return FORMATTERS[request.param]


def test_a_text_line_holds_time_level_logger_message_and_facts() -> None:
    made = record("page stored", hub="civitai", pages=12, name="two words", odd='a"b', none="")
    made.created = 0.0
    assert FORMATTERS["text"].format(made) == (
        "1970-01-01T00:00:00Z info modelkeepd.x: page stored"
        ' hub=civitai pages=12 name="two words" odd="a\\"b" none=""'
    )


def test_a_json_line_holds_the_same() -> None:
    made = record("page stored", hub="civitai", pages=12, ratio=0.5, ok=True, nothing=None)
    made.created = 1.5
    assert json.loads(FORMATTERS["json"].format(made)) == {
        "at_ms": 1500,
        "level": "info",
        "logger": "modelkeepd.x",
        "message": "page stored",
        "hub": "civitai",
        "pages": 12,
        "ratio": 0.5,
        "ok": True,
        "nothing": None,
    }


def test_names_in_other_scripts_stay_readable_in_text() -> None:
    assert "名前 チェック" in FORMATTERS["text"].format(record("x", name="名前 チェック"))


@pytest.mark.parametrize(
    "text",
    [
        f"https://cdn.example/x?token={CANARY}&a=1",
        f"https://cdn.example/x?X-Amz-Signature={CANARY}",
        f"https://cdn.example/x?a=1&X-Amz-Credential={CANARY}&b=2",
        f"https://cdn.example/x?x-amz-security-token={CANARY}",
        f"https://cdn.example/x?Expires=1&Signature={CANARY}~&Key-Pair-Id=K",
        f"https://user:{CANARY}@host.example/x",
        f"https://{CANARY}@host.example/x",
        f"Authorization: Bearer {CANARY}",
        f"authorization={CANARY}",
        f"Authorization: Basic {CANARY}",
        f"{{'Authorization': 'Bearer {CANARY}'}}",
        f"{{'authorization': '{CANARY}'}}",
        f"[(b'Authorization', b'Bearer {CANARY}')]",
        f'{{"token": "{CANARY}"}}',
        f'{{"access_token":"{CANARY}"}}',
        f"api_key={CANARY}",
        f"api-key: {CANARY}",
        f"Cookie: {CANARY}",
        f"bearer\t{CANARY}",
        f"BEARER {CANARY}",
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, formatter: logging.Formatter) -> None:
    assert CANARY not in formatter.format(record(text))
    assert CANARY not in formatter.format(record("x", url=text))
    assert CANARY not in formatter.format(record("x", several=[text]))
    assert CANARY not in formatter.format(record("x", exc=raised(text)))


@pytest.mark.parametrize("secret", [CANARY, 'quo"te\\back', "päss-wörd", "a.b*c+d"])
def test_a_known_secret_appears_nowhere(secret: str, formatter: logging.Formatter) -> None:
    logs.hide(secret)
    for made in (
        record(f"sent {secret}."),
        record("x", value=secret),
        record("x", value=[secret]),
        record("x", value={"k": secret}),
        record("x", exc=raised(f"bad {secret}")),
    ):
        line = formatter.format(made)
        assert secret not in line
        assert json.dumps(secret)[1:-1] not in line
        if formatter is FORMATTERS["json"]:
            json.loads(line)


def test_a_secret_that_begins_another_leaves_nothing_of_it() -> None:
    logs.hide("secret")
    logs.hide("secret-and-more")
    assert logs.redact("x secret-and-more y secret z") == "x … y … z"


def test_short_words_are_not_taken_for_secrets() -> None:
    logs.hide("abc")
    assert logs.redact("abc") == "abc"


def test_a_secret_object_shows_nothing(formatter: logging.Formatter) -> None:
    secret = Secret(CANARY)
    line = formatter.format(record(f"{secret} {secret!r} {secret:>20}", token=secret, in_=[secret]))
    assert CANARY not in line


HOSTILE = "\x1b[2J\r\nforged line\x00\x7f\x85\u2028\u2029\u202e\u2066\u200b\ufeff\u061c\ud800end"


def test_nothing_from_outside_can_end_or_reorder_a_line(formatter: logging.Formatter) -> None:
    for made in (
        record(HOSTILE),
        record("x", name=HOSTILE),
        record("x", several={HOSTILE: [HOSTILE]}),
    ):
        line = formatter.format(made)
        assert line.splitlines() == [line]
        assert line.isprintable()
        line.encode()


def test_a_traceback_is_set_off_from_lines_of_their_own() -> None:
    exc = raised("first\n2026-01-01T00:00:00Z info forged: line\x1b[0m")
    first, *rest = FORMATTERS["text"].format(record("call failed", exc=exc)).split("\n")
    assert first.endswith("call failed")
    assert rest
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)
    line = FORMATTERS["json"].format(record("call failed", exc=exc))
    assert line.isascii()
    assert "ValueError" in json.loads(line)["traceback"]


def test_a_long_value_is_cut_and_says_how_long_it_was() -> None:
    entry = json.loads(FORMATTERS["json"].format(record("x", name="y" * 1_000_000)))
    assert entry["name"].endswith("(1000000 characters)")
    assert len(entry["name"]) < 3_000
    assert len(FORMATTERS["text"].format(record("x" * 1_000_000))) < 3_000


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.text(),
    st.dictionaries(
        st.text(max_size=10),
        st.text() | st.floats() | st.integers() | st.binary() | st.lists(st.floats(), max_size=2),
        max_size=4,
    ),
)
def test_any_fact_makes_one_valid_line(message: str, facts: dict[str, Any]) -> None:
    made = record("")
    made.msg, made.facts = message, facts

    def no_constants(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    line = FORMATTERS["json"].format(made)
    assert line.isascii()
    assert line.splitlines() == [line]
    json.loads(line, parse_constant=no_constants)
    text = FORMATTERS["text"].format(made)
    assert text.splitlines() == [text]


def test_bound_facts_reach_lines_inside_and_no_others() -> None:
    line = FORMATTERS["text"].format
    with logs.bound(call=5):
        with logs.bound(job=7):
            assert line(record("x", own=1)).endswith("x call=5 job=7 own=1")
        assert line(record("x")).endswith("x call=5")
    assert line(record("x")).endswith("x")


async def test_bound_facts_follow_tasks() -> None:
    lines: list[str] = []

    async def child() -> None:
        await trio.lowlevel.checkpoint()
        lines.append(FORMATTERS["text"].format(record("child")))

    async with trio.open_nursery() as nursery:
        with logs.bound(call=5):
            nursery.start_soon(child)
        nursery.start_soon(child)
    assert sorted(line.rpartition(": ")[2] for line in lines) == ["child", "child call=5"]


@pytest.fixture
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.mark.usefixtures("_root_logger")
@pytest.mark.parametrize("form", ["text", "json"])
def test_configured_logging_writes_where_it_is_told(form: str) -> None:
    stream = io.StringIO()
    handler = logs.configure("info", form, stream)
    logs.hide(CANARY)
    logging.getLogger("modelkeepd.test").info("asked", extra={"facts": {"token": CANARY}})
    logging.getLogger("modelkeepd.test").debug("too quiet")
    # these would tell whole URLs
    logging.getLogger("httpx").info("HTTP Request: GET https://x?sig=%s", CANARY)
    handler.close()
    assert len(stream.getvalue().splitlines()) == 1
    assert CANARY not in stream.getvalue()
    assert "asked" in stream.getvalue()

"""The query language: what each form means, what is refused and how."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelkeepd.catalog.errors import QueryError
from modelkeepd.catalog.projection import Projection, nsfw_level
from modelkeepd.catalog.query import MAX_CHARS, MAX_DEPTH, parse
from modelkeepd.catalog.tree import (
    And,
    Everything,
    Flag,
    Keyword,
    Not,
    Or,
    Range,
    Words,
    matches,
)

A, B, C = Words("a"), Words("b"), Words("c")


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", Everything()),
        ("   ", Everything()),
        ("*", Everything()),
        ("a", A),
        ("A", A),
        ("a b", And((A, B))),
        ("a AND b", And((A, B))),
        ("a OR b", Or((A, B))),
        ("a b OR c", Or((And((A, B)), C))),
        ("a (b OR c)", And((A, Or((B, C))))),
        ("-a", Not(A)),
        ("NOT a", Not(A)),
        ("--a", A),
        ("a -b", And((A, Not(B)))),
        ("-(a b)", Not(And((A, B)))),
        ("a or b", And((A, Words("or"), B))),
        ('"a b"', Words("a b")),
        ('"say \\"a\\""', Words('say "a"')),
        ("x-y", Words("x-y")),
        ("ab*", Words("ab", prefix=True)),
        ('"big ca"*', Words("big ca", prefix=True)),
        ("東京*", Words("東京")),
        ("name:東京", Words("東京", in_name=True)),
        ("a 🔥 b", And((A, B))),
        ("a - b", And((A, B))),
        ("tag:Blue_Hair", Keyword("tag", "blue hair")),
        ('tag:"blue hair"', Keyword("tag", "blue hair")),
        ("tag:blu*", Keyword("tag", "blu", prefix=True)),
        ("type:lora", Keyword("type", "lora")),
        ("TYPE:Embedding", Keyword("type", "textualinversion")),
        ('base:"SDXL 1.0"', Keyword("base", "sdxl1.0")),
        ("base:sdxl*", Keyword("base", "sdxl", prefix=True)),
        ("base:sdxl", Keyword("base", "sdxl1.0")),
        ("base:sdxl_base_v1-0", Keyword("base", "sdxl1.0")),
        ("base:org/model", Keyword("base", "org/model")),
        ("type:Textual*", Keyword("type", "textual", prefix=True)),
        ("type:lora*", Keyword("type", "lora", prefix=True)),
        ("topic:poses", Keyword("topic", "pose")),
        ("facet:画風", Keyword("topic", "style")),
        ("topic:nothing", Keyword("topic", "nothing")),
        ("family:Pony", Keyword("family", "sdxl")),
        ("supported:yes", Flag("supported", True)),
        ("creator:Alice", Keyword("creator", "alice")),
        ("hub:hf", Keyword("hub", "huggingface")),
        ("state:taken_down", Keyword("state", "takendown")),
        ("source:civitai", Keyword("hub", "civitai")),
        ("source:civitai:alice", And((Keyword("hub", "civitai"), Keyword("creator", "alice")))),
        ("source:hf/org", And((Keyword("hub", "huggingface"), Keyword("creator", "org")))),
        ("nsfw:<=2", Range("nsfw", None, 2)),
        ("nsfw:<=r", Range("nsfw", None, 4)),
        ("nsfw:pg", Range("nsfw", 1, 1)),
        ("nsfw:no", Range("nsfw", 1, 2)),
        ("downloads:>1000", Range("downloads", 1001, None)),
        ("downloads>=1.5k", Range("downloads", 1500, None)),
        ("downloads:1k..5k", Range("downloads", 1000, 5000)),
        ("downloads:..10", Range("downloads", None, 10)),
        ("downloads:7", Range("downloads", 7, 7)),
        ("downloads:<2.5", Range("downloads", None, 2)),
        ("likes:<5", Range("likes", None, 4)),
        ("size:<2GB", Range("size", None, 1_999_999_999)),
        ("size:<=2GiB", Range("size", None, 2 * 1024**3)),
        ("size:2GB", Range("size", 1_500_000_000, 2_499_999_999)),
        ("size:2.0GB", Range("size", 1_950_000_000, 2_049_999_999)),
        ("size:100MB..1GB", Range("size", 100_000_000, 1_000_000_000)),
        ("size:123", Range("size", 123, 123)),
        ("updated:>2026-01-01", Range("updated", ms(2026, 1, 2), None)),
        ("updated:>=2026-01-01", Range("updated", ms(2026, 1, 1), None)),
        ("updated:<2026-01", Range("updated", None, ms(2026, 1, 1) - 1)),
        ("updated:<=2026", Range("updated", None, ms(2027, 1, 1) - 1)),
        ("published:2024-02", Range("published", ms(2024, 2, 1), ms(2024, 3, 1) - 1)),
        ("published:2025..2026-06", Range("published", ms(2025, 1, 1), ms(2026, 7, 1) - 1)),
        (
            "updated:>=2026-01-01T10:30Z",
            Range("updated", ms(2026, 1, 1, 10, 30), None),
        ),
        ("commercial:yes", Flag("commercial", True)),
        ("commercial:unknown", Flag("commercial", None)),
        ("owned:no", Flag("owned", False)),
        ("（a OR b）", Or((A, B))),
        ("downloads：＞１０００", Range("downloads", 1001, None)),
        ("“a b”", Words("a b")),
    ],
)
def test_queries_mean(text: str, tree: object) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("tga:x", 0, "did you mean tag:"),
        ("a downlods:>5", 2, "did you mean downloads:"),
        ("foo:bar", 0, "known fields"),
        ("civitai:1102", 0, "show"),
        ("tag:", 4, "right after the colon"),
        ("tag: x", 4, "right after the colon"),
        ('tag:"_"', 4, "no letter"),
        ("a OR", 2, "must follow OR"),
        ("OR a", 0, "before OR"),
        ("a AND OR b", 2, "must follow AND"),
        ("NOT", 0, "must follow NOT"),
        ("(a", 0, "never closed"),
        ("(", 0, "never closed"),
        ("a)", 1, "never opened"),
        ("()", 1, "nothing inside"),
        ('"a', 0, "never closed"),
        ("a*b", 1, "end of a word"),
        ("a*", 0, "too short"),
        ("size:<2XB", 5, "unit"),
        ("size:big", 5, "size"),
        ("downloads:many", 10, "number"),
        ("downloads:1.5", 10, "whole number"),
        ("downloads:9..1", 10, "ends before"),
        ("downloads:..", 10, "at least one side"),
        ("downloads:5*", 10, "takes no *"),
        ("updated:2026-13-01", 8, "month"),
        ("updated:2026-02-30", 8, "day"),
        ("updated:yesterday", 8, "2026-01"),
        ("updated:0001", 8, "out of range"),
        ("owned:maybe", 6, "yes or no"),
        ("🔥", 0, "signs only"),
        ("-", 0, "signs only"),
        ("x" * (MAX_CHARS + 1), MAX_CHARS, "characters"),
        ("(" * 40 + "a" + ")" * 40, MAX_DEPTH, "deeper"),
        ("a " * 101, 200, "terms"),
        ("東" * 400, 0, "too long"),
        ("ab* " * 17, 64, "too many"),
        ("size:>1 " * 17, 128, "too many"),
        ('"a bc"* ' * 3, 16, "too many"),
    ],
)
def test_bad_queries_say_where_and_why(text: str, position: int, says: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert caught.value.position == position
    assert says in f"{caught.value.message} {caught.value.hint}"


_PIECES = st.sampled_from([
    "a", "東京", "tag:", "type:x", "size:<", "2GB", "nsfw:", "updated:2026", "..", '"', "(", ")",
    " ", "-", "*", " OR ", " AND ", " NOT ", "\\", ":", ">", "=", "owned:yes", "source:a/b", "\0",
])  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(_PIECES, max_size=20).map("".join)))
@example("updated:<1969")
@example("updated:>9999")
@example("downloads:>9999999999999999999m")
@example("size:<0")
@example("\ud800")
@example("name:\u0345")
def test_any_text_is_a_query_or_a_query_error(text: str) -> None:
    error: QueryError | None = None
    try:
        tree = parse(text)
    except QueryError as exc:
        error = exc
    if error is not None:
        assert 0 <= error.position <= len(text)
        assert error.message
        return
    matches(tree, Projection(1, 1, "civitai", "a 東京", "LORA"))
    canonical = str(tree)
    if len(canonical) <= MAX_CHARS:
        assert parse(canonical) == tree
        assert str(parse(canonical)) == canonical


def test_values_the_canonical_form_must_carry() -> None:
    for text in ("tag:or", '"a:b"', '"-a"', 'creator:"-x (y)"', 'tag:"a\\\\b\\"c"', '"<x>"'):
        tree = parse(text)
        assert parse(str(tree)) == tree


@pytest.mark.parametrize(
    ("mask", "level"),
    [(None, None), (0, 0), (1, 1), (3, 2), (7, 4), (31, 16), (60, 32), (-1, 0)],
)
def test_a_set_of_levels_counts_by_its_highest(mask: int | None, level: int | None) -> None:
    assert nsfw_level(mask) == level


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tweaker", True),
        ("tweak", False),
        ("tweak*", True),
        ('"detail tweaker"', True),
        ('"tweaker xl"', False),
        ("xl girl", False),
        ("xl 少女", True),
        ("少", True),
        ("alice", True),
        ("name:alice", False),
        ('"alice anime"', False),
        ("tag:anime type:lora base:sd1.5", True),
        ("tag:ani", False),
        ("nsfw:<=2", True),
        ("nsfw:>2", False),
        ("likes:>0", False),
        ("-likes:>0", True),
        ("commercial:unknown", True),
        ("commercial:no", False),
        ("owned:yes", True),
        ("girl OR 少女", True),
    ],
)
def test_filters_judge_a_model(text: str, found: bool) -> None:
    model = Projection(
        model_key=1,
        changed_seq=1,
        hub="civitai",
        name="Detail Tweaker",
        type="LORA",
        creator="Alice",
        tags=("anime", "art style"),
        base_models=("SD 1.5",),
        texts=("XL 美少女",),
        nsfw=2,
        downloads=10,
        owned=True,
    )
    assert matches(parse(text), model) is found


def test_evil_queries_are_answered_at_once() -> None:
    # a scanner or a parser that is worse than linear would take minutes here
    for text in ("-" * 1_999 + "a", '"' * 1_999, "a" * 2_000, "(a)" * 99, "a:" * 999, "\\" * 2_000):
        try:
            str(parse(text))
        except QueryError:
            continue

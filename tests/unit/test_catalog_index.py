"""The index finds exactly what the evaluator accepts, in order, and knows when it is damaged."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.catalog import compiler, ranking
from modelkeepd.catalog import index as index_module
from modelkeepd.catalog.errors import QueryError
from modelkeepd.catalog.index import SORTS, CatalogIndex, IndexDamaged, Marker
from modelkeepd.catalog.projection import Projection
from modelkeepd.catalog.query import parse
from modelkeepd.catalog.tree import (
    And,
    Everything,
    Flag,
    Keyword,
    Not,
    Or,
    Range,
    Tree,
    Words,
    matches,
)

EVERYTHING = Everything()


def filled(path: Path, models: Sequence[Projection]) -> CatalogIndex:
    index = CatalogIndex.create(path)
    index.replace(models)
    index.commit(Marker("epoch", max((m.changed_seq for m in models), default=0)))
    return index


@contextmanager
def temporary_index(models: Sequence[Projection]) -> Iterator[CatalogIndex]:
    # hypothesis runs one test function many times, so tmp_path would be shared
    folder = Path(tempfile.mkdtemp())
    try:
        index = filled(folder / "index", models)
        yield index
        index.close()
    finally:
        shutil.rmtree(folder)


def found(index: CatalogIndex, query: str, sort: str = "relevance") -> list[int]:
    return index.search(parse(query), sort, 100, 0).model_keys


def model(key: int, name: str = "x", **fields: object) -> Projection:
    values: dict[str, object] = {
        "model_key": key, "changed_seq": key, "hub": "civitai", "name": name, "type": "LORA",
    }  # fmt: skip
    return Projection(**{**values, **fields})  # type: ignore[arg-type]


_WORDS = st.sampled_from([
    "anime", "Girl", "blue_hair", "v1.5", "style", "|", "東京", "東京都", "京都", "猫", "学習した",
    "チェックポイント", "ポイント", "モデル", "模型", "水墨风格", "모델", "서울에서", "é", "ﬁne",
    "-", "🔥", "a\0b", "SDXL", "1.0", "ไทย",
])  # fmt: skip
_TEXTS = st.lists(_WORDS, max_size=6).map(" ".join) | st.lists(_WORDS, max_size=3).map("".join)
_NUMBERS = st.none() | st.integers(0, 6)
_TAGS = st.sampled_from(
    ["anime", "Blue Hair", "blue_hair", "東京", "a.*b", "or", "Art Style", "poses", "キャラ"]
)
_BASES = st.sampled_from(["SDXL 1.0", "SD 1.5", "Pony", "Flux.1 D", "sdxl_base_v1-0", "org/x"])


@st.composite
def projections(draw: st.DrawFn) -> list[Projection]:
    return [
        Projection(
            model_key=key,
            changed_seq=draw(st.integers(1, 5)),
            hub=draw(st.sampled_from(["civitai", "huggingface"])),
            name=draw(_TEXTS),
            type=draw(
                st.sampled_from(["LORA", "Lora", "Embedding", "TextualInversion", "New Kind"])
            ),
            creator=draw(st.none() | st.sampled_from(["alice", "Bob B", "東京"])),
            tags=tuple(draw(st.lists(_TAGS, max_size=3))),
            base_models=tuple(draw(st.lists(_BASES, max_size=2))),
            texts=tuple(draw(st.lists(_TEXTS, max_size=2))),
            nsfw=draw(_NUMBERS),
            downloads=draw(_NUMBERS),
            likes=draw(_NUMBERS),
            published_ms=draw(_NUMBERS),
            updated_ms=draw(_NUMBERS),
            size_bytes=draw(_NUMBERS),
            commercial=draw(st.sampled_from([None, True, False])),
            owned=draw(st.booleans()),
            supported=draw(st.booleans()),
            state=draw(st.sampled_from(["listed", "gone", "taken_down"])),
        )
        for key in range(1, draw(st.integers(1, 12)) + 1)
    ]


def _leaf_queries() -> st.SearchStrategy[str]:
    number = st.sampled_from(["nsfw", "downloads", "likes", "size"])
    return st.one_of(
        _WORDS.map(lambda word: f'"{word}"'),
        st.lists(_WORDS, min_size=1, max_size=3).map(lambda words: f'"{" ".join(words)}"'),
        _WORDS.map(lambda word: f'name:"{word}"'),
        st.sampled_from(["an*", "sty*", '"blue ha"*', '"girl an"*', "東*", "京", "ポ", "name:gi*"]),
        st.sampled_from(['"anime 東"', '"東 模"', '"style 京"', '"猫 チ"']),
        _TAGS.map(lambda tag: f'tag:"{tag}"'),
        st.sampled_from(["tag:blue*", "tag:a.*", "creator:al*", "base:sd*", "type:text*"]),
        st.sampled_from(["type:lora", "type:embedding", 'type:"new kind"', "hub:hf", "state:gone"]),
        st.sampled_from(['creator:"bob b"', "creator:alice", "source:civitai:alice", "base:sd1.5"]),
        st.builds(lambda f, op, n: f"{f}:{op}{n}", number, st.sampled_from(["<", ">=", ""]),
                  st.integers(0, 6)),
        st.sampled_from(["published:>1970-01-01T00:00:00.002Z", "updated:..1969"]),
        st.sampled_from(["owned:yes", "owned:no", "commercial:yes", "commercial:no"]),
        st.sampled_from(["supported:yes", "supported:no", "topic:style", "topic:ポーズ"]),
        st.sampled_from(["topic:ch*", "family:sdxl", "family:pony", "base:stable-diffusion-xl"]),
        st.sampled_from(["commercial:unknown", "*"]),
    )  # fmt: skip


def _parsed(text: str) -> Tree | None:
    try:
        return parse(text)
    except QueryError:  # signs only
        return None


_QUERIES = (
    st.recursive(
        _leaf_queries(),
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(lambda qs: f"({' '.join(qs)})"),
            st.lists(inner, min_size=2, max_size=3).map(lambda qs: f"({' OR '.join(qs)})"),
            inner.map(lambda q: f"-{q}"),
        ),
        max_leaves=6,
    )
    .map(_parsed)
    .filter(lambda tree: tree is not None)
)


@settings(max_examples=60, deadline=None)
@given(projections(), st.lists(_QUERIES, min_size=10, max_size=25), st.sampled_from(SORTS))
def test_the_index_finds_what_the_evaluator_accepts(
    models: list[Projection], trees: list[Tree], sort: str
) -> None:
    with temporary_index(models) as index:
        for tree in trees:
            expected = {m.model_key for m in models if matches(tree, m)}
            hits = index.search(tree, sort, 100, 0)
            assert set(hits.model_keys) == expected, str(tree)
            assert len(hits.model_keys) == hits.total == len(expected), str(tree)


@settings(max_examples=25, deadline=None)
@given(projections(), _QUERIES, st.sampled_from(SORTS), st.integers(1, 5))
def test_pages_make_up_the_whole(
    models: list[Projection], tree: Tree, sort: str, limit: int
) -> None:
    with temporary_index(models) as index:
        whole = index.search(tree, sort, 100, 0)
        paged: list[int] = []
        for offset in range(0, len(models) + limit, limit):
            page = index.search(tree, sort, limit, offset)
            assert page.total == whole.total
            paged += page.model_keys
        assert paged == whole.model_keys


def test_every_kind_of_node_is_compiled() -> None:
    makers = compiler.Compiler(compiler.build_schema())._makers
    assert set(makers) == {Everything, Words, Keyword, Range, Flag, Not, And, Or}


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("downloads", [2, 1, 3]),
        ("likes", [1, 3, 2]),
        ("newest", [3, 2, 1]),
        ("updated", [1, 2, 3]),
        ("name", [3, 2, 1]),
        ("size", [2, 3, 1]),
    ],
)
def test_orders(tmp_path: Path, sort: str, expected: list[int]) -> None:
    models = [
        model(1, "zeta", downloads=5, likes=9, published_ms=10, updated_ms=30, size_bytes=None),
        model(2, "Beta", downloads=50, likes=None, published_ms=20, updated_ms=20, size_bytes=9),
        model(3, "ＡＢＣ", downloads=None, likes=1, published_ms=30, updated_ms=10, size_bytes=5),
    ]
    index = filled(tmp_path / "index", models)
    assert found(index, "*", sort) == expected


def test_relevance_prefers_names_then_downloads(tmp_path: Path) -> None:
    models = [
        model(1, "Other thing", texts=("a dragon among many words in a description",)),
        model(2, "Dragon", downloads=3),
        model(3, "Dragon", downloads=30_000),
        model(4, "Unrelated"),
    ]
    index = filled(tmp_path / "index", models)
    assert found(index, "dragon") == [3, 2, 1]
    assert found(index, "type:lora")[:2] == [3, 2]


def test_relevance_prefers_words_to_parts_of_words(tmp_path: Path) -> None:
    # 京都 is a word in the second only; both have its characters in a row
    models = [model(1, "東京都の風景です"), model(2, "京都の風景です!")]
    index = filled(tmp_path / "index", models)
    assert found(index, "京都") == [2, 1]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.none() | st.integers(0, 70) | st.integers(0, 2**40), min_size=10, max_size=60),
    st.sampled_from(["", "hub:civitai", "type:vae", "owned:no"]),
    st.integers(1, 6),
    st.integers(0, 8),
)
def test_broad_queries_by_downloads_are_as_if_all_were_sorted(
    downloads: list[int | None], query: str, limit: int, offset: int
) -> None:
    models = [
        model(key, downloads=count, type="VAE" if key % 3 else "LORA")
        for key, count in enumerate(downloads, start=1)
    ]
    with temporary_index(models) as index, pytest.MonkeyPatch.context() as patch:
        plain = index.search(parse(query), "downloads", limit, offset)
        patch.setattr(ranking, "BROAD_MODELS", 1)
        assert index.search(parse(query), "downloads", limit, offset) == plain
        assert index.search(parse(query), "relevance", limit, offset) == plain


def test_facets_count_what_is_found(tmp_path: Path) -> None:
    models = [
        model(1, "a", base_models=("SDXL 1.0",)),
        model(2, "a", base_models=("SDXL 1.0", "Pony")),
        model(3, "a", type="Checkpoint"),
        model(4, "b", type="VAE", base_models=("SD 1.5",)),
    ]
    index = filled(tmp_path / "index", models)
    assert index.facets(parse("name:a")) == {
        "type": [("LORA", 2), ("Checkpoint", 1)],
        "base_model": [("SDXL 1.0", 2), ("Pony", 1)],
        "topic": [],
    }
    assert index.facets(parse("name:nothing")) == {"type": [], "base_model": [], "topic": []}


def test_facets_count_one_kind_under_one_name(tmp_path: Path) -> None:
    models = [
        model(1, type="LORA", base_models=("SDXL 1.0",), tags=("style", "Art Style", "girl")),
        model(
            2, type="Lora", base_models=("sdxl_base_v1-0", "SDXL"), tags=("キャラクター", "画風")
        ),
        model(3, type="New Kind", base_models=("org/x",), tags=("standing pose",)),
    ]
    assert filled(tmp_path / "index", models).facets(parse("*")) == {
        "type": [("LORA", 2), ("New Kind", 1)],
        "base_model": [("SDXL 1.0", 2), ("org/x", 1)],
        "topic": [("style", 2), ("character", 1), ("pose", 1)],
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("topic:style", [1, 2]),
        ("topic:poses", [3]),
        ("facet:キャラ", [2]),
        ("topic:style topic:character", [2]),
        ("base:sdxl", [1, 2]),
        ("base:stabilityai/stable-diffusion-xl-base-1.0", [1, 2]),
        ("family:sdxl", [1, 2, 4]),
        ("family:illustrious", [1, 2, 4]),
        ("ecosystem:org/x", [3]),
        ("type:lora", [1, 2]),
        ("type:loras", [1, 2]),
        ("supported:yes", [4]),
        ("supported:no", [1, 2, 3]),
    ],
)
def test_words_for_kinds_have_synonyms(tmp_path: Path, query: str, expected: list[int]) -> None:
    models = [
        model(1, type="LORA", base_models=("SDXL 1.0",), tags=("style", "girl")),
        model(2, type="Lora", base_models=("sdxl_base_v1-0",), tags=("キャラクター", "画風")),
        model(3, type="New Kind", base_models=("org/x",), tags=("standing pose",)),
        model(4, type="Checkpoint", base_models=("Pony",), supported=True),
    ]
    assert sorted(found(filled(tmp_path / "index", models), query)) == expected


def test_replaced_and_deleted_models_are_found_as_they_are_now(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", [model(1, "old"), model(2, "other"), model(12, "old")])
    index.replace([model(1, "new")])
    assert found(index, "old") == [1, 12], "nothing is visible before the commit"
    index.commit(Marker("epoch", 3))
    assert (found(index, "old"), found(index, "new")) == ([12], [1])
    index.delete([12])
    index.commit(Marker("epoch", 4))
    assert sorted(found(index, "*")) == [1, 2]
    assert index.model_count == 2


def test_dropping_later_changes_names_them(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", [model(key, changed_seq=key * 10) for key in (1, 2, 3)])
    assert sorted(index.drop_after(10)) == [2, 3]
    assert index.drop_after(1_000) == []
    index.commit(Marker("other", 10))
    assert found(index, "*") == [1]


def test_the_marker_survives_reopening_and_is_no_model(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", [model(1)])
    index.rest()
    again = CatalogIndex.open_or_create(tmp_path / "index")
    assert again.marker == Marker("epoch", 1)
    assert again.model_count == 1
    assert found(again, "*") == [1]
    assert found(again, "-name:zzz") == [1]
    again.replace([model(2)])
    again.commit(Marker("epoch", 2))
    assert CatalogIndex.open_or_create(tmp_path / "index").marker == Marker("epoch", 2)


def test_what_was_not_committed_is_gone_after_reopening(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", [model(1)])
    index.replace([model(2)])
    index.close()
    again = CatalogIndex.open_or_create(tmp_path / "index")
    assert (again.marker, again.model_count) == (Marker("epoch", 1), 1)


def _garbage_in_meta(path: Path) -> None:
    (path / "meta.json").write_text("{not json")


def _truncated_segment(path: Path) -> None:
    file = next(path.glob("*.idx"))
    file.write_bytes(file.read_bytes()[:10])


def _missing_segment(path: Path) -> None:
    next(path.glob("*.term")).unlink()


def _foreign_index(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("title", stored=True)
    tantivy.Index(builder.build(), str(path)).writer(15_000_000, 1).commit()


def _a_file_instead(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("not a folder")


def _empty_folder(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        _garbage_in_meta,
        _truncated_segment,
        _missing_segment,
        _foreign_index,
        _a_file_instead,
        _empty_folder,
        shutil.rmtree,
    ],
)
def test_an_unusable_index_is_begun_anew(tmp_path: Path, damage: object) -> None:
    filled(tmp_path / "index", [model(1)]).rest()
    assert callable(damage)
    damage(tmp_path / "index")
    index = CatalogIndex.open_or_create(tmp_path / "index")
    assert (index.marker, index.model_count) == (Marker("", 0), 0)
    index.replace([model(1, "again")])
    index.commit(Marker("e", 1))
    assert found(index, "again") == [1]


def test_an_index_of_another_format_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "index", [model(1)]).rest()
    monkeypatch.setattr(index_module, "FORMAT", index_module.FORMAT + 1)
    assert CatalogIndex.open_or_create(tmp_path / "index").marker == Marker("", 0)


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", [model(1, "word")])
    index.rest()
    assert index.damaged_file() is None
    file = next((tmp_path / "index").glob("*.store"))
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    assert index.damaged_file() == file.name


def test_leftovers_of_a_kill_are_no_damage(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", [model(1), model(2)])
    index.delete([1])
    index.commit(Marker("epoch", 3))
    index.close()
    for suffix in (".store", ".idx", ".fast", ".7.del"):
        (tmp_path / "index" / f"{'0' * 32}{suffix}").write_bytes(b"unfinished")
    again = CatalogIndex.open_or_create(tmp_path / "index")
    assert again.damaged_file() is None
    assert found(again, "*") == [2]


def test_a_removed_folder_is_noticed_when_committing(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", [model(1)])
    shutil.rmtree(tmp_path / "index")
    assert index.is_gone
    index.replace([model(2)])
    with pytest.raises(IndexDamaged):
        index.commit(Marker("epoch", 2))
    index.close()


def test_a_panic_inside_the_engine_is_an_ordinary_error(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", [model(1)])
    with pytest.raises(IndexDamaged):
        index.search(EVERYTHING, "downloads", 0, 0)  # a limit of 0 panics in the engine


def test_completion_counts_models(tmp_path: Path) -> None:
    models = [model(1, tags=("Anime", "art")), model(2, tags=("anime",)), model(3, tags=("b",))]
    index = filled(tmp_path / "index", models)
    assert index.keys_with_prefix("tag", "a", 10) == [("anime", 2), ("art", 1)]


def test_the_marker_names_its_format(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", [])
    searcher = index._searcher
    [(_, address)] = searcher.search(index._compiler.term("key", "marker"), 1).hits
    state = json.loads(str(searcher.doc(address).get_first("marker")))
    assert state["format"] == compiler.FORMAT

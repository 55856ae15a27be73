"""What is indexed of a text, and that looking for a part of it finds it."""

import threading

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelkeepd.catalog.text import (
    GAP,
    MORPHOLOGY,
    WORD_MAX_CHARS,
    Morphology,
    has_japanese,
    joined_tokens,
    loose_key,
    normalize,
    pattern,
    tag_key,
    tokens,
)

CJK = "東京都学習鬼滅の刃ポイントチェック모델한국어模型风格ー々"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("add_detail-v1.5", ["add", "detail", "v1", "5"]),
        ("東京都", ["東京", "京都", "都"]),
        ("都", ["都"]),
        ("LoRA学習 猫", ["lora", "学習", "習", "猫"]),
        ("ｶﾞﾝﾀﾞﾑ", ["ガン", "ンダ", "ダム", "ム"]),
        ("ＡＢＣ １２３", ["abc", "123"]),
        ("Straße ﬁne", ["strasse", "fine"]),
        ("서울에서", ["서울", "울에", "에서", "서"]),
        ("チェック・モデル", ["チェ", "ェッ", "ック", "ク", "モデ", "デル", "ル"]),
        ("हिन्दी", ["हिन्दी"]),
        ("ไทย", ["ไท", "ทย", "ย"]),
        ("Привет, мир", ["привет", "мир"]),
        ("🔥 -- !", []),
        ("", []),
    ],
)
def test_texts_are_cut_into_words_and_pairs(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("text", "word", "found"),
    [
        ("チェックポイント", "ポイント", True),
        ("鬼滅の刃", "滅", True),
        ("鬼滅の刃", "刃", True),
        ("鬼滅の刃", "鬼刃", False),
        ("東京 京都", "東京都", False),
        ("東京都", "京都", True),
        ("blue hair", "blue hair", True),
        ("blue, hair", "blue-hair", True),
        ("blue hair", "blu", False),
        ("tower 東京", "tower 東", True),
        ("LoRA学習用", "lora学習", True),
    ],
)
def test_a_word_is_found_where_it_stands(text: str, word: str, found: bool) -> None:
    assert pattern(word).occurs_in(tokens(text)) is found


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet=CJK + " a", max_size=12), st.text(alphabet=CJK, min_size=1, max_size=5))
@example("東京東", "東")
def test_pairs_find_exactly_the_substrings(text: str, word: str) -> None:
    wanted = normalize(word)
    assert pattern(word).occurs_in(tokens(text)) is (wanted in normalize(text))


_WORDS = st.sampled_from(["ab1", "東京", "学", "é", "!", "x-y", "サーバー", "🔥", "한국어"])


@settings(max_examples=200, deadline=None)
@given(st.lists(_WORDS, min_size=1, max_size=8), st.data())
def test_any_stretch_of_a_text_is_found_as_a_phrase(words: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    wanted = pattern(" ".join(words[start:end]))
    assert not wanted.tokens or wanted.occurs_in(tokens(" ".join(words)))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=5))
@example(["a\0b", "c"])
@example(["x" * 200, "y z"])
def test_joined_texts_keep_their_tokens_and_stay_apart(texts: list[str]) -> None:
    parts = joined_tokens(texts).split(" ")
    expected: list[str] = []
    for number, text in enumerate(texts):
        expected += [GAP] * (number > 0) + tokens(text)
    assert [part for part in parts if part] == expected


@given(st.text(max_size=60))
@example("\ud800x")
@example("\u0345ΐ")
def test_tokens_of_anything_are_small_and_encodable(text: str) -> None:
    for token in tokens(text):
        assert 0 < len(token) <= WORD_MAX_CHARS
        token.encode()
        assert " " not in token
        assert GAP not in token


def test_keys_forgive_case_and_separators() -> None:
    assert loose_key("SDXL 1.0") == loose_key("sdxl_1.0") == loose_key("Ｓdxl-1.0") == "sdxl1.0"
    assert tag_key(" Blue_Hair") == tag_key("blue-hair") == "blue hair"


def test_japanese_is_cut_into_words_in_dictionary_form() -> None:
    words = MORPHOLOGY.words(["東京都の猫を学習した", "English only"])
    assert words == ["東京", "都", "猫", "学習", "する"]


def test_the_dictionary_is_loaded_only_for_japanese() -> None:
    morphology = Morphology()
    assert morphology.words(["no Japanese here", "한국어", "é"]) == []
    assert not morphology.is_loaded
    assert morphology.words(["猫"]) == ["猫"]
    assert morphology.is_loaded


def test_kana_tells_japanese_from_chinese() -> None:
    assert has_japanese("猫です")
    assert has_japanese("ﾈｺ")
    assert not has_japanese("模型训练")
    assert not has_japanese("cat")


def test_threads_share_the_analyzer() -> None:
    morphology = Morphology()
    expected = MORPHOLOGY.words(["東京都の猫"] * 50)
    results: list[list[str]] = []

    def work() -> None:
        for _ in range(20):
            results.append(morphology.words(["東京都の猫"] * 50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    assert all(result == expected for result in results)

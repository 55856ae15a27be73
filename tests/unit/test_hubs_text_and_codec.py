"""Plain text of descriptions, document hashes and compression."""

import contextlib
import json
import random

import pytest
import zstandard

from modelkeepd.hubs.documents import (
    MAX_DELTA_SOURCE_BYTES,
    DocumentCodec,
    DocumentDamaged,
    document_hash,
    same_document,
    train_dictionary,
)
from modelkeepd.hubs.plain_text import plain_text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("no markup", "no markup"),
        ("<p>one</p><p>two</p>", "one\ntwo"),
        ("a<br>b<br/>c<BR />d", "a\nb\nc\nd"),
        ('<p class="x">a <strong>b</strong><a href="https://x/?a=1&b">c</a></p>', "a bc"),
        ("<ul><li><p>x</p></li><li>y</li></ul>", "x\ny"),
        ("&lt;lora:x:1&gt; &amp; &nbsp;&#12402;", "<lora:x:1> & ひ"),
        ("use <lora:name:0.8> and <trigger word>", "use <lora:name:0.8> and <trigger word>"),
        ("a<!-- hidden -->b<script>evil()</script>c<style>p{}</style>", "a b c"),
        ("a < b and c > d", "a < b and c > d"),
        ("unclosed <p", "unclosed <p"),
        ("<!-- never closed", "<!-- never closed"),
        ("全角\u3000空白\xa0x\u200by\0z", "全角 空白 xyz"),
        ("lone \ud800 half", "lone \ufffd half"),
    ],
)
def test_html_becomes_its_words(source: str, text: str) -> None:
    assert plain_text(source) == text


@pytest.mark.parametrize(
    "source",
    [part * 10**5 for part in ("<", "<!--", "<script>", "&", "\0", "<p ", "<!---->", "</s", "&#x")],
)
def test_hostile_html_is_bounded(source: str) -> None:
    assert len(plain_text(source)) <= 64_000


def test_key_order_and_blanks_do_not_make_another_document() -> None:
    assert same_document(b'{"a":1,"b":[1,2]}', b'{ "b": [1, 2], "a": 1 }')
    assert not same_document(b'{"a":1}', b'{"a":2}')
    assert same_document(b'{"a":NaN,"b":1}', b'{"b":1,"a":NaN}')
    assert not same_document(b"no json", b"none either")
    assert document_hash(b"a") == document_hash(b"a") != document_hash(b"b")


def documents(count: int) -> list[bytes]:
    rng = random.Random(5)
    words = [f"word{n}" for n in range(500)]
    return [
        json.dumps({"id": n, "description": " ".join(rng.choices(words, k=300)), "type": "LORA"})
        .encode()
        for n in range(count)
    ]  # fmt: skip


def test_documents_come_back_with_and_without_a_dictionary() -> None:
    docs = documents(600)
    data = train_dictionary(docs)
    assert data is not None
    codec = DocumentCodec()
    codec.add(3, "civitai", "model", data)
    assert codec.dictionary_for("civitai", "model") == 3
    assert codec.dictionary_for("civitai", "image") is None
    plain, small = codec.compress(docs[0], None), codec.compress(docs[0], 3)
    assert len(small) < len(plain)
    assert codec.decompress(plain, None) == codec.decompress(small, 3) == docs[0]


def test_too_few_documents_make_no_dictionary() -> None:
    assert train_dictionary(documents(5)) is None
    assert train_dictionary([]) is None


def test_a_damaged_or_oversized_document_is_an_error_not_a_crash() -> None:
    codec = DocumentCodec()
    with pytest.raises(DocumentDamaged):
        codec.decompress(b"rubbish", None)
    with pytest.raises(DocumentDamaged):
        codec.decompress(codec.compress(b"x" * 100, None)[:-1], None)
    with pytest.raises(DocumentDamaged):
        codec.decompress(zstandard.ZstdCompressor().compress(bytes(65 << 20)), None)
    with pytest.raises(DocumentDamaged):
        codec.decompress(codec.compress(b"x", None), 99)


DELTAS = [
    (b"", b""),
    (b"", b"new"),
    (b"old", b""),
    (b"{}", b"[]"),
    (b"short", b"x"),
    (b'{"downloads":1}' * 50, b'{"downloads":2}' * 50),
    # begins like a trained dictionary
    (b"\x37\xa4\x30\xec" + b"a" * 500, b"\x37\xa4\x30\xec" + b"b" * 500),
    (bytes(range(256)) * 40, bytes(range(255, -1, -1)) * 40),
]


@pytest.mark.parametrize(("old", "new"), DELTAS)
def test_an_older_document_comes_back_from_its_delta(old: bytes, new: bytes) -> None:
    codec = DocumentCodec()
    assert codec.apply_delta(new, codec.delta(old, new)) == old


def test_a_change_at_either_end_of_a_long_document_is_a_small_delta() -> None:
    rng = random.Random(7)
    new = json.dumps([rng.random() for _ in range(200_000)]).encode()  # 4 MB
    for old in (b"[0," + new[1:], new[:-1] + b",0]", new[: len(new) // 2] + b"0" + new[-9:]):
        delta = DocumentCodec().delta(old, new)
        assert DocumentCodec().apply_delta(new, delta) == old
        assert len(delta) < 2_000


def test_documents_too_long_for_deltas_are_kept_whole() -> None:
    codec = DocumentCodec()
    new = b"x" * (MAX_DELTA_SOURCE_BYTES + 1)
    assert codec.decompress(codec.delta(b"old", new), None) == b"old"
    assert codec.apply_delta(new, codec.delta(b"old", new)) == b"old"
    assert codec.apply_delta(b"old", codec.delta(new, b"old")) == new


def test_a_delta_is_refused_with_any_other_document_and_with_any_byte_changed() -> None:
    codec = DocumentCodec()
    old, new = documents(2)
    delta = codec.delta(old, old[:700] + b"!" + old[700:])
    with pytest.raises(DocumentDamaged):
        codec.apply_delta(new, delta)
    new = old[:700] + b"!" + old[700:]
    assert codec.apply_delta(new, delta) == old
    for place in range(len(delta)):
        damaged = bytearray(delta)
        damaged[place] ^= 0x10
        with contextlib.suppress(DocumentDamaged):
            # a bit of the header may mean nothing to the content; then it is the content
            assert codec.apply_delta(new, bytes(damaged)) == old
        with pytest.raises(DocumentDamaged):
            codec.apply_delta(new, delta[:place])
    with pytest.raises(DocumentDamaged):
        codec.apply_delta(new, zstandard.ZstdCompressor().compress(bytes(65 << 20)))

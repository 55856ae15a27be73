"""References: every way people name a thing, one canonical text, and errors that help."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.hubs.reference import (
    BadReference,
    Reference,
    file_ref,
    model_ref,
    parse_reference,
    version_ref,
)

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("civitai:1102", "civitai:1102"),
        ("  CivitAI:1102 ", "civitai:1102"),
        ("civitai:1102@1301", "civitai:1102@1301"),
        ("civitai:1102@1301#555", "civitai:1102@1301#555"),
        ("civitai:@1301", "civitai:@1301"),
        ("civitai:1@~0", "civitai:1@~0"),
        ("https://civitai.com/models/1102", "civitai:1102"),
        ("https://civitai.com/models/1102/slug?modelVersionId=1301#x", "civitai:1102@1301"),
        ("http://www.civitai.red/models/1102?modelVersionId=1301", "civitai:1102@1301"),
        ("https://civitai.com/api/v1/models/1102", "civitai:1102"),
        ("https://civitai.com/api/download/models/1301", "civitai:@1301"),
        ("https://civitai.com/api/download/models/1301?fileId=55&type=Model", "civitai:@1301#55"),
        ("https://civitai.com/model-versions/1301", "civitai:@1301"),
        ("urn:air:sd1:checkpoint:civitai:1102@1301", "civitai:1102@1301"),
        ("urn:air:sdxl:lora:civitai:1102@1301+55", "civitai:1102@1301#55"),
        ("URN:AIR:sdxl:lora:civitai:1102", "civitai:1102"),
        ("urn:air:flux1:checkpoint:huggingface:org/name@main", "hf:org/name@main"),
        ("hf:org/name", "hf:org/name"),
        ("huggingface:org/name@refs/pr/1", "hf:org/name@refs/pr/1"),
        ("hf:gpt2", "hf:gpt2"),
        ("hf:_org/Name-2.1_x", "hf:_org/Name-2.1_x"),
        ("hf:org/name@refs%2Fpr%2F1", "hf:org/name@refs/pr/1"),
        ("hf:org/name@a%23b%25c", "hf:org/name@a%23b%25c"),
        ("hf:org/name#x#y.bin", "hf:org/name#x#y.bin"),
        ("hf:org/name@main#sub/a b.safetensors", "hf:org/name@main#sub/a b.safetensors"),
        ("https://huggingface.co/org/name", "hf:org/name"),
        ("https://huggingface.co/gpt2", "hf:gpt2"),
        ("https://hf.co/org/name/tree/v1.0", "hf:org/name@v1.0"),
        ("https://huggingface.co/org/name/blob/main/a/b.bin", "hf:org/name@main#a/b.bin"),
        ("https://hf.co/org/name/resolve/main/m.gguf?download=true", "hf:org/name@main#m.gguf"),
        ("https://huggingface.co/a/b/blob/refs%2Fpr%2F1/x%20y.bin", "hf:a/b@refs/pr/1#x y.bin"),
        ("https://huggingface.co/a/b/raw/v%231/x", "hf:a/b@v%231#x"),
        ("https://huggingface.co/a/b/tree/main/sub", "hf:a/b@main"),
        ("https://huggingface.co/a/b/commit/0a1b", "hf:a/b@0a1b"),
        ("https://huggingface.co/a/tree", "hf:a/tree"),
        ("https://huggingface.co/a/b/discussions/3", "hf:a/b"),
        ("https://huggingface.co/gpt2/resolve/main/config.json", "hf:gpt2@main#config.json"),
        ("https://huggingface.co/api/models/a/b/revision/v1", "hf:a/b@v1"),
        ("https://hf.co/api/resolve-cache/models/a/b/0a1b/d/x.json", "hf:a/b@0a1b#d/x.json"),
        (f"sha256:{HEX.upper()}", f"sha256:{HEX}"),
        (HEX, f"sha256:{HEX}"),
        ("/data/m.safetensors", "path:/data/m.safetensors"),
        ("./m", "path:./m"),
        ("~/m", "path:~/m"),
        ("名前.safetensors", "path:名前.safetensors"),
        ("sub/dir/x.gguf", "path:sub/dir/x.gguf"),
    ],
)  # fmt: skip
def test_a_reference_is_understood(text: str, canonical: str) -> None:
    assert str(parse_reference(text)) == canonical


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "civitai:1102"),
        ("1102", "civitai:1102"),
        ("civtai:1102", "civitai:1102"),
        ("civitai:abc", "civitai:1102"),
        ("civitai:", "civitai:1102"),
        ("civitai:0", ""),
        ("civitai:1102#55", "@VERSION"),
        ("org/name", "hf:org/name"),
        ("sha265:" + HEX, "sha256:"),
        ("sha256:abc", ""),
        ("https://civitai.co/models/5", "civitai.com"),
        ("https://civitai.com/user/x", "models/1102"),
        ("https://huggingface.co/datasets/a/b", "ORG/NAME"),
        ("https://huggingface.co/api/datasets/a/b", "ORG/NAME"),
        ("https://huggingface.co/spaces/a/b/tree/main", "ORG/NAME"),
        ("hf:datasets/a/b", "ORG/NAME"),
        ("https://huggingface.co/docs", "ORG/NAME"),
        ("https://huggingface.co/a/b/blob/..%2F..%2Fx/y", "hf:a/b@main"),
        ("hf:a/b@..", "hf:a/b@main"),
        ("urn:air:sdxl:lora:tensorart:5@6", ""),
        ("urn:isbn:5", "urn:air"),
        ("hf:../../etc", ""),
        ("https://[::1", ""),
        ("a\0b", ""),
        ("what is this", "civitai:1102"),
        ("x" * 5_000, ""),
    ],
)
def test_what_is_none_says_what_was_meant(text: str, hint: str) -> None:
    with pytest.raises(BadReference) as caught:
        parse_reference(text)
    assert hint in caught.value.hint


_id = st.integers(1, 10**15).map(str)
_word = st.text(string.ascii_letters + string.digits, min_size=1, max_size=12)

_repo = st.one_of(_word, st.builds("{}/{}".format, _word, _word))
_revision = st.text(string.ascii_letters + "/%#@~", min_size=1, max_size=20)
_path = st.text(string.ascii_letters + " #%@/", min_size=1).filter(
    lambda path: path.strip() == path
)


@settings(max_examples=200)
@given(
    st.one_of(
        st.builds(model_ref, st.just("civitai"), _id),
        st.builds(version_ref, st.just("civitai"), _id, _id),
        st.builds(file_ref, st.just("civitai"), _id, _id, _id),
        st.builds(lambda o, n, r: f"hf:{o}/{n}@{r}", _word, _word, _word),
        st.builds(version_ref, st.just("huggingface"), _repo, _revision),
        st.builds(file_ref, st.just("huggingface"), _repo, _revision, _path),
        st.binary(min_size=32, max_size=32).map(lambda b: f"sha256:{b.hex()}"),
    )
)
def test_canonical_text_and_reference_are_each_others_inverse(text: str) -> None:
    reference = parse_reference(text)
    assert str(reference) == text
    assert parse_reference(str(reference)) == reference


@settings(max_examples=300)
@given(st.text(max_size=60) | st.sampled_from(["civitai:", "https://", "hf:"]).flatmap(
    lambda prefix: st.text(max_size=40).map(lambda tail: prefix + tail)
))  # fmt: skip
def test_any_text_is_a_reference_or_a_bad_one(text: str) -> None:
    try:
        reference = parse_reference(text)
    except BadReference:
        return
    assert isinstance(reference, Reference)
    if reference.kind != "path":
        assert parse_reference(str(reference)) == reference

"""Hugging Face's documents of three years: each one parses, and no odd field costs a model."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelkeepd.hubs.contract import OddDocument, ParsedModel, parse_model
from modelkeepd.hubs.huggingface import EXPANDED
from modelkeepd.hubs.huggingface_documents import parse_huggingface_model
from modelkeepd.hubs.huggingface_files import kind_of, primary_path
from modelkeepd.hubs.licenses import allows_commercial

FIXTURES = Path(__file__).parents[1] / "fixtures" / "huggingface"
KEY = "621ffdc136468d709f180294"
SHA = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
OID = "a" * 64

# file -> what must come of it, by the field
MODELS: dict[str, dict[str, Any]] = {
    "expand-inference-providers-flux": {
        "hub_id": "66aaa908fc35e079a941470d", "ref_id": "black-forest-labs/FLUX.1-dev",
        "creator": "black-forest-labs", "downloads": None, "published_ms": None, "license": None,
    },
    "expand-pipeline-tag-bart": {"name": "facebook/bart-base", "tags": ("feature-extraction",)},
    "model-all-minilm-l6-v2": {
        "hub_id": KEY, "downloads": 90148743, "likes": 3148, "updated_ms": 1741268264000,
        "license": "apache-2.0", "commercial": True, "gated": None, "nsfw_level": None,
    },
    "model-bert-base-uncased-2025": {"published_ms": 1646263744000, "creator": "google-bert"},
    "model-clip-vit-base-patch32": {"license": None, "commercial": None},
    "model-distilbert-sst2": {"hub_state": "listed"},
    "model-gpt2-namespaced": {"ref_id": "openai-community/gpt2", "license": "mit"},
    "model-llama-3.1-8b-instruct": {
        "gated": "manual", "license": "llama3.1", "commercial": None,
        "base_models": ("Llama 3.1",),
    },
    "model-stable-diffusion-2-1-2025": {"license": "openrail++", "size_bytes": None},
    "model-stable-diffusion-v1-4": {"license": "creativeml-openrail-m", "gated": None},
    "model-t5-small": {"ref_id": "google-t5/t5-small", "base_models": ()},
    "model-zephyr-7b-beta": {"base_models": ("Mistral",), "commercial": True},
}  # fmt: skip


def raw(name: str) -> bytes:
    return (FIXTURES / f"{name}.json").read_bytes()


def parsed(**fields: object) -> ParsedModel:
    document = {"_id": KEY, "id": "org/name", **fields}
    return parse_huggingface_model(json.dumps(document).encode())


def test_every_recorded_model_is_in_the_table_here() -> None:
    bodies = {path.stem for path in FIXTURES.glob("*.json") if not path.stem.endswith(".http")}
    assert bodies == {*MODELS, "error-409-repo-exists"}


@pytest.mark.parametrize("name", MODELS)
def test_a_recorded_model_parses_to_what_it_says(name: str) -> None:
    model, document = parse_model("huggingface", raw(name)), json.loads(raw(name))
    for field, value in MODELS[name].items():
        assert getattr(model, field) == value, field
    assert (model.hub_id, model.ref_id) == (document["_id"], document["id"])
    (version,) = model.versions
    assert (version.hub_id, version.name) == ("main", "main")
    assert version.revision == document.get("sha")
    assert version.files_known == ("siblings" in document)
    assert [f.name for f in version.files] == [s["rfilename"] for s in document.get("siblings", ())]
    assert all(f.hub_id == f.name and f.url is None for f in version.files)


@pytest.mark.parametrize("name", MODELS)
def test_the_forgiving_road_leads_to_the_same_model(name: str) -> None:
    document = json.loads(raw(name))
    document["minor"] = float("nan")  # makes the strict decoder refuse the whole document
    assert parse_huggingface_model(json.dumps(document).encode()) == parse_huggingface_model(
        raw(name)
    )


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("model-")])
def test_a_list_row_says_the_same_of_a_model_as_its_whole_document(name: str) -> None:
    document = json.loads(raw(name))
    row = {key: document[key] for key in ("_id", "id", *EXPANDED) if key in document}
    whole, short = parse_huggingface_model(raw(name)), parsed(**row)
    assert not short.versions[0].files_known
    for field in ParsedModel.__struct_fields__:
        if field not in ("versions", "size_bytes"):
            assert getattr(short, field) == getattr(whole, field), field


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "no JSON"), (b"[]", "no usable _id"), (b"null", "no usable _id"),
        (b"7", "no usable _id"), (b"{}", "no usable _id"), (b"\xff", "no JSON"),
        (b'{"id":"gpt2"}', "gpt2 without its _id"),
        (b'{"modelId":"gpt2","tags":[]}', "gpt2 without its _id"),
        (b'{"_id":7,"id":"org/name"}', "org/name without its _id"),
        (b'{"_id":"621ffdc136468d709f18029"}', "no usable _id"),
        (b'{"_id":"zzzffdc136468d709f180294"}', "no usable _id"),
        (b"[" * 100_000, "no JSON"), (b"<html>", "no JSON"),
    ],
)  # fmt: skip
def test_a_document_without_its_key_is_odd_and_says_why(document: bytes, reason: str) -> None:
    with pytest.raises(OddDocument) as caught:
        parse_huggingface_model(document)
    assert reason in caught.value.reason


def test_a_model_is_found_by_its_key_when_its_name_is_none() -> None:
    for fields in ({}, {"id": None}, {"id": "../../etc"}, {"id": "a b"}, {"id": 7}):
        document = {"_id": KEY.upper(), **fields}
        model = parse_huggingface_model(json.dumps(document).encode())
        assert (model.hub_id, model.ref_id) == (KEY, "7" if fields == {"id": 7} else KEY)
    document = {"_id": KEY, "modelId": "org/old-name"}
    assert parse_huggingface_model(json.dumps(document).encode()).ref_id == "org/old-name"


def test_tags_are_those_that_people_look_for() -> None:
    model = parsed(
        tags=["lora", "license:mit", "region:us", "endpoints_compatible", "base_model:a/b",
              "base_model:adapter:a/b", "not-for-all-audiences", "dataset:x", "ja", "lora"],
        pipeline_tag="text-to-image", library_name="diffusers",
    )  # fmt: skip
    assert model.tags == (
        "lora", "license:mit", "base_model:a/b", "not-for-all-audiences", "dataset:x", "ja",
        "text-to-image", "diffusers",
    )  # fmt: skip
    assert model.base_models == ("a/b",)
    assert model.versions[0].base_model == "a/b"
    assert model.nsfw_level is not None


def test_a_base_model_is_read_where_it_stands() -> None:
    assert parsed(tags=["base_model:merge:a/b", "base_model:merge:c/d"]).base_models == (
        "a/b",
        "c/d",
    )
    assert parsed(cardData={"base_model": "a/b"}).base_models == ("a/b",)
    assert parsed(cardData={"base_model": ["a/b", 7, None, "a/b"]}).base_models == ("a/b",)


@pytest.mark.parametrize(
    ("value", "gated"),
    [(False, None), ("auto", "auto"), ("manual", "manual"), (True, "auto"), (None, None),
     ([], None), ({}, None), (7, "7"), ("", None)],
)  # fmt: skip
def test_gating_is_a_word_or_nothing(value: object, gated: str | None) -> None:
    assert parsed(gated=value).gated == gated


def test_a_disabled_repository_is_taken_down() -> None:
    assert parsed(disabled=True).hub_state == "taken_down"
    assert parsed(disabled="true").hub_state == parsed(disabled=False).hub_state == "listed"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("mit", True), ("Apache-2.0", True), ("creativeml-openrail-m", True), ("cc-by-4.0", True),
     ("cc-by-nc-4.0", False), ("cc-by-nc-sa-4.0", False), ("other", None), ("llama3.1", None),
     ("cc-by-nd-4.0", None), ("unknown", None), (None, None)],
)  # fmt: skip
def test_a_license_allows_selling_only_where_that_is_certain(
    name: str | None, allowed: bool | None
) -> None:
    assert allows_commercial(name) is allowed
    assert parsed(tags=[f"license:{name}"] if name else []).commercial is allowed


def test_front_matter_may_be_anything() -> None:
    for card in (
        None,
        [],
        "text",
        7,
        {"license": ["mit", "other"], "instance_prompt": "a sks dog"},
    ):
        model = parsed(cardData=card)
    assert (model.license, model.versions[0].trained_words) == ("mit", ("a sks dog",))
    assert parsed(cardData={"license": {"name": "mit"}}).license is None


def test_files_carry_the_checksum_that_fits_their_kind() -> None:
    model = parsed(
        siblings=[
            {"rfilename": "a.safetensors", "size": 9, "blobId": SHA,
             "lfs": {"sha256": OID, "size": 9, "pointerSize": 133}},
            {"rfilename": "sub dir/config.json", "size": 5, "blobId": SHA},
            {"rfilename": "tree.bin", "lfs": {"oid": OID, "size": 7}},
            {"rfilename": "spoiled.bin", "size": 5, "blobId": SHA, "lfs": "?"},
            {"rfilename": "names.txt"},
        ],
        sha=SHA,
    )  # fmt: skip
    (version,) = model.versions
    assert version.revision == SHA
    assert [(f.size_bytes, f.sha256, f.git_sha1) for f in version.files] == [
        (9, bytes.fromhex(OID), None),
        (5, None, bytes.fromhex(SHA)),
        (7, bytes.fromhex(OID), None),
        (5, None, None),  # the blobId of a file in LFS is that of the pointer
        (None, None, None),
    ]
    assert [(f.kind, f.format, f.is_primary) for f in version.files[:2]] == [
        ("Model", "SafeTensor", True),
        ("Config", None, False),
    ]
    assert model.size_bytes == 9


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        ".",
        "a\0b",
        "a\nb",
        "x" * 2_000,
        None,
        [],
    ],
)
def test_a_file_without_a_usable_path_is_left_out(path: object) -> None:
    model = parsed(siblings=[{"rfilename": path}, "no file", {"rfilename": "good.bin"}, {}])
    names = [f.name for f in model.versions[0].files]
    assert names == ["good.bin"]


@pytest.mark.parametrize(
    ("paths", "primary"),
    [
        (["README.md", "my_lora.safetensors"], "my_lora.safetensors"),
        (["a.safetensors", "a.ckpt", "config.yaml"], "a.safetensors"),
        (["a.safetensors", "b.safetensors"], None),
        (["pytorch_lora_weights.safetensors", "image_0.png"], "pytorch_lora_weights.safetensors"),
        (["learned_embeds.bin"], "learned_embeds.bin"),
        (["model-Q4_K_M.gguf"], "model-Q4_K_M.gguf"),
        (["model-Q4_K_M.gguf", "mmproj-f16.gguf"], "model-Q4_K_M.gguf"),
        (["model-Q4_K_M.gguf", "model-Q8_0.gguf"], None),
        (["big-00001-of-00002.gguf", "big-00002-of-00002.gguf"], None),
        (["config.json", "model.safetensors", "tokenizer.json"], None),
        (["config.json", "pytorch_model.bin"], None),
        (["config.json", "4x_upscaler.pth"], "4x_upscaler.pth"),
        (["model_index.json", "sd_xl_base_1.0.safetensors", "unet/config.json"], None),
        (["adapter_config.json", "adapter_model.safetensors"], None),
        (["unet/diffusion_pytorch_model.safetensors"], None),
        (["lora.safetensors", "optimizer.pt", "training_args.bin"], "lora.safetensors"),
        (["optimizer.pt"], None),
        (["model.onnx", "model.onnx_data"], "model.onnx"),
        ([], None),
    ],
)  # fmt: skip
def test_one_file_is_the_model_when_there_is_one_choice(
    paths: list[str], primary: str | None
) -> None:
    assert primary_path(paths) == primary


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("model-")])
def test_the_recorded_repositories_are_folders_without_a_single_file_to_take(name: str) -> None:
    assert not any(f.is_primary for f in parse_huggingface_model(raw(name)).versions[0].files)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("model.safetensors", "Model"), ("a/b.gguf", "Model"), ("tokenizer.json", "Config"),
     ("merges.txt", "Config"), ("README.md", "Other"), ("LICENSE", "Other"),
     ("optimizer.pt", "Other"), ("spiece.model", "Config"), ("x.png", "Other"),
     ("rng_state_0.pth", "Other"), ("requirements.txt", "Other")],
)  # fmt: skip
def test_a_files_kind_is_told_by_its_name(path: str, kind: str) -> None:
    assert kind_of(path) == kind


def test_what_no_row_can_hold_is_made_harmless() -> None:
    document = (
        b'{"_id":" 621FFDC136468D709F180294 ","id":"org/name","author":"a\\u0000b\\ud800c\\u202e ",'
        b'"tags":["x",null,5,{},"\\ud800"],"downloads":1e999,"likes":9999999999999999999999999,'
        b'"sha":"../..","createdAt":"0001-01-01T00:00Z","lastModified":NaN,'
        b'"siblings":[{"rfilename":"a","size":-4},{"rfilename":"a","size":2},{"rfilename":"\\ud800"}]}'
    )
    model = parse_huggingface_model(document)
    assert (model.hub_id, model.creator) == (KEY, "ab\ufffdc")
    assert model.tags == ("x", "5", "\ufffd")
    assert (model.downloads, model.likes, model.published_ms, model.updated_ms) == (
        None, None, None, None,
    )  # fmt: skip
    (version,) = model.versions
    assert version.revision is None
    assert [(f.name, f.size_bytes) for f in version.files] == [("a", None), ("\ufffd", None)]


def test_enormous_fields_are_bounded() -> None:
    model = parsed(
        author="n" * 10**6, tags=[f"t{n}" for n in range(10**5)],
        siblings=[{"rfilename": f"f{n}.bin"} for n in range(30_000)],
        cardData={"description": "<p>d</p>" * 10**5, "instance_prompt": ["w" * 3_000] * 10**4},
    )  # fmt: skip
    assert len(model.creator or "") <= 1_000
    assert len(model.tags) <= 1_002
    assert len(model.description) <= 64_000
    assert len(model.versions[0].files) == 20_000
    assert max(map(len, model.versions[0].trained_words)) <= 2_000

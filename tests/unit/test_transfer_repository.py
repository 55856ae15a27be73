"""Which files of a repository are taken, which are left and why, and when nobody can tell."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.hubs.contract import OddDocument
from modelkeepd.hubs.huggingface_documents import parse_huggingface_model
from modelkeepd.hubs.huggingface_files import is_path, kind_of
from modelkeepd.transfer.repository import (
    AGAIN,
    CODE,
    COMPANION,
    NOT_LOADED,
    ONE_FILE,
    TRAINING,
    Ambiguous,
    Entry,
    Selection,
    standard_name,
    usable_set,
)

RECORDED = Path(__file__).parents[1] / "fixtures/huggingface"
FORMATS = {
    "safetensors": "SafeTensor", "bin": "PickleTensor", "pth": "PickleTensor",
    "gguf": "GGUF", "onnx": "ONNX", "h5": "Keras", "msgpack": "Flax",
}  # fmt: skip


def entries(*paths: str) -> list[Entry]:
    return [
        Entry(path, 1000 + number, kind_of(path), FORMATS.get(path.rpartition(".")[2]))
        for number, path in enumerate(paths)
    ]


def chosen(selection: Selection) -> list[str]:
    return [entry.path for entry in selection.chosen]


def left(selection: Selection) -> dict[str, list[str]]:
    return {why: [entry.path for entry in files] for why, files in selection.left_out.items()}


def recorded(name: str) -> Selection:
    parsed = parse_huggingface_model((RECORDED / name).read_bytes())
    return usable_set(
        [
            Entry(file.hub_id, file.size_bytes, file.kind, file.format)
            for file in parsed.versions[0].files
        ]
    )


def test_of_a_pipeline_each_part_comes_once() -> None:
    selection = recorded("model-stable-diffusion-v1-4.json")
    assert chosen(selection) == [
        "feature_extractor/preprocessor_config.json",
        "model_index.json",
        "safety_checker/config.json",
        "safety_checker/model.safetensors",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    why = left(selection)
    assert "unet/diffusion_pytorch_model.non_ema.safetensors" in why[AGAIN]
    assert "README.md" in why[NOT_LOADED]
    assert set(why) == {AGAIN, NOT_LOADED}


def test_a_pipeline_in_one_file_beside_its_parts_is_left_out() -> None:
    why = left(recorded("model-stable-diffusion-2-1-2025.json"))
    assert "v2-1_768-ema-pruned.safetensors" in why[ONE_FILE]


def test_a_split_model_comes_with_its_index() -> None:
    selection = recorded("model-llama-3.1-8b-instruct.json")
    assert [path for path in chosen(selection) if "model" in path] == [
        *[f"model-0000{number}-of-00004.safetensors" for number in range(1, 5)],
        "model.safetensors.index.json",
    ]
    assert "original/consolidated.00.pth" in left(selection)[AGAIN]


def test_editions_for_other_runtimes_are_left_out() -> None:
    selection = recorded("model-gpt2-namespaced.json")
    assert [path for path in chosen(selection) if kind_of(path) == "Model"] == ["model.safetensors"]
    assert {"tf_model.h5", "pytorch_model.bin", "onnx/config.json"} <= set(left(selection)[AGAIN])


CASES: dict[str, tuple[list[str], list[str]]] = {
    "the older format when there is no other": (
        ["config.json", "pytorch_model.bin", "tf_model.h5"], ["config.json", "pytorch_model.bin"],
    ),
    "a lower precision when there is no other": (
        ["config.json", "model.fp16.safetensors"], ["config.json", "model.fp16.safetensors"],
    ),
    "the full precision": (
        ["config.json", "model.fp16.safetensors", "model.safetensors"],
        ["config.json", "model.safetensors"],
    ),
    "an index of what was not taken is not taken": (
        ["config.json", "model.safetensors", "pytorch_model-00001-of-00002.bin",
         "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json"],
        ["config.json", "model.safetensors"],
    ),
    "one file rather than the same one split": (
        ["config.json", "model-00001-of-00001.safetensors", "model.safetensors",
         "model.safetensors.index.json"],
        ["config.json", "model.safetensors"],
    ),
    "the usual name beside a maker's own": (
        ["config.json", "consolidated.safetensors", "model-00001-of-00002.safetensors",
         "model-00002-of-00002.safetensors", "model.safetensors.index.json", "params.json"],
        ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
         "model.safetensors.index.json", "params.json"],
    ),
    "an index with a precision belongs to that precision": (
        ["model_index.json", "unet/config.json",
         "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
         "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors",
         "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
         "unet/diffusion_pytorch_model.safetensors.index.json"],
        ["model_index.json", "unet/config.json",
         "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
         "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors",
         "unet/diffusion_pytorch_model.safetensors.index.fp16.json"],
    ),
    "folders of a sentence encoder, each in its format": (
        ["config.json", "modules.json", "model.safetensors", "1_Pooling/config.json",
         "2_Dense/config.json", "2_Dense/pytorch_model.bin"],
        ["config.json", "modules.json", "model.safetensors", "1_Pooling/config.json",
         "2_Dense/config.json", "2_Dense/pytorch_model.bin"],
    ),
    "what is large of a graph": (
        ["onnx/model.onnx", "onnx/model.onnx_data"], ["onnx/model.onnx", "onnx/model.onnx_data"],
    ),
    "a split file alone": (
        ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "README.md"],
        ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"],
    ),
    "a single one, without what lies beside it": (
        ["x.safetensors", "train.json"], ["x.safetensors"],
    ),
    "a tokenizer alone": (["tokenizer.json", "README.md"], ["tokenizer.json"]),
    "nothing": (["README.md", ".gitattributes"], []),
    "no checkpoints of the training": (
        ["config.json", "model.safetensors", "checkpoint-500/model.safetensors",
         "checkpoint-500/config.json", "runs/x/config.json"],
        ["config.json", "model.safetensors"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_usable_set(case: str) -> None:
    files, expected = CASES[case]
    selection = usable_set(entries(*files))
    assert chosen(selection) == expected
    everything = chosen(selection) + [p for paths in left(selection).values() for p in paths]
    assert sorted(everything) == sorted(files)


def test_reasons_are_told_apart() -> None:
    files = (
        "config.json", "model.safetensors", "pytorch_model.bin", "modeling.py", "logo.png",
        "checkpoint-1/model.safetensors", "all_results.json",
    )  # fmt: skip
    assert left(usable_set(entries(*files))) == {
        TRAINING: ["checkpoint-1/model.safetensors", "all_results.json"],
        AGAIN: ["pytorch_model.bin"],
        CODE: ["modeling.py"],
        NOT_LOADED: ["logo.png"],
    }
    companions = usable_set(entries("m-Q4.gguf", "mmproj-m.gguf"))
    assert (chosen(companions), left(companions)) == (["m-Q4.gguf"], {COMPANION: ["mmproj-m.gguf"]})


AMBIGUOUS: dict[str, tuple[list[str], list[tuple[str, str | None]]]] = {
    "quantizations": (
        ["m-Q8_0.gguf", "m-Q4_K_M.gguf"], [("m-Q4_K_M.gguf", None), ("m-Q8_0.gguf", None)],
    ),
    "a split one among them": (
        ["b/m-Q8-00001-of-00002.gguf", "b/m-Q8-00002-of-00002.gguf", "m-Q4.gguf"],
        [("b/m-Q8-00001-of-00002.gguf", "b/m-Q8-*-of-00002.gguf"), ("m-Q4.gguf", None)],
    ),
    "a collection": (
        ["a.safetensors", "b.safetensors"], [("a.safetensors", None), ("b.safetensors", None)],
    ),
    "several that a configuration does not tell apart": (
        ["config.json", "big.safetensors", "small.safetensors"],
        [("big.safetensors", None), ("small.safetensors", None)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_nobody_can_tell_is_not_guessed(case: str) -> None:
    files, choices = AMBIGUOUS[case]
    with pytest.raises(Ambiguous) as several:
        usable_set(entries(*files))
    assert [(choice.path, choice.pattern) for choice in several.value.choices] == choices
    assert all(choice.size_bytes >= 1000 for choice in several.value.choices)


@pytest.mark.parametrize("document", sorted(RECORDED.glob("model-*.json")), ids=lambda p: p.stem)
def test_every_recorded_repository_has_a_choice(document: Path) -> None:
    try:
        parsed = parse_huggingface_model(document.read_bytes())
    except OddDocument:
        return  # headers of an answer, not a document
    files = [Entry(f.hub_id, f.size_bytes, f.kind, f.format) for f in parsed.versions[0].files]
    selection = usable_set(files)
    weights = [entry for entry in selection.chosen if entry.kind == "Model"]
    assert bool(weights) == any(entry.kind == "Model" for entry in files)


NAMES = st.sampled_from(
    [f"{stem}{middle}.{suffix}" for stem in ("model", "a", "mmproj-a", "config", "README")
     for middle in ("", ".fp16", "-00001-of-00002", "-00002-of-00002", ".safetensors.index")
     for suffix in ("safetensors", "bin", "gguf", "onnx", "json", "md", "py")]
)  # fmt: skip
PATHS = st.builds(
    lambda folders, name: "/".join([*folders, name]),
    st.lists(st.sampled_from(["unet", "onnx", "checkpoint-1", ".git", "x y"]), max_size=2),
    NAMES,
)


@settings(max_examples=150)
@given(st.lists(PATHS, unique=True, max_size=12))
def test_every_file_is_either_taken_or_left_with_a_reason(paths: list[str]) -> None:
    assert all(is_path(path) for path in paths)
    try:
        selection = usable_set(entries(*paths))
    except Ambiguous:
        return
    assert sorted(
        chosen(selection) + [path for files in left(selection).values() for path in files]
    ) == sorted(paths)


@pytest.mark.parametrize(
    ("path", "standard"),
    [
        ("model.safetensors", True),
        ("vae/diffusion_pytorch_model.fp16.safetensors", True),
        ("model-00001-of-00002.safetensors", True),
        ("pytorch_lora_weights.safetensors", True),
        ("ae.safetensors", False),
        ("my_model.safetensors", False),
    ],
)
def test_names_that_say_nothing(path: str, standard: bool) -> None:
    assert standard_name(path) is standard

"""Guesses: for repositories by their words, for files by what is in and around them."""

import json
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.kinds import family_of, huggingface_base, huggingface_type
from modelkeepd.kinds.facts import FileFacts
from modelkeepd.kinds.infer import Inference, infer
from modelkeepd.kinds.learning import Learned, confirmation, features_of, with_decision
from modelkeepd.library.headers import look_inside
from tests.fakes.model_files import Sample, samples, write_gguf, write_safetensors

FIXTURES = Path(__file__).parents[1] / "fixtures" / "huggingface"


def best(found: Inference) -> tuple[str | None, str | None]:
    return (
        found.types[0].type if found.types else None,
        found.bases[0].base if found.bases else None,
    )


# -- repositories


@pytest.mark.parametrize(
    ("library", "task", "tags", "name", "type_"),
    [
        ("diffusers", "text-to-image", ["diffusers:FluxPipeline"], "x/y", "Checkpoint"),
        ("diffusers", "text-to-image", ["lora", "base_model:adapter:a/b"], "x/y", "LORA"),
        ("diffusers", "text-to-image", [], "x/flux-my-cat-lora", "LORA"),
        ("diffusers", None, ["diffusers:ControlNetModel"], "x/y", "Controlnet"),
        ("diffusers", "image-to-image", ["diffusers:T2IAdapter"], "x/y", "T2IAdapter"),
        ("diffusers", None, ["diffusers:AutoencoderKL"], "x/y", "VAE"),
        ("diffusers", None, ["diffusers:StableDiffusionControlNetPipeline"], "x", "Checkpoint"),
        ("diffusers", "text-to-image", ["controlnet"], "x/y", "Controlnet"),
        ("peft", "text-generation", [], "x/y", "LORA"),
        ("transformers", "text-generation", ["llama"], "x/y", "LLM"),
        ("transformers", None, ["mistral"], "x/y", "LLM"),
        ("transformers", "fill-mask", ["bert"], "x/y", "MaskedLM"),
        ("transformers", "automatic-speech-recognition", ["whisper"], "x/y", "SpeechRecognition"),
        ("transformers", "image-text-to-text", ["llama"], "x/y", "VisionLanguage"),
        ("gguf", None, ["gguf"], "x/Llama-3-8B-GGUF", "LLM"),
        ("sentence-transformers", "sentence-similarity", [], "x/y", "TextEmbedding"),
        ("ultralytics", "object-detection", ["yolov8"], "x/y", "Detection"),
        ("transformers", None, [], "x/y", "Other"),
        (None, None, [], "x/y", "Other"),
        ("a-library-of-tomorrow", "a-task", ["a:b"], "", "Other"),
    ],
)
def test_a_repository_is_typed_by_its_words(
    library: str | None, task: str | None, tags: list[str], name: str, type_: str
) -> None:
    guess = huggingface_type(library, task, tags, name)
    assert guess.type == type_
    assert (guess.confidence == 0) == (type_ == "Other")
    assert guess.reasons


@pytest.mark.parametrize(
    ("fixture", "type_"),
    [
        ("model-all-minilm-l6-v2", "TextEmbedding"),
        ("model-bert-base-uncased-2025", "MaskedLM"),
        ("model-clip-vit-base-patch32", "CLIP"),
        ("model-distilbert-sst2", "TextClassifier"),
        ("model-gpt2-namespaced", "LLM"),
        ("model-llama-3.1-8b-instruct", "LLM"),
        ("model-stable-diffusion-2-1-2025", "Checkpoint"),
        ("model-stable-diffusion-v1-4", "Checkpoint"),
        ("model-t5-small", "Translation"),
        ("model-zephyr-7b-beta", "LLM"),
    ],
)
def test_recorded_repositories_have_their_types(fixture: str, type_: str) -> None:
    document: dict[str, Any] = json.loads((FIXTURES / f"{fixture}.json").read_text())
    guess = huggingface_type(
        document.get("library_name"), document.get("pipeline_tag"), document["tags"], document["id"]
    )
    assert guess.type == type_


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("stabilityai/stable-diffusion-xl-base-1.0", "SDXL 1.0"),
        ("somebody/FLUX.1-dev", "Flux.1 D"),
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama 3.1"),
        ("unsloth/Meta-Llama-3.1-8B-bnb-4bit", "Llama 3.1"),
        ("meta-llama/Meta-Llama-3-8B", "Llama 3"),
        ("meta-llama/Llama-3.4-8B", None),
        ("Qwen/Qwen2.5-7B", "Qwen2.5 LLM"),
        ("Qwen/Qwen2-VL-7B", "Qwen2 LLM"),
        ("Qwen/Qwen-Image", "Qwen"),
        ("google/gemma-2-9b-it", "Gemma 2"),
        ("openai/whisper-large-v3", "Whisper"),
        ("gpt2", "GPT-2"),
        ("org/unknown", None),
        ("", None),
        ("/", None),
    ],
)
def test_base_repositories_have_names_where_they_are_known(name: str, base: str | None) -> None:
    assert huggingface_base(name) == base


# -- files by their tensors

SAMPLES = samples(0)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.kind)
def test_a_made_file_is_what_it_was_made_as(sample: Sample) -> None:
    facts = FileFacts(
        name=sample.name,
        folders=(sample.folder,) if sample.folder else (),
        format="safetensors",
        tensors=sample.tensors,
        metadata=sample.metadata,
    )
    type_, base = best(infer(facts))
    assert type_ == sample.type
    if sample.base is not None:
        assert base == sample.base


def test_names_of_tensors_alone_tell_type_and_family() -> None:
    """The figures of docs/kinds.md: ranks and folders vary with the seed."""
    for seed in range(5):
        for sample in samples(seed):
            found = infer(FileFacts(name="x", format="safetensors", tensors=sample.tensors))
            type_, base = best(found)
            assert type_ == sample.type, sample.kind
            if sample.base is not None:
                assert base is not None
                assert family_of(base) == family_of(sample.base), sample.kind


def test_words_alone_say_something_true_or_nothing() -> None:
    for sample in SAMPLES:
        found = infer(FileFacts(name=sample.name, folders=(sample.folder,)))
        for guess in found.bases[:1]:
            assert sample.base is not None
            assert family_of(guess.base) == family_of(sample.base), sample.kind
        if found.types and found.types[0].type != sample.type:
            # flavors lie in one folder; the folder alone can't tell them apart
            assert found.types[0].confidence <= 0.85, sample.kind


def test_a_file_without_any_evidence_is_not_guessed() -> None:
    assert infer(FileFacts(name="data.bin", size_bytes=10**9)) == Inference()
    assert infer(FileFacts()) == Inference()


@pytest.mark.parametrize(
    ("name", "type_", "base"),
    [
        ("ponyDiffusionV6XL_v6StartWithThisOne.safetensors", None, "Pony"),
        ("sd_xl_base_1.0.safetensors", None, "SDXL 1.0"),
        ("flux1-schnell-Q4_K_S.gguf", None, "Flux.1 S"),
        ("RealESRGAN_x4plus.pth", "Upscaler", None),
        ("4x-UltraSharp.pth", "Upscaler", None),
        ("mmproj-model-f16.gguf", "MultimodalProjector", None),
        ("control_v11p_sd15_openpose.pth", None, "SD 1.5"),
        ("Wan2.1_T2V_14B_lightx2v_lora.safetensors", "LORA", "Wan Video"),
        ("絵柄_illustriousXL.safetensors", None, "Illustrious"),
        ("grandma.safetensors", None, None),
        ("lens flare of a gown.safetensors", None, None),
        ("", None, None),
    ],
)
def test_names_are_hints(name: str, type_: str | None, base: str | None) -> None:
    found = infer(FileFacts(name=name))
    if type_ is not None or not found.types:
        assert best(found)[0] == type_
    assert best(found)[1] == base
    assert all(guess.confidence < 0.9 for guess in found.types)


def test_guesses_that_contradict_each_other_are_less_sure() -> None:
    lora = next(sample for sample in SAMPLES if sample.type == "LORA")
    alone = infer(FileFacts(tensors=lora.tensors)).types
    misplaced = infer(FileFacts(tensors=lora.tensors, folders=("checkpoints",))).types
    assert [guess.type for guess in misplaced] == ["LORA", "Checkpoint"]
    assert misplaced[0].confidence < alone[0].confidence
    assert any("checkpoints" in reason for reason in misplaced[1].reasons)


def test_what_a_file_states_beats_what_its_name_says() -> None:
    found = infer(
        FileFacts(
            name="my-sdxl-vae.safetensors",
            metadata={"modelspec.architecture": "flux-1-dev/lora"},
        )
    )
    assert best(found) == ("LORA", "Flux.1 D")


_NAMES = st.sampled_from(
    [name for sample in SAMPLES for name in list(sample.tensors)[:2]] + ["", ".", "a\0b", "é" * 50]
)
_SHAPES = st.none() | st.lists(st.integers(0, 2**63), max_size=6).map(tuple)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(_NAMES, _SHAPES, max_size=12),
    st.dictionaries(
        st.sampled_from(["modelspec.architecture", "ss_base_model_version", "ss_network_module",
                         "ss_network_args", "ss_sd_model_name", "modelspec.title"]),
        st.text(max_size=20)
        | st.sampled_from(["sdxl", "flux-1-dev/lora", "None", "lycoris.kohya"]),
    ),
    st.text(max_size=30),
    st.lists(st.text(max_size=10), max_size=5).map(tuple),
    st.sampled_from(["", "gguf", "safetensors", "zip"]),
)  # fmt: skip
def test_any_facts_give_ordered_guesses_between_nothing_and_certain(
    tensors: dict[str, Any],
    metadata: dict[str, str],
    name: str,
    folders: tuple[str, ...],
    form: str,
) -> None:
    facts = FileFacts(
        name=name, tensors=tensors, metadata=metadata, folders=folders, format=form, tags=folders,
        gguf=metadata if form == "gguf" else {},
    )  # fmt: skip
    found = infer(facts, Learned([confirmation(facts, b"x", "LORA", "Pony")]).clues(facts))
    for guesses in (found.types, found.bases):
        confidences = [guess.confidence for guess in guesses]
        assert confidences == sorted(confidences, reverse=True)
        assert all(0 < confidence <= 0.99 for confidence in confidences)
        assert all(guess.reasons for guess in guesses)


# -- learning


def _facts(sample: Sample, number: int) -> FileFacts:
    return FileFacts(
        name=f"{sample.name.partition('.')[0]}_{number}.safetensors", folders=("loras",),
        size_bytes=200_000_000 + number, format="safetensors", tensors=sample.tensors,
        metadata=sample.metadata,
    )  # fmt: skip


def test_confirmations_shift_later_guesses_of_similar_files_and_no_others() -> None:
    sample = next(s for s in SAMPLES if s.kind == "SDXL 1.0 LoRA, bare")
    other = next(s for s in SAMPLES if s.kind == "Flux LoRA, kohya")
    before = infer(_facts(sample, 0))
    assert before.bases[0].base == "SDXL 1.0"
    said = [confirmation(_facts(sample, n), bytes([n]), None, "illustrious xl") for n in (1, 2)]
    shares = []
    for count in range(3):
        learned = Learned(said[:count])
        found = infer(_facts(sample, 9), learned.clues(_facts(sample, 9)))
        shares.append({guess.base: guess.confidence for guess in found.bases})
    assert shares[0].get("Illustrious", 0) < shares[1]["Illustrious"] < shares[2]["Illustrious"]
    assert shares[1]["Illustrious"] > shares[1]["SDXL 1.0"]
    learned = Learned(said)
    unlike = infer(_facts(other, 9), learned.clues(_facts(other, 9)))
    assert unlike.bases[0].base == "Flux.1 D"
    assert "you confirmed Illustrious for 2 files like it" in found.bases[0].reasons


def test_many_confirmations_correct_a_rule() -> None:
    sample = next(s for s in SAMPLES if s.kind == "LoKr")
    said = [confirmation(_facts(sample, n), bytes([n]), "lora", None) for n in range(20)]
    facts = _facts(sample, 99)
    assert infer(facts).types[0].type == "LoKr"
    assert infer(facts, Learned(said).clues(facts)).types[0].type == "LORA"


def test_what_was_said_of_a_content_is_the_answer_for_it() -> None:
    sample = SAMPLES[0]
    facts = _facts(sample, 0)
    learned = Learned([confirmation(facts, b"print", "upscaler", None)])
    found = with_decision(infer(facts), learned.decided(None, b"print"))
    assert [(guess.type, guess.confidence) for guess in found.types] == [("Upscaler", 1.0)]
    assert found.bases == infer(facts).bases
    assert learned.decided(b"other", None) is None


def test_files_that_differ_in_depth_and_rank_share_a_form() -> None:
    small = {f"blocks.{n}.lora_down.weight": (4, 768) for n in range(3)}
    large = {f"blocks.{n}.lora_down.weight": (64, 768) for n in range(30)}
    forms = [features_of(FileFacts(tensors=each))[0] for each in (small, large)]
    assert forms[0] == forms[1]


# -- what is read of files


def test_a_file_s_header_is_read_and_nothing_else(tmp_path: Path) -> None:
    sample = SAMPLES[3]
    path = tmp_path / "checkpoints" / "sd_xl.safetensors"
    path.parent.mkdir()
    write_safetensors(path, {**sample.tensors, "big": (1 << 30,)}, {"ss_v2": "False", "é": "\n"})
    looked = look_inside(str(path))
    assert looked.facts.tensors["big"] == (1 << 30,)
    assert looked.facts.metadata == {"ss_v2": "False", "é": "\n"}
    assert looked.facts.folders[0] == "checkpoints"
    assert looked.facts.size_bytes == path.stat().st_size > 1 << 31
    assert best(infer(looked.facts)) == ("Checkpoint", "SDXL 1.0")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("values", "tensors", "type_", "base"),
    [
        ({"general.architecture": "llama", "general.name": "Llama 3.1 8B Instruct"},
         {"output.weight": (128256, 4096)}, "LLM", "Llama 3.1"),
        ({"general.architecture": "qwen3"}, {"a": (1,)}, "LLM", "Qwen3 LLM"),
        ({"general.architecture": "flux"}, {"double_blocks.0.img_attn.qkv.weight": (9216, 3072)},
         "UNet", "Flux.1 D"),
        ({"general.architecture": "clip", "general.type": "mmproj"}, {"a": (1,)},
         "MultimodalProjector", None),
        ({"general.architecture": "llama", "general.type": "adapter"}, {"a": (1,)}, "LORA",
         "Llama"),
        ({"general.architecture": "bert", "tokenizer.ggml.tokens": ["a", "b" * 9999]}, {"a": (1,)},
         "TextEmbedding", "BERT"),
        ({"general.architecture": "gpt2", "tokenizer.ggml.model": "gpt2"}, {}, "Tokenizer",
         "GPT-2"),
    ],
)  # fmt: skip
def test_gguf_headers_tell_what_they_hold(
    tmp_path: Path, order: str, values: dict[str, object], tensors: dict[str, Any],
    type_: str, base: str | None,
) -> None:  # fmt: skip
    path = tmp_path / "x.gguf"
    write_gguf(path, values, tensors, order=order)
    facts = look_inside(str(path)).facts
    assert facts.tensors == tensors
    assert facts.gguf["general.architecture"] == values["general.architecture"]
    assert best(infer(facts)) == (type_, base)


def test_pickles_give_their_names_without_being_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "bad-hands.pt"
    path.write_bytes(pickle.dumps({"string_to_param": {"*": Bomb()}, "name": "x"}, 2))
    assert best(infer(look_inside(str(path)).facts))[0] == "TextualInversion"
    archive = tmp_path / "RealESRGAN.pth"
    with zipfile.ZipFile(archive, "w") as zipped:
        state = {"params_ema": {"body.0.rdb1.conv1.weight": Bomb(), "conv_body.weight": 1}}
        zipped.writestr("archive/data.pkl", pickle.dumps(state, 2))
    found = infer(look_inside(str(archive)).facts)
    assert best(found)[0] == "Upscaler"
    hyper = tmp_path / "h.pt"
    hyper.write_bytes(pickle.dumps({320: [1], 640: [1], 768: [1], "layer_structure": [1, 2]}, 2))
    assert best(infer(look_inside(str(hyper)).facts))[0] == "Hypernetwork"
    assert not (tmp_path / "ran").exists()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["safetensors", "gguf", "pickle", "zip"]))
def test_a_damaged_file_gives_fewer_facts_and_no_error(
    tmp_path_factory: pytest.TempPathFactory, seed: int, form: str
) -> None:
    rng = random.Random(seed)
    path = tmp_path_factory.mktemp("damaged") / "x"
    if form == "safetensors":
        write_safetensors(path, {"a.lora_up.weight": (4, 4), "b": (2,)}, {"format": "pt"})
    elif form == "gguf":
        write_gguf(path, {"general.architecture": "llama", "t": ["a", "b"]}, {"w": (2, 3)})
    elif form == "pickle":
        path.write_bytes(pickle.dumps({"emb_params": [1, 2, 3], "x": "y" * 50}, rng.choice([2, 4])))
    else:
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("a/data.pkl", pickle.dumps({"emb_params": 1}, 2))
    data = bytearray(path.read_bytes())
    for _ in range(rng.randrange(1, 6)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data[: rng.randrange(1, len(data) + 1)])
    infer(look_inside(str(path)).facts)

"""The table of kinds: what its file may hold, that it is whole, and how words find their kind."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd import kinds
from modelkeepd.catalog.projection import keyword_key
from modelkeepd.kinds.supported import read_supported, supported, supported_models
from modelkeepd.kinds.table import BadTable, is_known, read_table, table, word_key
from modelkeepd.kinds.topics import topics_of

CIVITAI_TYPES = (
    *("Checkpoint", "TextualInversion", "Hypernetwork", "AestheticGradient", "LORA", "LoCon"),
    *("DoRA", "Controlnet", "Upscaler", "MotionModule", "VAE", "TextEncoder", "UNet", "CLIPVision"),
    *("Poses", "Wildcards", "Workflows", "ComfyWorkflows", "Detection", "VisionLanguage", "CLIP"),
    *("LLM", "Other"),
)
CIVITAI_FILE_TYPES = (
    *("Model", "Text Encoder", "Vision Encoder", "Pruned Model", "Negative", "Training Data"),
    *("VAE", "Config", "Archive", "UNet", "Diffusion Model", "CLIPVision", "ControlNet"),
    *("Workflow", "Upscaler", "Enhancement LoRA", "Other"),
)
CIVITAI_BASES = """Anima, AuraFlow, Chroma, CogVideoX, Ernie, Flux.1 S, Flux.1 D, Flux.1 Krea,
Flux.1 Kontext, Flux.2 D, Flux.2 Klein 9B, Flux.2 Klein 9B-base, Flux.2 Klein 4B,
Flux.2 Klein 4B-base, Flux 3 Video, Grok, HappyHorse, HiDream, HiDream-O1, Hunyuan 1, Hunyuan Video,
Ideogram 4.0, Boogu, Illustrious, Imagen4, Kolors, Krea 2, LTXV, LTXV2, LTXV 2.3, LTXV 2.5, Lens,
Lumina, MageFlow, MAI, Mochi, Nano Banana, NoobAI, ODOR, OpenAI, Upscaler, Other, PixArt a,
PixArt E, Playground v2, Pony, Pony V7, Qwen, Qwen 2, Qwen 3, Stable Cascade, SD 1.4, SD 1.5,
SD 1.5 LCM, SD 1.5 Hyper, SD 2.0, SD 2.0 768, SD 2.1, SD 2.1 768, SD 2.1 Unclip, SD 3, SD 3.5,
SD 3.5 Large,
SD 3.5 Large Turbo, SD 3.5 Medium, SDXL 0.9, SDXL 1.0, SDXL 1.0 LCM, SDXL Lightning, SDXL Hyper,
SDXL Turbo, SDXL Distilled, Reve, Seedream, SVD, SVD XT, Sora 2, Veo 3, Wan Video,
Wan Video 1.3B t2v, Wan Video 14B t2v, Wan Video 14B i2v 480p, Wan Video 14B i2v 720p,
Wan Video 2.2 TI2V-5B, Wan Video 2.2 I2V-A14B, Wan Video 2.2 T2V-A14B, Wan Video 2.5 T2V,
Wan Video 2.5 I2V, Wan Image 2.7, Wan Video 2.7, ZImageTurbo, ZImageBase, Vidu Q1, MiniMax H3,
Kling, Seedance, ACE Audio, PolyGen, Tripo, Hunyuan3D""".replace("\n", " ").split(", ")


def test_the_table_has_fifty_and_more_of_both() -> None:
    assert len(kinds.types()) >= 50
    assert len(kinds.bases()) >= 100
    assert {"style", "concept", "pose", "character"} <= {topic.name for topic in kinds.topics()}


@pytest.mark.parametrize("word", CIVITAI_TYPES)
def test_every_type_of_civitai_has_its_name_here(word: str) -> None:
    assert kinds.canonical_type(word) == word
    assert is_known("type", word)


@pytest.mark.parametrize("word", CIVITAI_BASES)
def test_every_base_model_of_civitai_has_its_name_here(word: str) -> None:
    assert kinds.canonical_base(word) == word
    assert is_known("base", word)


@pytest.mark.parametrize("word", CIVITAI_FILE_TYPES)
def test_every_file_type_of_civitai_is_known(word: str) -> None:
    assert is_known("file_type", word)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("embedding", "TextualInversion"),
        ("Textual Inversion", "TextualInversion"),
        ("TEXTUAL_INVERSION", "TextualInversion"),
        ("ｌｏｒａ", "LORA"),
        ("lycoris", "LoCon"),
        ("hypernet", "Hypernetwork"),
        ("motion", "MotionModule"),
        ("Stable-diffusion", "Checkpoint"),
        ("diffusion_models", "UNet"),
        ("networks.lora", "LORA"),
        ("A Type Of Tomorrow", "A Type Of Tomorrow"),
        ("", ""),
    ],
)
def test_words_for_types_find_their_type_and_others_stay(word: str, name: str) -> None:
    assert kinds.canonical_type(word) == name


@pytest.mark.parametrize(
    ("word", "name", "family"),
    [
        ("sdxl_base_v1-0", "SDXL 1.0", "SDXL"),
        ("sd_v1", "SD 1.5", "SD 1"),
        ("sd1.5", "SD 1.5", "SD 1"),
        ("flux-1-dev", "Flux.1 D", "Flux.1"),
        ("FLUX.1-schnell", "Flux.1 S", "Flux.1"),
        ("stable-diffusion-xl-v1-base", "SDXL 1.0", "SDXL"),
        ("stabilityai/sdxl-turbo", "SDXL Turbo", "SDXL"),
        ("pony", "Pony", "SDXL"),
        ("org/unheard-of", "org/unheard-of", "org/unheard-of"),
    ],
)
def test_words_for_base_models_find_name_and_family(word: str, name: str, family: str) -> None:
    assert kinds.canonical_base(word) == name
    assert kinds.family_of(word) == family


@settings(max_examples=200)
@given(st.text(max_size=30))
def test_a_name_is_its_own_name(word: str) -> None:
    for canonical in (kinds.canonical_type, kinds.canonical_base, kinds.canonical_topic):
        assert canonical(canonical(word)) == canonical(word)


@pytest.mark.parametrize("field", ["topic", "type", "base", "family"])
def test_a_canonical_query_means_what_it_meant(field: str) -> None:
    words = {
        "topic": table().topic_words,
        "type": table().type_words,
        "base": table().base_words,
        "family": table().base_words,
    }[field]
    for word in [*words, *words.values(), "Of Tomorrow", "org/x_1.0"]:
        key = keyword_key(field, word)
        assert keyword_key(field, key) == key


@pytest.mark.parametrize("layout", [*table().layouts, "nowhere"])
@pytest.mark.parametrize("file_kind", ["Model", "VAE", "Training Data", "unheard of"])
def test_every_type_has_a_place_inside_the_root(layout: str, file_kind: str) -> None:
    for word in [*table().types, "A Type Of Tomorrow", "../..", "/etc", ""]:
        folder = PurePosixPath(kinds.folder(layout, word, file_kind))
        assert not folder.is_absolute()
        assert ".." not in folder.parts


# -- topics


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        (("style", "anime"), ("style",)),
        (("Art_Style", "watercolor style", "画風"), ("style",)),
        (("standing pose", "OpenPose"), ("pose",)),
        (("キャラクター", "制服"), ("character", "clothing")),
        (("オリジナルキャラ",), ("character",)),
        (("stylegan", "posey", "car wash"), ()),
        (
            ("base model", "sports car", "cyberpunk background"),
            ("base model", "vehicle", "background"),
        ),
        (("", "-", "x" * 100_000), ()),
    ],
)
def test_tags_tell_what_a_model_is_about(tags: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert topics_of(tags) == found


# -- the file's form

GOOD = """\
[layout.flat]
about = "all in one"
[layout.some]
about = "x"
other = "other"
[type.A]
about = "x"
group = "g"
also = ["b", "c"]
folder = { some = "a" }
[type.Other]
about = "x"
group = "g"
[family.F]
about = "x"
base = "B"
[base.B]
about = "x"
family = "F"
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("", "", None),
        ("[type.Other]", "[type.Other]\nalso = ['C']", "kinds.toml:11: [type.Other] has the"),
        ("group = \"g\"\nalso", "grup = \"g\"\nalso", "kinds.toml:6: [type.A]"),
        ("also = [\"b\"", "als = [\"b\"", "kinds.toml:6: [type.A] Object contains unknown"),
        ("also = [\"b\"", "also = [3", "kinds.toml:6: [type.A] Expected `str`"),
        ("some = \"a\"", "nope = \"a\"", "kinds.toml:6: [type.A] folder names the layout 'nope'"),
        ("family = \"F\"", "family = \"G\"", "kinds.toml:17: [base.B] family names 'G'"),
        ("base = \"B\"", "base = \"Z\"", "kinds.toml:14: [family.F] base names 'Z'"),
        ("[base.B]", "[basis.B]", "[basis.…] is no section"),
        ("[base.B]", "[base.B", "line 17"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_with_its_line(old: str, new: str, says: str | None) -> None:
    text = GOOD.replace(old, new, 1) if old else GOOD
    if says is None:
        assert read_table(text).type_words["b"] == "A"
        return
    with pytest.raises(BadTable) as caught:
        read_table(text)
    assert says in str(caught.value)


def test_a_word_may_stand_twice_for_one_kind_only() -> None:
    assert read_table(GOOD.replace('"b"', '"a", "A", "b"')).type_words["a"] == "A"


# -- supported models


def test_the_supported_models_are_many_and_of_known_kinds() -> None:
    models = supported_models()
    assert len(models) >= 50
    for model in models:
        assert kinds.canonical_type(model.type) == model.type
        assert kinds.canonical_base(model.base) == model.base
        assert model.size_gb > 0
        assert model.memory_gb > 0


def test_a_number_alone_supports_nothing() -> None:
    assert supported("civitai", "4384", "DreamShaper - V∞!") is not None
    assert supported("civitai", "4384", "Something else") is None
    assert supported("huggingface", "BLACK-forest-labs/flux.1-DEV") is not None
    assert supported("civitai", "black-forest-labs/FLUX.1-dev") is None


ENTRY = """\
[[model]]
hub = "huggingface"
ref = "a/b"
name = "B"
type = "LORA"
base = "SD 1.5"
size_gb = 1
memory_gb = 1
about = ""
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ENTRY + ENTRY, "supported.toml:10: huggingface a/b stands there twice"),
        (ENTRY.replace("LORA", "Lorry"), "supported.toml:1: 'Lorry'"),
        (ENTRY.replace("a/b", "17"), "needs a marker"),
        (ENTRY.replace("size_gb", "sise_gb"), "supported.toml:1:"),
        ("[[model\n", "line 1"),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(BadTable) as caught:
        read_supported(text)
    assert says in str(caught.value)


def test_words_are_compared_by_letters_and_digits() -> None:
    assert word_key("Text-Encoder_2 (ＸＬ)") == "textencoder2xl"
    assert word_key("ガ") != word_key("カ")

"""From a file's facts to ranked guesses of its type and its base model. Pure.

Each source of evidence has its own weight: what the file states of itself counts most, then its
tensors, then the folder it lies in (a person put it there), then words, and its size least: sizes
cluster, and many different files share one. A tensor test comes before the folder because it is
proof of a form; where it is weak (a language model may be a text encoder) the folder wins by its
weight. Nothing is guessed from nothing: without evidence the lists are empty.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from modelkeepd.kinds.clues import Clue, base_clue, base_guesses, type_guesses
from modelkeepd.kinds.facts import FileFacts
from modelkeepd.kinds.guess import BaseGuess, Guess
from modelkeepd.kinds.huggingface import huggingface_base
from modelkeepd.kinds.table import OTHER, canonical_base, is_known, table, word_key
from modelkeepd.kinds.tensor_bases import base_clues
from modelkeepd.kinds.tensor_types import type_clues
from modelkeepd.kinds.tensors import Tensors
from modelkeepd.kinds.words import folder_clues, name_clues, tag_clues, text_bases


@dataclass(frozen=True, slots=True)
class Inference:
    """Guesses of both kinds, the likeliest first."""

    types: tuple[Guess, ...] = ()
    bases: tuple[BaseGuess, ...] = ()


def infer(facts: FileFacts, learned: Iterable[Clue] = ()) -> Inference:
    """What the file may be. ``learned`` are clues from confirmations of other files."""
    clues = [*clues_of(facts), *learned]
    return Inference(type_guesses(clues), base_guesses(clues))


def clues_of(facts: FileFacts) -> Iterator[Clue]:
    """All evidence in the facts."""
    tensors = Tensors(facts.tensors)
    return chain(
        _stated(facts),
        _trained(facts),
        _gguf(facts),
        type_clues(tensors),
        base_clues(tensors),
        _hypernetwork(facts),
        folder_clues(facts.folders),
        name_clues(facts.name),
        tag_clues(facts.tags),
        _form(facts),
    )


# --- what the file says of itself ---------------------------------------------------------------

_ADAPTER_WORDS = {
    "lora": "LORA",
    "lycoris": "LoCon",
    "textual-inversion": "TextualInversion",
    "controlnet": "Controlnet",
    "control-lora": "ControlLoRA",
    "vae": "VAE",
    "ipadapter": "IPAdapter",
}


def _stated(facts: FileFacts) -> Iterator[Clue]:
    """The keys of the model spec."""
    stated = facts.metadata.get("modelspec.architecture", "").strip()
    if not stated:
        return
    architecture, _, adapter = stated.partition("/")
    yield from _base_word(architecture, f"it states its architecture: {stated[:80]}")
    type_ = _ADAPTER_WORDS.get(adapter.lower())
    if type_ is not None:
        yield Clue("type", type_, 0.95, f"it states to be a {adapter}")
    elif not adapter and facts.metadata.get("modelspec.implementation"):
        # encoders and VAEs have no architecture of this spec's
        yield Clue("type", "Checkpoint", 0.5, "it states an architecture and no adapter")
    for base in text_bases(facts.metadata.get("modelspec.title", "")):
        yield base_clue(base, 0.7, "its title names it")


def _trained(facts: FileFacts) -> Iterator[Clue]:
    """The keys that trainers leave behind."""
    metadata = facts.metadata
    version = metadata.get("ss_base_model_version", "").strip()
    if version and version != "None":
        yield from _base_word(version, f"its trainer noted the base model {version[:80]}")
    elif metadata.get("ss_v2") == "True":
        yield Clue("family", "SD 2", 0.9, "its trainer noted ss_v2")
    module = metadata.get("ss_network_module", "").lower()
    arguments = metadata.get("ss_network_args", "").lower().replace(" ", "")
    if module:
        type_ = _network(module, arguments)
        yield Clue("type", type_, 0.85, f"its trainer noted the network {module[:80]}")
    parent = metadata.get("ss_sd_model_name", "")
    for base in text_bases(parent.rpartition("/")[2].rpartition("\\")[2]):
        yield base_clue(base, 0.85, f"it was trained from {parent[:80]}")
    if "lora_adapter_metadata" in metadata:
        yield Clue("type", "LORA", 0.9, "it carries an adapter's configuration")


def _network(module: str, arguments: str) -> str:
    for word, type_ in (
        *(("loha", "LoHa"), ("lokr", "LoKr"), ("oft", "OFT"), ("ia3", "IA3")),
        *(("glora", "GLoRA"), ("locon", "LoCon"), ('"algo":"full"', "FullDiff")),
    ):
        if word in arguments or (word in module and word != "locon"):
            return type_
    if "dora_wd" in arguments and "false" not in arguments:
        return "DoRA"
    if "lycoris" in module or "conv_dim" in arguments:
        return "LoCon"
    return "LORA"


def _base_word(word: str, reason: str) -> Iterator[Clue]:
    """A word of a header: what many were trained from names no more than a family."""
    base = canonical_base(word)
    if not is_known("base", word):
        key = word_key(word)
        # "sd3_m…", "flux1dev", "sdxl_base_v1-0" of other versions: how it begins
        for end in range(len(key), 2, -1):
            if key[:end] in table().base_words:
                base = table().base_words[key[:end]]
                break
        else:
            return
    if base == OTHER:
        return
    yield base_clue(base, 0.95, reason)


# --- GGUF ---------------------------------------------------------------------------------------

_IMAGE_ARCHITECTURES = {
    "flux": "Flux.1 D",
    "flux1": "Flux.1 D",
    "sd1": "SD 1.5",
    "sdxl": "SDXL 1.0",
    "sd3": "SD 3",
    "wan": "Wan Video",
    "lumina2": "Lumina",
    "hyvid": "Hunyuan Video",
    "hidream": "HiDream",
    "ltxv": "LTXV",
    "cosmos": "Cosmos",
    "qwen_image": "Qwen",
    "aura": "AuraFlow",
    "chroma": "Chroma",
    "pixart": "PixArt a",
}


def _gguf(facts: FileFacts) -> Iterator[Clue]:
    if facts.format != "gguf":
        return
    kind = str(facts.gguf.get("general.type", ""))
    architecture = str(facts.gguf.get("general.architecture", ""))
    if kind == "imatrix":
        yield Clue("type", "ImportanceMatrix", 0.95, "its header calls it an imatrix")
    elif kind == "mmproj" or architecture == "clip":
        yield Clue("type", "MultimodalProjector", 0.95, "its header calls it a projector")
    elif kind == "adapter":
        yield Clue("type", "LORA", 0.95, "its header calls it an adapter")
    elif architecture in _IMAGE_ARCHITECTURES:
        yield Clue("type", "UNet", 0.95, f"its architecture is {architecture}")
    elif architecture in ("t5", "t5encoder"):
        yield Clue("type", "TextEncoder", 0.9, f"its architecture is {architecture}")
    elif not facts.tensors and "tokenizer.ggml.model" in facts.gguf:
        yield Clue("type", "Tokenizer", 0.9, "it has a vocabulary and no tensors")
    elif architecture:
        embeds = "bert" in architecture or f"{architecture}.pooling_type" in facts.gguf
        word = "TextEmbedding" if embeds else "LLM"
        yield Clue("type", word, 0.93, f"its architecture is {architecture}")
    image = _IMAGE_ARCHITECTURES.get(architecture)
    # "qwen3" is a language model here and a picture model on CivitAI; "clip" is any projector
    words = (image,) if image is not None else (f"{architecture} LLM", architecture)
    for word in words:
        if is_known("base", word) and architecture != "clip":
            yield from _base_word(word, f"its architecture is {architecture}")
            break
    for key in ("general.base_model.0.repo_url", "general.base_model.0.name", "general.name",
                "general.basename"):  # fmt: skip
        named = str(facts.gguf.get(key, "")).rstrip("/")
        # prose is no name; a repository's is written with hyphens where a title has blanks
        base = huggingface_base(named.rpartition("/")[2]) if 0 < len(named) < 200 else None
        if base is not None:
            yield base_clue(base, 0.85, f"its header names {named[:80]}")
            break


# --- forms --------------------------------------------------------------------------------------

_WIDTHS = frozenset((320, 640, 768, 1024, 1280))


def _hypernetwork(facts: FileFacts) -> Iterator[Clue]:
    """A pickle whose keys are widths, and what is kept beside them."""
    if len(facts.numbers & _WIDTHS) >= 3 and "layer_structure" in facts.tensors:
        yield Clue("type", "Hypernetwork", 0.9, "its keys are the widths of attention layers")


# (from, to, type, family): where many files of one kind lie
_CLUSTERS = (
    (1_990_000_000, 2_150_000_000, "Checkpoint", "SD 1"),
    (4_200_000_000, 4_300_000_000, "Checkpoint", "SD 1"),
    (6_400_000_000, 7_200_000_000, "Checkpoint", "SDXL"),
    (228_000_000, 229_000_000, "LORA", "SDXL"),
    (144_000_000, 152_000_000, "LORA", "SD 1"),
    (334_000_000, 335_500_000, "VAE", ""),
)
_ONE_VECTOR = 200_000


def _form(facts: FileFacts) -> Iterator[Clue]:
    """The file's format and size, which tell little."""
    ending = facts.name.rpartition(".")[2].lower()
    if facts.format == "gguf" and not facts.gguf:
        yield Clue("type", "LLM", 0.4, "most GGUF files are language models")
    if ending == "ckpt":
        yield Clue("type", "Checkpoint", 0.4, "checkpoints had this ending")
    if ending in ("engine", "trt", "plan"):
        yield Clue("type", "UNet", 0.3, "engines are mostly made of diffusion models")
    if 0 < facts.size_bytes < _ONE_VECTOR and facts.format in ("safetensors", "zip", "pickle"):
        yield Clue("type", "TextualInversion", 0.3, "hardly anything else is so small")
    for least, most, type_, family in _CLUSTERS:
        if least <= facts.size_bytes <= most:
            reason = "many files of this kind have this size"
            yield Clue("type", type_, 0.3, reason)
            if family:
                yield Clue("family", family, 0.25, reason)

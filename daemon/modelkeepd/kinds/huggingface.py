"""What a Hugging Face repository is, from the few words its list row has. Pure.

The hub has no word for "type of model" as image generators know it: a LoRA is a tag, a ControlNet
a class in a tag, a checkpoint a library. The words are kinds.toml's; the order in which they count
is here: what can only be said on purpose (a class, an adapter's tag or file) before what is filled
in by habit (pipeline, library), and the name last.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache

from modelkeepd.kinds.guess import Guess
from modelkeepd.kinds.table import OTHER, TypeKind, table, types, word_key

_TELLING_FILES = {
    "adapter_config.json": "LORA",
    "adapter_model.safetensors": "LORA",
    "adapter_model.bin": "LORA",
    "pytorch_lora_weights.safetensors": "LORA",
    "pytorch_lora_weights.bin": "LORA",
    "learned_embeds.safetensors": "TextualInversion",
    "learned_embeds.bin": "TextualInversion",
    "model_index.json": "Checkpoint",
}
# words in a name that hardly mean anything else
_NAME_WORDS = {
    "lora": "LORA",
    "loras": "LORA",
    "qlora": "LORA",
    "dora": "DoRA",
    "locon": "LoCon",
    "lokr": "LoKr",
    "loha": "LoHa",
    "controlnet": "Controlnet",
    "vae": "VAE",
    "embedding": "TextEmbedding",
    "embeddings": "TextEmbedding",
    "reranker": "Reranker",
    "upscaler": "Upscaler",
    "esrgan": "Upscaler",
    "tts": "TextToSpeech",
    "whisper": "SpeechRecognition",
    "instruct": "LLM",
    "gguf": "LLM",
    "mmproj": "MultimodalProjector",
    "ocr": "OCR",
}
_WORD = re.compile(r"[a-z0-9]+")
# a tag for an adapter is set on purpose, one for a task or a family by habit: then 0.7
_TAG_CONFIDENCE = {
    **dict.fromkeys(("adapter", "control", "component"), 0.93),
    **dict.fromkeys(("vision", "image tool", "audio"), 0.88),
}
_LIBRARY_CONFIDENCE = {"peft": 0.95, "sentence-transformers": 0.86, "ultralytics": 0.85}


def huggingface_type(
    library_name: str | None,
    pipeline_tag: str | None,
    tags: Iterable[str] = (),
    name: str = "",
    siblings: Iterable[str] = (),
) -> Guess:
    """The type of a repository. Without any evidence it is ``Other`` with confidence 0."""
    best: tuple[float, str] | None = None
    reasons: dict[str, list[str]] = {}
    for confidence, type_, reason in _evidence(library_name, pipeline_tag, tags, name, siblings):
        reasons.setdefault(type_, []).append(reason)
        if best is None or confidence > best[0]:
            best = confidence, type_
    if best is None:
        return Guess(OTHER, 0.0, ("nothing in the repository's words tells its type",))
    confidence, type_ = best
    if len(reasons[type_]) > 1:
        confidence = min(0.99, confidence + 0.05)
    return Guess(type_, round(confidence, 2), tuple(reasons[type_]))


def _evidence(
    library_name: str | None,
    pipeline_tag: str | None,
    tags: Iterable[str],
    name: str,
    siblings: Iterable[str],
) -> Iterator[tuple[float, str, str]]:
    by_tag, by_pipeline, by_library = _words("tags"), _words("pipelines"), _words("libraries")
    library, pipeline = (library_name or "").lower(), (pipeline_tag or "").lower()
    for tag in map(str.lower, tags):
        if tag.startswith("diffusers:"):
            of_class = _of_class(tag.partition(":")[2])
            if of_class is not None:
                sure = 0.9 if of_class == "Checkpoint" else 0.97
                yield sure, of_class, f"its tag {tag} names the class"
        elif tag.startswith("base_model:adapter:"):
            yield 0.95, "LORA", f"its tag {tag} calls it an adapter of another model"
        elif tag in by_tag:
            yield (
                _TAG_CONFIDENCE.get(_group(by_tag[tag]), 0.7),
                by_tag[tag],
                f"it has the tag {tag}",
            )
        elif tag in by_pipeline and not pipeline:
            yield 0.75, by_pipeline[tag], f"it has the tag {tag}"
        elif tag in by_library and not library:
            yield 0.5, by_library[tag], f"it has the tag {tag}"
    for path in siblings:
        if path in _TELLING_FILES:
            type_ = _TELLING_FILES[path]
            yield 0.88 if type_ == "Checkpoint" else 0.94, type_, f"it has the file {path}"
    if library in by_library:
        type_ = by_library[library]
        # what loads anything of a kind says less than a task
        common = 0.5 if type_ in ("LLM", "Checkpoint") else 0.78
        yield _LIBRARY_CONFIDENCE.get(library, common), type_, f"it is for the library {library}"
    if pipeline in by_pipeline:
        yield 0.85, by_pipeline[pipeline], f"its task is {pipeline}"
    for word in _WORD.findall(name.rpartition("/")[2].lower()):
        if word in _NAME_WORDS:
            type_ = _NAME_WORDS[word]
            # a text-to-image repository called "…-lora" is a LoRA whatever its task says
            decides = _group(type_) == "adapter" or (
                type_ in ("Controlnet", "VAE") and _of_images(library, pipeline)
            )
            yield 0.88 if decides else 0.6, type_, f"its name has the word {word}"


def _group(type_: str) -> str:
    return table().types[type_].group


def _of_images(library: str, pipeline: str) -> bool:
    return "diffus" in library or pipeline in ("text-to-image", "image-to-image", "text-to-video")


@cache
def _words(part: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for kind in types():
        words: tuple[str, ...] = getattr(kind, part)
        for word in words:
            found[word.lower()] = kind.name
    return found


@lru_cache(1_000)
def _of_class(name: str) -> str | None:
    """The type of a diffusers class: named in full, else the longest ending."""
    best: tuple[int, TypeKind] | None = None
    for kind in types():
        for word in kind.classes:
            if name.endswith(word.lower()) and (best is None or len(word) > best[0]):
                best = len(word), kind
    if best is None:
        return None
    return best[1].name


# --- base models --------------------------------------------------------------------------------


@lru_cache(20_000)
def huggingface_base(base_model_id: str) -> str | None:
    """Our name for the base model a repository name stands for, or None.

    A repository known by name, else its last part as a word, else how that part begins.
    """
    known = _repositories().get(base_model_id.lower())
    if known is not None:
        return known
    name = base_model_id.rpartition("/")[2]
    by_word = table().base_words.get(word_key(name))
    if by_word is not None and by_word != OTHER:
        return by_word
    lower = name.lower().replace("_", "-").replace(" ", "-")
    for end in range(len(lower), 0, -1):
        if end == len(lower) or lower[end] == "-":
            found = _beginnings().get(lower[:end])
            if found is not None:
                return found
    return None


@cache
def _repositories() -> Mapping[str, str]:
    return {
        repository.lower(): base.name
        for base in table().bases.values()
        for repository in base.repositories
    }


@cache
def _beginnings() -> Mapping[str, str]:
    return {
        beginning.lower(): base.name for base in table().bases.values() for beginning in base.begins
    }

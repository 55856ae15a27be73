"""What the words around a file tell: its name, its folders, its tags. Pure.

Names are written by people: a word found in one is a hint. Words are taken from kinds.toml; the few
that mean something only in file names stand here.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache

from modelkeepd.kinds.clues import Clue, base_clue
from modelkeepd.kinds.table import OTHER, canonical_base, table, word_key

_PIECE = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_a-zA-Z]+")
_MAX_PIECES = 40
_MAX_JOINED = 6

# in a file's name, beside the table's words
_BASE_NAMES = {
    "xl": "SDXL 1.0",
    "il": "Illustrious",
    "ill": "Illustrious",
    "noob": "NoobAI",
    "pdxl": "Pony",
    "schnell": "Flux.1 S",
    "kontext": "Flux.1 Kontext",
    "sd3": "SD 3",
    "qwenimage": "Qwen",
    "zimage": "ZImageBase",
    "zit": "ZImageTurbo",
    "wan21": "Wan Video",
    "wan22": "Wan Video",
    "umt5": "T5",
    "t5xxl": "T5",
}
_TYPE_NAMES = {
    "lora": ("LORA", 0.6),
    "lycoris": ("LoCon", 0.5),
    "locon": ("LoCon", 0.6),
    "loha": ("LoHa", 0.6),
    "lokr": ("LoKr", 0.6),
    "dora": ("DoRA", 0.6),
    "vae": ("VAE", 0.6),
    "taesd": ("VAEApprox", 0.7),
    "controlnet": ("Controlnet", 0.7),
    "lllite": ("ControlNetLLLite", 0.7),
    "ipadapter": ("IPAdapter", 0.75),
    "faceid": ("IPAdapter", 0.5),
    "t2iadapter": ("T2IAdapter", 0.75),
    "redux": ("StyleModel", 0.5),
    "embedding": ("TextualInversion", 0.5),
    "negative": ("TextualInversion", 0.35),
    "hypernetwork": ("Hypernetwork", 0.6),
    "esrgan": ("Upscaler", 0.75),
    "swinir": ("Upscaler", 0.7),
    "upscaler": ("Upscaler", 0.6),
    "upscale": ("Upscaler", 0.5),
    "ultrasharp": ("Upscaler", 0.6),
    "gfpgan": ("FaceRestoration", 0.8),
    "codeformer": ("FaceRestoration", 0.8),
    "mm": ("MotionModule", 0.2),
    "animatediff": ("MotionModule", 0.6),
    "mmproj": ("MultimodalProjector", 0.85),
    "imatrix": ("ImportanceMatrix", 0.7),
    "unet": ("UNet", 0.5),
    "clipvision": ("CLIPVision", 0.8),
    "clipl": ("CLIP", 0.7),
    "clipg": ("CLIP", 0.7),
    "t5xxl": ("TextEncoder", 0.75),
    "umt5": ("TextEncoder", 0.7),
    "inpainting": ("Checkpoint", 0.25),
    "refiner": ("Checkpoint", 0.3),
    "pruned": ("Checkpoint", 0.3),
    "instruct": ("LLM", 0.5),
    "yolo": ("Detection", 0.6),
    "yolov8": ("Detection", 0.75),
    "wildcards": ("Wildcards", 0.6),
    "workflow": ("Workflows", 0.6),
}
_SCALE = re.compile(
    r"(?:^|[^A-Za-z0-9])(?:[1248]x|x[248])(?:[^A-Za-z0-9]|$)|^[1248]x", re.IGNORECASE
)
# words of types that folders have for other reasons
_EMPTY_FOLDERS = frozenset(
    ("model", "main", "diffusers", "draft", "adapter", "pipeline", "transformer", "projector")
)
_SHORT_BASES = frozenset(("sdxl", "flux", "pony", "wan", "ltxv", "sana"))


def name_clues(name: str) -> Iterator[Clue]:
    """What a file's name tells."""
    stem = name.rpartition(".")[0] or name
    pieces = [piece.lower() for piece in _PIECE.findall(stem)[:_MAX_PIECES]]
    seen: set[tuple[str, str]] = set()
    for word in _joined(pieces):
        type_ = _TYPE_NAMES.get(word)
        if type_ is not None and ("type", type_[0]) not in seen:
            seen.add(("type", type_[0]))
            yield Clue("type", type_[0], type_[1], f"its name has the word {word}")
    if _SCALE.search(stem):
        yield Clue("type", "Upscaler", 0.5, "its name says how much larger it makes pictures")
    for word, base in _bases_in(pieces):
        if ("base", base) not in seen:
            seen.add(("base", base))
            yield base_clue(base, 0.7, f"its name has the word {word}")


def text_bases(text: str) -> list[str]:
    """The base models a text names, as a title or another model's file name does."""
    pieces = [piece.lower() for piece in _PIECE.findall(text[:300])[:_MAX_PIECES]]
    return list(dict.fromkeys(base for _, base in _bases_in(pieces)))


def folder_clues(folders: Iterable[str]) -> Iterator[Clue]:
    """What the folders a file lies in tell: the innermost that has a meaning, of each kind."""
    type_found = base_found = False
    for place, folder in enumerate(folders):
        if place >= 4:
            return
        key = word_key(folder)
        type_ = _folder_words().get(key)
        if type_ is not None and not type_found:
            type_found = True
            yield Clue("type", type_, 0.8 - 0.1 * place, f"it lies in a folder {folder}")
        base = table().base_words.get(key) or _BASE_NAMES.get(key)
        if base is not None and base != OTHER and _speaks(key) and not base_found:
            base_found = True
            yield base_clue(
                canonical_base(base), 0.75 - 0.1 * place, f"it lies in a folder {folder}"
            )


def tag_clues(tags: Iterable[str]) -> Iterator[Clue]:
    """What tags from beside the file tell."""
    for tag in dict.fromkeys(tags):
        key = word_key(tag)
        if key in table().type_words and key not in _EMPTY_FOLDERS:
            type_ = table().type_words[key]
            if type_ != OTHER:
                yield Clue("type", type_, 0.6, f"it has the tag {tag}")
        if key in table().base_words and _speaks(key):
            base = table().base_words[key]
            if base != OTHER:
                yield base_clue(base, 0.75, f"it has the tag {tag}")


def _joined(pieces: list[str]) -> Iterator[str]:
    for start in range(len(pieces)):
        for end in range(start + 1, min(start + _MAX_JOINED, len(pieces)) + 1):
            yield "".join(pieces[start:end])


def _bases_in(pieces: list[str]) -> Iterator[tuple[str, str]]:
    """The longest word at each place, and on after it."""
    start = 0
    words = table().base_words
    while start < len(pieces):
        for end in range(min(start + _MAX_JOINED, len(pieces)), start, -1):
            word = "".join(pieces[start:end])
            base = _BASE_NAMES.get(word) or (words.get(word) if _speaks(word) else None)
            if base is not None and base not in (OTHER, "Upscaler"):
                yield word, canonical_base(base)
                start = end
                break
        else:
            start += 1


def _speaks(word: str) -> bool:
    """Short plain words are names of bases only by accident."""
    return len(word) > 4 or not word.isalpha() or word in _SHORT_BASES or word in _BASE_NAMES


@cache
def _folder_words() -> dict[str, str]:
    read = table()
    found = {
        word: type_
        for word, type_ in read.type_words.items()
        if word not in _EMPTY_FOLDERS and type_ != OTHER
    }
    for kind in read.types.values():
        for folder in kind.folder.values():
            # a folder that several types share is told by the first of them in the file
            found.setdefault(word_key(folder.rpartition("/")[2]), kind.name)
    return found

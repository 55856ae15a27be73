"""Which files of a repository make a model that a program can load. Pure.

Owns the choice: one format of the weights and one precision of each, with the configurations and
tokenizers beside them; and what is left out, with the reason. Where a repository holds several
models, or one in many quantizations, it refuses to guess: that is for the person to say.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

MODEL, CONFIG = "Model", "Config"

# of the same weights in one folder: the safest that programs read first
_FORMATS = ("SafeTensor", "GGUF", "PickleTensor", "ONNX", "Keras", "Flax", "TensorFlow", "TFLite")
_PRECISIONS = ("", "fp32", "bf16", "fp16")
_VARIANT = re.compile(r"\.(fp32|bf16|fp16|fp8|int8|non_ema|ema_only|ema)\Z", re.IGNORECASE)
_SHARD = re.compile(r"[-_.]\d{5}-of-(\d{5})(?=\.|\Z)")
_INDEX = re.compile(r"(?P<of>.+)\.index(?:\.(?P<variant>\w+))?\.json\Z", re.IGNORECASE)
# what loaders look for by name; a file called so says nothing of what it is
STANDARD_NAMES = frozenset({
    "model", "pytorch_model", "diffusion_pytorch_model", "adapter_model", "pytorch_lora_weights",
    "tf_model", "flax_model", "consolidated",
})  # fmt: skip
_PREFERRED_NAMES = STANDARD_NAMES - {"consolidated"}  # mistral's own edition beside the usual one
_COMPANIONS = ("mmproj", "mtp-")
# the same model once more for another runtime, and what training leaves behind
_EDITIONS = frozenset(
    {"onnx", "openvino", "coreml", "tflite", "tf", "flax", "jax", "gguf", "ggml", "original"}
)
_TRAINING = re.compile(r"(checkpoint-\d+|runs|logs|wandb)\Z", re.IGNORECASE)
_RESULTS = frozenset(
    {"all_results.json", "eval_results.json", "train_results.json", "predict_results.json",
     "trainer_state.json"}
)  # fmt: skip
_FOLDER_MARKS = frozenset({"config.json", "adapter_config.json", "modules.json"})

AGAIN = "the same weights in another format, precision or edition"
ONE_FILE = "the whole model again as one file"
CODE = "program code: it is fetched only when it is named"
NOT_LOADED = "nothing that a program loads"
COMPANION = "a companion of the model"
TRAINING = "left over from training"


class Entry(NamedTuple):
    """One file of the repository, as the catalog has it."""

    path: str
    size_bytes: int | None
    kind: str
    format: str | None

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several models or quantizations; a split one has several files."""

    files: tuple[Entry, ...]

    @property
    def path(self) -> str:
        return self.files[0].path

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes or 0 for file in self.files)

    @property
    def pattern(self) -> str | None:
        """What matches all files of a split one, and nothing else."""
        return _SHARD.sub(r"-*-of-\1", self.path) if len(self.files) > 1 else None


class Ambiguous(Exception):
    """Several choices and no sensible one among them."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        super().__init__(f"{len(choices)} choices")
        self.choices = sorted(choices, key=lambda choice: choice.path)


@dataclass(slots=True)
class Selection:
    """``left_out`` by reason."""

    chosen: list[Entry] = field(default_factory=list)
    left_out: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))

    def leave(self, why: str, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.left_out[why].append(entry)


class _Weights(NamedTuple):
    """Files that are one set of weights: ``base`` without shard numbers and precision."""

    base: str
    variant: str
    format: str
    files: tuple[Entry, ...]

    @property
    def is_split(self) -> bool:
        return bool(_SHARD.search(self.files[0].name))


def usable_set(entries: Sequence[Entry]) -> Selection:
    """What to fetch when nothing was named. Raises Ambiguous."""
    selection = Selection()
    top = {entry.name.lower() for entry in entries if not entry.folder}
    rest = _without_clutter(entries, selection)
    rest = _without_editions(rest, selection)
    weights = _sets_of(rest)
    if "model_index.json" in top:
        at_top = [each for each in weights if not each.files[0].folder]
        if len(at_top) < len(weights):
            selection.leave(ONE_FILE, (file for each in at_top for file in each.files))
            weights = [each for each in weights if each not in at_top]
        taken = _per_folder(weights, selection, top_may_differ=True)
    elif top & _FOLDER_MARKS and any(not each.files[0].folder for each in weights):
        taken = _per_folder(weights, selection, top_may_differ=False)
    else:
        taken = _the_only_one(weights, selection)
    for each in taken:
        selection.chosen += each.files
        selection.chosen += _external_data(each, rest)
    alone = len(selection.chosen) == 1 and not top & _FOLDER_MARKS
    _beside(rest, taken, selection, with_configs=not alone)
    order = {entry.path: number for number, entry in enumerate(entries)}
    selection.chosen.sort(key=lambda entry: order[entry.path])
    return selection


def standard_name(path: str) -> bool:
    """Whether the file's name says nothing of what it is."""
    return _parse(PurePosixPath(path).name)[0].lower() in STANDARD_NAMES


def _without_clutter(entries: Sequence[Entry], selection: Selection) -> list[Entry]:
    kept = []
    for entry in entries:
        folders = entry.path.split("/")[:-1]
        if any(_TRAINING.match(part) for part in folders) or entry.name.lower() in _RESULTS:
            selection.leave(TRAINING, [entry])
        elif any(part.startswith(".") for part in entry.path.split("/")):
            selection.leave(NOT_LOADED, [entry])
        else:
            kept.append(entry)
    return kept


def _without_editions(entries: Sequence[Entry], selection: Selection) -> list[Entry]:
    """Without the folders for other runtimes, unless there is nothing else."""
    main = [each for each in entries if each.path.partition("/")[0].lower() not in _EDITIONS]
    if len(main) == len(entries) or not any(each.kind == MODEL for each in main):
        return list(entries)
    kept = set(main)
    selection.leave(AGAIN, (each for each in entries if each not in kept))
    return main


def _parse(name: str) -> tuple[str, str, str]:
    """Base, precision and suffix of a weights file's name."""
    stem, _, suffix = name.rpartition(".")
    stem = _SHARD.sub("", stem or name)
    found = _VARIANT.search(stem)
    return (stem[: found.start()], found[1].lower(), suffix) if found else (stem, "", suffix)


def _sets_of(entries: Sequence[Entry]) -> list[_Weights]:
    sets: dict[tuple[str, str, str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.kind != MODEL:
            continue
        base, variant, suffix = _parse(entry.name)
        split = _SHARD.search(entry.name)
        parts = split[1] if split else ""
        sets[entry.folder, base, variant, suffix, parts].append(entry)
    return [
        _Weights(base, variant, files[0].format or suffix, tuple(sorted(files)))
        for (_, base, variant, suffix, _), files in sets.items()
    ]


def _preferred_format(sets: Iterable[_Weights]) -> str:
    ranks = {name: rank for rank, name in enumerate(_FORMATS)}
    return min((each.format for each in sets), key=lambda name: (ranks.get(name, 99), name))


def _per_folder(
    weights: Sequence[_Weights], selection: Selection, *, top_may_differ: bool
) -> list[_Weights]:
    """In each folder the preferred format, in one precision."""
    by_folder: Mapping[str, list[_Weights]] = defaultdict(list)
    for each in weights:
        by_folder[each.files[0].folder].append(each)
    taken: list[_Weights] = []
    for folder, sets in by_folder.items():
        best = _preferred_format(sets)
        named = _one_precision([each for each in sets if each.format == best])
        usual = [each for each in named if each.base.lower() in _PREFERRED_NAMES]
        if len(named) > 1 and not usual and not folder and not top_may_differ:
            raise Ambiguous([Choice(each.files) for each in named])
        chosen = usual or named
        taken += chosen
        for each in sets:
            if each not in chosen:
                selection.leave(AGAIN, each.files)
    return taken


def _one_precision(sets: Sequence[_Weights]) -> list[_Weights]:
    """Of each base the fullest precision; one file rather than the same one split."""

    def rank(each: _Weights) -> tuple[int, str, bool]:
        known = each.variant in _PRECISIONS
        number = _PRECISIONS.index(each.variant) if known else len(_PRECISIONS)
        return number, each.variant, each.is_split

    best: dict[str, _Weights] = {}
    for each in sets:
        if each.base not in best or rank(each) < rank(best[each.base]):
            best[each.base] = each
    return list(best.values())


def _the_only_one(weights: Sequence[_Weights], selection: Selection) -> list[_Weights]:
    """Files side by side: one of them is the model, or nobody can tell which."""
    if not weights:
        return []
    best = _preferred_format(weights)
    same = [each for each in weights if each.format == best]
    models = [each for each in same if not each.base.lower().startswith(_COMPANIONS)] or same
    if len(models) > 1:
        raise Ambiguous([Choice(each.files) for each in models])
    for each in weights:
        if each not in models:
            selection.leave(COMPANION if each in same else AGAIN, each.files)
    return models


def _external_data(weights: _Weights, entries: Sequence[Entry]) -> list[Entry]:
    """ONNX keeps what is large in a file beside the graph."""
    if weights.format != "ONNX":
        return []
    names = {file.path + ending for file in weights.files for ending in ("_data", ".data")}
    return [entry for entry in entries if entry.path in names]


def _beside(
    entries: Sequence[Entry], taken: Sequence[_Weights], selection: Selection, *, with_configs: bool
) -> None:
    """Configurations and tokenizers of what was taken; the reasons for the rest."""
    decided = set(selection.chosen).union(*selection.left_out.values())
    split = {
        (each.files[0].folder, f"{each.base}.{_parse(each.files[0].name)[2]}", each.variant)
        for each in taken
        if each.is_split
    }
    for entry in entries:
        if entry in decided:
            continue
        if entry.kind != CONFIG:
            is_code = entry.name.lower().endswith(".py")
            selection.leave(CODE if is_code else NOT_LOADED, [entry])
            continue
        index = _INDEX.match(entry.name)
        if index and (entry.folder, index["of"], (index["variant"] or "").lower()) not in split:
            selection.leave(AGAIN, [entry])
        elif with_configs:
            selection.chosen.append(entry)
        else:
            selection.leave(NOT_LOADED, [entry])

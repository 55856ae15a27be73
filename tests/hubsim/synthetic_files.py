"""The files of synthetic models: which contents they are, and what they are called."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.hubsim import words
from tests.hubsim.bytes import ContentKey, Contents
from tests.hubsim.population import FILES_EACH, Json, Population, Traits, version_id

_NOT_IN_NAMES = re.compile(r"[^\w -]")


@dataclass(frozen=True, slots=True)
class SimFile:
    """A file as the hub's storage knows it."""

    hub_id: int
    version_id: int
    name: str
    kind: str
    metadata: Json
    content: ContentKey


class SyntheticFiles:
    def __init__(self, population: Population, contents: Contents) -> None:
        self._population = population
        self._contents = contents

    def of_version(self, traits: Traits, index: int, number: int, english: str) -> list[SimFile]:
        """The files of one version, primary first. Only their names depend on `english`."""
        bits = self._population.hash(index, 0x4000 + number)
        owner = version_id(index, number)
        first = owner * FILES_EACH
        kind, extension, form = _content_kind(traits.type, traits.special, bits)
        stem = _file_stem(english, traits.type, number, bits)
        meta: Json = {"format": form} if form != "Other" else {}
        if form == "SafeTensor" and (bits >> 16 & 15 == 0 or traits.type == "Checkpoint"):
            meta |= {"size": "pruned", "fp": "fp16"}
        content = self._main_content(kind, traits.special, bits, first)
        files = [SimFile(first, owner, f"{stem}.{extension}", "Model", meta, content)]

        def also(place: int, kind: str, name: str, word: str, **metadata: str) -> None:
            content = self._contents.key(kind, first + place)
            files.append(SimFile(first + place, owner, name, word, dict(metadata), content))

        if traits.special == "soft_variants":
            also(
                1,
                "pickle_checkpoint",
                f"{stem}.ckpt",
                "Model",
                format="PickleTensor",
                size="full",
                fp="fp32",
            )
        if traits.special == "duplicate_names" or bits >> 20 & 1023 == 0:
            also(2, kind, files[0].name, "Model", format=form, size="full", fp="fp32")
        if traits.type == "Checkpoint" and bits >> 30 & 31 == 0:
            also(3, "config", f"{stem}.yaml", "Config")
        if traits.type == "LORA" and bits >> 30 & 63 == 0:
            also(4, "archive", f"{stem}_trainingData.zip", "Training Data", format="Other")
        return files

    def _main_content(self, kind: str, special: str | None, bits: int, first: int) -> ContentKey:
        key = self._contents.key
        match special:
            case "twin_a" | "twin_b":  # the same tensors under two headers
                return key(kind, -1, base=1, variant=int(special == "twin_b"))
            case "reuploaded_a" | "reuploaded_b":
                return key(kind, -2, base=2)
            case "two_mebibytes":
                return key(kind, first, base=7)
        # About one file in 25 has the bytes of another one; a few of those another header.
        if special is None and (bits & 31 == 0 or bits & 127 == 1):
            shared = -3 - (bits >> 8) % self._population.shared_contents
            return key(kind, shared, variant=int(bits >> 40 & 7 == 0))
        return key(kind, first)


def _content_kind(model_type: str, special: str | None, bits: int) -> tuple[str, str, str]:
    """(kind of content, extension, format word) of the main file."""
    if special == "pickle":
        return "pickle_checkpoint", "ckpt", "PickleTensor"
    if special == "gguf":
        return "gguf", "gguf", "GGUF"
    draw = bits >> 50 & 63 if special is None else 63
    match model_type:
        case "Checkpoint" if draw % 16 == 0:
            return "pickle_checkpoint", "ckpt", "PickleTensor"
        case "Checkpoint" | "VAE" | "Controlnet" | "MotionModule":
            return "checkpoint", "safetensors", "SafeTensor"
        case "TextualInversion" if draw % 2:
            return "pickle_embedding", "pt", "PickleTensor"
        case "TextualInversion":
            return "embedding", "safetensors", "SafeTensor"
        case "Hypernetwork":
            return "pickle_embedding", "pt", "PickleTensor"
        case "Upscaler":
            return "pickle_embedding", "pth", "PickleTensor"
        case "Workflows" if draw % 2:
            return "workflow", "json", "Other"
        case "Workflows" | "Poses" | "Wildcards":
            return "archive", "zip", "Other"
    if draw == 0:
        return "pickle_embedding", "pt", "PickleTensor"
    return "lora", "safetensors", "SafeTensor"


def _file_stem(english: str, model_type: str, number: int, bits: int) -> str:
    kept = _NOT_IN_NAMES.sub("", english)
    if model_type == "Checkpoint":
        stem = "".join(part.capitalize() for part in kept.split())[:20]
        return f"{stem[:1].lower()}{stem[1:]}_v{number + 1}0"
    odd = bits >> 56
    if odd < 3:
        return f"{words.JAPANESE_SUBJECTS[bits % len(words.JAPANESE_SUBJECTS)]}_{number + 1}"
    if odd < 12:
        return f"{kept} [{number + 1}] (fixed)"
    return f"{'_'.join(kept.split())}_v{number + 1}"


def soft_query(kind: str, metadata: Json) -> str:
    """The query of a download address that names properties instead of the file."""
    query = f"?type={kind.replace(' ', '%20')}"
    for key in ("format", "size", "fp"):
        if key in metadata:
            query += f"&{key}={metadata[key]}"
    return query

"""Where a model's file belongs below a root, for each program's arrangement of folders. Pure.

Owns the tables. The hub's words for types and for kinds of file are compared without case; a word
that no table knows goes to `other`, so that a new type on the hub never stops a download.
"""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

LAYOUTS = ("comfyui", "a1111", "flat")
_ALIASES = {"forge": "a1111", "webui": "a1111", "comfy": "comfyui", "": "flat"}

# what a file is for, as one word of ours
_ROLE_OF_TYPE = {
    "checkpoint": "checkpoint",
    "textualinversion": "embedding",
    "hypernetwork": "hypernetwork",
    "aestheticgradient": "aesthetic",
    "lora": "lora",
    "dora": "lora",
    "locon": "lycoris",
    "controlnet": "controlnet",
    "upscaler": "upscaler",
    "motionmodule": "motion",
    "vae": "vae",
    "textencoder": "text_encoder",
    "clip": "text_encoder",
    "llm": "text_encoder",
    "visionlanguage": "text_encoder",
    "unet": "diffusion_model",
    "clipvision": "clip_vision",
    "poses": "poses",
    "wildcards": "wildcards",
    "workflows": "workflows",
    "comfyworkflows": "workflows",
    "detection": "detection",
}
# kinds of file that go elsewhere than the model they are published with
_ROLE_OF_KIND = {
    "vae": "vae",
    "textencoder": "text_encoder",
    "visionencoder": "clip_vision",
    "clipvision": "clip_vision",
    "unet": "diffusion_model",
    "diffusionmodel": "diffusion_model",
    "negative": "embedding",
    "controlnet": "controlnet",
    "upscaler": "upscaler",
    "enhancementlora": "lora",
    "workflow": "workflows",
    "trainingdata": "training_data",
}

_FOLDERS: Mapping[str, Mapping[str, str]] = {
    "comfyui": {
        "checkpoint": "checkpoints",
        "embedding": "embeddings",
        "hypernetwork": "hypernetworks",
        "lora": "loras",
        "lycoris": "loras",
        "controlnet": "controlnet",
        "upscaler": "upscale_models",
        "motion": "animatediff_models",
        "vae": "vae",
        "text_encoder": "text_encoders",
        "diffusion_model": "diffusion_models",
        "clip_vision": "clip_vision",
        "detection": "ultralytics",
        "workflows": "workflows",
        "aesthetic": "other/aesthetic_gradients",
        "poses": "other/poses",
        "wildcards": "other/wildcards",
        "training_data": "other/training_data",
    },
    "a1111": {
        "checkpoint": "Stable-diffusion",
        "embedding": "embeddings",
        "hypernetwork": "hypernetworks",
        "lora": "Lora",
        "lycoris": "LyCORIS",
        "controlnet": "ControlNet",
        "upscaler": "ESRGAN",
        "motion": "AnimateDiff",
        "vae": "VAE",
        "text_encoder": "text_encoder",
        "diffusion_model": "Stable-diffusion",
        "clip_vision": "clip_vision",
        "detection": "adetailer",
        "workflows": "other/workflows",
        "aesthetic": "aesthetic_embeddings",
        "poses": "other/poses",
        "wildcards": "other/wildcards",
        "training_data": "other/training_data",
    },
    "flat": {},
}

# folder names that only this arrangement uses; what several share proves nothing
_MARKS: Mapping[str, frozenset[str]] = {
    "comfyui": frozenset(
        (
            *("checkpoints", "loras", "diffusion_models", "text_encoders", "upscale_models"),
            *("unet", "clip", "style_models", "vae_approx", "gligen", "photomaker"),
        )
    ),
    "a1111": frozenset(
        (
            *("stable-diffusion", "lora", "lycoris", "esrgan", "realesrgan", "swinir"),
            *("codeformer", "gfpgan", "bsrgan", "ldsr", "scunet", "vae-approx", "dat"),
        )
    ),
}


def canonical_layout(name: str) -> str | None:
    """The layout's own word for a name people use for it, or None."""
    lower = name.strip().lower()
    lower = _ALIASES.get(lower, lower)
    return lower if lower in LAYOUTS else None


def _word(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())


def role_of(model_type: str, file_kind: str) -> str:
    """What a file is for: its own kind where that says so, else the model's type, else `other`."""
    kind = _ROLE_OF_KIND.get(_word(file_kind))
    return kind or _ROLE_OF_TYPE.get(_word(model_type), "other")


def folder_for(
    layout: str, model_type: str, file_kind: str, base_model: str | None = None
) -> PurePosixPath:
    """The folder, relative to the root, for a file of this kind of a model of this type.

    An unknown layout is treated as `flat`, where everything lies in the root itself. `base_model`
    is for layouts that sort by it; none of these do.
    """
    folders = _FOLDERS[canonical_layout(layout) or "flat"]
    if not folders:
        return PurePosixPath()
    return PurePosixPath(folders.get(role_of(model_type, file_kind), "other"))


def detect_layout(names: Iterable[str]) -> str:
    """The layout of a folder from the names directly inside it; `flat` when nothing tells."""
    found = {name.lower() for name in names}
    # ComfyUI's "loras" and A1111's "Lora" differ, so a count decides; a tie is no evidence.
    scores = {layout: len(found & marks) for layout, marks in _MARKS.items()}
    best = max(scores.values())
    leaders = [layout for layout, score in scores.items() if score == best]
    return leaders[0] if best and len(leaders) == 1 else "flat"

"""The files of synthetic repositories: which there are at a commit, and what is in them.

A file is either a large one (LFS: a content key of `bytes.py`) or a plain git file, whose text is
made when somebody wants it. Owns git's and LFS's way of naming contents too.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.hubsim import hf_words
from tests.hubsim.bytes import Body, BytesBody, ContentKey, Contents
from tests.hubsim.formats_models import shard_tensors
from tests.hubsim.hf_population import Population, Repo
from tests.hubsim.hf_repos import architecture, pipeline_class, readme
from tests.hubsim.population import Json

_GITATTRIBUTES = "".join(
    f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n"
    for ending in ("7z", "bin", "ckpt", "gguf", "h5", "onnx", "pt", "pth", "safetensors", "zip")
).encode()
_MANY = 1300
_QUANT_NUMBERS = dict(hf_words.QUANTS)
_KINDS = {
    ".safetensors": "text_encoder", ".bin": "pickle_weights", ".pt": "pickle_weights",
    ".pth": "pickle_weights", ".ckpt": "pickle_checkpoint", ".gguf": "llm_gguf",
    ".onnx": "archive", ".h5": "archive", ".msgpack": "archive", ".zip": "archive",
    ".ot": "archive", ".tflite": "archive",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RepoFile:
    """A path and its content at one commit. Exactly one of `content` and `plain` is set."""

    path: str
    content: ContentKey | None = None
    plain: Callable[[], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Blob:
    """What the hub says of a file: its size, and what identifies its bytes."""

    size_bytes: int
    git_sha1: str  # of the content, or of the pointer that stands for it
    sha256: str | None = None  # LFS only
    pointer_size: int = 0

    @property
    def etag(self) -> str:
        return self.sha256 or self.git_sha1

    @property
    def xet_hash(self) -> str | None:
        """64 hex digits that name the bytes too, and are no SHA-256 of them."""
        if self.sha256 is None:
            return None
        return hashlib.blake2b(self.sha256.encode(), digest_size=32).hexdigest()


def git_sha1(data: bytes) -> str:
    head = b"blob %d\0" % len(data)
    return hashlib.sha1(head + data, usedforsecurity=False).hexdigest()


def pointer(sha256: str, size_bytes: int) -> bytes:
    """What git itself stores of an LFS file."""
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n"
    return text.encode()


def is_large(path: str) -> bool:
    """Whether .gitattributes sends a path to LFS."""
    return any(path.lower().endswith(ending) for ending in _KINDS)


def kind_of(path: str) -> str:
    """The kind of content that suits a path of an LFS file."""
    ending = "." + path.lower().rpartition(".")[2]
    name = path.lower()
    if ending == ".safetensors":
        for word in ("unet", "vae", "lora"):
            if word in name:
                return "diffusers_lora" if word == "lora" else word
    return _KINDS.get(ending, "archive")


class Blobs:
    """What the files of one hub are, as git and LFS name it."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.describe = functools.lru_cache(maxsize=4096)(self._describe)

    def _describe(self, file: RepoFile) -> Blob:
        if file.content is None:
            data = self.plain(file)
            return Blob(len(data), git_sha1(data))
        facts = self.contents.describe(file.content)
        sha256 = facts.sha256.lower()
        stub = pointer(sha256, facts.size_bytes)
        return Blob(facts.size_bytes, git_sha1(stub), sha256, len(stub))

    def size_bytes(self, file: RepoFile) -> int:
        if file.content is None:
            return len(self.plain(file))
        return self.contents.size_bytes(file.content)

    @staticmethod
    def plain(file: RepoFile) -> bytes:
        return file.plain() if file.plain else b""

    def body(self, file: RepoFile) -> Body:
        if file.content is None:
            return BytesBody(self.plain(file))
        return self.contents.body(file.content)


@dataclass(frozen=True, slots=True)
class _Readme:
    """README.md, made when it is read. A value, so that equal ones are described once."""

    repo_key: str
    edit: int
    make: Callable[[int], bytes]

    def __call__(self) -> bytes:
        return self.make(self.edit)

    def __hash__(self) -> int:
        return hash((self.repo_key, self.edit))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Readme) and (self.repo_key, self.edit) == (
            other.repo_key,
            other.edit,
        )


@dataclass(frozen=True, slots=True)
class Text:
    """A plain file's bytes, there already."""

    data: bytes

    def __call__(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True)
class _Json:
    """A JSON file, written when it is read: most file lists are only asked for their names."""

    value: object

    def __call__(self) -> bytes:
        return json.dumps(self.value, indent=2).encode() + b"\n"

    def __hash__(self) -> int:
        return id(self.value)


class SyntheticRepoFiles:
    """Makes the file lists of a population's repositories."""

    def __init__(self, population: Population, contents: Contents) -> None:
        self._population = population
        self._contents = contents

    def of(self, repo: Repo, edit: int) -> list[RepoFile]:
        """The files after so many commits; `repo` is as it was when the hub started."""
        bits = self._population.hash(repo.index, 9)
        files = [RepoFile(".gitattributes", plain=Text(_GITATTRIBUTES))]
        if edit == 0 and repo.commits > 1:
            return files
        if repo.kind != "bare" and repo.special != "no_card":
            text = _Readme(repo.key, edit, lambda edit: readme(repo, edit, bits).encode())
            files.append(RepoFile("README.md", plain=text))
        if repo.kind != "bare":
            make = getattr(self, f"_{repo.kind}")
            files += make(repo, bits)
        files += self._special(repo)
        return files

    def lfs(self, repo: Repo, path: str, place: int, kind: str = "", variant: int = 0) -> RepoFile:
        """The large file at a path: its bytes are its own."""
        number = repo.index << 12 | place
        base = None
        if kind == "llm_shard":
            base = repo.index  # shards of one model are shards of one model
        content = self._contents.key(kind or kind_of(path), number, variant=variant, base=base)
        return RepoFile(path, content)

    # -- by kind -----------------------------------------------------------------------------------

    def _lora(self, repo: Repo, bits: int) -> list[RepoFile]:
        names = ("pytorch_lora_weights", repo.family + "_lora", repo.name.rpartition("/")[2])
        files = [self.lfs(repo, f"{names[bits % 3]}.safetensors", 0, "diffusers_lora")]
        if bits >> 4 & 7 == 0:
            files.append(self.lfs(repo, "checkpoints/step-1000.safetensors", 1, "diffusers_lora"))
        if bits >> 8 & 3 == 0:
            files.append(RepoFile("config.yaml", plain=Text(b"network:\n  type: lora\n")))
        return files

    def _single_file(self, repo: Repo, bits: int) -> list[RepoFile]:
        stem = repo.name.rpartition("/")[2].partition("_")[0]
        files = [self.lfs(repo, f"{stem}.safetensors", 0, "checkpoint")]
        if bits >> 4 & 3 == 0:
            files.append(self.lfs(repo, f"{stem}-pruned.safetensors", 1, "checkpoint"))
        if bits >> 6 & 7 == 0:
            files.append(self.lfs(repo, f"{stem}.ckpt", 2))
        if bits >> 9 & 3 == 0:
            files.append(self.lfs(repo, f"vae/{stem}.vae.safetensors", 3, "vae"))
        return files

    def _diffusers(self, repo: Repo, bits: int) -> list[RepoFile]:
        index = {
            "_class_name": pipeline_class(repo),
            "_diffusers_version": "0.31.0",
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        }
        files = [
            RepoFile("model_index.json", plain=_Json(index)),
            RepoFile(
                "scheduler/scheduler_config.json",
                plain=_Json({"_class_name": "EulerDiscreteScheduler"}),
            ),
            RepoFile("text_encoder/config.json", plain=_Json({"model_type": "clip_text_model"})),
            self.lfs(repo, "text_encoder/model.safetensors", 0, "text_encoder"),
            *_tokenizer("tokenizer/"),
            RepoFile("unet/config.json", plain=_Json({"_class_name": "UNet2DConditionModel"})),
            self.lfs(repo, "unet/diffusion_pytorch_model.safetensors", 1, "unet"),
            RepoFile("vae/config.json", plain=_Json({"_class_name": "AutoencoderKL"})),
            self.lfs(repo, "vae/diffusion_pytorch_model.safetensors", 2, "vae"),
        ]
        if bits & 3 == 0:
            half = "unet/diffusion_pytorch_model.fp16.safetensors"
            files.append(self.lfs(repo, half, 3, "unet"))
        return files

    def _transformers(self, repo: Repo, bits: int) -> list[RepoFile]:
        config: Json = {"architectures": [architecture(repo)], "model_type": repo.family}
        config |= {"torch_dtype": "float16", "vocab_size": 32000}
        files = [
            RepoFile("config.json", plain=_Json(config)),
            RepoFile("generation_config.json", plain=_Json({"eos_token_id": 2})),
            *_tokenizer(""),
        ]
        shards = 3 if repo.special == "sharded" else (1, 1, 2, 4)[bits & 3]
        if shards == 1:
            files.append(self.lfs(repo, "model.safetensors", 0, "llm_shard"))
            return files
        weight_map: dict[str, str] = {}
        total = 0
        for number in range(shards):
            path = f"model-{number + 1:05}-of-{shards:05}.safetensors"
            file = self.lfs(repo, path, number, "llm_shard", number)
            files.append(file)
            weight_map |= dict.fromkeys(shard_tensors(number), path)
            assert file.content is not None
            total += self._contents.size_bytes(file.content)
        whole = {"metadata": {"total_size": total}, "weight_map": weight_map}
        files.append(RepoFile("model.safetensors.index.json", plain=_Json(whole)))
        return files

    def _peft(self, repo: Repo, bits: int) -> list[RepoFile]:
        config = {
            "base_model_name_or_path": repo.base_model,
            "peft_type": "LORA",
            "r": 16,
            "target_modules": ["q_proj", "v_proj"],
            "task_type": "CAUSAL_LM",
        }
        return [
            RepoFile("adapter_config.json", plain=_Json(config)),
            self.lfs(repo, "adapter_model.safetensors", 0, "adapter"),
            *_tokenizer(""),
        ]

    def _gguf(self, repo: Repo, bits: int) -> list[RepoFile]:
        stem = repo.name.rpartition("/")[2].removesuffix("-GGUF")
        wanted = hf_words.QUANTS[bits % 3 :: 1 + (bits >> 4 & 1)]
        files = []
        for place, (quant, number) in enumerate(wanted):
            files.append(self.lfs(repo, f"{stem}-{quant}.gguf", place, "llm_gguf", number))
        return files

    def _pickle(self, repo: Repo, bits: int) -> list[RepoFile]:
        config = {"architectures": [architecture(repo)], "model_type": repo.family}
        files = [
            RepoFile("config.json", plain=_Json(config)),
            self.lfs(repo, "pytorch_model.bin", 0),
            *_tokenizer(""),
        ]
        if bits & 3 == 0:
            files.append(self.lfs(repo, "training_args.bin", 1))
        if bits >> 4 & 7 == 0:
            files.append(self.lfs(repo, "onnx/model.onnx", 2))
        return files

    def _other(self, repo: Repo, bits: int) -> list[RepoFile]:
        ending = ("pt", "onnx", "zip", "pth")[bits & 3]
        return [
            RepoFile("config.json", plain=_Json({"library": repo.library})),
            self.lfs(repo, f"model.{ending}", 0),
        ]

    def _special(self, repo: Repo) -> list[RepoFile]:
        match repo.special:
            case "many_files":
                return [
                    RepoFile(f"steps/{number // 100:02}/{number:04}.json", plain=_Json([number]))
                    for number in range(_MANY)
                ]
            case "empty_file":
                return [RepoFile("__init__.py", plain=Text(b""))]
            case "odd_paths":
                text = Text(b"odd\n")
                paths = ("a b/c+d.txt", "100%/#1?.txt", "日本語/説明.txt", "a&b=c.json")
                odd = [RepoFile(path, plain=text) for path in paths]
                return [*odd, self.lfs(repo, "重み/model v1 [fp16].safetensors", 9, "vae")]
            case "twin_a" | "twin_b":
                return [RepoFile("twin.safetensors", self._contents.key("vae", -1, base=1))]
            case "text_in_lfs":
                return [self.lfs(repo, "tokenizer.zip", 9)]
        return []


def _tokenizer(folder: str) -> Sequence[RepoFile]:
    return _TOKENIZERS[folder]


def _make_tokenizer(folder: str) -> Sequence[RepoFile]:
    vocabulary = {f"tok{number}": number for number in range(120)}
    whole = {"version": "1.0", "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}
    special = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}}
    return (
        RepoFile(f"{folder}special_tokens_map.json", plain=_Json(special)),
        RepoFile(f"{folder}tokenizer.json", plain=_Json(whole)),
        RepoFile(f"{folder}tokenizer_config.json", plain=_Json({**special, "legacy": True})),
    )


_TOKENIZERS = {folder: _make_tokenizer(folder) for folder in ("", "tokenizer/")}

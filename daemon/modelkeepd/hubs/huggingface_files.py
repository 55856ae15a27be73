"""The files of a Hugging Face repository: what each one is, and which one is the model.

Pure. Owns the reading of ``siblings``. The hub gives paths, sizes and hashes and no kinds; those
are told from the names alone. Which files a download takes is transfer's.

A plain file's checksum is git's (SHA-1 over ``blob SIZE\\0`` and the content), that of an LFS file
the SHA-256 of its content. The ``blobId`` of an LFS file is that of the pointer in git and checks
nothing.
"""

import re
from collections.abc import Iterable, Sequence

from modelkeepd.hubs.contract import ParsedFile
from modelkeepd.hubs.huggingface_wire import WireSibling
from modelkeepd.hubs.wire import count, sha1_of, sha256_of, text_of

MAX_FILES = 20_000
MAX_PATH = 1_024

MODEL, CONFIG, OTHER = "Model", "Config", "Other"

_FORMATS = {
    "safetensors": "SafeTensor", "sft": "SafeTensor", "bin": "PickleTensor", "pt": "PickleTensor",
    "pth": "PickleTensor", "ckpt": "PickleTensor", "gguf": "GGUF", "ggml": "GGML", "onnx": "ONNX",
    "h5": "Keras", "keras": "Keras", "msgpack": "Flax", "ot": "Rust", "tflite": "TFLite",
    "mlmodel": "Core ML", "pb": "TensorFlow", "pkl": "PickleTensor", "npz": "NumPy",
    "engine": "TensorRT", "llamafile": "llamafile",
}  # fmt: skip
_CONFIGS = frozenset({
    "json", "yaml", "yml", "toml", "txt", "model", "jinja", "cfg", "xml", "tiktoken",
})  # fmt: skip
# what training leaves behind beside the weights
_LEFTOVERS = re.compile(
    r"(optimizer|scheduler|scaler|training_args|rng_state\w*|random_states\w*)\.\w+"
    r"|events\.out\..*|.*_data\.bin"
)
_PROSE = frozenset({"readme.txt", "license.txt", "licence.txt", "notice.txt", "requirements.txt"})
_SHARD = re.compile(r"[-_.]\d{5}-of-\d{5}\.")
# the parts of a folder that is loaded as a whole have these names
_FOLDER_WEIGHTS = re.compile(
    r"(model|pytorch_model|diffusion_pytorch_model|adapter_model|flax_model|tf_model"
    r"|consolidated)([.\-]\w+)*\.\w+"
)
_FOLDER_MARKS = frozenset({"model_index.json", "config.json", "adapter_config.json"})
_SINGLE_SUFFIXES = (("safetensors", "sft"), ("ckpt", "pt", "pth", "bin"), ("gguf",), ("onnx",))


def read_files(siblings: Iterable[WireSibling]) -> tuple[ParsedFile, ...]:
    """Every file with a usable path, in the hub's order."""
    usable: dict[str, WireSibling] = {}
    for sibling in siblings:
        if len(usable) >= MAX_FILES:
            break
        if sibling.rfilename is not None and is_path(sibling.rfilename):
            usable.setdefault(sibling.rfilename, sibling)
    primary = primary_path(list(usable))
    return tuple([_file(path, s, path == primary) for path, s in usable.items()])


def is_path(path: str) -> bool:
    """Whether this can be a file's path in a repository: relative, and never out of it."""
    return (
        0 < len(path) <= MAX_PATH
        and not any(part in ("", ".", "..") for part in path.split("/"))
        and not any(c < " " or "\ud800" <= c <= "\udfff" for c in path)
    )


def kind_of(path: str) -> str:
    """``Model``, ``Config`` or ``Other``, by the name alone."""
    name = path.rpartition("/")[2].lower()
    suffix = name.rpartition(".")[2]
    if _LEFTOVERS.fullmatch(name):
        return OTHER
    if suffix in _FORMATS:
        return MODEL
    return CONFIG if suffix in _CONFIGS and name not in _PROSE else OTHER


def primary_path(paths: Sequence[str]) -> str | None:
    """The one file a person most likely wants, when exactly one is a sensible choice.

    A model in a single file lies at the top. A folder that is loaded as a whole (diffusers,
    transformers, PEFT), parts of a split file, and several files to choose from have none.
    """
    top = [path for path in paths if "/" not in path]
    names = {path.lower() for path in top}
    if "model_index.json" in names:
        return None
    in_folder = not names.isdisjoint(_FOLDER_MARKS)
    for suffixes in _SINGLE_SUFFIXES:
        found = [
            path
            for path in top
            if path.lower().rpartition(".")[2] in suffixes and kind_of(path) == MODEL
        ]
        if any(_SHARD.search(path) for path in found):
            return None
        if in_folder and any(_FOLDER_WEIGHTS.fullmatch(path.lower()) for path in found):
            return None
        found = [path for path in found if not path.lower().startswith(("mmproj", "mtp-"))]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _file(path: str, sibling: WireSibling, is_primary: bool) -> ParsedFile:
    sha256 = sha1 = None
    size_bytes = count(sibling.size)
    lfs = sibling.lfs
    if lfs is None:
        sha1 = sha1_of(sibling.blob_id)
    elif isinstance(lfs, dict):
        # one value under two names
        digest = lfs.get("sha256", lfs.get("oid"))
        sha256 = sha256_of(digest) if isinstance(digest, str) else None
        size = lfs.get("size")
        if size_bytes is None and isinstance(size, int) and not isinstance(size, bool):
            size_bytes = count(size)
    return ParsedFile(
        hub_id=path,
        name=text_of(path, MAX_PATH) or path,
        kind=kind_of(path),
        format=_FORMATS.get(path.rpartition(".")[2].lower()),
        size_bytes=size_bytes,
        sha256=sha256,
        is_primary=is_primary,
        url=None,
        git_sha1=sha1,
    )

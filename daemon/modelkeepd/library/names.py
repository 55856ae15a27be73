"""Which names in a watched folder are model files, which are unfinished, which folders are not
entered.

Pure; the walk and the watcher ask the same table, so that they agree.
"""

MODEL_SUFFIXES = frozenset(
    (
        *("safetensors", "sft", "ckpt", "pt", "pt2", "pth", "bin", "pkl", "gguf", "ggml"),
        *("onnx", "engine", "trt", "plan", "tflite", "npz", "h5", "keras", "patch", "zip"),
    )
)
UNFINISHED_SUFFIXES = frozenset(
    (
        *("part", "partial", "tmp", "temp", "crdownload", "incomplete", "aria2", "download"),
        *("!qb", "!ut", "opdownload", "filepart", "lock"),
    )
)
_SKIPPED_FOLDERS = frozenset(
    (
        *("node_modules", "venv", "site-packages", "__pycache__", "lost+found"),
        *("$recycle.bin", "system volume information"),
    )
)


def suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()


def is_model(name: str) -> bool:
    """Is a file of this name one that the library keeps a row for?"""
    return suffix(name) in MODEL_SUFFIXES and not name.startswith(".")


def enters(folder: str) -> bool:
    """Does the walk go into a folder of this name? Hidden ones, caches and trash are left alone."""
    return not folder.startswith(".") and folder.lower() not in _SKIPPED_FOLDERS


def skipped_on_the_way(root: str, path: str) -> bool:
    """Does `path` lie in a folder below `root` that the walk does not enter?"""
    parts = path[len(root) :].strip("/").split("/")[:-1]
    return not all(enters(part) for part in parts)

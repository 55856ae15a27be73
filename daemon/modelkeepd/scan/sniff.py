"""Recognizes a file's format by its first and last bytes, never by its name.

Owns the table of magics and what each extension promises. Pure: bytes in, a word out. It judges
nothing; a name that promises another format than the content has is reported by the scanner as a
lie.
"""

import codecs
import re

HEAD_BYTES = 4096
TAIL_BYTES = 66_000
"""Enough for a zip's end record with the longest comment."""

LEGACY_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")
_GGML_MAGICS = (b"lmgg", b"tjgg", b"fmgg", b"algg", b"ggml", b"ggjt", b"ggmf", b"ggla")
_TEXT = re.compile(rb"[^\x00-\x08\x0e-\x1a\x1c-\x1f]+")

MODEL_EXTENSIONS = {
    **dict.fromkeys(("safetensors", "sft"), frozenset({"safetensors"})),
    "gguf": frozenset({"gguf"}),
    **dict.fromkeys(
        ("ckpt", "pt", "pth", "pkl", "pt2"),
        frozenset({"zip", "torch-legacy", "pickle", "tar"}),
    ),
    "bin": frozenset({"zip", "torch-legacy", "pickle", "tar", "ggml", "gguf", "unknown"}),
    "onnx": frozenset({"onnx"}),
    "tflite": frozenset({"tflite"}),
    **dict.fromkeys(("engine", "trt", "plan"), frozenset({"tensorrt", "unknown"})),
    "npy": frozenset({"npy"}),
    **dict.fromkeys(("zip", "npz", "keras"), frozenset({"zip"})),
    "h5": frozenset({"hdf5"}),
    "7z": frozenset({"7z"}),
    "rar": frozenset({"rar"}),
    "tar": frozenset({"tar"}),
    **dict.fromkeys(("gz", "tgz"), frozenset({"gzip"})),
    "json": frozenset({"json"}),
    **dict.fromkeys(("yaml", "yml", "txt", "md", "jinja"), frozenset({"text", "json"})),
    **dict.fromkeys(("png", "jpg", "jpeg", "webp", "gif"), frozenset({"image"})),
}


def sniff(head: bytes, size_bytes: int, tail: bytes = b"") -> str:
    """The format's word for a file that begins with `head` and ends with `tail`."""
    if size_bytes == 0:
        return "empty"
    length = int.from_bytes(head[:8], "little")
    opens_header = head[8:].lstrip(b" ")[:1] == b"{"
    # Before the pickle magics: a header of 640 bytes begins with 80 02, as a pickle does.
    if opens_header and 8 + length <= size_bytes:
        return "safetensors"
    for magic, word in _MAGICS:
        if head.startswith(magic):
            return word
    if head[:4] in _GGML_MAGICS:
        return "ggml"
    if head[4:8] == b"TFL3":
        return "tflite"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if opens_header and head[6:8] == b"\0\0":
        return "safetensors"  # cut short, or its length lies: the proof will name it
    if head[257:262] == b"ustar":
        return "tar"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image"
    if head[:1] == b"\x08" and b"\x01" <= head[1:2] <= b"\x0d" and head[2:3] in _ONNX_NEXT:
        return "onnx"
    if not head.strip(b"\0") and not tail.strip(b"\0"):
        return "zero-filled"
    return _textual(head)


_ONNX_NEXT = (b"\x12", b"\x1a", b"2", b":")
_MAGICS = (
    (b"GGUF", "gguf"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (LEGACY_TORCH, "torch-legacy"),
    (b"\x93NUMPY", "npy"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"ptrt", "tensorrt"),
    (b"ftrt", "tensorrt"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF8", "image"),
    (b"%PDF", "pdf"),
    (b"version https://git-lfs", "lfs-pointer"),
)


def _textual(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = text[:512].lower()
    if lower.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "html"
    if not text or not _is_text(head):
        return "unknown"
    if text[:1] == b"{":
        return "json-error" if re.match(rb'\{\s*"error"', lower) else "json"
    if text[:1] == b"[":
        return "json"
    return "text"


def _is_text(head: bytes) -> bool:
    if not _TEXT.fullmatch(head):
        return False
    try:
        # Not final: the head may end inside a character.
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def extension(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def lies(name: str, format_: str) -> bool:
    """Does the file's name promise a format that the content does not have?"""
    promised = MODEL_EXTENSIONS.get(extension(name))
    return promised is not None and format_ not in promised

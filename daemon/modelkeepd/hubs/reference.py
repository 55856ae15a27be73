"""References: the ways people name a model, a version, a file or a path, read into one shape.

Owns the grammar and its error texts. Pure: asks no hub, no database and no disk; whether the thing
exists is for those who look it up.

    civitai:1102            civitai:1102@1301         civitai:1102@1301#555     civitai:@1301
    hf:ORG/NAME             hf:ORG/NAME@REV           hf:ORG/NAME@REV#PATH
    urn:air:sdxl:lora:civitai:1102@1301               sha256:HEX
    https://civitai.com/models/1102?modelVersionId=1301
    https://civitai.com/api/download/models/1301?fileId=555
    https://huggingface.co/ORG/NAME/blob/REV/PATH     ./a/path  /a/path  name.safetensors

A revision may hold slashes (``refs/pr/1``, also written ``refs%2Fpr%2F1``); ``#`` and ``%`` in one
are always escaped.
"""

import difflib
import re
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

Kind = Literal["model", "version", "file", "sha256", "path"]

CIVITAI = "civitai"
HUGGINGFACE = "huggingface"

_MAX_LENGTH = 4_096
_PREFIXES = ("civitai:", "hf:", "huggingface:", "urn:air:", "sha256:", "https://", "path:")
_CIVITAI_HOSTS = frozenset({"civitai.com", "civitai.red", "civitai.green", "api.civitai.com"})
_HF_HOSTS = frozenset({"huggingface.co", "hf.co"})
_MODEL_SUFFIXES = (
    ".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx", ".zip", ".yaml",
    ".yml", ".json", ".pkl", ".npz", ".h5", ".msgpack", ".txt",
)  # fmt: skip

_ID = r"[1-9][0-9]{0,18}"
_CIVITAI = re.compile(rf"(?:({_ID}))?(?:@({_ID}|~[0-9]{{1,4}}))?(?:#(\S+))?", re.ASCII)
_REPO = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}(?:/[A-Za-z0-9._-]{1,96})?"
_REPO_NAME = re.compile(_REPO, re.ASCII)
_HF = re.compile(rf"({_REPO})(?:@([^#\s]+))?(?:#(.+))?", re.ASCII)
_REVISION = re.compile(r"[^\s\x00-\x1f\x7f]{1,255}")
# what a repository's address may begin with that holds no model
_HF_OTHERS = {"datasets": "a dataset", "spaces": "a space", "kernels": "a kernel"}
_HF_PAGES = frozenset({"docs", "models", "papers", "collections", "blog", "learn", "posts", "join"})
_HF_MARKS = ("tree", "blob", "resolve", "raw", "commit", "revision")
_AIR = re.compile(
    r"urn:air:([^:\s]+):([^:\s]+):([a-z]+):([^@+\s]+)(?:@([^+\s]+))?(?:\+([^\s]+))?",
    re.ASCII | re.IGNORECASE,
)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class BadReference(ValueError):
    """Text that names nothing. ``hint`` says what was probably meant."""

    code = "invalid"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Reference(msgspec.Struct, frozen=True):
    """What a text names. Which fields are set follows from ``kind``.

    A version or file reference may lack ``model`` (a download URL does not tell it). For Hugging
    Face ``model`` is ORG/NAME, ``version`` a revision and ``file`` a path in the repository.
    """

    kind: Kind
    hub: str | None = None
    model: str | None = None
    version: str | None = None
    file: str | None = None
    sha256: bytes | None = None
    path: str | None = None

    def __str__(self) -> str:
        """The canonical text: parsing it gives this reference back."""
        if self.kind == "sha256":
            return f"sha256:{(self.sha256 or b'').hex()}"
        if self.kind == "path":
            return f"path:{self.path}"
        prefix = "hf" if self.hub == HUGGINGFACE else str(self.hub)
        version = f"@{self._version()}" if self.version is not None else ""
        file = f"#{self.file}" if self.file is not None else ""
        return f"{prefix}:{self.model or ''}{version}{file}"

    def _version(self) -> str:
        if self.hub == HUGGINGFACE and self.version is not None:
            return self.version.replace("%", "%25").replace("#", "%23")
        return str(self.version)


def is_repo_name(value: object) -> bool:
    """Whether this can be what people call a repository: ``org/name``, or ``name`` until 2024."""
    return isinstance(value, str) and bool(_REPO_NAME.fullmatch(value)) and ".." not in value


def is_revision(value: str) -> bool:
    """Whether this can be a branch, a tag or a commit, and stays one segment when escaped."""
    return bool(_REVISION.fullmatch(value)) and ".." not in value and value != "."


def model_ref(hub: str, model: str) -> str:
    """``civitai:1102``"""
    return str(Reference("model", hub, model))


def version_ref(hub: str, model: str, version: str) -> str:
    """``civitai:1102@1301``"""
    return str(Reference("version", hub, model, version))


def file_ref(hub: str, model: str, version: str, file: str) -> str:
    """``civitai:1102@1301#555``"""
    return str(Reference("file", hub, model, version, file))


def parse_reference(text: str) -> Reference:
    """Read any of the forms above. Raises BadReference, which says what was probably meant."""
    text = text.strip()
    if not text:
        raise BadReference("an empty reference names nothing", _examples())
    if len(text) > _MAX_LENGTH:
        raise BadReference(f"a reference of {len(text)} characters is too long", _examples())
    if "\0" in text:
        raise BadReference("a reference has no NUL characters", _examples())
    prefix, colon, rest = text.partition(":")
    match prefix.lower():
        case "civitai" if colon:
            return _civitai(rest, text)
        case "hf" | "huggingface" if colon:
            return _huggingface(rest, text)
        case "sha256" if colon:
            return _sha256(rest, text)
        case "urn" if colon:
            return _air(text)
        case "path" if colon and rest:
            return Reference("path", path=rest)
        case "http" | "https" if rest.startswith("//"):
            return _url(text)
        case _:
            return _bare(text)


def _civitai(rest: str, text: str) -> Reference:
    found = _CIVITAI.fullmatch(rest)
    if not found or not (found[1] or found[2]):
        raise BadReference(
            f"{text!r} is no CivitAI reference: a model's number must follow the colon",
            "civitai:1102, civitai:1102@1301 (a version) or civitai:1102@1301#555 (a file)",
        )
    model, version, file = found.groups()
    if file is not None:
        if version is None:
            raise BadReference(
                f"{text!r} names a file without its version", f"{text.replace('#', '@VERSION#')}"
            )
        return Reference("file", CIVITAI, model, version, file)
    if version is not None:
        return Reference("version", CIVITAI, model, version)
    return Reference("model", CIVITAI, model)


def _huggingface(rest: str, text: str) -> Reference:
    found = _HF.fullmatch(rest)
    if not found:
        kind = _HF_OTHERS.get(rest.partition("/")[0])
        if kind is not None and rest.count("/") > 1:
            raise _no_model(text, kind)
        raise _no_huggingface(text)
    model, revision, file = found.groups()
    return _repository(model, None if revision is None else unquote(revision), file, text)


def _repository(model: str, revision: str | None, file: str | None, text: str) -> Reference:
    if not is_repo_name(model):
        raise _no_huggingface(text)
    if revision is not None and not is_revision(revision):
        raise BadReference(
            f"{text!r} names no revision: {revision!r} can be no branch, tag or commit",
            f"hf:{model}@main",
        )
    if file is not None:
        if file != file.strip() or "\n" in file:
            raise BadReference(f"{text!r} names no file: {file!r}", f"hf:{model}@main#PATH")
        return Reference("file", HUGGINGFACE, model, revision, file)
    if revision is not None:
        return Reference("version", HUGGINGFACE, model, revision)
    return Reference("model", HUGGINGFACE, model)


def _no_huggingface(text: str) -> BadReference:
    return BadReference(
        f"{text!r} is no Hugging Face reference", "hf:ORG/NAME or hf:ORG/NAME@REVISION"
    )


def _no_model(text: str, kind: str) -> BadReference:
    return BadReference(
        f"{text!r} is {kind}, and modelkeep keeps models only",
        "a model's address is like https://huggingface.co/ORG/NAME",
    )


def _sha256(digits: str, text: str) -> Reference:
    digits = digits.strip()
    if not _SHA256.fullmatch(digits):
        raise BadReference(
            f"{text!r} is no SHA-256: {len(digits)} characters where 64 hexadecimal digits belong",
            "`sha256sum FILE` prints it",
        )
    return Reference("sha256", sha256=bytes.fromhex(digits))


def _air(text: str) -> Reference:
    found = _AIR.fullmatch(text)
    if not found:
        raise BadReference(f"{text!r} is no AIR name", "urn:air:sdxl:lora:civitai:1102@1301 is one")
    _ecosystem, _type, source, model, version, file = found.groups()
    source = source.lower()
    if source == CIVITAI:
        tail = (f"@{version}" if version else "") + (f"#{file}" if file and version else "")
        return _civitai(f"{model}{tail}", text)
    if source in ("huggingface", "hf"):
        return _huggingface(model + (f"@{version}" if version else ""), text)
    raise BadReference(
        f"{text!r} points at {source!r}, a hub modelkeep does not know",
        _did_you_mean(source, (CIVITAI, HUGGINGFACE)),
    )


def _url(text: str) -> Reference:
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").lower().removeprefix("www.")
        query = parse_qs(parts.query, max_num_fields=50)
    except ValueError as exc:
        raise BadReference(f"{text!r} is no address: {exc}", _examples()) from exc
    path = [unquote(part) for part in parts.path.split("/") if part]
    if host in _CIVITAI_HOSTS:
        return _civitai_url(path, query, text)
    if host in _HF_HOSTS:
        return _huggingface_url(path, text)
    raise BadReference(
        f"{text!r} is on {host or 'no host'}, which is no hub modelkeep knows",
        _did_you_mean(host, (*_CIVITAI_HOSTS, *_HF_HOSTS)),
    )


def _civitai_url(path: list[str], query: dict[str, list[str]], text: str) -> Reference:
    def first(name: str) -> str:
        return query.get(name, [""])[0]

    match path:
        case ["models", model, *_] | ["api", "v1", "models", model]:
            version = first("modelVersionId")
            return _civitai(f"{model}@{version}" if version else model, text)
        case ["model-versions", version] | ["api", "v1", "model-versions", version]:
            return _civitai(f"@{version}", text)
        case ["api", "download", "models", version]:
            file = first("fileId")
            return _civitai(f"@{version}#{file}" if file else f"@{version}", text)
        case _:
            raise BadReference(
                f"{text!r} is no model's page",
                "open the model and copy an address like https://civitai.com/models/1102",
            )


def _huggingface_url(path: list[str], text: str) -> Reference:
    match path:
        case ["api", "resolve-cache", "models", *rest] if len(rest) > 3:
            return _repository("/".join(rest[:2]), rest[2], "/".join(rest[3:]), text)
        case ["api", "models", *rest]:
            path = rest
        case ["api", kind, *_]:
            path = [kind]
    first = path[0] if path else ""
    if first in _HF_OTHERS:
        raise _no_model(text, _HF_OTHERS[first])
    if not path or first in _HF_PAGES:
        raise BadReference(
            f"{text!r} is no model's page", "an address like https://huggingface.co/ORG/NAME is"
        )
    for mark in _HF_MARKS:
        if mark in path[1:3] and path[-1] != mark:
            at = path.index(mark, 1)
            revision, file = path[at + 1], "/".join(path[at + 2 :]) or None
            # a folder's page names no file
            file = None if mark in ("tree", "revision", "commit") else file
            return _repository("/".join(path[:at]), revision, file, text)
    return _repository("/".join(path[:2]), None, None, text)


def _bare(text: str) -> Reference:
    if _SHA256.fullmatch(text):
        return Reference("sha256", sha256=bytes.fromhex(text))
    if text.startswith(("/", "./", "../", "~/")) or text.lower().endswith(_MODEL_SUFFIXES):
        return Reference("path", path=text)
    if text.isascii() and text.isdecimal():
        raise BadReference(f"{text!r} names no hub", f"civitai:{text}?")
    prefix, colon, rest = text.partition(":")
    if colon:
        near = _did_you_mean(prefix.lower() + ":", _PREFIXES, rest)
        raise BadReference(f"{text!r} begins with {prefix!r}, which is no hub", near)
    if _HF.fullmatch(text) and text.count("/") == 1:
        raise BadReference(f"{text!r} names no hub", f"hf:{text}? Or ./{text} for a file")
    raise BadReference(f"{text!r} is no reference", _examples())


def _did_you_mean(word: str, known: tuple[str, ...], rest: str = "") -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]}{rest}?" if near else _examples()


def _examples() -> str:
    return "for example civitai:1102, hf:ORG/NAME, a hub's address, sha256:HEX or ./file"

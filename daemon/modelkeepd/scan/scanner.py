"""Opens one file, recognizes it by content and applies the checks of its format.

Owns the way in: no link is followed, nothing but a regular file is read (a FIFO or device never
hangs it), and the verdict is bound to the file as it was from the first byte read to the last. It
never raises: whatever goes wrong is a reason, and never `safe`.
"""

import os
import stat

from modelkeepd.scan import archives, pickles, safetensors, sentencepiece
from modelkeepd.scan.sniff import HEAD_BYTES, TAIL_BYTES, extension, lies, sniff
from modelkeepd.scan.verdicts import Findings, Reason, Report, Subject, Verdict

MAX_PICKLE_BYTES = 32 << 20
# a tokenizer's vocabulary is text, and takes tens of megabytes
MAX_TEXT_BYTES = 64 << 20
POLYGLOT_BYTES = 1 << 20

_BROKEN = {
    "empty": "the file is empty",
    "lfs-pointer": "a Git LFS pointer was saved instead of the model; fetch the real file",
    "html": "a web page was saved as a model, such as a login or error page",
    "json-error": "a server's error message was saved as a model",
    "zero-filled": "the file is all zeros at both ends: an unfinished download",
}
_OPENING_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def scan_file(file: str | bytes | os.PathLike[str] | int, name: str | None = None) -> Report:
    """Judge one file, given by path or by an open descriptor (which stays open).

    `name` is what its extension is read from, if that is not the path itself.
    """
    if isinstance(file, int):
        return _scan_guarded(file, name or "")
    try:
        handle = os.open(file, _OPENING_FLAGS)
    except (OSError, ValueError) as error:
        return _unread("unreadable", f"the file cannot be opened: {error}")
    try:
        return _scan_guarded(handle, os.fsdecode(file) if name is None else name)
    finally:
        os.close(handle)


def _unread(rule: str, what: str) -> Report:
    return Report(Verdict.NOT_SCANNED, "unknown", (Reason(rule, what),))


def _scan_guarded(handle: int, name: str) -> Report:
    try:
        return _scan(handle, name)
    except OSError as error:
        return _unread("unreadable", f"the file cannot be read: {error}")
    except MemoryError:
        return _unread("out-of-memory", "there was not enough memory to examine the file")
    except Exception as error:
        # A fault of ours, met on hostile input, must be a verdict and not an exception in the
        # daemon.
        return _unread("scanner-fault", f"the scanner failed: {type(error).__name__}: {error}")


def _scan(handle: int, name: str) -> Report:
    before = os.fstat(handle)
    if not stat.S_ISREG(before.st_mode):
        return _unread("not-a-file", "this is not a regular file")
    size = before.st_size
    head = os.pread(handle, HEAD_BYTES, 0)
    tail = os.pread(handle, TAIL_BYTES, max(0, size - TAIL_BYTES))
    format_ = sniff(head, size, tail)
    if format_ in ("unknown", "text") and pickles.looks_like_pickle(head):
        format_ = "pickle"
    if format_ == "unknown" and sentencepiece.looks_like(head):
        format_ = "sentencepiece"
    if format_ == "unknown" and extension(name) in ("safetensors", "sft"):
        format_ = "safetensors"  # so that the report names the rule that its header breaks
    findings = _examine(handle, format_, size, head, tail)
    if lies(name, format_) and format_ not in _BROKEN:
        findings.note(
            "extension-lies", f"the name says {extension(name)!r}, the content is {format_}"
        )
    after = os.fstat(handle)
    subject = Subject(after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        findings.verdict = Verdict.NOT_SCANNED
        findings.note("changed", "the file changed while it was examined")
    return Report(findings.verdict, format_, tuple(findings.reasons), subject)


def _examine(handle: int, format_: str, size: int, head: bytes, tail: bytes) -> Findings:
    if format_ in _BROKEN:
        findings = Findings.starting_at(Verdict.MALFORMED)
        findings.note(format_, _BROKEN[format_])
        return findings
    if format_ == "safetensors":
        return _safetensors(handle, size, tail)
    if format_ == "zip":
        place = os.lseek(handle, 0, os.SEEK_CUR)  # shared with the duplicate
        try:
            with os.fdopen(os.dup(handle), "rb") as stream:
                return archives.examine(stream, size, tail)
        finally:
            os.lseek(handle, place, os.SEEK_SET)
    if format_ in ("pickle", "torch-legacy"):
        want = min(size, MAX_PICKLE_BYTES)
        return pickles.examine(_read(handle, 0, want), cut=want < size)
    if format_ == "sentencepiece":
        return sentencepiece.examine(_read(handle, 0, min(size, sentencepiece.MAX_BYTES)), size)
    if format_ == "gguf":
        return _gguf(head, size)
    if format_ in ("json", "text"):
        return _text(handle, size)
    findings = Findings.starting_at(Verdict.NOT_SCANNED)
    findings.note(
        "format-not-examined",
        f"{format_} content is not examined yet; use it only if you trust where it came from",
    )
    return findings


def _read(handle: int, offset: int, length: int) -> bytes:
    """Exactly these bytes, or fewer at the end of the file; `pread` alone may stop early."""
    parts: list[bytes] = []
    while length > 0:
        part = os.pread(handle, min(length, 8 << 20), offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _safetensors(handle: int, size: int, tail: bytes) -> Findings:
    findings = safetensors.examine(lambda offset, length: _read(handle, offset, length), size)
    # Loaders go by extension, and a file may be two things at once: a proof for one reader is
    # none for another that would find a pickle or an archive in the same bytes.
    head = _read(handle, 0, min(size, POLYGLOT_BYTES))
    walk = pickles.Walk(head, 0)
    end = walk.run(0, Findings.starting_at(Verdict.REVIEW))
    if end is not None or walk.imports or walk.operations > 10_000:
        findings.add(Verdict.REVIEW, "polyglot", "the same bytes also read as a pickle", 0)
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b\x08")) or _ends_as_zip(tail):
        findings.add(Verdict.REVIEW, "polyglot", "the same bytes also read as an archive", 0)
    return findings


def _ends_as_zip(tail: bytes) -> bool:
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        return False
    return len(tail) - at - 22 == int.from_bytes(tail[at + 20 : at + 22], "little")


def _gguf(head: bytes, size: int) -> Findings:
    """Only the fixed part; the keys and tensors are not proven, so `review` is the best here."""
    findings = Findings.starting_at(Verdict.REVIEW)
    version = int.from_bytes(head[4:8], "little")
    if version not in (1, 2, 3):
        findings.add(Verdict.MALFORMED, "gguf-version", f"GGUF version {version} is unknown", 4)
        return findings
    width = 4 if version == 1 else 8
    if len(head) < 8 + 2 * width:
        findings.add(Verdict.MALFORMED, "gguf-truncated", "the file ends inside its header", 8)
        return findings
    # A tensor takes at least 24 bytes of description, a key at least 13.
    for what, at, least in (("tensors", 8, 24), ("keys", 8 + width, 13)):
        count = int.from_bytes(head[at : at + width], "little")
        if count * least > size:
            findings.add(
                Verdict.MALFORMED, "gguf-count", f"{count} {what} cannot fit into {size} bytes", at
            )
    findings.note("gguf", "the keys and tensors of GGUF files are not proven yet")
    return findings


_MARKS = (
    (b"!!python", "yaml-python", "a YAML tag that builds Python objects", Verdict.DANGEROUS),
    (b"auto_map", "remote-code", "asks for code from its repository", Verdict.REVIEW),
    (b"_target_", "hydra-target", "names a Python object to call", Verdict.REVIEW),
)


_TEXT_PIECE_BYTES = 1 << 20
_LONGEST_MARK = max(len(mark) for mark, *_ in _MARKS)


def _text(handle: int, size: int) -> Findings:
    """Marks are looked for in pieces, which overlap so that none falls between two."""
    findings = Findings.starting_at(Verdict.REVIEW)
    end = min(size, MAX_TEXT_BYTES)
    left, before, at = list(_MARKS), b"", 0
    while left and at < end:
        piece = before + _read(handle, at, min(_TEXT_PIECE_BYTES, end - at))
        if len(piece) == len(before):
            break  # it became shorter: told by its stamp
        start = at - len(before)
        for found in [mark for mark in left if mark[0] in piece]:
            mark, rule, what, verdict = found
            findings.add(verdict, rule, what, start + piece.find(mark))
            left.remove(found)
        at = start + len(piece)
        before = piece[1 - _LONGEST_MARK :]
    if size > end:
        findings.add(Verdict.NOT_SCANNED, "text-not-read", f"only {end} bytes were read")
    if not findings.reasons:
        findings.note("text", "a text file; nothing was proven of it")
    return findings

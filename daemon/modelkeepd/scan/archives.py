"""Looks into zip containers (torch checkpoints, archives) member by member, in memory, within
caps.

First version: it finds pickles and scripts among the members by content and judges them; it
proves nothing, so a zip is at best `review`. Names are reported, never used to write anything.
"""

import io
import zipfile
import zlib
from pathlib import PurePosixPath

from modelkeepd.scan import pickles
from modelkeepd.scan.sniff import sniff
from modelkeepd.scan.verdicts import Findings, Verdict

MAX_MEMBERS = 10_000
MAX_DIRECTORY_BYTES = 8 << 20
MAX_PICKLE_BYTES = 16 << 20
MAX_TOTAL_BYTES = 48 << 20
MAX_RATIO = 200

_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, OSError),
    *(EOFError, ValueError, NotImplementedError),
)


def examine(file: io.BufferedIOBase, size_bytes: int, tail: bytes) -> Findings:
    findings = Findings.starting_at(Verdict.REVIEW)
    directory_bytes = _directory_bytes(tail, size_bytes)
    if directory_bytes is None:
        findings.add(Verdict.MALFORMED, "zip-no-directory", "the zip has no readable directory")
        return findings
    if directory_bytes > MAX_DIRECTORY_BYTES:
        findings.add(
            Verdict.NOT_SCANNED,
            "zip-directory-large",
            f"the zip's directory takes {directory_bytes} bytes, over {MAX_DIRECTORY_BYTES}",
        )
        return findings
    try:
        with zipfile.ZipFile(file) as archive:
            _members(archive, findings)
    except _UNREADABLE as error:
        findings.add(Verdict.MALFORMED, "zip-unreadable", f"the zip cannot be read: {error}")
    except RuntimeError as error:  # how zipfile reports a password
        findings.add(Verdict.NOT_SCANNED, "zip-encrypted", f"the zip cannot be opened: {error}")
    if not findings.reasons:
        findings.note("zip", "an archive; nothing was proven of its content")
    return findings


def _directory_bytes(tail: bytes, size_bytes: int) -> int | None:
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        return None
    claimed = int.from_bytes(tail[at + 12 : at + 16], "little")
    if claimed == 0xFFFFFFFF:
        zip64 = tail.rfind(b"PK\x06\x06", 0, at)
        if zip64 < 0:
            return None
        claimed = int.from_bytes(tail[zip64 + 40 : zip64 + 48], "little")
    return claimed if claimed <= size_bytes else None


def _members(archive: zipfile.ZipFile, findings: Findings) -> None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        findings.add(Verdict.NOT_SCANNED, "zip-members", f"over {MAX_MEMBERS} members")
        return
    names: set[str] = set()
    budget = MAX_TOTAL_BYTES
    for member in members:
        _judge_name(member.filename, names, findings)
        if member.file_size == 0:
            continue
        if member.file_size > 1 << 20 and member.file_size > MAX_RATIO * member.compress_size:
            findings.add(
                Verdict.NOT_SCANNED,
                "zip-ratio",
                f"member {member.filename[:80]!r} unpacks to over {MAX_RATIO} times its size",
            )
            continue
        with archive.open(member) as stream:
            head = stream.read(4096)
            format_ = sniff(head, member.file_size)
            if format_ in ("unknown", "text") and not pickles.looks_like_pickle(head):
                continue
            if format_ in ("zip", "gzip", "xz", "bzip2", "zstd", "7z", "rar", "tar"):
                findings.add(
                    Verdict.NOT_SCANNED,
                    "archive-in-archive",
                    f"member {member.filename[:80]!r} is another archive",
                )
            if format_ not in ("pickle", "torch-legacy", "unknown", "text"):
                continue
            want = min(member.file_size, MAX_PICKLE_BYTES, budget)
            data = head + stream.read(max(0, want - len(head)))
        budget -= len(data)
        findings.merge(
            pickles.examine(data, member.header_offset, cut=len(data) < member.file_size)
        )


def _judge_name(name: str, names: set[str], findings: Findings) -> None:
    shown = repr(name[:80])
    if name in names:
        findings.add(Verdict.MALFORMED, "zip-duplicate", f"two members are named {shown}")
    names.add(name)
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        findings.add(Verdict.MALFORMED, "zip-traversal", f"member {shown} points outside")
    if path.suffix == ".py":
        findings.add(Verdict.REVIEW, "script", f"member {shown} is a program")

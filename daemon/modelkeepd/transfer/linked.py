"""What a hub itself says of a file before it sends us to where the bytes lie. Pure.

Hugging Face names content and commit on its own answer only: the storage host's ETag is another
kind of hash, as long as a sha256 and none. So this is read from answers of the hub's own origin
alone, and compared with what the catalog promised before one byte is fetched.
"""

import re
from dataclasses import dataclass

from modelkeepd.transfer.errors import FileReplaced, quoted
from modelkeepd.transfer.response import Head

_SHA256 = re.compile(r"[0-9a-f]{64}\Z", re.IGNORECASE)
_SHA1 = re.compile(r"[0-9a-f]{40}\Z", re.IGNORECASE)
_SIZE = re.compile(r"[0-9]{1,18}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Linked:
    """The content behind a redirect, in the hub's words."""

    size_bytes: int | None = None
    sha256: bytes | None = None
    git_sha1: bytes | None = None
    commit: str | None = None

    @property
    def content(self) -> bytes | None:
        return self.sha256 or self.git_sha1


def linked_of(head: Head) -> Linked | None:
    """What this answer of the hub's own origin says of the file's content; None: nothing."""
    commit = head.get("x-repo-commit")
    tag = head.get("x-linked-etag")
    size = head.get("x-linked-size")
    if tag is None and commit is not None and head.status == 200:
        tag, size = head.get("etag"), head.get("content-length")  # served by the hub itself
    digest = (tag or "").removeprefix("W/").strip('"')
    sha256 = bytes.fromhex(digest) if _SHA256.match(digest) else None
    git_sha1 = bytes.fromhex(digest) if _SHA1.match(digest) else None
    if sha256 is None and git_sha1 is None:
        return None
    known_size = int(size) if size is not None and _SIZE.match(size) else None
    return Linked(known_size, sha256, git_sha1, commit if _SHA1.match(commit or "") else None)


def check_promise(linked: Linked, sha256: bytes | None, git_sha1: bytes | None, where: str) -> None:
    """Raises FileReplaced when the hub offers another content than the one promised."""
    promised = sha256 or git_sha1
    if promised is None or linked.content == promised:
        return
    offered = (linked.content or b"").hex()
    raise FileReplaced(
        f"{quoted(where, 160)} is another file now: the catalog promises {promised.hex()}, the "
        f"hub offers {offered}",
        "asking the hub what it has now",
    )

"""The running hashes of a file that comes in order: its sha256, and git's name for it. Pure.

Owns what git hashes: the SHA-1 of ``blob``, the length in decimal, a NUL and the content. The
length comes first, so it must be known before the first byte; learned later, the hash has to
begin again.
"""

import hashlib


class Digests:
    """``update`` with every byte once, in order."""

    def __init__(self, git_bytes: int | None = None) -> None:
        """``git_bytes``: the whole length, when git's hash is wanted as well."""
        self.git_bytes = git_bytes
        self.hashed = 0
        self._sha256 = hashlib.sha256()
        self._sha1 = None
        if git_bytes is not None:
            # no secret and no signature: the name that git gave the content
            self._sha1 = hashlib.sha1(b"blob %d\0" % git_bytes, usedforsecurity=False)

    def update(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        if self._sha1 is not None:
            self._sha1.update(data)
        self.hashed += len(data)

    @property
    def sha256(self) -> bytes:
        return self._sha256.digest()

    @property
    def git_sha1(self) -> bytes | None:
        """None where it was not wanted, or the length was another one."""
        return self._sha1.digest() if self._sha1 and self.hashed == self.git_bytes else None


def git_sha1(content: bytes) -> bytes:
    """Git's hash of a whole content."""
    digests = Digests(len(content))
    digests.update(content)
    return digests.git_sha1 or b""

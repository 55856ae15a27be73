"""The key pair that signs a home's snapshots, and the keys that are trusted besides.

Made once, on first need, in the config folder: ``snapshot.key`` (0600) is private, the hex line in
``snapshot.pub`` is what other homes are told to trust. The private key never leaves this module.
"""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from modelkeepd.snapshot.errors import SnapshotError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PRIVATE, _PUBLIC = "snapshot.key", "snapshot.pub"
_MAX_KEY_BYTES = 4_096


class BadKey(SnapshotError):
    """A key that can't be used; says where it is, never what."""


class SigningKey:
    """Signs for this home. Shows itself in no repr."""

    def __init__(self, private: "Ed25519PrivateKey") -> None:
        self._private = private
        self._public = private.public_key().public_bytes_raw()

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(message)


def own_key(config_dir: Path) -> SigningKey:
    """This home's key, made now if there is none. Raises BadKey. For a thread."""
    path = config_dir / _PRIVATE
    try:
        key = _load(path) or _make(path)
        _tell(config_dir / _PUBLIC, key)
    except OSError as exc:
        raise BadKey(
            f"{path} can't be used: {exc.strerror}",
            hint="snapshots are signed with it; make the folder writable",
        ) from exc
    return key


def public_key(text: str) -> bytes:
    """The key in a line of hex, as ``snapshot.pub`` has it. Raises BadKey."""
    text = text.strip()
    try:
        key = bytes.fromhex(text) if text.isascii() else b""
    except ValueError:
        key = b""
    if len(key) != 32:
        raise BadKey(
            f"{text[:80]!r} is no public key",
            hint=f"a key is 64 hex digits: the line in the other home's {_PUBLIC}",
        )
    return key


def _load(path: Path) -> SigningKey | None:
    # here, since loading it takes a twentieth of the daemon's start
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise BadKey(f"{path} is no file", hint="move it away: a new key is made then")
        if stat.S_IMODE(mode) & 0o077:
            raise BadKey(f"{path} can be read by other users", hint=f"chmod 600 {path}")
        data = os.read(descriptor, _MAX_KEY_BYTES)
    finally:
        os.close(descriptor)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as exc:
        raise BadKey(
            f"{path} holds no private key",
            hint="put the right file back, or move it away: a new key is made then, which other"
            " homes have to be told to trust",
        ) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKey(f"{path} holds a key of another kind", hint="snapshots need ed25519")
    return SigningKey(key)


def _make(path: Path) -> SigningKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = Ed25519PrivateKey.generate()
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, data, 0o600)
    return SigningKey(key)


def _tell(path: Path, key: SigningKey) -> None:
    line = key.public.hex().encode() + b"\n"
    try:
        if path.read_bytes() == line:
            return
    except FileNotFoundError:
        pass
    _write(path, line, 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all; an interrupted attempt is overwritten by the next."""
    partial = path.with_name(path.name + ".part")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.rename(path)

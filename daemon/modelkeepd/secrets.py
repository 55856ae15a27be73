"""Secrets: a type that does not show itself, and where the hubs' tokens come from.

Order: systemd credential directory, then the environment, then a 0600 file in the config folder.
"""

import os
import stat
from pathlib import Path


class Secret:
    """A text that appears in no repr, format, log or pickle; ``reveal()`` is the one way out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself: only for the line that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __str__(self) -> str:
        return "…"

    def __format__(self, spec: str) -> str:
        return "…"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled")


class BadSecret(Exception):
    """A token that can't be used; the text says where it is and what to do, never what it is."""


class SecretFileTooOpen(BadSecret):
    """A token file that other users may read."""


# no hub's token is longer, and no file that is longer is a token
MAX_SECRET_BYTES = 4096


def load_token(hub: str, config_dir: Path) -> Secret | None:
    """The hub's token, or None when there is none.

    Looks at ``$CREDENTIALS_DIRECTORY/HUB-token``, ``$MODELKEEP_HUB_TOKEN`` (``HUB`` in capitals)
    and ``config_dir/HUB.token``. Raises SecretFileTooOpen when the file is readable by others,
    BadSecret when what is found is no token.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials:
        path = Path(credentials) / f"{hub}-token"
        # the service manager sees to the mode: a system's may be 0440 for the group
        found = _read(path, private=False)
        if found is not None:
            return _secret(found, str(path))
    variable = f"MODELKEEP_{hub.upper()}_TOKEN"
    from_environment = os.environ.get(variable)
    if from_environment:
        return _secret(from_environment, f"${variable}")
    path = config_dir / f"{hub}.token"
    found = _read(path, private=True)
    return None if found is None else _secret(found, str(path))


def _read(path: Path, *, private: bool) -> str | None:
    try:
        # asked of the open file, or it could be another by the time it is read; a FIFO would hang
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise BadSecret(f"{path} can't be read: {exc.strerror}") from exc
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise BadSecret(f"{path} is no file: put the token into one, mode 0600")
        if private and stat.S_IMODE(mode) & 0o077:
            raise SecretFileTooOpen(f"{path} can be read by other users: chmod 600 {path}")
        return os.read(fd, MAX_SECRET_BYTES + 1).decode("utf-8", "replace")
    finally:
        os.close(fd)


def _secret(text: str, source: str) -> Secret | None:
    text = text.strip()
    # it will stand in a header: nothing in it may end that
    if len(text) > MAX_SECRET_BYTES or not (text.isascii() and text.isprintable()) or " " in text:
        raise BadSecret(f"{source} holds no token: expected one line without spaces")
    return Secret(text) if text else None

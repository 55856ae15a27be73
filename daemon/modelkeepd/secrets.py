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

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled")


class SecretFileTooOpen(Exception):
    """A token file that other users may read."""


def load_token(hub: str, config_dir: Path) -> Secret | None:
    """The hub's token, or None when there is none.

    Looks at ``$CREDENTIALS_DIRECTORY/HUB-token``, ``$MODELKEEP_HUB_TOKEN`` (``HUB`` in capitals)
    and ``config_dir/HUB.token``. Raises SecretFileTooOpen when the file is readable by others.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials:
        path = Path(credentials) / f"{hub}-token"
        if path.is_file():
            return _secret(path.read_text())
    from_environment = os.environ.get(f"MODELKEEP_{hub.upper()}_TOKEN")
    if from_environment:
        return _secret(from_environment)
    path = config_dir / f"{hub}.token"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_IMODE(mode) & 0o077:
        raise SecretFileTooOpen(f"{path} can be read by other users: chmod 600 {path}")
    return _secret(path.read_text())


def _secret(text: str) -> Secret | None:
    text = text.strip()
    return Secret(text) if text else None

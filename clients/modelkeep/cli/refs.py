"""References as people type them; only paths need anything done here."""

from __future__ import annotations

import os


def for_daemon(ref: str) -> str:
    """The reference with a path made absolute: the daemon's working folder is another one."""
    if ref.startswith("~"):
        ref = os.path.expanduser(ref)
    if ref.startswith((".", "/")) or (":" not in ref and os.path.exists(ref)):
        return os.path.abspath(ref)
    return ref


def folder(path: str | None) -> str:
    """A folder for the daemon, '' for none."""
    return os.path.abspath(os.path.expanduser(path)) if path else ""

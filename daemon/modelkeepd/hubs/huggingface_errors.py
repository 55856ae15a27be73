"""What Hugging Face means by an answer that is no 200.

Pure. The hub tells its refusals apart by ``X-Error-Code`` and ``X-Error-Message``, since half of
them come without a body. The order of the questions is that of the hub's own client. ``refusal``
serves API answers and those to a download's first request alike.
"""

import re
from collections.abc import Mapping

import msgspec

from modelkeepd.hubs import answers
from modelkeepd.hubs.answers import said_by
from modelkeepd.hubs.contract import HubError, HubRefused, HubUnavailable, NotFoundOnHub
from modelkeepd.hubs.http import Answer
from modelkeepd.hubs.retry import parse_retry_after
from modelkeepd.hubs.window import read_quotas

TOKEN_HINT = "put a token into huggingface.token beside config.toml, mode 0600"
_DISABLED = "Access to this resource is disabled."
_BAD_TOKEN = "Invalid credentials"
# with or without the hub's name in front, an API's path or a download's
_REPO = re.compile(r"/api/models/([^/\s?]+(?:/[^/\s?]+)?)|/([^/\s?]+(?:/[^/\s?]+)?)/resolve/")


class RepoDisabled(HubRefused):
    """The hub has taken this repository down, and says so."""


def refusal(answer: Answer, what: str, now_ms: int) -> HubError:
    """The error in an answer that is no 200. ``what`` holds the path that was asked."""
    status = answer.status
    code = answer.headers.get("x-error-code", "")
    said = _said(answer)
    repo = _repo(what)
    text = f"{what}: {status} {said}".rstrip()
    if code in ("RevisionNotFound", "EntryNotFound"):
        return NotFoundOnHub(text, status=status)
    if code == "GatedRepo":
        return HubRefused(text, why="gated", hint=_ask_for_access(repo), status=status)
    if said == _DISABLED:
        hint = "the hub has taken it down; what is in the catalog stays"
        return RepoDisabled(text, why="blocked", hint=hint, status=status)
    if code == "RepoNotFound":
        return NotFoundOnHub(text, status=status)
    if status == 401:
        if said.startswith(_BAD_TOKEN):
            hint = f"the token is wrong or has expired: {TOKEN_HINT}"
            return HubRefused(text, why="auth", hint=hint, status=status)
        if repo is not None:
            # who shows no token learns nothing of what is private, nor of what does not exist
            hint = f"it does not exist, or is private: then {TOKEN_HINT}"
            return NotFoundOnHub(text, hint=hint, status=status)
        return HubRefused(text, why="auth", hint=TOKEN_HINT, status=status)
    if status == 403:
        hint = "the token may not read this: give it read access on the hub's settings page"
        return HubRefused(text, why="blocked", hint=hint, status=status)
    if status == 429:
        return HubUnavailable(
            text,
            hint="it is tried again by itself",
            status=status,
            retry_after_s=_pause_s(answer.headers, now_ms),
            answered=True,
        )
    return answers.refusal(answer, what, now_ms)


def _said(answer: Answer) -> str:
    """The hub's sentence: in the header, in the body's ``error``, or as the body."""
    message = answer.headers.get("x-error-message", "")
    if message:
        return said_by(message.encode("latin-1", "replace"))
    try:
        error = msgspec.json.decode(answer.body, type=_Error).error
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return said_by(answer.body)
    return said_by(error.encode("utf-8", "replace"))


class _Error(msgspec.Struct):
    error: str


def _pause_s(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Until the window ends when a limit is used up, else what ``Retry-After`` says."""
    spent = [quota.resets_s + 1.0 for quota in read_quotas(headers) if quota.left == 0]
    if spent:
        return max(spent)
    return parse_retry_after(headers.get("retry-after"), now_ms)


def _repo(what: str) -> str | None:
    found = _REPO.search(what)
    return (found[1] or found[2]) if found is not None else None


def _ask_for_access(repo: str | None) -> str:
    page = f"https://huggingface.co/{repo}" if repo is not None else "its page on the hub"
    return f"ask for access at {page}, then {TOKEN_HINT} (of the account that asked)"

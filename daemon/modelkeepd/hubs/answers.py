"""What a hub's API answer means: JSON to go on with, or which HubError.

Pure. Owns the reading of statuses and bodies. ``refusal`` is CivitAI's reading of an answer that is
no 200, and a plain one: a hub that says more in such answers brings its own.
"""

from collections.abc import Callable

from modelkeepd.hubs.contract import (
    HubError,
    HubRefused,
    HubRejected,
    HubUnavailable,
    NotFoundOnHub,
)
from modelkeepd.hubs.http import Answer
from modelkeepd.hubs.retry import parse_retry_after

# a hub's own reading of an answer that is no 200: the answer, what was asked, the time in ms
Refusal = Callable[[Answer, str, int], HubError]

_TRANSIENT_4XX = frozenset({408, 425, 499})
_HTML = (b"<!doctype", b"<html", b"<head", b"<body")


def check_json(answer: Answer, what: str, now_ms: int, refusal: Refusal) -> None:
    """Nothing for a 200 that is JSON as it should be. Raises a HubError otherwise.

    A 200 is not believed by itself: login pages, challenges and maintenance notes come with 200.
    """
    if answer.status != 200:
        raise refusal(answer, what, now_ms)
    start = answer.body[:64].lstrip().lower()
    if "html" in answer.content_type or start.startswith(_HTML):
        raise HubUnavailable(f"{what}: a web page instead of JSON", status=200, answered=True)
    if not start.startswith((b"{", b"[")):
        said = said_by(answer.body)
        raise HubUnavailable(f"{what}: no JSON but {said!r}", status=200, answered=True)


def refusal(answer: Answer, what: str, now_ms: int) -> HubError:
    """The error in an answer that is no 200."""
    status, said = answer.status, said_by(answer.body)
    text = f"{what}: {status} {said}".rstrip()
    match status:
        case 401:
            hint = "set the hub's token: HUB.token beside config.toml, mode 0600"
            return HubRefused(text, why="auth", hint=hint, status=status)
        case 403:
            return HubRefused(
                text, why="blocked", hint="the hub refuses this address or agent", status=status
            )
        case 404 | 410:
            return NotFoundOnHub(text, status=status)
        case 451:
            return HubRefused(
                text, why="blocked", hint="the hub does not serve this region", status=status
            )
        case 429:
            if b"cursors" in answer.body:  # a wrong request that came with a limit's status
                return HubRejected(text, status=status)
            return _unavailable(answer, text, now_ms)
        case _ if status >= 500 or status in _TRANSIENT_4XX:
            return _unavailable(answer, text, now_ms)
        case _:
            return HubRejected(text, status=status)


def _unavailable(answer: Answer, text: str, now_ms: int) -> HubUnavailable:
    return HubUnavailable(
        text,
        hint="it is tried again by itself",
        status=answer.status,
        retry_after_s=parse_retry_after(answer.headers.get("retry-after"), now_ms),
        answered=True,
    )


def said_by(body: bytes, limit: int = 160) -> str:
    """The beginning of a body as one line of text for messages; nothing of web pages."""
    start = body[: limit * 4]
    if start.lstrip()[:1] == b"<":
        return "(a web page)"
    text = " ".join(start.decode("utf-8", "replace").split())
    return "".join(c if c.isprintable() else "\ufffd" for c in text)[:limit]

"""What a status outside 2xx and 3xx means for a download (threats D17). Pure.

Owns the table. What Hugging Face says beside the status (``X-Error-Code`` tells apart what 401, 403
and 404 mix up) is read by the hub's own part.
"""

import json
import re

from modelkeepd.hubs.http import Answer
from modelkeepd.hubs.huggingface_errors import refusal as hub_refusal
from modelkeepd.hubs.window import read_quotas
from modelkeepd.transfer.errors import (
    ContentChanged,
    FileGone,
    LinkExpired,
    Refused,
    SourceBroken,
    SourceBusy,
    TransferError,
    quoted,
)
from modelkeepd.transfer.origin import Url
from modelkeepd.transfer.response import Asked, Head
from modelkeepd.transfer.retry import parse_retry_after

_UNSATISFIED = re.compile(r"bytes \*/(\d{1,18})\Z", re.ASCII)


def refusal(head: Head, body: bytes, asked: Asked, url: Url, now_ms: int) -> TransferError:
    """The error that a status outside 2xx and 3xx stands for."""
    status = head.status
    said = _said(body)
    reason = f": {said}" if said else ""
    what = f"{url.origin} answered {status}{reason}"
    wait = parse_retry_after(head.get("retry-after"), now_ms)
    if status == 429 and wait is None:
        spent = [quota.resets_s for quota in read_quotas(dict(head.headers)) if quota.left == 0]
        wait = max(spent) + 1.0 if spent else None
    if status == 416:
        found = _UNSATISFIED.match((head.get("content-range") or "").strip())
        size = f" (it has {found[1]} bytes)" if found else ""
        return ContentChanged(f"{url.origin} has no bytes from {asked.start} on{size}")
    if status == 429:
        return SourceBusy(what, "the hub limits us; waiting", status=status, retry_after_s=wait)
    if status == 503 or (status < 500 and wait is not None and status in (403, 408, 425)):
        return SourceBusy(what, "the hub is busy; waiting", status=status, retry_after_s=wait)
    if status >= 500 or status in (408, 425, 409, 423, 499):
        return SourceBroken(what, "a fault at the hub; trying again", status=status)
    if status in (400, 401, 403) and not asked.at_home:
        return LinkExpired(
            what, "the signed address is no longer good; asking the hub again", status=status
        )
    coded = _coded(head, body, asked, url, now_ms)
    if coded is not None:
        return coded
    if status == 401:
        hint = _token_hint(asked)
        if "disabled downloads" in said.lower():  # no token would change that
            hint = "the creator offers no download of this file"
        return Refused(what, hint, status=status, code="denied")
    if status in (402, 403):
        if "early access" in said.lower():
            return Refused(
                what, "early access: wait for its end or buy it", status=status, code="gated"
            )
        return Refused(what, _token_hint(asked), status=status, code="gated")
    if status == 404:
        hint = "it may be unpublished or hidden; a later sync will tell"
        return Refused(what, hint, status=status, code="not_found")
    if status == 410:
        return Refused(
            what, "archived or removed at the hub for good", status=status, code="not_found"
        )
    if status == 451:
        return Refused(
            what, "not available from this region, by law", status=status, code="unavailable"
        )
    return Refused(
        what, "the hub did not understand us; please report it", status=status, code="unsupported"
    )


def _coded(head: Head, body: bytes, asked: Asked, url: Url, now_ms: int) -> Refused | None:
    """What a hub says in words of its own; None where it says no more than the status."""
    code = head.get("x-error-code")
    if not asked.at_home or (code is None and head.get("x-error-message") is None):
        return None
    what = f"{url.origin.host} {url.target.partition('?')[0]}"
    error = hub_refusal(Answer(head.status, dict(head.headers), body), what, now_ms)
    kind = FileGone if code in ("EntryNotFound", "RevisionNotFound") else Refused
    hint = error.hint or "modelkeep sync tells what the hub has now"
    return kind(quoted(error.message, 400), hint, status=head.status, code=error.code)


def _token_hint(asked: Asked) -> str:
    if asked.has_token:
        return "the token is wrong or this account may not download the file"
    return "the file needs a login: set the hub's token (HUB.token beside config.toml, mode 0600)"


def _said(body: bytes) -> str:
    """The sentence inside an error body, whatever its shape."""
    text = body[:4096].decode("utf-8", "replace").strip()
    if text.startswith("{"):
        try:
            parsed = json.loads(body[:65536].decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, dict):
            words = [parsed.get(key) for key in ("error", "message", "deadline")]
            return quoted("; ".join(word for word in words if isinstance(word, str) and word))
    if text.startswith("<"):
        found = re.search(r"<title>([^<]{1,200})|<Message>([^<]{1,200})", text, re.IGNORECASE)
        return quoted(next((part for part in found.groups() if part), "")) if found else ""
    return quoted(text)

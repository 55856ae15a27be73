"""The daemon's log: one line a fact, call and job ids bound by context, secrets taken out.

Messages are constant; what varies goes into ``extra={"facts": {...}}``, so that lines can be
searched and nothing from outside can forge one.
"""

import contextvars
import json
import logging
import math
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

MAX_VALUE_CHARS = 2_000

_bound: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar(
    "modelkeepd_log_facts", default=None
)
_secrets: tuple[str, ...] = ()

# the value behind each of these, quoted or not, is nobody's business
_PATTERNS = re.compile(
    r"(?i)((?:\bauthorization|\b(?:api|access|refresh)?[_-]?token|\bapi[_-]?key|\bcookie)"
    r"[\"']?\s*[=:]\s*[\"']?(?:(?:bearer|basic|token)\s+)?|"
    r"\bbearer(?:\s|\\[tnr])+|\bx-amz-(?:signature|credential|security-token)=|"
    r"\bsignature=|\bverify=|\bexpires?=)[^\s&\"',;]+"
)
_USERINFO = re.compile(r"(://)[^/\s@\"']+(@)")
# everything that could move a cursor, change color, reorder or end a line, or that is no text
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u2028\u2029\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff]"
)


@contextmanager
def bound(**facts: Any) -> Iterator[None]:
    """Add facts to every line logged inside, also by child tasks."""
    token = _bound.set({**(_bound.get() or {}), **facts})
    try:
        yield
    finally:
        _bound.reset(token)


def hide(secret: str) -> None:
    """From now on this text is replaced in every line. Short ones would hide ordinary words."""
    global _secrets
    if len(secret) >= 6:
        # also as it stands within a repr or JSON; the longest first, or one that begins another
        # would leave that one's end; a new tuple each time, as threads may be logging
        shapes = (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1])
        _secrets = tuple(sorted({*_secrets, *shapes}, key=len, reverse=True))


def redact(text: str) -> str:
    """The text without known secrets and without what looks like one."""
    for secret in _secrets:
        text = text.replace(secret, "…")
    text = _USERINFO.sub(r"\1…\2", text)
    return _PATTERNS.sub(r"\1…", text)


def printable(text: str) -> str:
    """The text on one line, with control and direction characters written out, cut to size."""
    if len(text) > MAX_VALUE_CHARS:
        text = text[:MAX_VALUE_CHARS] + f"… ({len(text)} characters)"
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts = dict(_bound.get() or {})
    facts.update(getattr(record, "facts", None) or {})
    return facts


class TextFormatter(logging.Formatter):
    """``2026-11-22T15:42:09Z info modelkeepd.sync: page stored hub=civitai pages=12``."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        parts = [f"{at} {record.levelname.lower()} {record.name}: {record.getMessage()}"]
        parts += [f"{name}={_shown(redact(str(value)))}" for name, value in _facts(record).items()]
        line = printable(redact(" ".join(parts)))
        if record.exc_info:
            trace = redact(self.formatException(record.exc_info))
            line += "\n" + "\n".join("  | " + printable(part) for part in trace.splitlines())
        return line


class JsonFormatter(logging.Formatter):
    """The same as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "at_ms": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(redact(record.getMessage())),
        }
        for name, value in _facts(record).items():
            # each text by itself: taking a secret out of the finished line could break its form
            entry.setdefault(name, value if _is_plain(value) else printable(redact(str(value))))
        if record.exc_info:
            entry["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=True)


def _is_plain(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)  # JSON has no word for the others
    return value is None or isinstance(value, bool | int)


def _shown(text: str) -> str:
    return (
        text if text and not any(c in text for c in ' "=') else json.dumps(text, ensure_ascii=False)
    )


def configure(level: str, form: str, stream: TextIO | None = None) -> logging.Handler:
    """Send the daemon's log to ``stream`` (standard error). Returns the handler installed."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # their info lines carry whole URLs
    for noisy in ("httpx", "httpcore", "watchdog"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return handler

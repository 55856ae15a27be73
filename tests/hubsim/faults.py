"""Faults as data: which requests go wrong, and how.

A fault is `{"match": {...}, "do": {...}}`. For every request the list is gone through in order and
the first fault that fits and is not used up is applied. This module decides and changes requests
and responses; the lying itself is done by the server from `Delivery`. README.md lists the words.
"""

from __future__ import annotations

import fnmatch
import gzip
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tests.hubsim import messages
from tests.hubsim.bytes import BytesBody, read_all
from tests.hubsim.messages import Request, Response

_MATCH_WORDS = {
    "path", "regex", "method", "storage", "nth", "after", "times", "chance", "range",
}  # fmt: skip

MAINTENANCE = "We're adjusting a few things, be back in a few minutes…"
LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in</body></html>"
EDGE_PAGE = (
    "<html>\r\n<head><title>{code} {word}</title></head>\r\n<body>\r\n"
    "<center><h1>{code} {word}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
_EDGE_WORDS = {
    429: "Too Many Requests", 502: "Bad Gateway", 503: "Service Temporarily Unavailable",
    504: "Gateway Time-out", 520: "Unknown Error", 522: "Connection timed out",
    524: "A timeout occurred",
}  # fmt: skip
_BODIES: dict[int, object] = {
    401: {"error": "Unauthorized"},
    403: {"error": "Forbidden"},
    404: {"error": "Not found"},
    405: {"error": "Method not allowed"},
    410: {"error": "Model archived, not available for download"},
    451: {"error": "This service is not available in your region", "code": "REGION_BLOCKED"},
    500: {
        "error": "Internal Server Error",
        "message": "An unexpected error occurred",
        "code": "INTERNAL_SERVER_ERROR",
    },
}


@dataclass(slots=True)
class Fault:
    match: Mapping[str, object]
    do: Mapping[str, object]
    after: int
    times: int | None
    seen: int = 0
    used: int = 0

    @classmethod
    def of(cls, spec: Mapping[str, object]) -> Fault:
        """Read a fault; raises ValueError that says which word is not understood."""
        unknown = set(spec) - {"match", "do"}
        match, do = spec.get("match", {}), spec.get("do")
        if isinstance(do, str):
            do = {do: {}}
        if unknown or not isinstance(match, Mapping) or not isinstance(do, Mapping) or not do:
            raise ValueError(f'a fault is {{"match": {{...}}, "do": {{...}}}}, not {spec!r}')
        for word in set(match) - _MATCH_WORDS:
            raise ValueError(f"unknown word in match: {word}; known: {sorted(_MATCH_WORDS)}")
        for word in set(do) - set(_BEFORE) - set(_AFTER):
            raise ValueError(f"unknown fault: {word}; known: {sorted({*_BEFORE, *_AFTER})}")
        after, times = int(str(match.get("after", 0))), match.get("times", 1)
        if "nth" in match:
            after, times = int(str(match["nth"])) - 1, match.get("times", 1)
        if "chance" in match and "times" not in match:
            times = None
        # 0 and null mean: for ever.
        return cls(match, do, after, int(str(times)) if times else None)

    def fits(self, request: Request) -> bool:
        match = self.match
        if "storage" in match and bool(match["storage"]) != request.storage:
            return False
        if "method" in match and str(match["method"]).upper() != request.method:
            return False
        if "path" in match and not fnmatch.fnmatchcase(request.path, str(match["path"])):
            return False
        if "range" in match and bool(match["range"]) != (request.header("range") is not None):
            return False
        return "regex" not in match or bool(re.search(str(match["regex"]), request.target))

    def to_json(self) -> dict[str, object]:
        return {
            "match": dict(self.match),
            "do": dict(self.do),
            "seen": self.seen,
            "used": self.used,
        }


class Faults:
    """The script of one hub. Faults are consumed in the order they were added."""

    def __init__(self, specs: Iterable[Mapping[str, object]] = (), seed: int = 1) -> None:
        self._random = random.Random(seed)
        self.items = [Fault.of(spec) for spec in specs]

    def add(self, path: str | None = None, do: object = None, **match: object) -> Fault:
        """`add("/api/v1/models", {"status": 500}, times=2)`; a path may have * and ?."""
        if path is not None:
            match["path"] = path
        fault = Fault.of({"match": match, "do": do})
        self.items.append(fault)
        return fault

    def extend(self, specs: Iterable[Mapping[str, object]]) -> None:
        self.items += [Fault.of(spec) for spec in specs]

    def clear(self) -> None:
        self.items.clear()

    def take(self, request: Request) -> Fault | None:
        """The fault for this request, if any; counts it as used."""
        for fault in self.items:
            if not fault.fits(request):
                continue
            fault.seen += 1
            if fault.seen <= fault.after or (fault.times and fault.used >= fault.times):
                continue
            chance = fault.match.get("chance")
            if chance is not None and self._random.random() >= float(str(chance)):
                continue
            fault.used += 1
            return fault
        return None


def before(fault: Fault, request: Request) -> Response | None:
    """Let the fault change the request; a Response given back replaces the dialect's answer."""
    for word, args in fault.do.items():
        change = _BEFORE.get(word)
        response = change(request, args) if change else None
        if response is not None:
            return response
    return None


def after(fault: Fault, request: Request, response: Response) -> Response:
    for word, args in fault.do.items():
        change = _AFTER.get(word)
        if change:
            response = change(request, response, args)
    return response


# --- arguments: a bare value stands for the one that matters most ---------------------------------


def _get(args: object, name: str, default: object, *, main: bool = False) -> object:
    if isinstance(args, Mapping):
        return args.get(name, default)
    return args if main and args is not None and args is not True else default


def _int(args: object, name: str, default: int, *, main: bool = False) -> int:
    return int(str(_get(args, name, default, main=main)))


def _float(args: object, name: str, default: float, *, main: bool = False) -> float:
    return float(str(_get(args, name, default, main=main)))


# --- before the dialect answers -------------------------------------------------------------------


def _status(request: Request, args: object) -> Response:
    code = _int(args, "code", 500, main=True)
    body = _get(args, "body", None)
    if isinstance(body, str):
        response = messages.text(code, body)
    elif body is not None:
        response = messages.document(code, body)
    elif code in _EDGE_WORDS:
        response = messages.html(code, EDGE_PAGE.format(code=code, word=_EDGE_WORDS[code]))
    elif code in (204, 304):
        response = messages.raw(code, b"", "text/plain")
    else:
        response = messages.document(code, _BODIES.get(code, {"error": f"Status {code}"}))
    retry_after = _get(args, "retry_after", None)
    if retry_after is not None:
        response.set_header("Retry-After", str(retry_after))
    headers = _get(args, "headers", {})
    if isinstance(headers, Mapping):
        for name, value in headers.items():
            response.set_header(str(name), str(value))
    return response


def _html200(request: Request, args: object) -> Response:
    return messages.html(200, str(_get(args, "body", LOGIN_PAGE, main=True)))


def _maintenance(request: Request, args: object) -> Response:
    return messages.text(_int(args, "code", 200, main=True), MAINTENANCE)


def _redirect(request: Request, args: object) -> Response:
    to = str(_get(args, "to", "", main=True))
    headers = [("Location", to)] if to else []
    return messages.text(_int(args, "code", 302), "Redirecting", *headers)


def _redirect_loop(request: Request, args: object) -> Response:
    # A different address each time, so that only counting hops can end it.
    hop = int(request.arg("hop") or 0) + 1
    return messages.text(302, "Redirecting", ("Location", f"{request.path}?hop={hop}"))


def _hang_up(request: Request, args: object) -> Response:
    response = messages.text(200, "")
    response.delivery.hang_up = True
    response.delivery.reset = bool(_get(args, "reset", False))
    return response


def _garbage(request: Request, args: object) -> Response:
    response = messages.text(200, "")
    response.delivery.raw = str(_get(args, "bytes", "\x16\x03\x01 no HTTP", main=True)).encode()
    return response


def _ignore_range(request: Request, args: object) -> None:
    request.tweaks.ignore_range = True


def _etag_changes(request: Request, args: object) -> None:
    request.tweaks.etag_suffix = str(_get(args, "suffix", "-changed", main=True))
    if _get(args, "content", False):
        request.tweaks.flip = (0, 1 << 62)


def _bad_bytes(request: Request, args: object) -> None:
    request.tweaks.flip = (_int(args, "offset", 0, main=True), _int(args, "count", 1))


def _expire(request: Request, args: object) -> None:
    request.tweaks.expired = True


def _repeat_page(request: Request, args: object) -> None:
    request.tweaks.repeat_page = True


def _empty_page(request: Request, args: object) -> None:
    request.tweaks.empty_page = True


def _cursor_loop(request: Request, args: object) -> None:
    request.tweaks.cursor_loop = str(_get(args, "to", "same", main=True))


# --- after it answered ----------------------------------------------------------------------------


def _truncate(request: Request, response: Response, args: object) -> Response:
    size = response.body.size
    response.delivery.stop_after = min(size, _int(args, "after", size // 2, main=True))
    response.delivery.declared_length = size
    return response


def _cut(request: Request, response: Response, args: object) -> Response:
    _truncate(request, response, args)
    response.delivery.reset = True
    return response


def _stall(request: Request, response: Response, args: object) -> Response:
    seconds, at = _float(args, "seconds", 30, main=True), _get(args, "at", "before")
    if at == "before":
        response.delivery.stall_before_s = seconds
    else:
        response.delivery.stall_at = (0 if at == "headers" else int(str(at)), seconds)
    return response


def _slow(request: Request, response: Response, args: object) -> Response:
    response.delivery.bytes_per_second = _float(args, "bytes_per_second", 1000, main=True)
    chunk = _get(args, "chunk", None)
    response.delivery.chunk_size = int(str(chunk)) if chunk else None
    return response


def _wrong_content_range(request: Request, response: Response, args: object) -> Response:
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.header("Content-Range") or "")
    if response.status != 206 or found is None:
        return response
    first, last, total = map(int, found.groups())
    value = _get(args, "value", None)
    if value == "missing":
        response.set_header("Content-Range", None)
        return response
    shift, wrong_total = _int(args, "shift", 1), _int(args, "total", total)
    if "total" in (args if isinstance(args, Mapping) else ()) and value is None:
        shift = _int(args, "shift", 0)
    default = f"bytes {first + shift}-{last + shift}/{wrong_total}"
    response.set_header("Content-Range", str(value) if value else default)
    return response


def _multipart(request: Request, response: Response, args: object) -> Response:
    if response.status == 206:
        inner = read_all(response.body)
        where = response.header("Content-Range") or ""
        head = f"--sim\r\nContent-Range: {where}\r\n\r\n".encode()
        response.body = BytesBody(head + inner + b"\r\n--sim--\r\n")
        response.set_header("Content-Type", "multipart/byteranges; boundary=sim")
        response.set_header("Content-Range", None)
    return response


def _too_long(request: Request, response: Response, args: object) -> Response:
    extra = bytes(_int(args, "extra", 1000, main=True))
    if _get(args, "declare", False):
        response.body = BytesBody(read_all(response.body) + extra)
    else:
        response.delivery.extra = extra
        response.delivery.declared_length = response.body.size
    return response


def _endless(request: Request, response: Response, args: object) -> Response:
    response.delivery.endless = response.delivery.no_length = True
    return response


def _too_short(request: Request, response: Response, args: object) -> Response:
    keep = max(0, response.body.size - _int(args, "by", 1, main=True))
    response.body = BytesBody(read_all(response.body)[:keep])
    return response


def _no_length(request: Request, response: Response, args: object) -> Response:
    response.delivery.no_length = True
    response.delivery.stop_after = _int(args, "after", response.body.size, main=True)
    return response


def _truncated_json(request: Request, response: Response, args: object) -> Response:
    keep = _int(args, "keep", response.body.size // 2, main=True)
    response.body = BytesBody(read_all(response.body)[:keep])
    return response


def _gzip(request: Request, response: Response, args: object) -> Response:
    data, times = read_all(response.body), _int(args, "times", 1, main=True)
    bomb = _int(args, "bomb", 0)
    if bomb:
        data = bytes(bomb)
    for _ in range(times):
        data = gzip.compress(data, mtime=0)
    response.body = BytesBody(data)
    response.set_header("Content-Encoding", ", ".join(["gzip"] * times))
    return response


def _headers(request: Request, response: Response, args: object) -> Response:
    """`{"ETag": null, "Content-Disposition": "attachment; filename=../x"}`"""
    if isinstance(args, Mapping):
        for name, value in args.items():
            response.set_header(str(name), None if value is None else str(value))
    return response


def _body(request: Request, response: Response, args: object) -> Response:
    value = _get(args, "text", "", main=True)
    raw = value if isinstance(value, str) else json.dumps(value)
    response.body = BytesBody(raw.encode("utf-8", "surrogatepass"))
    return response


def _set_json(request: Request, response: Response, args: object) -> Response:
    """`{"items.0.id": "abc"}`: change values inside the JSON answer."""
    if response.status != 200 or not isinstance(args, Mapping):
        return response
    tree = json.loads(read_all(response.body))
    for where, value in args.items():
        at, keys = tree, str(where).split(".")
        try:
            for key in keys[:-1]:
                at = at[int(key)] if isinstance(at, list) else at[key]
            at[int(keys[-1]) if isinstance(at, list) else keys[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # that answer has no such place
    response.body = BytesBody(json.dumps(tree).encode())
    return response


_Before = Callable[[Request, object], Response | None]
_After = Callable[[Request, Response, object], Response]
_BEFORE: dict[str, _Before] = {
    "status": _status,
    "html200": _html200,
    "maintenance": _maintenance,
    "redirect": _redirect,
    "redirect_loop": _redirect_loop,
    "hang_up": _hang_up,
    "garbage": _garbage,
    "ignore_range": _ignore_range,
    "etag_changes": _etag_changes,
    "bad_bytes": _bad_bytes,
    "expire": _expire,
    "repeat_page": _repeat_page,
    "empty_page": _empty_page,
    "cursor_loop": _cursor_loop,
}
_AFTER: dict[str, _After] = {
    "truncate": _truncate,
    "cut": _cut,
    "stall": _stall,
    "slow": _slow,
    "wrong_content_range": _wrong_content_range,
    "multipart": _multipart,
    "too_long": _too_long,
    "too_short": _too_short,
    "endless": _endless,
    "no_length": _no_length,
    "truncated_json": _truncated_json,
    "gzip": _gzip,
    "headers": _headers,
    "body": _body,
    "set_json": _set_json,
}

"""What each fault does to a request or to its response.

A word of `FIRST` changes the request, or answers it in the hub's place; a word of `AFTERWARDS`
changes the response and how it is delivered. Which request is hit is decided in `faults.py`.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Mapping

from tests.hubsim import json_faults, messages
from tests.hubsim.bytes import BytesBody, read_all
from tests.hubsim.messages import Request, Response

MAINTENANCE = "We're adjusting a few things, be back in a few minutes…"
LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in</body></html>"
EDGE_PAGE = (
    "<html>\r\n<head><title>{code} {word}</title></head>\r\n<body>\r\n"
    "<center><h1>{code} {word}</h1></center>\r\n<hr><center>nginx</center>\r\n"
    "</body>\r\n</html>\r\n"
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
    own = request.refusal(request, code) if body is None else None
    if own is not None:
        response = own
    elif isinstance(body, str):
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


def _link_host(request: Request, response: Response, args: object) -> Response:
    """The next page is at another host, as behind a mirror that rewrites nothing."""
    link = response.header("Link")
    if link is not None:
        host = str(_get(args, "host", "https://huggingface.co", main=True))
        response.set_header("Link", re.sub(r"^<[a-z]+://[^/]+", f"<{host}", link))
    return response


First = Callable[[Request, object], Response | None]
Afterwards = Callable[[Request, Response, object], Response]
FIRST: dict[str, First] = {
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
AFTERWARDS: dict[str, Afterwards] = {
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
    "set_json": json_faults.set_json,
    "drop_json": json_faults.drop_json,
    "rename_json": json_faults.rename_json,
    "link_host": _link_host,
}

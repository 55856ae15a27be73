"""Byte ranges as storage servers answer them. Shared by the dialects; knows no hub."""

from __future__ import annotations

import re

from tests.hubsim.bytes import Body, FlippedBody, SliceBody
from tests.hubsim.messages import Request, Response


def span(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte, None for the whole file; a first byte past the end: unsatisfiable."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        count = int(found[2])
        return (max(0, size - count) if count else size, size - 1)
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if first >= size:
        return first, last
    return (first, last) if first <= last else None


def flipped(request: Request, body: Body) -> Body:
    """The body as a fault wants it: whole, or with some bytes inverted."""
    if not request.tweaks.flip:
        return body
    offset, count = request.tweaks.flip
    return FlippedBody(body, offset, min(count, body.size - offset))


def answer(
    request: Request,
    body: Body,
    headers: list[tuple[str, str]],
    validators: tuple[str, ...],
    unsatisfiable: Response,
) -> Response:
    """200, 206 or 416; `validators` are the values of If-Range that hold."""
    part: tuple[int, int] | None = None
    condition = request.header("if-range")
    if not request.tweaks.ignore_range and (condition is None or condition in validators):
        part = span(request.header("range"), body.size)
    if part is None:
        return Response(200, headers, body)
    first, last = part
    if first >= body.size:
        unsatisfiable.headers.append(("Content-Range", f"bytes */{body.size}"))
        return unsatisfiable
    headers.append(("Content-Range", f"bytes {first}-{last}/{body.size}"))
    return Response(206, headers, SliceBody(body, first, last + 1))

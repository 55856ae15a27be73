"""One answer of a hub, as the shape learner sees it: its status, some headers, some documents.

Pure. A list page is taken apart without parsing all of it: the envelope, and of the documents
those that are picked. What is no JSON is named for what it is and not looked into.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from modelkeepd.api_changes.shape import Node, Shape, add, address_parts, shape_of

# a page of a hundred models takes one to eight of these, a single document under one
MAX_PAGE_BYTES = 16 << 20
MAX_DOCUMENT_BYTES = 2 << 20
# an error's body is a sentence or two
MAX_ERROR_NODES = 60
MAX_SAMPLE_BYTES = 64 << 10

# how many documents there are -> which of them are looked at
Pick = Callable[[int], Sequence[int]]

_envelope = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])


class Heard(Protocol):
    """A whole answer of a hub; header names are lower case."""

    @property
    def hub(self) -> str: ...
    @property
    def operation(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...


class Seen(msgspec.Struct, frozen=True):
    """What was learnt of one answer, and some of its documents for examples."""

    status: str
    shape: Shape
    samples: tuple[bytes, ...] = ()


def see(answer: Heard, pick: Pick) -> Seen:
    """The shape of one answer. Never raises, whatever the hub sent."""
    status, body = str(answer.status), answer.body
    start = body[:64].lstrip()
    tree: dict[str, Node] = {"headers": shape_of(_headers(answer.headers))}
    samples: tuple[bytes, ...] = ()
    documents = 0
    if not start:
        status += " empty"
    elif not start.startswith((b"{", b"[")) or "html" in answer.headers.get("content-type", ""):
        status += " html" if start.startswith(b"<") else " text"
    elif len(body) > MAX_PAGE_BYTES:
        status += " huge"
    else:
        try:
            if answer.status == 200:
                tree["body"], documents, samples = _body(body, pick)
            else:
                tree["body"] = shape_of(_load(body), max_nodes=MAX_ERROR_NODES)
        except (ValueError, RecursionError):
            status += " broken"
    root = Node(docs=1, types={"object": 1}, keys=tree)
    return Seen(status, Shape({status: root}, answers=1, documents=documents), samples)


def _body(body: bytes, pick: Pick) -> tuple[Node, int, tuple[bytes, ...]]:
    """The body of a good answer, how many documents were looked at, and some of them."""
    if body.lstrip()[:1] == b"[":
        node = Node(docs=1, types={"array": 1})
        node.element, count, samples = _documents(_raws(body), pick)
        return node, count, samples
    envelope = _parts(body)
    items = envelope.pop("items", b"")
    if items[:1] != b"[":
        if len(body) <= MAX_DOCUMENT_BYTES:
            return shape_of(_load(body)), 1, (body,) if len(body) <= MAX_SAMPLE_BYTES else ()
        # a page whose items are called otherwise, perhaps: what is not there has to be seen
        if items:
            envelope["items"] = items
        return _frame(envelope), 1, ()
    node = _frame(envelope)
    inner = Node(docs=1, types={"array": 1})
    inner.element, count, samples = _documents(_raws(items), pick)
    node.keys["items"] = inner
    return node, count, samples


def _frame(members: Mapping[str, bytes]) -> Node:
    """An object's shape; of members of several MiB only that they are there."""
    return shape_of({key: _member(raw) for key, raw in members.items()})


def _member(raw: bytes) -> Any:
    if len(raw) <= MAX_DOCUMENT_BYTES:
        return _load(raw)
    # no number is as long as this, and no word
    stand_ins: dict[bytes, Any] = {b"{": {}, b"[": []}
    return stand_ins.get(raw[:1], " " * 100)


def _documents(raws: Sequence[bytes], pick: Pick) -> tuple[Node | None, int, tuple[bytes, ...]]:
    chosen = [raws[i] for i in pick(len(raws))]
    taken = [raw for raw in chosen if len(raw) <= MAX_DOCUMENT_BYTES]
    if not taken:
        return None, 0, ()
    whole = Node()
    for raw in taken:
        add(whole, shape_of(_load(raw)))
    small = tuple(raw for raw in taken if len(raw) <= MAX_SAMPLE_BYTES)
    return whole, len(taken), small[:3]


def _raws(array: bytes) -> list[bytes]:
    try:
        return [bytes(raw) for raw in _array.decode(array)]
    except (msgspec.MsgspecError, RecursionError):
        return [json.dumps(item).encode() for item in json.loads(array)]


def _parts(body: bytes) -> dict[str, bytes]:
    try:
        return {key: bytes(raw) for key, raw in _envelope.decode(body).items()}
    except (msgspec.MsgspecError, RecursionError):
        # NaN or a lone surrogate somewhere
        return {key: json.dumps(value).encode() for key, value in json.loads(body).items()}


def _load(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return json.loads(raw)


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those that say something about the API, without what differs from answer to answer."""
    kept = {}
    content_type = headers.get("content-type")
    if content_type is not None:
        kept["content-type"] = content_type.partition(";")[0].strip().lower()
    for name in ("ratelimit-policy", "x-error-code"):
        if name in headers:
            kept[name] = headers[name]
    if "link" in headers:
        # the address of the next page: where it is, and what it asks for
        address = headers["link"].partition("<")[2].partition(">")[0]
        kept["link"] = "?".join(address_parts(address))
    if "retry-after" in headers:
        kept["retry-after"] = "seconds" if headers["retry-after"].isdecimal() else "date"
    return kept

"""The learnt shape of an endpoint's answers: what stands where, of which types, how often.

Pure. A ``Node`` counts documents, not occurrences: a field is there in a document or it is not,
however many files that document lists. Adding shapes is associative and commutative, and a shape
is nothing but the sum of the shapes of its documents, so the order in which answers come does not
matter. Texts are kept only where few of them occur (enumerations); of addresses the host and the
names in the query, of cursors their form.

Everything has a bound, since the documents are a stranger's: an object with many keys is a map,
and so is a place whose objects show ever new ones; a map's values are learnt as one. What lies too
deep is only counted.
"""

import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Optional

import msgspec

# An object that shows more keys than this holds data in its keys. The richest real one has 27.
MAX_KEYS = 128
MAX_KEY_CHARS = 80
MAX_DEPTH = 12
MAX_ELEMENTS = 20  # of one array in one document
MAX_VALUES = 64  # different texts of one field
MAX_VALUE_CHARS = 48
MAX_DOCUMENT_NODES = 2_000
MAX_NODES = 4_000  # of one whole shape
MAX_STATUSES = 48
MAX_BLOB_BYTES = 16 << 20

# the names of a node's sets
VALUES, HOSTS, QUERIES, FORMS = "values", "hosts", "queries", "forms"

# what people or tools write into these is of any form and none of our business
OPAQUE = frozenset({"meta", "cardData", "config", "widgetData", "model-index", "evalResults"})
# their keys are data, however few there are
MAPS = frozenset({"parameters", "inferenceProviderMapping"})
# texts of people
FREE = frozenset({
    "description", "name", "title", "username", "author", "tags", "trainedWords", "rfilename",
    "modelId", "id", "_id", "sha", "hash", "message", "pickleScanMessage", "virusScanMessage",
    "overrideName", "fullname", "base_model",
})  # fmt: skip
CURSORS = frozenset({"nextCursor", "cursor"})

_LETTERS, _DIGITS = re.compile(r"[A-Za-z]+"), re.compile(r"[0-9]+")

# dates and digests: never a word of a list
_NO_WORD = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9A-Fa-f]{8,}$")

Values = dict[str, int]


class Node(msgspec.Struct):
    """One place in an answer.

    ``docs`` documents have something there; ``types`` counts them by what it is. ``keys`` are the
    children of objects, ``any_key`` the sum of the children of maps, ``element`` what arrays hold.
    ``is_map``: so many keys came together that the objects are no others. A set is None once it
    has overflowed.
    """

    docs: int = 0
    types: dict[str, int] = {}
    keys: dict[str, "Node"] = {}
    any_key: Optional["Node"] = None
    is_map: bool = False
    element: Optional["Node"] = None
    sets: dict[str, Values | None] = {}


class Shape(msgspec.Struct):
    """What one endpoint answers: a tree per status, ``headers`` and ``body`` below its root.

    A status stands by its number; with a word behind it where the body is no JSON ("503 html").
    """

    statuses: dict[str, Node] = {}
    answers: int = 0
    documents: int = 0


def shape_of(value: object, *, name: str = "", max_nodes: int = MAX_DOCUMENT_NODES) -> Node:
    """The shape of one document: every count is 1, but below collapsed maps."""
    node = Node()
    _See(max_nodes).see(node, value, name, 0)
    _close_maps(node)
    return node


class _See:
    """Walks one document, with as many nodes as it may make."""

    def __init__(self, nodes_left: int) -> None:
        self._left = nodes_left

    def see(self, node: Node, value: object, name: str, depth: int) -> None:
        node.docs = 1
        if value is None:
            node.types["null"] = 1
        elif isinstance(value, str):
            node.types["string"] = 1
            _see_text(node.sets, value, name)
        elif isinstance(value, bool):
            node.types["bool"] = 1
        elif isinstance(value, int):
            node.types["int"] = 1
        elif isinstance(value, float):
            node.types["float"] = 1
        elif isinstance(value, dict):
            node.types["object"] = 1
            if name in MAPS or len(value) > MAX_KEYS or any(len(k) > MAX_KEY_CHARS for k in value):
                node.is_map = True
            if depth < MAX_DEPTH and name not in OPAQUE:
                self._see_keys(node, value, depth)
        elif isinstance(value, list):
            node.types["array"] = 1
            if depth < MAX_DEPTH and name not in OPAQUE and value:
                if node.element is None:
                    if self._left <= 0:
                        return
                    self._left -= 1
                    node.element = Node()
                for item in value[:MAX_ELEMENTS]:
                    self.see(node.element, item, name, depth + 1)

    def _see_keys(self, node: Node, value: dict[Any, Any], depth: int) -> None:
        for name, inner in value.items():
            key = _clean(name[:MAX_KEY_CHARS])
            child = node.keys.get(key)
            if child is None:
                if self._left <= 0:
                    return
                self._left -= 1
                child = node.keys[key] = Node()
            self.see(child, inner, key, depth + 1)


def _see_text(sets: dict[str, Values | None], value: str, name: str) -> None:
    if name in FREE:
        return
    if name in CURSORS:
        _note(sets, FORMS, form_of(value))
    elif value.startswith(("https://", "http://")):
        host, query = address_parts(value)
        _note(sets, HOSTS, host)
        _note(sets, QUERIES, query)
    elif len(value) > MAX_VALUE_CHARS or _NO_WORD.match(value):
        sets[VALUES] = None
    else:
        _note(sets, VALUES, value)


def _note(sets: dict[str, Values | None], name: str, value: str) -> None:
    found = sets.setdefault(name, {})
    if found is not None:
        found[_clean(value)] = 1
        if len(found) > MAX_VALUES:
            sets[name] = None


def _clean(text: str) -> str:
    """Without lone surrogates, which nothing can write down."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def form_of(cursor: str) -> str:
    """A cursor's form: ``9|9|9`` for three numbers. Long ones are ``opaque``."""
    if len(cursor) > MAX_VALUE_CHARS:
        return "opaque"
    return _LETTERS.sub("a", _DIGITS.sub("9", cursor))


def address_parts(url: str) -> tuple[str, str]:
    """The host of an address, and the names in its query in order, as ``a&b``."""
    rest = url[:2_000].partition("://")[2].partition("#")[0]
    place, _, query = rest.partition("?")
    host = place.partition("/")[0].rpartition("@")[2].partition(":")[0]
    names = sorted({part.partition("=")[0][:40] for part in query.split("&") if part})
    return host[:MAX_VALUE_CHARS].lower(), "&".join(names[:20])


def _close_maps(node: Node) -> None:
    """In one document's shape: the maps found become maps, of a type of their own."""
    if node.is_map:
        # a document may hold both here, in the elements of an array
        node.types["map"] = node.types.pop("object", 1)
        _collapse(node)
        node.is_map = False
    for child in _children(node):
        _close_maps(child)


def _collapse(node: Node) -> None:
    """All children become one. Always their sum: the result may not depend on when it is done."""
    whole = node.any_key or Node()
    for child in node.keys.values():
        add(whole, child)
    node.any_key, node.keys = whole, {}


def add(into: Node, other: Node) -> None:
    """Add ``other`` to ``into``. ``other`` stays as it is and shares nothing with it."""
    into.docs += other.docs
    for kind, count in other.types.items():
        into.types[kind] = into.types.get(kind, 0) + count
    if other.sets:
        _add_sets(into.sets, other.sets)
    if other.element is not None:
        if into.element is None:
            into.element = Node()
        add(into.element, other.element)
    if other.any_key is not None:
        if into.any_key is None:
            into.any_key = Node()
        add(into.any_key, other.any_key)
    for key, child in other.keys.items():
        mine = into.keys.get(key)
        if mine is None:
            mine = into.keys[key] = Node()
        add(mine, child)
    if into.is_map or other.is_map or len(into.keys) > MAX_KEYS:
        into.is_map = True
        _collapse(into)


def _add_sets(into: dict[str, Values | None], other: dict[str, Values | None]) -> None:
    for name, values in other.items():
        mine = into.setdefault(name, {})
        if values is None:
            into[name] = None
        elif mine is not None:
            for value, count in values.items():
                mine[value] = mine.get(value, 0) + count
            if len(mine) > MAX_VALUES:
                into[name] = None


def add_shape(into: Shape, other: Shape) -> None:
    """Add one endpoint's shape to another of the same endpoint, within the bounds."""
    into.answers += other.answers
    into.documents += other.documents
    for status, node in other.statuses.items():
        mine = into.statuses.get(status)
        if mine is None:
            if len(into.statuses) >= MAX_STATUSES:
                continue
            mine = into.statuses[status] = Node()
        add(mine, node)
    _bound(into)


def merged(*shapes: Shape) -> Shape:
    """The sum of shapes, as a new one."""
    whole = Shape()
    for shape in shapes:
        add_shape(whole, shape)
    return whole


def nodes_of(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for child in _children(node):
        yield from nodes_of(child)


def _children(node: Node) -> Iterable[Node]:
    yield from node.keys.values()
    if node.element is not None:
        yield node.element
    if node.any_key is not None:
        yield node.any_key


def _bound(shape: Shape) -> None:
    """Cut the deepest levels until the whole has at most MAX_NODES."""
    depth = MAX_DEPTH + 4
    while depth > 1 and sum(1 for root in shape.statuses.values() for _ in nodes_of(root)) > (
        MAX_NODES
    ):
        depth -= 1
        for root in shape.statuses.values():
            _cut(root, depth)


def _cut(node: Node, levels: int) -> None:
    if levels == 0:
        node.keys, node.element, node.any_key = {}, None, None
        return
    for child in _children(node):
        _cut(child, levels - 1)


def halve(shape: Shape) -> None:
    """Let the past count half, so that a shape can follow its endpoint through the years."""
    shape.answers = (shape.answers + 1) // 2
    shape.documents = (shape.documents + 1) // 2
    for root in shape.statuses.values():
        scale(root, 1, 2)


def scale(node: Node, times: int, by: int) -> None:
    """Let a node and all below count ``times / by`` of what they do; nothing seen becomes none."""
    for each in nodes_of(node):
        each.docs = -(-each.docs * times // by)
        each.types = {kind: -(-count * times // by) for kind, count in each.types.items()}
        for values in each.sets.values():
            if values is not None:
                values.update({value: -(-n * times // by) for value, n in values.items()})


def encode(shape: Shape) -> bytes:
    """The bytes a shape is kept as."""
    return zlib.compress(msgspec.json.encode(shape), 6)


def decode(blob: bytes) -> Shape:
    """The shape in these bytes. Raises ValueError when there is none."""
    try:
        inflate = zlib.decompressobj()
        text = inflate.decompress(blob, MAX_BLOB_BYTES)
        if not inflate.eof:
            raise ValueError("a kept shape is cut off or too large")
        return msgspec.json.decode(text, type=Shape)
    except (zlib.error, msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(f"a kept shape can't be read: {exc}") from exc

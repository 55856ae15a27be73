"""Places in shapes: found by their path, forgotten, dated back.

Pure. A path begins at an answer's root; one of another status than 200 begins with that status and
a colon.
"""

from collections.abc import Collection

from modelkeepd.api_changes.compare import GOOD
from modelkeepd.api_changes.reads import BODY, ELEMENT, Path
from modelkeepd.api_changes.shape import Node, Shape, nodes_of, scale


def document_place(shape: Shape) -> Path:
    """Where documents stand in this answer: the elements of a page, or all of it."""
    body = find(shape.statuses[GOOD], BODY) if GOOD in shape.statuses else None
    if body is not None and body.element is not None:
        return (*BODY, ELEMENT)
    is_page = body is not None and (items := body.keys.get("items")) and items.element is not None
    return (*BODY, "items", ELEMENT) if is_page else BODY


def find(node: Node, path: Path) -> Node | None:
    """What stands at a path below this node."""
    found: Node | None = node
    for part in path:
        if found is None:
            return None
        found = found.element if part == ELEMENT else found.keys.get(part)
    return found


def place_in(shape: Shape, path: Path) -> Node | None:
    """What stands at a path of a shape."""
    status, inner = _split(path)
    root = shape.statuses.get(status)
    return None if root is None else find(root, inner)


def backdate(shape: Shape, window: Shape, path: Path) -> None:
    """Let a new field have been there always, as often as it is in the window.

    The version is that of documents which have it; those before would make it look rare.
    """
    parent, before = place_in(shape, path[:-1]), place_in(window, path[:-1])
    node = place_in(shape, path)
    if parent is not None and before is not None and node is not None:
        total, seen = parent.types.get("object", 0), before.types.get("object", 0)
        if 0 < seen < total:
            scale(node, total, seen)


def retype(shape: Shape, window: Shape, path: Path) -> None:
    """Let a field have been always of the types that it has now: the version is of those."""
    node, now = place_in(shape, path), place_in(window, path)
    if node is not None and now is not None and now.docs:
        node.types = {kind: -(-n * node.docs // now.docs) for kind, n in now.types.items()}


def _split(path: Path) -> tuple[str, Path]:
    """The status, and the path below it."""
    return (path[0][:-1], path[1:]) if path[:1] and path[0].endswith(":") else (GOOD, path)


def forget(shape: Shape, path: Path) -> None:
    """Take a place out of a shape, so that whatever comes there is new."""
    status, inner = _split(path)
    if not inner:
        return
    parent = place_in(shape, path[:-1]) if len(inner) > 1 else shape.statuses.get(status)
    if parent is None:
        return
    if inner[-1] == ELEMENT:
        parent.element = None
    else:
        parent.keys.pop(inner[-1], None)


def leave_out_new(old: Node, new: Node, path: Path, but: Collection[Path], enough: int) -> None:
    """Take out of ``new`` what ``old`` had not in ``enough`` documents, except the places ``but``.

    Fields, types, and values of sets.
    """
    if path not in but and old.docs >= enough:
        new.types = {kind: n for kind, n in new.types.items() if kind in old.types}
        for name, values in new.sets.items():
            known = old.sets.get(name, {})
            if values is not None and known is not None:
                new.sets[name] = {value: n for value, n in values.items() if value in known}
    is_known = old.types.get("object", 0) >= enough
    for key, child in list(new.keys.items()):
        mine, place = old.keys.get(key), (*path, key)
        if mine is not None:
            leave_out_new(mine, child, place, but, enough)
        elif is_known and place not in but:
            del new.keys[key]
    if old.element is not None and new.element is not None:
        leave_out_new(old.element, new.element, (*path, ELEMENT), but, enough)


def size_of(shape: Shape) -> int:
    """How many places a shape knows."""
    return sum(1 for root in shape.statuses.values() for _ in nodes_of(root))

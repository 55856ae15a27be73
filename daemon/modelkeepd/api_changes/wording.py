"""What a change means for people, in a sentence or two: what modelkeep does, what they may do.

Pure. Also owns what of a stranger's document may be shown as an example: little, on one line,
without secrets.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from modelkeepd.logs import printable, redact

MAX_EXAMPLE_CHARS = 200

_ELEMENT, _ANY_KEY = "[]", "{}"

_FIRST = {
    "field_added": "The hub sends a new field, {path}.",
    "field_gone": "The hub has stopped sending {path}.",
    "field_rarer": "The hub often leaves out {path}, which used to be always there.",
    "type_changed": "The hub sends {path} in another form.",
    "became_nullable": "The hub sometimes sends {path} empty.",
    "enum_value_new": "There is a new value for {path}.",
    "status_new": "The hub has begun to answer with a status it had not used here.",
    "header_changed": "A header of the answers has changed: {path}.",
    "url_shape_changed": "The addresses in {path} have another host or other parameters.",
    "cursor_changed": "The marks that lead from page to page look different ({path}).",
    "envelope_changed": "The frame around the hub's answers has changed: {path}.",
    "endpoint_new": "The hub's own description lists something new: {path}.",
}

_THEN = {
    "harmless": "modelkeep does not depend on it and keeps the whole document; nothing to do.",
    "adopted": "modelkeep takes it as it is now; nothing to do.",
    "degraded": "modelkeep goes on without it or with what it can still read, and keeps the whole"
    " document, so that a newer version can read it later: look for an update.",
    "breaking": "modelkeep can't read these answers, so it has stopped asking for them; the catalog"
    " stays as it is. It looks from time to time and goes on by itself when the old form is back."
    " Look for an update; to go on regardless, accept the change.",
}

_SPECIAL = {
    ("status_new", "harmless"): "Such answers come and go; modelkeep waits or asks again as that"
    " status demands. Nothing to do.",
    ("status_new", "degraded"): "If it lasts, see whether the hub needs a token, is being repaired,"
    " or refuses this address; modelkeep keeps what it has meanwhile.",
    ("cursor_changed", "degraded"): "modelkeep passes them on as they are. If the order can't be"
    " told from them any more, a crawl may need another pass to be complete.",
    ("enum_value_new", "adopted"): "modelkeep has registered it and searches by it; nothing to do.",
    ("endpoint_new", "harmless"): "modelkeep does not use it; a newer version may.",
}


def suggestion(kind: str, severity: str, role: str, path: str) -> str:
    """The sentences for one change."""
    then = _SPECIAL.get((kind, severity)) or _THEN[severity]
    if severity == "degraded" and role == "essential":
        then += " Should it vanish for good, this part of the hub's API is paused."
    return f"{_FIRST[kind].format(path=path)} {then}"


def tidy(text: str, limit: int = MAX_EXAMPLE_CHARS) -> str:
    """Foreign text for people: no secrets, one line, bounded."""
    clean = printable(redact(text[: limit * 4]))
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def example_of(samples: Sequence[bytes], path: Sequence[str], *, is_gone: bool = False) -> str:
    """What stands at a path of a document in one of these; of a missing one, what stands around.

    ``path`` begins at the document. ``is_gone``: documents that still have it are no examples.
    Empty when no sample helps.
    """
    around = ""
    for raw in samples:
        try:
            document = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            continue
        found = list(_at(document, path))
        if found and is_gone:
            continue
        if found:
            return tidy(_text(found[0]))
        if not around and path:
            parents = list(_at(document, path[:-1]))
            around = f"without it: {_text(parents[0])}" if parents else ""
    return tidy(around)


def _at(value: Any, path: Sequence[str]) -> list[Any]:
    places = [value]
    for part in path:
        inner: list[Any] = []
        for place in places:
            if part == _ELEMENT and isinstance(place, list):
                inner += place
            elif part == _ANY_KEY and isinstance(place, dict):
                inner += place.values()
            elif isinstance(place, dict) and part in place:
                inner.append(place[part])
        places = inner[:50]
    return places


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode("utf-8", "replace")

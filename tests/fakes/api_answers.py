"""Hubs' answers for the detector of API changes: recorded documents, changed at will."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from modelkeepd.api_changes.answer import see
from modelkeepd.api_changes.shape import Shape, merged
from modelkeepd.hubs.host import Sample

Json = dict[str, Any]
FIXTURES = Path(__file__).parents[1] / "fixtures"
JSON_HEADERS = {"content-type": "application/json; charset=utf-8"}
CURSOR = "37169|338034|122359"


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def recorded(pattern: str, hub: str = "civitai") -> list[Json]:
    """The documents in the recordings that match, those of whole pages one by one."""
    found: list[Json] = []
    for path in sorted((FIXTURES / hub).glob(pattern)):
        document = json.loads(_text(path))
        found += document.get("items", [document])
    assert found, pattern
    return found


def a_model(number: int = 1, change: Callable[[Json], object] = lambda _: None) -> Json:
    """A list item of 2025, small, with an id of its own, changed by ``change``."""
    model = recorded("model-list-item-2025-07-1803319*")[0]
    model["id"] = 1_000_000 + number
    change(model)
    return model


def answer(
    body: object,
    *,
    hub: str = "civitai",
    operation: str = "list",
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Sample:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Sample(hub, operation, status, JSON_HEADERS if headers is None else headers, raw)


def page(items: Sequence[Json], metadata: Json | None = None) -> Sample:
    """A list page of CivitAI."""
    where = {"nextCursor": CURSOR} if metadata is None else metadata
    return answer({"items": items, "metadata": where})


def pages(
    count: int, change: Callable[[Json], object] = lambda _: None, size: int = 3
) -> list[Sample]:
    """So many pages of a crawl in which every model is changed alike."""
    return [page([a_model(n * size + i, change) for i in range(size)]) for n in range(count)]


def learnt(samples: Iterable[Sample]) -> Shape:
    """The shape of these answers, all of their documents looked at."""
    return merged(*(see(sample, range).shape for sample in samples))

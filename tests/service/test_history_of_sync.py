"""What sync writes down is what the history tells: from documents to changes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modelkeepd.catalog.history import KEYFRAME_EVERY, HistoryPage, history_page
from modelkeepd.hubs.contract import parse_model
from modelkeepd.hubs.reference import parse_reference
from tests.fakes.catalogs import Home, civitai, huggingface, open_home

START_MS = 1_750_000_000_000


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with open_home(tmp_path / "home") as opened:
        yield opened


async def page_of(home: Home, ref: str, **options: bool) -> HistoryPage:
    return await home.store.read(
        lambda db: history_page(
            db, parse_reference(ref), home.codec, parse_model, limit=200, **options
        )
    )


def told(page: HistoryPage) -> list[tuple[float, str, object, object]]:
    return [((c.at_ms - START_MS) / 1000, c.what, c.before, c.after) for c in page.items]


async def test_a_life_on_the_hub_with_ids(home: Home) -> None:
    await home.sync("civitai", civitai(1))
    await home.sync("civitai", civitai(1, stats={"downloadCount": 50}))
    await home.sync("civitai", civitai(1, stats={"downloadCount": 60}, allowNoCredit=False))
    await home.sync("civitai", civitai(1, name="Castle", mode="Archived"))
    await home.vanish("civitai", "1")
    await home.sync("civitai", civitai(1, name="Castle"))
    page = await page_of(home, "civitai:1")
    assert told(page) == [
        (6.0, "back on the hub", None, "back"),
        (6.0, "state", "archived", "listed"),
        (5.0, "gone from the hub: 404", None, "gone"),
        (4.0, "archived by its creator", "listed", "archived"),
        (4.0, "name", "Model 1", "Castle"),
        (4.0, "allowNoCredit", False, None),
        (3.0, "allowNoCredit", None, False),
        (1.0, "first seen", None, None),
    ]
    assert [(s.name, s.before, s.after) for s in page.statistics] == [("downloads", 1, 1)]


async def test_a_life_on_the_hub_with_names(home: Home) -> None:
    def siblings(size: int) -> list[dict[str, object]]:
        return [{"rfilename": "a.gguf", "size": size}]

    await home.sync("huggingface", huggingface(1))
    await home.details("huggingface", huggingface(1, siblings=siblings(1)))
    await home.sync("huggingface", huggingface(1, id="new/name", sha="f" * 40))
    await home.details(
        "huggingface", huggingface(1, id="new/name", sha="f" * 40, siblings=siblings(2))
    )
    for ref in ("hf:new/name", "hf:org/model-1"):
        page = await page_of(home, ref)
        assert page.ref == "hf:new/name"
        assert told(page) == [
            (4.0, "file replaced", {"name": "a.gguf", "size_bytes": 1},
             {"name": "a.gguf", "size_bytes": 2}),
            (3.0, "reference", "org/model-1", "new/name"),
            (3.0, "creator", "org", "new"),
            (3.0, "commit", f"{1:040x}", "f" * 40),
            (1.0, "first seen", None, None),
        ]  # fmt: skip


async def test_years_of_daily_counters_stay_readable_and_small(home: Home) -> None:
    states = [civitai(1, stats={"downloadCount": n}, description="x" * 900) for n in range(100)]
    for state in states:
        await home.sync("civitai", state)
    found = await home.history("civitai", "1")
    assert [raw for _, raw in found] == states[::-1]
    rows = await home.store.read(
        lambda db: db.execute("SELECT is_delta, length(raw) FROM revision").fetchall()
    )
    assert [is_delta for is_delta, _ in rows].count(0) == 99 // KEYFRAME_EVERY
    assert all(size < 60 for is_delta, size in rows if is_delta)
    page = await page_of(home, "civitai:1")
    assert told(page) == [(1.0, "first seen", None, None)]
    assert [(s.name, s.before, s.after) for s in page.statistics] == [("downloads", 0, 99)]

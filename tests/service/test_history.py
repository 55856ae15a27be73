"""A model's history over a real store: chains of deltas, damage in them, pages of changes."""

import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from modelkeepd.catalog.errors import ModelNotFound
from modelkeepd.catalog.history import (
    KEYFRAME_EVERY,
    HistoryPage,
    history,
    history_page,
    wants_keyframe,
)
from modelkeepd.hubs.contract import parse_model
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.hubs.reference import parse_reference
from modelkeepd.store import Durability, Store, Tx, open_store

CODEC = DocumentCodec()
REF = parse_reference("civitai:1")


def document(**fields: Any) -> bytes:
    return json.dumps({"id": 1, "name": "Castle", "type": "LORA", **fields}).encode()


def state(n: int) -> bytes:
    """A model whose counter moves each time, and whose name does each tenth time."""
    return document(name=f"Castle {n // 10}", stats={"downloadCount": n}, description="stone " * 50)


def put(tx: Tx, documents: Sequence[bytes], kind: str = "model") -> None:
    """A model that had these documents, one each second, the last being the present one."""
    table = {"model": "document", "detail": "detail_document"}[kind]
    tx.db.execute(
        "INSERT OR IGNORE INTO model (model_key, hub, hub_id, ref_id, name, type, base_models,"
        " tags, hub_state, first_seen_ms, seen_ms, changed_seq, doc_hash)"
        " VALUES (1, 'civitai', '1', '1', 'Castle', 'LORA', '[]', '[]', 'listed', 1000, 0, 0, x'')"
    )
    for n, (old, new) in enumerate(pairwise(documents)):
        whole = wants_keyframe(n)
        raw = CODEC.compress(old, None) if whole else CODEC.delta(old, new)
        tx.db.execute(
            "INSERT INTO revision (model_key, kind, is_delta, raw, seen_ms, replaced_ms)"
            " VALUES (1, ?, ?, ?, ?, ?)",
            (kind, not whole, raw, 1000 * (n + 1), 1000 * (n + 2)),
        )
    tx.db.execute(
        f"REPLACE INTO {table} VALUES (1, NULL, ?, ?)",
        (CODEC.compress(documents[-1], None), 1000 * len(documents)),
    )


def fact(tx: Tx, at_ms: int, kind: str, detail: dict[str, object]) -> None:
    tx.db.execute(
        "INSERT INTO model_fact (model_key, at_ms, kind, detail) VALUES (1, ?, ?, ?)",
        (at_ms, kind, json.dumps(detail)),
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "m.db") as opened:
        yield opened


async def write(store: Store, *units: Any) -> None:
    for unit in units:
        await store.apply(unit, durability=Durability.NORMAL, name="test")


async def page_of(store: Store, **options: Any) -> HistoryPage:
    return await store.read(lambda db: history_page(db, REF, CODEC, parse_model, **options))


async def revisions_of(store: Store, **options: Any) -> list[Any]:
    return await store.read(lambda db: history(db, CODEC, 1, **options))


async def test_every_state_comes_back_newest_first(store: Store) -> None:
    states = [state(n) for n in range(100)]
    await write(store, partial(put, documents=states))
    found = await revisions_of(store, limit=200)
    assert [r.raw for r in found] == states[::-1]
    assert [r.seen_ms for r in found] == [1000 * n for n in range(100, 0, -1)]
    assert found[0].replaced_ms is None
    assert found[0].revision_id is None


async def test_pages_of_states_join_without_a_gap(store: Store) -> None:
    states = [state(n) for n in range(100)]
    await write(store, partial(put, documents=states))
    found = await revisions_of(store, limit=7)
    while len(found) < 100:
        found += await revisions_of(store, limit=7, before=found[-1].revision_id)
    assert [r.raw for r in found] == states[::-1]
    assert await revisions_of(store, limit=7, before=found[-1].revision_id) == []


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
async def test_a_damaged_delta_costs_no_more_than_up_to_the_next_whole_one(
    store: Store, damage: bytes | None
) -> None:
    states = [state(n) for n in range(100)]
    await write(store, partial(put, documents=states))

    def break_one(tx: Tx) -> None:
        if damage is None:  # another revision's: a valid frame, the wrong content
            tx.db.execute(
                "UPDATE revision SET raw = (SELECT raw FROM revision WHERE revision_id = 3)"
                " WHERE revision_id = 81"
            )
        else:
            tx.db.execute("UPDATE revision SET raw = ? WHERE revision_id = 81", (damage,))

    await write(store, break_one)
    found = await revisions_of(store, limit=200)
    by_id = {r.revision_id: r.raw for r in found}
    lost = [n for n, raw in by_id.items() if raw is None]
    # 64 is whole: the last of the second stretch of 32
    assert lost == list(range(81, 2 * KEYFRAME_EVERY, -1))
    assert all(by_id[n] == states[n - 1] for n in range(1, 100) if n not in lost)
    page = await page_of(store, limit=200)
    assert page.damaged
    damaged = [item for item in page.items if item.kind == "damaged"]
    assert [(item.at_ms, item.seen_ms) for item in damaged] == [(82_000, 81_000)]
    names = [item.after for item in page.items if item.kind == "name"]
    assert names == ["Castle 9", "Castle 6", "Castle 5", "Castle 4", "Castle 3", "Castle 2",
                     "Castle 1"]  # fmt: skip


async def test_a_lost_present_document_hides_only_what_hangs_on_it(store: Store) -> None:
    await write(store, partial(put, documents=[state(n) for n in range(100)]))
    await write(store, lambda tx: tx.db.execute("DELETE FROM document"))
    page = await page_of(store, limit=200)
    assert page.damaged
    assert next(item.after for item in page.items if item.kind == "name") == "Castle 9"


async def test_counters_are_summed_up_and_listed_on_demand(store: Store) -> None:
    await write(store, partial(put, documents=[state(n) for n in range(35)]))
    page = await page_of(store)
    assert [(i.at_ms, i.kind, i.before, i.after) for i in page.items] == [
        (31_000, "name", "Castle 2", "Castle 3"),
        (21_000, "name", "Castle 1", "Castle 2"),
        (11_000, "name", "Castle 0", "Castle 1"),
        (1_000, "state", None, None),
    ]
    assert [(s.name, s.before, s.after, s.since_ms, s.until_ms) for s in page.statistics] == [
        ("downloads", 0, 34, 1_000, 35_000)
    ]
    page = await page_of(store, statistics=True)
    assert sum(item.kind == "statistics" for item in page.items) == 34
    assert not page.damaged
    assert page.next_before_ms is None


async def test_pages_of_changes_join_without_a_gap(store: Store) -> None:
    await write(store, partial(put, documents=[state(n) for n in range(100)]))
    whole = (await page_of(store, limit=1_000, statistics=True)).items
    found, before_ms = [], None
    while True:
        page = await page_of(store, limit=7, statistics=True, before_ms=before_ms)
        found += page.items
        if page.next_before_ms is None:
            break
        before_ms = page.next_before_ms
    assert found == whole


async def test_a_page_ends_after_so_many_documents_and_says_where_to_go_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelkeepd.catalog.history.MAX_READ", 4)
    states = [document(stats={"downloadCount": n}) for n in range(20)]
    await write(store, partial(put, documents=[document(name="Before"), *states]))
    found, pages, before_ms = [], 0, None
    while True:
        page = await page_of(store, before_ms=before_ms)
        found += page.items
        pages += 1
        if page.next_before_ms is None:
            break
        assert before_ms is None or page.next_before_ms < before_ms
        before_ms = page.next_before_ms
    assert [(item.kind, item.after) for item in found] == [("name", "Castle"), ("state", None)]
    assert pages > 4


async def test_dated_facts_stand_among_the_changes_once(store: Store) -> None:
    documents = [document(), document(mode="Archived"), document(mode="Archived", name="Keep")]
    await write(store, partial(put, documents=documents))
    await write(
        store,
        lambda tx: fact(tx, 2_000, "archived", {"from": "listed"}),
        lambda tx: fact(tx, 9_000, "gone", {"reason": "404 for a week"}),
        lambda tx: fact(tx, 500, "back", {}),  # from another home's snapshot
    )
    await write(store, lambda tx: fact(tx, 9_500, "unheard-of", {}))
    page = await page_of(store)
    assert [(i.at_ms, i.kind, i.what, i.before, i.after) for i in page.items] == [
        (9_500, "state", "unheard-of", None, "unheard-of"),
        (9_000, "state", "gone from the hub: 404 for a week", None, "gone"),
        (3_000, "name", "name", "Castle", "Keep"),
        (2_000, "state", "archived by its creator", "listed", "archived"),
        (1_000, "state", "first seen", None, None),
        (500, "state", "back on the hub", None, "back"),
    ]


async def test_details_tell_of_files_beside_what_list_rows_tell(store: Store) -> None:
    def files(tx: Tx) -> None:
        tx.db.execute("UPDATE model SET hub = 'huggingface', ref_id = 'org/castle'")

    row = {"_id": "a" * 24, "id": "org/castle", "downloads": 1, "tags": ["a"]}
    listed = [json.dumps({**row, "tags": tags}).encode() for tags in (["a"], ["a", "b"])]
    siblings = [[], [{"rfilename": "x.gguf", "size": 5}], [{"rfilename": "x.gguf", "size": 6}]]
    details = [json.dumps({**row, "siblings": s}).encode() for s in siblings]
    await write(
        store, partial(put, documents=listed), partial(put, documents=details, kind="detail"), files
    )
    page = await store.read(
        lambda db: history_page(db, parse_reference("hf:org/castle"), CODEC, parse_model)
    )
    assert page.ref == "hf:org/castle"
    assert [(i.at_ms, i.kind, i.what, i.version) for i in page.items] == [
        (3_000, "file", "file replaced", "hf:org/castle@main"),
        (2_000, "tags", "tags", None),
        (2_000, "file", "file added", "hf:org/castle@main"),
        (1_000, "state", "first seen", None),
    ]


async def test_what_is_not_there_is_said(store: Store) -> None:
    with pytest.raises(ModelNotFound):
        await page_of(store)
    assert await revisions_of(store) == []


def test_a_revision_in_thirty_two_is_whole() -> None:
    whole = [n for n in range(100) if wants_keyframe(n)]
    assert whole == [31, 63, 95]

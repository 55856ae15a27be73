"""What a mirror takes on disk when it was really synced: bytes for each model, table by table.

Part of ``benchmarks.footprint``. The simulated hub is asked over HTTP, both views where there are
two, by the daemon's own services; its documents have the real ones' shape. Of Hugging Face the
details of some hundred repositories are fetched too, which are documents of their own.
"""

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import trio

from modelkeepd.catalog.service import CatalogService
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.hubs.opening import HubConfig, open_hubs
from modelkeepd.store import open_store
from modelkeepd.sync.service import SyncService, SyncSettings
from tests.process.living import hub_process

DETAILED = 300
_COUNTS = "SELECT (SELECT count(*) FROM model), (SELECT avg(length(raw)) FROM detail_document)"


def bytes_each(hub: str, models: int) -> dict[str, float]:
    """Bytes for each model of a freshly synced catalog; ``models`` is how many it has."""
    size = ("--dialect", hub, "--models", str(models), "--seed", "5")
    with tempfile.TemporaryDirectory(prefix="mk-synced-") as name, hub_process(*size) as simulated:
        home = Path(name)
        raw_bytes = trio.run(_sync, hub, simulated.url, home)
        with closing(apsw.Connection(str(home / "db"))) as db:
            tables = _tables(db)
            counts: Any = db.execute(_COUNTS).fetchone()
        count, detail_bytes = counts
        index_bytes = sum(path.stat().st_size for path in (home / "index").iterdir())
    if detail_bytes is not None:
        tables.pop("file", None)  # details alone brought those
    of_documents = tables.pop("document")
    rows = sum(tables.values())
    found = {
        "models": count,
        "raw": raw_bytes / count,
        "documents": of_documents / count,
        "rows_and_indexes": rows / count,
        "search_index": index_bytes / count,
        "total": (of_documents + rows + index_bytes) / count,
    }
    if detail_bytes is not None:
        found["detail_document"] = detail_bytes
    return found


async def _sync(hub: str, url: str, home: Path) -> int:
    """Sync and index; the bytes of all raw documents that are kept."""
    config = HubConfig(hub, url, requests_per_second=1_000)
    async with (
        open_hubs([config]) as hubs,
        open_store(home / "db") as store,
        trio.open_nursery() as nursery,
    ):
        codec = DocumentCodec()
        catalog = CatalogService(store, home / "index", codec)
        sync = SyncService(store, hubs.background, SyncSettings(auto=False))
        await nursery.start(catalog.run)
        await nursery.start(sync.run)
        await sync.start(hub)
        while (status := sync.status(hub)[0]).state != "idle":
            if status.state == "failed":
                raise SystemExit(f"sync failed: {status.error}")
            await trio.sleep(0.02)
        await catalog.caught_up_with(store.feed.last_seq)
        kept = await store.read(_kept)
        raw_bytes = sum(len(codec.decompress(raw, dict_id)) for raw, dict_id in kept)
        if sync.details.asks_for(hub):
            for key in range(1, len(kept) + 1, max(1, len(kept) // DETAILED)):
                await sync.details.fresh(hub, key, 0.0)
        nursery.cancel_scope.cancel()
    return raw_bytes


def _kept(db: apsw.Connection) -> list[Any]:
    return db.execute("SELECT raw, dict_id FROM document").fetchall()


def _tables(db: apsw.Connection) -> dict[str, int]:
    """Bytes of each table with its indexes. What details brought is told apart; dictionaries do
    not grow with the models."""
    tables: list[Any] = db.execute("SELECT name, tbl_name FROM sqlite_master").fetchall()
    owner: dict[str, str] = dict(tables)
    sizes: dict[str, int] = {}
    pages: list[Any] = db.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name").fetchall()
    for name, size_bytes in pages:
        table = owner.get(name, name)
        if table not in ("detail_document", "document_dict"):
            sizes[table] = sizes.get(table, 0) + size_bytes
    return sizes

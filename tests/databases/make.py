"""Makes the database that a release leaves behind: ``python -m tests.databases.make``.

Run it once for each release that brought a new migration, with that release's code, and keep the
file for ever: ``tests/databases/0001.db.zst`` is what users of schema 1 have. It refuses to
replace a file, because a shipped migration never changes. ``test_store_old_databases.py`` opens
every one of them with the code of today.
"""

import sys
import tempfile
from pathlib import Path

import trio
import zstandard

from modelkeepd.store import Durability, Tx, open_store
from modelkeepd.store.migrations import shipped_migrations
from modelkeepd.transfer.jobs import NewJob, enqueue

HERE = Path(__file__).parent


def furnish(tx: Tx) -> None:
    """A little of what every schema since the first has: a model, its file, a job, events."""
    seq = tx.emit("sync", "page", "civitai", {"hub": "civitai", "count": 1})
    db = tx.db
    db.execute(
        "INSERT INTO model (model_key, hub, hub_id, ref_id, name, type, base_models, tags,"
        " hub_state, first_seen_ms, seen_ms, changed_seq, doc_hash) VALUES"
        " (1, 'civitai', '1102', '1102', '水彩 Watercolor', 'LORA', '[\"SDXL 1.0\"]',"
        " '[\"style\"]', 'listed', ?1, ?1, ?2, ?3)",
        (tx.now_ms, seq, bytes(32)),
    )
    db.execute(
        "INSERT INTO version (version_key, model_key, hub_id, name, base_model, position)"
        " VALUES (1, 1, '1301', 'v1', 'SDXL 1.0', 0)"
    )
    db.execute(
        "INSERT INTO file (file_key, version_key, model_key, hub_id, name, kind, size_bytes,"
        " sha256, is_primary) VALUES (1, 1, 1, '77', 'watercolor.safetensors', 'Model', 4096,"
        " ?, 1)",
        (bytes(range(32)),),
    )
    db.execute(
        "INSERT INTO document (model_key, raw, fetched_ms) VALUES (1, ?, ?)",
        (zstandard.compress(b'{"id": 1102}'), tx.now_ms),
    )
    job = NewJob(
        hub="civitai",
        ref="civitai:1102@1301#77",
        remote_name="watercolor.safetensors",
        root="/models",
        folder="loras",
        file_key=1,
        size_bytes=4096,
        sha256=bytes(range(32)),
    )
    enqueue(tx, [job], ["part-1"])


async def make(path: Path) -> None:
    """A database of the newest schema at ``path``, with something in it, stopped cleanly."""
    async with open_store(path) as store:
        await store.apply(furnish, durability=Durability.FULL, name="test.furnish")


def main() -> int:
    target = HERE / f"{shipped_migrations()[-1].number:04}.db.zst"
    if target.exists():
        print(f"{target.name} exists; a shipped schema never changes", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "modelkeep.db"
        trio.run(make, path)
        target.write_bytes(zstandard.compress(path.read_bytes(), 19))
    print(f"{target.name}: {target.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

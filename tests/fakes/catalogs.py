"""Homes with a catalog in them, filled by sync's own units, and what a catalog is by content."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelkeepd.catalog.history import revisions
from modelkeepd.hubs.contract import ListItem, parse_model
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.snapshot.export import ExportOutcome, export_snapshot
from modelkeepd.snapshot.importing import ImportOutcome, import_snapshot
from modelkeepd.snapshot.keys import SigningKey
from modelkeepd.store import Durability, Store, Tx, open_store
from modelkeepd.sync.detail_rows import apply_details, kept_detail, prepare_detail
from modelkeepd.sync.prepare import prepare_page
from modelkeepd.sync.suspects import Trust
from modelkeepd.sync.units import PageWrite, apply_page, known_models
from tests.fakes.clocks import FakeClocks

DAY_MS = 86_400_000


def signing_key() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.generate())


def civitai(number: int, **fields: Any) -> bytes:
    """A document of the hub with ids; one version, one file."""
    file = {
        "id": number * 100, "name": f"model{number}.safetensors", "type": "Model", "sizeKB": 2.5,
        "primary": True, "hashes": {"SHA256": f"{number:064x}"},
    }  # fmt: skip
    version = {"id": number * 10, "name": "v1", "baseModel": "SDXL 1.0", "files": [file]}
    return json.dumps({
        "id": number, "name": f"Model {number}", "type": "LORA", "tags": ["a", "b"],
        "stats": {"downloadCount": number}, "modelVersions": [version], **fields,
    }).encode()  # fmt: skip


def huggingface(number: int, *, siblings: Sequence[Any] | None = None, **fields: Any) -> bytes:
    """A list row of the hub with names; with ``siblings``, a detail document."""
    document = {
        "_id": f"{number:024x}", "id": f"org/model-{number}", "sha": f"{number:040x}",
        "downloads": number, "likes": 1, "tags": ["gguf"], "gated": False,
        "createdAt": "2024-01-01T00:00:00.000Z", "lastModified": "2024-01-02T00:00:00.000Z",
        **fields,
    }  # fmt: skip
    if siblings is not None:
        document["siblings"] = siblings
    return json.dumps(document).encode()


class Home:
    """A store with a catalog, a key and a clock of its own."""

    def __init__(self, store: Store, clocks: FakeClocks) -> None:
        self.store = store
        self.clocks = clocks
        self.codec = DocumentCodec()
        self.key = signing_key()

    async def sync(self, hub: str, *documents: bytes) -> None:
        """These documents come in, a second later."""
        self.clocks.advance(1)
        items = [ListItem(parse_model(hub, raw).hub_id, raw) for raw in documents]
        known = await self.store.read(partial(known_models, hub=hub, items=items))
        page = prepare_page(hub, items, known, parse=partial(parse_model, hub), codec=self.codec)
        write = PageWrite(hub=hub, view="all", page=page, fetched_ms=self.clocks.wall_ms())
        await self.write(partial(apply_page, write=write))

    async def details(self, hub: str, raw: bytes) -> None:
        """A detail document comes in, a second later."""
        self.clocks.advance(1)
        key = await self.key_of(hub, parse_model(hub, raw).hub_id)
        kept = await self.store.read(partial(kept_detail, model_key=key))
        write = prepare_detail(
            key, hub, raw, kept, self.clocks.wall_ms(), parse=partial(parse_model, hub),
            codec=self.codec,
        )  # fmt: skip
        assert await self.write(partial(apply_details, write=write, trust=Trust()))

    async def key_of(self, hub: str, hub_id: str) -> int:
        def query(db: apsw.Connection) -> Any:
            return db.execute(
                "SELECT model_key FROM model WHERE hub = ? AND hub_id = ?", (hub, hub_id)
            ).get

        return int(await self.store.read(query))

    async def write(self, unit: Any) -> Any:
        return await self.store.apply(unit, durability=Durability.NORMAL, name="test")

    async def vanish(self, hub: str, hub_id: str) -> None:
        """The hub no longer has it, and that is believed."""
        self.clocks.advance(1)

        def unit(tx: Tx) -> None:
            seq = tx.emit("model", "gone", hub_id, {})
            tx.db.execute(
                "UPDATE model SET hub_state = 'gone', gone_ms = ?, changed_seq = ?"
                " WHERE hub = ? AND hub_id = ?",
                (tx.now_ms, seq, hub, hub_id),
            )
            tx.db.execute(
                "INSERT INTO model_fact (model_key, at_ms, kind, detail)"
                " SELECT model_key, ?, 'gone', '{\"reason\":\"404\"}' FROM model"
                " WHERE hub = ? AND hub_id = ?",
                (tx.now_ms, hub, hub_id),
            )

        await self.write(unit)

    async def export(self, path: Path, **options: Any) -> ExportOutcome:
        self.clocks.advance(1)
        return await export_snapshot(
            self.store, self.codec, path, signer=self.key, now_ms=self.clocks.wall_ms(), **options
        )

    async def take(self, path: Path, *keys: SigningKey, **options: Any) -> ImportOutcome:
        self.clocks.advance(1)
        return await import_snapshot(
            self.store, self.codec, path, trusted={self.key.public, *(k.public for k in keys)},
            parse=parse_model, now_ms=self.clocks.wall_ms(), **options,
        )  # fmt: skip

    async def content(self) -> dict[str, Any]:
        return await self.store.read(partial(content_of, codec=self.codec))

    async def history(self, hub: str, hub_id: str, kind: str = "model") -> list[Any]:
        key = await self.key_of(hub, hub_id)
        return await self.store.read(
            lambda db: [(r.seen_ms, r.raw) for r in revisions(db, self.codec, key, kind)]
        )


def content_of(db: apsw.Connection, codec: DocumentCodec) -> dict[str, Any]:
    """All that a snapshot carries of a catalog, without keys, sequences and compression."""
    models: dict[str, Any] = {}
    rows: list[Any] = db.execute(
        "SELECT m.model_key, hub || ':' || hub_id, ref_id, name, type, creator, base_models, tags,"
        " nsfw_level, downloads, likes, commercial, published_ms, updated_ms, size_bytes, license,"
        " gated, hub_state, gone_ms, first_seen_ms, seen_ms, hex(doc_hash), d.fetched_ms, d.raw,"
        " d.dict_id, e.fetched_ms, e.raw, e.dict_id FROM model m LEFT JOIN document d"
        " USING (model_key) LEFT JOIN detail_document e USING (model_key)"
    ).fetchall()
    for key, name, *columns, detail_ms, detail, detail_dict in rows:
        *columns, raw, dict_id = columns
        files: list[Any] = db.execute(
            "SELECT v.hub_id, v.name, base_model, position, v.published_ms, availability, revision,"
            " files_revision, v.gone_ms IS NULL, f.hub_id, f.name, kind, format, f.size_bytes,"
            " hex(sha256), is_primary, url, f.gone_ms IS NULL"
            " FROM version v LEFT JOIN file f USING (version_key) WHERE v.model_key = ?"
            " ORDER BY 1, 10, 11",
            (key,),
        ).fetchall()
        facts: list[Any] = db.execute(
            "SELECT at_ms, kind, detail FROM model_fact WHERE model_key = ? ORDER BY 1, 2", (key,)
        ).fetchall()
        models[name] = (
            columns, codec.decompress(raw, dict_id, db), detail_ms,
            None if detail is None else codec.decompress(detail, detail_dict, db), files, facts,
        )  # fmt: skip
    return {
        "models": models,
        "aliases": db.execute(
            "SELECT a.hub, a.ref_id, m.hub_id, until_ms FROM model_alias a JOIN model m"
            " USING (model_key) ORDER BY 1, 2"
        ).fetchall(),
        "odd": db.execute(
            "SELECT hub, kind, hub_id, reason, hex(doc_hash), fetched_ms FROM odd_document"
            " ORDER BY 1, 2, 5"
        ).fetchall(),
    }


@asynccontextmanager
async def open_home(folder: Path, wall_ms: int = 1_750_000_000_000) -> AsyncIterator[Home]:
    await trio.Path(folder).mkdir(exist_ok=True)
    clocks = FakeClocks(wall_ms)
    async with open_store(folder / "m.db", clocks=clocks) as store:
        yield Home(store, clocks)

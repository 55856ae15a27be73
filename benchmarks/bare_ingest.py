"""The yardstick of ``benchmarks.ingest``: one bare loop over a hub's pages.

Without HTTP, retries, resume, events, or comparing with what is known: decode, compress each
document, executemany into the tables of the store, a commit a page, bigrams of the same texts, and
the adding to a Tantivy index of the same schema, with one commit at the end.
"""

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec
import tantivy
import zstandard

from benchmarks.kept_pages import read_index
from modelkeepd.catalog.compiler import build_schema, document, register_tokenizers
from modelkeepd.catalog.projection import Projection, nsfw_level
from modelkeepd.hubs.documents import LEVEL
from modelkeepd.hubs.plain_text import plain_text
from modelkeepd.store.migrations import shipped_migrations

Item = dict[str, Any]


class Rows(NamedTuple):
    """What one document becomes."""

    model: tuple[Any, ...]
    versions: list[tuple[Any, ...]]
    files: list[tuple[Any, ...]]
    projection: Projection


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]


def theirs(hub: str, home: Path, folder: Path) -> dict[str, float]:
    """Run the loop over the pages in ``folder``."""
    db = apsw.Connection(str(home / "db"))
    db.pragma("journal_mode", "WAL")
    db.execute(shipped_migrations()[0].sql)
    db.pragma("synchronous", "NORMAL")
    index = tantivy.Index(build_schema(), str(home), reuse=False)
    register_tokenizers(index)
    writer = index.writer(30_000_000, 1)
    compress = zstandard.ZstdCompressor(level=LEVEL).compress
    read, split = _READ[hub], _SPLIT[hub]
    began = time.perf_counter()
    key = version_key = 0
    for body in _bodies(folder):
        models, versions, files, documents = [], [], [], []
        for raw in split(body):
            key += 1
            rows = read(key, version_key, msgspec.json.decode(raw))
            version_key += len(rows.versions)
            models.append(rows.model)
            versions += rows.versions
            files += rows.files
            documents.append((key, None, compress(raw), 0))
            writer.add_document(document(rows.projection))
        db.execute("BEGIN IMMEDIATE")
        db.executemany(_INSERT_MODEL, models)
        db.executemany("INSERT INTO document VALUES (?, ?, ?, ?)", documents)
        db.executemany(_INSERT_VERSION, versions)
        db.executemany(_INSERT_FILE, files)
        db.execute("COMMIT")
    writer.commit()
    all_s = time.perf_counter() - began
    index.reload()
    result = {"models": index.searcher().num_docs, "all_s": all_s}
    db.close()
    return result


def _bodies(folder: Path) -> Iterator[bytes]:
    with (folder / "pages").open("rb") as pages:
        for span in read_index(folder).values():
            pages.seek(span.at)
            yield pages.read(span.length)


_INSERT_MODEL = (
    "INSERT INTO model (model_key, hub, hub_id, ref_id, name, type, creator, base_models, tags,"
    " nsfw_level, downloads, likes, license, gated, published_ms, updated_ms, hub_state,"
    " first_seen_ms, seen_ms, changed_seq, doc_hash)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'listed', 0, 0, 0, x'')"
)
_INSERT_VERSION = (
    "INSERT INTO version (version_key, model_key, hub_id, name, base_model, position, revision)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_FILE = (
    "INSERT OR IGNORE INTO file (version_key, model_key, hub_id, name, kind, size_bytes, sha256,"
    " is_primary, url) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


# --- civitai ---


def _civitai(key: int, version_key: int, item: Item) -> Rows:
    stats = item["stats"]
    creator = str((item.get("creator") or {}).get("username"))
    bases = [version["baseModel"] for version in item["modelVersions"]]
    model = (
        key, "civitai", str(item["id"]), str(item["id"]), item["name"], item["type"], creator,
        json.dumps(bases), json.dumps(item["tags"]), item["nsfwLevel"], stats["downloadCount"],
        stats["thumbsUpCount"], None, None, None, None,
    )  # fmt: skip
    versions, files = [], []
    texts = [plain_text(item["description"] or "")]
    for position, version in enumerate(item["modelVersions"]):
        version_key += 1
        versions.append((version_key, key, str(version["id"]), version["name"],
                         version["baseModel"], position, None))  # fmt: skip
        files += [_civitai_file(version_key, key, file) for file in version["files"]]
        texts += (version["name"], plain_text(version["description"] or ""))
        texts += version["trainedWords"]
        texts += (file["name"].rpartition(".")[0] for file in version["files"])
    projection = Projection(
        model_key=key,
        changed_seq=0,
        hub="civitai",
        name=item["name"],
        type=item["type"],
        creator=creator,
        tags=tuple(item["tags"]),
        base_models=tuple(dict.fromkeys(bases)),
        texts=tuple(dict.fromkeys(texts)),
        nsfw=nsfw_level(item["nsfwLevel"]),
        downloads=stats["downloadCount"],
        likes=stats["thumbsUpCount"],
    )
    return Rows(model, versions, files, projection)


def _civitai_file(version_key: int, key: int, file: Item) -> tuple[Any, ...]:
    digest = file["hashes"].get("SHA256")
    return (
        version_key, key, str(file["id"]), file["name"], file["type"],
        round(file["sizeKB"] * 1024), bytes.fromhex(digest) if digest else None,
        bool(file.get("primary")), file["downloadUrl"],
    )  # fmt: skip


# --- huggingface ---


def _huggingface(key: int, version_key: int, item: Item) -> Rows:
    tags = item.get("tags", [])
    bases = [tag.rpartition(":")[2] for tag in tags if tag.startswith("base_model:")]
    bases = list(dict.fromkeys(bases))
    licenses = [tag.partition(":")[2] for tag in tags if tag.startswith("license:")]
    kind = item.get("pipeline_tag") or item.get("library_name") or "Other"
    created_ms, changed_ms = _time_ms(item["createdAt"]), _time_ms(item["lastModified"])
    model = (
        key, "huggingface", item["_id"], item["id"], item["id"], kind, item.get("author"),
        json.dumps(bases), json.dumps(tags), None, item["downloads"], item["likes"],
        licenses[0] if licenses else None, item["gated"] or None, created_ms, changed_ms,
    )  # fmt: skip
    base = bases[0] if bases else None
    version = (version_key + 1, key, "main", "main", base, 0, item["sha"])
    projection = Projection(
        model_key=key,
        changed_seq=0,
        hub="huggingface",
        name=item["id"],
        type=kind,
        creator=item.get("author"),
        tags=tuple(tags),
        base_models=tuple(bases),
        texts=("main",),
        downloads=item["downloads"],
        likes=item["likes"],
        published_ms=created_ms,
        updated_ms=changed_ms,
    )
    return Rows(model, [version], [], projection)


def _time_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


_READ: dict[str, Callable[[int, int, Item], Rows]] = {
    "civitai": _civitai,
    "huggingface": _huggingface,
}
_decode_page = msgspec.json.Decoder(_Page).decode
_SPLIT: dict[str, Callable[[bytes], list[msgspec.Raw]]] = {
    "civitai": lambda body: _decode_page(body).items,
    "huggingface": msgspec.json.Decoder(list[msgspec.Raw]).decode,
}

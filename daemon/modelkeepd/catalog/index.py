"""The search index: a Tantivy directory that mirrors the store and may be lost at any time.

Synchronous: everything here runs in threads. One thread writes, any may search. The marker
document, replaced in the same commit as the models, says which of the store's changes are in;
whoever writes keeps it true. What can't be opened, has another format or is somebody else's is
removed and begun anew: the store has it all.
"""

import ctypes
import errno
import json
import logging
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import tantivy
from tantivy import Order, Query

from modelkeepd.catalog.compiler import (
    FORMAT,
    MARKER_KEY,
    Compiler,
    build_schema,
    document,
    register_tokenizers,
)
from modelkeepd.catalog.projection import Projection
from modelkeepd.catalog.ranking import Hits, by_downloads, by_relevance, count_of, unpacked
from modelkeepd.catalog.tree import Tree, ranks

log = logging.getLogger(__name__)

# Tantivy's least is 15 MB a thread; more only makes fewer, larger segments before merging.
WRITER_HEAP_BYTES = 30_000_000
_FACETS = {"type": "type_name", "base_model": "base_name", "topic": "topic_name"}
_SORT_FIELDS = {
    "newest": ("published", Order.Desc),
    "updated": ("updated", Order.Desc),
    "name": ("sort_name", Order.Asc),
    "size": ("size", Order.Desc),
    "likes": ("likes", Order.Desc),
}
SORTS = ("relevance", "downloads", *_SORT_FIELDS)
_FOOTER_MAGIC = (1337).to_bytes(4, "little")


class IndexDamaged(Exception):
    """Tantivy could not read or write its files; the index must be made anew.

    Unless ``disk_full``: then what is committed is intact and only the writer must let go.
    """

    @property
    def disk_full(self) -> bool:
        """Whether the reason was a full disk."""
        return f"os error {errno.ENOSPC}" in str(self)


@dataclass(frozen=True, slots=True)
class Marker:
    """The index holds every change of ``epoch`` up to and including ``changed_seq``."""

    epoch: str
    changed_seq: int


@contextmanager
def _tantivy_errors(doing: str) -> Iterator[None]:
    """Whatever Tantivy raises, a Rust panic (a BaseException) included, is one error to us."""
    try:
        yield
    except (ValueError, OSError, RuntimeError) as exc:
        raise IndexDamaged(f"the search index failed {doing}: {exc}") from exc
    except BaseException as exc:
        if type(exc).__name__ != "PanicException":
            raise
        raise IndexDamaged(f"the search index broke {doing}: {exc}") from exc


class CatalogIndex:
    """An open index. ``open_or_create`` makes one."""

    def __init__(self, path: Path, index: tantivy.Index) -> None:
        self.path = path
        self._index = index
        self._compiler = Compiler(index.schema)
        self._writer: tantivy.IndexWriter | None = None
        self._searcher = index.searcher()
        self.marker = self._read_marker()

    @classmethod
    def open_or_create(cls, path: Path) -> "CatalogIndex":
        """Open the index in ``path``; without a usable one there, begin an empty one."""
        if (path / "meta.json").exists():
            try:
                return cls._open(path)
            except IndexDamaged as exc:
                log.warning("search index is rebuilt", extra={"facts": {"why": str(exc)}})
        return cls.create(path)

    @classmethod
    def create(cls, path: Path) -> "CatalogIndex":
        """Begin an empty index in ``path``, whatever was there before."""
        _remove_tree(path)
        path.mkdir(parents=True, mode=0o700)
        with _tantivy_errors("while being created"):
            index = tantivy.Index(build_schema(), str(path), reuse=False)
            register_tokenizers(index)
            # the default policy watches meta.json from a thread of its own
            index.config_reader("manual", 0)
            writer = index.writer(WRITER_HEAP_BYTES, 1)
            writer.add_document(_marker_document(Marker("", 0)))
            writer.commit()
            writer.wait_merging_threads()
            index.reload()
            return cls(path, index)

    @classmethod
    def _open(cls, path: Path) -> "CatalogIndex":
        with _tantivy_errors("while being opened"):
            # refuses another schema
            index = tantivy.Index(build_schema(), str(path), reuse=True)
            register_tokenizers(index)
            index.config_reader("manual", 0)
            index.reload()
            return cls(path, index)

    @property
    def model_count(self) -> int:
        """Models in the last commit."""
        return int(self._searcher.num_docs) - 1  # the marker

    @property
    def is_gone(self) -> bool:
        """Whether somebody removed the directory under us (what is open stays searchable)."""
        return not (self.path / "meta.json").exists()

    def _read_marker(self) -> Marker:
        found = self._searcher.search(self._compiler.term("key", MARKER_KEY), 1).hits
        try:
            [(_, address)] = found
            data = json.loads(str(self._searcher.doc(address).get_first("marker")))
            if data["format"] != FORMAT:
                raise IndexDamaged(f"its format is {data['format']}, ours is {FORMAT}")
            return Marker(str(data["epoch"]), int(data["changed_seq"]))
        except (ValueError, KeyError, TypeError) as exc:
            raise IndexDamaged("it has no marker of ours") from exc

    # --- writing: one thread at a time ---

    def replace(self, models: Iterable[Projection]) -> None:
        """Add models, each in place of what the index has under its key."""
        writer = self._open_writer()
        with _tantivy_errors("while adding models"):
            for model in models:
                # costs nothing to speak of where there is none (measured)
                writer.delete_documents_by_term("key", str(model.model_key))
                writer.add_document(document(model))

    def delete(self, model_keys: Iterable[int]) -> None:
        """Take models out."""
        writer = self._open_writer()
        with _tantivy_errors("while deleting models"):
            for key in model_keys:
                writer.delete_documents_by_term("key", str(key))

    def drop_after(self, changed_seq: int) -> list[int]:
        """Take out every model changed after ``changed_seq``; return their keys.

        Their earlier state may still be in the store: the caller adds it again before committing.
        """
        query = self._compiler.changed_after(changed_seq)
        writer = self._open_writer()
        with _tantivy_errors("while dropping later changes"):
            keys: list[int] = []
            if count_of(self._searcher.search(query, 1)):
                keys = self._keys_of(query)
                writer.delete_documents_by_query(query)
            return keys

    def _keys_of(self, query: Query) -> list[int]:
        total = count_of(self._searcher.search(query, 1))
        hits = self._searcher.search(query, total, count=False).hits
        return [key for key, _ in unpacked(self._searcher, hits)]

    def commit(self, marker: Marker) -> None:
        """Make everything since the last commit permanent and visible, with ``marker``."""
        if self.is_gone:
            raise IndexDamaged("the search index was removed while in use")
        writer = self._open_writer()
        with _tantivy_errors("while committing"):
            writer.delete_documents_by_term("key", MARKER_KEY)
            writer.add_document(_marker_document(marker))
            writer.commit()
            self._index.reload()
            self._searcher = self._index.searcher()
        self.marker = marker

    def rest(self) -> None:
        """Give back the writer's threads and memory until there is something to write again."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with _tantivy_errors("while merging"):
                writer.wait_merging_threads()
            _give_back_memory()

    def close(self) -> None:
        """Drop what was not committed, and the writer, without waiting for merges."""
        self._writer = None

    def _open_writer(self) -> tantivy.IndexWriter:
        if self._writer is None:
            with _tantivy_errors("while opening for writing"):
                self._writer = self._index.writer(WRITER_HEAP_BYTES, 1)
        return self._writer

    def damaged_file(self) -> str | None:
        """The name of a file whose checksum is wrong, or None. Reads the whole index."""
        for file in _committed_files(self.path):
            if not _checksum_holds(file):
                return file.name
        return None

    # --- searching: any thread ---

    def search(self, tree: Tree, sort: str, limit: int, offset: int) -> Hits:
        """One page of what a query finds. Without words, relevance is by downloads.

        Models without the value that is sorted by come last.
        """
        searcher = self._searcher
        with _tantivy_errors("while searching"):
            query = self._compiler.compile(tree)
            if sort == "relevance" and ranks(tree):
                return by_relevance(searcher, query.scored, limit, offset)
            if sort in ("relevance", "downloads"):
                return by_downloads(searcher, self._compiler, tree, query.found, limit, offset)
            field, order = _SORT_FIELDS[sort]
            result = searcher.search(
                query.found, limit, offset=offset, order_by_field=field, order=order
            )
            return Hits(count_of(result), [key for key, _ in unpacked(searcher, result.hits)])

    def facets(self, tree: Tree, size: int = 50) -> dict[str, list[tuple[str, int]]]:
        """How many of the found models there are by type, base model and topic, most first."""
        wanted = {
            name: {"terms": {"field": field, "size": size}} for name, field in _FACETS.items()
        }
        with _tantivy_errors("while counting"):
            result = self._searcher.aggregate(self._compiler.compile(tree).found, wanted)
        return {
            name: [(str(b["key"]), int(b["doc_count"])) for b in result[name]["buckets"]]
            for name in _FACETS
        }

    def keys_with_prefix(self, field: str, prefix: str, limit: int) -> list[tuple[str, int]]:
        """Terms of a raw field that begin with ``prefix``, with their models' number."""
        with _tantivy_errors("while completing"):
            return self._searcher.terms_with_prefix(field, prefix, limit=limit)


def _marker_document(marker: Marker) -> tantivy.Document:
    result = tantivy.Document()
    result.add_text("key", MARKER_KEY)
    state = {"format": FORMAT, "epoch": marker.epoch, "changed_seq": marker.changed_seq}
    result.add_text("marker", json.dumps(state))
    return result


def _give_back_memory() -> None:
    """Where the C library can: without it 80 MB of the writer's arenas stayed (measured)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _remove_tree(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    else:
        path.unlink()


# --- Tantivy's footer: JSON with the CRC-32 of the body, its length, a magic number ---

_SEGMENT_SUFFIXES = {".term", ".idx", ".pos", ".fast", ".fieldnorm", ".store"}


def _committed_files(path: Path) -> list[Path]:
    """The files the last commit is made of; a kill leaves others, unfinished, beside them."""
    try:
        segments = json.loads((path / "meta.json").read_bytes())["segments"]
        wanted: set[str] = set()
        for segment in segments:
            name = segment["segment_id"].replace("-", "")
            wanted |= {name + suffix for suffix in _SEGMENT_SUFFIXES}
            if segment["deletes"]:
                wanted.add(f"{name}.{segment['deletes']['opstamp']}.del")
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise IndexDamaged(f"its meta.json can't be read: {exc}") from exc
    return sorted(path / name for name in wanted)


def _checksum_holds(file: Path) -> bool:
    try:
        with file.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, size - 8))
            tail = handle.read(8)
            footer_size = int.from_bytes(tail[:4], "little")
            if tail[4:] != _FOOTER_MAGIC or footer_size + 8 > size:
                return False
            body_size = size - 8 - footer_size
            handle.seek(body_size)
            expected = json.loads(handle.read(footer_size))["crc"]
            handle.seek(0)
            crc, left = 0, body_size
            while left:
                chunk = handle.read(min(left, 1 << 20))
                if not chunk:
                    return False
                crc = zlib.crc32(chunk, crc)
                left -= len(chunk)
            return bool(crc == expected)
    except FileNotFoundError:
        return True  # merged away meanwhile
    except (OSError, ValueError, KeyError, TypeError):
        return False

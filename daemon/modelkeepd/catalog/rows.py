"""The catalog's reading of the store: what is to be indexed, lists of models.

SQL only, on a reader's connection; every function fetches all it returns. Writes nothing: the rows
are sync's, ``owned`` is the library's.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import apsw
import msgspec

from modelkeep_protocol.schema import SearchItem
from modelkeepd.catalog.projection import Projection, nsfw_level
from modelkeepd.hubs.contract import OddDocument, ParsedModel
from modelkeepd.hubs.documents import DocumentCodec, DocumentDamaged
from modelkeepd.hubs.reference import model_ref
from modelkeepd.kinds.supported import supported

ParseModel = Callable[[str, bytes], ParsedModel]

_names = msgspec.json.Decoder(tuple[str, ...])
_list_of_names = msgspec.json.Decoder(list[str])
_NO_KEY = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the order of changes: everything up to this model of this change is done."""

    changed_seq: int
    model_key: int = _NO_KEY


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A model's row and its document, as read for the index."""

    columns: tuple[Any, ...]
    raw: bytes | None

    @property
    def position(self) -> Position:
        """Where the row stands in the order of changes."""
        return Position(self.columns[1], self.columns[0])


_SOURCE = (
    "SELECT m.model_key, m.changed_seq, m.hub, m.name, m.type, m.creator, m.tags, m.base_models,"
    " m.nsfw_level, m.downloads, m.likes, m.published_ms, m.updated_ms, m.size_bytes,"
    " m.commercial, m.owned, m.hub_state, m.ref_id,"
    # tags that the user gave the model in an old models.json
    " (SELECT json_group_array(tag) FROM legacy_tag l WHERE l.hub = m.hub AND l.ref_id = m.ref_id),"
    " d.raw, d.dict_id"
    " FROM model m LEFT JOIN document d USING (model_key) "
)


def changed_after(
    db: apsw.Connection, codec: DocumentCodec, after: Position, limit: int
) -> list[SourceRow]:
    """The next models in the order of their last change."""
    rows: list[Any] = db.execute(
        _SOURCE + "WHERE (m.changed_seq, m.model_key) > (?, ?)"
        " ORDER BY m.changed_seq, m.model_key LIMIT ?",
        (after.changed_seq, after.model_key, limit),
    ).fetchall()
    return [_source_row(db, codec, row) for row in rows]


def with_keys(
    db: apsw.Connection, codec: DocumentCodec, model_keys: Sequence[int]
) -> list[SourceRow]:
    """These models, those of them that exist, in any order."""
    rows: list[Any] = db.execute(
        _SOURCE + "WHERE m.model_key IN (SELECT value FROM json_each(?))",
        (json.dumps(model_keys),),
    ).fetchall()
    return [_source_row(db, codec, row) for row in rows]


def _source_row(db: apsw.Connection, codec: DocumentCodec, row: tuple[Any, ...]) -> SourceRow:
    *columns, blob, dict_id = row
    raw = None
    if blob is not None:
        try:
            raw = codec.decompress(blob, dict_id, db)
        except DocumentDamaged:
            raw = None  # what the row says is still found
    return SourceRow(tuple(columns), raw)


def count_models(db: apsw.Connection) -> int:
    """How many models the store has."""
    return int(str(db.execute("SELECT count(*) FROM model").get))


def project(row: SourceRow, parse: ParseModel) -> Projection:
    """What is searchable of a row; without a readable document, what its columns say."""
    (
        key, changed_seq, hub, name, type_, creator, tags, bases, level, downloads, likes,
        published_ms, updated_ms, size_bytes, commercial, owned, state, ref_id, own_tags,
    ) = row.columns  # fmt: skip
    texts: tuple[str, ...] = ()
    if row.raw is not None:
        try:
            texts = _texts(parse(hub, row.raw))
        except OddDocument:
            texts = ()
    return Projection(
        model_key=key,
        changed_seq=changed_seq,
        hub=hub,
        name=name,
        type=type_,
        creator=creator,
        tags=tuple(dict.fromkeys(_names.decode(tags) + _names.decode(own_tags))),
        base_models=_names.decode(bases),
        texts=texts,
        nsfw=nsfw_level(level),
        downloads=downloads,
        likes=likes,
        published_ms=published_ms,
        updated_ms=updated_ms,
        size_bytes=size_bytes,
        commercial=None if commercial is None else bool(commercial),
        owned=bool(owned),
        supported=supported(hub, ref_id, name) is not None,
        state=state,
    )


def _texts(model: ParsedModel) -> tuple[str, ...]:
    found = [model.description]
    for version in model.versions:
        found += (version.name, version.description, *version.trained_words)
        # "x.safetensors" would put one word into every model
        found += (file.name.rpartition(".")[0] or file.name for file in version.files)
    # versions repeat each other's names, words and files
    return tuple(dict.fromkeys(filter(None, found)))


def listed(db: apsw.Connection, model_keys: Sequence[int]) -> list[SearchItem]:
    """One line for each of these models, in this order; vanished ones are left out."""
    rows: list[Any] = db.execute(
        "SELECT model_key, hub, ref_id, name, type, base_models, creator, tags, downloads,"
        " nsfw_level, owned, updated_ms, size_bytes, hub_state FROM model"
        # a third faster than json_each here (measured)
        f" WHERE model_key IN ({','.join('?' * len(model_keys))})",
        tuple(model_keys),
    ).fetchall()
    by_key = {row[0]: _item(*row[1:]) for row in rows}
    return [by_key[key] for key in model_keys if key in by_key]


@cache
def _ref_prefix(hub: str) -> str:
    return model_ref(hub, "")


def _item(
    hub: str, ref_id: str, name: str, type_: str, bases: str, creator: str | None, tags: str,
    downloads: int | None, level: int | None, owned: int, updated_ms: int | None,
    size_bytes: int | None, state: str,
) -> SearchItem:  # fmt: skip
    base_models = _list_of_names.decode(bases)
    return SearchItem(
        ref=_ref_prefix(hub) + ref_id,
        name=name,
        hub=hub,
        type=type_,
        base_model=base_models[0] if base_models else None,
        creator=creator,
        tags=_list_of_names.decode(tags),
        downloads=downloads,
        nsfw_level=nsfw_level(level),
        owned=bool(owned),
        updated_ms=updated_ms,
        size_bytes=size_bytes,
        hub_state=state,
    )


def refs_with_prefix(db: apsw.Connection, prefix: str, limit: int) -> list[str]:
    """References of models that begin with this text, for completion."""
    scheme, colon, beginning = prefix.partition(":")
    hub = {"hf": "huggingface"}.get(scheme, scheme)
    if not colon:
        return []
    rows: list[Any] = db.execute(
        "SELECT hub, ref_id FROM model WHERE hub = ? AND ref_id >= ? COLLATE NOCASE"
        " AND ref_id < ? COLLATE NOCASE ORDER BY ref_id COLLATE NOCASE LIMIT ?",
        (hub, beginning, beginning + "\U0010ffff", limit),
    ).fetchall()
    return [model_ref(*row) for row in rows]

"""One model in full: found by any kind of reference, with its versions, files and document.

Owns the queries of ``show`` and the making of a ModelDetail from rows and document. Asks no hub.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import apsw
import msgspec

from modelkeep_protocol.schema import FileDetail, ModelDetail, VersionDetail
from modelkeepd.catalog.errors import ModelNotFound
from modelkeepd.catalog.projection import nsfw_level
from modelkeepd.catalog.rows import ParseModel
from modelkeepd.hubs.contract import OddDocument, ParsedModel, ParsedVersion
from modelkeepd.hubs.documents import DocumentCodec, DocumentDamaged, read_document
from modelkeepd.hubs.reference import Reference, file_ref, model_ref, version_ref
from modelkeepd.kinds.supported import supported

HUB_SITES = {"civitai": "https://civitai.com", "huggingface": "https://huggingface.co"}

# the same bytes are often published twice: rather a listed model, rather the older file
_OF_CONTENT = (
    "SELECT f.model_key, v.hub_id FROM file f JOIN version v USING (version_key)"
    " JOIN model m ON m.model_key = f.model_key WHERE {}"
    " ORDER BY m.hub_state <> 'listed', f.gone_ms IS NOT NULL, f.is_primary = 0, f.file_key LIMIT 1"
)


def show(
    db: apsw.Connection,
    reference: Reference,
    codec: DocumentCodec,
    parse: ParseModel,
    *,
    raw: bool = False,
    hub_sites: Mapping[str, str] = HUB_SITES,
) -> ModelDetail:
    """What the catalog knows of a reference. Raises ModelNotFound."""
    model_key, version = find_model(db, reference)
    row: Any = db.execute(
        "SELECT hub, ref_id, name, type, creator, tags, base_models, nsfw_level, downloads, likes,"
        " commercial, hub_state, owned, published_ms, updated_ms,"
        " (SELECT fetched_ms FROM document d WHERE d.model_key = m.model_key),"
        " (SELECT count(*) FROM revision r WHERE r.model_key = m.model_key),"
        " license, gated, gone_ms, (SELECT revision FROM version v"
        "   WHERE v.model_key = m.model_key AND v.gone_ms IS NULL ORDER BY position LIMIT 1)"
        " FROM model m WHERE model_key = ?",
        (model_key,),
    ).fetchone()
    (
        hub, ref_id, name, type_, creator, tags, bases, level, downloads, likes, commercial,
        state, owned, published_ms, updated_ms, fetched_ms, revisions, license_, gated, gone_ms,
        revision,
    ) = row  # fmt: skip
    known = supported(hub, ref_id, name)
    document = _document(db, codec, model_key)
    parsed = _parsed(hub, document, parse)
    names = msgspec.json.Decoder(list[str])
    return ModelDetail(
        ref=model_ref(hub, ref_id) if version is None else version_ref(hub, ref_id, version),
        name=name,
        hub=hub,
        type=type_,
        creator=creator,
        tags=names.decode(tags),
        base_models=names.decode(bases),
        description=parsed.description if parsed else "",
        nsfw_level=nsfw_level(level),
        downloads=downloads,
        likes=likes,
        commercial=None if commercial is None else bool(commercial),
        hub_state=state,
        owned=bool(owned),
        published_ms=published_ms,
        updated_ms=updated_ms,
        fetched_ms=fetched_ms or 0,
        url=_page(hub_sites, hub, ref_id, version),
        versions=_versions(db, model_key, hub, ref_id, version, parsed),
        raw=_raw(db, codec, model_key, document) if raw else None,
        revisions=revisions,
        license=license_,
        gated=gated,
        revision=revision,
        gone_ms=gone_ms,
        memory_gb=None if known is None else known.memory_gb,
    )


def find_model(db: apsw.Connection, reference: Reference) -> tuple[int, str | None]:
    """The model's key, and the version asked for, if one was."""
    found: Any = None
    if reference.kind == "sha256":
        found = db.execute(_OF_CONTENT.format("f.sha256 = ?"), (reference.sha256,)).fetchone()
        hint = "modelkeep sync brings the catalog up to date"
        missing = "no file of the catalog has this sha256"
    elif reference.kind == "path":
        found = db.execute(
            _OF_CONTENT.format(
                "f.sha256 = (SELECT sha256 FROM library_file WHERE path = ? AND state = 'present')"
            ),
            (reference.path,),
        ).fetchone()
        hint = "modelkeep library list shows the files it knows; paths are given in full"
        missing = f"{reference.path} is no file of a model in the catalog"
    else:
        found = _find_by_name(db, reference)
        hint = "modelkeep search finds what is there; modelkeep sync brings it up to date"
        missing = f"{reference} is not in the catalog"
    if found is None:
        raise ModelNotFound(missing, hint=hint)
    return int(found[0]), None if found[1] is None else str(found[1])


def model_named(db: apsw.Connection, hub: str, ref_id: str) -> int | None:
    """The key of the model that people call, or called, ``ref_id``; rather one that is there."""
    found: Any = (
        db.execute(
            "SELECT model_key FROM model WHERE hub = ? AND ref_id = ? COLLATE NOCASE"
            " ORDER BY hub_state = 'gone', model_key DESC LIMIT 1",
            (hub, ref_id),
        ).fetchone()
        or db.execute(
            "SELECT model_key FROM model_alias WHERE hub = ? AND ref_id = ?", (hub, ref_id)
        ).fetchone()
    )
    return None if found is None else int(found[0])


def _find_by_name(db: apsw.Connection, reference: Reference) -> Any:
    if reference.model is None:
        return db.execute(
            "SELECT model_key, v.hub_id FROM version v JOIN model m USING (model_key)"
            " WHERE v.hub_id = ? AND m.hub = ?",
            (reference.version, reference.hub),
        ).fetchone()
    model_key = model_named(db, str(reference.hub), reference.model)
    if model_key is None or reference.version is None:
        return None if model_key is None else (model_key, None)
    version: Any = db.execute(
        "SELECT model_key, hub_id FROM version WHERE model_key = ?1"
        " AND (hub_id = ?2 OR revision = ?2)",
        (model_key, reference.version),
    ).fetchone()
    if version is None:
        ref = model_ref(str(reference.hub), reference.model)
        raise ModelNotFound(
            f"{ref} has no version {reference.version} in the catalog",
            hint=f"modelkeep show {ref} lists its versions",
        )
    return version


def _versions(
    db: apsw.Connection,
    model_key: int,
    hub: str,
    ref_id: str,
    wanted: str | None,
    parsed: ParsedModel | None,
) -> list[VersionDetail]:
    """The versions the hub lists; one that it has withdrawn only when it is asked for."""
    versions: list[Any] = db.execute(
        "SELECT version_key, hub_id, name, base_model, published_ms, availability FROM version"
        " WHERE model_key = ? AND iif(?2 IS NULL, gone_ms IS NULL, hub_id = ?2)"
        " ORDER BY position, version_key",
        (model_key, wanted),
    ).fetchall()
    files: list[Any] = db.execute(
        "SELECT f.version_key, f.hub_id, f.name, f.kind, f.format, f.size_bytes, f.sha256,"
        " f.is_primary, f.gone_ms IS NOT NULL, (SELECT path FROM library_file l"
        "   WHERE l.sha256 = f.sha256 AND l.state = 'present' ORDER BY file_id LIMIT 1)"
        " FROM file f WHERE f.model_key = ? ORDER BY f.is_primary DESC, f.file_key",
        (model_key,),
    ).fetchall()
    texts = {version.hub_id: version for version in parsed.versions} if parsed else {}
    result: list[VersionDetail] = []
    for version_key, version_id, name, base_model, published_ms, availability in versions:
        text: ParsedVersion | None = texts.get(version_id)
        of_version = [row[1:] for row in files if row[0] == version_key]
        # of a withdrawn version the last files known; elsewhere replaced ones are history
        current = [row for row in of_version if not row[7]] or of_version
        result.append(
            VersionDetail(
                ref=version_ref(hub, ref_id, version_id),
                name=name,
                base_model=base_model,
                published_ms=published_ms,
                availability=availability,
                trained_words=list(text.trained_words) if text else [],
                description=text.description if text else "",
                files=[_file(hub, ref_id, version_id, row) for row in current],
            )
        )
    return result


def _file(hub: str, model: str, version: str, row: tuple[Any, ...]) -> FileDetail:
    file_id, name, kind, format_, size_bytes, sha256, primary, _gone, owned_path = row
    return FileDetail(
        ref=file_ref(hub, model, version, file_id or name),
        name=name,
        kind=kind,
        format=format_,
        size_bytes=size_bytes,
        sha256=None if sha256 is None else sha256.hex(),
        primary=bool(primary),
        owned_path=owned_path,
    )


def _document(db: apsw.Connection, codec: DocumentCodec, model_key: int) -> bytes | None:
    try:
        return read_document(db, codec, model_key)
    except DocumentDamaged:
        return None  # what the columns say is still shown


def _raw(db: apsw.Connection, codec: DocumentCodec, model_key: int, document: bytes | None) -> Any:
    """The hub's own words: of two documents the fuller one."""
    row: Any = db.execute(
        "SELECT raw, dict_id FROM detail_document WHERE model_key = ?", (model_key,)
    ).fetchone()
    if row is not None:
        with suppress(DocumentDamaged):
            return _decoded(codec.decompress(row[0], row[1], db))
    return None if document is None else _decoded(document)


def _parsed(hub: str, document: bytes | None, parse: ParseModel) -> ParsedModel | None:
    try:
        return None if document is None else parse(hub, document)
    except OddDocument:
        return None


def _decoded(document: bytes) -> Any:
    try:
        tree = msgspec.json.decode(document)
        msgspec.msgpack.encode(tree)  # the wire has no number of more than 64 bits
        return tree
    except (OverflowError, msgspec.MsgspecError, RecursionError, ValueError):
        return document.decode("utf-8", "replace")


def _page(sites: Mapping[str, str], hub: str, ref_id: str, version: str | None) -> str:
    site = sites.get(hub, HUB_SITES.get(hub, "")).rstrip("/")
    if hub == "huggingface":
        return f"{site}/{ref_id}" + (f"/tree/{version}" if version else "")
    suffix = f"?modelVersionId={version}" if version else ""
    return f"{site}/models/{ref_id}{suffix}" if site else ""

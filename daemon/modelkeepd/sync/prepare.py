"""A fetched page made ready for the writer: parsed, hashed, compressed. Runs in a worker thread.

Everything slow happens here, so that the writer's transaction is only statements. What is known
already is not parsed again.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec

from modelkeepd.catalog.history import wants_keyframe
from modelkeepd.hubs.contract import ListItem, OddDocument, ParsedModel
from modelkeepd.hubs.documents import DocumentCodec, DocumentDamaged, document_hash, same_document

log = logging.getLogger(__name__)

MODEL_KIND = "model"
DETAIL_KIND = "detail"


class Known(msgspec.Struct, frozen=True, gc=False):
    """What the store has of a model before this page."""

    doc_hash: bytes
    seen_ms: int
    gone: bool
    old: tuple[bytes, int | None] | None = None  # the kept document, if its hash is another
    revisions: int = 0  # how many states of it are kept already


class Delta(msgspec.Struct, frozen=True):
    """A replaced document as its difference from the one that replaces it.

    ``of`` is the replaced one's hash: the delta is worth nothing for another.
    """

    of: bytes
    raw: bytes


class PreparedModel(msgspec.Struct, frozen=True):
    """One model as the writer needs it. ``parsed`` is None for an unchanged one."""

    hub_id: str
    doc_hash: bytes
    parsed: ParsedModel | None
    blob: bytes
    dict_id: int | None
    delta: Delta | None = None


class OddItem(msgspec.Struct, frozen=True):
    """A document that is no model to us, kept whole."""

    hub_id: str | None
    reason: str
    doc_hash: bytes
    blob: bytes


class PreparedPage(msgspec.Struct, frozen=True):
    """All of a page. ``again`` counts models whose document an earlier view has brought."""

    models: tuple[PreparedModel, ...]
    odd: tuple[OddItem, ...]
    again: int


def tells_files(parsed: ParsedModel) -> bool:
    """Whether it has a file, or is of a form that leaves all files out."""
    return any(version.files or not version.files_known for version in parsed.versions)


def prepare_page(
    hub: str,
    items: Sequence[ListItem],
    known: Mapping[str, Known],
    *,
    parse: Callable[[bytes], ParsedModel],
    codec: DocumentCodec,
    seen_since_ms: int | None = None,
    horizon_ms: int | None = None,
) -> PreparedPage:
    """Make a page ready.

    ``seen_since_ms`` is set in every view but the first: a model seen since then came through an
    earlier view of this run, whose document is the fuller one, and is left alone. The first view's
    walk may have ended at ``horizon_ms``: a known model older than that may be one that it has not
    come to, and is left alone as well.
    """
    dict_id = codec.dictionary_for(hub, MODEL_KIND)
    models: dict[str, PreparedModel] = {}
    odd: list[OddItem] = []
    again = 0
    for item in items:
        before = known.get(item.hub_id) if item.hub_id is not None else None
        if before is not None and seen_since_ms is not None and before.seen_ms >= seen_since_ms:
            again += 1
            continue
        digest = document_hash(item.raw)
        old = None if before is None else _kept(before, codec)
        if before is not None and not before.gone and _is_same(before, old, item.raw, digest):
            models[str(item.hub_id)] = PreparedModel(str(item.hub_id), digest, None, b"", None)
            continue
        try:
            parsed = parse(item.raw)
        except OddDocument as exc:
            odd.append(OddItem(item.hub_id, exc.reason, digest, codec.compress(item.raw, None)))
        except Exception as exc:  # a parser's own fault must cost one document, not the crawl
            log.exception("parser failed", extra={"facts": {"hub": hub, "id": item.hub_id}})
            reason = f"the parser failed: {type(exc).__name__}: {exc}"
            odd.append(OddItem(item.hub_id, reason, digest, codec.compress(item.raw, None)))
        else:
            if before is not None and horizon_ms is not None:
                dated_ms = parsed.updated_ms
                if not before.gone and (dated_ms is None or dated_ms < horizon_ms):
                    again += 1
                    continue
            # one without files may turn out odd, and odd ones are kept without a dictionary
            used = dict_id if tells_files(parsed) else None
            models[parsed.hub_id] = PreparedModel(
                parsed.hub_id,
                digest,
                parsed,
                codec.compress(item.raw, used),
                used,
                None if before is None else delta_of(before, old, item.raw, codec),
            )
    return PreparedPage(tuple(models.values()), tuple(odd), again)


def delta_of(before: Known, old: bytes | None, new: bytes, codec: DocumentCodec) -> Delta | None:
    """``old``, which ``new`` replaces; None where it is kept whole."""
    if old is None or wants_keyframe(before.revisions):
        return None
    return Delta(before.doc_hash, codec.delta(old, new))


def _kept(before: Known, codec: DocumentCodec) -> bytes | None:
    if before.old is None:
        return None
    try:
        return codec.decompress(*before.old)
    except DocumentDamaged:
        return None  # then the new one mends it


def _is_same(before: Known, old: bytes | None, raw: bytes, digest: bytes) -> bool:
    if before.doc_hash == digest:
        return True
    return old is not None and same_document(old, raw)

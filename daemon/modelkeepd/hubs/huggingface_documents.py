"""Hugging Face's documents, list rows and whole ones of all years, read into the contract's shapes.

Owns what Hugging Face's fields mean. A repository is one model with one version, ``main``. Two
roads lead to one result, as with CivitAI's: a strict decode, and for what does not fit it a
field-by-field one. A list row and the whole document of one state of a repository give the same
model but for what only the whole one has: files and trained words.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from modelkeepd.hubs.contract import OddDocument, ParsedModel, ParsedVersion
from modelkeepd.hubs.huggingface_files import read_files
from modelkeepd.hubs.huggingface_wire import WireCard, WireModel
from modelkeepd.hubs.licenses import allows_commercial
from modelkeepd.hubs.plain_text import plain_text
from modelkeepd.hubs.reference import is_repo_name
from modelkeepd.hubs.wire import (
    MAX_NAME,
    MAX_TAGS,
    count,
    lenient,
    load_json,
    text_of,
    time_ms,
)
from modelkeepd.kinds import huggingface_base, huggingface_type

HUB = "huggingface"
MAIN = "main"
MAX_BASES = 50
MAX_WORD = 2_000

# bits as CivitAI counts them: the tag is for everything from there on
_MATURE = 8 | 16
_MATURE_TAG = "not-for-all-audiences"
# what the hub's own machinery adds, and no person looks for
_MACHINE_TAGS = frozenset({"endpoints_compatible", "autotrain_compatible", "model-index"})
_MACHINE_PREFIXES = ("region:", "deploy:")
_BASE = "base_model:"
_RELATIONS = frozenset({"finetune", "adapter", "quantized", "merge"})

_KEY = re.compile(r"[0-9a-f]{24}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)

_decoder = msgspec.json.Decoder(WireModel)


def parse_huggingface_model(raw: bytes, *, texts: bool = True) -> ParsedModel:
    """A row of ``/api/models`` or a document of ``/api/models/ORG/NAME``, of any year.

    Raises OddDocument when there is no usable ``_id``: the name alone is no key, it may change.
    """
    try:
        wire = _decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        wire = lenient(load_json(raw), WireModel)
    key = repo_key(wire.key)
    named = next((name for name in (wire.id, wire.model_id) if is_repo_name(name)), None)
    if key is None:
        if named is not None:
            raise OddDocument(f"{named} without its _id: as the hub answered before it had one")
        raise OddDocument("no usable _id")
    tags = _Tags(wire.tags or ())
    card = wire.card_data or WireCard()
    license_name = tags.license or _word(card.license)
    bases = _known_bases(tags.bases or _words(card.base_model))
    owner = named.partition("/")[0] if named is not None and "/" in named else None
    changed_ms = time_ms(wire.last_modified)
    created_ms = time_ms(wire.created_at)
    library, task = text_of(wire.library_name, MAX_NAME), text_of(wire.pipeline_tag, MAX_NAME)
    files = read_files(wire.siblings) if wire.siblings is not None else ()
    version = ParsedVersion(
        hub_id=MAIN,
        name=MAIN,
        base_model=bases[0] if bases else None,
        position=0,
        published_ms=changed_ms or created_ms,
        availability=None,
        description="",
        trained_words=_words(card.instance_prompt),
        files=files,
        image_urls=(),
        files_known=wire.siblings is not None,
        revision=wire.sha if wire.sha is not None and _COMMIT.fullmatch(wire.sha) else None,
    )
    ref_id = named or key
    return ParsedModel(
        hub=HUB,
        hub_id=key,
        ref_id=ref_id,
        name=named or text_of(wire.id or wire.model_id, MAX_NAME) or f"hf:{key}",
        # without the files: a type must not depend on which of the two documents was read
        type=huggingface_type(library, task, tags.all, ref_id).type,
        creator=text_of(wire.author, MAX_NAME) or owner,
        tags=tuple(dict.fromkeys([*tags.shown, *filter(None, (task, library))])),
        description=_description(card) if texts else "",
        nsfw_level=_MATURE if _MATURE_TAG in tags.all else None,
        downloads=count(wire.downloads),
        likes=count(wire.likes),
        commercial=allows_commercial(license_name),
        hub_state="taken_down" if wire.disabled is True else "listed",
        versions=(version,),
        base_models=bases,
        published_ms=created_ms,
        updated_ms=changed_ms or created_ms,
        size_bytes=next((file.size_bytes for file in files if file.is_primary), None),
        license=license_name,
        gated=_gated(wire.gated),
    )


def repo_key(value: object) -> str | None:
    """A repository's key for life: 24 hexadecimal digits."""
    if isinstance(value, str):
        value = value.strip().lower()
        if _KEY.fullmatch(value):
            return value
    return None


class _Tags:
    """One list of tags that mixes kinds, taken apart."""

    __slots__ = ("all", "bases", "license", "shown")

    def __init__(self, tags: Iterable[str]) -> None:
        self.all: dict[str, None] = {}
        self.shown: list[str] = []
        bases: dict[str, None] = {}
        related: dict[str, None] = {}
        self.license: str | None = None
        for number, tag in enumerate(tags):
            word = text_of(tag, MAX_NAME)
            if word is None:
                continue
            if number >= MAX_TAGS:
                break
            self.all[word] = None
            if ":" not in word:  # most of them: asked first, since there are a dozen a row
                if word not in _MACHINE_TAGS:
                    self.shown.append(word)
                continue
            if word.startswith(_BASE):
                base = word[len(_BASE) :]
                relation, colon, of = base.partition(":")
                if colon and relation in _RELATIONS:
                    related[of] = None  # said again without the relation, as a rule
                    continue
                bases[base] = None
            elif word.startswith("license:"):
                self.license = self.license or word[len("license:") :] or None
            if not word.startswith(_MACHINE_PREFIXES):
                self.shown.append(word)
        self.bases = tuple(base for base in bases or related if base)[:MAX_BASES]


def _known_bases(names: Iterable[str]) -> tuple[str, ...]:
    """Our names for base models, the repositories' own where we have none."""
    return tuple(dict.fromkeys(huggingface_base(name) or name for name in names))


def _gated(value: bool | str | None) -> str | None:
    if value is True:
        return "auto"
    return text_of(value, 40) if isinstance(value, str) else None


def _description(card: WireCard) -> str:
    """The card's prose is a file of the repository; only what its front matter says is here."""
    for value in (card.description, card.model_description):
        if isinstance(value, str) and (found := plain_text(value)):
            return found
    return ""


def _word(value: Any) -> str | None:
    return next(iter(_words(value)), None)


def _words(value: Any) -> tuple[str, ...]:
    """Front matter: a string where lists are usual, a list where strings are."""
    values = value if isinstance(value, list) else [value]
    found = (text_of(_utf8(v), MAX_WORD) for v in values[:MAX_BASES] if isinstance(v, str))
    return tuple(dict.fromkeys(filter(None, found)))


def _utf8(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

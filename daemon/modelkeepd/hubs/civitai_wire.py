"""The JSON of CivitAI's documents as msgspec structures.

Only the fields modelkeep reads are named; all others are skipped here and survive in the raw
bytes. Owns types, no meaning.
"""

from typing import Any

import msgspec


class WireStats(msgspec.Struct, rename="camel", gc=False):
    """Counters of a model; any of them may be null since 2026-07."""

    download_count: int | None = None
    thumbs_up_count: int | None = None
    favorite_count: int | None = None


class WireCreator(msgspec.Struct, gc=False):
    """Absent for the house account; ``username`` null for deleted users, once a number."""

    username: str | None = None


class WireFileMetadata(msgspec.Struct, gc=False):
    """``{}`` up to six keys; only the format matters to us."""

    format: str | None = None


class WireHashes(msgspec.Struct, gc=False):
    """Any subset; ``{}`` for minutes after an upload."""

    sha256: str | None = msgspec.field(name="SHA256", default=None)


class WireFile(msgspec.Struct, rename="camel"):
    """One file of a version."""

    id: int | None = None
    size_kb: float | None = msgspec.field(name="sizeKB", default=None)
    name: str | None = None
    type: str | None = None
    metadata: WireFileMetadata | None = None
    hashes: WireHashes | None = None
    download_url: str | None = None
    primary: bool | None = None


class WirePicture(msgspec.Struct, gc=False):
    """A preview picture of a version."""

    url: str | None = None


class WireVersion(msgspec.Struct, rename="camel"):
    """One element of ``modelVersions``; by-id documents drop every empty key."""

    id: int | None = None
    name: str | None = None
    base_model: str | None = None
    published_at: str | None = None
    created_at: str | None = None
    availability: str | None = None
    description: str | None = None
    trained_words: list[str] | None = None
    files: list[WireFile] | None = None
    images: list[WirePicture] | None = None


class WireModel(msgspec.Struct, rename="camel"):
    """A list item or a by-id document, 2022 to 2026."""

    id: int | None = None
    name: str | None = None
    description: str | None = None
    type: str | None = None
    allow_commercial_use: list[str] | str | None = None
    nsfw_level: int | None = None
    mode: str | None = None
    base_models: list[str] | None = None
    stats: WireStats | None = None
    creator: WireCreator | None = None
    tags: list[str] | None = None
    model_versions: list[WireVersion] | None = None


class WireVersionsModel(msgspec.Struct, gc=False):
    """What a version document tells about its model."""

    name: str | None = None
    type: str | None = None
    mode: str | None = None


class WireVersionDocument(WireVersion, rename="camel"):
    """``/model-versions/{id}``"""

    model_id: int | None = None
    model: WireVersionsModel | None = None


class WireImage(msgspec.Struct, rename="camel"):
    """One element of ``/images``: ``nsfwLevel`` is a word there and a number elsewhere."""

    id: int | None = None
    url: str | None = None
    width: int | None = None
    height: int | None = None
    nsfw_level: int | str | None = None
    browsing_level: int | None = None
    created_at: str | None = None
    username: str | None = None
    meta: Any = None


class WirePage(msgspec.Struct):
    """A list page; the items stay bytes."""

    items: list[msgspec.Raw]
    metadata: Any = None

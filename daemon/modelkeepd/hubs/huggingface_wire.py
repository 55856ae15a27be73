"""The JSON of Hugging Face's model documents as msgspec structures.

Only the fields modelkeep reads are named; all others are skipped here and survive in the raw
bytes. Owns types, no meaning.
"""

from typing import Any

import msgspec


class WireSibling(msgspec.Struct, gc=False):
    """One file: only its name, but with ``blobs=true``.

    ``lfs`` is any value: one that is there and can't be read still says that ``blob_id`` is the
    pointer's.
    """

    rfilename: str | None = None
    size: int | None = None
    blob_id: str | None = msgspec.field(name="blobId", default=None)
    lfs: Any = None


class WireCard(msgspec.Struct):
    """The model card's front matter: any YAML, so every field may be anything."""

    license: Any = None
    base_model: Any = None
    instance_prompt: Any = None
    description: Any = None
    model_description: Any = None


class WireModel(msgspec.Struct, rename="camel"):
    """A row of the list or a model's document, 2022 to 2026; any field but ``_id`` may be absent.

    ``modelId`` is the only name in old answers; ``gated`` is false, "auto" or "manual".
    """

    key: str | None = msgspec.field(name="_id", default=None)
    id: str | None = None
    model_id: str | None = None
    author: str | None = None
    sha: str | None = None
    created_at: str | None = None
    last_modified: str | None = None
    disabled: bool | None = None
    gated: bool | str | None = None
    downloads: int | None = None
    likes: int | None = None
    pipeline_tag: str | None = msgspec.field(name="pipeline_tag", default=None)
    library_name: str | None = msgspec.field(name="library_name", default=None)
    tags: list[str] | None = None
    siblings: list[WireSibling] | None = None
    card_data: WireCard | None = None


class WireRow(msgspec.Struct, rename="camel", gc=False):
    """What a list page's reader needs of a row."""

    key: Any = msgspec.field(name="_id", default=None)
    id: Any = None
    created_at: Any = None
    last_modified: Any = None

"""What a snapshot is made of: plain records, as msgpack maps with a ``t`` that names their kind.

A record that is added later makes a new format version; a field that is added is ignored by older
readers. Texts are the hubs' own and may be anything.
"""

from typing import Annotated

import msgspec

# hubs name things in a few hundred characters; a signature does not make longer ones welcome
Text = Annotated[str, msgspec.Meta(max_length=4_000)]
Time = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
HubName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Fact(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A dated fact of a model; ``detail`` is a JSON object."""

    at_ms: Time
    kind: Annotated[str, msgspec.Meta(max_length=64)]
    detail: Text


class Document(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A hub's document, byte for byte, and when it was fetched first."""

    fetched_ms: Time
    raw: bytes


class ModelRecord(msgspec.Struct, frozen=True, tag_field="t", tag="model"):
    """One model: its documents, and what no document tells."""

    hub: HubName
    hub_id: Text
    ref_id: Text
    state: Annotated[str, msgspec.Meta(max_length=64)]
    gone_ms: Time | None
    first_seen_ms: Time
    seen_ms: Time
    document: Document
    detail: Document | None = None
    facts: tuple[Fact, ...] = ()


class AliasRecord(msgspec.Struct, frozen=True, tag_field="t", tag="alias"):
    """A name that a model had until ``until_ms``. Comes after all models."""

    hub: HubName
    hub_id: Text
    ref_id: Text
    until_ms: Time


class OddRecord(msgspec.Struct, frozen=True, tag_field="t", tag="odd"):
    """A document that was no model to the program that met it."""

    hub: HubName
    kind: Annotated[str, msgspec.Meta(max_length=64)]
    hub_id: Text | None
    reason: Text
    document: Document


class DictionaryRecord(msgspec.Struct, frozen=True, tag_field="t", tag="dictionary"):
    """A zstd dictionary that suits a hub's documents. Nothing in the file needs it."""

    hub: HubName
    kind: Annotated[str, msgspec.Meta(max_length=64)]
    data: Annotated[bytes, msgspec.Meta(max_length=1 << 20)]


Record = ModelRecord | AliasRecord | OddRecord | DictionaryRecord

encoder = msgspec.msgpack.Encoder()
decoder = msgspec.msgpack.Decoder(list[Record])

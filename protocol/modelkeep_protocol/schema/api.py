"""What was learnt of the hubs' APIs, and how they changed."""

from typing import Any

from msgspec import Struct

from modelkeep_protocol.schema.common import Count, Limit, ShortText


class ListApiChanges(Struct, frozen=True):
    """Which changes to list, the newest first; empty texts stand for all."""

    hub: ShortText = ""
    severity: ShortText = ""  # harmless, adopted, degraded, breaking
    limit: Limit = 50
    before_id: Count = 0  # the page before this change


class ApiChange(Struct, frozen=True):
    """One difference between an endpoint's answers before and now, and what follows from it."""

    id: int
    hub: str
    operation: str  # list, ids, model, version, details …
    kind: str  # field_added, field_gone, type_changed, enum_value_new …
    severity: str
    path: str  # where in the answer
    before: Any
    after: Any
    example: str
    suggestion: str
    at_ms: int
    version: int  # the first version of the endpoint's shape that has it
    accepted_ms: int | None


class ApiChanges(Struct, frozen=True):
    """One page of changes."""

    items: list[ApiChange]
    total: int


class ApiEndpoint(Struct, frozen=True):
    """One endpoint as it is known. ``paused`` says why it is not asked for now."""

    hub: str
    operation: str
    version: int
    documents: int  # answers it was learnt from
    since_ms: int
    last_ms: int
    paused: str | None


class ApiEndpoints(Struct, frozen=True):
    """Every endpoint that has answered."""

    items: list[ApiEndpoint]


class DiffApi(Struct, frozen=True):
    """Two versions of an endpoint's shape; 0 stands for the one before the newest, the newest."""

    hub: ShortText
    operation: ShortText
    from_version: Count = 0
    to_version: Count = 0


class PickApi(Struct, frozen=True):
    """One change by its id, or an endpoint that is to be asked again."""

    id: Count = 0
    hub: ShortText = ""
    operation: ShortText = ""

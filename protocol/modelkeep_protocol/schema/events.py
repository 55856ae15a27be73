"""The event log."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from modelkeep_protocol.schema.common import Limit, ShortText


class ReadEvents(Struct, frozen=True):
    """Where to read on in the event log."""

    since: ShortText = ""  # a cursor; empty: from now on
    topics: Annotated[list[ShortText], Meta(max_length=20)] = []
    limit: Limit = 100
    wait_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0  # wait this long for the first one


class WatchEvents(Struct, frozen=True):
    """Where to follow the event log from."""

    since: ShortText = ""
    topics: Annotated[list[ShortText], Meta(max_length=20)] = []


class Event(Struct, frozen=True):
    """One fact. Which kinds there are stands in ``events``."""

    cursor: str
    at_ms: int
    topic: str
    kind: str
    subject: str
    payload: dict[str, Any]


class EventPage(Struct, frozen=True):
    """``fresh``: events were missed for good; fetch anew what you show."""

    events: list[Event]
    cursor: str
    fresh: bool = False

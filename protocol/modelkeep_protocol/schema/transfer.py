"""Downloads."""

from typing import Annotated

from msgspec import Meta, Struct

from modelkeep_protocol.schema.common import (
    Count,
    Ids,
    Limit,
    PathText,
    Problem,
    RefText,
    ShortText,
)


class Get(Struct, frozen=True):
    """What to download."""

    refs: Annotated[list[RefText], Meta(min_length=1, max_length=10_000)]
    file: ShortText = ""  # pattern of file names; empty: the primary file
    to: PathText = ""  # folder; empty: by layout and type
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    dry_run: bool = False


class Job(Struct, frozen=True):
    """One file's way into the library. ``id`` is 0 for a file that is owned already."""

    id: int
    ref: str
    name: str
    state: str
    size_bytes: int | None
    done_bytes: int
    rate_bytes_per_s: float
    eta_s: float | None
    priority: int
    attempts: int
    path: str | None
    sha256: str | None
    verdict: str | None
    warning: str | None
    error: Problem | None
    created_ms: int
    updated_ms: int


class LeftOut(Struct, frozen=True):
    """Files of a repository that are not fetched; ``names`` are the first of ``count``."""

    ref: str
    why: str
    count: int
    size_bytes: int
    names: list[str]


class GetResult(Struct, frozen=True):
    """A job for each file, an error for each reference that has none."""

    jobs: list[Job]
    errors: list[Problem]
    total_bytes: int
    left_out: list[LeftOut] = []


class ListJobs(Struct, frozen=True):
    """Which jobs to list; empty lists stand for all."""

    ids: Ids = []
    states: Annotated[list[ShortText], Meta(max_length=20)] = []
    limit: Limit = 100
    after_id: Count = 0  # the page after this job, in queue order


class Jobs(Struct, frozen=True):
    """Jobs in queue order; ``total`` counts those of other pages too."""

    jobs: list[Job]
    total: int = 0


class PickJobs(Struct, frozen=True):
    """Which jobs a command is for: by id, or all it makes sense for."""

    ids: Ids = []
    all: bool = False


class MoveJobs(Struct, frozen=True):
    """Jobs and the priority they get; higher goes first."""

    ids: Ids
    priority: Annotated[int, Meta(ge=-100, le=100)]

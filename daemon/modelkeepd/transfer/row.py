"""A job's row in the hands of the one run that works on it.

Owns what that run believes the row to be, and how it changes it: a step on the table, or facts
that are no step. Raises Unreachable when somebody else has moved the job meanwhile.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from modelkeepd.store import Durability, Store, Tx
from modelkeepd.transfer import jobs
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.states import Event

# A power cut may take these back: the part file and its map explain the rest.
_SOFT = frozenset([Event.RESOLVED, Event.FETCHED, Event.MATCHED])


class JobRow:
    """``job`` is the row as this run last persisted it."""

    def __init__(self, job: Job, store: Store) -> None:
        self.job = job
        self._store = store

    async def advance(
        self,
        event: Event,
        changes: Mapping[str, object],
        *,
        also: Callable[[Tx, Job], None] | None = None,
    ) -> None:
        """One step, with ``changes`` and whatever else belongs into the same transaction."""

        def unit(tx: Tx) -> Job:
            job, _ = jobs.advance(tx, self.job.job_id, event, changes, expected=self.job.state)
            if also is not None:
                also(tx, job)
            return job

        durability = Durability.NORMAL if event in _SOFT else Durability.FULL
        self.job = await self._store.apply(unit, durability=durability, name=f"transfer.{event}")

    async def apply(self, unit: Callable[[Tx], Job], name: str) -> None:
        """A unit of the caller's own that brings the row back."""
        self.job = await self._store.apply(unit, durability=Durability.FULL, name=name)

    async def note(
        self,
        changes: Mapping[str, object],
        *,
        also: Callable[[Tx], None] | None = None,
        durability: Durability = Durability.NORMAL,
        name: str = "transfer.note",
    ) -> None:
        """Facts that are no step."""

        def unit(tx: Tx) -> None:
            jobs.note(tx, self.job.job_id, changes)
            if also is not None:
                also(tx)

        await self._store.apply(unit, durability=durability, name=name)
        self.job = replace(self.job, **changes)  # type: ignore[arg-type]

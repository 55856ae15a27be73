"""How documents get into the catalog: prepared in a thread, written in one unit.

One per hub, shared by all of its tasks. Also trains the dictionary that new documents are kept
with, once there are samples enough.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import trio

from modelkeepd.hubs.contract import ListItem, ParsedModel
from modelkeepd.hubs.documents import DocumentCodec, suffice, train_dictionary
from modelkeepd.store import Durability, Store, Tx
from modelkeepd.sync.prepare import MODEL_KIND, PreparedPage, prepare_page
from modelkeepd.sync.units import PageOutcome, PageWrite, apply_page, known_models, save_dictionary

T = TypeVar("T")


class Intake:
    """The way in for one hub's documents."""

    def __init__(
        self,
        store: Store,
        hub: str,
        codec: DocumentCodec,
        parse: Callable[[bytes], ParsedModel],
    ) -> None:
        self.hub = hub
        self.store = store
        self.codec = codec
        self.parse = parse
        self._threads = trio.CapacityLimiter(1)
        self._samples: dict[str, list[bytes] | None] = {}

    async def prepare(
        self,
        items: Sequence[ListItem],
        *,
        seen_since_ms: int | None = None,
        horizon_ms: int | None = None,
    ) -> PreparedPage:
        """These documents, ready to be written."""
        await self.train(MODEL_KIND, [item.raw for item in items])
        known = await self.store.read(partial(known_models, hub=self.hub, items=items))
        return await self.in_thread(
            partial(
                prepare_page,
                self.hub,
                items,
                known,
                parse=self.parse,
                codec=self.codec,
                seen_since_ms=seen_since_ms,
                horizon_ms=horizon_ms,
            )
        )

    async def write(self, write: PageWrite, name: str = "sync.page") -> PageOutcome:
        """Bring a prepared page into the catalog."""
        return await self.apply(partial(apply_page, write=write), name)

    async def apply(self, unit: Callable[[Tx], T], name: str) -> T:
        """One unit of work on the mirror, which a power cut may take back."""
        return await self.store.apply(unit, durability=Durability.NORMAL, name=name)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Something slow, one at a time for this hub."""
        return await trio.to_thread.run_sync(call, limiter=self._threads)

    async def train(self, kind: str, documents: Sequence[bytes]) -> None:
        """Once there are samples enough, make the dictionary that new documents are kept with."""
        samples = self._samples.setdefault(kind, [])
        if samples is None:
            return
        if self.codec.dictionary_for(self.hub, kind) is not None:
            self._samples[kind] = None
            return
        samples += documents
        if not suffice(samples):
            return
        self._samples[kind] = None
        data = await self.in_thread(partial(train_dictionary, samples))
        if data is not None:
            dict_id = await self.apply(
                partial(save_dictionary, hub=self.hub, kind=kind, data=data), "sync.dictionary"
            )
            self.codec.add(dict_id, self.hub, kind, data)

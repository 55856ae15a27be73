"""Downloads from the simulated Hugging Face, with a catalog of what was asked for and no sync.

What sync writes of a repository is written here by hand from the same parsed document, so that
tests of transfers say exactly what the catalog knows and when.
"""

import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from modelkeepd.hubs.contract import Address, Hub, HubError, ParsedModel
from modelkeepd.hubs.huggingface_documents import parse_huggingface_model
from modelkeepd.hubs.opening import HubConfig, open_hubs
from modelkeepd.hubs.reference import parse_reference
from modelkeepd.library import records
from modelkeepd.secrets import Secret
from modelkeepd.store import Durability, Store, Tx
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.ports import Ports
from modelkeepd.transfer.request import DetailsNeeded, Found, Wish, find_files
from modelkeepd.transfer.resolve import resolver
from modelkeepd.transfer.service import Enqueued
from tests.fakes.transfers import Bench, open_bench
from tests.hubsim import Hub as Hubsim

HUGGINGFACE = "huggingface"


def record(tx: Tx, parsed: ParsedModel) -> int:
    """The rows of one repository, as its document says."""
    [version] = parsed.versions
    tx.db.execute(
        "INSERT INTO model (hub, hub_id, ref_id, name, type, base_models, tags, hub_state,"
        " gated, first_seen_ms, seen_ms, changed_seq, doc_hash)"
        " VALUES (?, ?, ?, ?, ?, '[]', '[]', 'listed', ?, 0, 0, 0, x'')"
        " ON CONFLICT (hub, hub_id) DO UPDATE SET ref_id = excluded.ref_id",
        (HUGGINGFACE, parsed.hub_id, parsed.ref_id, parsed.name, parsed.type, parsed.gated),
    )
    model_key = int(
        str(tx.db.execute("SELECT model_key FROM model WHERE hub_id = ?", (parsed.hub_id,)).get)
    )
    tx.db.execute(
        "INSERT INTO version (model_key, hub_id, name, position, revision, files_revision)"
        " VALUES (?1, 'main', 'main', 0, ?2, ?2) ON CONFLICT (model_key, hub_id)"
        " DO UPDATE SET revision = ?2, files_revision = ?2",
        (model_key, version.revision),
    )
    version_key = tx.db.execute(
        "SELECT version_key FROM version WHERE model_key = ?", (model_key,)
    ).get
    tx.db.execute("UPDATE file SET gone_ms = 1 WHERE version_key = ?", (version_key,))
    for file in version.files:
        tx.db.execute(
            "INSERT INTO file (version_key, model_key, hub_id, name, kind, format, size_bytes,"
            " sha256, git_sha1, is_primary) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET size_bytes = excluded.size_bytes,"
            " sha256 = excluded.sha256, git_sha1 = excluded.git_sha1, gone_ms = NULL",
            (
                version_key, model_key, file.hub_id, file.name, file.kind, file.format,
                file.size_bytes, file.sha256, file.git_sha1, file.is_primary,
            ),
        )  # fmt: skip
    return model_key


@dataclass
class HubBench:
    """A bench whose files come from the simulated hub."""

    bench: Bench
    hub: Hubsim
    client: Hub
    asked: list[str] = field(default_factory=list)  # details that were needed
    heard: list[int] = field(default_factory=list)  # statuses reported to the hub's line
    turns: int = 0

    async def learn(self, ref_id: str) -> None:
        """What a detail request brings into the catalog."""
        self.asked.append(ref_id)
        wanted = ref_id.casefold()
        hub_id = next(
            key for key in self.hub.truth(digests=False) if self.hub.name(key).casefold() == wanted
        )
        raw = await self.client.details(Address(hub_id, ref_id))
        await self.sql(partial(record, parsed=parse_huggingface_model(raw)))

    async def sql(self, unit: Callable[[Tx], Any]) -> Any:
        return await self.bench.store.apply(unit, durability=Durability.NORMAL, name="test")

    async def find(self, ref: str, **wish: Any) -> Found:
        """As the daemon does: what is not known is asked, once."""
        look = partial(find_files, reference=parse_reference(ref), wish=Wish(**wish))
        try:
            return await self.bench.store.read(partial(look, askable={HUGGINGFACE}))
        except DetailsNeeded as need:
            try:
                await self.learn(need.ref_id)
            except HubError:
                if not need.usable:
                    raise
        return await self.bench.store.read(look)

    async def enqueue(self, ref: str, **wish: Any) -> list[Enqueued]:
        return await self.bench.service.enqueue((await self.find(ref, **wish)).files)

    async def get(self, ref: str, **wish: Any) -> list[Job]:
        """Queue and wait for the end of all."""
        answers = await self.enqueue(ref, **wish)
        return [
            await self.bench.ended(answer.job.job_id)
            for answer in answers
            if answer.job is not None
        ]

    def below(self, folder: str) -> list[str]:
        """The files in a folder of the root, relative to it."""
        start = self.bench.root / folder
        return sorted(str(path.relative_to(start)) for path in start.rglob("*") if path.is_file())

    def stored(self) -> int:
        """Requests that the storage host saw."""
        return sum(entry.storage for entry in self.hub.log)


@asynccontextmanager
async def open_hub_bench(
    tmp_path: Path, hub: Hubsim, *, token: str | None = None, **more: Any
) -> AsyncIterator[HubBench]:
    config = HubConfig(
        HUGGINGFACE, hub.base_url, Secret(token) if token else None, requests_per_second=1000
    )
    async with open_hubs([config], rng=random.Random(1)) as hubs:
        made: list[HubBench] = []

        async def refresh(job: Job) -> None:
            await made[0].learn(parse_reference(job.ref).model or "")

        async def turn(_hub: str) -> None:
            made[0].turns += 1

        def change_ports(store: Store, ports: Ports) -> Ports:
            return replace(
                ports,
                resolve=resolver(store, hubs.interactive, {HUGGINGFACE: hub.base_url}),
                refresh=refresh,
                turn=turn,
                heard=lambda _hub, status, _headers: made[0].heard.append(status),
                content_at=records.content_at,
            )

        async with open_bench(tmp_path, change_ports=change_ports, **more) as bench:
            made.append(HubBench(bench, hub, hubs.interactive[HUGGINGFACE]))
            yield made[0]


def blob_sha1(content: bytes) -> bytes:
    """Git's name for a content, by the book."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).digest()

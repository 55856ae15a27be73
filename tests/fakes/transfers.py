"""A transfer service with its neighbors faked, and small model files to fetch."""

import hashlib
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from modelkeepd.library import layout, records
from modelkeepd.scan.scanner import scan_file
from modelkeepd.store import Store, open_store, read_events
from modelkeepd.transfer.fetch import FetchLimits, open_fetcher
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.ports import Ports, SourcePlan, TransferSettings
from modelkeepd.transfer.retry import RetryPolicy
from modelkeepd.transfer.service import TransferService
from modelkeepd.transfer.states import FINAL, State
from modelkeepd.transfer.wanted import WantedFile

QUICK = RetryPolicy(first_s=0.002, cap_s=0.01, max_attempts=3, quick_attempts=2)


def safetensors(size_bytes: int, seed: int = 1) -> bytes:
    """A sound safetensors file of exactly this size."""
    for header_bytes in range(64, 256, 8):
        data_bytes = size_bytes - 8 - header_bytes
        tensor = {"dtype": "U8", "shape": [data_bytes], "data_offsets": [0, data_bytes]}
        header = json.dumps({"w": tensor}, separators=(",", ":")).encode()
        if data_bytes >= 0 and len(header) <= header_bytes:
            body = random.Random(seed).randbytes(data_bytes)
            return header_bytes.to_bytes(8, "little") + header.ljust(header_bytes) + body
    raise ValueError(f"{size_bytes} bytes are too few")


def wanted(content: bytes | None, *, name: str = "model.safetensors", **more: object) -> WantedFile:
    file = WantedFile(hub="civitai", ref="civitai:1@2#3", name=name, model_type="LORA")
    if content is not None:
        file = replace(file, size_bytes=len(content), sha256=hashlib.sha256(content).digest())
    return replace(file, **more)  # type: ignore[arg-type]


@dataclass
class Bench:
    """What a test holds: the service at work, its store, its destination, its plans."""

    service: TransferService
    store: Store
    root: Path
    plans: dict[str, SourcePlan]  # by ref

    async def ended(self, job_id: int) -> Job:
        """The job once it has come to rest, by the events and never by polling."""
        return await self.reached(job_id, lambda job: job.state in FINAL)

    async def reached(self, job_id: int, condition: Callable[[Job], bool]) -> Job:
        seq = 0
        while True:
            [job] = await self.service.get([job_id])
            if condition(job):
                return job
            seq = await self.store.feed.changed(seq)

    async def get(self, file: WantedFile, plan: SourcePlan | str, home: str = "") -> Job:
        """Enqueue one file and wait for its end."""
        if isinstance(plan, str):
            plan = SourcePlan(url=plan, home=home or plan)
        self.plans[file.ref] = plan
        [answer] = await self.service.enqueue([file])
        assert answer.job is not None
        return await self.ended(answer.job.job_id)

    async def states(self, job_id: int) -> list[str]:
        """All states the job went through, by its events."""
        page = await self.store.read(partial(read_events, after_seq=0, limit=1000))
        return [str(row.payload["state"]) for row in page if row.subject == f"job:{job_id}"]

    def files(self) -> list[str]:
        """Every plain file below the root, hidden ones included."""
        found = (path for path in self.root.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.root)) for path in found)


@asynccontextmanager
async def open_bench(
    tmp_path: Path,
    *,
    settings: TransferSettings | None = None,
    limits: FetchLimits | None = None,
    ca_file: str | None = None,
    plans: dict[str, SourcePlan] | None = None,
    run: bool = True,
    make_root: bool = True,
    change_ports: Callable[[Store, Ports], Ports] = lambda _store, ports: ports,
) -> AsyncIterator[Bench]:
    root = tmp_path / "models"
    if make_root:
        root.mkdir(exist_ok=True)
    settings = settings or TransferSettings(root=root, layout="comfyui", reserve_bytes=0)
    settings = replace(settings, root=root, retry=QUICK, poll_s=0.05)
    known = {} if plans is None else plans

    async def resolve(job: Job) -> SourcePlan:
        return known[job.ref]

    ports = Ports(
        resolve=resolve,
        scan=scan_file,
        expect=records.expect,
        adopt=records.adopt,
        owned_path=records.owned_path,
        folder_for=layout.folder_for,
        detect_layout=layout.detect_layout,
    )
    async with (
        open_store(tmp_path / "modelkeep.db") as store,
        open_fetcher(limits=limits, ca_file=ca_file, environ={}) as fetcher,
        trio.open_nursery() as nursery,
    ):
        service = TransferService(
            store, fetcher, settings, change_ports(store, ports), chance=random.Random(1)
        )
        if run:
            await nursery.start(lambda task_status: service.run(task_status=task_status))
        yield Bench(service, store, root, known)
        nursery.cancel_scope.cancel()


__all__ = ["Bench", "State", "open_bench", "safetensors", "wanted"]

"""One export or import at a time, as a task that outlives the client that asked for it.

Owns its progress and its end; how a snapshot is written and read is ``export``'s and
``importing``'s.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import trio

from modelkeepd.clocks import Clocks
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.snapshot.errors import SnapshotBusy, SnapshotError
from modelkeepd.snapshot.export import Progress, export_snapshot
from modelkeepd.snapshot.importing import import_snapshot
from modelkeepd.snapshot.incoming import Parse
from modelkeepd.snapshot.keys import own_key, public_key
from modelkeepd.store import Store, StoreError

log = logging.getLogger(__name__)

Kind = Literal["export", "import"]


class Task(msgspec.Struct, frozen=True):
    """An export or import. ``state``: none, running, finished, failed, canceled.

    ``key`` is the signer's public key in hex.
    """

    kind: Kind = "export"
    state: str = "none"
    path: str = ""
    models: int = 0
    total: int | None = None
    size_bytes: int = 0
    fraction: float | None = None
    eta_s: float | None = None
    new: int = 0
    changed: int = 0
    key: str = ""
    code: str | None = None
    error: str | None = None
    hint: str | None = None


class SnapshotService:
    """Writes and reads snapshots when asked."""

    name = "snapshot"
    essential = False

    def __init__(
        self,
        store: Store,
        codec: DocumentCodec,
        config_dir: Path,
        *,
        parse: Parse,
        clocks: Clocks | None = None,
    ) -> None:
        self._store = store
        self._codec = codec
        self._config_dir = config_dir
        self._parse = parse
        self._clocks = clocks or Clocks()
        self._task = Task()
        self._scope: trio.CancelScope | None = None
        self._ended = trio.Event()
        self._began = 0.0
        self._nursery: trio.Nursery | None = None

    @property
    def task(self) -> Task:
        """The one under way, or the last one."""
        return self._task

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until canceled; what is under way then ends cleanly."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def export(self, path: Path, since: Path | None = None) -> Task:
        """Begin to write the catalog to ``path``. Raises SnapshotBusy."""
        return self._begin("export", path, partial(self._export, path, since))

    def import_(self, path: Path, trust: Sequence[str] = ()) -> Task:
        """Begin to merge the snapshot at ``path``. Raises SnapshotBusy, SnapshotError."""
        trusted = {public_key(text) for text in trust}
        return self._begin("import", path, partial(self._import, path, trusted))

    async def cancel(self) -> Task:
        """End what is under way, and wait until it has ended."""
        if self._scope is not None:
            self._scope.cancel(reason="asked by a client")
            await self._ended.wait()
        return self._task

    def _begin(self, kind: Kind, path: Path, work: Callable[[], Awaitable[Task]]) -> Task:
        if self._scope is not None:
            raise SnapshotBusy(
                f"an {self._task.kind} is under way: {self._task.path}",
                hint="wait for it, or end it with Ctrl-C where it was begun",
            )
        if self._nursery is None:
            raise SnapshotBusy("the daemon is starting or stopping", hint="try again shortly")
        self._task = Task(kind, "running", str(path))
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        self._began = self._clocks.monotonic()
        self._nursery.start_soon(self._guarded, self._scope, work)
        return self._task

    async def _guarded(self, scope: trio.CancelScope, work: Callable[[], Awaitable[Task]]) -> None:
        canceled = msgspec.structs.replace(self._task, state="canceled", code="canceled")
        try:
            with scope:
                self._task = await work()
            if scope.cancelled_caught:
                self._task = self._ended_as(canceled)
        except SnapshotError as exc:
            self._fail(exc.code, exc.message, exc.hint)
        except StoreError as exc:
            self._fail("unavailable", str(exc), "the daemon's log has the details")
        except Exception as exc:
            log.exception("snapshot failed", extra={"facts": {"path": self._task.path}})
            self._fail("internal", f"it failed inside the daemon ({type(exc).__name__})", "")
        except BaseException:
            self._task = self._ended_as(canceled)
            raise
        finally:
            self._scope = None
            self._ended.set()

    def _ended_as(self, ended: Task) -> Task:
        return msgspec.structs.replace(
            self._task, state=ended.state, code=ended.code, error="it was ended before its end"
        )

    def _fail(self, code: str, message: str, hint: str) -> None:
        log.warning("snapshot", extra={"facts": {"path": self._task.path, "why": message}})
        self._task = msgspec.structs.replace(
            self._task, state="failed", code=code, error=message, hint=hint
        )

    async def _export(self, path: Path, since: Path | None) -> Task:
        signer = await trio.to_thread.run_sync(own_key, self._config_dir)
        done = await export_snapshot(
            self._store,
            self._codec,
            path,
            signer=signer,
            now_ms=self._clocks.wall_ms(),
            since=since,
            report=self._report,
        )
        return self._finished(done.counts.models, done.size_bytes, done.key)

    async def _import(self, path: Path, trusted: set[bytes]) -> Task:
        own = await trio.to_thread.run_sync(own_key, self._config_dir)
        done = await import_snapshot(
            self._store,
            self._codec,
            path,
            trusted={own.public, *trusted},
            parse=self._parse,
            now_ms=self._clocks.wall_ms(),
            report=self._report,
        )
        finished = self._finished(done.counts.models, done.size_bytes, done.key)
        return msgspec.structs.replace(finished, new=done.merged.new, changed=done.merged.changed)

    def _finished(self, models: int, size_bytes: int, key: bytes) -> Task:
        return msgspec.structs.replace(
            self._task,
            state="finished",
            models=models,
            size_bytes=size_bytes,
            fraction=1.0,
            eta_s=None,
            key=key.hex(),
        )

    def _report(self, progress: Progress) -> None:
        eta_s = None
        if progress.fraction:
            took_s = self._clocks.monotonic() - self._began
            eta_s = took_s / progress.fraction - took_s
        self._task = msgspec.structs.replace(
            self._task,
            models=progress.models,
            total=progress.total,
            size_bytes=progress.size_bytes,
            fraction=progress.fraction,
            eta_s=eta_s,
            new=progress.new,
            changed=progress.changed,
        )

"""The library's rounds: probing roots, walking them, taking hints, letting files settle.

Owns what goes on by itself while the daemon runs, and when. Each loop survives whatever the disk
does; the order of things is fixed: a root is watched first and walked after, so that nothing
falls between.
"""

import logging
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from modelkeepd.clocks import Clocks
from modelkeepd.library import roots as root_units
from modelkeepd.library import watch
from modelkeepd.library.clerk import Clerk, identity_of, look
from modelkeepd.library.differences import Counts
from modelkeepd.library.inbox import Inbox
from modelkeepd.library.paths import from_text, inside
from modelkeepd.library.reconcile import Outcome, reconcile
from modelkeepd.library.roots import Root, Sight, known_paths, read_roots, recognize
from modelkeepd.library.settle import Look, Ready, Settler
from modelkeepd.store import Durability, Store, Tx

log = logging.getLogger(__name__)

DIRTY_DELAY_S = 1.0
"""A root that loses events is in the middle of a storm: a walk a moment later sees more of it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are looked at, in seconds."""

    settle_s: float = 2.0
    reconcile_every_s: float = 21_600.0
    probe_s: float = 2.0
    poll_s: float = 30.0


@dataclass(slots=True)
class Watched:
    """What is going on with one root; nothing here outlives the process."""

    how: str = "off"
    warning: str | None = None
    next_walk: float = 0.0
    last_walk_s: float = 0.0
    armed: bool = False
    remote: bool = False
    walking: trio.Lock = field(default_factory=trio.Lock)


class Rounds:
    def __init__(
        self,
        store: Store,
        clocks: Clocks,
        clerk: Clerk,
        pace: Pace,
        inbox_bound: int,
        make_watch: watch.MakeWatch,
    ) -> None:
        self._store = store
        self._clocks = clocks
        self._clerk = clerk
        self._pace = pace
        self._inbox_bound = inbox_bound
        self._make_watch = make_watch
        self._walk_places = trio.CapacityLimiter(2)
        self._looks = trio.CapacityLimiter(2)
        self._settler = Settler(pace.settle_s)
        self._settle_wake = trio.Event()
        self._walk_wake = trio.Event()
        self._probing = trio.Lock()
        self._watches: watch.Watches | None = None
        self.watched: dict[int, Watched] = {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        inbox = Inbox(self._inbox_bound)
        self._settler = Settler(self._pace.settle_s)  # what an earlier run left half done is walked
        self._watches = watch.Watches(inbox, self._make_watch)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._take_hints, inbox)
                nursery.start_soon(self._settle)
                nursery.start_soon(self._walk_when_due)
                nursery.start_soon(self._probe_regularly)
                task_status.started()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._watches.stop)
            self._watches = None
            self.watched.clear()

    def note(self, path: str, *, closed: bool = False) -> None:
        """Look at this path (text) when it is quiet."""
        self._settler.note(path, self._clocks.monotonic(), closed=closed)
        self._settle_wake.set()

    async def read_roots(self) -> list[Root]:
        return await self._store.read(read_roots)

    # -- roots

    async def _probe_regularly(self) -> None:
        while True:
            await self.probe()
            await trio.sleep(self._pace.probe_s)

    async def probe(self, *, accept: int | None = None) -> None:
        """Look whether each root is there; `accept` takes whatever folder stands for that root."""
        async with self._probing:
            roots = await self.read_roots()
            for gone in self.watched.keys() - {root.root_id for root in roots}:
                await self._disarm(gone)
                del self.watched[gone]
            for root in roots:
                await self._probe(root, accept=root.root_id == accept)

    async def _probe(self, root: Root, *, accept: bool) -> None:
        state = self.watched.setdefault(root.root_id, Watched())
        seen = await trio.to_thread.run_sync(
            identity_of, root.path, limiter=self._looks, abandon_on_cancel=True
        )
        holds_known = accept
        if seen is not None and seen != (root.device, root.inode) and not accept:
            paths = await self._store.read(partial(known_paths, root_id=root.root_id))
            holds_known = await trio.to_thread.run_sync(
                _any_present, paths, limiter=self._looks, abandon_on_cancel=True
            )
        sight = recognize(root, seen, holds_known)
        if seen is None or sight in (Sight.AWAY, Sight.FOREIGN):
            if root.online or state.armed:
                why = "its folder is gone or cannot be read"
                if sight is Sight.FOREIGN:
                    why = "another folder, with none of its files, is in its place"
                await self._disarm(root.root_id)
                await self._apply(partial(root_units.root_offline, root_id=root.root_id, why=why))
            return
        if not root.online or sight is Sight.REPLACED or root.inode is None:
            await self._apply(
                partial(root_units.root_online, root_id=root.root_id, device=seen[0], inode=seen[1])
            )
            state.armed = False
        if state.armed and state.how == "events" and not await self._alive(root.root_id):
            log.warning("a watch has ended", extra={"facts": {"root": root.path}})
            state.armed = False
        if not state.armed:
            await self._arm(root, state)

    async def _alive(self, root_id: int) -> bool:
        watches = self._watches
        return watches is not None and await trio.to_thread.run_sync(
            watches.alive, root_id, limiter=self._looks
        )

    async def _arm(self, root: Root, state: Watched) -> None:
        watches = self._watches
        if watches is None:
            return
        remote = await trio.to_thread.run_sync(
            watch.without_events, from_text(root.path), limiter=self._looks
        )
        problem = await trio.to_thread.run_sync(
            watches.arm, root.root_id, root.path, limiter=self._looks
        )
        state.armed, state.remote = True, remote is not None
        state.how = "events" if problem is None and remote is None else "polling"
        warning = problem
        if problem is None and remote is not None:
            warning = f"changes made elsewhere cause no events on {remote}; it is polled"
        await self._warn(root, state, warning)
        self.request_walk(root.root_id, 0.0)

    async def _disarm(self, root_id: int) -> None:
        state = self.watched.get(root_id)
        if state is not None:
            state.armed, state.how, state.warning = False, "off", None
        if self._watches is not None:
            await trio.to_thread.run_sync(self._watches.disarm, root_id, limiter=self._looks)

    async def _warn(self, root: Root, state: Watched, warning: str | None) -> None:
        if warning is not None and state.warning is None:
            log.warning("watching", extra={"facts": {"root": root.path, "warning": warning}})
            await self._apply(partial(root_units.root_warning, path=root.path, message=warning))
        state.warning = warning

    # -- walks

    def request_walk(self, root_id: int, delay_s: float) -> None:
        state = self.watched.setdefault(root_id, Watched())
        state.next_walk = min(state.next_walk, self._clocks.monotonic() + delay_s)
        self._walk_wake.set()

    async def _walk_when_due(self) -> None:
        while True:
            self._walk_wake = trio.Event()
            now = self._clocks.monotonic()
            due = [
                root
                for root in await self.read_roots()
                if root.online
                and (state := self.watched.get(root.root_id)) is not None
                and state.armed
                and state.next_walk <= now
            ]
            for root in due:
                await self.walk(root)
            if due:
                continue
            waiting = [state.next_walk for state in self.watched.values() if state.armed]
            wait_s = min(waiting, default=now + 3600.0) - self._clocks.monotonic()
            with trio.move_on_after(max(0.05, wait_s)):
                await self._walk_wake.wait()

    async def walk(self, root: Root, *, asked: bool = False) -> Counts:
        """Reconcile a whole root now."""
        state = self.watched.setdefault(root.root_id, Watched())
        async with state.walking:
            started = self._clocks.monotonic()
            state.next_walk = started + self._pace.reconcile_every_s
            await self._apply(partial(root_units.walk_begins, root_id=root.root_id))
            outcome = await self._reconcile(root, None)
            counts = outcome.counts
            polled = state.how == "polling" and state.last_walk_s > 0
            state.last_walk_s = max(0.001, self._clocks.monotonic() - started)
            if asked or not polled or counts.new + counts.changed + counts.moved + counts.gone:
                await self._apply(
                    partial(root_units.walk_finished, root_id=root.root_id, counts=counts)
                )
            await self._check_coverage(root, state)
            if state.how == "polling":
                pause_s = max(self._pace.poll_s, 20 * state.last_walk_s)
                state.next_walk = min(state.next_walk, self._clocks.monotonic() + pause_s)
            return counts

    async def _reconcile(self, root: Root, folder: str | None) -> Outcome:
        inner = {other.path for other in await self.read_roots() if inside(root.path, other.path)}
        quiet_ns = int(self._pace.settle_s * 1e9)
        outcome = await reconcile(
            self._store,
            self._clerk,
            root,
            disk=self._walk_places,
            folder=folder,
            excluded=inner,
            settled_before_ns=self._clocks.wall_ms() * 1_000_000 - quiet_ns,
        )
        for path in outcome.unsettled:
            self.note(path)
        return outcome

    async def _check_coverage(self, root: Root, state: Watched) -> None:
        """Poll a root whose folders cannot all be watched; watch it again when they can."""
        if self._watches is None or not state.armed or state.remote:
            return
        watches = self._watches
        warning = watches.shortage(root.root_id)
        if state.how == "polling":
            warning = await trio.to_thread.run_sync(
                watches.arm, root.root_id, root.path, limiter=self._looks
            )
        how = "events" if warning is None else "polling"
        if how == "events" and state.how == "polling":
            self.request_walk(root.root_id, 0.0)  # what came between the walk and the watch
        state.how = how
        await self._warn(root, state, warning)

    # -- hints

    async def _take_hints(self, inbox: Inbox) -> None:
        while True:
            hints = await inbox.drain()
            for root_id, why in hints.dirty.items():
                await self._apply(partial(root_units.root_dirty, root_id=root_id, why=why))
                self.request_walk(root_id, DIRTY_DELAY_S)
            now = self._clocks.monotonic()
            for (_, path), closed in hints.paths.items():
                self._settler.note(path, now, closed=closed)
            self._settle_wake.set()

    async def _settle(self) -> None:
        while True:
            self._settle_wake = trio.Event()
            due = self._settler.next_due()
            now = self._clocks.monotonic()
            if due is None:
                await self._settle_wake.wait()
                continue
            if due > now:
                with trio.move_on_after(due - now):
                    await self._settle_wake.wait()
                continue
            await self._look_at(self._settler.due(now))

    async def _look_at(self, paths: Sequence[str]) -> None:
        looks = await trio.to_thread.run_sync(
            _look_all, paths, self._clocks.wall_ms(), limiter=self._looks
        )
        roots = await self.read_roots()
        files: dict[int, list[str]] = {}
        vanished: dict[int, list[str]] = {}
        folders: list[tuple[Root, str]] = []
        by_id = {root.root_id: root for root in roots}
        now = self._clocks.monotonic()
        for path, seen in zip(paths, looks, strict=True):
            if self._settler.looked(path, _RESTING if isinstance(seen, str) else seen, now) is (
                Ready.LATER
            ):
                continue
            root = _root_of(roots, path)
            if root is None or not root.online:
                continue
            if seen == "folder":
                folders.append((root, path))
            elif seen is None:
                vanished.setdefault(root.root_id, []).append(path)
            elif seen != "unfinished":
                files.setdefault(root.root_id, []).append(path)
        for root_id, settled in files.items():
            await self._clerk.enter(by_id[root_id], settled)
        for root, folder in folders:
            if folder == root.path:
                self.request_walk(root.root_id, 0.0)
            else:
                await self._reconcile(root, folder)
        for root_id, lost in vanished.items():
            await self._clerk.lose(by_id[root_id], lost)

    async def _apply(self, unit: Callable[[Tx], None]) -> None:
        name = unit.func.__name__ if isinstance(unit, partial) else "unit"
        await self._store.apply(unit, durability=Durability.FULL, name=f"library.{name}")


_RESTING = Look(0, 0, float("inf"))


def _look_all(paths: Sequence[str], wall_ms: int) -> list[Look | str | None]:
    """For each path: a regular file's look, 'folder', 'unfinished', or None for nothing of ours."""
    looks: list[Look | str | None] = []
    for path in paths:
        name = from_text(path)
        try:
            status = os.lstat(name)
        except OSError:
            looks.append(None)
            continue
        if stat.S_ISDIR(status.st_mode):
            looks.append("folder")
        elif not stat.S_ISREG(status.st_mode):
            looks.append(None)
        elif os.path.lexists(name + ".aria2"):
            looks.append("unfinished")
        else:
            age_s = wall_ms / 1000 - status.st_mtime
            looks.append(Look(status.st_size, status.st_mtime_ns, age_s))
    return looks


def _any_present(paths: Sequence[str]) -> bool:
    return any(look(path) is not None for path in paths)


def _root_of(roots: Sequence[Root], path: str) -> Root | None:
    mine = [root for root in roots if path == root.path or inside(root.path, path)]
    return max(mine, key=lambda root: len(root.path), default=None)

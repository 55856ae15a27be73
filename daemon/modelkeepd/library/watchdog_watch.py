"""Watches one folder tree with watchdog: the way for systems that have no inotify.

Owns the observer of one root. watchdog reports losses only in its log, so the log is listened to;
what else it does not tell, the periodic walk finds.
"""

import logging
import os

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from modelkeepd.library import names
from modelkeepd.library.inbox import Inbox
from modelkeepd.library.inotify import hint
from modelkeepd.library.paths import to_text

_EVENTS: list[type[FileSystemEvent]] = [
    *(FileCreatedEvent, FileModifiedEvent, FileDeletedEvent, FileMovedEvent, FileClosedEvent),
    *(DirCreatedEvent, DirDeletedEvent, DirMovedEvent),
]
_LOG = logging.getLogger("watchdog.observers")


class _LogListener(logging.Handler):
    """Hears of lost events where watchdog tells of them."""

    def __init__(self, inbox: Inbox, root_id: int) -> None:
        super().__init__(logging.WARNING)
        self._inbox = inbox
        self._root_id = root_id

    def emit(self, record: logging.LogRecord) -> None:
        why = f"the watcher lost events: {record.getMessage()}"
        self._inbox.mark_dirty(self._root_id, why)


class WatchdogWatch(FileSystemEventHandler):
    """One root's watch, with the same methods as inotify's."""

    def __init__(self, inbox: Inbox, root_id: int, root: str) -> None:
        self._inbox = inbox
        self._root_id = root_id
        self._root = root
        self._observer = Observer()
        self._listener = _LogListener(inbox, root_id)
        self.refused: set[bytes] = set()
        self.watched = 1

    def start(self, path: str) -> None:
        self._observer.start()
        self._observer.schedule(self, path, recursive=True, event_filter=_EVENTS)
        _LOG.addHandler(self._listener)

    def alive(self) -> bool:
        emitters = list(self._observer.emitters)
        return self._observer.is_alive() and bool(emitters) and all(e.is_alive() for e in emitters)

    def stop(self) -> None:
        _LOG.removeHandler(self._listener)
        if self._observer.ident is not None:
            self._observer.stop()
            self._observer.join(5.0)

    def dispatch(self, event: FileSystemEvent) -> None:
        closed = isinstance(event, FileClosedEvent | FileMovedEvent)
        for raw in (event.src_path, event.dest_path):
            path = to_text(os.fsdecode(raw)) if raw else ""
            if not path or names.skipped_on_the_way(self._root, path):
                continue
            name = path.rpartition("/")[2]
            if not event.is_directory:
                hint(self._inbox, self._root_id, path, name, closed=closed)
            elif path == self._root or names.enters(name):
                self._inbox.put(self._root_id, path)

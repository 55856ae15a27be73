"""Watches one folder tree through Linux's inotify, and says so when it cannot.

Owns a descriptor, a thread and the table of watches. Written because the packaged watcher keeps
silent where we must know: a full event queue, a folder over the limit, a tree that moved out, a
reader thread that died. Moves are not paired here: every event is only a hint to look at a path,
and the look knows a file by its inode.
"""

import ctypes
import errno
import logging
import os
import select
import struct
import threading

from modelkeepd.library import names
from modelkeepd.library.inbox import Inbox
from modelkeepd.library.paths import to_text

log = logging.getLogger(__name__)

_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_UNMOUNT, _OVERFLOW, _IGNORED = 0x2000, 0x4000, 0x8000
_ONLYDIR, _DONT_FOLLOW, _EXCL_UNLINK, _ISDIR = 0x1000000, 0x2000000, 0x4000000, 0x40000000
_WANTED = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_MASK = _WANTED | _DELETE_SELF | _MOVE_SELF | _ONLYDIR | _DONT_FOLLOW | _EXCL_UNLINK
_HEADER = struct.Struct("iIII")
_READ_BYTES = 1 << 18


class _Libc:
    """The three calls; errno is read right after, in the thread that called."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._init1 = library.inotify_init1
        self._add = library.inotify_add_watch
        self._add.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        self._remove = library.inotify_rm_watch

    def open(self) -> int:
        handle: int = self._init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if handle < 0:
            raise _last_error("inotify")
        return handle

    def add(self, handle: int, path: bytes) -> int:
        number: int = self._add(handle, path, _MASK)
        if number < 0:
            raise _last_error(os.fsdecode(path))
        return number

    def remove(self, handle: int, number: int) -> None:
        self._remove(handle, number)  # fails only for a watch that is gone already


def _last_error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)


class TreeWatch:
    """One root's watch. `start` may raise OSError; afterwards everything is told to the inbox."""

    def __init__(self, inbox: Inbox, root_id: int, root: str, libc: _Libc | None = None) -> None:
        self._inbox = inbox
        self._root_id = root_id
        self._root = root
        self._libc = libc or _Libc()
        self._paths: dict[int, bytes] = {}
        self._numbers: dict[bytes, int] = {}
        self.refused: set[bytes] = set()
        """Folders that the system's limit left unwatched."""
        self._stop_reader, self._stop_writer = os.pipe()
        self._handle = -1
        self._top = b""
        self._thread = threading.Thread(
            target=self._run, name=f"modelkeep-watch-{root_id}", daemon=True
        )

    @property
    def watched(self) -> int:
        return len(self._paths)

    def start(self, path: str) -> None:
        """Watch the folder at this OS path and all below it."""
        try:
            self._handle = self._libc.open()
            self._top = os.fsencode(path)
            self._watch(self._top)  # failing here means failing as a whole
            self._add_tree(self._top)
        except OSError:
            self._close()
            raise
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread; the kernel forgets all watches when the descriptor closes."""
        if self._thread.ident is not None:
            os.write(self._stop_writer, b"x")
            self._thread.join()
        os.close(self._stop_writer)
        os.close(self._stop_reader)

    # -- everything below runs in the thread (or before it starts)

    def _run(self) -> None:
        try:
            poll = select.poll()
            poll.register(self._handle, select.POLLIN)
            poll.register(self._stop_reader, select.POLLIN)
            while not any(ready == self._stop_reader for ready, _ in poll.poll()):
                try:
                    self._take(os.read(self._handle, _READ_BYTES))
                except BlockingIOError:
                    continue
        except Exception as error:
            # The service finds the thread dead at its next probe, arms the root anew and walks it.
            log.exception("watching failed", extra={"facts": {"root": self._root}})
            self._inbox.mark_dirty(self._root_id, f"watching failed: {error}")
        finally:
            self._close()

    def _close(self) -> None:
        # The pipe stays until `stop`, which may come long after the thread has died of something.
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1
        self._paths.clear()

    def _take(self, raw: bytes) -> None:
        at = 0
        while at < len(raw):
            number, mask, _, length = _HEADER.unpack_from(raw, at)
            name = raw[at + _HEADER.size : at + _HEADER.size + length].rstrip(b"\0")
            at += _HEADER.size + length
            if mask & _OVERFLOW:
                # Folders may have been made unseen: look for them, then let the root be walked.
                self._add_tree(self._top)
                self._inbox.mark_dirty(self._root_id, "the system's event queue overflowed")
                continue
            folder = self._paths.get(number)
            if folder is None:
                continue
            if mask & (_IGNORED | _UNMOUNT | _DELETE_SELF | _MOVE_SELF):
                self._self_event(number, folder, mask)
            elif name:
                self._event(folder + b"/" + name, name, mask)

    def _self_event(self, number: int, folder: bytes, mask: int) -> None:
        if mask & _IGNORED:
            self._forget(number)
        if mask & _UNMOUNT:
            self._inbox.mark_dirty(self._root_id, "a volume was unmounted")
        self._inbox.put(self._root_id, to_text(os.fsdecode(folder)))

    def _event(self, path: bytes, name: bytes, mask: int) -> None:
        text = to_text(os.fsdecode(path))
        short = os.fsdecode(name)
        if mask & _ISDIR:
            if not names.enters(short):
                return
            if mask & (_MOVED_FROM | _DELETE):
                self._drop_tree(path)
            if mask & (_MOVED_TO | _CREATE):
                # Watched first, looked into afterwards: nothing can come in between unseen.
                self._add_tree(path)
            if mask & (_MOVED_FROM | _DELETE | _MOVED_TO | _CREATE):
                self._inbox.put(self._root_id, text)
            return
        # Who renames a file has finished it, as a rule; a look or two will tell.
        done = bool(mask & (_CLOSE_WRITE | _MOVED_TO))
        hint(self._inbox, self._root_id, text, short, closed=done)

    def _watch(self, path: bytes) -> bool:
        """Add one folder; False if the limit refused it. Raises other errors."""
        try:
            number = self._libc.add(self._handle, path)
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._paths:
                raise
            self.refused.add(path)
            return False
        before = self._paths.get(number)
        if before is not None and before != path:
            self._numbers.pop(before, None)
        self._paths[number] = path
        self._numbers[path] = number
        self.refused.discard(path)
        return True

    def _add_tree(self, top: bytes) -> None:
        stack = [top]
        while stack:
            path = stack.pop()
            try:
                self._watch(path)
                with os.scandir(path) as entries:
                    stack.extend(
                        entry.path
                        for entry in entries
                        if entry.is_dir(follow_symlinks=False)
                        and names.enters(os.fsdecode(entry.name))
                    )
            except OSError:
                continue  # gone again, or not ours to read: the walk counts it

    def _drop_tree(self, top: bytes) -> None:
        """The folder has left: its watches would go on, and report under a path that is not its."""
        below = top + b"/"
        for path, number in list(self._numbers.items()):
            if path == top or path.startswith(below):
                self._libc.remove(self._handle, number)
                self._forget(number)
        self.refused = {path for path in self.refused if not path.startswith(below)} - {top}

    def _forget(self, number: int) -> None:
        path = self._paths.pop(number, None)
        if path is not None and self._numbers.get(path) == number:
            del self._numbers[path]


def hint(inbox: Inbox, root_id: int, path: str, name: str, *, closed: bool) -> None:
    """Pass on what happened to a file (text and short name), if it concerns a model file."""
    if names.suffix(name) == "aria2":
        # The mark of an unfinished neighbor came or went.
        inbox.put(root_id, path.removesuffix(".aria2"))
    elif names.is_model(name):
        inbox.put(root_id, path, closed=closed)

"""A daemon that also tells how late its loop is: ``python -m benchmarks.lagged_daemon``.

The daemon itself, unchanged, with one more task beside its services: it sleeps ten milliseconds
and notes how much later than that it was woken. Whatever keeps trio's loop from running (a handler
that computes, threads that hold the interpreter's lock, a processor that is taken) shows there. The
notes, monotonic second and lag, are written to the file ``MK_LAG_FILE`` when the daemon ends.
"""

import functools
import os
import sys
import time
from array import array
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import trio

from modelkeepd import app
from modelkeepd.__main__ import main

PAUSE_S = 0.010
FILE_VARIABLE = "MK_LAG_FILE"


def watched(
    serve: Callable[..., Coroutine[Any, Any, int]], path: Path
) -> Callable[..., Coroutine[Any, Any, int]]:
    """``serve``, with its loop's lag written to ``path`` at the end."""

    @functools.wraps(serve)
    async def run(*args: Any, **more: Any) -> int:
        notes: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, notes)
            code = await serve(*args, **more)
            nursery.cancel_scope.cancel()
        _write(path, notes)
        return code

    return run


async def _watch(notes: list[float]) -> None:
    while True:
        began = time.monotonic()
        await trio.sleep(PAUSE_S)
        now = time.monotonic()
        notes.append(now)
        notes.append(now - began - PAUSE_S)


def _write(path: Path, notes: list[float]) -> None:
    path.write_bytes(array("d", notes).tobytes())


def read_notes(path: Path) -> list[tuple[float, float]]:
    """(monotonic second, lag in seconds) of a daemon that has ended."""
    notes = array("d", path.read_bytes())
    return list(zip(notes[::2], notes[1::2], strict=True))


if __name__ == "__main__":
    app.serve = watched(app.serve, Path(os.environ[FILE_VARIABLE]))
    sys.exit(main())

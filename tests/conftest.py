"""What every test shares: an open store, and the check that nothing is left behind."""

import gc
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from modelkeepd.store import Store, open_store
from tests.fakes.clocks import FakeClocks

_FDS = Path("/proc/self/fd")


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.daemon}


def _files() -> dict[str, str]:
    """What each open descriptor is, where the system can tell."""
    if not _FDS.is_dir():
        return {}
    found = {}
    for entry in _FDS.iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except OSError:  # the descriptor of the listing itself
            continue
    return found


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """No test may leave a thread that keeps the process alive, or an open database or socket."""
    threads, files = _threads(), _files()
    yield
    left_threads = _threads() - threads
    for thread in left_threads:
        thread.join(2)  # it may be on its way out
    still = [thread.name for thread in left_threads if thread.is_alive()]
    assert not still, f"threads left running: {still}"
    if len(_files()) > len(files):
        gc.collect()
        new = {fd: what for fd, what in _files().items() if files.get(fd) != what}
        assert len(_files()) <= len(files), f"descriptors left open: {new}"


@pytest.fixture
def clocks() -> FakeClocks:
    """Clocks that stand still until the test moves them."""
    return FakeClocks()


@pytest.fixture
async def store(tmp_path: Path, clocks: FakeClocks) -> AsyncIterator[Store]:
    """A new store in the test's own folder."""
    async with open_store(tmp_path / "modelkeep.db", clocks=clocks) as opened:
        yield opened

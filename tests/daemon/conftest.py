"""Time that runs fast, for tests of the whole daemon in process."""

import pytest
from trio.testing import MockClock

from tests.daemon.house import RATE


@pytest.fixture
def fast_time() -> MockClock:
    """Handed to trio by pytest-trio, which takes a clock among a test's arguments."""
    return MockClock(rate=RATE)

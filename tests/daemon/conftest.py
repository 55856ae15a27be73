"""Time runs fast for the whole daemon in process."""

import pytest
import trio.testing

from tests.daemon.house import fast_clock


@pytest.fixture(autouse=True)
def clock() -> trio.testing.MockClock:
    """Handed to trio by pytest-trio, which takes any clock among the fixtures."""
    return fast_clock()

"""What is right, what is fetched once more, what is corrupt (D11-D13)."""

import pytest

from modelkeepd.transfer.states import Event
from modelkeepd.transfer.verify import UNVERIFIED, VERIFIED, Promise, compare

GOOD, BAD = b"g" * 32, b"b" * 32


@pytest.mark.parametrize(
    ("promise", "size", "certain", "repaired", "event", "word"),
    [
        (Promise(10, 0, GOOD), 10, True, False, Event.MATCHED, VERIFIED),
        # The hash decides: a hub's size may be wrong, a missing frame does not matter.
        (Promise(12, 0, GOOD), 10, False, False, Event.MATCHED, VERIFIED),
        (Promise(None, 0, GOOD), 10, False, True, Event.MATCHED, VERIFIED),
        (Promise(10, 0, BAD), 10, True, False, Event.REPAIR, None),
        (Promise(10, 0, BAD), 10, True, True, Event.CORRUPT, None),
        (Promise(10, 0, None), 10, True, False, Event.MATCHED, UNVERIFIED),
        (Promise(10, 0, None), 10, False, False, Event.MATCHED, UNVERIFIED),
        (Promise(None, 0, None), 10, True, False, Event.MATCHED, UNVERIFIED),
        (Promise(None, 0, None), 10, False, False, Event.CORRUPT, None),
        (Promise(11, 0, None), 10, True, False, Event.CORRUPT, None),
        (Promise(11, 1, None), 10, True, False, Event.MATCHED, UNVERIFIED),
        (Promise(11, 1, None), 10, False, False, Event.CORRUPT, None),
    ],
)
def test_a_finding_for_every_case(
    promise: Promise, size: int, certain: bool, repaired: bool, event: Event, word: str | None
) -> None:
    found = compare(promise, size, GOOD, certain_end=certain, repaired=repaired)
    assert (found.event, found.verification) == (event, word)
    assert (found.error is not None) == (event is Event.CORRUPT)


def test_a_corrupt_file_is_reported_with_both_hashes() -> None:
    found = compare(Promise(10, 0, BAD), 10, GOOD, certain_end=True, repaired=True)
    assert found.error is not None
    assert GOOD.hex() in found.error.message
    assert BAD.hex() in found.error.message

"""What is right, what is fetched once more, what is corrupt (D11-D13)."""

import pytest

from modelkeepd.transfer.states import Event
from modelkeepd.transfer.verify import UNVERIFIED, VERIFIED, Promise, compare, size_tolerance

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


@pytest.mark.parametrize(
    ("size", "declared", "hash_known", "tolerance"),
    [
        (1000, 0, False, 0),
        (1000, 5, False, 5),
        (2048, 0, False, 1023),
        (1000, 0, True, 1023),
        (1000, 5000, True, 5000),
        (None, 0, False, 0),
    ],
)
def test_rounded_sizes_are_no_proof_of_another_file(
    size: int | None, declared: int, hash_known: bool, tolerance: int
) -> None:
    assert size_tolerance(size, declared, hash_known=hash_known) == tolerance

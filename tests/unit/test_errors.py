"""Error codes and exit codes are an interface: they may grow, never change."""

import pytest

from modelkeep_protocol import errors
from modelkeep_protocol.errors import ModelkeepError

# what has been released: lines may be added here, never taken away
RELEASED = {
    "invalid": 2,
    "not_found": 4,
    "conflict": 1,
    "denied": 5,
    "gated": 5,
    "busy": 1,
    "unavailable": 1,
    "deadline": 1,
    "canceled": 130,
    "unsupported": 1,
    "corrupt": 1,
    "infected": 1,
    "no_space": 1,
    "internal": 1,
}


def test_the_codes_are_those_released_and_each_is_explained() -> None:
    assert set(errors.CODES) == set(RELEASED)
    assert all(errors.CODES.values())


def test_each_constant_is_in_the_table() -> None:
    constants = {
        value
        for name, value in vars(errors).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("EXIT")
    }
    assert constants == set(errors.CODES)


@pytest.mark.parametrize(("code", "exit_code"), RELEASED.items())
def test_exit_codes_stay(code: str, exit_code: int) -> None:
    assert errors.exit_code(code) == exit_code
    assert exit_code in errors.EXIT_CODES


def test_a_code_of_a_later_daemon_is_a_failure() -> None:
    assert errors.exit_code("haunted") == errors.EXIT_FAILED


def test_the_map_of_an_error_holds_what_there_is() -> None:
    plain = ModelkeepError(errors.NOT_FOUND, "no such model")
    assert plain.to_map() == {"code": "not_found", "message": "no such model", "hint": ""}
    assert str(plain) == "no such model"
    full = ModelkeepError(errors.BUSY, "later", "wait", retryable=True, data={"after_ms": 5})
    assert full.to_map() == {
        "code": "busy",
        "message": "later",
        "hint": "wait",
        "retryable": True,
        "data": {"after_ms": 5},
    }

"""What the night's runner makes of the outputs, and where it puts its table."""

import datetime

from tests.nightly import Outcome, as_table, powercut_summary, pytest_summary, with_section

TABLE = as_table(datetime.date(2026, 11, 22), 7, [Outcome("kills", True, "5 passed", 61.4)])


def test_a_line_names_date_seed_result_and_duration() -> None:
    assert TABLE.splitlines()[-1] == "| kills | 2026-11-22 | 7 | passed: 5 passed | 61 s |"


def test_pytests_last_line_is_told_without_what_was_not_asked_for() -> None:
    assert pytest_summary("...\n3 passed, 900 deselected in 4.21s\n") == "3 passed"
    failed = "== short test summary ==\n1 failed, 2 passed in 70.05s (0:01:10)\n"
    assert pytest_summary(failed) == "1 failed, 2 passed"
    assert "no result" in pytest_summary("Killed\n")


def test_power_cuts_are_told_from_their_line_of_json() -> None:
    line = '{"corrupt": 0, "acknowledged_lost": 1, "half_units": 2, "epochs_wrong": 3}'
    assert "0 corrupt, 1 acknowledged units lost, 2 half units, 3 wrong" in powercut_summary(
        f"a fault\n{line}\n"
    )
    assert "no result" in powercut_summary("Traceback")


def test_only_its_own_section_of_the_page_is_replaced() -> None:
    page = "# Reliability\n\nPromises.\n"
    recorded = with_section(page, "old")
    assert recorded.startswith(page)
    assert "old" in recorded
    between = recorded + "\n## After\n\nMore.\n"
    again = with_section(between, TABLE)
    assert "old" not in again
    assert again.endswith("\n## After\n\nMore.\n")
    assert again.count("## Nightly results") == 1
    assert with_section(again, TABLE) == again

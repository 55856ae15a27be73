"""docs/operations.md says what the program does."""

import re
from pathlib import Path

from modelkeep_protocol.paths import find_paths
from modelkeepd import exit_codes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_the_table_of_exit_codes_is_current() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert {int(code): text for code, text in rows} == exit_codes.MEANINGS
    for code in exit_codes.DO_NOT_RESTART:
        assert f"exit code {code}" in PAGE


def test_the_places_are_those_the_program_uses() -> None:
    linux = find_paths({"HOME": "~", "XDG_RUNTIME_DIR": "$XDG_RUNTIME_DIR"}, "linux", 1000)
    macos = find_paths({"HOME": "~"}, "darwin", 501)
    for paths in (linux, macos):
        assert f"`{paths.database}`" in PAGE
        assert f"`{paths.search_index}/`" in PAGE
        assert f"`{paths.config_dir}/`" in PAGE
        assert f"`{paths.runtime_dir}/`" in PAGE
    home = find_paths({"MODELKEEP_HOME": "/home"})
    for place in (home.database, f"{home.search_index}/", f"{home.runtime_dir}/"):
        assert f"`$MODELKEEP_HOME{place.removeprefix('/home')}`" in PAGE


def test_the_files_it_links_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).is_file(), target

"""docs/configuration.md names every key there is, and nothing else."""

import tomllib
from pathlib import Path

from modelkeepd.settings import keys, load_settings
from tests.protocol.reference import CONFIGURATION_HEAD, DOCS, configuration_page

PAGE = DOCS / "configuration.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == configuration_page(), (
        "run: python -m tests.protocol.reference"
    )


def test_every_key_stands_there_with_its_variable_and_meaning() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for key in keys():
        assert f"### `{key.dotted}`\n\n{key.description}\n" in text
        assert f"`{key.variable}`" in text


def test_the_example_is_accepted_without_a_warning(tmp_path: Path) -> None:
    example = CONFIGURATION_HEAD.split("```toml\n")[1].split("```")[0]
    assert tomllib.loads(example)
    (tmp_path / "config.toml").write_text(example)
    assert load_settings(tmp_path / "config.toml", {})[1] == []

"""Help, man page, completion scripts and docs/cli.md say what the table says."""

import re
from pathlib import Path

import pytest

import modelkeep
from modelkeep.cli import commands, help, topics
from modelkeep.cli.completion import SCRIPTS, script_path
from modelkeep.reference import made, tree
from modelkeep_protocol import errors

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", made.files())
def test_what_is_made_is_current(name):
    current = (PROJECT / name).read_text(encoding="utf-8")
    assert current == made.files()[name], "run: python -m modelkeep.reference"


def test_every_shell_has_its_packaged_script():
    for shell in SCRIPTS:
        assert Path(script_path(shell)).is_file()


def test_the_version_is_the_projects():
    project = (PROJECT / "pyproject.toml").read_text()
    assert re.search(r'^version = "(.+)"$', project, re.M)[1] == modelkeep.__version__


@pytest.mark.parametrize("command", tree.all_commands(), ids=lambda command: command.name)
def test_every_page_begins_with_examples_and_names_everything(command):
    page = help.command_page(command)
    assert page.startswith("Examples:\n  ")
    for option in command.options:
        assert option.names[-1] in page
        assert option.help in page
    for argument in command.arguments:
        assert argument.metavar in page


def test_the_overview_names_every_command_and_topic():
    page = help.overview()
    for name in tree.public_names():
        assert f"\n  {name} " in page
    for name in topics.TOPICS:
        assert f"\n  {name} " in page
    assert "__complete" not in page


def test_the_summaries_of_table_and_commands_agree():
    for name in tree.public_names():
        verbs = commands.load(name)
        if "" in verbs:
            assert verbs[""].summary == commands.COMMANDS[name][2]


def test_pages_fit_a_terminal():
    pages = [help.overview(), *(text for _, text in topics.TOPICS.values())]
    pages += [help.command_page(command) for command in tree.all_commands()]
    pages += [help.group_page(name) for name in commands.DEFAULT_VERBS]
    for page in pages:
        for line in page.splitlines():
            assert len(line) <= 100, line


def test_exit_codes_are_all_explained():
    page = topics.TOPICS["exit-codes"][1]
    for code, meaning in errors.EXIT_CODES.items():
        assert re.search(rf"^  {code} +{re.escape(meaning)}$", page, re.M)
    for code in errors.CODES:
        assert f"  {code} " in page


def test_options_that_take_a_value_are_flags_nowhere():
    # the completion scripts skip the word after them whatever the command is
    flags = {
        name
        for command in tree.all_commands()
        for option in command.options
        if option.kind == "flag"
        for name in option.names
    }
    valued = {
        name
        for command in tree.all_commands()
        for option in tree.valued_options(command)
        for name in option.names
    }
    assert not flags & valued

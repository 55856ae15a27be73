"""The command line reads plain maps: every key it names is a field of the protocol's Structs."""

import ast
from pathlib import Path
from typing import Any

import msgspec
import pytest

import modelkeep.cli
from modelkeep.cli import jobs, library, search
from modelkeep.reference import tree
from modelkeep_protocol import schema

MODULES = sorted(Path(modelkeep.cli.__path__[0]).glob("*.py"))
# of the options of the command line, and what is added on the way to a table
OWN = {
    name
    for command in tree.all_commands()
    for name in [o.dest for o in command.options] + [a.dest for a in command.arguments]
} | {"kind", "prefix", "json", "quiet", "verbose", "color", "help", "version"}
OWN |= {"share", "note", "left_out", "COLUMNS", "TERM"}
OWN |= {"git_sha1"}  # of a file in a history
OWN |= {"query", "refs", "exit-codes", "environment", "list"}  # topics and verbs


def fields() -> set[str]:
    found: set[str] = set()
    for struct in vars(schema).values():
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct):
            found |= set(struct.__struct_fields__)
    return found


def named_keys(path: Path) -> set[str]:
    keys = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        key: Any = None
        if isinstance(node, ast.Subscript):
            key = node.slice
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get":
            key = node.args[0]
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            keys.add(key.value)
    return keys


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_key_that_is_read_exists(path):
    if path.stem in ("output", "help", "topics", "parse"):
        return  # they read no answers
    assert named_keys(path) - fields() - OWN == set()


@pytest.mark.parametrize(
    ("columns", "struct", "added"),
    [
        (search.WIDE_COLUMNS, schema.SearchItem, set()),
        (jobs.COLUMNS, schema.Job, {"share", "note"}),
        (library.FILES, schema.LibraryFile, set()),
        (library.FILES_PIPED, schema.LibraryFile, set()),
        (library.ROOTS, schema.Root, set()),
        (library.SCANNED, schema.ScanCounts, {"left_out"}),
    ],
)
def test_every_column_exists(columns, struct, added):
    assert {key for _, key, _ in columns} <= set(struct.__struct_fields__) | added


def test_the_promised_keys_are_fields():
    def has(struct: Any, *names: str) -> bool:
        return set(names) <= set(struct.__struct_fields__)

    assert has(schema.Status, "daemon", "catalog", "queue", "library", "hubs")
    assert has(schema.DaemonStatus, "version", "pid", "uptime_s")
    assert has(schema.CatalogStatus, "models", "versions", "files")
    assert has(schema.QueueStatus, "active", "waiting", "failed")
    assert has(schema.LibraryStatus, "files", "size_bytes")
    assert has(schema.SearchPage, "total", "items")
    assert has(
        schema.SearchItem, "ref", "name", "hub", "type", "base_model", "creator", "tags",
        "downloads", "nsfw_level", "owned",
    )  # fmt: skip
    assert has(schema.ModelDetail, "ref", "name", "versions", "raw")
    assert has(schema.VersionDetail, "ref", "name", "files")
    assert has(schema.FileDetail, "name", "size_bytes", "sha256")
    assert has(schema.Job, "id", "ref", "state", "path", "sha256", "error")
    assert has(schema.LibraryFile, "path", "size_bytes", "sha256", "ref", "state")


def test_the_states_the_command_line_knows_are_the_tables():
    assert set(jobs.STATES) == {
        "queued", "resolving", "downloading", "verifying", "scanning", "placing", "done",
        "waiting", "paused", "failed", "quarantined", "canceled",
    }  # fmt: skip

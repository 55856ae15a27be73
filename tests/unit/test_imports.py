"""The architecture, held by its imports: each floor uses only what is below it.

Read from the source by ``ast``, so that imports inside functions count as well. Imports for type
checkers alone count too: a name that is only a type still ties two parts together.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DAEMON, CLIENTS, PROTOCOL = "modelkeepd", "modelkeep", "modelkeep_protocol"
FOLDERS = {
    DAEMON: ROOT / "daemon" / DAEMON,
    CLIENTS: ROOT / "clients" / CLIENTS,
    PROTOCOL: ROOT / "protocol" / PROTOCOL,
}

# from the ground up; parts of one floor don't know each other, but for those named below
FLOORS = (
    {"platform", "logs", "clocks", "failpoints", "scan", "kinds", "version", "exit_codes"},
    {"settings", "supervise"},
    {"hubs", "store", "secrets"},
    {"catalog", "library", "maintenance", "api_changes"},
    {"sync", "transfer"},
    {"snapshot", "legacy"},
    {"rpc"},
    {"wiring"},
    {"app"},
    {"__main__"},
)
# within a floor, one way only
BESIDE = {("hubs", "secrets")}
# what stands on the ground and may be used by all of the daemon
ALONE = "scan"


@dataclass(frozen=True)
class Import:
    """One module that is imported, by one file."""

    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def imports_of(file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    package = module_of(file).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                # `from package import module` names a module as well
                yield Import(file, node.lineno, f"{start}.{alias.name}")


def module_of(file: Path) -> str:
    for name, folder in FOLDERS.items():
        if file.is_relative_to(folder):
            parts = file.relative_to(folder).with_suffix("").parts
            return ".".join((name, *(part for part in parts if part != "__init__")))
    raise ValueError(file)


def files_of(package: str) -> list[Path]:
    return sorted(FOLDERS[package].rglob("*.py"))


ALL = [each for package in FOLDERS for file in files_of(package) for each in imports_of(file)]


def top(module: str) -> str:
    return module.partition(".")[0]


def part(module: str) -> str:
    """The part of the daemon a module belongs to."""
    return module.split(".")[1] if "." in module else ""


def floor_of(name: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if name in floor)


def broken(rule: str, found: list[Import]) -> str:
    return "\n  ".join([rule, *map(str, found)])


def test_the_source_is_where_it_is_looked_for() -> None:
    assert len(ALL) > 300
    assert all(files_of(package) for package in FOLDERS)


def test_every_part_of_the_daemon_has_its_floor() -> None:
    folder = FOLDERS[DAEMON]
    parts = {
        entry.stem
        for entry in folder.iterdir()
        if entry.suffix == ".py" or (entry.is_dir() and any(entry.rglob("*.py")))
    } - {"__init__", "__pycache__"}
    assert parts == set().union(*FLOORS)


def test_each_floor_of_the_daemon_imports_only_what_is_below() -> None:
    wrong = []
    for each in ALL:
        here = module_of(each.file)
        if top(here) != DAEMON or top(each.module) != DAEMON:
            continue
        mine, theirs = part(here), part(each.module)
        if mine in ("", theirs) or theirs in ("", "__init__"):
            continue
        if (mine, theirs) not in BESIDE and floor_of(theirs) >= floor_of(mine):
            wrong.append(each)
    assert not wrong, broken("upward, or to a neighbor:", wrong)


def test_daemon_and_clients_know_only_the_protocol_of_each_other() -> None:
    wrong = [
        each
        for each in ALL
        if (top(module_of(each.file)), top(each.module)) in ((DAEMON, CLIENTS), (CLIENTS, DAEMON))
    ]
    assert not wrong, broken("the two meet in the protocol:", wrong)


def test_the_protocol_knows_neither() -> None:
    wrong = [
        each
        for each in ALL
        if top(module_of(each.file)) == PROTOCOL and top(each.module) in (DAEMON, CLIENTS)
    ]
    assert not wrong, broken("the protocol stands below both:", wrong)


def test_the_scanner_stands_alone() -> None:
    """It is to run in a box with nothing of ours beside it."""
    inside = f"{DAEMON}.{ALONE}"
    wrong = [
        each
        for each in ALL
        if module_of(each.file).startswith(inside)
        and top(each.module) in FOLDERS
        and not each.module.startswith(inside)
    ]
    assert not wrong, broken("the scanner imports nothing of ours:", wrong)


def users_of(library: str) -> set[str]:
    """The daemon's modules that import a library."""
    return {
        module_of(each.file)
        for each in ALL
        if top(each.module) == library and top(module_of(each.file)) == DAEMON
    }


@pytest.mark.parametrize("library", ["httpx", "zmq", "watchdog", "zstandard"])
def test_a_library_behind_one_seam_is_imported_in_one_module(library: str) -> None:
    assert len(users_of(library)) == 1, users_of(library)


@pytest.mark.parametrize(("library", "place"), [("pycurl", "transfer"), ("tantivy", "catalog")])
def test_an_engine_is_known_to_its_part_alone(library: str, place: str) -> None:
    assert {part(module) for module in users_of(library)} == {place}


def test_only_the_store_and_the_sql_of_the_domains_touch_sqlite() -> None:
    """A domain owns its SQL; the edges have none."""
    wrong = [
        each
        for each in ALL
        if top(each.module) == "apsw"
        and part(module_of(each.file)) in ("app", "__main__", "settings", "supervise", "scan")
    ]
    assert not wrong, broken("no SQL here:", wrong)


@pytest.mark.parametrize(
    "module",
    ["codec", "envelope", "errors", "methods", "paths"],
)
def test_what_every_command_loads_is_light(module: str) -> None:
    """Measured in a fresh interpreter: what importing it brings along."""
    code = (
        "import sys; before = set(sys.modules)\n"
        f"import {PROTOCOL}.{module}\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    brought = set(done.stdout.split()) - {PROTOCOL}
    heavy = {"typing", "dataclasses", "inspect", "msgspec", "zmq", "trio", "pathlib", "hashlib"}
    assert not brought & heavy
    if module != "codec":
        assert "msgpack" not in brought

"""The import budget: what the everyday command line may load, and that it loads no more."""

import json
import subprocess
import sys

import pytest

from tests.fakes.command import environment
from tests.fakes.daemon import FakeDaemon

# of the standard library and msgpack, on top of what a bare start has
ALLOWED = {
    "_socket", "__future__", "time", "math", "_datetime", "datetime", "_struct", "struct",
    "collections", "itertools", "keyword", "operator", "_operator", "reprlib", "_collections",
    "msgpack", "msgpack.exceptions", "msgpack.ext", "msgpack._cmsgpack",
}  # fmt: skip
OURS = {
    "modelkeep", "modelkeep.__main__", "modelkeep.connect", "modelkeep.zmtp", "modelkeep.cli",
    "modelkeep.cli.run", "modelkeep.cli.parse", "modelkeep.cli.spec", "modelkeep.cli.commands",
    "modelkeep.cli.output", "modelkeep.cli.text",
    "modelkeep_protocol", "modelkeep_protocol.codec", "modelkeep_protocol.envelope",
    "modelkeep_protocol.errors", "modelkeep_protocol.methods", "modelkeep_protocol.paths",
}  # fmt: skip
PROGRAM = """
import sys
before = set(sys.modules)
sys.argv = ["modelkeep", *sys.argv[1:]]
from modelkeep.__main__ import main
code = main()
loaded = sorted(set(sys.modules) - before)
import json
print(json.dumps(loaded), file=sys.stderr)
sys.exit(code)
"""


def loaded(home, *words: str) -> set[str]:
    # a coverage run would load half of the library before the command does
    clean = {k: v for k, v in environment(home).items() if not k.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env=clean,
        capture_output=True,
        check=True,
        text=True,
    )
    names = json.loads(done.stderr.splitlines()[-1])
    # msgpack's compiled half brings a module that bears the compiler's version
    return {name for name in names if "cython" not in name}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("h")
    with FakeDaemon.at_home(home):
        yield home


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ("status", {"status"}),
        ("search x", {"search"}),
        ("show civitai:1102", {"show", "refs"}),
        ("queue", {"queue", "jobs", "confirm", "progress"}),
        ("library", {"library", "refs"}),
        ("get civitai:1", {"get", "jobs", "progress", "refs"}),
        ("sync", {"sync", "progress"}),
        ("__complete tags a", {"completion"}),
    ],
)
def test_everyday_commands_load_only_what_is_allowed(home, words, more):
    beyond = loaded(home, *words.split()) - ALLOWED - OURS
    # `show` has a Japanese name to measure
    beyond -= {"unicodedata"}
    assert beyond == {f"modelkeep.cli.{name}" for name in more}


def test_json_costs_the_json_module_and_what_it_needs(home):
    beyond = loaded(home, "status", "--json") - ALLOWED - OURS
    assert "json.encoder" in beyond
    assert not {name.partition(".")[0] for name in beyond} & {
        "argparse", "logging", "subprocess", "typing", "pathlib", "dataclasses", "zmq", "msgspec",
        "trio", "httpx", "apsw", "socket", "asyncio", "importlib", "modelkeepd",
    }  # fmt: skip


def test_no_client_module_imports_the_daemon():
    import ast
    from pathlib import Path

    import modelkeep

    for path in Path(modelkeep.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not any(name.split(".")[0] == "modelkeepd" for name in names), path

"""TAB in real shells. zsh and fish are asked where they are installed."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modelkeep.cli.completion import script_path
from tests.fakes.command import environment, keep
from tests.fakes.daemon import FakeDaemon

ASK_BASH = """
source "$1"
COMP_LINE=$2
COMP_POINT=${#COMP_LINE}
_modelkeep modelkeep
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("h")
    with FakeDaemon.at_home(home) as daemon:
        daemon.world.is_frozen = True
        keep(home, "get", "civitai:1", "civitai:2")
        yield home


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder with a ``modelkeep`` that runs this one."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "modelkeep").write_text(f'#!/bin/sh\nexec {sys.executable} -m modelkeep "$@"\n')
    (folder / "modelkeep").chmod(0o755)
    return folder


def run(command: list[str], home: Path, programs: Path, cwd: Path) -> list[str]:
    done = subprocess.run(
        command,
        env=environment(home, PATH=f"{programs}:{os.environ['PATH']}"),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


@pytest.fixture
def bash(home, programs, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.safetensors").touch()

    def complete(line: str) -> list[str]:
        command = ["bash", "-c", ASK_BASH, "bash", script_path("bash"), line]
        return run(command, home, programs, tmp_path)

    return complete


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("modelkeep sea", ["search"]),
        ("modelkeep --json sta", ["status"]),
        ("modelkeep --color ne", ["never"]),
        ("modelkeep --color never que", ["queue"]),
        ("modelkeep queue pa", ["pause"]),
        ("modelkeep queue --state fa", ["failed"]),
        ("modelkeep queue pause ", ["1", "2"]),
        ("modelkeep queue list --state qu", ["queued", "quarantined"]),
        ("modelkeep get --pr", ["--priority"]),
        ("modelkeep get --to f", ["folder"]),
        ("modelkeep library add f", ["folder"]),
        ("modelkeep show f", ["file.safetensors", "folder"]),
        ("modelkeep sync hug", ["huggingface"]),
        ("modelkeep search --fa", ["--facets"]),
        ("modelkeep search ta", ["tag:"]),
        ("modelkeep search anime -ta", ["-tag:"]),
        # bash breaks words at colons: what stands before one is not repeated
        ("modelkeep search tag:ani", ["anime", "animal"]),
        ("modelkeep search base:SD", ['"SDXL 1.0"']),
        ("modelkeep search owned:", ["yes", "no"]),
        ("modelkeep help exit", ["exit-codes"]),
        ("modelkeep completion f", ["fish"]),
        ("modelkeep status nothing", []),
    ],
)
def test_bash_offers(bash, line, offered):
    assert sorted(bash(line)) == sorted(offered)


def test_bash_offers_every_command(bash):
    assert set(bash("modelkeep ")) >= {"search", "get", "queue", "library", "status", "help"}


def test_without_a_daemon_nothing_is_offered_and_nothing_fails(tmp_path):
    ran = keep(tmp_path, "__complete", "tags", "a")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")


def test_live_values(home):
    assert keep(home, "__complete", "tags", "--", "ani").lines == ["anime", "animal"]
    assert keep(home, "__complete", "jobs", "--", "").lines == ["1", "2"]
    assert keep(home, "__complete", "query", "--", "-type:").lines == ["-type:LORA"]
    assert keep(home, "__complete", "nonsense", "--", "x").lines == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_packaged_script_is_printed(tmp_path, shell):
    ran = keep(tmp_path, "completion", shell)
    assert ran.code == 0
    assert ran.stdout == Path(script_path(shell)).read_text()


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


@pytest.mark.system
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("modelkeep sea", {"search"}),
        ("modelkeep queue pa", {"pause"}),
        ("modelkeep queue --state fa", {"failed"}),
        ("modelkeep queue pause ", {"1", "2"}),
        ("modelkeep search tag:ani", {"tag:anime", "tag:animal"}),
        ("modelkeep get --pr", {"--priority"}),
        ("modelkeep sync hug", {"huggingface"}),
    ],
)
def test_fish_offers(home, programs, tmp_path, line, offered):
    needs("fish")
    script = f"source {script_path('fish')}; complete -C '{line}'"
    lines = run(["fish", "--no-config", "-c", script], home, programs, tmp_path)
    assert {entry.partition("\t")[0] for entry in lines} == offered


ZSHRC = r"""
autoload -Uz compinit && compinit -u -D
source $SCRIPT
# prints what would be offered, instead of offering it
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a hits
    builtin compadd -A hits "$@"
    (( $#hits )) && print -rl -- "<"$^hits">"
}
show() {
    _main_complete
    print END
    exit
}
zle -C show complete-word show
bindkey '^T' show
PS1=READY
"""


@pytest.mark.system
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("modelkeep sea", {"search"}),
        ("modelkeep queue pa", {"pause"}),
        ("modelkeep queue --state fa", {"failed"}),
        ("modelkeep queue pause ", {"1", "2"}),
        ("modelkeep search tag:ani", {"tag:anime", "tag:animal"}),
        ("modelkeep get --pr", {"--priority"}),
        ("modelkeep sync hug", {"huggingface"}),
    ],
)
def test_zsh_offers(home, programs, tmp_path, line, offered):
    needs("zsh")
    (tmp_path / ".zshrc").write_text(ZSHRC)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["zsh", "-d", "-i"],
        env=environment(
            home,
            PATH=f"{programs}:{os.environ['PATH']}",
            ZDOTDIR=str(tmp_path),
            SCRIPT=script_path("zsh"),
            TERM="dumb",
        ),
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ):
        os.close(theirs)
        read_until(ours, b"READY")
        os.write(ours, line.encode() + b"\x14")
        seen = read_until(ours, b"END")
        os.close(ours)
    assert set(re.findall("<(.*?)>", seen.decode())) == offered


def read_until(fd: int, end: bytes) -> bytes:
    seen = b""
    while end not in seen:
        assert select.select([fd], [], [], 20)[0], seen
        seen += os.read(fd, 4096)
    return seen

"""The ``modelkeep`` command as a test runs it: a process, in a pipe or in a terminal."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

COMMAND = [sys.executable, "-m", "modelkeep"]


class Ran(NamedTuple):
    """What a command said and how it ended. In a terminal, ``stdout`` has both streams."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[str]:
        """The lines of stdout."""
        return self.stdout.splitlines()


def environment(home: Path, **more: str) -> dict[str, str]:
    """An environment that has this home and nothing that changes how things look."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "PYTHONPATH", "HOME") or name.startswith(("COVERAGE", "COV_"))
    }
    return {**kept, "MODELKEEP_HOME": str(home), "LANG": "C.UTF-8", "TERM": "xterm", **more}


def keep(home: Path, *words: str, **env: str) -> Ran:
    """Run ``modelkeep WORDS`` in a pipe."""
    done = subprocess.run(
        [*COMMAND, *words],
        env=environment(home, **env),
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def keep_in_terminal(home: Path, *words: str, typed: str = "", **env: str) -> Ran:
    """Run ``modelkeep WORDS`` in a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *words],
        env=environment(home, **{"COLUMNS": "100", **env}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        if typed:
            os.write(ours, typed.encode())
        seen = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux says EIO when the other end is closed
                break
            if not data:
                break
            seen += data
    os.close(ours)
    return Ran(process.returncode, seen.decode().replace("\r\n", "\n"), "")


def start(home: Path, *words: str, **env: str) -> "subprocess.Popen[str]":
    """Start ``modelkeep WORDS`` in a pipe; to be used with ``with``."""
    return subprocess.Popen(
        [*COMMAND, *words],
        env=environment(home, **env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )

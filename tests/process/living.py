"""A real daemon and a real simulated hub as processes, for tests that kill them."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelkeep.connect import Connection, NoDaemon
from modelkeep_protocol.paths import find_paths

ROOT = Path(__file__).parents[2]


class HubProcess:
    """``python -m tests.hubsim`` and its control calls."""

    def __init__(self, url: str) -> None:
        self.url = url

    def control(self, name: str, body: Any = None) -> Any:
        """``POST`` with a body, ``GET`` without."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_sim/{name}", data)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or b"null")


@contextmanager
def hub_process(*options: str) -> Iterator[HubProcess]:
    """A simulated hub in its own process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hubsim", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield HubProcess(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


class LivingDaemon:
    """One home with its daemon, which may be killed and started again."""

    def __init__(
        self,
        home: Path,
        hub_url: str,
        *,
        settings: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.models = home / "models"
        self.models.mkdir(parents=True, exist_ok=True)
        (home / "config.toml").write_text(
            "\n".join(
                (
                    "[hubs.civitai]",
                    f'base_url = "{hub_url}"',
                    "requests_per_second = 500",
                    "[hubs.huggingface]",
                    "enabled = false",
                    "[library]",
                    "settle_s = 0.2",
                    "[[library.roots]]",
                    f'path = "{self.models}"',
                    'layout = "comfyui"',
                    "[transfer]",
                    "reserve_bytes = 0",
                    *settings,
                )
            )
        )
        self.environment = {**os.environ, **(environment or {}), "MODELKEEP_HOME": str(home)}
        self.paths = find_paths(self.environment)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home / "daemon.log"

    def start(self, **environment: str) -> None:
        """Start without waiting for readiness."""
        assert self.process is None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "modelkeepd"],
                env={**self.environment, **environment},
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def kill(self) -> None:
        """SIGKILL, as the kernel would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask to stop; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(15)
        self.process = None
        return code

    def call(self, method: str, **params: Any) -> Any:
        """One call; waits for a daemon that is only just starting."""
        deadline = time.monotonic() + 20
        while True:
            try:
                with Connection(self.paths.socket) as connection:
                    return connection.call(method, params)
            except NoDaemon:
                if self.process is None or self.process.poll() is not None:
                    raise AssertionError(f"the daemon ended:\n{self.log_tail()}") from None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def until(self, holds: Callable[[], Any], what: str, limit_s: float = 60) -> Any:
        """Poll the outside view until it holds; the value that held."""
        deadline = time.monotonic() + limit_s
        while True:
            value = holds()
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {limit_s:.0f} s\n{self.log_tail()}")
            time.sleep(0.05)

    def synced(self, limit_s: float = 60) -> dict[str, Any]:
        """Wait for a finished sync; its run."""

        def finished() -> Any:
            runs = self.call("sync.status")["runs"]
            return runs and runs[0]["state"] == "finished" and runs[0]

        found: dict[str, Any] = self.until(finished, "sync", limit_s)
        return found

    def log_tail(self) -> str:
        """The end of the daemon's log."""
        return self.log.read_text(errors="replace")[-4000:]


@contextmanager
def living_daemon(home: Path, hub_url: str, **options: Any) -> Iterator[LivingDaemon]:
    """A started daemon; whatever the test did to it, no process is left."""
    daemon = LivingDaemon(home, hub_url, **options)
    daemon.start()
    try:
        yield daemon
    finally:
        if daemon.process is not None:
            daemon.process.kill()
            daemon.process.wait(10)

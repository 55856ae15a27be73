"""``make demo``: the main job, for real, in front of you.

Starts the simulated hub and the daemon in a temporary home, then does what a user does, with the
commands a user types. Fails loudly when any step is not as it should be.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
FIXTURES = Path(__file__).parent / "fixtures" / "civitai"
MODELS = 400
SEED = 7


class DemoFailed(Exception):
    """A step did not end as it should."""


def say(text: str) -> None:
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def check(holds: bool, what: str) -> None:
    if not holds:
        raise DemoFailed(what)
    print(f"  ok: {what}", flush=True)


class Home:
    """One temporary home with its daemon."""

    def __init__(self, folder: Path, hub_url: str) -> None:
        self.folder = folder
        self.models = folder / "ComfyUI" / "models"
        (self.models / "loras").mkdir(parents=True)
        (self.models / "checkpoints").mkdir()
        (folder / "config.toml").write_text(
            f"""\
[hubs.civitai]
base_url = "{hub_url}"          # the simulated hub
requests_per_second = 200
[hubs.huggingface]
enabled = false
[library]
settle_s = 0.3
[[library.roots]]
path = "{self.models}"
layout = "comfyui"
[transfer]
root = "{self.models}"
layout = "comfyui"
"""
        )
        self.environment = {**os.environ, "MODELKEEP_HOME": str(folder)}
        self.daemon = subprocess.Popen(
            [BIN / "modelkeepd"], env=self.environment, stderr=(folder / "daemon.log").open("wb")
        )
        self.until("the daemon answers", lambda: self._run("status", "--json").returncode == 0)

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [BIN / "modelkeep", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def type(self, *words: str) -> None:
        """What a user types and sees."""
        print(f"$ modelkeep {' '.join(words)}", flush=True)
        done = subprocess.run([BIN / "modelkeep", *words], env=self.environment, timeout=180)
        if done.returncode:
            raise DemoFailed(f"modelkeep {' '.join(words)} ended with {done.returncode}")

    def ask(self, *words: str) -> Any:
        """The same as data."""
        done = self._run(*words, "--json")
        if done.returncode:
            raise DemoFailed(
                f"modelkeep {' '.join(words)} --json: {done.stdout.strip()}{done.stderr.strip()}"
            )
        return json.loads(done.stdout)

    def lines(self, *words: str) -> list[Any]:
        """A command that prints one JSON object a line."""
        return [json.loads(line) for line in self._run(*words, "--json").stdout.splitlines()]

    def until(self, what: str, holds: Callable[[], bool], limit_s: float = 60) -> None:
        """Wait for something the user would see happen by itself."""
        deadline = time.monotonic() + limit_s
        while not holds():
            if self.daemon.poll() is not None:
                raise DemoFailed(f"the daemon ended: {self.log_tail()}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what}: not within {limit_s:.0f} s\n{self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self) -> str:
        return (self.folder / "daemon.log").read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        print("$ modelkeep stop", flush=True)
        self._run("stop")
        started = time.monotonic()
        code = self.daemon.wait(10)
        if code:
            raise DemoFailed(f"the daemon ended with {code}: {self.log_tail()}")
        check(True, f"the daemon stopped cleanly in {time.monotonic() - started:.1f} s")


@contextmanager
def simulated_hub(*options: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hubsim", *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url.startswith("http://127.0.0.1"):
            raise DemoFailed("the simulated hub did not start")
        yield url, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        process.stdout.close()


def recorded_documents(folder: Path) -> None:
    say("1. Recorded documents of the real hub: sync, search, show")
    with simulated_hub("--catalog", str(FIXTURES)) as (url, _):
        home = Home(folder, url)
        try:
            home.type("sync", "civitai", "--wait")
            home.until(
                "search has caught up", lambda: home.ask("search", "panel OR control")["total"] > 0
            )
            home.type("search", "controlnet", "--limit", "3")
            home.type("show", "civitai:9251")
            found = home.ask("search", "平涂り風")
            check(found["total"] >= 1, "a Japanese name of a recorded model is found")
            odd = home.ask("status")["catalog"]
            check(odd["models"] >= 20, f"{odd['models']} recorded models are in the catalog")
        finally:
            home.stop()


def pick(home: Home, query: str, skip: set[str]) -> tuple[str, dict[str, Any]]:
    """A model whose first version is one public safetensors file."""
    for item in home.ask("search", query, "--limit", "50")["items"]:
        if item["ref"] in skip or item["owned"]:
            continue
        version = home.ask("show", item["ref"])["versions"][0]
        for file in version["files"]:
            if file.get("primary") and file["name"].endswith(".safetensors") and file["sha256"]:
                return item["ref"], {"version": version["ref"], **file}
    raise DemoFailed(f"no model with a safetensors file for {query}")


def synthetic_catalog(folder: Path) -> None:
    say(f"2. A synthetic catalog of {MODELS} models: the whole job")
    with simulated_hub("--models", str(MODELS), "--seed", str(SEED)) as (url, hub):
        home = Home(folder, url)
        try:
            home.type("sync", "civitai", "--wait")
            home.until(
                "search has caught up", lambda: home.ask("search", "")["total"] > MODELS // 2
            )
            home.type("status")
            say("3. Search, in English and in Japanese")
            home.type("search", "style type:lora", "--limit", "5")
            home.type("search", "背景 OR 風", "--limit", "5")
            check(home.ask("search", "背景 OR 風")["total"] > 0, "Japanese text is found")

            say("4. Get a model: download, verify, scan, place, index")
            cursor = home.ask("status")["daemon"]["epoch"] + ":0"
            ref, file = pick(home, "type:lora", set())
            home.type("get", ref, "--wait")
            owned = next(
                entry
                for entry in home.ask("library", "list")["items"]
                if entry["sha256"] == file["sha256"]
            )
            digest = hashlib.sha256(Path(owned["path"]).read_bytes()).hexdigest()
            check(digest == file["sha256"], f"{owned['path']} has the hash the hub promised")
            check("/loras/" in owned["path"], "it lies in the folder for its type")
            home.type("get", ref, "--wait")
            home.type("library", "list")

            say("5. A file dropped into a watched folder is known and announced")
            other, dropped = pick(home, "type:lora", {ref})
            path = home.models / "loras" / "dropped by hand.safetensors"
            version_id = dropped["version"].rpartition("@")[2]
            file_id = dropped["ref"].rpartition("#")[2]
            source = f"{url}/api/download/models/{version_id}?fileId={file_id}"
            request = urllib.request.Request(source, headers={"User-Agent": "demo/1"})
            with urllib.request.urlopen(request) as body, path.open("wb") as target:
                shutil.copyfileobj(body, target)

            def announced() -> bool:
                return any(
                    event["kind"] == "file.identified" and event["subject"] == str(path)
                    for event in home.lines("events", "--since", cursor, "--no-follow")
                )

            home.until("the dropped file is announced", announced)
            check(True, f"{path.name} was identified as {other}")

            say("6. The hub goes down; search still works")
            hub.send_signal(signal.SIGTERM)
            hub.wait(10)
            home.type("search", "owned:yes")
            check(home.ask("search", "owned:yes")["total"] == 2, "both models are known as owned")

            say("7. A clean stop")
        finally:
            home.stop()


def main() -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="modelkeep-demo-") as folder:
        try:
            recorded_documents(Path(folder) / "recorded")
            synthetic_catalog(Path(folder) / "synthetic")
        except DemoFailed as exc:
            print(f"\ndemo FAILED: {exc}", file=sys.stderr)
            return 1
    print(f"\ndemo passed in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

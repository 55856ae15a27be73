"""``make demo``: the main job, for real, in front of you.

Starts two simulated hubs and the daemon in a temporary home, then does what a user does, with the
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
FIXTURES = Path(__file__).parent / "fixtures"
SEED = 7
CIVITAI_MODELS, HUGGINGFACE_MODELS = 3000, 1500


class DemoFailed(Exception):
    """A step did not end as it should."""


def say(text: str) -> None:
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def check(holds: bool, what: str) -> None:
    if not holds:
        raise DemoFailed(f"not so: {what}")
    print(f"  ok: {what}", flush=True)


class SimulatedHub:
    """One simulated hub: a process, and what steers it from outside."""

    def __init__(self, url: str, process: "subprocess.Popen[str]") -> None:
        self.url = url
        self._process = process

    def change(self, **changes: Any) -> dict[str, Any]:
        """Let its catalog change; the ids of what did."""
        found: dict[str, Any] = self._control("change", changes)
        return found

    def document(self, model_id: str | int) -> dict[str, Any]:
        """A model as the hub shows it."""
        found: dict[str, Any] = self._control(f"document?id={model_id}")
        return found

    def requests(self) -> list[str]:
        """What it was asked since the last time, to look around in its catalog."""
        log = self._control("log")
        self._control("reset_log", {})
        return [entry["target"] for entry in log if entry["path"].startswith("/api/")]

    def go_down(self) -> None:
        """Stop answering, for good."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)

    def _control(self, word: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.url}/_sim/{word}", data) as answer:
            return json.loads(answer.read() or b"null")


@contextmanager
def simulated_hub(*options: str) -> Iterator[SimulatedHub]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hubsim", *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url.startswith("http://127.0.0.1"):
            raise DemoFailed("the simulated hub did not start")
        yield SimulatedHub(url, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        process.stdout.close()


class Home:
    """One temporary home with its daemon."""

    def __init__(
        self,
        folder: Path,
        civitai: SimulatedHub,
        huggingface: SimulatedHub,
        *filters: str,
        auto: bool = True,
    ) -> None:
        self.folder = folder
        self.models = folder / "ComfyUI" / "models"
        (self.models / "loras").mkdir(parents=True)
        (self.models / "checkpoints").mkdir()
        (folder / "config.toml").write_text(
            f"""\
[sync]
auto = {json.dumps(auto)}
[hubs.civitai]
base_url = "{civitai.url}"          # a simulated hub
requests_per_second = 200
[hubs.huggingface]
base_url = "{huggingface.url}"      # another
requests_per_second = 200
filters = {json.dumps(filters)}              # none: everything
page_size = 20
background_requests_per_day = 50    # some details; others when somebody asks for them
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

    def until_searchable(self) -> None:
        """Search follows the catalog within a second or so."""
        self.until("search has caught up", lambda: self.ask("status")["catalog"]["indexed"])

    def events(self, topic: str) -> list[Any]:
        """All that happened so far."""
        epoch = self.ask("status")["daemon"]["epoch"]
        return self.lines("events", "--since", f"{epoch}:0", "--topic", topic, "--no-follow")

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


def recorded_documents(folder: Path) -> None:
    say("1. Recorded documents of the real hubs: sync, search, show")
    with (
        simulated_hub("--catalog", str(FIXTURES / "civitai")) as civitai,
        simulated_hub(
            "--dialect", "huggingface", "--catalog", str(FIXTURES / "huggingface")
        ) as huggingface,
    ):
        home = Home(folder, civitai, huggingface, auto=False)
        try:
            home.type("sync", "--wait")
            home.until_searchable()
            home.type("search", "controlnet", "--limit", "3")
            home.type("show", "civitai:9251")
            check(
                home.ask("search", "平涂り風")["total"] >= 1,
                "a Japanese name of a recorded model is found",
            )
            known = home.ask("status")["catalog"]["models"]
            check(known >= 40, f"{known} recorded models are in the catalog")
            found = {item["ref"] for item in home.ask("search", "hub:hf diffusion")["items"]}
            ref = "hf:CompVis/stable-diffusion-v1-4"
            check(ref in found, f"{ref} is found among them")
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


def check_owned(home: Home, file: dict[str, Any]) -> Path:
    """The library has this file, with this content."""
    listed = home.ask("library", "list")["items"]
    paths = [Path(entry["path"]) for entry in listed if entry["sha256"] == file["sha256"]]
    if not paths:
        raise DemoFailed(f"{file['name']} is not in the library")
    path = paths[0]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    check(digest == file["sha256"], f"{path.name} has the hash the hub promised")
    check(path.is_relative_to(home.models / "loras"), "it lies in the folder for its type")
    return path


def mirror(home: Home) -> None:
    say(f"2. Two hubs with {CIVITAI_MODELS} and {HUGGINGFACE_MODELS} models: read whole, once")
    home.type("sync", "--wait")
    home.until_searchable()
    home.type("status")

    say("3. Search both, in English and in Japanese")
    home.type("search", "style type:lora", "--limit", "5")
    home.type("search", "topic:character type:lora hub:hf", "--limit", "3")
    home.type("search", "背景 OR 風", "--limit", "3")
    check(home.ask("search", "背景 OR 風")["total"] > 0, "Japanese text is found")
    hubs = {item["hub"] for item in home.ask("search", "anime", "--limit", "1000")["items"]}
    check(hubs == {"civitai", "huggingface"}, "one search finds models of both hubs")


def download(home: Home, huggingface: SimulatedHub) -> tuple[str, str]:
    say("4. Get a model: download, verify, scan, place, index")
    ref, file = pick(home, "type:lora hub:civitai", set())
    home.type("get", ref, "--wait")
    check_owned(home, file)
    home.type("get", ref, "--wait")

    say("5. Hugging Face tells of files apart: it is asked when somebody wants to see them")
    home.until("today's budget is spent", lambda: background_left(home, "huggingface") == 0)
    repository = without_details(home)[0]
    huggingface.requests()
    home.type("show", repository)
    check(len(huggingface.requests()) == 1, "that took one request")
    files = home.ask("show", repository)["versions"][0]["files"]
    check(not huggingface.requests(), "to show it again took none")
    weights = [file for file in files if file["primary"] and file["sha256"]]
    if not weights:
        raise DemoFailed(f"no weights are known of {repository}")
    home.type("get", repository, "--dry-run")
    home.type("get", repository, "--wait")
    check_owned(home, weights[0])
    home.until("both are found as owned", lambda: owned_total(home) == 2)
    home.type("search", "owned:yes")
    return ref, repository


def owned_total(home: Home) -> int:
    """How many models search says are in the library."""
    total: int = home.ask("search", "owned:yes")["total"]
    return total


def background_left(home: Home, hub: str) -> int:
    """What is left of the hub's budget for today."""
    [found] = [each for each in home.ask("status")["hubs"] if each["name"] == hub]
    left: int = found["requests"]["background_left"]
    return left


def without_details(home: Home) -> list[str]:
    """Repositories of whose files nothing is known yet, the most downloaded first."""
    found = home.ask("search", "type:lora hub:hf", "--limit", "1000")["items"]
    refs = [item["ref"] for item in found if item["size_bytes"] is None]
    if len(refs) < 2:
        raise DemoFailed("the files of all repositories are known already")
    return refs


def dropped_file(home: Home, civitai: SimulatedHub, known: str) -> None:
    say("6. A file dropped into a watched folder is known and announced")
    other, dropped = pick(home, "type:lora hub:civitai", {known})
    path = home.models / "loras" / "dropped by hand.safetensors"
    version_id = dropped["version"].rpartition("@")[2]
    file_id = dropped["ref"].rpartition("#")[2]
    source = f"{civitai.url}/api/download/models/{version_id}?fileId={file_id}"
    request = urllib.request.Request(source, headers={"User-Agent": "demo/1"})
    with urllib.request.urlopen(request) as body, path.open("wb") as target:
        shutil.copyfileobj(body, target)

    def announced() -> bool:
        return any(
            event["kind"] == "file.identified" and event["subject"] == str(path)
            for event in home.events("library")
        )

    home.until("the dropped file is announced", announced)
    check(True, f"{path.name} was identified as {other}")


def changes(
    home: Home, civitai: SimulatedHub, huggingface: SimulatedHub, ref: str, repository: str
) -> None:
    say("7. The hubs change: new models, a version, a replaced file, a rename, a removal")
    hf_lora = home.ask("search", "type:lora hub:hf owned:no", "--limit", "1")["items"]
    gone, old_name = hf_lora[0]["ref"], without_details(home)[0]
    new_name = "demo/another-name"
    new = civitai.change(add=3, new_version=[int(ref.removeprefix("civitai:"))])["add"]
    huggingface.change(
        add=9,
        replace_file=[repository.removeprefix("hf:")],
        rename={old_name.removeprefix("hf:"): new_name},
        remove=[gone.removeprefix("hf:")],
    )
    civitai.requests()
    huggingface.requests()
    home.type("sync", "--wait")
    asked = [
        target.partition("?")[0]
        for hub in (civitai, huggingface)
        for target in hub.requests()
        if target.partition("?")[0] in ("/api/models", "/api/v1/models")
    ]
    runs = [event["payload"] for event in home.events("sync") if event["kind"] == "run.finished"]
    whole = sum(run["pages"] for run in runs if run["kind"] == "full")
    check(
        0 < 5 * len(asked) < whole,
        f"{len(asked)} requests brought the news; to read both whole had taken {whole}",
    )
    home.until_searchable()
    title = civitai.document(new[0])["name"]
    found = {item["ref"] for item in home.ask("search", f'"{title}"', "--limit", "100")["items"]}
    check(f"civitai:{new[0]}" in found, f"the new model {title!r} is found")

    say("8. What changed is kept, with its date")
    home.type("history", ref)
    home.ask("show", repository, "--fresh")
    home.type("history", repository)
    kinds = {item["what"] for item in home.ask("history", ref)["items"]}
    check("version added" in kinds, f"{ref} has a new version")
    kinds = {item["what"] for item in home.ask("history", repository)["items"]}
    check("file replaced" in kinds, f"a file of {repository} was replaced")
    found = home.ask("show", old_name)["ref"]
    check(found == f"hf:{new_name}", f"{old_name} is now {found}, and found by both names")
    home.type("show", gone, "--fresh")
    check(
        home.ask("show", gone)["hub_state"] == "listed",
        "a removal is not believed at once, and what is known stays",
    )
    home.type("status")


def offline(home: Home, *hubs: SimulatedHub) -> None:
    say("9. The hubs go down; search still works")
    for hub in hubs:
        hub.go_down()
    home.type("search", "owned:yes")
    check(owned_total(home) == 3, "all three models are known as owned")


def synthetic_catalogs(folder: Path) -> None:
    seed = ("--seed", str(SEED))
    with (
        simulated_hub("--models", str(CIVITAI_MODELS), *seed) as civitai,
        simulated_hub(
            "--dialect", "huggingface", "--models", str(HUGGINGFACE_MODELS), *seed
        ) as huggingface,
    ):
        home = Home(folder, civitai, huggingface, "text-to-image", "gguf")
        try:
            mirror(home)
            ref, repository = download(home, huggingface)
            dropped_file(home, civitai, ref)
            changes(home, civitai, huggingface, ref, repository)
            offline(home, civitai, huggingface)
            say("10. A clean stop")
        finally:
            home.stop()


def main() -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="modelkeep-demo-") as folder:
        try:
            recorded_documents(Path(folder) / "recorded")
            synthetic_catalogs(Path(folder) / "synthetic")
        except DemoFailed as exc:
            print(f"\ndemo FAILED: {exc}", file=sys.stderr)
            return 1
    print(f"\ndemo passed in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

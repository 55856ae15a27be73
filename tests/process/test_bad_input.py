"""The command line against a real daemon: keys and exit codes of the contract, bad input included.

The keys are those that scripts may rely on; more may stand beside them.
"""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from modelkeep_protocol.errors import (
    EXIT_DENIED,
    EXIT_FAILED,
    EXIT_NO_DAEMON,
    EXIT_NOT_FOUND,
    EXIT_OK,
    EXIT_SOME_FAILED,
    EXIT_USAGE,
)
from tests.fakes.command import Ran, keep, start
from tests.process.living import HubProcess, LivingDaemon, hub_process, living_daemon

TOKEN = "canary-key-for-tests"


class World(NamedTuple):
    home: Path
    hub: HubProcess
    daemon: LivingDaemon
    special: dict[str, int]

    def keep(self, *words: str) -> Ran:
        return keep(self.home, *words)

    def json(self, *words: str) -> Any:
        """The one document on stdout of a command that did what it should."""
        ran = self.keep(*words, "--json")
        assert ran.code == EXIT_OK, ran
        return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("world") / "home"
    with (
        hub_process("--models", "80", "--token", TOKEN) as hub,
        living_daemon(home, hub.url) as daemon,
    ):
        daemon.synced()
        daemon.until(lambda: daemon.call("daemon.status")["catalog"]["indexed"], "indexed")
        yield World(home, hub, daemon, hub.control("specials"))
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log.read_text()


def test_status_has_its_keys(world: World) -> None:
    status = world.json("status")
    assert set(status) >= {"daemon", "catalog", "queue", "library", "hubs"}
    assert set(status["daemon"]) >= {"version", "pid", "uptime_s"}
    assert set(status["catalog"]) >= {"models", "versions", "files"}
    assert set(status["queue"]) >= {"active", "waiting", "failed"}
    assert set(status["library"]) >= {"files", "size_bytes"}
    assert status["catalog"]["models"] > 60
    assert status["daemon"]["pid"] == world.daemon.process.pid  # type: ignore[union-attr]
    # the option may stand before the command as well
    assert set(json.loads(world.keep("--json", "status").stdout)) == set(status)


def test_search_has_its_keys(world: World) -> None:
    page = world.json("search", "type:lora", "--limit", "3")
    assert set(page) >= {"total", "items"}
    assert page["total"] > 10
    assert len(page["items"]) == 3
    for item in page["items"]:
        assert set(item) >= {
            "ref", "name", "hub", "type", "base_model", "creator", "tags", "downloads",
            "nsfw_level", "owned",
        }  # fmt: skip
    rest = world.json("search", "type:lora", "--limit", "3", "--offset", "3")
    assert not {i["ref"] for i in rest["items"]} & {i["ref"] for i in page["items"]}
    assert world.json("search", "nothing-has-this-word")["items"] == []


def test_show_has_its_keys(world: World) -> None:
    ref = f"civitai:{world.special['many_versions']}"
    shown = world.json("show", ref)
    assert set(shown) >= {"ref", "name", "versions"}
    assert len(shown["versions"]) == 31
    for version in shown["versions"]:
        assert set(version) >= {"ref", "name", "files"}
        for file in version["files"]:
            assert set(file) >= {"name", "size_bytes", "sha256"}
    assert "raw" not in shown
    raw = world.json("show", ref, "--raw")["raw"]
    served = world.hub.control(f"document?id={world.special['many_versions']}")
    assert raw == served
    one = world.json("show", shown["versions"][3]["ref"])
    assert [version["ref"] for version in one["versions"]] == [shown["versions"][3]["ref"]]


def _good(world: World, count: int) -> list[str]:
    found = []
    for item in world.json("search", "type:lora owned:no", "--limit", "60")["items"]:
        version = world.json("show", item["ref"])["versions"][0]
        file = next((f for f in version["files"] if f.get("primary")), None)
        special = int(item["ref"].partition(":")[2]) in world.special.values()
        public = version["availability"] == "Public"
        if file and file["name"].endswith(".safetensors") and public and not special:
            found.append(item["ref"])
            if len(found) == count:
                break
    return found


def test_get_queue_and_library_have_their_keys_and_codes(world: World) -> None:
    good = _good(world, 2)
    answer = world.json("get", *good, "--wait")
    assert len(answer["jobs"]) == 2
    for job in answer["jobs"]:
        assert set(job) >= {"id", "ref", "state", "path", "sha256", "error"}
        assert (job["state"], job["error"]) == ("done", None)
        assert Path(job["path"]).is_file()
    again = world.json("get", good[0], "--wait")
    assert [(job["state"], job["path"]) for job in again["jobs"]] == [
        ("done", answer["jobs"][0]["path"])
    ]
    listed = world.json("library", "list")
    assert {item["path"] for item in listed["items"]} >= {job["path"] for job in answer["jobs"]}
    for item in listed["items"]:
        assert set(item) >= {"path", "size_bytes", "sha256", "ref", "state"}
    queue = world.json("queue", "list", "--all")
    assert {job["id"] for job in answer["jobs"]} <= {job["id"] for job in queue["jobs"]}
    for ref in (answer["jobs"][0]["path"], f"sha256:{answer['jobs'][0]['sha256']}"):
        # the version the file belongs to
        assert world.json("show", ref)["ref"].partition("@")[0] == good[0]
    assert world.json("search", "owned:yes")["total"] >= 2


@pytest.mark.parametrize(
    ("name", "code", "error"),
    [
        ("gated", EXIT_DENIED, "denied"),
        ("downloads_disabled", EXIT_DENIED, "denied"),
        ("early_access", EXIT_DENIED, "gated"),
        ("wrong_sha256", EXIT_FAILED, "corrupt"),
    ],
)
def test_a_download_that_fails_has_its_code_and_says_why(
    world: World, name: str, code: int, error: str
) -> None:
    ran = world.keep("get", f"civitai:{world.special[name]}", "--wait", "--json")
    assert ran.code == code, ran
    [job] = json.loads(ran.stdout)["jobs"]
    assert job["state"] == "failed"
    assert job["error"]["code"] == error
    assert job["error"]["message"]
    assert job["error"]["hint"]
    told = world.keep("get", f"civitai:{world.special[name]}", "--wait")
    assert told.code == code
    assert told.stdout == ""
    assert "Traceback" not in told.stderr
    assert job["error"]["hint"].split(";")[0][:20] in told.stderr


def test_some_of_several_failed_has_a_code_of_its_own(world: World) -> None:
    [good] = _good(world, 1)
    ran = world.keep("get", good, f"civitai:{world.special['gated']}", "--wait", "--json")
    assert ran.code == EXIT_SOME_FAILED, ran
    assert sorted(job["state"] for job in json.loads(ran.stdout)["jobs"]) == ["done", "failed"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["show", "civitai:999999999"], EXIT_NOT_FOUND),
        (["get", "civitai:999999999"], EXIT_NOT_FOUND),
        (["show", "sha256:" + "0" * 64], EXIT_NOT_FOUND),
        (["show", "civitai:../../etc/passwd"], EXIT_USAGE),
        (["show", "nonsense"], EXIT_USAGE),
        (["show", ""], EXIT_USAGE),
        (["show", "sha256:xyz"], EXIT_USAGE),
        (["show", "https://example.org/models/1"], EXIT_USAGE),
        (["search", "((("], EXIT_USAGE),
        (["search", 'tag:"'], EXIT_USAGE),
        (["search", "x" * 2_000], EXIT_OK),
        (["search", "x" * 19_000], EXIT_USAGE),
        (["search", "nsfw:<=many"], EXIT_USAGE),
        (["search", "x", "--limit", "-1"], EXIT_USAGE),
        (["search", "x", "--limit", "abc"], EXIT_USAGE),
        (["search", "x", "--sort", "beauty"], EXIT_USAGE),
        (["serach", "x"], EXIT_USAGE),
        (["queue", "cancel", "999999", "--yes"], EXIT_NOT_FOUND),
        (["queue", "retry", "0"], EXIT_NOT_FOUND),
        (["library", "add", "/nonexistent/folder"], EXIT_NOT_FOUND),
        (["library", "remove", "/nonexistent/folder"], EXIT_NOT_FOUND),
        (["sync", "nosuchhub"], EXIT_NOT_FOUND),
        (["events", "--since", "nonsense", "--no-follow"], EXIT_USAGE),
        (["events", "--topic", "nonsense", "--no-follow"], EXIT_USAGE),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else str(value),
)
def test_bad_input_has_a_code_a_message_and_a_hint(
    world: World, words: list[str], code: int
) -> None:
    ran = world.keep(*words, "--json")
    assert ran.code == code, ran
    assert "Traceback" not in ran.stderr
    document = json.loads(ran.stdout)
    if code == EXIT_OK:
        return
    assert set(document["error"]) >= {"code", "message", "hint"}
    assert document["error"]["message"]
    assert document["error"]["hint"], document


def test_events_tell_the_story_and_follow_a_cursor(world: World) -> None:
    epoch = world.json("status")["daemon"]["epoch"]
    ran = world.keep("events", "--since", f"{epoch}:0", "--no-follow", "--json")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {"run.started", "page", "run.finished"} <= {line["kind"] for line in lines}
    for line in lines:
        assert set(line) >= {"cursor", "at_ms", "topic", "kind", "subject", "payload"}
    after = world.keep("events", "--since", lines[-2]["cursor"], "--no-follow", "--json")
    assert json.loads(after.stdout.splitlines()[0]) == lines[-1]
    gone = world.keep("events", "--since", "00000000:5", "--no-follow", "--json")
    assert json.loads(gone.stdout.splitlines()[0])["fresh"] is True


def test_ctrl_c_ends_the_waiting_and_not_the_work(world: World) -> None:
    [good] = _good(world, 1)
    world.hub.control("faults", [{"match": {"storage": True, "times": 0}, "do": {"slow": 2000}}])
    process = start(world.home, "get", good, "--wait")
    with process:

        def running() -> bool:
            jobs = world.daemon.call("transfer.list", states=["downloading"])["jobs"]
            return any(job["ref"].startswith(good) for job in jobs)

        world.daemon.until(running, "the download runs")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "goes on" in said
    assert running()
    world.hub.control("faults", [])
    jobs = world.daemon.call("transfer.list", limit=1000)["jobs"]
    number = next(job["id"] for job in jobs if job["ref"].startswith(good))
    assert world.keep("queue", "cancel", str(number), "--yes").code == EXIT_OK


def test_with_no_daemon_three_lines_tell_what_to_do(tmp_path: Path) -> None:
    ran = keep(tmp_path / "home", "status")
    assert ran.code == EXIT_NO_DAEMON
    assert len(ran.stderr.splitlines()) == 3
    assert "modelkeepd" in ran.stderr


def test_stopping_by_command(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with living_daemon(home, "http://127.0.0.1:9") as daemon:
        daemon.call("daemon.ping")
        assert keep(home, "stop").code == EXIT_OK
        assert daemon.process is not None
        try:
            assert daemon.process.wait(10) == 0
        except subprocess.TimeoutExpired:
            raise AssertionError(daemon.log_tail()) from None
        daemon.process = None
    assert keep(home, "status").code == EXIT_NO_DAEMON

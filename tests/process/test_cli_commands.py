"""The ``modelkeep`` command as people and scripts run it, against a made-up daemon."""

import json
import signal
import socket
import stat

import pytest

from modelkeep_protocol import errors, methods
from modelkeep_protocol.errors import ModelkeepError
from tests.fakes import invented
from tests.fakes.command import keep, keep_in_terminal, start
from tests.fakes.daemon import FakeDaemon

HOSTILE = "a\x1b[2J\u202eb\nc"


@pytest.fixture
def home(tmp_path):
    return tmp_path / "h"


@pytest.fixture
def daemon(home):
    with FakeDaemon.at_home(home) as daemon:
        yield daemon


# -- without a daemon -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [["status"], ["search", "x"], ["get", "civitai:1", "--wait"], ["queue"], ["events"], ["stop"]],
)
def test_without_a_daemon_three_lines_and_code_3(home, words):
    ran = keep(home, *words)
    assert ran.code == 3
    assert ran.stdout == ""
    what, why, mend = ran.stderr.splitlines()
    assert str(home) in what
    assert "not running" in why
    assert mend == "Start it: modelkeepd &"


def test_without_a_daemon_json_is_an_error_document(home):
    ran = keep(home, "status", "--json")
    assert ran.code == 3
    assert ran.json["error"]["code"] == "unavailable"
    assert ran.json["error"]["hint"] == "Start it: modelkeepd &"
    assert ran.stderr == ""


def test_a_left_over_socket_is_told_from_none(home):
    (home / "run").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(home / "run/rpc.sock"))
    ran = keep(home, "status")
    assert ran.code == 3
    assert "left-over" in ran.stderr


def test_a_listener_that_is_no_daemon_is_said(home):
    (home / "run").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(home / "run/rpc.sock"))
        bound.listen()
        with start(home, "status") as process:
            peer, _ = bound.accept()
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            said = process.stderr.read()
            peer.close()
    assert process.returncode == 3
    assert "something else than ZeroMQ answers" in said


def test_a_daemon_that_goes_away_in_the_middle_is_code_3(home):
    with FakeDaemon.at_home(home) as daemon:
        daemon.unanswered.add(methods.DAEMON_STATUS)
        process = start(home, "status")
        daemon.wait_called(methods.DAEMON_STATUS)
    with process:
        said = process.stderr.read()
    assert process.returncode == 3
    assert "went away" in said


# -- results ----------------------------------------------------------------------------------


def test_status_in_a_pipe_and_as_json(home, daemon):
    lines = dict(line.split("\t", 1) for line in keep(home, "status").lines)
    assert lines["daemon"] == "running, version 0.1.0, pid 4242, up 1 h 2 min"
    assert lines["catalog"] == "1,102 models, 2,204 versions, 3,306 files"
    assert lines["queue"] == "1 active at 12.5 MB/s, 2 waiting"
    shown = keep(home, "--json", "status").json
    assert shown == invented.status()


def test_status_tells_what_needs_attention(home, daemon):
    run = invented.run(state="waiting", error="the hub asks for a pause")
    hub = {"name": "civitai", "base_url": "x", "has_token": True, "last_sync_ms": None, "sync": run}
    status = invented.status(hubs=[hub], warnings=["inotify watches are used up"])
    status["queue"] |= {"failed": 2, "quarantined": 1}
    status["library"] |= {"offline_roots": 1}
    status["catalog"] |= {"indexed": False, "odd_documents": 3}
    daemon.answers[methods.DAEMON_STATUS] = lambda params: status
    ran = keep(home, "status", "-v")
    assert "2 failed, 1 quarantined" in ran.stdout
    assert "1 offline" in ran.stdout
    assert "search is catching up; 3 odd documents kept raw" in ran.stdout
    assert "last synced never" in ran.stdout
    assert "the hub asks for a pause" in ran.stdout
    assert ran.stderr == "warning: inotify watches are used up\n"


def test_search_in_a_pipe_is_whole_lines(home, daemon):
    ran = keep(home, "search", "anime", "-furry", "--limit", "2", "--sort", "downloads")
    assert ran.lines[0].split("\t")[:3] == ["civitai:1", "Model 1", "LORA"]
    assert len(ran.lines) == 2
    _, params = daemon.calls[-1]
    assert params == {
        "query": "anime -furry", "sort": "downloads", "limit": 2, "offset": 0, "facets": False,
    }  # fmt: skip


def test_search_json_and_quiet(home, daemon):
    page = keep(home, "search", "x", "--json", "--limit", "1").json
    assert page["total"] == 30
    assert page["items"] == [invented.item(1)]
    assert keep(home, "search", "x", "-q", "--limit", "2").stdout == "civitai:1\ncivitai:2\n"


def test_nothing_found_is_no_failure(home, daemon):
    daemon.answers[methods.CATALOG_SEARCH] = lambda params: {"total": 0, "items": []}
    ran = keep(home, "search", "x")
    assert (ran.code, ran.stdout) == (0, "")
    assert "nothing found" in ran.stderr


def test_show(home, daemon):
    ran = keep(home, "show", "civitai:1102")
    assert "name\t水彩 Style" in ran.lines
    assert any(line.startswith("file\tcivitai:1102@1301#7\tmodel.safe") for line in ran.lines)
    shown = keep(home, "show", "civitai:1102", "--json").json
    assert shown["versions"][0]["files"][0]["sha256"] == invented.SHA256
    assert "raw" not in shown
    assert keep(home, "show", "civitai:1102", "--raw", "--json").json["raw"] == {"id": 1102}
    assert keep(home, "show", "civitai:1102", "--raw").json == {"id": 1102}


def test_not_found_is_code_4(home, daemon):
    ran = keep(home, "show", "civitai:9")
    assert ran.code == 4
    assert ran.stderr == "modelkeep: civitai:9 is not in the catalog\nmodelkeep sync\n"
    assert keep(home, "show", "civitai:9", "--json").json["error"]["code"] == "not_found"


@pytest.mark.parametrize("code", sorted(errors.CODES))
def test_every_error_code_has_its_exit_code(home, daemon, code):
    def refuse(params):
        raise ModelkeepError(code, "no", "do this")

    daemon.answers[methods.CATALOG_SHOW] = refuse
    ran = keep(home, "show", "x", "--json")
    assert ran.code == errors.exit_code(code)
    assert ran.json == {"error": {"code": code, "message": "no", "hint": "do this"}}


def test_library(home, daemon):
    file = keep(home, "library", "list", "--json").json["items"][0]
    assert file == invented.library_file()
    assert keep(home, "library", "-q").stdout == "/models/loras/a.safetensors\n"
    assert keep(home, "library", "roots").stdout.startswith("/models\tcomfyui\tonline\t1\t")
    assert keep(home, "library", "scan").stdout == "/models\t3\t1\t0\t0\t0\t1\n"
    assert keep(home, "library", "add", str(home), "--layout", "flat").code == 0
    assert daemon.calls[-1] == (methods.LIBRARY_ADD, {"path": str(home), "layout": "flat"})
    assert "its files are where they were" in keep(home, "library", "remove", "/models").stderr


def test_sync_and_its_progress(home, daemon):
    assert keep(home, "sync", "--json").json == {"runs": [invented.run()]}
    ran = keep(home, "sync", "civitai", "--full", "--wait", "--json")
    assert ran.json["runs"][0]["state"] == "finished"
    assert "civitai: full sync running (nsfw pass)" in ran.stderr
    assert "took 4 s" in ran.stderr
    assert (methods.SYNC_START, {"hub": "civitai", "full": True}) in daemon.calls


def test_a_sync_that_fails_is_code_1(home, daemon):
    daemon.answers[methods.SYNC_STATUS] = lambda params: {
        "runs": [invented.run(state="failed", ended_ms=invented.NOW_MS, error="the hub is down")]
    }
    ran = keep(home, "sync", "--wait")
    assert ran.code == 1
    assert "the hub is down" in ran.stderr


# -- downloads --------------------------------------------------------------------------------


def test_get_queues_and_says_so(home, daemon):
    ran = keep(home, "get", "civitai:1", "civitai:2", "--priority", "-3", "--to", "x")
    assert [line.split("\t")[:2] for line in ran.lines] == [["1", "queued"], ["2", "queued"]]
    assert ran.stderr == "queued 2 files, 200 MB\n"
    _, params = daemon.calls[-1]
    assert params["priority"] == -3
    assert params["to"].startswith("/")
    assert params["to"].endswith("/x")


def test_get_wait_prints_where_the_files_are(home, daemon):
    ran = keep(home, "get", "civitai:1", "--wait")
    assert ran.stdout == "/models/loras/file1.safetensors\n"
    states = [line.split(": ")[1].split(",")[0] for line in ran.stderr.splitlines()]
    assert states[-3:] == ["scanning", "placing", "done"]


def test_get_wait_json_is_one_document_at_the_end(home, daemon):
    ran = keep(home, "get", "civitai:1", "civitai:2", "owned:1", "--wait", "--json")
    assert ran.code == 0
    jobs = ran.json["jobs"]
    assert sorted(job["id"] for job in jobs) == [0, 1, 2]
    assert {job["state"] for job in jobs} == {"done"}
    assert all(job["path"] and job["sha256"] == invented.SHA256 for job in jobs)
    assert "in the library already" in ran.stderr


@pytest.mark.parametrize("wait", [(), ("--wait",)])
@pytest.mark.parametrize(
    ("refs", "code"),
    [
        (("civitai:1", "gated:1"), 6),
        (("gated:1", "denied:2"), 5),
        (("not_found:1", "not_found:2"), 4),
        (("not_found:1", "gated:2"), 1),
        (("gated:1",), 5),
        (("not_found:1",), 4),
        (("unavailable:1",), 1),
    ],
)
def test_get_tells_by_its_code_what_failed(home, daemon, refs, code, wait):
    ran = keep(home, "get", *refs, *wait)
    assert ran.code == code
    assert "go elsewhere" in ran.stderr


def test_a_job_that_fails_decides_the_code(home, daemon):
    daemon.answers[methods.TRANSFER_LIST] = lambda params: {
        "jobs": [invented.failed(1, errors.CORRUPT, "the hash is wrong")], "total": 1,
    }  # fmt: skip
    ran = keep(home, "get", "civitai:1", "--wait")
    assert ran.code == 1
    assert "failed, the hash is wrong\n  do something\n" in ran.stderr
    ran = keep(home, "get", "civitai:1", "--wait", "--json")
    assert ran.json["jobs"][0]["error"]["code"] == "corrupt"


def test_a_dry_run_waits_for_nothing(home, daemon):
    ran = keep(home, "get", "civitai:1", "--dry-run", "--wait")
    assert "would download 1 file, 100 MB" in ran.stderr
    assert [method for method, _ in daemon.calls] == [methods.TRANSFER_GET]


def test_interrupting_a_wait_leaves_the_job_and_says_so(home, daemon):
    daemon.world.is_frozen = True
    with start(home, "get", "civitai:1", "--wait") as process:
        daemon.wait_called(methods.TRANSFER_LIST)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "goes on in the daemon; modelkeep queue watch shows it" in said
    assert "modelkeep queue cancel 1" in said
    assert not any(method == methods.TRANSFER_CANCEL for method, _ in daemon.calls)


@pytest.mark.parametrize("words", [("get", "civitai:1", "--wait"), ("queue", "watch", "1")])
def test_who_waits_for_downloads_outlives_a_restart_of_the_daemon(home, words):
    with FakeDaemon.at_home(home) as first:
        keep(home, "get", "civitai:1")
        first.world.is_frozen = True
        process = start(home, *words)
        first.wait_called(methods.TRANSFER_LIST)
    with process, FakeDaemon.at_home(home) as second:
        second.world = first.world
        second.world.is_frozen = False
        said, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    assert "went away" in told
    assert "the daemon is back" in told
    assert "/models/loras/file1.safetensors" in said


def test_a_dry_run_says_what_is_left_out(home, daemon):
    left = {"ref": "hf:a/b", "why": "again", "count": 3, "size_bytes": 2_000_000,
            "names": ["x.bin", HOSTILE]}  # fmt: skip
    answer = daemon.world.answer(methods.TRANSFER_GET)
    daemon.answers[methods.TRANSFER_GET] = lambda params: {**answer(params), "left_out": [left]}
    ran = keep(home, "get", "civitai:1", "--dry-run")
    assert "left out 3 files, 2.00 MB, again: x.bin, a\\x1b[2J" in ran.stderr
    assert keep(home, "get", "civitai:1", "--dry-run", "--json").json["left_out"] == [left]


def test_queue_watch_has_a_line_for_each_change(home, daemon):
    keep(home, "get", "civitai:1")
    lines = [line.split("\t") for line in keep(home, "queue", "watch").lines]
    assert [line[1] for line in lines][-4:] == ["verifying", "scanning", "placing", "done"]
    assert lines[-1][3] == "/models/loras/file1.safetensors"
    assert "nothing is being downloaded" in keep(home, "queue", "watch").stderr


def test_queue_watch_json_is_lines(home, daemon):
    keep(home, "get", "civitai:1")
    jobs = [json.loads(line) for line in keep(home, "queue", "watch", "1", "--json").lines]
    assert jobs[-1]["state"] == "done"
    assert {job["id"] for job in jobs} == {1}


def test_queue_list_shows_what_is_going_on_unless_told_otherwise(home, daemon):
    keep(home, "queue")
    assert "done" not in daemon.calls[-1][1]["states"]
    assert "failed" in daemon.calls[-1][1]["states"]
    keep(home, "queue", "list", "--all")
    assert daemon.calls[-1][1]["states"] == []
    keep(home, "queue", "--state", "done", "--state", "failed")
    assert daemon.calls[-1][1]["states"] == ["done", "failed"]


def test_steering_jobs(home, daemon):
    keep(home, "get", "civitai:1", "civitai:2")
    assert keep(home, "queue", "pause", "1").stdout.startswith("1\tpaused")
    assert keep(home, "queue", "resume", "--all").code == 0
    assert daemon.calls[-1] == (methods.TRANSFER_RESUME, {"ids": [], "all": True})
    assert keep(home, "queue", "move", "2", "--priority", "7").code == 0
    assert daemon.calls[-1] == (methods.TRANSFER_MOVE, {"ids": [2], "priority": 7})
    ran = keep(home, "queue", "retry", "1", "9")
    assert ran.code == 6
    assert "there is no job 9" in ran.stderr
    assert keep(home, "queue", "cancel", "9").code == 4


def test_which_jobs_must_be_said(home, daemon):
    assert keep(home, "queue", "pause").code == 2
    assert keep(home, "queue", "pause", "1", "--all").code == 2
    assert daemon.calls == []


def test_canceling_everything_asks_or_wants_yes(home, daemon):
    keep(home, "get", "civitai:1")
    ran = keep(home, "queue", "cancel", "--all")
    assert ran.code == 2
    assert "--yes" in ran.stderr
    ran = keep_in_terminal(home, "queue", "cancel", "--all", typed="n\n")
    assert "Cancel all jobs and drop their parts? [y/N]" in ran.stdout
    assert "nothing was done" in ran.stdout
    assert not any(method == methods.TRANSFER_CANCEL for method, _ in daemon.calls)
    assert keep_in_terminal(home, "queue", "cancel", "--all", typed="y\n").code == 0
    assert keep(home, "queue", "cancel", "--all", "--yes").code == 0


# -- events -----------------------------------------------------------------------------------


def test_events_follow_over_a_restart_with_the_cursor(home):
    with FakeDaemon.at_home(home) as daemon:
        process = start(home, "events", "--json", "--limit", "2")
        daemon.wait_called(methods.EVENTS_READ, since="e1:0")
        daemon.emit("library", "file.added", "/models/a", by="test")
        first = json.loads(process.stdout.readline())
        daemon.wait_called(methods.EVENTS_READ, since="e1:1")
        world = daemon.world
    world.emit("library", "file.gone", "/models/a")  # while it was away
    again = FakeDaemon.at_home(home)
    again.world = world
    with again, process:
        second = json.loads(process.stdout.readline())
        said = process.stderr.read()
    assert process.returncode == 0
    assert (first["kind"], second["kind"]) == ("file.added", "file.gone")
    assert "waiting for it to come back" in said
    assert "the daemon is back" in said


def test_events_missed_for_good_are_told(home, daemon):
    daemon.world.emit("sync", "run.started", "civitai")
    ran = keep(home, "events", "--since", "e0:7", "--no-follow", "--json")
    assert [json.loads(line) for line in ran.lines] == [{"fresh": True, "cursor": "e1:1"}]
    assert "missed" in keep(home, "events", "--since", "e0:7", "--no-follow").stderr


def test_events_by_topic_to_the_end_of_the_log(home, daemon):
    for number in range(3):
        daemon.world.emit("sync", "run.started", f"hub{number}", count=number)
        daemon.world.emit("library", "file.added", "/x")
    ran = keep(home, "events", "--since", "e1:0", "--no-follow", "--topic", "sync")
    assert [line.split("\t")[4:] for line in ran.lines] == [
        ["hub0", "count=0"], ["hub1", "count=1"], ["hub2", "count=2"],
    ]  # fmt: skip


def test_interrupting_events_tells_the_cursor(home, daemon):
    with start(home, "events") as process:
        daemon.wait_called(methods.EVENTS_READ, since="e1:0")
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said == "go on from here: modelkeep events --since e1:0\n"


def test_to_read_to_the_end_needs_a_beginning(home, daemon):
    assert keep(home, "events", "--no-follow").code == 2


# -- form -------------------------------------------------------------------------------------


def test_hostile_names_never_reach_a_terminal(home, daemon):
    item = invented.item(name=HOSTILE, creator=HOSTILE, tags=[HOSTILE])
    detail = invented.model_detail(
        name=HOSTILE, creator=HOSTILE, tags=[HOSTILE], description=HOSTILE,
        versions=[invented.version_detail(
            name=HOSTILE, trained_words=[HOSTILE], base_model=HOSTILE,
            files=[invented.file_detail(name=HOSTILE, kind=HOSTILE, owned_path=HOSTILE)],
        )],
    )  # fmt: skip
    job = invented.failed(1, "corrupt", HOSTILE) | {"name": HOSTILE, "path": HOSTILE}
    file = invented.library_file(path=HOSTILE, name=HOSTILE)
    run = invented.run(state="failed", error=HOSTILE, phase=HOSTILE, ended_ms=invented.NOW_MS)
    daemon.answers |= {
        methods.CATALOG_SEARCH: lambda p: {"total": 1, "items": [item]},
        methods.CATALOG_SHOW: lambda p: detail,
        methods.TRANSFER_LIST: lambda p: {"jobs": [job], "total": 1},
        methods.LIBRARY_LIST: lambda p: {"items": [file], "total": 1},
        methods.LIBRARY_ROOTS: lambda p: {
            "items": [invented.root(path=HOSTILE, warning=HOSTILE, watching=HOSTILE)]
        },
        methods.SYNC_STATUS: lambda p: {"runs": [run]},
        methods.DAEMON_STATUS: lambda p: invented.status(warnings=[HOSTILE]),
    }
    daemon.world.emit("library", "file.added", HOSTILE, path=HOSTILE, error={"message": HOSTILE})
    for words in (
        "search x", "show x", "show x -v", "queue --all", "queue watch 1", "get civitai:1 --wait",
        "library", "library roots", "sync --wait", "status", "events --since e1:0 --no-follow",
    ):  # fmt: skip
        for more in ((), ("--json",)):
            ran = keep(home, *words.split(), *more)
            seen = ran.stdout + ran.stderr
            assert seen.replace("\n", "").replace("\t", "").isprintable(), (words, seen)
            seen = keep_in_terminal(home, *words.split(), *more, NO_COLOR="1", TERM="dumb").stdout
            assert seen.replace("\n", "").isprintable(), (words, seen)


def test_a_terminal_gets_tables_and_color(home, daemon):
    ran = keep_in_terminal(home, "search", "x", "--limit", "2")
    assert ran.stdout.startswith("\x1b[1mREF        NAME")
    assert "12,345" in ran.stdout
    assert "228 MB" in ran.stdout
    assert "1 to 2 of 30" in ran.stdout
    assert "more: the same with --offset 2" in ran.stdout
    assert "\x1b" not in keep_in_terminal(home, "search", "x", NO_COLOR="1").stdout
    assert "\x1b" not in keep_in_terminal(home, "search", "x", "--color", "never").stdout
    assert "\x1b[1m" not in keep(home, "search", "x").stdout


def test_a_terminal_gets_progress_bars_that_are_taken_away(home, daemon):
    ran = keep_in_terminal(home, "get", "civitai:1", "civitai:2", "--wait")
    assert ran.code == 0
    assert "━" in ran.stdout
    assert "of 2 files" in ran.stdout
    last = ran.stdout.splitlines()[-2:]
    assert last == ["/models/loras/file1.safetensors", "/models/loras/file2.safetensors"]
    dumb = keep_in_terminal(home, "get", "civitai:3", "--wait", TERM="dumb").stdout
    assert "━" not in dumb
    assert "\x1b" not in dumb


def test_show_in_a_terminal(home, daemon):
    ran = keep_in_terminal(home, "show", "civitai:1102", NO_COLOR="1")
    assert "name         水彩 Style" in ran.stdout
    assert "  *   228 MB  model.safetensors  Model" in ran.stdout
    assert "Second line." in ran.stdout
    assert "download it: modelkeep get civitai:1102" in ran.stdout


def test_json_in_a_terminal_is_indented_and_alone(home, daemon):
    ran = keep_in_terminal(home, "status", "--json")
    assert json.loads(ran.stdout) == invented.status()
    assert ran.stdout.startswith('{\n  "daemon"')


def test_a_reader_that_leaves_is_no_error(home, daemon):
    daemon.answers[methods.CATALOG_SEARCH] = lambda p: {
        "total": 5000, "items": [invented.item(n) for n in range(5000)],
    }  # fmt: skip
    with start(home, "search", "x") as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 0
    assert said == ""


def test_names_in_a_terminal_that_can_not_show_them(home, daemon):
    daemon.answers[methods.CATALOG_SEARCH] = lambda p: {
        "total": 1, "items": [invented.item(name="水彩")],
    }  # fmt: skip
    ran = keep(home, "search", "x", PYTHONIOENCODING="ascii")
    assert ran.code == 0
    assert "\\u6c34\\u5f69" in ran.stdout
    ran = keep(home, "search", "x", "--json", PYTHONIOENCODING="ascii")
    assert ran.json["items"][0]["name"] == "水彩"


@pytest.mark.parametrize("words", [["serach", "x"], ["search", "--limt"], ["queue", "lst"]])
def test_a_wrong_command_line_is_code_2_and_asks_nobody(home, words):
    ran = keep(home, *words)
    assert ran.code == 2
    assert "did you mean" in ran.stderr
    assert ran.stdout == ""
    ran = keep(home, *words, "--json")
    assert ran.json["error"]["code"] == "invalid"


def test_help_and_version_ask_nobody(home):
    assert keep(home).stdout.startswith("modelkeep: the hubs' models")
    assert keep(home, "get", "--help").stdout.startswith("Examples:\n  modelkeep get")
    assert keep(home, "queue", "-h").stdout.startswith("Examples:\n  modelkeep queue")
    assert keep(home, "queue", "pause", "-h").stdout.startswith("Examples:\n  modelkeep queue pa")
    assert keep(home, "help", "exit-codes").stdout.startswith("Exit codes:")
    assert keep(home, "help", "queue", "move").code == 0
    assert keep(home, "help", "quarry").code == 2
    assert keep(home, "--version").stdout.startswith("modelkeep ")
    assert keep(home, "version").code == 0
    assert keep(home, "version", "--json").json["daemon"] is None


def test_stop_waits_until_it_is_gone(home, daemon):
    ran = keep(home, "stop")
    assert ran.code == 0
    daemon.wait_stopped()
    assert "has stopped" in ran.stderr
    assert keep(home, "status").code == 3


def test_a_home_with_a_long_path_still_finds_its_daemon(tmp_path):
    home = tmp_path / ("long" * 30)
    with FakeDaemon.at_home(home) as daemon:
        assert len(str(daemon.socket_path)) < 100
        assert keep(home, "status").code == 0
    assert stat.S_ISDIR(daemon.socket_path.parent.stat().st_mode)
    daemon.socket_path.parent.rmdir()

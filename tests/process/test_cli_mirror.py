"""The commands about the mirror: history, API changes, types, snapshots, a hub's status."""

import signal

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


COMMANDS = (
    ["history", "civitai:1102"],
    ["api-changes"],
    ["api-changes", "endpoints"],
    ["api-changes", "diff", "civitai", "list"],
    ["api-changes", "accept", "12"],
    ["api-changes", "resume", "civitai", "list"],
    ["types"],
    ["types", "guess", "/x.safetensors"],
    ["types", "confirm", "/x.safetensors", "--type", "LORA"],
    ["catalog", "export", "/tmp/c.mks"],
    ["catalog", "import", "/tmp/c.mks"],
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_prints_one_json_document_and_plain_lines_in_a_pipe(home, daemon, words):
    ran = keep(home, *words, "--json")
    assert ran.code == 0, ran.stderr
    assert isinstance(ran.json, dict)
    ran = keep(home, *words)
    assert ran.code == 0
    assert ran.stdout
    assert "\x1b" not in ran.stdout


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_works_in_a_terminal(home, daemon, words):
    ran = keep_in_terminal(home, *words)
    assert ran.code == 0, ran.stdout
    assert ran.stdout.strip()


def test_history_tells_before_and_after_and_when(home, daemon):
    daemon.answers[methods.CATALOG_HISTORY] = lambda p: {
        "ref": p["ref"], "more": True, "damaged": True, "next_before_ms": 12345,
        "items": [
            invented.history_change(),
            invented.history_change(kind="words", what="trigger words", before=[HOSTILE], after=[]),
            invented.history_change(
                kind="file", what="a.safetensors", before={"sha256": "aa"}, after={"sha256": "bb"},
                version="civitai:1102@1301",
            ),
            invented.history_change(kind="statistics", what="downloads", before=5, after=1200),
        ],
    }  # fmt: skip
    shown = keep_in_terminal(home, "history", "civitai:1102", "--statistics", "-v").stdout
    assert "commercial use: yes → no" in shown
    assert "downloads: 5 → 1,200" in shown
    assert '{"sha256": "aa"} → {"sha256": "bb"}' in shown
    assert "\u202e" not in shown
    assert "\x1b[2J" not in shown
    assert "damaged" in shown
    assert "--before 12345" in shown


def test_history_of_what_never_changed_says_so(home, daemon):
    daemon.answers[methods.CATALOG_HISTORY] = lambda p: {
        "ref": p["ref"], "items": [], "more": False, "damaged": False,
    }  # fmt: skip
    assert "has not changed" in keep(home, "history", "civitai:1102").stderr


def test_a_change_that_matters_is_shown_with_what_follows_from_it(home, daemon):
    shown = keep_in_terminal(home, "api-changes").stdout
    assert "items[].stats.rating" in shown
    assert "Likes stand in for it." in shown
    keep(home, "api-changes", "list", "civitai", "--severity", "breaking", "--limit", "3")
    daemon.wait_called(methods.API_CHANGES, hub="civitai", severity="breaking", limit=3)


def test_a_paused_endpoint_is_listed_with_the_reason(home, daemon):
    paused = invented.api_endpoint(paused="items are gone")
    daemon.answers[methods.API_ENDPOINTS] = lambda p: {"items": [paused]}
    assert "items are gone" in keep(home, "api-changes", "endpoints").stdout


def test_confirming_nothing_is_a_usage_error(home, daemon):
    ran = keep(home, "types", "confirm", "x.safetensors")
    assert ran.code == 2
    assert "--type" in ran.stderr


def test_a_guess_comes_with_its_reasons(home, daemon):
    shown = keep_in_terminal(home, "types", "guess", "/x.safetensors").stdout
    assert "93 %" in shown
    assert "lora_up tensors" in shown


def test_paths_are_made_absolute_for_the_daemon(home, daemon, tmp_path):
    keep(home, "catalog", "export", "c.mks", "--since", "old.mks")
    [params] = [p for method, p in daemon.calls if method == methods.SNAPSHOT_EXPORT]
    assert params["path"].endswith("/c.mks")
    assert params["path"].startswith("/")
    assert params["since"].endswith("/old.mks")


def test_a_signer_is_trusted_by_key_or_by_file(home, daemon, tmp_path):
    (tmp_path / "snapshot.pub").write_text("cd" * 32 + "\n")
    keep(
        home, "catalog", "import", "c.mks", "--trust", "ab" * 32,
        "--trust", str(tmp_path / "snapshot.pub"),
    )  # fmt: skip
    [params] = [p for method, p in daemon.calls if method == methods.SNAPSHOT_IMPORT]
    assert params["trust"] == ["ab" * 32, "cd" * 32]
    assert keep(home, "catalog", "import", "c.mks", "--trust", "nowhere").code == 2


def test_a_failed_import_says_why_and_what_to_do(home, daemon):
    daemon.world.is_frozen = True
    daemon.answers[methods.SNAPSHOT_IMPORT] = lambda p: invented.snapshot_task(
        kind="import",
        state="failed",
        code="denied",
        error="signed by a stranger",
        hint="--trust ab12",
    )
    ran = keep(home, "catalog", "import", "c.mks")
    assert ran.code == 5
    assert "signed by a stranger" in ran.stderr
    assert "--trust ab12" in ran.stderr


def test_ctrl_c_ends_the_export_in_the_daemon_too(home, daemon):
    daemon.world.is_frozen = True
    process = start(home, "catalog", "export", "c.mks")
    daemon.wait_called(methods.SNAPSHOT_STATUS)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    daemon.wait_called(methods.SNAPSHOT_CANCEL)
    assert "nothing half-written" in stderr


def test_status_tells_requests_left_and_saved_and_the_next_sync(home, daemon):
    status = invented.status()
    status["hubs"][0] |= {
        "next_sync_ms": 4_000_000_000_000,
        "requests": {
            "per_s": 1.5, "left": 480, "resets_s": 100.0, "background_left": 1900,
            "sent_today": 100, "sent": 5000, "saved_today": 2000, "saved": 90000,
        },
        "breakers": [
            {"operation": "list", "state": "open", "reason": "7 of 10 failed", "until_ms": None}
        ],
        "coverage": {
            "models": 1000, "gone": 3, "suspects": 2, "oldest_seen_ms": invented.NOW_MS,
            "details": 10,
        },
    }  # fmt: skip
    daemon.answers[methods.DAEMON_STATUS] = lambda p: status
    shown = keep(home, "status", "-v").stdout
    assert "100 requests today, 2,000 saved" in shown
    assert "480 left in the hub's window" in shown
    assert "1,900 left of today's budget" in shown
    assert "7 of 10 failed" in shown
    assert "2 in doubt" in shown
    assert "next in" in shown


def test_a_stale_answer_is_shown_with_its_age(home, daemon):
    daemon.answers[methods.CATALOG_SHOW] = lambda p: invented.model_detail(
        age_s=7200.0, stale=True, stale_why="the hub does not answer", gated="manual",
        license="mit", hub_state="gone", gone_ms=invented.NOW_MS,
    )  # fmt: skip
    ran = keep(home, "show", "hf:a/b")
    assert "2 h old" in ran.stderr
    assert "the hub does not answer" in ran.stderr
    assert "gated" in ran.stdout
    assert "gone since" in ran.stdout


def test_an_error_of_the_daemon_keeps_its_code(home, daemon):
    def missing(params):
        raise ModelkeepError(errors.NOT_FOUND, "civitai:7 is not in the catalog", "sync")

    daemon.answers[methods.CATALOG_HISTORY] = missing
    assert keep(home, "history", "civitai:7").code == 4

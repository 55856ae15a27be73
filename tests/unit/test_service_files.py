"""The unit and agent files must be what their service managers really understand."""

import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from modelkeepd import exit_codes

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "modelkeepd.service"
AGENT = ROOT / "launchd" / "io.modelkeep.modelkeepd.plist"

# launchd.plist(5); plistutil accepts anything, so the keys are held against a list
LAUNCHD_KEYS = {
    "Label": str,
    "ProgramArguments": list,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ProcessType": str,
    "Umask": int,
    "StandardErrorPath": str,
}


def test_the_agent_has_only_keys_launchd_knows_with_their_types() -> None:
    agent = plistlib.loads(AGENT.read_bytes())
    for key, value in agent.items():
        assert isinstance(value, LAUNCHD_KEYS[key]), key


def test_the_agent_restarts_after_failure_only_and_is_not_throttled() -> None:
    agent = plistlib.loads(AGENT.read_bytes())
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    # Background would slow hashing down
    assert agent["ProcessType"] == "Standard"
    assert agent["ProgramArguments"][0].startswith("/")
    assert agent["Umask"] == 0o077


def test_the_unit_does_not_restart_what_a_restart_cannot_mend() -> None:
    line = next(
        line for line in UNIT.read_text().splitlines() if line.startswith("RestartPreventExit")
    )
    assert line.partition("=")[2].split() == [str(code) for code in exit_codes.DO_NOT_RESTART]


def test_the_unit_is_notify_because_notify_reload_becomes_simple_before_systemd_253() -> None:
    assert "Type=notify" in UNIT.read_text().splitlines()


@pytest.mark.system
def test_systemd_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # the program must exist for verify; its path is the installer's business
    text = UNIT.read_text().replace("%h/.local/bin/modelkeepd", "/bin/true")
    unit = tmp_path / "modelkeepd.service"
    unit.write_text(text.replace("Documentation=man:modelkeep(1)\n", ""))
    done = subprocess.run(
        [analyze, "verify", "--user", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    # it exits 0 on unknown keys: any word about our unit is a failure
    ours = [line for line in done.stderr.splitlines() if "modelkeepd.service" in line]
    assert not ours, done.stderr

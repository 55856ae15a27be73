"""What takes too long for every change: ``python -m tests.nightly [--seed N] [--record]``.

The kill loops at their full length, ten thousand power cuts, and every test marked ``nightly``,
one after the other. The seed is today's date unless one is given, so that each night tries
something else and any night can be repeated. Prints a table in Markdown; ``--record`` puts it into
docs/reliability.md. 1 when anything failed.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
HEADING = "## Nightly results"
KILL_ROUNDS = 50
DISKS = 10_000
PYTEST = [sys.executable, "-m", "pytest", "-q", "--timeout=3600", "-p", "no:cacheprovider"]


@dataclass(frozen=True, slots=True)
class Part:
    """One command of the night. ``summary`` says in words what its output means."""

    name: str
    command: Sequence[str]
    summary: Callable[[str], str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went."""

    name: str
    passed: bool
    summary: str
    took_s: float


def parts(seed: int, disks: int, rounds: int) -> list[Part]:
    """The night's program."""
    return [
        Part(
            f"`kill -9` in a sync and in downloads, {rounds} each",
            [*PYTEST, "tests/process/test_killed_daemon.py"],
            pytest_summary,
            {"KILL_ROUNDS": str(rounds), "KILL_SEED": str(seed)},
        ),
        Part(
            f"power cuts, {disks:,} disks",
            [
                *(sys.executable, "-m", "tests.nightly_powercut"),
                *("--disks", str(disks), "--seed", str(seed)),
            ],
            powercut_summary,
        ),
        Part(
            "tests marked `nightly`",
            [*PYTEST, "-m", "nightly and not system", "tests"],
            pytest_summary,
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts, whatever the earlier ones brought."""
    parser = argparse.ArgumentParser(prog="python -m tests.nightly", description=__doc__)
    today = datetime.datetime.now(datetime.UTC).date()
    parser.add_argument("--seed", type=int, default=int(f"{today:%Y%m%d}"))
    parser.add_argument("--disks", type=int, default=DISKS, help="power cuts")
    parser.add_argument("--rounds", type=int, default=KILL_ROUNDS, help="kills of each kind")
    parser.add_argument("--record", action="store_true", help=f"write the table to {PAGE.name}")
    options = parser.parse_args(arguments)
    outcomes = []
    for part in parts(options.seed, options.disks, options.rounds):
        print(f"{part.name} …", flush=True)
        outcomes.append(run(part))
    table = as_table(today, options.seed, outcomes)
    print(f"\n{table}")
    if options.record:
        PAGE.write_text(with_section(PAGE.read_text(), table))
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def run(part: Part) -> Outcome:
    """One part to its end; what it printed is shown when it failed."""
    began = time.monotonic()
    done = subprocess.run(
        part.command,
        cwd=ROOT,
        env={**os.environ, **part.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    passed = done.returncode == 0
    if not passed:
        print(done.stdout)
    return Outcome(part.name, passed, part.summary(done.stdout), time.monotonic() - began)


def pytest_summary(out: str) -> str:
    """``3 passed``, from pytest's last line."""
    found = re.findall(r"^=*\s*((?:\d+ \w+(?:, )?)+) in [\d.]+s", out, re.MULTILINE)
    counts = found[-1].split(", ") if found else []
    return ", ".join(c for c in counts if "deselected" not in c) or "no result; see the output"


def powercut_summary(out: str) -> str:
    """The line of JSON in words."""
    for line in reversed(out.splitlines()):
        if line.startswith("{"):
            facts = json.loads(line)
            return (
                f"{facts['corrupt']} corrupt, {facts['acknowledged_lost']} acknowledged units"
                f" lost, {facts['half_units']} half units, {facts['epochs_wrong']} wrong epochs"
            )
    return "no result; see the output"


def as_table(day: datetime.date, seed: int, outcomes: Sequence[Outcome]) -> str:
    """The night in Markdown."""
    lines = ["| what | date | seed | result | took |", "|---|---|---|---|---|"]
    lines += [
        f"| {one.name} | {day} | {seed} | {'passed' if one.passed else '**failed**'}:"
        f" {one.summary} | {one.took_s:.0f} s |"
        for one in outcomes
    ]
    return "\n".join(lines)


def with_section(page: str, table: str) -> str:
    """The page with this table as its section of nightly results, the last or in its old place."""
    section = f"{HEADING}\n\n`make nightly`, the last run that was recorded.\n\n{table}\n"
    before, found, rest = page.partition(f"{HEADING}\n")
    if not found:
        return f"{page.rstrip()}\n\n{section}"
    _, next_heading, after = rest.partition("\n## ")
    return f"{before}{section}{next_heading}{after}"


if __name__ == "__main__":
    sys.exit(main())

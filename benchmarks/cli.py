"""How long a command takes: ``python -m benchmarks.cli [--size small|full]``.

Ours is the installed ``modelkeep`` with a daemon that answers at once (the tests' made-up one, in
a process of its own, so that only the command is measured). Theirs is a Python that only imports
what an ordinary client would need: ``python -c "import zmq, msgpack"``. Interleaved, medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# runs of each
SIZES = {"small": 25, "full": 100}
GOAL = 0.75
THEIRS = ("import zmq, msgpack", [sys.executable, "-c", "import zmq, msgpack"])
BARE = ("a bare start", [sys.executable, "-c", "pass"])
# name -> words; the first is the one with a goal
OURS = {
    "cli.status": ["status"],
    "cli.status_json": ["status", "--json"],
    "cli.search": ["search", "anime"],
    "cli.complete": ["__complete", "tags", "--", "ani"],
}


def main() -> int:
    """Measure and print; the last line is the results as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cli", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    runs = SIZES[parser.parse_args().size]
    with tempfile.TemporaryDirectory(prefix="mk-cli-") as home:
        # without compiled modules every start would compile them: nobody's machine is so
        environment = {**os.environ, "MODELKEEP_HOME": home}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        with subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.daemon", home],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        ) as daemon:
            assert daemon.stdout is not None
            if not daemon.stdout.readline().strip().endswith(".sock"):
                raise SystemExit("the daemon did not start")
            try:
                print(json.dumps(measure(runs, environment)))
            finally:
                daemon.terminate()
    return 0


def measure(runs: int, environment: dict[str, str]) -> list[dict[str, Any]]:
    """The medians of all, from interleaved runs."""
    program = Path(sys.executable).with_name("modelkeep")
    commands = {
        BARE[0]: BARE[1],
        THEIRS[0]: THEIRS[1],
        **{name: [str(program), *words] for name, words in OURS.items()},
    }
    taken_ms: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 2):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
            if number >= 2:  # the first ones fill the caches
                taken_ms[name].append((time.perf_counter() - began) * 1000)
    medians = {name: statistics.median(values) for name, values in taken_ms.items()}
    for name, median in medians.items():
        print(f"{name:<20} {median:6.1f} ms  {median / medians[BARE[0]]:.2f} x a bare start")
    theirs = medians[THEIRS[0]]
    return [
        {
            "name": name,
            "workload": f"modelkeep {' '.join(words)}, installed, daemon running, {runs} runs",
            "ours": round(medians[name], 1),
            "theirs": round(theirs, 1),
            "unit": "ms",
            "ratio": round(medians[name] / theirs, 2),
            "goal": f"<= {GOAL}",
            "met": medians[name] / theirs <= GOAL,
        }
        for name, words in OURS.items()
    ]


if __name__ == "__main__":
    sys.exit(main())

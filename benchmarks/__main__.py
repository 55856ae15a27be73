"""Every benchmark in turn: ``python -m benchmarks [--size small|full] [--only NAME…]``.

Each runs in a process of its own; the last line it prints is its results as JSON. What misses its
goal is said, and fails nothing: figures belong to a machine and its load. A benchmark that crashes
or prints no results fails the run.
"""

import argparse
import json
import pkgutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
# what benchmarks share, itself no benchmark
HELPERS = {
    "__main__", "bare_ingest", "built_home", "combined_load", "detection_delay", "during_ingest",
    "kept_pages", "lagged_daemon", "measured_daemon", "steered_daemon", "synced_home",
    "synthetic_catalog", "two_hubs", "week_of_use",
}  # fmt: skip
LIMIT_S = {"small": 600, "full": 7_200}
COLUMNS = ("name", "ours", "theirs", "unit", "ratio", "goal", "met", "workload")

Result = Mapping[str, Any]


def main() -> int:
    """Run them and print the table; 1 when one of them failed."""
    known = benchmark_names()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", choices=LIMIT_S, default="small")
    parser.add_argument("--only", nargs="+", choices=known, metavar="NAME", default=known)
    options = parser.parse_args()
    results: list[Result] = []
    failed: dict[str, str] = {}
    began = time.monotonic()
    for name in options.only:
        started = time.monotonic()
        print(f"{name} …", flush=True)
        found, trouble = run(name, options.size)
        results += found
        if trouble:
            failed[name] = trouble
        print(f"{name}: {trouble or 'done'} in {time.monotonic() - started:.0f} s", flush=True)
    print()
    print(table(results))
    missed = [str(result["name"]) for result in results if result["met"] is False]
    print(
        f"\n{len(results)} results in {time.monotonic() - began:.0f} s at the {options.size} size"
    )
    if missed:
        print(f"goals missed: {', '.join(missed)}")
    for name, trouble in failed.items():
        print(f"failed: {name}: {trouble}", file=sys.stderr)
    return 1 if failed else 0


def benchmark_names() -> list[str]:
    """The modules of this folder."""
    return sorted({module.name for module in pkgutil.iter_modules([str(FOLDER)])} - HELPERS)


def run(name: str, size: str) -> tuple[list[Result], str]:
    """The results of one, or what went wrong."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--size", size]
    limit_s = LIMIT_S[size]
    with subprocess.Popen(command, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True) as child:
        try:
            out, _ = child.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            child.kill()
            return [], f"no end after {limit_s} s"
        except BaseException:
            child.terminate()  # Ctrl-C: it removes its own processes and files
            raise
    if child.returncode:
        print(out, end="")
        return [], f"exit code {child.returncode}"
    try:
        return read_results(out), ""
    except ValueError as exc:
        print(out, end="")
        return [], f"its last line is no result: {exc}"


def read_results(out: str) -> list[Result]:
    """The last line of what a benchmark printed. Raises ValueError."""
    lines = out.strip().splitlines()
    found = json.loads(lines[-1] if lines else "")
    results = found if isinstance(found, list) else [found]
    for result in results:
        if not isinstance(result, dict) or (missing := set(COLUMNS) - result.keys()):
            raise ValueError(
                f"{result} lacks {sorted(missing) if isinstance(result, dict) else ''}"
            )
    if not results:
        raise ValueError("an empty list")
    return results


def table(results: Sequence[Result]) -> str:
    """As Markdown, so that it can be copied into the docs."""
    cells = [[_cell(result[column]) for column in COLUMNS] for result in results]
    # the last column is prose of any length
    widths = [max(map(len, column)) for column in zip(COLUMNS, *cells, strict=True)]
    widths[-1] = 0
    lines = [COLUMNS, ["-" * max(3, width) for width in widths], *cells]
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


if __name__ == "__main__":
    sys.exit(main())

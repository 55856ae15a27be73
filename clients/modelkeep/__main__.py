"""The ``modelkeep`` command: ``python -m modelkeep`` is the same."""

from __future__ import annotations

import sys

from modelkeep.cli.run import run


def main() -> int:
    """Run the command line of this process; the exit code."""
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

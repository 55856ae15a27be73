"""``modelkeepd``: read the command line and the settings, then hand over to the app."""

import argparse
import signal
import sys
from collections.abc import Sequence

from modelkeep_protocol.paths import find_paths
from modelkeepd import exit_codes, version

DESCRIPTION = """\
The modelkeep daemon: mirrors the hubs' catalogs, downloads, and knows what is on disk.
Runs in the foreground and logs to standard error.

examples:
  modelkeepd
  MODELKEEP_HOME=/tmp/try modelkeepd --set sync.auto=false
  modelkeepd --check
"""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The daemon's command line."""
    parser = argparse.ArgumentParser(
        prog="modelkeepd",
        description=DESCRIPTION,
        epilog=exit_codes.table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"modelkeepd {version.VERSION}")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, e.g. sync.auto=false; may be repeated",
    )
    parser.add_argument(
        "--check", action="store_true", help="read the settings, say what is wrong, and end"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; returns its exit code."""
    if arguments is None:
        # until the app listens to signals, Ctrl-C ends it without a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    # imported late: --help and --version need none of it
    from modelkeepd import app

    return app.main(find_paths(), options.set, check_only=options.check)


if __name__ == "__main__":
    sys.exit(main())

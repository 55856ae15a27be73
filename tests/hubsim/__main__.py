"""`python -m tests.hubsim`: a simulated hub as a process. Prints its base URL first."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

import trio

from tests.hubsim.app import Hub, run_hub
from tests.hubsim.huggingface import QUOTAS
from tests.hubsim.options import HubOptions

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _size(text: str) -> int:
    """A size in bytes, or with k, m, g."""
    unit = _UNITS.get(text[-1:].lower(), 1)
    size = int(text[:-1] if unit > 1 else text) * unit
    if size < 4096:
        raise argparse.ArgumentTypeError("a large file has at least 4096 bytes")
    return size


def _quota(text: str) -> tuple[str, int]:
    bucket, _, count = text.partition("=")
    if bucket not in QUOTAS or not count.isdigit():
        raise argparse.ArgumentTypeError(f"BUCKET=N, with a bucket of {', '.join(QUOTAS)}")
    return bucket, int(count)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.hubsim", description=__doc__)
    parser.add_argument("--dialect", choices=("civitai", "huggingface"), default="civitai")
    parser.add_argument("--port", type=int, default=0, help="of the API; 0 picks a free one")
    parser.add_argument("--storage-port", type=int, default=0)
    parser.add_argument("--catalog", type=Path, metavar="DIR", help="recorded documents")
    parser.add_argument("--models", type=int, help="synthetic models (200, or 0 with --catalog)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=Path, metavar="FILE", help="a JSON list, see README.md")
    parser.add_argument("--visibility", choices=("all", "real"), default="all")
    parser.add_argument("--as-recorded", action="store_true", help="leave sizes, hashes and URLs")
    parser.add_argument("--token", action="append", default=[], help="a key that counts")
    parser.add_argument("--require-login", action="store_true", help="for every download")
    parser.add_argument("--keep-boundary-rows", action="store_true", help="a Newest that is right")
    parser.add_argument("--era", metavar="DATE", help="CivitAI in the shapes of 2024-05, …")
    parser.add_argument("--granted", action="append", metavar="T", help="a key for gated content")
    parser.add_argument("--quota", action="append", default=[], metavar="BUCKET=N", type=_quota)
    parser.add_argument("--window", type=int, default=300, metavar="S", help="of the quotas")
    parser.add_argument("--largest-page", type=int, default=1000, metavar="N")
    parser.add_argument("--large-file", type=_size, action="append", default=[], metavar="SIZE")
    return parser


def _options(args: argparse.Namespace) -> HubOptions:
    models = args.models if args.models is not None else 0 if args.catalog else 200
    return HubOptions(
        dialect=args.dialect,
        models=models,
        seed=args.seed,
        folder=args.catalog,
        strict_visibility=args.visibility == "real",
        as_recorded=args.as_recorded,
        tokens=args.token,
        require_login=args.require_login,
        newest_loses_rows=not args.keep_boundary_rows,
        large_files=args.large_file,
        era=args.era,
        granted=args.granted,
        quotas=dict(args.quota),
        window_s=args.window,
        largest_page=args.largest_page,
        faults=json.loads(args.faults.read_text()) if args.faults else (),
    )


async def _serve(hub: Hub, port: int, storage_port: int) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def start(task_status: trio.TaskStatus[Hub]) -> None:
                await run_hub(hub, port=port, storage_port=storage_port, task_status=task_status)

            await nursery.start(start)
            print(hub.base_url)
            print(f"storage {hub.storage_url}", flush=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break


def main() -> int:
    args = _parser().parse_args()
    try:
        hub = Hub(_options(args))
    except (ValueError, OSError) as error:
        print(f"hubsim: {error}", file=sys.stderr)
        return 2
    trio.run(_serve, hub, args.port, args.storage_port)
    return 0


if __name__ == "__main__":
    sys.exit(main())

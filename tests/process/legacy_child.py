"""Runs the import of a models.json in a process of its own, to be killed at a fail-point.

``python -m tests.process.legacy_child HOME``; prints what it did.
"""

import sys
from pathlib import Path

import trio

from modelkeepd.legacy.service import LegacyService
from modelkeepd.store import open_store


async def main(home: Path) -> None:
    async with open_store(home / "modelkeep.db") as store, trio.open_nursery() as nursery:
        service = LegacyService(store, [home])
        await nursery.start(service.run)
        await service.looked.wait()
        print(service.imported)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))

"""A home in a process of its own, to be killed: ``fill``, ``export`` or ``import``, then a line.

``python -m tests.process.snapshot_child WORD FOLDER [FILE [KEY]]``. Blocks are small, so that a few
models make many; ``MODELKEEP_FAILPOINTS`` says where it dies.
"""

import sys
from pathlib import Path

import trio

from modelkeepd.hubs.contract import parse_model
from modelkeepd.snapshot import export
from modelkeepd.snapshot.importing import import_snapshot
from modelkeepd.snapshot.keys import own_key, public_key
from tests.fakes.catalogs import Home, civitai, huggingface, open_home

MODELS = 30


async def fill(home: Home) -> None:
    await home.sync("civitai", *(civitai(n) for n in range(1, MODELS + 1)))
    await home.sync("civitai", *(civitai(n, name="later") for n in range(1, MODELS, 2)))
    await home.sync("huggingface", *(huggingface(n) for n in range(1, 4)))
    await home.details("huggingface", huggingface(1, siblings=[{"rfilename": "a.gguf", "size": 7}]))
    await home.vanish("civitai", "5")


async def main(word: str, folder: Path, file: Path | None, key: str | None) -> None:
    export.BLOCK_BYTES = 3_000
    export.BATCH = 4
    async with open_home(folder) as home:
        if word == "fill":
            await fill(home)
        elif word == "export":
            assert file is not None
            home.key = own_key(folder)
            home.clocks.advance(1800)  # later than all that was filled in
            await home.export(file)
        else:
            assert file is not None
            assert key is not None
            home.clocks.advance(3600)
            await import_snapshot(
                home.store, home.codec, file, trusted={public_key(key)}, parse=parse_model,
                now_ms=home.clocks.wall_ms(),
            )  # fmt: skip
    print("done", flush=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    trio.run(
        main,
        arguments[0],
        Path(arguments[1]),
        Path(arguments[2]) if len(arguments) > 2 else None,
        arguments[3] if len(arguments) > 3 else None,
    )

"""Hashing and naming files against openssl: ``python -m benchmarks.identify [--size
small|full]``.

Ours is the daemon's hash queue over rows that have no hash yet: read, sha256, scan, commit, match
with the catalog, until the last file is identified. Theirs is one ``openssl dgst -sha256``
process over the same files, which only hashes. All files are in the page cache. The number is
speed: theirs' time by ours.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import trio

from modelkeepd.clocks import Clocks
from modelkeepd.library.clerk import Clerk, identity_of
from modelkeepd.library.hashing import HashQueue
from modelkeepd.library.reconcile import reconcile
from modelkeepd.library.roots import add_root, read_roots, root_online
from modelkeepd.store import Durability, Store, Tx, open_store

TOTAL_BYTES = {"small": 1 << 30, "full": 10 << 30}
ROUNDS = {"small": 3, "full": 5}
# files, hashing threads, goal
CASES = {"one": (1, 1, 0.95), "eight": (8, 2, 1.8)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.identify", description=__doc__)
    parser.add_argument("--size", choices=TOTAL_BYTES, default="small")
    size = parser.parse_args().size
    if shutil.which("openssl") is None:
        print("openssl is not installed: there is nothing to compare with")
        print(json.dumps([]))
        return 0
    results = [measure(case, TOTAL_BYTES[size], ROUNDS[size]) for case in CASES]
    print(json.dumps(results))
    return 0


def measure(case: str, total_bytes: int, rounds: int) -> dict[str, Any]:
    count, threads, goal = CASES[case]
    with tempfile.TemporaryDirectory(prefix="mk-identify-") as home:
        root = Path(home).resolve() / "models"
        digests = make_files(root, count, total_bytes // count)
        ours, theirs = [], []
        for number in range(rounds):
            theirs.append(openssl(sorted(root.iterdir()), digests))
            database = Path(home) / f"{number}.db"
            ours.append(trio.run(partial(identify, database, root, digests, threads)))
    mine, bare = statistics.median(ours), statistics.median(theirs)
    ratio = bare / mine
    print(f"{case}: ours {mine:.2f} s, openssl {bare:.2f} s, {os.cpu_count()} cores")
    return {
        "name": f"identify.{case}",
        "workload": f"{count} cached file(s), {total_bytes >> 20} MiB in all, {threads} thread(s)",
        "ours": round(total_bytes / mine / 1e6),
        "theirs": round(total_bytes / bare / 1e6),
        "unit": "MB/s",
        "ratio": round(ratio, 2),
        "goal": f">= {goal}",
        "met": ratio >= goal,
    }


def make_files(root: Path, count: int, size: int) -> set[bytes]:
    """Files of different content, written and therefore cached."""
    root.mkdir()
    digests = set()
    for number in range(count):
        block = os.urandom(1 << 20)
        digest = hashlib.sha256()
        with (root / f"{number}.ckpt").open("wb") as file:
            for _ in range(size >> 20):
                file.write(block)
                digest.update(block)
        digests.add(digest.digest())
    return digests


def openssl(paths: list[Path], digests: set[bytes]) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-r", *map(str, paths)], capture_output=True, check=True
    )
    taken = time.perf_counter() - started
    if {bytes.fromhex(line.split()[0].decode()) for line in done.stdout.splitlines()} != digests:
        raise AssertionError("openssl found other hashes")
    return taken


def know(tx: Tx, digests: set[bytes]) -> None:
    """A catalog that has each of the files."""
    for number, digest in enumerate(digests):
        tx.db.execute(
            "INSERT INTO model (model_key, hub, hub_id, ref_id, name, type, base_models, tags,"
            " hub_state, first_seen_ms, seen_ms, changed_seq, doc_hash)"
            " VALUES (?1, 'civitai', ?1, ?1, 'm', 'LORA', '[]', '[]', 'listed', 0, 0, 0, x'')",
            (number + 1,),
        )
        tx.db.execute(
            "INSERT INTO version (version_key, model_key, hub_id, name, position)"
            " VALUES (?1, ?1, ?1, 'v', 0)",
            (number + 1,),
        )
        tx.db.execute(
            "INSERT INTO file (version_key, model_key, hub_id, name, kind, sha256, is_primary)"
            " VALUES (?1, ?1, ?1, 'f', 'Model', ?2, 1)",
            (number + 1, digest),
        )


async def identify(database: Path, root: Path, digests: set[bytes], threads: int) -> float:
    async with open_store(database, clocks=Clocks()) as store:
        await prepare(store, root, digests)
        async with trio.open_nursery() as nursery:
            queue = HashQueue(store, Clocks(), threads, lambda path: None)
            started = time.perf_counter()
            nursery.start_soon(queue.run)
            while await store.read(identified) < len(digests):
                await store.feed.changed(store.feed.last_seq)
            taken = time.perf_counter() - started
            nursery.cancel_scope.cancel()
    return taken


def identified(db: Any) -> int:
    (count,) = db.execute("SELECT count(model_key) FROM library_file").fetchone()
    return int(count)


async def prepare(store: Store, root: Path, digests: set[bytes]) -> None:
    text = str(root)
    device, inode = identity_of(text) or (0, 0)
    for unit in (
        partial(know, digests=digests),
        partial(add_root, path=text, layout="flat", origin="user"),
        partial(root_online, root_id=1, device=device, inode=inode),
    ):
        await store.apply(unit, durability=Durability.NORMAL, name="benchmark.prepare")
    (row,) = await store.read(read_roots)
    await reconcile(store, Clerk(store), row, disk=trio.CapacityLimiter(1))


if __name__ == "__main__":
    raise SystemExit(main())

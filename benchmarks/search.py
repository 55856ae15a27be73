"""Search over RPC against bare Tantivy: ``python -m benchmarks.search [--size small|full]``.

A synthetic catalog (100,000 models; full: a million) is written to a store and indexed by the
catalog service in a process of its own, which then answers ``catalog.search`` on an ipc socket.
Ours is the client library's call, end to end: query text to typed rows. Theirs is the same index
opened in this process by the bare library, with the queries built beforehand: search, count and the
keys of the best 20. Both get the same 200 queries (see benchmarks.synthetic_catalog), one after the
other, in interleaved rounds. The three absolute goals are measured at 100,000 models. Last come
searches while a hub is read whole (``during_ingest``).
"""

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import during_ingest
from benchmarks.synthetic_catalog import insert_models, parse_texts, query_mix, synthetic_models
from modelkeep.client import Client
from modelkeep_protocol import methods
from modelkeepd.hubs.documents import DocumentCodec

SIZES = {"small": 100_000, "full": 1_000_000}
# models that are there, models that come in meanwhile
DURING = {"small": (20_000, 12_000), "full": (1_000_000, 50_000)}
GOALS_AT = 100_000
ROUNDS = 5
LIMIT = 20
GOAL = 1.5
PAGE_MODELS = 2_000
READY = "ready"
# name, query, sort, limit, goal in ms: what the issue asks for at 100,000 models
ABSOLUTE = (
    ("search.list_100", "", "", 100, 5.0),
    ("search.one_tag", "tag:portrait", "", LIMIT, 3.0),
    ("search.one_source", "source:civitai", "", LIMIT, 2.0),
)


def main() -> int:
    """Measure and print; the last line is the results as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return 0
    models = SIZES[options.size]
    results: list[dict[str, Any]] = []
    for count in sorted({models, GOALS_AT}):
        with catalog_of(count) as (folder, client):
            if count == models:
                results += against_tantivy(folder, client, count)
            if count == GOALS_AT:
                results += absolute(client)
    results += during_ingest.measure(*DURING[options.size])
    print(json.dumps(results))
    return 0


@contextlib.contextmanager
def catalog_of(models: int) -> Iterator[tuple[Path, Client]]:
    """A filled store with its index, served by another process."""
    import trio

    with tempfile.TemporaryDirectory(prefix="mk-search-") as name:
        folder = Path(name)
        began = time.perf_counter()
        trio.run(fill, folder, models)
        print(f"{models} models written in {time.perf_counter() - began:.0f} s", flush=True)
        command = [sys.executable, "-m", "benchmarks.search", "--serve", str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                for line in server.stdout:
                    if line.strip() == READY:
                        break
                    print(line.rstrip(), flush=True)
                else:
                    raise SystemExit("the server did not start")
                with Client(str(folder / "socket")) as client:
                    yield folder, client
            finally:
                server.terminate()


async def fill(folder: Path, models: int) -> None:
    """Write the catalog as sync would: page by page."""
    from modelkeepd.store import Durability, open_store

    codec = DocumentCodec()
    async with open_store(folder / "catalog.db") as store:
        source = synthetic_models(models)
        while page := list(itertools.islice(source, PAGE_MODELS)):
            unit = partial(insert_models, models=page, codec=codec)
            await store.apply(unit, durability=Durability.NORMAL, name="bench.page")


def serve(folder: Path) -> None:
    """The daemon's store, catalog and rpc, and nothing else of it."""
    import trio

    from modelkeep_protocol import schema
    from modelkeepd.catalog.service import CatalogService
    from modelkeepd.rpc.server import RpcService
    from modelkeepd.store import open_store

    async def run() -> None:
        async with open_store(folder / "catalog.db") as store, trio.open_nursery() as nursery:
            catalog = CatalogService(store, folder / "index", DocumentCodec(), parse=parse_texts)
            began, cpu = time.perf_counter(), time.process_time()
            await nursery.start(catalog.run)
            await catalog.caught_up_with(store.feed.last_seq)
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
            count = (await catalog.search("", limit=0)).total
            print(f"{count} indexed in {took:.0f} s: {count / took:.0f}/s, {cpu:.0f} s of CPU")

            async def search(params: schema.Search) -> schema.SearchPage:
                return await catalog.search(
                    params.query, sort=params.sort, limit=params.limit, offset=params.offset
                )

            def unused(_params: object) -> schema.Empty:
                return schema.Empty()

            handlers: dict[str, Any] = dict.fromkeys(schema.METHODS, unused)
            handlers[methods.CATALOG_SEARCH] = search
            await nursery.start(RpcService(folder / "socket", "bench", handlers).run)
            print(READY, flush=True)

    trio.run(run)


def bare(folder: Path) -> Callable[[str], int]:
    """Bare Tantivy on the index that ours uses; queries are built once, outside the clock."""
    import tantivy

    from modelkeepd.catalog.compiler import Compiler, register_tokenizers
    from modelkeepd.catalog.query import parse
    from modelkeepd.catalog.tree import ranks

    index = tantivy.Index.open(str(folder / "index"))
    register_tokenizers(index)
    index.reload()
    searcher, compiler = index.searcher(), Compiler(index.schema)
    built = {text: compiler.compile(parse(text)).scored for text in query_mix()}
    assert all(ranks(parse(text)) for text in built)

    def search(text: str) -> int:
        result = searcher.search(built[text], LIMIT)
        addresses = [address for _, address in result.hits]
        if addresses:
            searcher.fast_field_values("hit", addresses)
        return int(result.count)  # type: ignore[attr-defined]  # missing in its stubs

    return search


def against_tantivy(folder: Path, client: Client, models: int) -> list[dict[str, Any]]:
    """p50 and p95 of the mix, both sides."""
    theirs = bare(folder)
    mix = query_mix()
    taken_ms: dict[str, list[float]] = {"ours": [], "theirs": []}
    for text in mix:  # warm both, and see that they agree
        page = client.search(text, limit=LIMIT)
        if page.total != theirs(text):
            raise SystemExit(f"{text!r}: {page.total} against {theirs(text)}")
    for _ in range(ROUNDS):
        for text in mix:
            taken_ms["ours"].append(_timed(partial(client.search, text, limit=LIMIT)))
            taken_ms["theirs"].append(_timed(partial(theirs, text)))
    workload = f"{models} models, {len(mix)} queries (10 kinds, JA/ZH + EN), top {LIMIT}, over RPC"
    return [
        _result(f"search.{name}", workload, models, *(_percentile(v, p) for v in taken_ms.values()))
        for name, p in (("p50", 50), ("p95", 95))
    ]


def absolute(client: Client) -> list[dict[str, Any]]:
    """Medians of the three lookups that have a goal in milliseconds."""
    results = []
    for name, query, sort, limit, goal_ms in ABSOLUTE:
        call = partial(client.search, query, sort=sort, limit=limit)
        found = len(call().items)
        median_ms = statistics.median(_timed(call) for _ in range(100))
        results.append(
            {
                "name": name,
                "workload": f"{GOALS_AT} models, {query or 'everything'!r}, {found} rows, over RPC",
                "ours": round(median_ms, 2),
                "theirs": None,
                "unit": "ms",
                "ratio": None,
                "goal": f"<= {goal_ms}",
                "met": median_ms <= goal_ms,
            }
        )
    return results


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def _result(name: str, workload: str, models: int, ours: float, theirs: float) -> dict[str, Any]:
    return {
        "name": name,
        "workload": workload,
        "ours": round(ours, 2),
        "theirs": round(theirs, 2),
        "unit": "ms",
        "ratio": round(ours / theirs, 2),
        "goal": f"<= {GOAL} at {SIZES['full']} models",
        # with fewer models both are mostly waiting for one another's process, not searching
        "met": ours / theirs <= GOAL if models == SIZES["full"] else None,
    }


if __name__ == "__main__":
    sys.exit(main())

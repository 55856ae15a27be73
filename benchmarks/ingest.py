"""Full ingest against a bare loop: ``python -m benchmarks.ingest [--size small|full]``.

Both get the same pages, made once by the simulated hub and kept in a file: its own work is in
neither figure.

**Ours** is what the daemon runs: SyncService and CatalogService on a fresh home, asking over real
HTTP (rate limit lifted), from the first request until every model is in the store *and* in the
search index. A replay process hands out the kept pages by sendfile.
**Theirs** is one loop over the pages in that file, without HTTP, retries, resume, events, or
comparing with what is known: decode, compress each document (same level), executemany into the
same tables, a commit a page, bigrams of the same texts, Tantivy add into the same schema, one
commit at the end.

One view is crawled: the second one brings mostly models already seen, which are skipped. Runs are
interleaved, medians given, each run in a process of its own.
"""

import argparse
import json
import os
import socket
import socketserver
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import apsw
import msgspec
import tantivy
import trio
import zstandard

from modelkeepd.catalog.compiler import build_schema, document, register_tokenizers
from modelkeepd.catalog.projection import Projection, nsfw_level
from modelkeepd.catalog.service import CatalogService
from modelkeepd.hubs.civitai import Civitai, read_page
from modelkeepd.hubs.documents import LEVEL, DocumentCodec
from modelkeepd.hubs.host import HostState
from modelkeepd.hubs.http import HubHttp
from modelkeepd.hubs.line import Line
from modelkeepd.hubs.plain_text import plain_text
from modelkeepd.store import open_store
from modelkeepd.store.migrations import shipped_migrations
from modelkeepd.sync import plan
from modelkeepd.sync.plan import IdsRequest
from modelkeepd.sync.service import SyncService, SyncSettings

# models, runs of each side
SIZES = {"small": (20_000, 3), "full": (100_000, 1)}
GOAL = 0.6
VIEW = "mature"


def main() -> int:
    """Measure and print; the last line is the result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--models", type=int, help="another number of models")
    parser.add_argument("--part", choices=("serve", "ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "serve":
        serve(options.folder)
    elif options.part == "ours":
        with tempfile.TemporaryDirectory(dir=options.folder) as home:
            print(json.dumps(trio.run(ours, Path(home), options.url)))
    elif options.part == "theirs":
        with tempfile.TemporaryDirectory(dir=options.folder) as home:
            print(json.dumps(theirs(Path(home), options.folder)))
    else:
        models, rounds = SIZES[options.size]
        print(json.dumps(measure(options.models or models, rounds)))
    return 0


def measure(models: int, rounds: int) -> list[dict[str, Any]]:
    """Both rates, from interleaved runs."""
    with tempfile.TemporaryDirectory(prefix="mk-ingest-") as name:
        folder = Path(name)
        began = time.perf_counter()
        count, size = make_pages(models, folder)
        took_s = time.perf_counter() - began
        print(f"{count} models, {size >> 20} MiB of pages, made in {took_s:.0f} s", flush=True)
        runs: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
        with _part("serve", folder) as server:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            try:
                for _ in range(rounds):
                    for part, results in runs.items():
                        with _part(part, folder, url) as child:
                            out, _ = child.communicate()
                        if child.returncode:
                            raise SystemExit(f"{part} failed")
                        results.append(json.loads(out.splitlines()[-1]))
                        print(part, results[-1], flush=True)
            finally:
                server.terminate()
    for result in [*runs["ours"], *runs["theirs"]]:
        if result["models"] != count:
            raise SystemExit(f"a run brought in {result['models']} of {count} models")

    def rate(part: str, key: str) -> float:
        return count / statistics.median(r[key] for r in runs[part])

    def row(name: str, workload: str, ours: float, theirs: float) -> dict[str, Any]:
        ratio = ours / theirs
        return {
            "name": name, "workload": workload, "ours": round(ours), "theirs": round(theirs),
            "unit": "models/s", "ratio": round(ratio, 2), "goal": f">= {GOAL}",
            "met": ratio >= GOAL,
        }  # fmt: skip

    what = f"full ingest of {count} models over HTTP until searchable, against one bare loop"
    peak = statistics.median(r["rss_mib"] for r in runs["ours"])
    stored_s = statistics.median(r["stored_s"] for r in runs["ours"])
    print(f"ours: in the store after {stored_s:.1f} s, peak RSS {peak:.0f} MiB")
    return [row("ingest.full", what, rate("ours", "searchable_s"), rate("theirs", "all_s"))]


def _part(part: str, folder: Path, url: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.ingest", "--part", part, "--folder", str(folder)]
    return subprocess.Popen([*command, "--url", url], stdout=subprocess.PIPE, text=True)


# --- the pages ---


def make_pages(models: int, folder: Path) -> tuple[int, int]:
    """Crawl the simulated hub in this process and keep its answers; (models, bytes)."""
    from tests.hubsim.app import Hub, HubOptions
    from tests.hubsim.messages import Request

    hub = Hub(HubOptions(models=models, seed=7))
    hub.dialect.base_url = "https://civitai.com"
    state, index, seen, at = plan.begin([VIEW], 0), {}, set(), 0
    with (folder / "pages").open("wb") as pages:
        while (ask := plan.next_ask(state)) is not None:
            is_ids = isinstance(ask, IdsRequest)
            query = {"limit": "100", "nsfw": "true"}
            key = ",".join(ask.ids) if isinstance(ask, IdsRequest) else ask.cursor or ""
            query |= {"ids": key} if is_ids else {"sort": "Newest", "cursor": key}
            if not key:
                del query["cursor"]
            request = Request(
                "GET", f"/api/v1/models?{urlencode(query)}", [("host", "civitai.com")]
            )
            answer = hub.dialect.answer(request)
            body = bytes(answer.body.read(0, answer.body.size))
            index[key] = (at, len(body))
            at += pages.write(body)
            page = read_page(body, newest=not is_ids)
            seen.update(item.hub_id for item in page.items)
            if isinstance(ask, IdsRequest):
                state = plan.on_ids(state, ask, 0).state
            else:
                state = plan.on_page(state, page, 0).state
    (folder / "index").write_bytes(msgspec.json.encode(index))
    return len(seen), at


def serve(folder: Path) -> None:
    """Hand out the kept pages until terminated; the address is the first line printed."""
    index = msgspec.json.decode((folder / "index").read_bytes(), type=dict[str, tuple[int, int]])
    with (folder / "pages").open("rb") as pages:

        class Replay(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while line := self.rfile.readline():
                    while self.rfile.readline().strip():
                        pass
                    query = dict(parse_qsl(urlsplit(line.split()[1].decode()).query))
                    at, length = index[query.get("ids") or query.get("cursor") or ""]
                    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    self.request.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
                    end = at + length
                    while at < end:
                        at += os.sendfile(self.request.fileno(), pages.fileno(), at, end - at)

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Replay) as server:
            server.daemon_threads = True
            print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
            server.serve_forever()


# --- ours ---


class OneView(Civitai):
    """The client, crawling one view."""

    views = (VIEW,)


async def ours(home: Path, url: str) -> dict[str, float]:
    """The daemon's two services on a fresh home."""
    http = HubHttp(url)
    hub = OneView(Line(http, HostState("civitai", 1e6)))
    async with open_store(home / "db") as store, trio.open_nursery() as nursery:
        catalog = CatalogService(store, home / "index", DocumentCodec())
        sync = SyncService(store, {"civitai": hub}, SyncSettings(auto=False))
        await nursery.start(catalog.run)
        await nursery.start(sync.run)
        began = time.perf_counter()
        await sync.start("civitai")
        while (status := sync.status("civitai")[0]).state != "idle":
            if status.state == "failed":
                raise SystemExit(f"sync failed: {status.error}")
            await trio.sleep(0.02)
        stored_s = time.perf_counter() - began
        await catalog.caught_up_with(store.feed.last_seq)
        searchable_s = time.perf_counter() - began
        total = (await catalog.search("", limit=1)).total
        nursery.cancel_scope.cancel()
    await http.aclose()
    return {
        "models": total,
        "stored_s": stored_s,
        "searchable_s": searchable_s,
        "rss_mib": _peak_rss_mib(),
    }


def _peak_rss_mib() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- theirs ---


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]


def theirs(home: Path, folder: Path) -> dict[str, float]:
    """The bare loop."""
    spans = msgspec.json.decode((folder / "index").read_bytes(), type=dict[str, tuple[int, int]])
    db = apsw.Connection(str(home / "db"))
    db.pragma("journal_mode", "WAL")
    db.execute(shipped_migrations()[0].sql)
    db.pragma("synchronous", "NORMAL")
    index = tantivy.Index(build_schema(), str(home), reuse=False)
    register_tokenizers(index)
    writer = index.writer(30_000_000, 1)
    compress = zstandard.ZstdCompressor(level=LEVEL).compress
    decode_page = msgspec.json.Decoder(_Page).decode
    began = time.perf_counter()
    key = version_key = 0
    with (folder / "pages").open("rb") as pages:
        for at, length in spans.values():
            pages.seek(at)
            models, versions, files, documents = [], [], [], []
            for raw in decode_page(pages.read(length)).items:
                item = msgspec.json.decode(raw)
                key += 1
                models.append(_model_row(key, item))
                documents.append((key, None, compress(raw), 0))
                for position, version in enumerate(item["modelVersions"]):
                    version_key += 1
                    versions.append((version_key, key, str(version["id"]), version["name"],
                                     version["baseModel"], position))  # fmt: skip
                    files += [_file_row(version_key, key, file) for file in version["files"]]
                writer.add_document(document(_projection(key, item)))
            db.execute("BEGIN IMMEDIATE")
            db.executemany(_INSERT_MODEL, models)
            db.executemany("INSERT INTO document VALUES (?, ?, ?, ?)", documents)
            db.executemany(_INSERT_VERSION, versions)
            db.executemany(_INSERT_FILE, files)
            db.execute("COMMIT")
    writer.commit()
    all_s = time.perf_counter() - began
    index.reload()
    result = {"models": index.searcher().num_docs, "all_s": all_s}
    db.close()
    return result


_INSERT_MODEL = (
    "INSERT INTO model (model_key, hub, hub_id, ref_id, name, type, creator, base_models, tags,"
    " nsfw_level, downloads, likes, hub_state, first_seen_ms, seen_ms, changed_seq, doc_hash)"
    " VALUES (?1, 'civitai', ?2, ?2, ?, ?, ?, ?, ?, ?, ?, ?, 'listed', 0, 0, 0, x'')"
)
_INSERT_VERSION = (
    "INSERT INTO version (version_key, model_key, hub_id, name, base_model, position)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_FILE = (
    "INSERT OR IGNORE INTO file (version_key, model_key, hub_id, name, kind, size_bytes, sha256,"
    " is_primary, url) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def _model_row(key: int, item: dict[str, Any]) -> tuple[Any, ...]:
    stats = item["stats"]
    creator = item.get("creator") or {}
    bases = [version["baseModel"] for version in item["modelVersions"]]
    return (
        key, str(item["id"]), item["name"], item["type"], str(creator.get("username")),
        json.dumps(bases), json.dumps(item["tags"]), item["nsfwLevel"], stats["downloadCount"],
        stats["thumbsUpCount"],
    )  # fmt: skip


def _file_row(version_key: int, key: int, file: dict[str, Any]) -> tuple[Any, ...]:
    digest = file["hashes"].get("SHA256")
    return (
        version_key, key, str(file["id"]), file["name"], file["type"],
        round(file["sizeKB"] * 1024), bytes.fromhex(digest) if digest else None,
        bool(file.get("primary")), file["downloadUrl"],
    )  # fmt: skip


def _projection(key: int, item: dict[str, Any]) -> Projection:
    texts = [plain_text(item["description"] or "")]
    for version in item["modelVersions"]:
        texts += (version["name"], plain_text(version["description"] or ""))
        texts += version["trainedWords"]
        texts += (file["name"].rpartition(".")[0] for file in version["files"])
    creator = item.get("creator") or {}
    stats = item["stats"]
    return Projection(
        model_key=key,
        changed_seq=0,
        hub="civitai",
        name=item["name"],
        type=item["type"],
        creator=str(creator.get("username")),
        tags=tuple(item["tags"]),
        base_models=tuple({version["baseModel"]: None for version in item["modelVersions"]}),
        texts=tuple(dict.fromkeys(texts)),
        nsfw=nsfw_level(item["nsfwLevel"]),
        downloads=stats["downloadCount"],
        likes=stats["thumbsUpCount"],
    )


if __name__ == "__main__":
    raise SystemExit(main())

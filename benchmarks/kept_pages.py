"""A hub's whole list as pages in a file, and a server that hands them out again by sendfile.

The simulated hub makes the pages once: its own work is then in no figure, and answers come as fast
as a socket takes them. One view is kept: the second one of CivitAI brings mostly models already
seen, which are skipped. Pages are found again by what the client asks for, a cursor or ids.
"""

import contextlib
import os
import socket
import socketserver
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
import trio

from modelkeepd.hubs.civitai import Civitai
from modelkeepd.hubs.contract import Hub, ListItem
from modelkeepd.hubs.host import HostState
from modelkeepd.hubs.http import Answer, HubHttp, Params
from modelkeepd.hubs.huggingface import HuggingFace
from modelkeepd.hubs.huggingface_errors import refusal as huggingface_refusal
from modelkeepd.hubs.line import Line
from modelkeepd.sync import plan
from modelkeepd.sync.plan import IdsRequest

T = TypeVar("T")

HUBS = ("civitai", "huggingface")
VIEWS: dict[str, tuple[str, ...]] = {"civitai": ("mature",), "huggingface": ("all",)}


class Span(NamedTuple):
    """Where a page lies in the file, and the ``Link`` that it had."""

    at: int
    length: int
    link: str | None


class OneView(Civitai):
    """The client, crawling one view."""

    views: tuple[str, ...] = VIEWS["civitai"]


def open_client(hub: str, url: str) -> tuple[Hub, HubHttp]:
    """The daemon's client over HTTP, its rate limit lifted; and what is to be closed."""
    http = HubHttp(url)
    host = HostState(hub, 1e6)
    if hub == "huggingface":
        return HuggingFace(Line(http, host, refusal=huggingface_refusal)), http
    return OneView(Line(http, host)), http


# --- making them ---


class _Recorder:
    """Stands for a line: asks a simulated hub in this process, and keeps what it answers."""

    def __init__(self, dialect: Any, path: Path) -> None:
        self.index: dict[str, Span] = {}
        self.size_bytes = 0
        self._dialect = dialect
        self._file = path.open("wb")

    async def get(
        self, path: str, params: Params = (), *, operation: str, read: Callable[[Answer], T]
    ) -> T:
        from tests.hubsim.messages import Request

        target = f"{path}?{urlencode(params)}"
        answer = self._dialect.answer(Request("GET", target, [("host", "hub.invalid")]))
        body = bytes(answer.body.read(0, answer.body.size))
        link = answer.header("Link")
        self.index[_key(target)] = Span(self.size_bytes, len(body), link)
        self.size_bytes += self._file.write(body)
        return read(Answer(200, {} if link is None else {"link": link}, body))

    def close(self) -> None:
        self._file.close()


def _key(target: str) -> str:
    query = dict(parse_qsl(urlsplit(target).query))
    return query.get("ids") or query.get("cursor") or ""


def make_pages(hub: str, models: int, folder: Path) -> tuple[int, int]:
    """Crawl the simulated hub as the planner wishes, and keep its answers; (models, bytes)."""
    from tests.hubsim.app import Hub as Simulated
    from tests.hubsim.options import HubOptions

    simulated = Simulated(HubOptions(dialect=hub, models=models, seed=7))
    simulated.dialect.base_url = "http://hub.invalid"
    recorder = _Recorder(simulated.dialect, folder / "pages")
    client: Hub = (HuggingFace if hub == "huggingface" else OneView)(cast(Line, recorder))
    try:
        count = trio.run(_crawl, client)
    finally:
        recorder.close()
    (folder / "index").write_bytes(msgspec.json.encode(recorder.index))
    return count, recorder.size_bytes


async def _crawl(client: Hub) -> int:
    state = plan.begin(
        client.views, 0, page_limit=client.page_limit, has_oldest=client.news_order == "newest"
    )
    seen: set[str] = set()

    def see(items: tuple[ListItem, ...]) -> None:
        seen.update(item.hub_id for item in items if item.hub_id is not None)

    while (ask := plan.next_ask(state)) is not None:
        if isinstance(ask, IdsRequest):
            see(await client.models_by_ids(ask.ids, ask.view))
            state = plan.on_ids(state, ask).state
        else:
            page = await client.list_page(ask)
            see(page.items)
            state = plan.on_page(state, page).state
    return len(seen)


def read_index(folder: Path) -> dict[str, Span]:
    """By what a page is asked for, in the order in which they were made."""
    return msgspec.json.decode((folder / "index").read_bytes(), type=dict[str, Span])


# --- handing them out ---


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A process that hands them out; its address."""
    command = [sys.executable, "-m", "benchmarks.kept_pages", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def serve(folder: Path) -> None:
    """Hand out the kept pages until terminated; the address is the first line printed."""
    index = read_index(folder)
    with (folder / "pages").open("rb") as pages:

        class Replay(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while line := self.rfile.readline():
                    while self.rfile.readline().strip():
                        pass
                    self._answer(line.split()[1].decode())

            def _answer(self, target: str) -> None:
                found = index.get(_key(target))
                if found is None:
                    body = b'{"error":"no such page was kept"}'
                    self.request.sendall(_head(404, len(body), None) + body)
                    return
                self.request.sendall(_head(200, found.length, found.link))
                at, end = found.at, found.at + found.length
                while at < end:
                    at += os.sendfile(self.request.fileno(), pages.fileno(), at, end - at)

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Replay) as server:
            server.daemon_threads = True
            print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
            server.serve_forever()


def _head(status: int, length: int, link: str | None) -> bytes:
    lines = [f"HTTP/1.1 {status} -", "Content-Type: application/json", f"Content-Length: {length}"]
    if link is not None:
        lines.append(f"Link: {link}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))

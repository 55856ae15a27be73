"""The byte engine against a server that lies (D3-D10, D13-D15, D24), over real sockets."""

import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from modelkeepd.secrets import Secret
from modelkeepd.transfer.contract import FetchRequest, FetchResult, Manners, Progress, Span
from modelkeepd.transfer.errors import (
    ContentChanged,
    EncodingRefused,
    FileReplaced,
    NetworkLost,
    NoSpace,
    NotAFile,
    RangeLie,
    RedirectRefused,
    Refused,
    Stalled,
    TlsRefused,
    TransferError,
    WrongSize,
)
from modelkeepd.transfer.fetch import CurlFetcher, FetchLimits, open_fetcher
from modelkeepd.transfer.linked import Linked
from modelkeepd.transfer.response import Accepted, Validator
from tests.fakes.certificates import make_certificates
from tests.fakes.rawserver import Heard, RawServer, Script, Wire, open_rawserver, serving

CONTENT = b"\x08" + bytes(range(256)) * 5000
ANY_HASH = b"h" * 32
HASTY = FetchLimits(connect_timeout_s=5, low_speed_bytes_per_s=1000, low_speed_s=1)


class MemorySink:
    """Keeps what it is given, and that it was never touched after its end."""

    def __init__(self, held: bytes = b"") -> None:
        self.data = bytearray(held)
        self.begun: list[Accepted] = []
        self.writes = 0
        self.slow: threading.Event | None = None

    def begin(self, accepted: Accepted) -> None:
        self.begun.append(accepted)
        if accepted.restarted:
            self.data.clear()

    def write(self, position: int, data: memoryview) -> None:
        if self.slow is not None:
            self.slow.wait(10)
        assert position == len(self.data)
        self.data += data
        self.writes += 1


@asynccontextmanager
async def at_work(
    script: Script, *, limits: FetchLimits = HASTY
) -> AsyncIterator[tuple[RawServer, CurlFetcher]]:
    async with (
        open_rawserver(script) as server,
        open_fetcher(limits=limits, environ={}) as fetcher,
    ):
        with trio.fail_after(20):
            yield server, fetcher


async def fetch(fetcher: CurlFetcher, url: str, sink: MemorySink, **more: object) -> FetchResult:
    facts: dict[str, object] = {"home": url, "file_name": "m.safetensors"}
    request = FetchRequest(url=url, **(facts | more))  # type: ignore[arg-type]
    return await fetcher.fetch(request, sink, Progress())


async def refused(
    script: Script, kind: type[TransferError], **more: object
) -> tuple[MemorySink, TransferError]:
    sink = MemorySink(more.pop("held", b""))  # type: ignore[arg-type]
    async with at_work(script) as (server, fetcher):
        with pytest.raises(kind) as caught:
            await fetch(fetcher, f"{server.url}/f", sink, **more)
    return sink, caught.value


def says(raw: bytes, *, silence: bool = False) -> Script:
    async def script(_heard: Heard, wire: Wire) -> None:
        await wire.send(raw)
        if silence:
            await wire.silence()

    return script


# The honest case -------------------------------------------------------------------------------


async def test_a_file_arrives_whole_and_the_result_says_how() -> None:
    sink, progress = MemorySink(), Progress()
    async with at_work(serving(CONTENT)) as (server, fetcher):
        request = FetchRequest(url=f"{server.url}/f?sig=SECRET", home=server.url)
        result = await fetcher.fetch(request, sink, progress)
        assert sink.data == CONTENT
        assert (result.start, result.end, result.total_bytes) == (0, len(CONTENT), len(CONTENT))
        assert result.certain_end
        assert result.validator == Validator(server.url, '"v1"', None, len(CONTENT))
        assert result.hops == (f"{server.url}/f",)
        assert (progress.received_bytes, progress.position) == (len(CONTENT), len(CONTENT))
        assert server.heard[0].headers["accept-encoding"] == "identity"
        assert "mozilla" not in server.heard[0].headers["user-agent"].lower()


async def test_connections_are_reused_across_files() -> None:
    async with at_work(serving(CONTENT)) as (server, fetcher):
        for _ in range(5):
            await fetch(fetcher, f"{server.url}/f", MemorySink())
        assert (len(server.heard), server.connections) == (5, 1)


async def test_an_empty_file_is_a_file() -> None:
    sink = MemorySink()
    async with at_work(serving(b"")) as (server, fetcher):
        result = await fetch(fetcher, f"{server.url}/f", sink)
    assert (result.end, result.total_bytes, len(sink.begun)) == (0, 0, 1)


async def test_many_files_at_once_stay_within_the_blocks_of_the_pool() -> None:
    sinks = [MemorySink() for _ in range(12)]
    async with (
        open_rawserver(serving(CONTENT)) as server,
        open_fetcher(environ={}, pool_blocks=2) as fetcher,
        trio.open_nursery() as nursery,
    ):
        for number, sink in enumerate(sinks):
            nursery.start_soon(fetch, fetcher, f"{server.url}/{number}", sink)
    assert all(sink.data == CONTENT for sink in sinks)


async def test_a_span_is_fetched_and_its_end_may_be_lowered_meanwhile() -> None:
    span = Span(0, 500_000)

    class Lowering(MemorySink):
        def begin(self, accepted: Accepted) -> None:
            super().begin(accepted)
            span.end = 300_000

    async def trickle(heard: Heard, wire: Wire) -> None:
        first, last = heard.range or (0, None)
        assert (first, last) == (0, 499_999)
        await wire.head(
            "206 Partial Content",
            content_range=f"bytes 0-499999/{len(CONTENT)}",
            content_length=500_000,
        )
        await wire.send(CONTENT[:262_144])
        await wire.send(CONTENT[262_144:500_000])

    sink = Lowering()
    async with at_work(trickle) as (server, fetcher):
        result = await fetch(fetcher, f"{server.url}/f", sink, span=span, sha256=ANY_HASH)
    assert 300_000 <= result.end <= 500_000
    assert sink.data == CONTENT[: result.end]


# Resuming --------------------------------------------------------------------------------------


def holding(server: RawServer, etag: str | None = '"v1"') -> Validator:
    return Validator(server.url, etag, None, len(CONTENT))


async def test_a_resume_asks_with_if_range_and_gets_the_rest() -> None:
    sink = MemorySink(CONTENT[:1000])
    async with at_work(serving(CONTENT)) as (server, fetcher):
        await fetch(fetcher, f"{server.url}/f", sink, span=Span(1000), validator=holding(server))
        asked = server.heard[0].headers
        assert (asked["range"], asked["if-range"]) == ("bytes=1000-", '"v1"')
    assert sink.data == CONTENT
    assert not sink.begun[0].restarted


async def test_changed_content_starts_over_and_is_never_blended() -> None:
    sink = MemorySink(b"old" * 400)
    async with at_work(serving(CONTENT, etag='"v2"')) as (server, fetcher):
        result = await fetch(
            fetcher, f"{server.url}/f", sink, span=Span(1200), validator=holding(server)
        )
    assert sink.begun[0].restarted
    assert (result.start, sink.data) == (0, CONTENT)


async def test_without_hash_and_validator_nothing_is_continued() -> None:
    sink = MemorySink(CONTENT[:1000])
    async with at_work(serving(CONTENT)) as (server, fetcher):
        await fetch(fetcher, f"{server.url}/f", sink, span=Span(1000))
        assert server.heard[0].range is None
    assert (sink.begun[0].restarted, sink.data) == (True, CONTENT)


async def test_with_a_known_hash_another_host_may_continue() -> None:
    sink = MemorySink(CONTENT[:1000])
    async with at_work(serving(CONTENT, etag='"other"')) as (server, fetcher):
        elsewhere = Validator("https://elsewhere.example", '"v1"', None, len(CONTENT))
        await fetch(
            fetcher, f"{server.url}/f", sink, span=Span(1000), validator=elsewhere, sha256=ANY_HASH
        )
        assert "if-range" not in server.heard[0].headers
    assert sink.data == CONTENT


async def test_a_range_beyond_the_end_means_a_change() -> None:
    _, error = await refused(
        serving(CONTENT[:500]), ContentChanged, held=b"x" * 600, span=Span(600), sha256=ANY_HASH
    )
    assert "500 bytes" in error.message


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Range: bytes 0-9/20\r\nContent-Length: 10",
        b"Content-Length: 10",
        b"Content-Range: bytes 10-19/20\r\nContent-Length: 9",
        b"Content-Range: bytes 10-29/20\r\nContent-Length: 20",
        b"Content-Type: multipart/byteranges; boundary=x\r\nContent-Length: 10",
    ],
)
async def test_a_lying_206_writes_nothing(headers: bytes) -> None:
    answer = b"HTTP/1.1 206 Partial Content\r\n" + headers + b"\r\n\r\n" + b"0123456789" * 2
    sink, _ = await refused(says(answer), RangeLie, held=b"x" * 10, span=Span(10), sha256=ANY_HASH)
    assert (sink.writes, sink.data) == (0, b"x" * 10)


# Bodies that are not what they should be -------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Type: text/html", b"<html>please log in</html>"),
        (b"Content-Type: application/json", b'{"error":"model removed"}'),
        (b"Content-Type: application/octet-stream", b"<!DOCTYPE html><title>Sign in</title>"),
        (b"X: y", b'{"error":"too many requests"}'),
    ],
)
async def test_a_page_with_status_200_is_never_written(headers: bytes, body: bytes) -> None:
    length = str(len(body)).encode()
    raw = b"HTTP/1.1 200 OK\r\n" + headers + b"\r\nContent-Length: " + length + b"\r\n\r\n" + body
    sink, _ = await refused(says(raw), NotAFile)
    assert (sink.writes, sink.begun) == (0, [])


async def test_a_compressed_body_is_refused() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    sink, _ = await refused(says(raw), EncodingRefused)
    assert sink.writes == 0


async def test_a_short_body_keeps_what_came_and_says_how_much_is_missing() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + CONTENT[:1234]
    sink, _ = await refused(says(raw), NetworkLost)
    assert sink.data == CONTENT[:1234]


async def test_an_endless_body_stops_at_the_expected_length() -> None:
    async def script(_heard: Heard, wire: Wire) -> None:
        await wire.head("200 OK", connection="close")
        while True:
            await wire.send(CONTENT)

    sink, error = await refused(script, WrongSize, expected_bytes=1_000_000)
    assert len(sink.data) == 1_000_000
    assert "more than the 1000000 bytes" in error.message


async def test_a_wrong_announced_length_is_refused_before_a_byte() -> None:
    sink, _ = await refused(serving(CONTENT), WrongSize, expected_bytes=len(CONTENT) + 1)
    assert sink.writes == 0


async def test_an_early_close_without_length_is_no_certain_end() -> None:
    raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + CONTENT[:1000]
    sink = MemorySink()
    async with at_work(says(raw)) as (server, fetcher):
        result = await fetch(fetcher, f"{server.url}/f", sink)
    assert (result.certain_end, result.end, result.total_bytes) == (False, 1000, None)


async def test_a_broken_chunked_body_is_a_loss() -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\x08bcde\r\n9\r\nab"
    await refused(says(raw), NetworkLost)


@pytest.mark.parametrize(
    "raw",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/0.9\r\n\r\n", b"\x00" * 50],
)
async def test_a_broken_head_is_a_loss(raw: bytes) -> None:
    sink, error = await refused(says(raw), TransferError)
    assert error.retryable
    assert sink.writes == 0


async def test_a_head_without_end_is_cut_off() -> None:
    async def script(_heard: Heard, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await wire.send(b"X-Filler: " + b"y" * 1000 + b"\r\n")

    await refused(script, TransferError)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n\x08abc"])
async def test_silence_ends_by_the_minimum_rate(sent: bytes) -> None:
    _, error = await refused(says(sent, silence=True), Stalled)
    assert error.error_code == "deadline"


async def test_a_statement_of_refusal_carries_the_servers_words() -> None:
    body = b'{"error":"Unauthorized","message":"log in to download"}'
    raw = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    sink, error = await refused(says(raw), Refused)
    assert "log in to download" in error.message
    assert sink.writes == 0


async def test_a_full_disk_is_told_as_such() -> None:
    class Full(MemorySink):
        def write(self, position: int, data: memoryview) -> None:
            raise OSError(28, "No space left on device")

    async with at_work(serving(CONTENT)) as (server, fetcher):
        with pytest.raises(NoSpace):
            await fetch(fetcher, f"{server.url}/f", Full())
        ok = MemorySink()
        await fetch(fetcher, f"{server.url}/f", ok)
    assert ok.data == CONTENT


async def test_refused_connections_and_unknown_names_are_losses() -> None:
    async def nowhere(_host: str, _port: int) -> Sequence[str]:
        return []

    async with open_fetcher(environ={}, limits=HASTY, resolver=nowhere) as fetcher:
        with pytest.raises(NetworkLost):
            await fetch(fetcher, "http://127.0.0.1:1/f", MemorySink())
        with pytest.raises(NetworkLost, match="was not found"):
            await fetch(fetcher, "http://nowhere.example/f", MemorySink())


# Redirects -------------------------------------------------------------------------------------


def redirecting(to: str, status: str = "307 Temporary Redirect") -> Script:
    async def script(_heard: Heard, wire: Wire) -> bool:
        await wire.head(status, location=to, content_length=5)
        await wire.send(b"moved")
        return True

    return script


async def test_no_header_of_ours_follows_a_redirect_to_another_origin() -> None:
    headers = (("Authorization", Secret("Bearer CANARY")), ("X-Api-Key", "CANARY"))
    async with open_rawserver(serving(CONTENT)) as storage:
        script = redirecting(f"{storage.url}/blob?sig=1")
        async with at_work(script) as (hub, fetcher):
            sink = MemorySink()
            result = await fetch(fetcher, f"{hub.url}/f", sink, home=hub.url, headers=headers)
            assert hub.heard[0].headers["authorization"] == "Bearer CANARY"
            assert hub.heard[0].headers["x-api-key"] == "CANARY"
            assert "CANARY" not in repr(storage.heard)
            assert result.hops == (f"{hub.url}/f", f"{storage.url}/blob")
    assert sink.data == CONTENT


async def test_a_url_outside_the_hub_gets_no_header_at_all() -> None:
    async with at_work(serving(CONTENT)) as (server, fetcher):
        await fetch(
            fetcher, f"{server.url}/f", MemorySink(), home="http://127.0.0.1:9",
            headers=(("Authorization", Secret("CANARY")),),
        )  # fmt: skip
        assert "CANARY" not in repr(server.heard)


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("file:///etc/passwd", "not followed"),
        ("http://user:pw@127.0.0.1/", "not followed"),
        ("http://169.254.169.254/latest/meta-data", "metadata"),
        ("http://10.0.0.1/", "private"),
        ("http://[::ffff:10.0.0.1]/", "private"),
        ("http://0.0.0.0/", "unspecified"),
        ("/f", "loop"),
        ("", "nowhere"),
    ],
)
async def test_redirects_that_are_refused(location: str, why: str) -> None:
    _, error = await refused(redirecting(location), RedirectRefused)
    assert why in error.message
    assert not error.retryable


async def test_a_redirect_chain_without_end_stops_at_ten() -> None:
    async def script(heard: Heard, wire: Wire) -> bool:
        number = int(heard.target.removeprefix("/f").lstrip("/") or 0)
        await wire.head("302 Found", location=f"/f/{number + 1}", content_length=0)
        return True

    _, error = await refused(script, RedirectRefused)
    assert "more than 10 redirects" in error.message


async def test_a_name_is_resolved_once_and_only_checked_addresses_are_connected_to() -> None:

    async def rebinding(host: str, _port: int) -> Sequence[str]:
        return ["93.184.216.34"] if host == "public.example" else ["127.0.0.1"]

    async with (
        open_rawserver(serving(CONTENT)) as server,
        open_fetcher(environ={}, limits=HASTY, resolver=rebinding) as fetcher,
    ):
        url = f"http://hub.example:{server.port}/f"
        sink = MemorySink()
        await fetch(fetcher, url, sink)
        assert sink.data == CONTENT
        assert server.heard[0].headers["host"] == f"hub.example:{server.port}"
        # A public hub whose storage name leads to this machine is refused.
        with pytest.raises(RedirectRefused, match="loopback"):
            await fetch(fetcher, url, MemorySink(), home="https://public.example")


# TLS -------------------------------------------------------------------------------------------


async def test_https_is_checked_against_the_given_authority_and_names_are_kept(
    tmp_path: Path,
) -> None:
    good = make_certificates(tmp_path, "hub.example")

    async def here(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(good.certificate, good.key)
    async with open_rawserver(serving(CONTENT), tls=context) as server:
        async with open_fetcher(
            environ={}, limits=HASTY, ca_file=str(good.authority), resolver=here
        ) as fetcher:
            sink = MemorySink()
            await fetch(fetcher, f"https://hub.example:{server.port}/f", sink)
            assert sink.data == CONTENT
            with pytest.raises(TlsRefused) as caught:
                await fetch(fetcher, f"https://other.example:{server.port}/f", MemorySink())
            assert not caught.value.retryable
        async with open_fetcher(environ={}, limits=HASTY, resolver=here) as fetcher:
            with pytest.raises(TlsRefused):
                await fetch(fetcher, f"https://hub.example:{server.port}/f", MemorySink())


# Cancellation ----------------------------------------------------------------------------------


async def test_cancellation_ends_the_connection_and_the_sink_rests() -> None:
    reached = trio.Event()

    async def script(_heard: Heard, wire: Wire) -> None:
        await wire.head("200 OK", content_length=10**9)
        await wire.send(CONTENT)
        reached.set()
        await wire.silence()

    sink = MemorySink()
    async with at_work(script) as (server, fetcher):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, fetcher, f"{server.url}/f", sink)
            await reached.wait()
            nursery.cancel_scope.cancel()
        size = len(sink.data)
        server.script = serving(CONTENT)
        other = MemorySink()
        await fetch(fetcher, f"{server.url}/g", other)
        assert (len(sink.data), other.data) == (size, CONTENT)


async def test_leaving_with_transfers_in_flight_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    async with (
        open_rawserver(says(b"HTTP/1.1 200 OK\r\n", silence=True)) as server,
        open_fetcher(environ={}) as fetcher,
    ):
        with trio.move_on_after(0.05):
            await fetch(fetcher, f"{server.url}/f", MemorySink())
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {name for name in left if name.startswith("transfer-")}


async def test_a_header_that_cannot_be_sent_is_refused_without_showing_it() -> None:
    async with at_work(serving(CONTENT)) as (server, fetcher):
        for bad in ("a\r\nX: y", "schlüssel", "a\0b"):
            with pytest.raises(TransferError, match="cannot be sent") as caught:
                await fetch(
                    fetcher, f"{server.url}/f", MemorySink(), home=server.url,
                    headers=(("Authorization", Secret(bad)),),
                )  # fmt: skip
            assert bad not in repr(caught.value)
        assert server.heard == []


async def test_a_name_that_is_answered_otherwise_the_second_time_is_not_asked_twice() -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1"]])

    async def rebinding(_host: str, _port: int) -> Sequence[str]:
        return next(answers)

    async with (
        open_rawserver(serving(CONTENT)) as server,
        open_fetcher(environ={}, limits=HASTY, resolver=rebinding) as fetcher,
    ):
        sink = MemorySink()
        url = f"http://hub.example:{server.port}/f"
        await fetch(fetcher, url, sink, home="http://127.0.0.1:1")
        assert sink.data == CONTENT
        next(answers)
        with pytest.raises(RedirectRefused, match=r"10\.0\.0\.1"):
            await fetch(fetcher, url, MemorySink(), home="http://127.0.0.1:1")


# Manners ---------------------------------------------------------------------------------------


class Noted:
    """What the hub's line was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def turn(self) -> None:
        self.told.append("turn")

    def heard(self, status: int, headers: object) -> None:
        self.told.append(str(status))

    async def linked(self, linked: Linked) -> None:
        self.told.append("linked")

    @property
    def manners(self) -> Manners:
        return Manners(self.turn, self.heard, self.linked)


async def test_each_turn_is_answered_once_whatever_comes() -> None:
    tag = {"x_linked_etag": '"' + "ab" * 32 + '"'}
    target, leaving = "", trio.CancelScope()

    async def script(heard: Heard, wire: Wire) -> bool | None:
        match heard.target:
            case "/away":
                await wire.head("302 Found", location=target, content_length=0, **tag)
                return True
            case "/busy":
                await wire.head("429 Too Many Requests", content_length=0, retry_after=1)
                return True
            case "/file":
                return await serving(CONTENT)(heard, wire)
            case "/silent":
                leaving.cancel()
                await wire.silence()
        return False

    async with at_work(script) as (server, fetcher), open_rawserver(serving(CONTENT)) as storage:
        target = f"{storage.url}/file"
        for path, expected in (
            ("/file", ["turn", "200"]),
            ("/away", ["turn", "302", "linked"]),
            ("/busy", ["turn", "429"]),
            ("/gone", ["turn", "0"]),
            ("/silent", ["turn", "499"]),
        ):
            noted = Noted()
            leaving = trio.CancelScope()
            with leaving, contextlib.suppress(TransferError):
                await fetch(fetcher, server.url + path, MemorySink(), manners=noted.manners)
            assert noted.told == expected, path
        noted = Noted()
        home = {"home": server.url, "manners": noted.manners}
        await fetch(fetcher, target, MemorySink(), **home)
        assert noted.told == [], "a storage host is none of the hub's business"


@pytest.mark.parametrize("direct", [True, False])
async def test_another_content_than_promised_is_not_begun(direct: bool) -> None:
    offered = {"x_linked_etag": '"' + "cd" * 20 + '"', "x_repo_commit": "ef" * 20}

    async def script(heard: Heard, wire: Wire) -> bool | None:
        if direct:
            await wire.head("200 OK", content_length=len(CONTENT), **offered)
            await wire.send(CONTENT)
        else:
            await wire.head("307 Temporary Redirect", location="/x", content_length=0, **offered)
        return True

    async with at_work(script) as (server, fetcher):
        sink = MemorySink()
        with pytest.raises(FileReplaced):
            await fetch(fetcher, f"{server.url}/f", sink, git_sha1=b"p" * 20)
        assert (sink.writes, len(server.heard)) == (0, 1)

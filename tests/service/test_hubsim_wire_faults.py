"""Every fault of the simulated hub, as a client sees it on the wire."""

import gzip
import json

import httpx
import pytest
import trio
import trio.testing

from tests.hubsim import open_hubsim
from tests.hubsim.fault_actions import LOGIN_PAGE, MAINTENANCE

LIST = "/api/v1/models"


async def get(hub, http, path=LIST, **headers):
    return await http.get(hub.base_url + path, headers=headers)


async def storage_address(hub, http):
    version = hub.version_ids(hub.catalog.special("checkpoint"))[0]
    answer = await http.get(f"{hub.base_url}/api/download/models/{version}")
    return answer.headers["location"]


async def raw_exchange(url, *headers, most=1 << 40):
    """What the server sends until it closes (or `most` bytes), and how it ended."""
    target = httpx.URL(url)
    stream = await trio.open_tcp_stream(target.host, target.port)
    head = [f"GET {target.raw_path.decode()} HTTP/1.1", f"Host: {target.netloc.decode()}"]
    async with stream:
        await stream.send_all("\r\n".join([*head, *headers, "", ""]).encode())
        received = bytearray()
        try:
            async for data in stream:
                received += data
                if len(received) > most:
                    break
        except trio.BrokenResourceError:
            return bytes(received), "reset"
        return bytes(received), "closed"


@pytest.mark.parametrize(
    ("do", "status", "expected"),
    [
        ({"status": 500}, 500, "An unexpected error occurred"),
        ({"status": 503}, 503, "503 Service Temporarily Unavailable"),
        ({"status": {"code": 429, "body": {"error": "slowly"}}}, 429, '{"error":"slowly"}'),
        ({"status": 451}, 451, "REGION_BLOCKED"),
        ("html200", 200, LOGIN_PAGE),
        ("maintenance", 200, MAINTENANCE),
        ({"maintenance": 503}, 503, MAINTENANCE),
        ({"body": "[1,"}, 200, "[1,"),
    ],
)
async def test_whole_answers(do, status, expected):
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        hub.fail(LIST, do)
        answer = await get(hub, http)
        assert answer.status_code == status
        assert expected in answer.text
        assert (await get(hub, http)).status_code == 200
        assert [entry.fault for entry in hub.log] == [list(do) if type(do) is dict else [do], []]


async def test_retry_after_in_both_forms():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        hub.fail(LIST, {"status": {"code": 429, "retry_after": 5}})
        hub.fail(LIST, {"status": {"code": 503, "retry_after": "Wed, 01 Jan 2090 00:00:00 GMT"}})
        assert (await get(hub, http)).headers["retry-after"] == "5"
        assert "2090" in (await get(hub, http)).headers["retry-after"]


async def test_bodies_that_end_too_soon():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        url = await storage_address(hub, http)
        whole = (await http.get(url)).content
        for do, ending in (({"truncate": 1000}, "closed"), ({"cut": 1000}, "reset")):
            hub.fail(None, do, storage=True, times=2)
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await http.get(url)
            received, how = await raw_exchange(url)
            assert how == ending
            if ending == "closed":
                head, _, body = received.partition(b"\r\n\r\n")
                assert b"Content-Length: %d" % len(whole) in head
                assert body == whole[:1000]
        hub.fail(None, {"too_short": 10}, storage=True)
        assert (await http.get(url)).content == whole[:-10]
        hub.fail(None, {"no_length": 500}, storage=True)
        answer = await http.get(url)
        assert "content-length" not in answer.headers
        assert answer.content == whole[:500]


async def test_bodies_that_do_not_end():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        url = await storage_address(hub, http)
        whole = (await http.get(url)).content
        hub.fail(None, {"too_long": 7}, storage=True)
        received, _ = await raw_exchange(url)
        assert received.partition(b"\r\n\r\n")[2] == whole + bytes(7)
        hub.fail(None, {"too_long": {"extra": 7, "declare": True}}, storage=True)
        assert (await http.get(url)).content == whole + bytes(7)
        hub.fail(None, "endless", storage=True)
        received, _ = await raw_exchange(url, most=3 * len(whole))
        assert received.partition(b"\r\n\r\n")[2].startswith(whole + whole)


async def test_connections_that_say_nothing_or_no_http():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        hub.fail(LIST, "hang_up")
        with pytest.raises(httpx.RemoteProtocolError):
            await get(hub, http)
        hub.fail(LIST, "garbage")
        with pytest.raises(httpx.RemoteProtocolError):
            await get(hub, http)


async def test_ranges_that_lie():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        url = await storage_address(hub, http)
        whole = (await http.get(url)).content
        size = len(whole)

        async def ranged(do):
            hub.fail(None, do, storage=True)
            return await http.get(url, headers={"Range": "bytes=100-199"})

        answer = await ranged("ignore_range")
        assert (answer.status_code, answer.content) == (200, whole)
        answer = await ranged("wrong_content_range")
        assert answer.headers["content-range"] == f"bytes 101-200/{size}"
        answer = await ranged({"wrong_content_range": {"total": size + 5}})
        assert answer.headers["content-range"] == f"bytes 100-199/{size + 5}"
        answer = await ranged({"wrong_content_range": {"value": "missing"}})
        assert (answer.status_code, "content-range" in answer.headers) == (206, False)
        answer = await ranged("multipart")
        assert answer.headers["content-type"].startswith("multipart/byteranges")
        assert whole[100:200] in answer.content


async def test_bytes_and_validators_that_change():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        url = await storage_address(hub, http)
        whole = await http.get(url)
        hub.fail(None, {"bad_bytes": {"offset": 150, "count": 2}}, storage=True, times=2)
        bad = (await http.get(url)).content
        assert [at for at in range(len(bad)) if bad[at] != whole.content[at]] == [150, 151]
        part = await http.get(url, headers={"Range": "bytes=100-199"})
        assert part.content == bad[100:200]
        hub.fail(None, {"etag_changes": {"content": True}}, storage=True, times=2)
        headers = {"Range": "bytes=100-199", "If-Range": whole.headers["etag"]}
        changed = await http.get(url, headers=headers)
        assert changed.status_code == 200
        assert changed.headers["etag"] != whole.headers["etag"]
        assert changed.content != whole.content


async def test_encodings():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        plain = (await get(hub, http, LIST + "?limit=2")).content
        hub.fail(LIST, {"gzip": 2})
        async with http.stream("GET", hub.base_url + LIST + "?limit=2") as answer:
            assert answer.headers["content-encoding"] == "gzip, gzip"
            raw = b"".join([data async for data in answer.aiter_raw()])
        assert gzip.decompress(gzip.decompress(raw)) == plain
        hub.fail(LIST, {"gzip": {"bomb": 1 << 20}})
        async with http.stream("GET", hub.base_url + LIST) as answer:
            raw = b"".join([data async for data in answer.aiter_raw()])
        assert len(raw) < 5000
        assert len(gzip.decompress(raw)) == 1 << 20


async def test_documents_that_do_not_fit():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        hub.fail(LIST, "truncated_json")
        with pytest.raises(json.JSONDecodeError):
            (await get(hub, http)).json()
        hub.fail(LIST, {"set_json": {"items.0.id": "abc", "items.1.name": 7, "items.999.id": 1}})
        items = (await get(hub, http)).json()["items"]
        assert (items[0]["id"], items[1]["name"]) == ("abc", 7)


async def test_pages_that_repeat_loop_or_are_empty_lose_nothing():
    async with open_hubsim(models=60, newest_loses_rows=False) as hub, httpx.AsyncClient() as http:
        path = f"{LIST}?sort=Newest&nsfw=true&limit=10"

        async def page(cursor=None):
            answer = await http.get(
                hub.base_url + path, params={"cursor": cursor} if cursor else None
            )
            return answer.json()["items"], answer.json()["metadata"].get("nextCursor")

        async def page_after(cursor):
            url = httpx.URL(hub.base_url + path).copy_add_param("cursor", cursor)
            document = (await http.get(url)).json()
            return document["items"], document["metadata"].get("nextCursor")

        hub.fail(LIST, "empty_page")
        items, cursor = await page()
        assert items == []
        first, second_cursor = await page_after(cursor)
        assert first == (await page())[0]
        assert len(first) == 10
        hub.fail(LIST, "repeat_page")
        again, same_cursor = await page_after(second_cursor)
        assert (again, same_cursor) == (first, second_cursor)
        second, third_cursor = await page_after(second_cursor)
        assert not {item["id"] for item in first} & {item["id"] for item in second}
        hub.fail(LIST, "empty_page")
        items, spelled_otherwise = await page_after(third_cursor)
        assert items == []
        assert spelled_otherwise != third_cursor
        assert (await page_after(spelled_otherwise))[0] == (await page_after(third_cursor))[0]
        hub.fail(LIST, "cursor_loop")
        assert (await page_after(third_cursor))[1] == third_cursor
        hub.fail(LIST, {"cursor_loop": "first"})
        assert (await page_after(third_cursor))[1] == second_cursor


async def test_redirects():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        hub.fail(LIST, {"redirect": "file:///etc/passwd"})
        assert (await get(hub, http)).headers["location"] == "file:///etc/passwd"
        hub.fail(LIST, {"redirect": {"to": "", "code": 307}})
        answer = await get(hub, http)
        assert (answer.status_code, "location" in answer.headers) == (307, False)
        hub.fail(LIST, "redirect_loop", times=0)
        with pytest.raises(httpx.TooManyRedirects):
            await http.get(hub.base_url + LIST, follow_redirects=True)


async def test_expired_addresses_and_headers():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        hub.fail("/api/download/*", "expire")
        expired = await storage_address(hub, http)
        assert (await http.get(expired)).status_code in (401, 403)
        url = await storage_address(hub, http)
        hub.fail(None, {"headers": {"ETag": None, "Content-Disposition": "inline"}}, storage=True)
        answer = await http.get(url)
        assert "etag" not in answer.headers
        assert answer.headers["content-disposition"] == "inline"


async def test_silence_and_slowness_take_the_time_they_say(autojump_clock):
    async with open_hubsim(models=45) as hub, httpx.AsyncClient(timeout=None) as http:
        url = await storage_address(hub, http)
        size = len((await http.get(url)).content)

        async def seconds(do):
            hub.fail(None, do, storage=True)
            began = trio.current_time()
            answer = await http.get(url)
            assert len(answer.content) == size
            return trio.current_time() - began

        assert await seconds({"stall": 30}) == pytest.approx(30, abs=1)
        assert await seconds({"stall": {"seconds": 40, "at": 100}}) == pytest.approx(40, abs=1)
        assert await seconds({"slow": size / 20}) == pytest.approx(20, rel=0.2)


async def test_one_fault_may_do_several_things():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        url = await storage_address(hub, http)
        hub.fail(None, {"ignore_range": {}, "truncate": 10}, storage=True)
        received, how = await raw_exchange(url, "Range: bytes=5-9")
        assert received.startswith(b"HTTP/1.1 200")
        assert (len(received.partition(b"\r\n\r\n")[2]), how) == (10, "closed")


async def test_headers_and_requests_that_no_library_would_send():
    async with open_hubsim(models=45) as hub:
        hub.fail(LIST, {"headers": {"X-Odd": "a\r\nSet-Cookie: b"}})
        received, _ = await raw_exchange(hub.base_url + LIST + "?limit=1")
        assert b"X-Odd: a\r\nSet-Cookie: b\r\n" in received
        stream = await trio.open_tcp_stream("127.0.0.1", httpx.URL(hub.base_url).port)
        async with stream:
            await stream.send_all(b"GET //[?x=%zz&limit HTTP/1.1\r\nHost: sim\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 404")
        stream = await trio.open_tcp_stream("127.0.0.1", httpx.URL(hub.base_url).port)
        async with stream:
            await stream.send_all(b"\x00\x01 rubbish\r\n\r\n")
            assert await stream.receive_some() == b""
        async with httpx.AsyncClient() as http:
            assert (await get(hub, http)).status_code == 200
            bad = await get(hub, http, "/api/v1/tags?limit=x")
            assert bad.status_code == 400


async def test_a_client_that_goes_away_in_mid_body_harms_nobody():
    async with open_hubsim(models=45, large_files=[8 << 20]) as hub, httpx.AsyncClient() as http:
        version = hub.version_ids(hub.large_ids()[0])[0]
        answer = await http.get(f"{hub.base_url}/api/download/models/{version}")
        await raw_exchange(answer.headers["location"], most=1 << 16)
        assert len((await http.get(answer.headers["location"])).content) == 8 << 20

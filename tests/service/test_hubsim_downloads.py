"""The simulated hub's downloads over the wire: who may, where to, and what the storage does."""

import hashlib
import urllib.parse

import httpx
import pytest

from tests.hubsim import open_hubsim
from tests.hubsim.bytes import describe_bytes


def address(hub, name, **query):
    version = hub.version_ids(hub.catalog.special(name))[0]
    url = f"{hub.base_url}/api/download/models/{version}"
    return f"{url}?{urllib.parse.urlencode(query)}" if query else url


async def located(http, url, **headers):
    """The storage address a download is redirected to."""
    answer = await http.get(url, headers=headers)
    assert answer.status_code == 307, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.headers["location"]


async def test_every_file_is_the_bytes_its_document_says():
    special_lies = {"wrong_sha256", "size_zero", "whole_kilobytes", "fresh", "early_access"}
    async with open_hubsim(models=60) as hub, httpx.AsyncClient() as http:
        lying = {hub.catalog.special(name) for name in special_lies}
        checked = 0
        for hub_id, entry in hub.truth(digests=False).items():
            if hub_id in lying:
                continue
            assert entry["name"]
            for version in hub.document(hub_id)["modelVersions"][:2]:
                for file in version["files"]:
                    url = f"{hub.base_url}/api/download/models/{version['id']}?fileId={file['id']}"
                    answer = await http.get(
                        url, headers={"Authorization": "Bearer key"}, follow_redirects=True
                    )
                    if answer.status_code == 401:
                        assert hub.catalog.access(version["id"]) == "disabled"
                        continue
                    facts = describe_bytes(answer.content)
                    assert facts.size_bytes == round(file["sizeKB"] * 1024)
                    assert facts.hashes() == file["hashes"]
                    name = f'filename="{file["name"]}"'.encode().decode("latin-1")
                    assert name in answer.headers["content-disposition"]
                    checked += 1
        assert checked > 50


@pytest.mark.parametrize(
    ("name", "key", "status", "text"),
    [
        ("gated", None, 401, "requires you to be logged in"),
        ("gated", "wrong", 401, "requires you to be logged in"),
        ("gated", "right", 307, ""),
        ("downloads_disabled", "right", 401, "has disabled downloads"),
        ("early_access", "right", 403, "Early Access"),
        ("archived", "right", 410, "Model archived"),
        ("poi", "right", 404, "File not found"),
        ("checkpoint", None, 307, ""),
        ("checkpoint", "wrong", 307, ""),
    ],
)
async def test_the_decision_table(name, key, status, text):
    async with (
        open_hubsim(models=45, tokens=["right"]) as hub,
        httpx.AsyncClient() as http,
    ):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = await http.get(address(hub, name), headers=headers)
        assert answer.status_code == status
        assert text in answer.text
        if key == "right":
            by_query = await http.get(address(hub, name, token="right"))
            assert by_query.status_code == status


async def test_files_are_picked_by_id_and_softly():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:

        async def name(**query):
            location = await located(http, address(hub, "soft_variants", **query))
            return urllib.parse.unquote(location).rpartition('filename="')[2].partition('"')[0]

        files = hub.document(hub.catalog.special("soft_variants"))["modelVersions"][0]["files"]
        for file in files:
            assert await name(fileId=file["id"]) == file["name"]
        assert await name() == files[0]["name"]
        assert await name(type="Model", format="PickleTensor") == files[1]["name"]
        for query, status in (
            ({"fileId": 1}, 404),
            ({"format": "ONNX"}, 404),
            ({"type": "Nonsense"}, 400),
        ):
            answer = await http.get(address(hub, "soft_variants", **query))
            assert answer.status_code == status


async def test_browsers_are_sent_to_pages_and_get_bare_text():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        agent = {"User-Agent": "Mozilla/5.0"}
        page = await http.get(address(hub, "gated"), headers=agent, follow_redirects=True)
        assert (page.status_code, page.headers["content-type"][:9]) == (200, "text/html")
        gone = await http.get(address(hub, "archived"), headers=agent)
        assert gone.text == "Model archived, not available for download"


async def test_head_on_a_download_is_answered_oddly():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        assert (await http.head(address(hub, "checkpoint"))).status_code == 401


async def both_stores(hub, http):
    """A file in each of the two stores."""
    found = {}
    for hub_id in hub.truth(digests=False):
        for version in hub.version_ids(hub_id):
            if hub.catalog.access(version) != "open":
                continue
            for file in hub.catalog.files(version):
                url = f"{hub.base_url}/api/download/models/{version}?fileId={file.hub_id}"
                location = await located(http, url)
                found.setdefault(location.removeprefix(hub.storage_url)[1:3], (url, location))
        if len(found) == 2:
            return found
    raise AssertionError("one store only")


async def test_storage_refuses_authorization_and_stale_or_forged_addresses():
    async with open_hubsim(models=60) as hub, httpx.AsyncClient() as http:
        for store, (url, _) in (await both_stores(hub, http)).items():
            location = await located(http, url)
            refused = await http.get(location, headers={"Authorization": "Bearer key"})
            assert refused.status_code == {"r2": 400, "b2": 403}[store]
            forged = location.replace("/model/", "/model/1")
            assert (await http.get(forged)).status_code in (403, 404)
            assert (await http.get(location)).status_code == 200
            hub.clock_offset_s += 90_000
            assert (await http.get(location)).status_code == {"r2": 403, "b2": 401}[store]
            assert (await http.get(await located(http, url))).status_code == 200
        assert any(
            entry.storage and "authorization" in entry.headers for entry in hub.log
        )  # the log shows a leak


async def test_ranges_and_validators():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        location = await located(http, address(hub, "checkpoint"))
        whole = await http.get(location)
        data, etag = whole.content, whole.headers["etag"]
        assert whole.headers["accept-ranges"] == "bytes"

        async def part(span, **headers):
            return await http.get(location, headers={"Range": span, **headers})

        for span, expected in (
            ("bytes=0-0", data[:1]),
            ("bytes=100-199", data[100:200]),
            ("bytes=100-", data[100:]),
            ("bytes=-50", data[-50:]),
            (f"bytes=10-{len(data) + 10}", data[10:]),
        ):
            answer = await part(span)
            assert (answer.status_code, answer.content) == (206, expected)
            assert answer.headers["content-range"].endswith(f"/{len(data)}")
        assert (await part("bytes=5-9", **{"If-Range": etag})).status_code == 206
        assert (await part("bytes=5-9", **{"If-Range": '"other"'})).content == data
        modified = whole.headers["last-modified"]
        assert (await part("bytes=5-9", **{"If-Range": modified})).status_code == 206
        past = await part(f"bytes={len(data)}-")
        assert past.status_code == 416
        assert past.headers["content-range"] == f"bytes */{len(data)}"
        assert (await part("bytes=0-1,5-6")).status_code == 200
        head = await http.head(location)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))


async def test_hostile_names_reach_the_header_and_the_document():
    async with open_hubsim(models=45) as hub, httpx.AsyncClient() as http:
        hub_id = hub.catalog.special("checkpoint")
        file = hub.document(hub_id)["modelVersions"][0]["files"][0]
        for name in ("../../.ssh/authorized_keys", "C:\\CON", "모델 \u202e.safetensors", "n" * 300):
            hub.change({"file_names": {file["id"]: name}})
            assert hub.document(hub_id)["modelVersions"][0]["files"][0]["name"] == name
            answer = await http.get(await located(http, address(hub, "checkpoint")))
            raw = {key.lower(): value for key, value in answer.headers.raw}[b"content-disposition"]
            assert raw == f'attachment; filename="{name}"'.encode()


async def test_a_large_file_is_served_with_its_true_hash():
    async with (
        open_hubsim(models=45, large_files=[5_000_000, 1 << 20]) as hub,
        httpx.AsyncClient() as http,
    ):
        for hub_id, size in zip(hub.large_ids(), (5_000_000, 1 << 20), strict=True):
            version = hub.document(hub_id)["modelVersions"][0]
            file = version["files"][0]
            answer = await http.get(file["downloadUrl"], follow_redirects=True)
            assert len(answer.content) == size == round(file["sizeKB"] * 1024)
            digest = hashlib.sha256(answer.content).hexdigest().upper()
            assert digest == file["hashes"]["SHA256"]

"""The simulated hub as a process, and its control paths."""

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.hubsim import open_hubsim

ROOT = Path(__file__).parents[2]


@contextmanager
def running(*args):
    """(base URL, process); the process is ended by the test or killed."""
    command = [sys.executable, "-m", "tests.hubsim", *map(str, args)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_prints_its_address_first_and_stops_cleanly(how, tmp_path):
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps([{"match": {"path": "/api/v1/enums"}, "do": {"status": 503}}]))
    with running("--models", 50, "--faults", faults) as (base, process):
        assert base.startswith("http://127.0.0.1:")
        assert process.stdout.readline().startswith("storage http://127.0.0.1:")
        assert httpx.get(f"{base}/api/v1/enums").status_code == 503
        assert httpx.get(f"{base}/api/v1/enums").status_code == 200
        with httpx.Client() as kept_open:
            kept_open.get(f"{base}/api/v1/models?limit=1")
            process.send_signal(how)
            assert process.wait(timeout=20) == 0


def test_a_million_models_serve_a_page_at_once():
    with running("--models", 1_000_000) as (base, _process):
        answer = httpx.get(f"{base}/api/v1/models", params={"limit": 3, "sort": "Newest"})
        assert len(answer.json()["items"]) == 3


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--dialect", "klingon"), "invalid choice: 'klingon'"),
        (("--dialect", "huggingface", "--catalog", "/nonexistent"), "No such file"),
        (("--quota", "cake=3"), "api, resolvers, pages"),
        (("--catalog", "/nonexistent"), "no recorded documents"),
    ],
)
def test_what_it_cannot_do_is_said(args, words):
    command = [sys.executable, "-m", "tests.hubsim", *args]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert words in ended.stderr


async def test_control_paths():
    async with open_hubsim(models=60) as hub, httpx.AsyncClient() as http:

        async def post(word, value=None):
            return await http.post(f"{hub.base_url}/_sim/{word}", json=value)

        async def get(word):
            return (await http.get(f"{hub.base_url}/_sim/{word}")).json()

        assert (await post("faults", [{"match": {}, "do": "html200"}])).json() == {"faults": 1}
        await post("faults", {"append": [{"match": {}, "do": {"status": 500}}]})
        assert [fault["used"] for fault in await get("faults")] == [0, 0]
        bad = await post("faults", [{"do": {"explode": 1}}])
        assert (bad.status_code, "explode" in bad.json()["error"]) == (400, True)
        assert len(await get("faults")) == 2
        assert (await http.get(f"{hub.base_url}/api/v1/models")).text.startswith("<!DOCTYPE")
        assert (await http.get(f"{hub.base_url}/api/v1/models")).status_code == 500

        before = await get("truth")
        done = (await post("change", {"add": 2, "remove": 1, "edit": 1})).json()
        after = await get("truth")
        assert set(after) - set(before) == {str(hub_id) for hub_id in done["add"]}
        assert set(before) - set(after) == {str(hub_id) for hub_id in done["remove"]}
        changed = {i for i in before if i in after and before[i] != after[i]}
        assert changed == {str(hub_id) for hub_id in done["edit"]}
        assert (await post("change", {"delete": 1})).status_code == 400
        shown = await get(f"document?id={done['edit'][0]}")
        assert "Edited 1 times" in shown["description"]

        entry = (await get("log"))[0]
        assert entry["path"] == "/api/v1/models"
        assert (entry["status"], entry["fault"]) == (200, ["html200"])
        assert (await post("reset_log")).status_code == 200
        assert await get("log") == []
        assert (await get("state"))["storage_url"] == hub.storage_url
        assert (await get("specials"))["gated"] == hub.catalog.special("gated")
        assert (await post("clock", {"advance_s": 90_000})).json() == {"offset_s": 90_000}
        assert (await post("nothing")).status_code == 404


async def test_the_log_shows_where_a_token_went():
    async with open_hubsim(models=60, tokens=["secret"]) as hub, httpx.AsyncClient() as http:
        version = hub.version_ids(hub.catalog.special("gated"))[0]
        url = f"{hub.base_url}/api/download/models/{version}"
        answer = await http.get(url, headers={"Authorization": "Bearer secret"})
        await http.get(answer.headers["location"])
        assert [entry.storage for entry in hub.log] == [False, True]
        assert hub.log[0].headers["authorization"] == "Bearer secret"
        assert "authorization" not in hub.log[1].headers
        assert hub.log[1].finished
        assert hub.log[1].sent_bytes > 1000


def test_a_million_repositories_serve_a_page_at_once():
    args = ("--dialect", "huggingface", "--models", 1_000_000, "--largest-page", 7)
    with running(*args, "--quota", "api=5", "--window", 60) as (base, process):
        assert process.stdout.readline().startswith("storage http://localhost:")
        answer = httpx.get(f"{base}/api/models", params={"sort": "lastModified", "limit": 30})
        assert len(answer.json()) == 7
        assert answer.headers["ratelimit-policy"] == '"fixed window";"api";q=5;w=60'

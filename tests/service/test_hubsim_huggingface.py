"""The Hugging Face dialect on the wire: what the genuine client hides, and every oddity."""

import base64
import hashlib
import json
import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from tests.hubsim import open_hubsim
from tests.hubsim.hf_files import git_sha1
from tests.hubsim.huggingface import weak_etag

FOLDER = Path(__file__).parents[1] / "fixtures" / "huggingface"
_NEXT = re.compile(r'^<([^>]+)>; rel="next"$')


def next_of(answer):
    link = answer.headers.get("link")
    return _NEXT.match(link)[1] if link else None


async def pages(http, url):
    """Every page of a list, each as (answer, rows)."""
    while url:
        answer = await http.get(url)
        assert answer.status_code == 200, answer.text
        yield answer, answer.json()
        url = next_of(answer)


async def crawl(http, url):
    return [row async for _, rows in pages(http, url) for row in rows]


def hugging(**options):
    return open_hubsim(dialect="huggingface", **{"models": 150, **options})


def files_of(hub, key):
    """(path of a plain file, path of a large one)."""
    files = hub.catalog.files(hub.catalog.repo(key))
    plain = next(file.path for file in files if file.content is None and file.path != "README.md")
    return plain, next(file.path for file in files if file.content is not None)


# --- lists ----------------------------------------------------------------------------------------


async def test_rows_have_the_keys_that_were_asked_for_and_no_others():
    async with hugging() as hub, httpx.AsyncClient() as http:
        url = f"{hub.base_url}/api/models"
        row = (await http.get(url, params={"sort": "createdAt", "filter": "lora"})).json()[0]
        always = {"_id", "id", "modelId", "likes", "private", "downloads", "tags", "createdAt"}
        assert always <= set(row) <= always | {"trendingScore", "pipeline_tag", "library_name"}
        full = (await http.get(url, params={"filter": "lora", "full": "True"})).json()[0]
        assert set(full) >= always | {"author", "gated", "lastModified", "sha", "siblings"}
        for spelling in ("expand", "expand[]"):
            asked = {spelling: ["sha", "gated", "cardData"]}
            rows = (await http.get(url, params=asked)).json()
            assert all({"_id", "id", "sha", "gated"} <= set(row) for row in rows)
            assert {"cardData" in row for row in rows} == {True, False}
        bad = await http.get(url, params={"expand": "secrets"})
        assert bad.status_code == 400
        assert bad.json()["error"].startswith('"expand" must be one of [author, ')
        for wrong in ({"limit": "x"}, {"sort": "size"}, {"cursor": "!"}, {"direction": "1"}):
            assert (await http.get(url, params=wrong)).status_code == 400


async def test_a_walk_sees_every_row_once_whatever_comes_and_goes_elsewhere():
    async with hugging(models=300) as hub, httpx.AsyncClient() as http:
        url = f"{hub.base_url}/api/models?sort=createdAt&limit=20"
        seen, links = [], []
        async for answer, rows in pages(http, url):
            seen += [row["_id"] for row in rows]
            links.append(next_of(answer))
            if len(links) == 5:
                hub.change({"add": 3, "remove": seen[:2], "counters": 5, "edit": 5})
        assert len(seen) == len(set(seen))
        truth = hub.truth(digests=False)
        gone = {key for key, entry in truth.items() if entry["state"] in ("removed", "private")}
        born_since = set(list(truth)[-3:])
        assert set(seen) == (set(truth) - gone - born_since) | set(seen[:2])
        assert all(link.startswith(hub.base_url) and "limit=20" in link for link in links[:-1])
        cursor = dict(parse_qsl(urlsplit(links[0]).query))["cursor"]
        assert {"createdAt", "_id"} == set(json.loads(base64.b64decode(cursor))["$or"][0])


async def test_rows_without_the_key_come_last_in_the_order_of_their_id():
    async with hugging() as hub, httpx.AsyncClient() as http:
        rows = await crawl(http, f"{hub.base_url}/api/models?limit=7&expand=trendingScore")
        scores = [row.get("trendingScore") for row in rows]
        known = [score for score in scores if score is not None]
        assert known == sorted(known, reverse=True)
        assert scores[len(known) :] == [None] * (len(rows) - len(known))
        rest = [row["_id"] for row in rows[len(known) :]]
        assert rest == sorted(rest)
        assert 3.5 in known


async def test_an_edited_repository_jumps_to_the_front_of_the_news():
    async with hugging() as hub, httpx.AsyncClient() as http:
        url = f"{hub.base_url}/api/models?sort=lastModified&limit=4&expand=lastModified"
        before = {row["_id"] for row in (await http.get(url)).json()}
        (key,) = hub.change({"edit": 1, "counters": 3})["edit"]
        rows = (await http.get(url)).json()
        assert rows[0]["_id"] == key
        assert {row["_id"] for row in rows[1:]} < before | {key}


async def test_no_page_is_larger_than_a_thousand_rows():
    async with hugging(models=1100) as hub, httpx.AsyncClient() as http:
        sizes = [
            len(rows) async for _, rows in pages(http, f"{hub.base_url}/api/models?limit=5000")
        ]
        assert sizes == [1000, 99]


# --- who may see what -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "token", "status", "code", "message"),
    [
        ("no/such", None, 401, None, "Invalid username or password."),
        ("no/such", "good", 404, "RepoNotFound", "Repository not found"),
        ("private", None, 401, None, "Invalid username or password."),
        ("private", "good", 404, "RepoNotFound", "Repository not found"),
        ("lora", "wrong", 401, None, "Invalid credentials in Authorization header"),
        ("disabled", "good", 403, None, "Access to this resource is disabled."),
        ("lora/revision/nope", None, 404, "RevisionNotFound", "Invalid rev id: nope"),
        ("lora/tree/main/nope", None, 404, "EntryNotFound", "Entry not found"),
        ("lora/resolve/main/nope", None, 404, "EntryNotFound", "Entry not found"),
        ("lora/resolve/nope/README.md", None, 404, "RevisionNotFound", "Invalid rev id: nope"),
        ("gated_auto/resolve/main/README.md", None, 401, "GatedRepo", "Access to model"),
        ("gated_auto/resolve/main/README.md", "stranger", 403, "GatedRepo", "Access to model"),
    ],
)
async def test_errors_are_told_by_status_and_headers(what, token, status, code, message):
    async with (
        hugging(tokens=["good", "stranger"], granted=["good"]) as hub,
        httpx.AsyncClient() as http,
    ):
        first, _, rest = what.partition("/")
        known = first in hub.specials()
        name = (
            hub.name(hub.catalog.special(first)) + (f"/{rest}" if rest else "") if known else what
        )
        prefix = "" if "resolve" in what else "/api/models"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await http.get(f"{hub.base_url}{prefix}/{name}", headers=headers)
        assert answer.status_code == status
        assert answer.headers.get("x-error-code") == code
        assert answer.headers["x-error-message"].startswith(message)
        assert ("x-repo-commit" in answer.headers) == (code == "EntryNotFound")
        if prefix:
            assert answer.json()["error"].startswith(message)
        else:
            assert answer.headers["content-type"].startswith("text/plain")


async def test_gated_repositories_show_everything_but_their_content():
    async with hugging(tokens=["t"], granted=[]) as hub, httpx.AsyncClient() as http:
        name = hub.name(hub.catalog.special("gated_manual"))
        info = (await http.get(f"{hub.base_url}/api/models/{name}?blobs=true")).json()
        assert info["gated"] == "manual"
        assert all("size" in file for file in info["siblings"])
        assert (await http.get(f"{hub.base_url}/api/models/{name}/tree/main")).status_code == 200


async def test_old_names_and_wrong_cases_are_relative_redirects_on_every_road():
    async with hugging() as hub, httpx.AsyncClient() as http:
        key = hub.catalog.special("mixed_case")
        old = hub.name(key)
        hub.change({"rename": {key: "other/place"}})
        roads = (
            "/api/models/{}", "/api/models/{}/revision/refs%2Fpr%2F1", "/api/models/{}/tree/main",
            "/{}/resolve/main/README.md",
        )  # fmt: skip
        for name in (old, "OTHER/Place"):
            for road in roads:
                answer = await http.get(hub.base_url + road.format(name) + "?x=1")
                assert answer.status_code == 307
                wanted = road.format("other/place") + "?x=1"
                assert answer.headers["location"] == wanted
                assert answer.text == f"Temporary Redirect. Redirecting to {wanted}"
        one_part = hub.name(hub.catalog.special("one_part"))
        short = one_part.rpartition("/")[2]
        answer = await http.get(f"{hub.base_url}/api/models/{short}/tree/main")
        assert answer.headers["location"] == f"/api/models/{one_part}/tree/main"


# --- headers --------------------------------------------------------------------------------------


async def test_quotas_are_announced_everywhere_and_end_in_429_until_the_window_does():
    quotas = {"api": 3, "resolvers": 2}
    async with hugging(quotas=quotas, tokens=["t"]) as hub, httpx.AsyncClient() as http:
        name = hub.name(hub.catalog.special("lora"))
        url = f"{hub.base_url}/api/models/{name}"
        left = []
        for _ in range(3):
            answer = await http.get(url)
            left.append(answer.headers["ratelimit"])
            assert answer.headers["ratelimit-policy"] == '"fixed window";"api";q=3;w=300'
        assert [re.sub(r"t=\d+", "t=", value) for value in left] == [
            f'"api";r={n};t=' for n in (2, 1, 0)
        ]
        refused = await http.get(url)
        assert refused.status_code == 429
        assert refused.headers["ratelimit"].startswith('"api";r=0;t=')
        assert "you hit the quota of 3 api requests per 5 minutes" in refused.json()["error"]
        file = await http.get(f"{hub.base_url}/{name}/resolve/main/README.md")
        assert file.headers["ratelimit"].startswith('"resolvers";r=1;')
        mine = await http.get(url, headers={"Authorization": "Bearer t"})
        assert mine.headers["ratelimit"].startswith('"api";r=2;')
        await http.post(f"{hub.base_url}/_sim/clock", json={"advance_s": 301})
        assert (await http.get(url)).status_code == 200


async def test_answers_look_like_the_real_ones():
    async with hugging() as hub, httpx.AsyncClient() as http:
        answer = await http.get(f"{hub.base_url}/api/models?limit=3")
        assert answer.headers["etag"] == weak_etag(answer.content)
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert answer.headers["x-powered-by"] == "huggingface-moon"
        assert answer.headers["x-request-id"].startswith("Root=1-")
        assert answer.headers["vary"] == "Origin"
        assert "x-repo-commit" not in answer.headers


# --- files ----------------------------------------------------------------------------------------


async def test_a_plain_file_is_a_relative_redirect_to_a_cache_that_knows_ranges():
    async with hugging() as hub, httpx.AsyncClient() as http:
        key = hub.catalog.special("diffusers")
        path, _ = files_of(hub, key)
        url = f"{hub.base_url}/{hub.name(key)}/resolve/main/{path}"
        moved = await http.head(url)
        assert moved.status_code == 307
        location = moved.headers["location"]
        sha = hub.catalog.repo(key).sha
        assert location.startswith(f"/api/resolve-cache/models/{hub.name(key)}/{sha}/{path}?%2F")
        assert moved.headers["x-repo-commit"] == sha
        cached = hub.base_url + location
        plain = {"Accept-Encoding": "identity"}
        whole = await http.get(cached, headers=plain)
        assert whole.headers["x-repo-commit"] == sha
        etag = whole.headers["etag"]
        assert etag == moved.headers["x-linked-etag"] == f'"{git_sha1(whole.content)}"'
        assert int(whole.headers["content-length"]) == len(whole.content)
        part = await http.get(cached, headers={**plain, "Range": "bytes=5-", "If-Range": etag})
        assert (part.status_code, part.content) == (206, whole.content[5:])
        again = await http.get(cached, headers={**plain, "If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        past = await http.get(cached, headers={**plain, "Range": "bytes=99999999-"})
        assert past.headers["content-range"] == f"bytes */{len(whole.content)}"
        packed = await http.get(cached, headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in packed.headers
        assert packed.content == whole.content
        branch = f"{hub.base_url}/api/resolve-cache/models/{hub.name(key)}/main/{path}"
        assert (await http.get(branch)).status_code == 400
        foreign = branch.replace("/main/", f"/{'0' * 40}/")
        assert (await http.get(foreign)).status_code == 404


async def test_a_large_file_is_at_another_host_that_knows_nobody():
    async with hugging(tokens=["t"]) as hub, httpx.AsyncClient() as http:
        key = hub.catalog.special("lora")
        _, path = files_of(hub, key)
        url = f"{hub.base_url}/{hub.name(key)}/resolve/main/{path}"
        moved = await http.get(url, headers={"Authorization": "Bearer t"})
        assert moved.status_code == 302
        bridge = moved.headers["location"]
        assert urlsplit(bridge).hostname == "localhost" != urlsplit(hub.base_url).hostname
        whole = await http.get(bridge)
        sha256 = hashlib.sha256(whole.content).hexdigest()
        assert moved.headers["x-linked-etag"] == f'"{sha256}"'
        assert int(moved.headers["x-linked-size"]) == len(whole.content)
        assert re.fullmatch(r'"[0-9a-f]{64}"', whole.headers["etag"])
        assert sha256 not in whole.headers["etag"]
        assert not {"x-repo-commit", "ratelimit", "x-linked-etag"} & set(whole.headers)
        part = await http.get(bridge, headers={"Range": "bytes=-7"})
        assert (part.status_code, part.content) == (206, whole.content[-7:])
        known = await http.get(bridge, headers={"Authorization": "Bearer t"})
        assert known.status_code == 400
        forged = re.sub("Signature=..", "Signature=00", bridge)
        assert (await http.get(forged)).status_code == 403
        # What was signed for a name stays good after a rename and a new commit.
        hub.change({"rename": {key: "other/name"}, "replace_file": [key]})
        assert (await http.get(bridge)).content == whole.content
        await http.post(f"{hub.base_url}/_sim/clock", json={"advance_s": 3700})
        assert (await http.get(bridge)).status_code == 403
        hub.fail("*/resolve/*", "expire")
        dead = await http.get(url.replace(hub.catalog.repo(key).name, "other/name"))
        assert dead.status_code == 307
        hub.fail("*/resolve/*", "expire")
        fresh = await http.get(f"{hub.base_url}/other/name/resolve/main/{path}")
        assert (await http.get(fresh.headers["location"])).status_code == 403


async def test_raw_gives_the_pointer_of_a_large_file():
    async with hugging() as hub, httpx.AsyncClient() as http:
        key = hub.catalog.special("lora")
        _, path = files_of(hub, key)
        answer = await http.get(f"{hub.base_url}/{hub.name(key)}/raw/main/{path}")
        assert answer.text.startswith("version https://git-lfs.github.com/spec/v1\noid sha256:")


async def test_xet_hashes_are_announced_only_when_wanted():
    for xet in (False, True):
        async with hugging(xet=xet) as hub, httpx.AsyncClient() as http:
            key = hub.catalog.special("lora")
            name = hub.name(key)
            tree = (await http.get(f"{hub.base_url}/api/models/{name}/tree/main")).json()
            large = next(entry for entry in tree if "lfs" in entry)
            assert ("xetHash" in large) == xet
            head = await http.head(f"{hub.base_url}/{name}/resolve/main/{large['path']}")
            assert ("x-xet-hash" in head.headers) == xet


# --- trees ----------------------------------------------------------------------------------------


async def test_a_tree_cursor_dies_when_the_branch_moves():
    async with hugging() as hub, httpx.AsyncClient() as http:
        key = hub.catalog.special("many_files")
        url = f"{hub.base_url}/api/models/{hub.name(key)}/tree"
        by_branch = await http.get(f"{url}/main?recursive=true")
        by_commit = await http.get(f"{url}/{hub.catalog.repo(key).sha}?recursive=true")
        assert len(by_branch.json()) == len(by_commit.json()) == 1000
        hub.change({"edit": [key]})
        assert (await http.get(next_of(by_branch))).status_code == 400
        assert len((await http.get(next_of(by_commit))).json()) > 300


async def test_paths_are_asked_for_as_a_form_or_as_json():
    async with hugging() as hub, httpx.AsyncClient() as http:
        key = hub.catalog.special("sharded")
        url = f"{hub.base_url}/api/models/{hub.name(key)}/paths-info/main"
        asked = {"paths": ["config.json", "nothing"], "expand": True}
        as_json = (await http.post(url, json=asked)).json()
        as_form = (await http.post(url, data=asked)).json()
        assert as_json == as_form
        assert [entry["path"] for entry in as_json] == ["config.json"]
        assert as_json[0]["lastCommit"]["id"]
        assert (await http.post(url, json={})).status_code == 400


# --- faults ---------------------------------------------------------------------------------------


async def test_faults_speak_this_dialect():
    async with hugging() as hub, httpx.AsyncClient() as http:
        url = f"{hub.base_url}/api/models?limit=3&expand=cardData&expand=sha"
        honest = await http.get(url)
        hub.fail(
            "/api/models", {"status": {"code": 429, "headers": {"RateLimit": '"api";r=0;t=1'}}}
        )
        hub.fail("/api/models", {"status": {"code": 429, "retry_after": 7}})
        limited = [await http.get(url) for _ in range(2)]
        assert [answer.status_code for answer in limited] == [429, 429]
        assert limited[0].headers["ratelimit"] == '"api";r=0;t=1'
        assert "you hit the quota" in limited[1].json()["error"]
        assert limited[1].headers["retry-after"] == "7"
        hub.fail("/api/models", {"link_host": "https://elsewhere.example"})
        assert next_of(await http.get(url)).startswith("https://elsewhere.example/api/models?")
        hub.fail("/api/models", {"drop_json": ["*.cardData", "0.sha"]})
        rows = (await http.get(url)).json()
        assert not any("cardData" in row for row in rows)
        assert ["sha" in row for row in rows] == [False, True, True]
        for word in ("repeat_page", "empty_page", {"cursor_loop": "first"}):
            hub.fail("/api/models", word, regex="cursor")
        second = next_of(honest)
        assert (await http.get(second)).json() == (await http.get(url)).json()
        empty = await http.get(second)
        assert (empty.json(), next_of(empty)) == ([], second)
        assert next_of(await http.get(second)) == next_of(honest)
        hub.fail("/api/models/*", {"status": 404})
        gone = await http.get(f"{hub.base_url}/api/models/a/b")
        assert gone.headers["x-error-code"] == "RepoNotFound"


async def test_files_can_be_wrong_in_every_way():
    async with hugging() as hub, httpx.AsyncClient() as http:
        key = hub.catalog.special("lora")
        _, path = files_of(hub, key)
        head = await http.head(f"{hub.base_url}/{hub.name(key)}/resolve/main/{path}")
        bridge = head.headers["location"]
        whole = (await http.get(bridge)).content
        hub.fail("/xet-bridge-us/*", {"bad_bytes": {"offset": 9, "count": 2}})
        wrong = (await http.get(bridge)).content
        assert [i for i, pair in enumerate(zip(wrong, whole, strict=True)) if len({*pair}) > 1] == [
            9,
            10,
        ]
        hub.fail("/xet-bridge-us/*", "ignore_range")
        assert (await http.get(bridge, headers={"Range": "bytes=4-"})).status_code == 200
        hub.fail("/xet-bridge-us/*", {"cut": 100})
        with pytest.raises(httpx.TransportError):
            await http.get(bridge)
        hub.fail("*/resolve/*", {"headers": {"X-Linked-Size": None}})
        bare = await http.head(f"{hub.base_url}/{hub.name(key)}/resolve/main/{path}")
        assert "x-linked-size" not in bare.headers


# --- recorded answers -----------------------------------------------------------------------------


def recordings():
    return sorted(path.name for path in FOLDER.glob("*.http.json"))


async def test_every_recorded_answer_is_given_again_byte_for_byte():
    async with hugging(models=None, folder=FOLDER) as hub, httpx.AsyncClient() as http:
        names = recordings()
        assert len(names) == 15
        for name in names:
            recorded = json.loads((FOLDER / name).read_bytes())
            target = urlsplit(recorded["request"]["url"])
            url = f"{hub.base_url}{target.path}?{target.query}"
            answer = await http.request(recorded["request"]["method"], url.rstrip("?"))
            assert answer.status_code == recorded["status"], name
            assert answer.content == (FOLDER / recorded["body_file"]).read_bytes(), name
            headers = {key.lower(): value for key, value in recorded["headers"].items()}
            assert answer.headers.get("location") == headers.get("location")
            if answer.status_code == 200:
                assert answer.headers["etag"] == headers["etag"]


async def test_recorded_repositories_are_listed_with_their_own_keys():
    async with hugging(models=60, folder=FOLDER) as hub, httpx.AsyncClient() as http:
        rows = {row["_id"]: row for row in await crawl(http, f"{hub.base_url}/api/models?limit=9")}
        documents = [json.loads(path.read_bytes()) for path in FOLDER.glob("model-*.json")]
        documents = [document for document in documents if "_id" in document]
        assert len(documents) == 10
        for document in documents:
            assert rows[document["_id"]] == document
        assert len(rows) == 70
        asked = f"{hub.base_url}/api/models?expand=sha&expand=usedStorage&author=google-t5"
        (row,) = (await http.get(asked)).json()
        assert set(row) == {"_id", "id", "sha"}


async def test_changes_and_bytes_of_recorded_repositories():
    async with hugging(models=None, folder=FOLDER) as hub, httpx.AsyncClient() as http:
        name = "openai-community/gpt2"
        key = hub.catalog.find(name).key
        info = (await http.get(f"{hub.base_url}/api/models/{name}?blobs=true")).json()
        (file,) = [file for file in info["siblings"] if file["rfilename"] == "model.safetensors"]
        url = f"{hub.base_url}/{name}/resolve/{info['sha']}/model.safetensors"
        data = (await http.get(url, follow_redirects=True)).content
        assert hashlib.sha256(data).hexdigest() == file["lfs"]["sha256"]
        assert len(data) == file["size"]
        hub.change({"edit": [key], "counters": {key: {"downloads": 5, "likes": 6}}})
        now = (await http.get(f"{hub.base_url}/api/models/{name}")).json()
        moved = {field for field in info if info[field] != now[field]} - {"siblings"}
        assert moved == {"sha", "lastModified", "downloads", "likes"}
        hub.change({"remove": [key]})
        assert (await http.get(f"{hub.base_url}/api/models/{name}")).status_code == 401


async def test_two_documents_with_one_id_are_two_states(tmp_path):
    old = {
        "_id": "621ffdc036468d709f174346",
        "id": "simbert",
        "lastModified": "2022-01-01T00:00:00.000Z",
        "tags": ["pytorch"],
        "siblings": [{"rfilename": "config.json"}],
    }
    new = {**old, "id": "org/simbert", "sha": "ab" * 20, "lastModified": "2025-01-01T00:00:00.000Z"}
    odd = {"modelId": "very/old", "tags": []}
    (tmp_path / "b.json").write_text(json.dumps(old))
    (tmp_path / "a.json").write_text(json.dumps(new))
    (tmp_path / "page.json").write_text(json.dumps([odd]))
    (tmp_path / "strange.json").write_text('{"what": ["is", null, "this"]}')
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "note.txt").write_text("no answer at all")
    async with hugging(models=None, folder=tmp_path) as hub, httpx.AsyncClient() as http:
        url = f"{hub.base_url}/api/models"
        first = {row.get("id") for row in await crawl(http, url + "?sort=downloads")}
        assert first == {"simbert", None}
        second = {row.get("id") for row in await crawl(http, url + "?sort=downloads")}
        assert second == {"org/simbert", None}
        moved = await http.get(f"{url}/simbert")
        assert (moved.status_code, moved.headers["location"]) == (
            307,
            "/api/models/org/simbert",
        )
        assert (await http.get(f"{url}/org/simbert")).json() == new
        assert (await http.get(f"{url}/very/old")).json() == odd


# --- as a process ---------------------------------------------------------------------------------


async def test_control_paths_steer_it():
    async with hugging() as hub, httpx.AsyncClient() as http:
        base = f"{hub.base_url}/_sim"
        key = (await http.get(f"{base}/specials")).json()["lora"]
        changed = await http.post(f"{base}/change", json={"edit": [key], "add": 2})
        assert [len(keys) for keys in changed.json().values()] == [1, 2]
        truth = (await http.get(f"{base}/truth?digests=0")).json()
        document = (await http.get(f"{base}/document", params={"id": key})).json()
        assert truth[key]["sha"] == document["sha"]
        assert (await http.get(f"{base}/state")).json()["models"] == 152
        bad = await http.post(f"{base}/change", json={"paint": 1})
        assert (bad.status_code, "paint" in bad.json()["error"]) == (400, True)

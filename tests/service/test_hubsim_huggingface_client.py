"""The genuine `huggingface_hub` client works against the simulated hub: that proves the dialect."""

import hashlib
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.hubsim import open_hubsim
from tests.hubsim.hf_files import git_sha1

TOKEN, STRANGER = "hf_granted", "hf_stranger"
_SETTINGS = {
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
}


@pytest.fixture
def client(tmp_path, monkeypatch):
    """The client's module, with nothing of this machine's in it and no connection left behind."""
    for name, value in _SETTINGS.items():
        monkeypatch.setenv(name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    huggingface_hub = pytest.importorskip("huggingface_hub")
    # It may have been imported before with other settings: it reads them once.
    for name in _SETTINGS:
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", True)
    yield huggingface_hub
    huggingface_hub.close_session()


@asynccontextmanager
async def served(client, tmp_path, **options):
    """(hub, api, run): `run(function, …)` calls the client from a thread."""
    options = {"models": 150, "tokens": [TOKEN, STRANGER], "granted": [TOKEN], **options}
    async with open_hubsim(dialect="huggingface", **options) as hub:

        async def run(function, *args, **named):
            return await trio.to_thread.run_sync(partial(function, *args, **named))

        yield hub, client.HfApi(endpoint=hub.base_url, token=False), run


def special(hub, name):
    return hub.name(hub.catalog.special(name))


def large_path(hub, name):
    repo = hub.catalog.repo(hub.catalog.special(name))
    return next(file.path for file in hub.catalog.files(repo) if file.content is not None)


def truth_of(hub, name):
    """path -> (size, sha256 or None, git sha1) of a repository's files, by its name."""
    repo = hub.catalog.find(name)
    found = {}
    for file in hub.catalog.files(repo):
        blob = hub.catalog.blobs.describe(file)
        found[file.path] = (blob.size_bytes, blob.sha256, blob.git_sha1)
    return found


def on_disk(local):
    """The bytes of a downloaded file, and the name of its blob in the client's cache."""
    return Path(local).read_bytes(), Path(local).resolve().name


def verified(hub, name, folder):
    """Assert that a folder holds exactly the repository's files; answers how many."""
    truth = truth_of(hub, name)
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }
    assert set(found) == set(truth)
    for path, data in found.items():
        size, sha256, blob_id = truth[path]
        assert len(data) == size
        digest = hashlib.sha256(data).hexdigest() if sha256 else git_sha1(data)
        assert digest == (sha256 or blob_id)
    return len(found)


# --- metadata -------------------------------------------------------------------------------------


async def test_lists_filter_sort_and_go_on_over_pages(client, tmp_path):
    async with served(client, tmp_path, largest_page=40) as (hub, api, run):

        async def listed(**named):
            return await run(lambda: list(api.list_models(**named)))

        visible = {
            k for k, entry in hub.truth(digests=False).items() if entry["state"] != "private"
        }
        names = {hub.name(key) for key in visible}
        for sort in ("createdAt", "lastModified", "downloads", "likes", "trendingScore"):
            found = await listed(sort=sort)
            assert len(found) == len(names)
            assert {model.id for model in found} == names
        loras = await listed(filter=["lora", "diffusers"])
        assert loras
        assert all({"lora", "diffusers"} <= set(model.tags) for model in loras)
        few = await listed(sort="downloads", limit=50)
        assert len(few) == 50
        assert [model.downloads for model in few] == sorted(
            (model.downloads for model in few), reverse=True
        )
        gated = await listed(gated=True)
        assert special(hub, "gated_auto") in {model.id for model in gated}
        text = await listed(pipeline_tag="text-generation", search="llama")
        assert text
        assert all("llama" in model.id.lower() for model in text)
        author = few[0].id.partition("/")[0]
        assert {model.id.partition("/")[0] for model in await listed(author=author)} == {author}
        pages = [entry.target for entry in hub.log if entry.path == "/api/models"]
        assert sum("cursor=" in target for target in pages) > 10


async def test_rows_bear_what_full_card_and_expand_ask_for(client, tmp_path):
    async with served(client, tmp_path) as (_hub, api, run):

        async def first(**named):
            # The newest is always of some kind: take the first with a card.
            rows = await run(lambda: list(api.list_models(sort="createdAt", limit=20, **named)))
            return next(row for row in rows if row.library_name)

        bare = await first()
        assert (bare.sha, bare.siblings, bare.card_data, bare.last_modified) == (None,) * 4
        full = await first(full=True)
        assert len(full.sha) == 40
        assert {".gitattributes"} < {file.rfilename for file in full.siblings}
        assert (full.author, full.gated) == (full.id.partition("/")[0], False)
        carded = await first(cardData=True)
        assert carded.card_data.to_dict()
        expanded = await run(
            lambda: list(api.list_models(limit=3, expand=["sha", "lastModified", "likes"]))
        )
        assert all(row.sha and row.last_modified and row.tags is None for row in expanded)


async def test_one_model_by_name_old_name_revision_and_with_its_files(client, tmp_path):
    async with served(client, tmp_path) as (hub, api, run):
        name = special(hub, "tagged")
        plain = await run(api.model_info, name)
        assert (plain.id, plain.siblings[0].size) == (name, None)
        info = await run(api.model_info, name, files_metadata=True, securityStatus=True)
        sizes = {
            file.rfilename: (file.size, file.lfs and file.lfs.sha256, file.blob_id)
            for file in info.siblings
        }
        assert sizes == truth_of(hub, name)
        assert info.security_repo_status == {"scansDone": True, "filesWithIssues": []}
        unsafe = await run(api.model_info, special(hub, "unsafe"), securityStatus=True)
        assert unsafe.security_repo_status["filesWithIssues"][0]["level"] == "unsafe"

        tag = await run(api.model_info, name, revision="v1.0")
        commits = hub.catalog.commits(hub.catalog.find(name))
        assert (tag.sha, info.sha) == (commits[1].sha, commits[-1].sha)
        old = await run(api.model_info, name, revision=commits[0].sha)
        assert [file.rfilename for file in old.siblings] == [".gitattributes"]
        request = await run(api.model_info, special(hub, "pull_request"), revision="refs/pr/1")
        assert request.sha != hub.catalog.find(special(hub, "pull_request")).sha

        renamed = hub.catalog.special("renamed")
        repo = hub.catalog.repo(renamed)
        former = hub.catalog.synthetic.maker.old_name(repo)
        assert (await run(api.model_info, former)).id == repo.name
        assert (await run(api.model_info, repo.name.upper())).id == repo.name
        one_part = special(hub, "one_part").rpartition("/")[2]
        assert (await run(api.model_info, one_part)).id == special(hub, "one_part")


async def test_refusals_are_the_clients_own_errors(client, tmp_path):
    errors = client.errors
    async with served(client, tmp_path) as (hub, api, run):
        name = special(hub, "lora")
        with pytest.raises(errors.RepositoryNotFoundError) as missing:
            await run(api.model_info, "no/such", token=TOKEN)
        assert missing.value.response.status_code == 404
        with pytest.raises(errors.HfHubHTTPError) as private:
            await run(api.model_info, special(hub, "private"))
        assert private.value.response.status_code == 401
        with pytest.raises(errors.RevisionNotFoundError):
            await run(api.model_info, name, revision="nowhere")
        with pytest.raises(errors.HfHubHTTPError, match="Invalid credentials"):
            await run(api.model_info, name, token="hf_wrong")
        with pytest.raises(errors.DisabledRepoError):
            await run(api.model_info, special(hub, "disabled"))
        with pytest.raises(errors.EntryNotFoundError):
            await run(lambda: list(api.list_repo_tree(name, "no/folder")))
        with pytest.raises(errors.HfHubHTTPError, match="Bad request"):
            await run(lambda: list(api.list_models(sort="niceness")))


async def test_trees_paths_refs_and_commits(client, tmp_path):
    async with served(client, tmp_path) as (hub, api, run):

        async def tree(name, *args, **named):
            return await run(lambda: list(api.list_repo_tree(name, *args, **named)))

        name = special(hub, "diffusers")
        top = await tree(name)
        folders = {entry.path for entry in top if isinstance(entry, client.RepoFolder)}
        assert {"unet", "vae", "text_encoder"} <= folders
        inner = await tree(name, "unet")
        assert all(entry.path.startswith("unet/") for entry in inner)
        whole = await tree(name, recursive=True, expand=True)
        files = {e.path: e for e in whole if isinstance(e, client.RepoFile)}
        sizes = {
            path: (file.size, file.lfs and file.lfs.sha256, file.blob_id)
            for path, file in files.items()
        }
        assert sizes == truth_of(hub, name)
        assert files["README.md"].last_commit.oid == hub.catalog.find(name).sha
        assert files["README.md"].security.status == "safe"

        many = special(hub, "many_files")
        for expand in (False, True):
            found = await tree(many, recursive=True, expand=expand)
            assert {e.path for e in found if isinstance(e, client.RepoFile)} == set(
                truth_of(hub, many)
            )
        asked = ["README.md", "unet/config.json", "unet", "not/there"]
        infos = await run(api.get_paths_info, name, asked, expand=True)
        assert [info.path for info in infos] == asked[:3]
        refs = await run(
            api.list_repo_refs, special(hub, "pull_request"), include_pull_requests=True
        )
        assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1"]
        assert [branch.name for branch in refs.branches] == ["main"]
        commits = await run(api.list_repo_commits, name)
        wanted = [commit.sha for commit in hub.catalog.commits(hub.catalog.find(name))]
        assert [commit.commit_id for commit in commits] == wanted[::-1]


async def test_who_one_is_and_which_tags_there_are(client, tmp_path):
    async with served(client, tmp_path) as (_hub, api, run):
        who = await run(api.whoami, token=TOKEN)
        assert (who["type"], who["auth"]["accessToken"]["role"]) == ("user", "read")
        with pytest.raises(client.errors.HfHubHTTPError):
            await run(api.whoami, token="hf_wrong")
        tags = await run(api.get_model_tags)
        assert {tag["id"] for tag in tags["library"]} >= {"diffusers", "transformers"}


# --- files ----------------------------------------------------------------------------------------


async def test_plain_and_large_files_come_whole_and_the_token_stays_at_home(client, tmp_path):
    async with served(client, tmp_path) as (hub, _api, run):
        name = special(hub, "lora")
        get = partial(
            client.hf_hub_download, name, cache_dir=tmp_path, endpoint=hub.base_url, token=TOKEN
        )
        for path in ("README.md", large_path(hub, "lora")):
            local = await run(get, path)
            size, sha256, blob_id = truth_of(hub, name)[path]
            data, blob = on_disk(local)
            assert len(data) == size
            digest = hashlib.sha256(data).hexdigest() if sha256 else git_sha1(data)
            assert digest == blob == (sha256 or blob_id)
        stored = [entry for entry in hub.log if entry.storage]
        assert [entry.status for entry in stored] == [200]
        assert "authorization" not in stored[0].headers
        assert all("authorization" in entry.headers for entry in hub.log if not entry.storage)


async def test_renamed_missing_and_gated_files(client, tmp_path):
    errors = client.errors
    async with served(client, tmp_path) as (hub, _api, run):
        get = partial(client.hf_hub_download, cache_dir=tmp_path, endpoint=hub.base_url)
        repo = hub.catalog.repo(hub.catalog.special("renamed"))
        former = hub.catalog.synthetic.maker.old_name(repo)
        local = await run(get, former, "README.md", token=False)
        # The cache goes by the name that was asked for.
        assert f"models--{former.replace('/', '--')}" in local

        with pytest.raises(errors.EntryNotFoundError):
            await run(get, repo.name, "no.txt", token=False)
        with pytest.raises(errors.RevisionNotFoundError):
            await run(get, repo.name, "README.md", revision="nowhere", token=False)
        gated = special(hub, "gated_manual")
        for token in (False, STRANGER):
            with pytest.raises(errors.GatedRepoError):
                await run(get, gated, "config.json", token=token)
        for path in ("config.json", large_path(hub, "gated_manual")):
            data, _ = on_disk(await run(get, gated, path, token=TOKEN))
            assert len(data) == truth_of(hub, gated)[path][0]


async def test_a_snapshot_is_whole_and_a_warm_one_asks_once(client, tmp_path):
    async with served(client, tmp_path) as (hub, _api, run):
        for kind in ("diffusers", "odd_paths", "empty_file"):
            name = special(hub, kind)
            get = partial(
                client.snapshot_download,
                name,
                cache_dir=tmp_path / "cache",
                endpoint=hub.base_url,
                token=False,
                max_workers=2,
            )
            folder = await run(get)
            assert verified(hub, name, folder) > 3
            before = len(hub.log)
            assert await run(get) == folder
            assert [entry.path for entry in hub.log[before:]] == [
                f"/api/models/{name}/revision/main"
            ]
        # What changed since is another snapshot; what did not is not fetched again.
        key = hub.catalog.special("diffusers")
        hub.change({"edit": [key]})
        before = len(hub.log)
        get = partial(client.snapshot_download, cache_dir=tmp_path / "cache", token=False)
        again = await run(get, hub.name(key), endpoint=hub.base_url, max_workers=2)
        assert verified(hub, hub.name(key), again) > 3
        bodies = [e.path for e in hub.log[before:] if e.method == "GET" and "resolve" in e.path]
        assert [path.rpartition("/")[2] for path in bodies] == ["README.md"]


async def test_old_commits_and_pull_requests_can_be_downloaded(client, tmp_path):
    async with served(client, tmp_path) as (hub, _api, run):
        key = hub.catalog.special("sharded")
        name, path = hub.name(key), large_path(hub, "sharded")
        old = hub.catalog.repo(key).sha
        was = truth_of(hub, name)[path]
        hub.change({"replace_file": {key: path}})
        get = partial(client.hf_hub_download, name, path, cache_dir=tmp_path, token=False)
        for revision, facts in ((old, was), ("main", truth_of(hub, name)[path])):
            local = await run(get, revision=revision, endpoint=hub.base_url)
            assert on_disk(local)[1] == facts[1]
        assert was != truth_of(hub, name)[path]
        request = special(hub, "pull_request")
        local = await run(
            client.hf_hub_download,
            request,
            "README.md",
            revision="refs/pr/1",
            cache_dir=tmp_path,
            endpoint=hub.base_url,
            token=False,
        )
        assert on_disk(local)[1] == truth_of(hub, request)["README.md"][2]


# --- recorded answers -----------------------------------------------------------------------------


async def test_recorded_repositories_are_genuine_to_the_client(client, tmp_path):
    folder = Path(__file__).parents[1] / "fixtures" / "huggingface"
    async with served(client, tmp_path, models=None, folder=folder) as (hub, api, run):
        rows = await run(lambda: list(api.list_models()))
        assert {row.id for row in rows} == {hub.name(key) for key in hub.catalog.ids()}
        moved = await run(api.model_info, "t5-small", files_metadata=True)
        assert moved.id == "google-t5/t5-small"
        assert all(file.size is not None for file in moved.siblings)
        get = partial(client.hf_hub_download, cache_dir=tmp_path, endpoint=hub.base_url)
        gpt2, path = "openai-community/gpt2", "model.safetensors"
        data, blob = on_disk(await run(get, gpt2, path, token=False))
        assert (len(data), blob) == truth_of(hub, gpt2)[path][:2]
        with pytest.raises(client.errors.GatedRepoError):
            await run(get, "meta-llama/Llama-3.1-8B-Instruct", "config.json", token=False)

"""The synthetic Hugging Face catalog: computed orders are true ones, names and bytes are found."""

import hashlib
import itertools
import json
import pickletools
from pathlib import Path

import pytest

from tests.hubsim import Hub, HubOptions
from tests.hubsim.bytes import Contents, read_all
from tests.hubsim.hf_catalog import RepoCatalog
from tests.hubsim.hf_files import git_sha1, pointer
from tests.hubsim.hf_population import SENTINEL_S, SPECIALS, Population
from tests.hubsim.hf_source import SyntheticRepos
from tests.hubsim.hf_strands import SORTS, place_of
from tests.hubsim.messages import Request
from tests.hubsim.rate_limits import RateLimits


def catalog_of(count, seed=1):
    contents = Contents(seed)
    return RepoCatalog([SyntheticRepos(count, seed, contents)], contents, seed=seed)


def all_of(catalog):
    return [catalog.repo(key) for key in catalog.ids()]


@pytest.mark.parametrize("count", [1, 79, 80, 200, 2600])
@pytest.mark.parametrize("sort", SORTS)
def test_every_order_is_the_sorted_one_and_can_be_entered_anywhere(sort, count):
    catalog = catalog_of(count)
    wanted = sorted(place_of(sort, repo) for repo in all_of(catalog))
    assert [place for place, _ in catalog.rows(sort, None)] == wanted
    for at in range(0, count, max(1, count // 17)):
        behind = [place for place, _ in itertools.islice(catalog.rows(sort, wanted[at]), 3)]
        assert behind == wanted[at + 1 : at + 4]


def test_dates_have_ties_and_edits_never_come_before_birth():
    population = Population(3, 5000)
    born = [population.created_s(index) for index in range(5000)]
    assert born == sorted(born)
    assert born.count(SENTINEL_S) > 80
    assert len(set(born[200:])) < 4800
    late = 0
    for index in range(population.old_count, 5000):
        edited = population.modified_s(index)
        assert born[index] <= edited
        late += edited - born[index] > 90 * 86_400
    assert late > 100


def test_ids_and_names_lead_back_to_their_repository():
    catalog = catalog_of(900)
    names = set()
    for repo in all_of(catalog):
        assert len(repo.key) == 24
        assert int(repo.key[:8], 16) * 1000 == repo.created_ms
        assert catalog.find(repo.name).key == repo.key
        assert catalog.find(repo.name.upper()).key == repo.key
        names.add(repo.name.lower())
    assert len(names) == 900
    assert catalog.find("nobody/nothing-zzz") is None
    assert catalog.find("nobody/at-all") is None


def test_the_same_seed_gives_the_same_catalog_and_another_one_another():
    one, same, other = (catalog_of(100, seed) for seed in (1, 1, 2))
    assert all_of(one) == all_of(same)
    assert [repo.name for repo in all_of(one)] != [repo.name for repo in all_of(other)]


def test_kinds_have_their_shares_and_what_belongs_to_them():
    catalog = catalog_of(4000)
    repos = all_of(catalog)
    kinds = {repo.kind for repo in repos}
    assert kinds == {
        "transformers", "lora", "gguf", "pickle", "peft", "diffusers", "single_file", "bare",
        "other",
    }  # fmt: skip
    ordinary = [repo for repo in repos if repo.special is None]
    assert 0.1 < sum("lora" in repo.tags for repo in ordinary) / len(ordinary) < 0.35
    assert any(repo.gated == "manual" for repo in ordinary)
    assert sum(repo.pipeline_tag is None for repo in ordinary) > 300
    assert sum(repo.trending is None for repo in ordinary) > 3000
    for repo in repos[:600]:
        paths = {file.path for file in catalog.files(repo)}
        assert ".gitattributes" in paths
        if repo.kind == "diffusers":
            assert {"model_index.json", "unet/diffusion_pytorch_model.safetensors"} <= paths
        if repo.kind == "gguf":
            assert sum(path.endswith(".gguf") for path in paths) > 2
        if repo.base_model:
            assert f"base_model:{repo.relation}:{repo.base_model}" in repo.tags


def test_sizes_and_hashes_are_those_of_the_bytes():
    catalog = catalog_of(400)
    large = 0
    for repo in all_of(catalog)[::9]:
        for file in catalog.files(repo):
            data, blob = read_all(catalog.blobs.body(file)), catalog.blobs.describe(file)
            assert len(data) == blob.size_bytes == catalog.blobs.size_bytes(file)
            if file.content is None:
                assert (blob.git_sha1, blob.sha256) == (git_sha1(data), None)
                continue
            large += 1
            assert hashlib.sha256(data).hexdigest() == blob.sha256 == blob.etag
            stub = pointer(blob.sha256, len(data))
            assert (git_sha1(stub), len(stub)) == (blob.git_sha1, blob.pointer_size)
            assert blob.xet_hash != blob.sha256
    assert large > 50


def test_pickled_weights_import_nothing_but_torch():
    catalog = catalog_of(100)
    file = next(
        file
        for file in catalog.files(catalog.repo(catalog.special("pickle")))
        if file.path.endswith(".bin")
    )
    data = read_all(catalog.blobs.body(file))
    start = data.index(b"\x80\x02")
    imports = {
        str(argument)
        for code, argument, _ in pickletools.genops(data[start:])
        if code.name == "GLOBAL"
    }
    assert imports == {
        "collections OrderedDict", "torch HalfStorage", "torch._utils _rebuild_tensor_v2",
    }  # fmt: skip


def test_every_special_repository_is_what_its_name_says():
    catalog = catalog_of(100)
    repos = {name: catalog.repo(catalog.special(name)) for name in SPECIALS}
    assert (repos["gated_auto"].gated, repos["gated_manual"].gated) == ("auto", "manual")
    assert repos["tied_a"].created_ms == repos["tied_b"].created_ms == SENTINEL_S * 1000
    assert repos["private"].gone == "private"
    assert repos["disabled"].disabled
    assert "/" not in repos["one_part"].name.rpartition("/")[2]
    assert catalog.find(repos["one_part"].name.rpartition("/")[2]).key == repos["one_part"].key
    assert catalog.value(repos["no_card"], "cardData").__class__.__name__ == "_Missing"
    assert len(catalog.files(repos["many_files"])) > 1000
    sharded = {file.path for file in catalog.files(repos["sharded"])}
    assert {"model-00003-of-00003.safetensors", "model.safetensors.index.json"} <= sharded
    twins = [
        {catalog.blobs.describe(file).sha256 for file in catalog.files(repos[name])}
        for name in ("twin_a", "twin_b")
    ]
    assert (twins[0] & twins[1]) - {None}
    assert isinstance(repos["float_trending"].trending, float)


# --- changes --------------------------------------------------------------------------------------


@pytest.fixture
def hub():
    return Hub(HubOptions(dialect="huggingface", models=150))


def facts(hub, key):
    return hub.truth()[key]


def changed(hub, key, wanted):
    """Which of a repository's facts a change moved."""
    before = facts(hub, key)
    hub.change(wanted)
    after = facts(hub, key)
    return {name for name in before if before[name] != after.get(name)}


def plain(hub):
    return next(
        key
        for key in hub.catalog.ids()
        if (repo := hub.catalog.repo(key)).special is None and repo.kind == "lora"
    )


def test_a_commit_moves_sha_date_and_files_and_counters_move_neither(hub):
    key = plain(hub)
    commit = {"sha", "lastModified", "files_sha256"}
    assert changed(hub, key, {"edit": [key]}) == commit
    assert changed(hub, key, {"new_file": {key: "more/x.safetensors"}}) == commit
    assert changed(hub, key, {"replace_file": [key]}) == commit
    assert changed(hub, key, {"counters": [key]}) == {"downloads", "likes"}
    assert changed(hub, key, {"gate": {key: "manual"}}) == {"gated"}
    assert changed(hub, key, {"ungate": [key]}) == {"gated"}
    assert changed(hub, key, {"rename": {key: "someone/else"}}) == {"id"}
    assert changed(hub, key, {"set": {key: {"tags": ["x"]}}}) == {"tags"}
    assert changed(hub, key, {"make_private": [key]}) == {"state", "files_sha256"}
    assert changed(hub, key, {"restore": [key]}) == {"state"}
    repo = hub.catalog.repo(key)
    commits = hub.catalog.commits(repo)
    assert len({commit.sha for commit in commits}) == len(commits) == repo.commits
    assert [commit.date_ms for commit in commits] == sorted(commit.date_ms for commit in commits)
    assert commits[-1].sha == repo.sha


def test_old_commits_keep_their_files(hub):
    key = plain(hub)
    before = hub.catalog.repo(key)
    old = hub.catalog.files(before)
    hub.change({"replace_file": [key], "new_file": [key], "edit": [key]})
    now = hub.catalog.repo(key)
    assert hub.catalog.files(now, before.commits - 1) == old
    assert hub.catalog.files(now) != old
    assert [file.path for file in hub.catalog.files(now, 0)] == [".gitattributes"]


def test_changed_repositories_stand_where_the_orders_want_them(hub):
    touched = hub.change({"edit": 4, "counters": 4, "add": 2, "rename": 2})
    assert all(
        len(keys) == (2 if word in ("add", "rename") else 4) for word, keys in touched.items()
    )
    for sort in SORTS:
        wanted = sorted(place_of(sort, repo) for repo in all_of(hub.catalog))
        assert [place for place, _ in hub.catalog.rows(sort, None)] == wanted
    newest = [key for _, key in itertools.islice(hub.catalog.rows("createdAt", None), 2)]
    assert sorted(newest) == sorted(touched["add"])


def test_names_lead_on_after_renames_until_somebody_takes_them(hub):
    key = plain(hub)
    first = hub.name(key)
    hub.change({"rename": {key: "new/name"}})
    hub.change({"rename": {key: "newer/name"}})
    assert hub.catalog.find(first).name == hub.catalog.find("NEW/name").name == "newer/name"
    hub.change({"remove": [key]})
    (other,) = hub.change({"reuse_name": [key]})["reuse_name"]
    assert other != key
    assert hub.catalog.find("newer/name").key == other
    with pytest.raises(ValueError, match="belongs to another"):
        hub.change({"restore": [key]})
    with pytest.raises(ValueError, match="still there"):
        hub.change({"reuse_name": [other]})
    another = next(k for k in hub.catalog.ids() if hub.catalog.repo(k).special == "lora")
    with pytest.raises(ValueError, match="taken"):
        hub.change({"rename": {another: "newer/Name"}})
    hub.change({"remove": [other]})
    hub.change({"restore": [key]})
    assert hub.catalog.find("newer/name").key == key


def test_numbers_pick_ordinary_repositories_and_mistakes_are_said(hub):
    chosen = hub.change({"remove": 5, "gate": 3})
    assert len(set(chosen["remove"]) | set(chosen["gate"])) == 8
    assert all(hub.catalog.repo(key).special is None for key in chosen["remove"])
    assert hub.change({"restore": 2})["restore"] == chosen["remove"][:2]
    with pytest.raises(ValueError, match="unknown change: paint"):
        hub.change({"paint": 1})
    with pytest.raises(ValueError, match="no such repository"):
        hub.change({"edit": ["nobody/knows"]})


def test_large_files_are_the_newest_repositories():
    hub = Hub(HubOptions(dialect="huggingface", models=100, large_files=[5_000_000]))
    (key,) = hub.large_ids()
    repo = hub.catalog.repo(key)
    (file,) = hub.catalog.files(repo)
    blob = hub.catalog.blobs.describe(file)
    assert blob.size_bytes == 5_000_000
    data = read_all(hub.catalog.blobs.body(file))
    assert hashlib.sha256(data).hexdigest() == blob.sha256
    hub.change({"replace_file": [key]})
    (file,) = hub.catalog.files(hub.catalog.repo(key))
    assert hub.catalog.blobs.describe(file).sha256 != blob.sha256


# --- recorded documents ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 123, [], "x", {}, [1, {}], "gone"])
def test_odd_recorded_documents_are_served_and_break_nothing(value, tmp_path):
    source = Path(__file__).parents[1] / "fixtures" / "huggingface" / "model-zephyr-7b-beta.json"
    whole = json.loads(source.read_bytes())
    (tmp_path / "good.json").write_text(
        '{"_id": "666666666666666666666666", "id": "a/b", "sha": ""}'
    )
    for name in whole:
        odd = {key: inner for key, inner in whole.items() if key != name}
        if value != "gone":
            odd[name] = value
        (tmp_path / "odd.json").write_text(json.dumps(odd))
        hub = Hub(HubOptions(dialect="huggingface", models=0, folder=tmp_path))
        for target in (
            "/api/models", "/api/models?sort=createdAt&expand=siblings&filter=transformers",
            f"/api/models/{whole['id']}?blobs=true", f"/api/models/{whole['id']}/tree/main",
        ):  # fmt: skip
            answer = hub.dialect.answer(Request("GET", target, []))
            assert answer.status < 500
            if target == "/api/models":
                rows = json.loads(read_all(answer.body))
                assert odd in rows
        assert "6" * 24 in hub.truth()


# --- quotas ---------------------------------------------------------------------------------------


def test_a_window_begins_with_its_first_request_and_callers_do_not_share():
    now = [100.0]
    limits = RateLimits({"api": 2, "pages": 1}, 300, lambda: now[0])
    assert [limits.spend("a", "api").left for _ in range(2)] == [1, 0]
    refused = limits.spend("a", "api")
    assert (refused.refused, refused.left, refused.reset_s) == (True, 0, 300)
    assert not limits.spend("b", "api").refused
    assert not limits.spend("a", "pages").refused
    now[0] += 299.5
    standing = limits.spend("a", "api")
    assert (standing.refused, standing.reset_s) == (True, 1)
    assert standing.headers() == [
        ("RateLimit", '"api";r=0;t=1'),
        ("RateLimit-Policy", '"fixed window";"api";q=2;w=300'),
    ]
    now[0] += 0.5
    assert not limits.spend("a", "api").refused

"""Everything that can be wrong with a download: each a clear error, and the queue goes on."""

# ruff: noqa: ASYNC240 (the tests look at the disk as other programs do)

import hashlib
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from trio.testing import MockClock

from modelkeep_protocol import errors, schema
from tests.daemon.house import FINAL, House, open_house
from tests.daemon.picks import Pick, ordinary, pick_of
from tests.hubsim import Hub, open_hubsim

TOKEN = "canary-5f3c9a1e7b"
RESTING = FINAL | {"waiting"}


class Row(NamedTuple):
    """A fault at the hub's own address or at the storage host, and what the job must say."""

    do: Mapping[str, object]
    state: str
    code: str
    message: str
    hint: str
    storage: bool = False


ROWS = {
    "401": Row({"status": 401}, "failed", "denied", "401", "token"),
    "403": Row({"status": 403}, "failed", "gated", "403", "account"),
    "404": Row({"status": 404}, "failed", "not_found", "404", "sync"),
    "410": Row({"status": 410}, "failed", "not_found", "410", "archived"),
    "451": Row({"status": 451}, "failed", "unavailable", "451", "region"),
    "404 at the storage": Row({"status": 404}, "failed", "not_found", "404", "sync", True),
    "451 at the storage": Row({"status": 451}, "failed", "unavailable", "451", "region", True),
    "a login page": Row({"redirect": "/login?returnUrl=x"}, "failed", "denied", "", ""),
    "HTML with 200": Row({"html200": True}, "failed", "corrupt", "web page", "nothing was saved"),
    "maintenance": Row({"maintenance": 200}, "failed", "corrupt", "message", "nothing was saved"),
    "wrong bytes": Row({"bad_bytes": 700}, "failed", "corrupt", "hash", "retry", True),
    "shorter than promised": Row({"too_short": 100}, "failed", "corrupt", "bytes", "sync", True),
    "longer than promised": Row(
        {"too_long": {"extra": 9, "declare": True}}, "failed", "corrupt", "bytes", "sync", True
    ),
    "never ends": Row({"endless": True}, "failed", "corrupt", "bytes", "", True),
    "compressed": Row({"gzip": True}, "failed", "unsupported", "compressed", "source", True),
    "to a private address": Row(
        {"redirect": "http://169.254.169.254/x"}, "failed", "denied", "169.254", ""
    ),
    "to a file": Row({"redirect": "file:///etc/passwd"}, "failed", "denied", "file", ""),
    "round and round": Row({"redirect_loop": True}, "failed", "denied", "redirect", ""),
    "always cut off": Row({"truncate": 0}, "waiting", "unavailable", "", "", True),
    "500 for ever": Row({"status": 500}, "waiting", "unavailable", "500", "trying again"),
}
SPECIAL = {
    "wrong_sha256": ("failed", "corrupt", "does not have the promised hash"),
    "downloads_disabled": ("failed", "denied", "creator"),
    "early_access": ("failed", "gated", "early access"),
    "pickle": ("quarantined", "denied", "quarantined"),
}


def _broken(jobs: Mapping[str, Pick], hub: Hub) -> None:
    for name, pick in jobs.items():
        row = ROWS[name]
        path = pick.stored if row.storage else pick.download
        hub.fail(path, dict(row.do), times=0, storage=row.storage)


def _nothing_half_placed(house: House, done: list[schema.Job]) -> None:
    """Only what is done lies in the library, whole; the rest left nothing that is not its own."""
    assert house.files() == sorted(os.path.relpath(str(job.path), house.models) for job in done)
    for job in done:
        content = Path(str(job.path)).read_bytes()
        assert hashlib.sha256(content).hexdigest() == job.sha256
    parts = {path.stem for path in house.models.rglob("*.part")}
    waiting = house.rows("SELECT part FROM job WHERE state <> 'done'")
    assert parts <= {part for (part,) in waiting}


async def test_each_fault_is_a_clear_error_on_its_job_and_the_others_arrive(
    tmp_path: Path,
    fast_time: MockClock,
) -> None:
    async with (
        open_hubsim(models=120, tokens=[TOKEN]) as hub,
        open_house(tmp_path / "home", hub, token=TOKEN) as house,
    ):
        await house.synced()
        picks = ordinary(hub)
        bad = {name: next(picks) for name in ROWS}
        good = [next(picks) for _ in range(4)]
        _broken(bad, hub)
        # the good ones last: they must not wait for the bad ones' repeated tries
        refs = [pick.ref for pick in (*bad.values(), *good)]
        jobs = await house.get(*refs)
        arrived = await house.ended(jobs[len(bad) :])
        assert {job.state for job in arrived} == {"done"}
        failed = []
        for name, queued in zip(bad, jobs, strict=False):
            row = ROWS[name]
            [job] = await house.ended([queued], RESTING if row.state == "waiting" else FINAL)
            failed.append(job)
            assert job.error is not None, (name, job)
            seen = (job.state, job.error.code)
            assert seen == (row.state, row.code), (name, job.error)
            assert row.message in job.error.message, (name, job.error)
            assert row.hint in job.error.hint, (name, job.error)
            assert len(job.error.message) > 10, name
            assert job.error.hint, name
            # a path is said of what is there, or set aside, only
            assert job.path is None, name
            assert "Signature" not in job.error.message, name
        _nothing_half_placed(house, arrived)

        # what waits goes on once its hub is well again, and so does what is asked for again
        hub.faults.clear()
        again = [job.id for job in failed]
        await house.call("transfer.retry", ids=again)
        mended = await house.ended(failed)
        assert {job.state for job in mended} == {"done"}, [job.error for job in mended]
        _nothing_half_placed(house, arrived + mended)

        storage = [entry for entry in hub.log if entry.storage]
        assert storage
        for entry in storage:
            assert TOKEN not in str(entry.headers)
            assert TOKEN not in entry.target
            assert "authorization" not in entry.headers


async def test_what_the_hub_refuses_by_its_own_rules_is_said_in_its_own_words(
    tmp_path: Path,
    fast_time: MockClock,
) -> None:
    async with (
        open_hubsim(models=60, tokens=[TOKEN]) as hub,
        open_house(tmp_path / "home", hub, token=TOKEN) as house,
    ):
        await house.synced()
        archived = next(ordinary(hub))
        hub.change({"archive": [int(archived.model.partition(":")[2])]})
        cases = {**SPECIAL, "archived": ("failed", "not_found", "archived")}
        refs = [f"civitai:{hub.catalog.special(name)}" for name in SPECIAL] + [archived.ref]
        for (name, expected), job in zip(
            cases.items(), await house.ended(await house.get(*refs)), strict=True
        ):
            state, code, word = expected
            assert job.error is not None, name
            assert (job.state, job.error.code) == (state, code), (name, job.error)
            assert word in f"{job.error.message} {job.error.hint}".lower(), (name, job.error)
        _nothing_half_placed(house, [])


async def test_without_a_token_the_error_says_that_one_is_needed(
    tmp_path: Path, fast_time: MockClock
) -> None:
    async with (
        open_hubsim(models=60, tokens=[TOKEN]) as hub,
        open_house(tmp_path / "home", hub) as house,
    ):
        await house.synced()
        [job] = await house.ended(await house.get(f"civitai:{hub.catalog.special('gated')}"))
        assert job.error is not None
        assert (job.state, job.error.code) == ("failed", "denied")
        assert "set the hub's token" in job.error.hint
        assert errors.exit_code(job.error.code) == errors.EXIT_DENIED


@pytest.mark.parametrize("review", ["quarantine", "place"])
async def test_a_pickle_is_set_aside_or_placed_with_a_warning_as_the_settings_say(
    tmp_path: Path, fast_time: MockClock, review: str
) -> None:
    async with (
        open_hubsim(models=60) as hub,
        open_house(tmp_path / "home", hub, settings=[f'review = "{review}"']) as house,
    ):
        await house.synced()
        document = hub.document(hub.catalog.special("pickle"))
        assert document is not None
        pick = pick_of(document)
        [job] = await house.ended(await house.get(pick.ref))
        assert job.verdict == "review"
        assert job.warning
        assert job.path is not None
        stored = Path(job.path)
        assert hashlib.sha256(stored.read_bytes()).hexdigest() == pick.sha256
        listed = (await house.call("library.list")).items
        if review == "place":
            assert (job.state, job.error) == ("done", None)
            assert house.files() == [f"checkpoints/{stored.name}"]
            assert [(item.path, item.verdict) for item in listed] == [(job.path, "review")]
        else:
            assert job.state == "quarantined"
            assert job.error is not None
            assert "transfer.review" in job.error.hint
            assert house.files() == []
            assert listed == []
            assert stored.suffix == ".quarantined"
            assert stored.stat().st_mode & 0o777 == 0o600


async def test_content_that_is_owned_is_not_fetched_again(
    tmp_path: Path, fast_time: MockClock
) -> None:
    async with (
        open_hubsim(models=60) as hub,
        open_house(tmp_path / "home", hub) as house,
    ):
        await house.synced()
        pick = next(ordinary(hub))
        [first] = await house.ended(await house.get(pick.ref))
        fetched = sum(entry.storage for entry in hub.log)
        for ref in (pick.ref, f"sha256:{pick.sha256}"):
            [second] = await house.get(ref)
            assert (second.id, second.state, second.path) == (0, "done", first.path)
            assert second.warning is not None
            assert "owned" in second.warning
        assert sum(entry.storage for entry in hub.log) == fetched
        # two names for one content, in one request and before the first has arrived
        a, b = (
            pick_of(document)
            for name in ("reuploaded_a", "reuploaded_b")
            if (document := hub.document(hub.catalog.special(name))) is not None
        )
        assert a.sha256 == b.sha256
        twins = await house.ended(await house.get(a.ref, b.ref))
        assert {job.state for job in twins} == {"done"}
        shown = await house.call("catalog.show", ref=b.model)
        assert shown.owned


HOSTILE: dict[str, str] = {
    "climbs out": "../../../../etc/cron.d/x.safetensors",
    "climbs out on Windows": "..\\..\\windows\\x.safetensors",
    "absolute": "/etc/passwd.safetensors",
    "drive": "C:\\x\\y.safetensors",
    "network share": "\\\\server\\share\\x.safetensors",
    "control characters": "a\x00b\nc\rd\x1b[2Je\x7f.safetensors",
    "direction marks": "a\u202etxt.exe\u200b.safetensors",
    "300 characters": "n" * 300 + ".safetensors",
    "300 wide characters": "名" * 300 + ".safetensors",
    "reserved": "CON.safetensors",
    "reserved too": "nul.safetensors",
    "reserved port": "COM1.safetensors",
    "stream": "x.safetensors:evil.safetensors",
    "trailing dots": "dots.safetensors...",
    "hidden": ".bashrc",
    "option": "-rf.safetensors",
    "home": "~root.safetensors",
    "work folder": ".modelkeep",
    "only dots": "..",
    "empty": "",
    "blank": "   ",
    "Cyrillic": "Панельки дом.safetensors",
    "Korean": "몰루 모델.safetensors",
    "Japanese": "白樺の光 ポイント.safetensors",
    "emoji": "fire 🔥👩‍🚀.safetensors",
    "decomposed": "cafe\u0301.safetensors",
    "composed": "caf\u00e9.safetensors",
    "upper": "SAME.safetensors",
    "lower": "same.safetensors",
}
KEPT = ("Панельки дом", "몰루 모델", "白樺の光 ポイント", "🔥")


async def test_hostile_file_names_end_as_safe_ones_in_the_right_folder(
    tmp_path: Path, fast_time: MockClock
) -> None:
    async with open_hubsim(models=150) as hub:
        picks = ordinary(hub)
        named = {name: next(picks) for name in HOSTILE}
        hub.change({"file_names": {pick.file: HOSTILE[name] for name, pick in named.items()}})
        async with open_house(tmp_path / "home", hub) as house:
            await _get_hostile(tmp_path, house, named)


async def _get_hostile(tmp_path: Path, house: House, named: Mapping[str, Pick]) -> None:
    await house.synced()
    before = _tree(tmp_path, house.models)
    jobs = await house.get(*[pick.ref for pick in named.values()])
    ended = await house.ended(jobs)
    seen: set[str] = set()
    for (label, pick), job in zip(named.items(), ended, strict=True):
        assert (job.state, job.error) == ("done", None), (label, job.error)
        path = Path(str(job.path))
        # one component below the folder of its type
        assert path.parent.parent == house.models, (label, path)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == pick.sha256
        name = path.name
        assert len(os.fsencode(name)) <= 150, label
        assert name.isprintable() or "\u200d" in name, (label, name)
        assert not name.startswith((".", "-", "~")), label
        assert not name.endswith((".", " ")), label
        assert not set(name) & set('<>:"/\\|?*'), label
        assert name.partition(".")[0].upper() not in {"CON", "NUL", "COM1"}, label
        folded = unicodedata.normalize("NFC", name).casefold()
        assert folded not in seen, f"{label}: would replace another on some disks"
        seen.add(folded)
    for word in KEPT:
        assert any(word in job.path for job in ended), word
    assert len(house.files()) == len(ended)
    # nothing of it anywhere else
    assert _tree(tmp_path, house.models) == before
    listed = (await house.call("library.list", limit=1000)).items
    assert {item.path for item in listed} == {job.path for job in ended}
    assert {item.ref for item in listed} == {pick.ref for pick in named.values()}


def _tree(folder: Path, leave_out: Path) -> set[Any]:
    return {
        path
        for path in folder.rglob("*")
        if leave_out not in path.parents and "home" in path.parts and path.parent.name != "search"
    }


async def test_a_missing_root_waits_and_a_folder_that_is_none_is_refused_at_once(
    tmp_path: Path,
    fast_time: MockClock,
) -> None:
    root = tmp_path / "volume"
    async with (
        open_hubsim(models=60) as hub,
        open_house(tmp_path / "home", hub, settings=[f'root = "{root}"']) as house,
    ):
        await house.synced()
        picks = ordinary(hub)
        first = next(picks)
        with pytest.raises(errors.ModelkeepError) as refused:
            await house.call("transfer.get", refs=[first.ref])
        assert refused.value.code == "unavailable"
        assert str(root) in refused.value.message
        assert "mount" in refused.value.hint
        root.write_bytes(b"a file")
        with pytest.raises(errors.ModelkeepError) as refused:
            await house.call("transfer.get", refs=[first.ref])
        assert refused.value.code == "denied"
        root.unlink()
        root.mkdir()
        # away while jobs are queued: they wait, and go on when it is back
        hub.fail("/*/model/*", {"slow": 100_000}, storage=True, times=0)
        jobs = await house.get(first.ref, next(picks).ref, next(picks).ref, next(picks).ref)
        root.rename(tmp_path / "away")
        resting = await house.ended(jobs, RESTING)
        assert {job.state for job in resting} == {"waiting"}, resting
        assert {job.error.code for job in resting if job.error} == {"unavailable"}
        hub.faults.clear()
        (tmp_path / "away").rename(root)
        ended = await house.ended(jobs)
        assert {job.state for job in ended} == {"done"}, [job.error for job in ended]
        assert sorted(p.name for p in root.rglob("*.safetensors")) == sorted(
            Path(str(job.path)).name for job in ended
        )


async def test_a_destination_nobody_can_use_is_refused_before_anything_is_queued(
    tmp_path: Path, fast_time: MockClock
) -> None:
    (tmp_path / "file").touch()
    async with (
        open_hubsim(models=60) as hub,
        open_house(tmp_path / "home", hub) as house,
    ):
        await house.synced()
        ref = next(ordinary(hub)).ref
        for to, code in (
            ("relative", "invalid"),
            ("/tmp/a\x00b", "invalid"),
            ("~nobody-at-all/x", "invalid"),
            (f"{tmp_path}/missing", "unavailable"),
            (f"{tmp_path}/file", "denied"),
            (f"/{'d' * 300}", None),
            ("/" + "d/" * 2000, None),
        ):
            with pytest.raises(errors.ModelkeepError) as refused:
                await house.call("transfer.get", refs=[ref], to=to)
            assert refused.value.code == (code or refused.value.code), (to, refused.value)
            assert refused.value.code != "internal", (to, refused.value)
            assert refused.value.message, to
            assert refused.value.hint, (to, refused.value)
        assert house.rows("SELECT count(*) FROM job") == [(0,)]

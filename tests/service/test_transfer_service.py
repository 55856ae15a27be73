"""The transfer service from queue to library, over real sockets and real files."""

import hashlib
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from modelkeepd.secrets import Secret
from modelkeepd.store import Durability
from modelkeepd.transfer.errors import DestinationOffline, DestinationRefused
from modelkeepd.transfer.ports import SourcePlan, TransferSettings
from tests.fakes.rawserver import Heard, RawServer, Script, Wire, open_rawserver, serving
from tests.fakes.transfers import Bench, open_bench, safetensors, wanted


async def test_a_file_is_fetched_verified_scanned_placed_and_owned(tmp_path: Path) -> None:
    content = safetensors(3_000_000)
    async with open_rawserver(serving(content)) as server, open_bench(tmp_path) as bench:
        with trio.fail_after(20):
            job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert (job.state, job.error_message) == ("done", None)
        assert await bench.states(job.job_id) == [
            "queued", "resolving", "downloading", "verifying", "scanning", "placing", "done",
        ]  # fmt: skip
        assert bench.files() == ["loras/model.safetensors"]
        assert (bench.root / "loras/model.safetensors").read_bytes() == content
        assert (job.verdict, job.verification) == ("safe", "verified")
        owned = await bench.store.read(
            lambda db: bench.service._ports.owned_path(db, hashlib.sha256(content).digest())
        )
        assert owned == job.path


def half_then(content: bytes, rest: Script, *, sent: int) -> Script:
    """The first answer breaks off after ``sent`` bytes; then ``rest`` serves."""
    broken: list[Heard] = []

    async def script(heard: Heard, wire: Wire) -> bool | None:
        if not broken:
            broken.append(heard)
            await wire.head("200 OK", content_length=len(content), etag='"v1"')
            await wire.send(content[:sent])
            return False
        return await rest(heard, wire)

    return script


@asynccontextmanager
async def at_work(
    tmp_path: Path, script: Script, **more: object
) -> AsyncIterator[tuple[RawServer, Bench]]:
    async with (
        open_rawserver(script) as server,
        open_bench(tmp_path, **more) as bench,  # type: ignore[arg-type]
    ):
        with trio.fail_after(20):
            yield server, bench


def files_holding(folder: Path, text: str) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if text.encode() in path.read_bytes()]


def answering(status: str, body: bytes = b"", **headers: object) -> Script:
    async def script(_heard: Heard, wire: Wire) -> bool:
        await wire.head(status, content_length=len(body), **headers)
        await wire.send(body)
        return True

    return script


# Content that is not what was promised ---------------------------------------------------------


async def test_a_broken_connection_is_continued_where_it_broke(tmp_path: Path) -> None:
    content = safetensors(3_000_000)
    script = half_then(content, serving(content), sent=1_500_000)
    async with at_work(tmp_path, script) as (server, bench):
        job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert job.state == "done"
        assert [heard.range for heard in server.heard] == [None, (1_500_000, None)]
        assert server.heard[1].headers["if-range"] == '"v1"'


async def test_content_that_changes_between_the_parts_is_never_blended(tmp_path: Path) -> None:
    old, new = safetensors(3_000_000, 1), safetensors(3_000_000, 2)
    script = half_then(old, serving(new, etag='"v2"'), sent=1_500_000)
    async with at_work(tmp_path, script) as (server, bench):
        job = await bench.get(wanted(None), f"{server.url}/f", server.url)
        assert (job.state, job.verification) == ("done", "unverified")
        assert job.found_sha256 == hashlib.sha256(new).digest()
        assert (bench.root / "loras/model.safetensors").read_bytes() == new


async def test_a_server_that_ignores_ranges_is_read_from_the_start(tmp_path: Path) -> None:
    content = safetensors(3_000_000)
    script = half_then(content, serving(content, ranges=False), sent=1_500_000)
    async with at_work(tmp_path, script) as (server, bench):
        job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert job.state == "done"
        assert len(server.heard) == 2


async def test_a_wrong_hash_is_fetched_once_more_from_zero(tmp_path: Path) -> None:
    content = safetensors(300_000)
    flipped = bytearray(content)
    flipped[200_000] ^= 1
    script = half_then(bytes(flipped), serving(content), sent=300_000)
    async with at_work(tmp_path, script) as (server, bench):
        job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert (job.state, job.repaired, job.verification) == ("done", True, "verified")
        assert [heard.range for heard in server.heard] == [None, None]


async def test_an_always_wrong_hash_fails_loudly_and_leaves_nothing(tmp_path: Path) -> None:
    content, other = safetensors(300_000, 1), safetensors(300_000, 2)
    async with at_work(tmp_path, serving(other)) as (server, bench):
        job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert (job.state, job.error_code) == ("failed", "corrupt")
        for expected in (content, other):
            assert hashlib.sha256(expected).hexdigest() in (job.error_message or "")
        assert len(server.heard) == 2
        assert bench.files() == []


async def test_a_file_without_known_hash_is_kept_as_unverified(tmp_path: Path) -> None:
    content = safetensors(300_000)
    async with at_work(tmp_path, serving(content)) as (server, bench):
        job = await bench.get(wanted(None), f"{server.url}/f", server.url)
        assert (job.state, job.verification) == ("done", "unverified")
        assert job.found_sha256 == hashlib.sha256(content).digest()


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        (answering("401 Unauthorized", b'{"error":"Unauthorized"}'), "denied", "token"),
        (answering("403 Forbidden", b'{"error":"Early Access"}'), "gated", "early access"),
        (answering("404 Not Found", b'{"error":"File not found"}'), "not_found", "unpublished"),
        (answering("410 Gone", b"Model archived"), "not_found", "archived"),
        (answering("451 Unavailable", b"{}"), "unavailable", "law"),
        (
            answering("200 OK", b"<html>log in</html>", content_type="text/html"),
            "corrupt",
            "nothing was saved",
        ),
        (answering("307 Moved", location="http://10.0.0.1/"), "denied", "base_url"),
        (answering("500 Oops"), "unavailable", "trying again"),
        (answering("200 OK", b"short"), "corrupt", "sync"),
    ],
)
async def test_each_refusal_is_a_clear_error_on_the_job(
    tmp_path: Path, script: Script, code: str, words: str
) -> None:
    content = safetensors(300_000)
    async with at_work(tmp_path, script) as (server, bench):
        job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert (job.state, job.error_code) == ("failed", code)
        assert words in (job.error_hint or "")
        # nothing arrived, so nothing keeps the space that was reserved for it
        assert [name for name in bench.files() if name.endswith((".part", ".safetensors"))] == []


async def test_a_body_that_is_always_cut_fails_after_bounded_attempts(tmp_path: Path) -> None:
    content = safetensors(300_000)

    async def script(_heard: Heard, wire: Wire) -> None:
        await wire.head("200 OK", content_length=len(content), etag='"v1"')
        await wire.send(content[:1000])

    async with at_work(tmp_path, script) as (server, bench):
        job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert (job.state, job.error_code) == ("failed", "unavailable")
        assert len(server.heard) <= 9


async def test_429_rests_the_whole_source_and_goes_on_by_itself(tmp_path: Path) -> None:
    content = safetensors(300_000)
    times = [0]

    async def script(heard: Heard, wire: Wire) -> bool | None:
        times[0] += 1
        if times[0] == 1:
            return await answering("429 Slow down", b"unusual", retry_after=0)(heard, wire)
        return await serving(content)(heard, wire)

    async with at_work(tmp_path, script) as (server, bench):
        job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert job.state == "done"
        states = await bench.states(job.job_id)
        assert states[:4] == ["queued", "resolving", "downloading", "waiting"]
        assert states[4:6] == ["queued", "resolving"]


async def test_a_signed_address_that_expired_is_asked_for_again(tmp_path: Path) -> None:
    content = safetensors(300_000)
    stale = answering("403 Forbidden", b"<Code>ExpiredRequest</Code>")
    async with open_rawserver(stale) as storage:
        times = [0]

        async def hub(_heard: Heard, wire: Wire) -> bool:
            times[0] += 1
            if times[0] == 2:
                storage.script = serving(content)
            await wire.head("307 There", location=f"{storage.url}/blob", content_length=0)
            return True

        async with at_work(tmp_path, hub) as (server, bench):
            job = await bench.get(wanted(content), f"{server.url}/f", server.url)
            assert (job.state, times[0]) == ("done", 2)


# The scan's word -------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["quarantine", "ask"])
async def test_what_is_not_proven_safe_is_quarantined(tmp_path: Path, policy: str) -> None:
    content = pickle.dumps({"weights": [1, 2, 3]}, protocol=2)
    settings = TransferSettings(root=None, layout="comfyui", review=policy, reserve_bytes=0)
    async with at_work(tmp_path, serving(content), settings=settings) as (server, bench):
        job = await bench.get(wanted(content, name="m.pt"), f"{server.url}/f", server.url)
        assert job.state == "quarantined"
        assert job.verdict in ("review", "not-scanned")
        assert "transfer.review" in (job.error_hint or "")
    [kept] = bench.files()
    assert kept.startswith(".modelkeep/quarantine/m.pt.")
    assert str(bench.root / kept) == job.path
    assert (bench.root / kept).stat().st_mode & 0o777 == 0o600


async def test_the_users_policy_places_it_with_a_warning(tmp_path: Path) -> None:
    content = pickle.dumps({"weights": [1, 2, 3]}, protocol=2)
    settings = TransferSettings(root=None, layout="comfyui", review="place", reserve_bytes=0)
    async with at_work(tmp_path, serving(content), settings=settings) as (server, bench):
        job = await bench.get(wanted(content, name="m.pt"), f"{server.url}/f", server.url)
        assert (job.state, bench.files()) == ("done", ["loras/m.pt"])
        assert job.verdict != "safe"
        assert job.verdict_reasons is not None


@pytest.mark.parametrize(
    "content", [(9999).to_bytes(8, "little") + b'{"w":' + b"x" * 3000, b"cos\nsystem\n(S'x'\ntR."]
)
async def test_the_broken_and_the_dangerous_are_quarantined_whatever_the_policy(
    tmp_path: Path, content: bytes
) -> None:
    name = "m.safetensors" if content.endswith(b"x") else "m.pt"
    settings = TransferSettings(root=None, layout="comfyui", review="place", reserve_bytes=0)
    async with at_work(tmp_path, serving(content), settings=settings) as (server, bench):
        job = await bench.get(wanted(content, name=name), f"{server.url}/f", server.url)
        assert job.state == "quarantined"
        assert job.verdict in ("malformed", "dangerous")
        assert [name for name in bench.files() if not name.startswith(".")] == []


# Places ----------------------------------------------------------------------------------------


async def test_the_second_get_of_the_same_content_answers_that_it_is_owned(
    tmp_path: Path,
) -> None:
    content = safetensors(300_000)
    async with at_work(tmp_path, serving(content)) as (server, bench):
        first = await bench.get(wanted(content), f"{server.url}/f", server.url)
        [again] = await bench.service.enqueue([wanted(content, ref="civitai:9@9#9")])
        assert (again.job, again.owned_path) == (None, first.path)
        assert len(server.heard) == 1


async def test_the_same_wish_twice_is_one_job(tmp_path: Path) -> None:
    content = safetensors(300_000)
    async with open_bench(tmp_path, run=False) as bench:
        answers = await bench.service.enqueue([wanted(content), wanted(content)])
        answers += await bench.service.enqueue([wanted(content)])
        assert len({answer.job.job_id for answer in answers if answer.job}) == 1


async def test_a_foreign_file_of_that_name_is_never_replaced(tmp_path: Path) -> None:
    content = safetensors(300_000)
    (tmp_path / "models/loras").mkdir(parents=True)
    (tmp_path / "models/loras/MODEL.safetensors").write_bytes(b"theirs")
    async with at_work(tmp_path, serving(content)) as (server, bench):
        job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert bench.files() == ["loras/MODEL.safetensors", "loras/model-2-3.safetensors"]
        assert (bench.root / "loras/MODEL.safetensors").read_bytes() == b"theirs"
        assert job.path == str(bench.root / "loras/model-2-3.safetensors")


async def test_hostile_names_stay_inside_the_folder(tmp_path: Path) -> None:
    stems = ["../../../escape", "C:\\x", "NUL", "\u202ex"]
    names = [f"{stem}.safetensors" for stem in stems]
    contents = {f"civitai:1@{n}#1": safetensors(20_000 + n, n) for n in range(len(names))}

    async def script(heard: Heard, wire: Wire) -> bool | None:
        return await serving(contents[f"civitai:1@{heard.target[1:]}#1"])(heard, wire)

    async with at_work(tmp_path, script) as (server, bench):
        for number, name in enumerate(names):
            ref = f"civitai:1@{number}#1"
            file = wanted(contents[ref], name=name, ref=ref)
            job = await bench.get(file, f"{server.url}/{number}", server.url)
            assert (job.state, job.remote_name) == ("done", name)
        assert bench.files() == [
            "loras/C__x.safetensors",
            "loras/_NUL.safetensors",
            "loras/escape.safetensors",
            "loras/x.safetensors",
        ]


async def test_a_link_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "models/loras").symlink_to(tmp_path / "outside")
    content = safetensors(300_000)
    async with at_work(tmp_path, serving(content)) as (server, bench):
        with pytest.raises(DestinationRefused, match="lies in no library root") as refused:
            await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert f"modelkeep library add {tmp_path / 'outside'}" in refused.value.hint
        assert server.heard == []
        assert list((tmp_path / "outside").iterdir()) == []


async def test_a_link_made_after_the_download_was_queued_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    content = safetensors(300_000)
    async with open_bench(tmp_path, run=False) as bench:
        [answer] = await bench.service.enqueue([wanted(content)])
    assert answer.job is not None
    (tmp_path / "models/loras").symlink_to(tmp_path / "outside")
    async with open_rawserver(serving(content)) as server:
        plans = {answer.job.ref: SourcePlan(server.url, server.url)}
        async with open_bench(tmp_path, plans=plans) as bench:
            with trio.fail_after(20):
                job = await bench.ended(answer.job.job_id)
    assert (job.state, job.error_code) == ("failed", "denied")
    assert "is a link" in (job.error_message or "")
    assert list((tmp_path / "outside").iterdir()) == []


async def test_a_folder_swapped_for_a_link_during_the_download_is_refused(tmp_path: Path) -> None:
    content = safetensors(300_000)
    (tmp_path / "outside").mkdir()

    async def script(heard: Heard, wire: Wire) -> bool | None:
        (tmp_path / "models/loras").rmdir()
        (tmp_path / "models/loras").symlink_to(tmp_path / "outside")
        return await serving(content)(heard, wire)

    async with at_work(tmp_path, script) as (server, bench):
        job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert (job.state, job.error_code) == ("failed", "denied")
        assert list((tmp_path / "outside").iterdir()) == []


async def test_a_part_file_removed_under_us_is_noticed_before_it_is_published(
    tmp_path: Path,
) -> None:
    content = safetensors(300_000)
    times = [0]

    async def script(heard: Heard, wire: Wire) -> bool | None:
        times[0] += 1
        if times[0] == 1:
            for part in (tmp_path / "models/.modelkeep/parts").iterdir():
                part.unlink()
        return await serving(content)(heard, wire)

    async with at_work(tmp_path, script) as (server, bench):
        job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert (job.state, times[0]) == ("done", 2)
        assert "waiting" in await bench.states(job.job_id)


async def test_a_missing_destination_is_said_at_once(tmp_path: Path) -> None:
    async with open_bench(tmp_path, run=False) as bench:
        with pytest.raises(DestinationOffline, match="is not there"):
            await bench.service.enqueue([wanted(b"x", to=tmp_path / "nowhere")])


async def test_a_destination_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    content = safetensors(300_000)
    async with open_rawserver(serving(content)) as server:
        async with open_bench(tmp_path, run=False) as bench:
            bench.plans["civitai:1@2#3"] = SourcePlan(f"{server.url}/f", server.url)
            [answer] = await bench.service.enqueue([wanted(content)])
            assert answer.job is not None
            (tmp_path / "models").rename(tmp_path / "unmounted")
            plans = bench.plans
        async with open_bench(tmp_path, plans=plans, make_root=False) as bench:
            with trio.fail_after(20):
                job = await bench.reached(answer.job.job_id, lambda job: job.state == "waiting")
                assert job.wait_for == "destination"
                (tmp_path / "unmounted").rename(tmp_path / "models")
                job = await bench.ended(job.job_id)
            assert job.state == "done"


async def test_a_full_disk_waits_says_how_much_and_resumes_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = safetensors(300_000)
    free = [100_000]
    monkeypatch.setattr("modelkeepd.transfer.part.free_bytes", lambda _fd: free[0])
    async with at_work(tmp_path, serving(content)) as (server, bench):
        bench.plans["civitai:1@2#3"] = SourcePlan(f"{server.url}/f", server.url)
        [answer] = await bench.service.enqueue([wanted(content)])
        assert answer.job is not None
        job = await bench.reached(answer.job.job_id, lambda job: job.state == "waiting")
        assert (job.wait_for, job.error_code, job.needed_bytes) == ("space", "no_space", 300_000)
        assert "200000 bytes short" in (job.error_message or "")
        assert server.heard == []
        free[0] = 10**9
        assert (await bench.ended(job.job_id)).state == "done"


# Commands --------------------------------------------------------------------------------------


def stuck_after(content: bytes, sent: int, reached: trio.Event) -> Script:
    async def script(_heard: Heard, wire: Wire) -> None:
        await wire.head("200 OK", content_length=len(content), etag='"v1"')
        await wire.send(content[:sent])
        reached.set()
        await wire.silence()

    return script


async def test_pause_stops_the_bytes_and_resume_continues_them(tmp_path: Path) -> None:
    content = safetensors(3_000_000)
    reached = trio.Event()
    async with at_work(tmp_path, stuck_after(content, 1_500_000, reached)) as (server, bench):
        bench.plans["civitai:1@2#3"] = SourcePlan(f"{server.url}/f", server.url)
        [answer] = await bench.service.enqueue([wanted(content)])
        assert answer.job is not None
        await reached.wait()
        job_id = answer.job.job_id
        [outcome] = await bench.service.pause([job_id])
        assert (outcome.changed, outcome.job.state) == (True, "paused")
        [again] = await bench.service.pause([job_id])
        assert not again.changed
        server.script = serving(content)
        await bench.service.resume([job_id])
        assert (await bench.ended(job_id)).state == "done"
        continued = server.heard[1].range
        assert continued is not None
        assert 0 < continued[0] <= 1_500_000


async def test_cancel_removes_what_was_fetched(tmp_path: Path) -> None:
    content = safetensors(3_000_000)
    reached = trio.Event()
    async with at_work(tmp_path, stuck_after(content, 1_500_000, reached)) as (server, bench):
        bench.plans["civitai:1@2#3"] = SourcePlan(f"{server.url}/f", server.url)
        [answer] = await bench.service.enqueue([wanted(content)])
        assert answer.job is not None
        await reached.wait()
        assert bench.files() != []
        [outcome] = await bench.service.cancel([answer.job.job_id])
        assert (outcome.job.state, bench.files()) == ("canceled", [])
        server.script = serving(content)
        await bench.service.retry([answer.job.job_id])
        assert (await bench.ended(answer.job.job_id)).state == "done"


async def test_progress_shows_bytes_of_a_running_job_only(tmp_path: Path) -> None:
    content = safetensors(3_000_000)
    reached = trio.Event()
    async with at_work(tmp_path, stuck_after(content, 1_500_000, reached)) as (server, bench):
        bench.plans["civitai:1@2#3"] = SourcePlan(f"{server.url}/f", server.url)
        [answer] = await bench.service.enqueue([wanted(content)])
        assert answer.job is not None
        await reached.wait()
        now = bench.service.progress(answer.job.job_id)
        assert now is not None
        assert (now.total_bytes, now.bytes_done <= 1_500_000) == (3_000_000, True)
        await bench.service.cancel([answer.job.job_id])
        assert bench.service.progress(answer.job.job_id) is None


async def test_one_bad_file_never_stops_the_rest(tmp_path: Path) -> None:
    contents = {f"/{n}": safetensors(20_000 + n, n) for n in range(8)}

    async def script(heard: Heard, wire: Wire) -> bool | None:
        if heard.target in ("/2", "/5"):
            return await answering("404 Not Found")(heard, wire)
        return await serving(contents[heard.target])(heard, wire)

    async with at_work(tmp_path, script) as (server, bench):
        files = []
        for n in range(8):
            ref = f"civitai:1@{n}#1"
            bench.plans[ref] = SourcePlan(f"{server.url}/{n}", server.url)
            files.append(wanted(contents[f"/{n}"], name=f"{n}.safetensors", ref=ref))
        answers = await bench.service.enqueue(files)
        ends = [await bench.ended(a.job.job_id) for a in answers if a.job is not None]
        assert [job.state for job in ends].count("done") == 6
        assert await bench.service.counts() == {"done": 6, "failed": 2}


async def test_the_token_is_in_no_row_event_or_file(tmp_path: Path) -> None:
    canary = "CANARY-8d1f2"
    async with open_rawserver(answering("403 No", b"denied")) as storage:
        script = answering("307 There", location=f"{storage.url}/blob?sig={canary}")
        async with at_work(tmp_path, script) as (server, bench):
            plan = SourcePlan(f"{server.url}/f", server.url, token=Secret(canary))
            job = await bench.get(wanted(safetensors(20_000)), plan)
            assert job.state == "failed"
            assert canary in server.heard[0].headers["authorization"]
            assert all("authorization" not in heard.headers for heard in storage.heard)
            assert canary not in repr(job) + repr(plan)
    assert files_holding(tmp_path, canary) == []


@pytest.mark.parametrize(("age_days", "state"), [(31, "canceled"), (29, "failed")])
async def test_the_bytes_of_a_failed_job_are_kept_for_a_month(
    tmp_path: Path, age_days: int, state: str
) -> None:
    content = safetensors(3_000_000)
    script = half_then(content, answering("404 Not Found"), sent=1_500_000)
    async with at_work(tmp_path, script) as (server, bench):
        failed = await bench.get(wanted(content), f"{server.url}/f", server.url)
        assert (failed.state, failed.has_part) == ("failed", True)
        back_ms = age_days * 86_400_000
        await bench.store.apply(
            lambda tx: tx.db.execute("UPDATE job SET finished_ms = finished_ms - ?", (back_ms,)),
            durability=Durability.FULL,
            name="test",
        )
    async with at_work(tmp_path, script) as (_, bench):
        job = await bench.reached(failed.job_id, lambda job: job.state == state)
        # the pass at the start is over when what was asked after it is
        await bench.service.move([failed.job_id], priority=1)
        while state == "canceled" and job.has_part:
            [job] = await bench.service.get([failed.job_id])
        assert (bench.files() == []) == (state == "canceled")

"""Linked type folders: followed into library roots, at planning only, and nowhere else (D2)."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

import apsw
import pytest
import trio

from modelkeepd.store import Store
from modelkeepd.transfer.errors import DestinationOffline, DestinationRefused
from modelkeepd.transfer.links import real_place
from modelkeepd.transfer.ports import Ports, SourcePlan
from tests.fakes.rawserver import Heard, RawServer, Script, Wire, open_rawserver, serving
from tests.fakes.transfers import Bench, open_bench, safetensors, wanted

LORAS = PurePosixPath("loras")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "disk/loras/anime").mkdir(parents=True)
    return tmp_path / "models"


def test_a_folder_without_links_is_its_own_place(root: Path) -> None:
    assert real_place(root, LORAS, []) == (root, LORAS)
    (root / "loras").mkdir()
    assert real_place(root, LORAS / "x", []) == (root, LORAS / "x")
    assert real_place(root, PurePosixPath(), []) == (root, PurePosixPath())


def test_a_link_into_a_library_root_is_followed_to_the_real_folder(
    root: Path, tmp_path: Path
) -> None:
    (root / "loras").symlink_to(tmp_path / "disk/loras")
    outer, inner = tmp_path / "disk", tmp_path / "disk/loras"
    assert real_place(root, LORAS / "x", [outer]) == (outer, LORAS / "x")
    # the nearest root: its volume, its hidden work folder
    assert real_place(root, LORAS / "x", [outer, inner]) == (inner, PurePosixPath("x"))
    assert real_place(root, LORAS, [inner]) == (inner, PurePosixPath())


def test_links_in_a_row_and_links_that_stay_inside_are_followed(root: Path, tmp_path: Path) -> None:
    (root / "loras").symlink_to("Lora")
    (root / "Lora").symlink_to(tmp_path / "disk/loras")
    (tmp_path / "disk/loras/xl").symlink_to("anime")
    disk = tmp_path / "disk"
    assert real_place(root, LORAS / "xl/y", [disk]) == (disk, PurePosixPath("loras/anime/y"))
    (root / "vae").mkdir()
    (root / "VAE").symlink_to("vae")
    assert real_place(root, PurePosixPath("VAE"), []) == (root, PurePosixPath("vae"))


@pytest.mark.parametrize("target", ["disk/loras", "/etc", "..", "disk-2"])
def test_a_link_that_leads_anywhere_else_is_refused(
    root: Path, tmp_path: Path, target: str
) -> None:
    (tmp_path / "disk-2").mkdir()
    (root / "loras").symlink_to(tmp_path / target)
    with pytest.raises(DestinationRefused, match="lies in no library root") as refused:
        # a root whose name only begins alike is another folder
        real_place(root, LORAS, [tmp_path / "disk-", tmp_path / "disk/loras/anime"])
    assert f"modelkeep library add {os.path.realpath(tmp_path / target)}" in refused.value.hint


def test_a_link_to_what_is_not_there_is_offline(root: Path, tmp_path: Path) -> None:
    (root / "loras").symlink_to(tmp_path / "disk/away")
    with pytest.raises(DestinationOffline, match="is not there"):
        real_place(root, LORAS, [tmp_path / "disk"])


def test_links_in_a_circle_are_refused(root: Path) -> None:
    (root / "loras").symlink_to("other")
    (root / "other").symlink_to("loras")
    with pytest.raises((DestinationRefused, DestinationOffline)):
        real_place(root, LORAS, [])


# Whole downloads --------------------------------------------------------------------------------


@asynccontextmanager
async def linked(
    tmp_path: Path, script: Script, roots: Sequence[Path]
) -> AsyncIterator[tuple[RawServer, Bench]]:
    """``models/loras`` is a link to ``disk/loras``; ``roots`` are the library's."""

    def change_ports(_store: Store, ports: Ports) -> Ports:
        def read(_db: apsw.Connection) -> list[str]:
            return [str(root) for root in roots]

        return replace(ports, roots=read)

    (tmp_path / "models/loras").symlink_to(tmp_path / "disk/loras")
    async with (
        open_rawserver(script) as server,
        open_bench(tmp_path, change_ports=change_ports) as bench,
    ):
        with trio.fail_after(20):
            yield server, bench


async def test_a_download_goes_to_the_real_folder_and_is_known_by_it(
    root: Path, tmp_path: Path
) -> None:
    content = safetensors(300_000)
    disk = tmp_path / "disk"
    async with linked(tmp_path, serving(content), [disk]) as (server, bench):
        job = await bench.get(wanted(content), f"{server.url}/f", server.url)
        rows = await bench.store.read(
            lambda db: db.execute("SELECT path FROM library_file").fetchall()
        )
    assert job.state == "done"
    assert job.path == str(disk / "loras/model.safetensors")
    assert rows == [(job.path,)]
    assert (root / "loras/model.safetensors").read_bytes() == content
    # parts were on that disk: a rename does not cross volumes
    assert (disk / ".modelkeep/parts").is_dir()
    assert not (root / ".modelkeep").exists()


@pytest.mark.parametrize("swap", ["the link", "the target", "a link for the target"])
async def test_what_is_swapped_during_the_download_leads_nowhere(
    root: Path, tmp_path: Path, swap: str
) -> None:
    content = safetensors(300_000)
    disk, elsewhere = tmp_path / "disk", tmp_path / "elsewhere"
    elsewhere.mkdir()

    async def script(heard: Heard, wire: Wire) -> bool | None:
        if swap == "the link":
            (root / "loras").unlink()
            (root / "loras").symlink_to(elsewhere)
        else:
            (disk / "loras").rename(disk / "was")
            if swap == "the target":
                (disk / "loras").mkdir()
            else:
                (disk / "loras").symlink_to(elsewhere)
        return await serving(content)(heard, wire)

    async with linked(tmp_path, script, [disk]) as (server, bench):
        job = await bench.get(wanted(content), f"{server.url}/f", server.url)
    assert list(elsewhere.iterdir()) == []
    if swap == "the link":
        # where it goes was settled when it was planned
        assert (job.state, job.path) == ("done", str(disk / "loras/model.safetensors"))
    else:
        assert (job.state, job.error_code) == ("failed", "denied")
        assert "replaced" in (job.error_message or "") or "is a link" in (job.error_message or "")
        assert list((disk / "loras").iterdir()) == []


async def test_a_folder_a_person_names_is_known_by_its_real_path(
    root: Path, tmp_path: Path
) -> None:
    content = safetensors(300_000)
    async with linked(tmp_path, serving(content), []) as (server, bench):
        plan = SourcePlan(f"{server.url}/f", server.url)
        job = await bench.get(wanted(content, to=root / "loras"), plan)
    assert (job.state, job.path) == ("done", str(tmp_path / "disk/loras/model.safetensors"))

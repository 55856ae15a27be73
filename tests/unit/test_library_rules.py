"""The library's pure rules: folders by layout, paths as text, names, settling, identity, roots."""

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.library import names
from modelkeepd.library.differences import Added, Changed, Moved, Touched
from modelkeepd.library.fingerprint import Stamp
from modelkeepd.library.layout import canonical_layout, detect_layout, folder_for
from modelkeepd.library.paths import below, from_text, inside, signed, to_text
from modelkeepd.library.resolve import Known, Place, Sighting, resolve
from modelkeepd.library.roots import Root, Sight, recognize
from modelkeepd.library.settle import (
    CLOSED_QUIET_S,
    GONE_GRACE_S,
    LONGEST_WAIT_S,
    Look,
    Ready,
    Settler,
)

HUB_TYPES = (
    *("Checkpoint", "TextualInversion", "Hypernetwork", "AestheticGradient", "LORA", "LoCon"),
    *("DoRA", "Controlnet", "Upscaler", "MotionModule", "VAE", "TextEncoder", "UNet", "Poses"),
    *("CLIPVision", "Wildcards", "Workflows", "ComfyWorkflows", "Detection", "VisionLanguage"),
    *("CLIP", "LLM", "Other"),
)


# -- layouts


@pytest.mark.parametrize(
    ("layout", "model_type", "kind", "folder"),
    [
        ("comfyui", "Checkpoint", "Model", "checkpoints"),
        ("comfyui", "Checkpoint", "Pruned Model", "checkpoints"),
        ("comfyui", "Checkpoint", "VAE", "vae"),
        ("comfyui", "Checkpoint", "Text Encoder", "text_encoders"),
        ("comfyui", "Checkpoint", "Diffusion Model", "diffusion_models"),
        ("comfyui", "Checkpoint", "Negative", "embeddings"),
        ("comfyui", "Checkpoint", "Config", "checkpoints"),
        ("comfyui", "LORA", "Model", "loras"),
        ("comfyui", "LoCon", "Model", "loras"),
        ("comfyui", "lora", "model", "loras"),
        ("comfyui", "Something New", "Model", "other"),
        ("a1111", "Checkpoint", "Model", "Stable-diffusion"),
        ("a1111", "LoCon", "Model", "LyCORIS"),
        ("a1111", "Upscaler", "Model", "ESRGAN"),
        ("forge", "Checkpoint", "VAE", "VAE"),
        ("Forge", "TextualInversion", "Model", "embeddings"),
        ("flat", "LORA", "Model", "."),
        ("a layout of tomorrow", "LORA", "Model", "."),
    ],
)
def test_a_file_goes_where_its_program_looks(
    layout: str, model_type: str, kind: str, folder: str
) -> None:
    assert folder_for(layout, model_type, kind, "SDXL 1.0") == PurePosixPath(folder)


@pytest.mark.parametrize("layout", ["comfyui", "a1111", "flat"])
@pytest.mark.parametrize("model_type", HUB_TYPES)
def test_every_type_of_the_hub_has_a_relative_folder(layout: str, model_type: str) -> None:
    folder = folder_for(layout, model_type, "Model", None)
    assert not folder.is_absolute()
    assert ".." not in folder.parts


@pytest.mark.parametrize(
    ("found", "layout"),
    [
        (["checkpoints", "loras", "vae"], "comfyui"),
        (["Checkpoints", "LORAS"], "comfyui"),
        (["Stable-diffusion", "Lora", "VAE", "ESRGAN"], "a1111"),
        (["vae", "embeddings"], "flat"),
        ([], "flat"),
        (["loras", "Lora"], "flat"),
    ],
)
def test_a_layout_is_recognized_by_names_only_it_uses(found: list[str], layout: str) -> None:
    assert detect_layout(found) == layout


def test_layouts_have_the_names_people_use() -> None:
    assert [canonical_layout(name) for name in ("Forge", "A1111", " comfy ", "nothing")] == [
        *("a1111", "a1111", "comfyui", None)
    ]


# -- paths


@settings(max_examples=300)
@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda b: b"\0" not in b), max_size=3))
def test_every_file_name_has_a_text_and_the_text_gives_it_back(raw: list[bytes]) -> None:
    paths = [os.fsdecode(b"/" + name) for name in raw]
    texts = [to_text(path) for path in paths]
    for path, text in zip(paths, texts, strict=True):
        text.encode()  # storable
        assert from_text(text) == path
    assert len(set(texts)) == len(set(paths))


def test_names_that_use_our_escape_characters_are_kept_apart() -> None:
    raw = os.fsdecode(b"/\xff")
    taken = "/\U0010ffff"
    assert to_text(raw) == taken
    assert to_text(taken) != taken
    assert from_text(to_text(taken)) == taken


@given(st.integers(0, (1 << 64) - 1))
def test_inodes_fit_into_the_database(number: int) -> None:
    assert -(1 << 63) <= signed(number) < 1 << 63
    assert signed(number) % (1 << 64) == number


def test_below_is_what_inside_says() -> None:
    low, high = below("/a/b")
    for path in ("/a/b/c", "/a/b/\U0010ffff", "/a/b", "/a/b0", "/a/bc/d", "/a/b.x"):
        assert (low <= path < high) == inside("/a/b", path), path
    assert inside("/", "/x")


def test_unfinished_and_foreign_names_are_not_models() -> None:
    for name in ("a.safetensors", "A.SAFETENSORS", "a.v1.0.ckpt", "ünï.gguf"):
        assert names.is_model(name), name
    for name in (
        "a.png",
        "a",
        ".a.ckpt",
        "a.safetensors.part",
        "a.ckpt.crdownload",
        "put_models_here",
    ):
        assert not names.is_model(name), name
    assert names.skipped_on_the_way("/r", "/r/.cache/x.ckpt")
    assert names.skipped_on_the_way("/r", "/r/a/node_modules/b/x.ckpt")
    assert not names.skipped_on_the_way("/.r", "/.r/a/x.ckpt")


# -- settling


def test_a_growing_file_waits_longer_and_longer_and_is_not_ready() -> None:
    settler = Settler(2.0)
    settler.note("/x", 0.0)
    now, waits = 0.0, []
    for size in range(30):
        assert settler.due(now) == ["/x"]
        assert settler.looked("/x", Look(size, size, 0.0), now) is Ready.LATER
        due = settler.next_due()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT_S
    settler.due(now)
    settler.looked("/x", Look(99, 99, 0.0), now)
    settler.due(now + 60)
    assert settler.looked("/x", Look(99, 99, 0.0), now + 60) is Ready.NOW
    assert len(settler) == 0


def test_a_closed_file_is_ready_a_moment_later() -> None:
    settler = Settler(60.0)
    settler.note("/x", 0.0)
    settler.due(0.0)
    assert settler.looked("/x", Look(1, 1, 0.0), 0.0) is Ready.LATER
    settler.note("/x", 5.0, closed=True)
    assert settler.due(5.0) == ["/x"]
    assert settler.looked("/x", Look(9, 9, 0.0), 5.0) is Ready.LATER
    due = settler.next_due()
    assert due == pytest.approx(5.0 + CLOSED_QUIET_S)
    assert settler.due(due) == ["/x"]
    assert settler.looked("/x", Look(9, 9, 0.0), due) is Ready.NOW


def test_a_close_that_comes_while_it_is_looked_at_counts_from_the_next_look() -> None:
    settler = Settler(60.0)
    settler.note("/x", 0.0)
    assert settler.due(0.0) == ["/x"]
    settler.note("/x", 0.01, closed=True)
    assert settler.looked("/x", Look(1, 1, 0.0), 0.02) is Ready.LATER  # seen before the close
    assert settler.due(0.02) == ["/x"]
    settler.looked("/x", Look(9, 9, 0.0), 0.03)
    assert settler.due(0.3) == ["/x"]
    assert settler.looked("/x", Look(9, 9, 0.0), 0.3) is Ready.NOW


def test_a_file_opened_again_after_its_close_has_to_be_quiet_in_full() -> None:
    settler = Settler(10.0)
    settler.note("/x", 0.0, closed=True)
    settler.due(0.0)
    settler.looked("/x", Look(1, 1, 0.0), 0.0)
    settler.due(1.0)
    assert settler.looked("/x", Look(2, 2, 0.0), 1.0) is Ready.LATER
    due = settler.next_due()
    assert due is not None
    assert due >= 11.0


def test_a_file_at_rest_is_ready_at_once() -> None:
    settler = Settler(2.0)
    settler.note("/x", 0.0)
    settler.due(0.0)
    assert settler.looked("/x", Look(1, 1, 3600.0), 0.0) is Ready.NOW


def test_a_time_in_the_future_proves_nothing() -> None:
    settler = Settler(2.0)
    settler.note("/x", 0.0)
    settler.due(0.0)
    assert settler.looked("/x", Look(1, 1, -3600.0), 0.0) is Ready.LATER
    settler.due(2.0)
    assert settler.looked("/x", Look(1, 1, -3598.0), 2.0) is Ready.NOW


def test_a_vanished_path_waits_for_its_new_name() -> None:
    settler = Settler(2.0)
    settler.note("/x", 0.0)
    settler.due(0.0)
    assert settler.looked("/x", None, 0.0) is Ready.LATER
    settler.note("/x", 0.1)
    due = settler.next_due()
    assert due == GONE_GRACE_S
    assert settler.due(0.5) == []
    settler.due(due)
    assert settler.looked("/x", None, due) is Ready.NOW


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 5), st.booleans()), max_size=40))
def test_whatever_is_noted_becomes_due_and_ends(steps: list[tuple[int, float, bool]]) -> None:
    settler = Settler(1.0)
    now = 0.0
    for path, wait, closed in steps:
        now += wait
        settler.note(str(path), now, closed=closed)
        for due in settler.due(now):
            settler.looked(due, Look(1, 1, 0.0), now)
    for _ in range(20):
        upcoming = settler.next_due()
        if upcoming is None:
            break
        now = max(now, upcoming)
        for due in settler.due(now):
            settler.looked(due, Look(1, 1, 0.0), now)
    assert len(settler) == 0


# -- identity


def stamp(size: int = 10, mtime: int = 5, inode: int = 1, device: int = 1) -> Stamp:
    return Stamp(size, mtime, inode, device)


def known(file_id: int, path: str, at: Stamp, fingerprint: bytes = b"f", **more: bool) -> Known:
    return Known(
        *(file_id, 1, path, at, fingerprint, more.get("present", True), more.get("hashed", True))
    )


def decide(seen: Sighting, *rows: Known, disk: "dict[str, Place] | None" = None) -> object:
    differences = resolve([seen], {row.file_id: row for row in rows}, (disk or {}).get)
    assert len(differences) <= 1
    return differences[0] if differences else None


def test_the_same_file_under_another_name_is_moved() -> None:
    seen = Sighting(1, "/b", stamp(), b"f", None)
    moved = decide(seen, known(7, "/a", stamp()))
    assert moved == Moved(7, "/a", 1, "/b", stamp())


def test_a_missing_file_that_returns_is_the_same_file() -> None:
    seen = Sighting(1, "/b", stamp(inode=99), b"f", None)
    assert decide(seen, known(7, "/a", stamp(), present=False)) == Moved(
        *(7, "/a", 1, "/b", stamp(inode=99))
    )


def test_a_hard_link_is_another_file_with_a_known_content() -> None:
    seen = Sighting(1, "/b", stamp(), b"f", None)
    added = decide(seen, known(7, "/a", stamp()), disk={"/a": Place(stamp(), 2)})
    assert added == Added(1, "/b", stamp(), b"f", same_as=7)


def test_another_spelling_of_one_name_is_a_move() -> None:
    """On a disk that ignores case the old name still answers."""
    seen = Sighting(1, "/Model", stamp(), b"f", None)
    moved = decide(seen, known(7, "/model", stamp()), disk={"/model": Place(stamp(), 1)})
    assert isinstance(moved, Moved)


def test_a_copy_beside_its_original_is_new() -> None:
    seen = Sighting(1, "/b", stamp(inode=2), b"f", None)
    added = decide(seen, known(7, "/a", stamp()), disk={"/a": Place(stamp(), 1)})
    assert added == Added(1, "/b", stamp(inode=2), b"f")


def test_a_move_to_another_file_system_is_told_by_time_and_content() -> None:
    seen = Sighting(1, "/b", stamp(inode=50, device=9), b"f", None)
    assert isinstance(decide(seen, known(7, "/a", stamp())), Moved)
    other_time = Sighting(1, "/b", stamp(inode=50, device=9, mtime=6), b"f", None)
    assert isinstance(decide(other_time, known(7, "/a", stamp())), Added)


def test_a_reused_inode_is_not_the_same_file() -> None:
    seen = Sighting(1, "/b", stamp(), b"other", None)
    assert isinstance(decide(seen, known(7, "/a", stamp())), Added)


def test_a_known_path_with_other_content_has_changed() -> None:
    row = known(7, "/a", stamp())
    seen = Sighting(1, "/a", stamp(size=11, mtime=9), b"g", row)
    assert decide(seen, row) == Changed(7, "/a", stamp(), stamp(size=11, mtime=9), b"g")


def test_a_touched_file_is_hashed_again_but_keeps_its_name_till_then() -> None:
    row = known(7, "/a", stamp())
    touched = decide(Sighting(1, "/a", stamp(mtime=9), b"f", row), row)
    assert touched == Touched(7, "/a", stamp(), stamp(mtime=9), rehash=True)
    restored = decide(Sighting(1, "/a", stamp(inode=9), b"f", row), row)
    assert restored == Touched(7, "/a", stamp(), stamp(inode=9), rehash=False)


def test_a_new_device_number_alone_is_only_noted() -> None:
    row = known(7, "/a", stamp())
    seen = Sighting(1, "/a", stamp(device=2), b"f", row)
    assert decide(seen, row) == Touched(7, "/a", stamp(), stamp(device=2), rehash=False)
    assert decide(Sighting(1, "/a", stamp(), b"f", row), row) is None


def test_two_names_that_were_swapped_are_two_moves() -> None:
    one, two = known(1, "/a", stamp(inode=1)), known(2, "/b", stamp(inode=2), b"g")
    differences = resolve(
        [
            Sighting(1, "/a", stamp(inode=2), b"g", one),
            Sighting(1, "/b", stamp(inode=1), b"f", two),
        ],
        {1: one, 2: two},
        {"/a": Place(stamp(inode=2), 1), "/b": Place(stamp(inode=1), 1)}.get,
    )
    assert differences == [
        Moved(2, "/b", 1, "/a", stamp(inode=2)),
        Moved(1, "/a", 1, "/b", stamp(inode=1)),
    ]


def test_one_row_is_never_claimed_by_two_files() -> None:
    row = known(7, "/a", stamp(), present=False)
    sightings = [Sighting(1, f"/{name}", stamp(inode=n), b"f", None) for n, name in enumerate("xy")]
    moved, added = resolve(sightings, {7: row}, lambda _: None)
    assert isinstance(moved, Moved)
    assert isinstance(added, Added)


# -- roots


@pytest.mark.parametrize(
    ("seen", "holds", "has_files", "sight"),
    [
        (None, False, True, Sight.AWAY),
        ((1, 2), False, True, Sight.SAME),
        ((1, 3), True, True, Sight.REPLACED),
        ((1, 3), False, True, Sight.FOREIGN),
        ((1, 3), False, False, Sight.REPLACED),
    ],
)
def test_an_empty_folder_in_a_roots_place_is_not_the_root(
    seen: "tuple[int, int] | None", holds: bool, has_files: bool, sight: Sight
) -> None:
    root = Root(1, "/r", "flat", "user", True, False, 1, 2, has_files)
    assert recognize(root, seen, holds) is sight

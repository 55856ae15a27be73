"""Names of repositories' folders and of the files in them (D1)."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.transfer.names import MAX_NAME_BYTES
from modelkeepd.transfer.places import folder_name, path_in_folder
from tests.unit.test_transfer_names import assert_harmless


@pytest.mark.parametrize(
    ("repository", "folder"),
    [
        ("stabilityai/sdxl-turbo", "stabilityai--sdxl-turbo"),
        ("gpt2", "gpt2"),
        ("Org/Name.v1_0", "Org--Name.v1_0"),
    ],
)
def test_an_ordinary_repository_keeps_its_name(repository: str, folder: str) -> None:
    assert folder_name(repository) == folder


REPOSITORY = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9._-]{1,96}", fullmatch=True)


@settings(max_examples=200)
@given(REPOSITORY, REPOSITORY)
def test_two_repositories_never_share_a_folder(one: str, other: str) -> None:
    for repository in (one, other):
        name = folder_name(repository)
        assert len(name.encode()) <= MAX_NAME_BYTES
        assert_harmless(name)
    # the hub's names never hold two dashes in a row, which is what joins the parts
    if one != other and "--" not in one + other:
        assert folder_name(one) != folder_name(other)


def test_shortened_and_cleaned_names_bear_a_mark() -> None:
    long = "o" * 96 + "/" + "n" * 95
    names = {folder_name(long + last) for last in "abc"} | {folder_name("org/name."), "org--name"}
    assert len(names) == 5


@settings(max_examples=200)
@given(st.text(max_size=400))
def test_a_path_never_leaves_its_folder(path: str) -> None:
    for component in (parts := path_in_folder(path).split("/")):
        assert_harmless(component)
    assert len(parts) <= 12


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("unet/config.json", "unet/config.json"),
        ("../../etc/passwd", "model/model/etc/passwd"),
        ("/etc/passwd", "model/etc/passwd"),
        ("a\\..\\b", "a_b"),
        (".git/config", "git/config"),
        ("x/" * 30 + "f.json", "x/" * 10 + "_".join("x" * 20) + "/f.json"),
    ],
)
def test_paths_become_safe_component_by_component(path: str, inside: str) -> None:
    assert path_in_folder(path) == inside
    assert unicodedata.is_normalized("NFC", path_in_folder(path))

"""Tokens: where they come from, and that they show themselves nowhere."""

import copy
import json
import os
import pickle
from pathlib import Path

import msgspec
import pytest

from modelkeepd.secrets import (
    MAX_SECRET_BYTES,
    BadSecret,
    Secret,
    SecretFileTooOpen,
    load_token,
)

CANARY = "canary-7f3a91c0de"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.delenv("MODELKEEP_CIVITAI_TOKEN", raising=False)


def token_file(folder: Path, text: str | bytes = CANARY, mode: int = 0o600) -> Path:
    path = folder / "civitai.token"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def loaded(folder: Path) -> str | None:
    secret = load_token("civitai", folder)
    return None if secret is None else secret.reveal()


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret(CANARY)
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>30}",
        f"{secret:>30}",
        f"{[secret]}",
    ]
    assert not any(CANARY in text for text in shown)
    assert secret.reveal() == CANARY
    assert not hasattr(secret, "__dict__")


def test_a_secret_is_not_written_anywhere() -> None:
    secret = Secret(CANARY)
    for write in (pickle.dumps, json.dumps, msgspec.json.encode, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            write(secret)


def test_without_any_source_there_is_none(tmp_path: Path) -> None:
    assert loaded(tmp_path) is None
    assert loaded(tmp_path / "missing") is None


def test_credentials_come_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_file(tmp_path, "from-file\n")
    assert loaded(tmp_path) == "from-file"
    monkeypatch.setenv("MODELKEEP_CIVITAI_TOKEN", "from-environment")
    assert loaded(tmp_path) == "from-environment"
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert loaded(tmp_path) == "from-environment", "an empty folder means there are none"
    (credentials / "civitai-token").write_text("from-credentials")
    assert loaded(tmp_path) == "from-credentials"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o660])
def test_a_file_others_can_read_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, mode: int
) -> None:
    path = token_file(tmp_path, mode=mode)
    with pytest.raises(SecretFileTooOpen, match=f"chmod 600 {path}") as caught:
        load_token("civitai", tmp_path)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "two words",
        "two\nlines",
        "header\r\nX-Evil: 1",
        "nul\0",
        "パスワード",
        b"\xff\xfe",
        "x" * (MAX_SECRET_BYTES + 1),
    ],
)
def test_what_could_not_stand_in_a_header_is_no_token(tmp_path: Path, content: str | bytes) -> None:
    token_file(tmp_path, content)
    with pytest.raises(BadSecret, match="holds no token"):
        load_token("civitai", tmp_path)


def test_an_error_tells_where_and_not_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELKEEP_CIVITAI_TOKEN", f"{CANARY} {CANARY}")
    with pytest.raises(BadSecret, match="MODELKEEP_CIVITAI_TOKEN") as caught:
        load_token("civitai", tmp_path)
    assert CANARY not in str(caught.value)


def test_an_empty_file_holds_none(tmp_path: Path) -> None:
    token_file(tmp_path, " \n")
    assert loaded(tmp_path) is None


def test_a_pipe_or_a_folder_in_its_place_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "civitai.token", 0o600)
    with pytest.raises(BadSecret, match="is no file"):
        load_token("civitai", tmp_path)
    (tmp_path / "huggingface.token").mkdir(mode=0o700)
    with pytest.raises(BadSecret, match="is no file"):
        load_token("huggingface", tmp_path)

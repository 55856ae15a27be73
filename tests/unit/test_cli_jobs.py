"""Jobs as the command line counts and shows them."""

import pytest

from modelkeep.cli import jobs, refs
from modelkeep.cli.progress import bar
from modelkeep_protocol import errors
from tests.fakes import invented


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([], 0),
        (["", ""], 0),
        (["", errors.GATED], 6),
        ([errors.GATED, errors.DENIED], 5),
        ([errors.NOT_FOUND, errors.NOT_FOUND], 4),
        ([errors.NOT_FOUND, errors.GATED], 1),
        ([errors.CORRUPT], 1),
        ([errors.UNAVAILABLE], 1),
        ([errors.INVALID], 2),
    ],
)
def test_exit_code_of_several(results, code):
    assert jobs.exit_code(results) == code


@pytest.mark.parametrize(
    ("job", "result"),
    [
        (invented.job(state="done"), ""),
        (invented.job(state="canceled"), errors.CONFLICT),
        (invented.job(state="quarantined"), errors.INFECTED),
        (invented.failed(1, errors.GATED), errors.GATED),
        (invented.job(state="failed"), errors.INTERNAL),
    ],
)
def test_what_a_job_counts_for(job, result):
    assert jobs.result_of(job) == result


def test_a_row_tells_share_and_reason():
    half, failed = jobs.rows(
        [invented.job(state="downloading", done_bytes=50_000_000, rate_bytes_per_s=2e6, eta_s=25.0),
         invented.failed(2, errors.CORRUPT, "the hash is wrong")]
    )  # fmt: skip
    assert half["share"] == "50%"
    assert half["note"] == "2.00 MB/s, 25 s left"
    assert failed["note"] == "the hash is wrong"


def test_a_job_of_unknown_size_has_no_share():
    assert jobs.rows([invented.job(size_bytes=None)])[0]["share"] == ""
    assert jobs.rows([invented.job(size_bytes=0, state="done")])[0]["share"] == "100%"


@pytest.mark.parametrize(
    ("share", "drawn"), [(0, "  0 %"), (0.5, " 50 %"), (1, "100 %"), (7, "100 %"), (-1, "  0 %")]
)
def test_bars_are_of_one_width(share, drawn):
    assert bar(share).endswith(drawn)
    assert len(bar(share)) == 26


def test_only_paths_are_touched_in_references(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.safetensors").touch()
    assert refs.for_daemon("civitai:1102") == "civitai:1102"
    assert refs.for_daemon("https://civitai.com/models/1") == "https://civitai.com/models/1"
    assert refs.for_daemon("org/name") == "org/name"
    assert refs.for_daemon("./x") == str(tmp_path / "x")
    assert refs.for_daemon("here.safetensors") == str(tmp_path / "here.safetensors")
    assert refs.folder(None) == ""
    assert refs.folder("x") == str(tmp_path / "x")

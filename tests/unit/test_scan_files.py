"""Files are known by content and judged by what was proven; nothing makes the scan raise."""

import io
import os
import pickle
import socket
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.scan import Verdict, pickles, scan_file, worst
from modelkeepd.scan.sniff import HEAD_BYTES, MODEL_EXTENSIONS, sniff
from tests.unit.test_scan_safetensors import ONE, pack

SAFETENSORS = pack({"w": ONE}, bytes(4))
OS_SYSTEM = b"\x80\x02cos\nsystem\n\x8c\x09echo hi\n\x85R."


def torch_zip(data: bytes, name: str = "archive/data.pkl") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
        archive.writestr("archive/data/0", bytes(64))
    return buffer.getvalue()


SAMPLES: dict[str, tuple[bytes, str, Verdict]] = {
    "safetensors": (SAFETENSORS, "safetensors", Verdict.SAFE),
    "plain pickle": (pickle.dumps({"a": [1, 2.5, "x"]}, 4), "pickle", Verdict.REVIEW),
    "old pickle": (pickle.dumps({"a": [1, 2.5, "x"]}, 0), "pickle", Verdict.REVIEW),
    "ordered dict": (pickle.dumps(OrderedDict(a=1), 2), "pickle", Verdict.REVIEW),
    "os.system": (OS_SYSTEM, "pickle", Verdict.DANGEROUS),
    "os.system by stack": (
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
        "pickle",
        Verdict.DANGEROUS,
    ),
    "builtins.eval": (b"\x80\x02cbuiltins\neval\n.", "pickle", Verdict.DANGEROUS),
    "a computed name": (b"\x80\x04NN\x93.", "pickle", Verdict.DANGEROUS),
    "a second pickle behind": (b"\x80\x02N." + OS_SYSTEM, "pickle", Verdict.DANGEROUS),
    "torch zip": (torch_zip(pickle.dumps({"w": 1}, 2)), "zip", Verdict.REVIEW),
    "torch zip that calls": (torch_zip(OS_SYSTEM), "zip", Verdict.DANGEROUS),
    "a pickle under another name": (torch_zip(OS_SYSTEM, "x/readme.txt"), "zip", Verdict.DANGEROUS),
    "traversal": (torch_zip(b"x", "../../x"), "zip", Verdict.MALFORMED),
    "cut zip": (torch_zip(b"x")[:-10], "zip", Verdict.MALFORMED),
    "gguf": (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "gguf", Verdict.REVIEW),
    "gguf of 2^60 keys": (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "gguf", Verdict.MALFORMED),
    "gguf of another age": (b"GGUF" + struct.pack("<IQQ", 77, 0, 0), "gguf", Verdict.MALFORMED),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "lfs-pointer",
        Verdict.MALFORMED,
    ),
    "web page": (b"<!DOCTYPE html><html>", "html", Verdict.MALFORMED),
    "error answer": (b'{"error":"Unauthorized"}', "json-error", Verdict.MALFORMED),
    "preallocated": (bytes(1 << 16), "zero-filled", Verdict.MALFORMED),
    "nothing": (b"", "empty", Verdict.MALFORMED),
    "settings": (b"model:\n  target: x\n", "text", Verdict.REVIEW),
    "yaml that builds objects": (
        b"a: !!python/object/apply:os.getpid []\n",
        "text",
        Verdict.DANGEROUS,
    ),
    "json": (b'{"nodes": []}', "json", Verdict.REVIEW),
    "npy": (b"\x93NUMPY\x01\x00", "npy", Verdict.NOT_SCANNED),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", "7z", Verdict.NOT_SCANNED),
    "noise": (b"\xde\xad\xbe\xef" * 40, "unknown", Verdict.NOT_SCANNED),
}


def scan_bytes(
    folder: Path, data: bytes, name: str = "file.dat"
) -> "tuple[str, Verdict, set[str]]":
    path = folder / name
    path.write_bytes(data)
    report = scan_file(path)
    return report.format, report.verdict, {reason.rule for reason in report.reasons}


@pytest.mark.parametrize("case", SAMPLES)
def test_files_are_judged_by_content(tmp_path: Path, case: str) -> None:
    data, format_, verdict = SAMPLES[case]
    assert scan_bytes(tmp_path, data)[:2] == (format_, verdict)


def test_an_extension_that_lies_is_told_and_changes_no_verdict(tmp_path: Path) -> None:
    for ending in MODEL_EXTENSIONS:
        for case, (data, format_, verdict) in SAMPLES.items():
            if format_ == "unknown":
                continue  # the one case where a name adds something: what it should have been
            found = scan_bytes(tmp_path, data, f"x.{ending}")
            assert found[:2] == (format_, verdict), (case, ending)
    assert "extension-lies" in scan_bytes(tmp_path, SAFETENSORS, "x.ckpt")[2]
    assert "extension-lies" not in scan_bytes(tmp_path, SAFETENSORS, "x.safetensors")[2]


def test_noise_named_safetensors_is_malformed(tmp_path: Path) -> None:
    data = SAMPLES["noise"][0]
    assert scan_bytes(tmp_path, data, "x.safetensors")[1] is Verdict.MALFORMED


def test_bytes_that_two_readers_read_differently_are_not_safe(tmp_path: Path) -> None:
    # A header of 67,324,752 bytes begins with "PK\3\4"; smaller: a zip hidden in a tensor's data.
    hidden = torch_zip(OS_SYSTEM)
    tensor = {"dtype": "U8", "shape": [len(hidden)], "data_offsets": [0, len(hidden)]}
    both = pack({"w": tensor}, hidden)
    assert scan_bytes(tmp_path, both)[1:] == (Verdict.REVIEW, {"polyglot"})
    # A header of 98 bytes begins with "b": as an old pickle, BUILD; harmless, and no polyglot.
    padded = pack(b"{}".ljust(98), b"")
    assert scan_bytes(tmp_path, padded)[1] is Verdict.SAFE


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    fifo, link, sock = tmp_path / "fifo", tmp_path / "link", tmp_path / "sock"
    os.mkfifo(fifo)
    (tmp_path / "real").write_bytes(SAFETENSORS)
    link.symlink_to(tmp_path / "real")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(sock))
        for path in (fifo, link, sock, tmp_path, tmp_path / "absent", Path("/dev/zero")):
            assert scan_file(path).verdict is Verdict.NOT_SCANNED, path
    assert scan_file("with\0nul").verdict is Verdict.NOT_SCANNED


def test_a_descriptor_is_scanned_and_left_open(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(torch_zip(OS_SYSTEM))
    with path.open("rb") as file:
        assert scan_file(file.fileno(), "x.pt").verdict is Verdict.DANGEROUS
        assert file.read(2) == b"PK"
        report = scan_file(file.fileno())
    status = path.stat()
    assert report.subject is not None
    assert (report.subject.inode, report.subject.size_bytes) == (status.st_ino, status.st_size)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x02" + b"N0" * 1_500_000 + b"N.",
        b"L" + b"9" * 400_000 + b"L\n.",
        b"\x80\x02c" + b"a" * 3_000_000 + b"\nb\n.",
    ],
    ids=["deep", "2^62 bytes", "memo 2^31", "no-ops", "digits", "long name"],
)
def test_attacks_on_the_analyser_end_soon_and_not_as_safe(tmp_path: Path, data: bytes) -> None:
    assert scan_bytes(tmp_path, data)[1] is not Verdict.SAFE


@pytest.mark.parametrize("case", ["os.system", "torch zip that calls", "safetensors", "gguf"])
def test_a_sample_cut_anywhere_is_judged_and_never_safe(tmp_path: Path, case: str) -> None:
    data = SAMPLES[case][0]
    for length in range(len(data)):
        format_, verdict, found = scan_bytes(tmp_path, data[:length])
        assert verdict is not Verdict.SAFE, length
        assert "scanner-fault" not in found, (length, format_)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.sampled_from([s[0][:400] for s in SAMPLES.values()]), st.data())
def test_mutations_never_make_the_scanner_fail(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, draw: st.DataObject
) -> None:
    mutated = bytearray(data)
    for _ in range(draw.draw(st.integers(0, 4))):
        if mutated:
            mutated[draw.draw(st.integers(0, len(mutated) - 1))] = draw.draw(st.integers(0, 255))
    folder = tmp_path_factory.getbasetemp() / "mutations"
    folder.mkdir(exist_ok=True)
    _, _, found = scan_bytes(folder, bytes(mutated))
    assert "scanner-fault" not in found


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 1 << 40))
def test_sniffing_answers_for_any_bytes(head: bytes, size: int) -> None:
    assert sniff(head[:HEAD_BYTES], size)


def test_protocol_zero_to_five_of_plain_data_are_walked_to_their_stop() -> None:
    value = {"a": [1, 2.5, None, True, (1, 2)], "b": b"x" * 300, "s": {1, 2}, "big": 1 << 200}
    for protocol in range(6):
        data = pickle.dumps(value, protocol)
        findings = pickles.examine(data)
        assert findings.verdict in (Verdict.REVIEW, Verdict.DANGEROUS), protocol
        assert not any(reason.rule == "pickle-truncated" for reason in findings.reasons)


def test_the_ladder_has_one_order() -> None:
    ladder = list(Verdict)
    assert [worst(ladder[: end + 1]) for end in range(len(ladder))] == ladder
    assert worst([]) is Verdict.NOT_SCANNED


def test_the_scanner_stands_alone() -> None:
    """So that it can run in a box that has nothing else."""
    mine = [
        name
        for name, module in sys.modules.items()
        if name.startswith("modelkeepd.scan") and module is not None
    ]
    for name in mine:
        source = Path(str(sys.modules[name].__file__)).read_text()
        for line in source.splitlines():
            if line.startswith(("import ", "from ")):
                package = line.split()[1].split(".")[0]
                assert package in sys.stdlib_module_names or "modelkeepd.scan" in line, line

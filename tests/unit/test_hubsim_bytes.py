"""What the simulated hub says of its files is true, and the files are what they claim to be."""

import hashlib
import io
import json
import pickletools
import struct
import zipfile

import pytest

from tests.hubsim.bytes import (
    POOL,
    Contents,
    FlippedBody,
    SliceBody,
    describe_bytes,
    header_end,
    read_all,
)


@pytest.mark.parametrize("kind", POOL)
def test_cheap_hashes_are_those_of_the_whole_file(kind):
    contents = Contents(1)
    for number in range(4):
        key = contents.key(kind, number)
        assert contents.describe(key) == describe_bytes(read_all(contents.body(key)))


def test_hash_definitions_are_the_hubs():
    # The hub's own example: CRC32 of "hello world" in little-endian byte order.
    assert describe_bytes(b"hello world").crc32 == "85114A0D"
    small = describe_bytes(bytes(1000))
    assert small.autov1 is None
    assert small.hashes()["AutoV2"] == small.sha256[:10]
    big = bytes(1 << 20) + b"x" * 65_536 + bytes(1 << 20)
    expected = hashlib.sha256(b"x" * 65_536).hexdigest()[:8].upper()
    assert describe_bytes(big).autov1 == expected


def test_one_base_in_eight_is_large_enough_for_autov1():
    contents = Contents(1)
    assert contents.describe(contents.key("lora", 1, base=7)).autov1 is not None
    assert contents.describe(contents.key("lora", 1, base=6)).autov1 is None


def test_a_variant_has_the_same_tensors_under_another_header():
    contents = Contents(1)
    one, other = (contents.describe(contents.key("lora", 5, variant=v)) for v in (0, 1))
    assert one.autov3 == other.autov3
    assert one.sha256 != other.sha256


def test_contents_depend_on_seed_and_number_only():
    key = Contents(3).key("lora", 9)
    assert read_all(Contents(3).body(key)) == read_all(Contents(3).body(Contents(3).key("lora", 9)))
    assert read_all(Contents(3).body(key)) != read_all(Contents(4).body(Contents(4).key("lora", 9)))
    assert Contents(3).key("lora", 10) != key


@pytest.mark.parametrize("kind", ["lora", "checkpoint", "embedding"])
def test_safetensors_are_valid(kind):
    contents = Contents(1)
    data = read_all(contents.body(contents.key(kind, 3)))
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    assert all(isinstance(value, str) for value in header.pop("__metadata__").values())
    at = 0
    for tensor in header.values():
        begin, end = tensor["data_offsets"]
        size = 2
        for side in tensor["shape"]:
            size *= side
        assert (begin, end - begin) == (at, size)
        at = end
    assert 8 + length + at == len(data)


@pytest.mark.parametrize("kind", ["pickle_checkpoint", "pickle_embedding"])
def test_pickles_have_torchs_layout_and_only_its_harmless_names(kind):
    contents = Contents(1)
    data = read_all(contents.body(contents.key(kind, 3)))
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None
    pickle = archive.read("archive/data.pkl")
    pickletools.dis(pickle, out=io.StringIO())  # raises when the stack does not come out even
    names = {arg for op, arg, _ in pickletools.genops(pickle) if op.name == "GLOBAL"}
    assert names <= {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch HalfStorage",
    }
    assert "archive/data/0" in archive.namelist()


def test_the_other_formats_open():
    contents = Contents(1)

    def made(kind):
        return read_all(contents.body(contents.key(kind, 2)))

    assert zipfile.ZipFile(io.BytesIO(made("archive"))).testzip() is None
    assert made("gguf").startswith(b"GGUF\x03\0\0\0")
    assert json.loads(made("workflow"))["nodes"]
    assert made("config").startswith(b"model:")


def test_a_large_file_is_read_anywhere_and_described_truly():
    contents = Contents(1)
    key = contents.large_key(3_000_000, 1)
    body = contents.body(key)
    data = read_all(body)
    assert len(data) == 3_000_000
    assert contents.describe(key) == describe_bytes(data)
    assert header_end(data) == 256
    assert read_all(SliceBody(body, 200, 2_500_001)) == data[200:2_500_001]


def test_flipped_bytes_are_only_those_asked_for():
    contents = Contents(1)
    body = contents.body(contents.key("lora", 1))
    data = read_all(body)
    flipped = read_all(FlippedBody(body, 100, 2))
    assert [at for at in range(len(data)) if data[at] != flipped[at]] == [100, 101]
    assert FlippedBody(body, 100, 2).read(101, 4) == flipped[101:105]

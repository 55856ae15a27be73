"""The file around a snapshot's records, and the keys, against whatever may come."""

import hashlib
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelkeepd.snapshot import container
from modelkeepd.snapshot.container import Base, Counts, Header, Reader, Writer
from modelkeepd.snapshot.errors import SnapshotDamaged, SnapshotFileError, SnapshotTooNew
from modelkeepd.snapshot.incoming import read_block
from modelkeepd.snapshot.keys import BadKey, SigningKey, own_key, public_key
from modelkeepd.snapshot.records import (
    AliasRecord,
    DictionaryRecord,
    Document,
    Fact,
    ModelRecord,
    OddRecord,
    encoder,
)

KEY = SigningKey(Ed25519PrivateKey.generate())
ALIAS = AliasRecord("huggingface", "a" * 24, "org/before", 5)
MODEL = ModelRecord(
    "civitai", "1", "1", "listed", None, 1, 2, Document(3, b"{}"), None, (Fact(1, "gone", "{}"),)
)


def header(**changes: Any) -> Header:
    values: dict[str, Any] = {
        "created_ms": 1, "program": "test", "key": KEY.public.hex(), "nonce": "n", "epoch": "e",
        "high_seq": 0, "high_odd_id": 0, **changes,
    }  # fmt: skip
    return Header(**values)


def written(*blocks: list[msgspec.Struct], head: Header | None = None) -> bytes:
    file = io.BytesIO()
    writer = Writer(file, header() if head is None else head)
    for block in blocks:
        writer.add_block([encoder.encode(record) for record in block])
    writer.finish(Counts(aliases=1), KEY)
    return file.getvalue()


def rebuilt(
    data: bytes,
    *,
    index: Callable[[Any], Any] = lambda value: value,
    body: Callable[[bytes], bytes] = lambda value: value,
    signer: SigningKey = KEY,
) -> bytes:
    """The same file with another index or body, signed again: a signer with a fault."""
    footer = data[-88:]
    at, length = struct.unpack("<QQ", footer[:16])
    start_bytes = 16 + struct.unpack("<I", data[12:16])[0]
    start, stored = data[:start_bytes], body(data[start_bytes:at])
    listed = msgspec.json.decode(data[at : at + length])
    encoded = msgspec.json.encode(index(listed))
    message = (
        b"modelkeep catalog snapshot\0"
        + hashlib.sha256(start).digest()
        + hashlib.sha256(encoded).digest()
    )
    place = len(start) + len(stored)
    end = struct.pack("<QQ", place, len(encoded)) + signer.sign(message) + container.MAGIC
    return start + stored + encoded + end


def open_data(path: Path, data: bytes) -> Reader:
    path.write_bytes(data)
    return Reader(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.mks"


def test_what_was_written_is_read(path: Path) -> None:
    base = Base("ab" * 32, 7)
    data = written([ALIAS], [MODEL, ALIAS], head=header(base=base))
    with open_data(path, data) as reader:
        assert reader.header.base == base
        assert reader.key == KEY.public
        assert reader.counts == Counts(aliases=1)
        first, second = (read_block(reader.block(n), created_ms=9, now_ms=9) for n in range(2))
    assert (first.aliases, first.models) == ((ALIAS,), ())
    assert [each.record for each in second.models] == [MODEL]


def test_a_snapshot_of_nothing_is_one(path: Path) -> None:
    with open_data(path, written()) as reader:
        assert reader.blocks == []


def test_a_later_format_is_named_as_such(path: Path) -> None:
    data = bytearray(written())
    data[8] = 2
    with pytest.raises(SnapshotTooNew, match="format 2, this modelkeep reads up to 1"):
        open_data(path, bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x89MKC", b"PK\x03\x04" * 100, container.MAGIC,
        container.MAGIC + struct.pack("<II", 1, 2**32 - 1) + b"{}" * 1000,
        container.MAGIC + struct.pack("<II", 0, 2) + b"{}" * 1000,
        container.MAGIC + struct.pack("<II", 1, 2) + b"{}" + bytes(80) + container.MAGIC,
        container.MAGIC + struct.pack("<II", 1, 2) + b"{}"
        + struct.pack("<QQ", 2**64 - 1, 2**64 - 1) + bytes(64) + container.MAGIC,
        container.MAGIC + struct.pack("<II", 1, 2) + b"[]"
        + struct.pack("<QQ", 18, 0) + bytes(64) + container.MAGIC,
    ],
)  # fmt: skip
def test_rubbish_is_called_that(path: Path, data: bytes) -> None:
    with pytest.raises(SnapshotDamaged):
        open_data(path, data)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_waited_for(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    with pytest.raises(SnapshotFileError, match="is no file"):
        Reader(path)
    with pytest.raises(SnapshotFileError, match="can't be opened"):
        Reader(path.with_name("none"))
    with pytest.raises(SnapshotFileError, match="can't be opened"):
        Reader(Path("nul\0"))


def test_another_keys_signature_is_no_signature(path: Path) -> None:
    data = rebuilt(written([ALIAS]), signer=SigningKey(Ed25519PrivateKey.generate()))
    with pytest.raises(SnapshotDamaged, match="signature"):
        open_data(path, data)


def test_a_key_that_is_no_key_is_no_crash(path: Path) -> None:
    with pytest.raises(SnapshotDamaged, match="signature"):
        open_data(path, written([ALIAS], head=header(key="ff" * 32)))


def put(place: int, value: Any) -> Callable[[Any], Any]:
    def change(index: Any) -> Any:
        index["blocks"][0][place] = value
        return index

    return change


OFFSET, SIZE, RAW, RECORDS, SHA = range(5)


@pytest.mark.parametrize(
    "index",
    [
        put(OFFSET, 0), put(OFFSET, -1), put(OFFSET, 2**60), put(SIZE, 1), put(SIZE, 2**50),
        put(SIZE, 0), put(RAW, 2**50), put(RAW, 0), put(RECORDS, 2**40), put(RECORDS, 0),
        put(SHA, "zz"), put(SHA, None), lambda index: {"blocks": []},
        lambda index: [], lambda index: {**index, "counts": {"models": -1}},
        lambda index: {**index, "blocks": index["blocks"] * 2},
        lambda index: {**index, "blocks": []},
    ],
)  # fmt: skip
def test_an_index_that_does_not_fit_is_refused(path: Path, index: Callable[[Any], Any]) -> None:
    with pytest.raises(SnapshotDamaged):
        open_data(path, rebuilt(written([ALIAS]), index=index))


def as_body(stored: bytes) -> tuple[Callable[[Any], Any], Callable[[bytes], bytes]]:
    def index(value: Any) -> Any:
        block = value["blocks"][0]
        block[SIZE], block[SHA] = len(stored), hashlib.sha256(stored).hexdigest()
        return value

    return index, lambda _: stored


BOMB = zstandard.ZstdCompressor(level=19).compress(bytes(200 << 20))
NO_SIZE = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20))


@pytest.mark.parametrize("stored", [b"x", BOMB, NO_SIZE, BOMB + BOMB])
def test_a_block_makes_no_more_than_the_index_says(path: Path, stored: bytes) -> None:
    index, body = as_body(stored)
    with open_data(path, rebuilt(written([ALIAS]), index=index, body=body)) as reader:
        assert reader.check(0) == len(stored)
        with pytest.raises(SnapshotDamaged):
            reader.block(0)


def test_a_block_holds_as_many_records_as_the_index_says(path: Path) -> None:
    with (
        open_data(path, rebuilt(written([ALIAS]), index=put(RECORDS, 2))) as reader,
        pytest.raises(SnapshotDamaged),
    ):
        reader.block(0)


def test_a_file_that_changes_while_it_is_read_is_noticed(path: Path) -> None:
    data = written([ALIAS], [MODEL])
    with open_data(path, data) as reader:
        place = reader.blocks[1].offset
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"\0\0")
        reader.block(0)
        with pytest.raises(SnapshotDamaged, match="block 1"):
            reader.block(1)
        os.truncate(path, place)
        with pytest.raises(SnapshotDamaged, match="shorter"):
            reader.check(1)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\xc0", b"\xdd\xff\xff\xff\xff", b"\xdd\0\0\0\1", b"\x91\x80", b"\x91" * 5_000,
        b"\x91" + msgspec.msgpack.encode({"t": "model"}),
        b"\x91" + msgspec.msgpack.encode({"t": "library", "path": "/"}),
        b"\x91" + msgspec.msgpack.encode({**msgspec.to_builtins(ALIAS), "until_ms": -1}),
        b"\x91" + msgspec.msgpack.encode({**msgspec.to_builtins(ALIAS), "until_ms": 2**60}),
        b"\x91" + msgspec.msgpack.encode({**msgspec.to_builtins(ALIAS), "hub": ""}),
        b"\x91" + msgspec.msgpack.encode({**msgspec.to_builtins(ALIAS), "ref_id": "x" * 9_999}),
        b"\x91" + msgspec.msgpack.encode({**msgspec.to_builtins(ALIAS), "hub_id": 5}),
        b"\x91" + encoder.encode(DictionaryRecord("civitai", "model", bytes(2 << 20))),
        b"\x91" + encoder.encode(ALIAS) + b"\0",
    ],
)  # fmt: skip
def test_records_that_are_none_are_refused(raw: bytes) -> None:
    with pytest.raises(SnapshotDamaged):
        read_block(raw, created_ms=9, now_ms=9)


def test_fields_of_a_later_program_are_passed_over() -> None:
    record = {**msgspec.to_builtins(ALIAS), "t": "alias", "more": [1, 2]}
    raw = b"\x91" + msgspec.msgpack.encode(record)
    assert read_block(raw, created_ms=9, now_ms=9).aliases == (ALIAS,)


def test_a_block_with_a_model_twice_or_too_long_keeps_the_rest() -> None:
    long = msgspec.structs.replace(MODEL, hub_id="2", document=Document(3, bytes((64 << 20) + 1)))
    odd = OddRecord("civitai", "model", None, "why", Document(3, b"x"))
    raw = b"\x94" + b"".join(map(encoder.encode, (MODEL, MODEL, long, odd)))
    contents = read_block(raw, created_ms=9, now_ms=9)
    assert [each.record for each in contents.models] == [MODEL]
    assert contents.odd == (odd,)
    assert contents.misfits == 2


# Keys -------------------------------------------------------------------------------------------


def test_a_home_has_one_key_for_ever(tmp_path: Path) -> None:
    first = own_key(tmp_path / "config")
    again = own_key(tmp_path / "config")
    assert first.public == again.public
    assert (tmp_path / "config" / "snapshot.key").stat().st_mode & 0o777 == 0o600
    line = (tmp_path / "config" / "snapshot.pub").read_text()
    assert public_key(line) == first.public
    assert "PRIVATE" not in repr(first)


def test_the_public_line_is_mended(tmp_path: Path) -> None:
    key = own_key(tmp_path)
    (tmp_path / "snapshot.pub").write_text("other")
    own_key(tmp_path)
    assert public_key((tmp_path / "snapshot.pub").read_text()) == key.public


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\0" * 9_000])
def test_a_broken_key_is_not_replaced_silently(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "snapshot.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadKey, match="holds no private key"):
        own_key(tmp_path)
    assert path.read_bytes() == content


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    own_key(tmp_path)
    (tmp_path / "snapshot.key").chmod(0o640)
    with pytest.raises(BadKey, match="other users"):
        own_key(tmp_path)


def test_a_key_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "snapshot.key", 0o600)
    with pytest.raises(BadKey, match="no file"):
        own_key(tmp_path)


def test_an_interrupted_first_use_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "snapshot.key.part").write_bytes(b"half")
    own_key(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["snapshot.key", "snapshot.pub"]


@pytest.mark.parametrize("text", ["", "ab" * 31, "ab" * 33, "zz" * 32, "é" * 64, "x" * 10_000])
def test_what_is_no_key_is_said(text: str) -> None:
    with pytest.raises(BadKey, match="is no public key"):
        public_key(text)
    assert public_key(" " + "AB" * 32 + "\n") == b"\xab" * 32

"""Snapshots between homes: what comes out is what went in, and nothing newer is ever lost."""

import errno
import io
import json
import os
import random
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest
import trio

from modelkeepd.catalog.history import history_page
from modelkeepd.hubs.contract import parse_model
from modelkeepd.hubs.documents import train_dictionary
from modelkeepd.hubs.reference import parse_reference
from modelkeepd.snapshot.container import Counts, Header, Reader, Writer
from modelkeepd.snapshot.errors import (
    SnapshotBaseMissing,
    SnapshotDamaged,
    SnapshotFileError,
    SnapshotUntrusted,
)
from modelkeepd.snapshot.records import (
    AliasRecord,
    DictionaryRecord,
    Document,
    Fact,
    ModelRecord,
    encoder,
)
from modelkeepd.store import Tx
from modelkeepd.sync.units import save_dictionary
from tests.fakes.catalogs import DAY_MS, Home, civitai, huggingface, open_home


@pytest.fixture
async def alice(tmp_path: Path) -> AsyncIterator[Home]:
    async with open_home(tmp_path / "alice") as home:
        yield home


@pytest.fixture
async def bob(tmp_path: Path) -> AsyncIterator[Home]:
    async with open_home(tmp_path / "bob") as home:
        yield home


async def test_the_second_time_changes_nothing_though_clocks_differ(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    bob.clocks.set_the_clock(-3600)
    await fill(alice)
    await alice.export(tmp_path / "c.mks")
    await alice.export(tmp_path / "again.mks")
    await bob.take(tmp_path / "c.mks", alice.key)
    facts = {name: row[5] for name, row in (await bob.content())["models"].items()}
    seq = bob.store.feed.last_seq
    await bob.take(tmp_path / "again.mks", alice.key)
    assert {name: row[5] for name, row in (await bob.content())["models"].items()} == facts
    assert bob.store.feed.last_seq == seq


async def fill(home: Home) -> None:
    """Both hubs; details, a rename, a removal, an odd document."""
    await home.sync("civitai", *(civitai(n) for n in range(1, 8)))
    await home.sync("huggingface", *(huggingface(n) for n in range(1, 4)))
    await home.details("huggingface", huggingface(1, siblings=[{"rfilename": "a.gguf", "size": 7}]))
    await home.sync("huggingface", huggingface(2, id="org/other-name", sha="e" * 40))
    await home.sync("civitai", civitai(3, name="Changed"), civitai(4, mode="Archived"))
    await home.vanish("civitai", "5")

    def odd(tx: Tx) -> None:
        tx.db.execute(
            "INSERT INTO odd_document (hub, kind, hub_id, reason, raw, doc_hash, fetched_ms)"
            " VALUES ('civitai', 'model', NULL, 'no id', ?, x'0011', 5)",
            (home.codec.compress(b'{"name":1}', None),),
        )

    await home.write(odd)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def comparable(content: dict[str, Any]) -> dict[str, Any]:
    # an odd document's hash is made anew from its bytes
    return {**content, "odd": [row[:4] for row in content["odd"]]}


async def test_an_empty_home_becomes_what_the_other_is(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    await fill(alice)
    written = await alice.export(tmp_path / "c.mks")
    assert msgspec.structs.asdict(written.counts) == {
        "models": 10, "details": 1, "facts": 3, "aliases": 1, "odd": 1, "dictionaries": 0,
        "unreadable": 0,
    }  # fmt: skip
    assert written.size_bytes == (tmp_path / "c.mks").stat().st_size
    bob.clocks.advance(3600)
    read = await bob.take(tmp_path / "c.mks", alice.key)
    assert (read.merged.models, read.merged.new, read.merged.changed) == (10, 10, 0)
    assert comparable(await bob.content()) == comparable(await alice.content())
    assert names_in(tmp_path) == ["alice", "bob", "c.mks"]


async def test_the_second_time_changes_nothing(alice: Home, bob: Home, tmp_path: Path) -> None:
    await fill(alice)
    await alice.export(tmp_path / "c.mks")
    await alice.export(tmp_path / "again.mks")  # the same content under another id
    bob.clocks.advance(3600)
    await bob.take(tmp_path / "c.mks", alice.key)
    before = await bob.content()
    seq = bob.store.feed.last_seq
    read = await bob.take(tmp_path / "c.mks", alice.key)
    assert read.is_known
    read = await bob.take(tmp_path / "again.mks", alice.key)
    assert not read.is_known
    assert (read.merged.new, read.merged.changed, read.merged.older, read.merged.odd) == (0,) * 4
    assert await bob.content() == before
    assert bob.store.feed.last_seq == seq


async def test_of_two_documents_the_later_one_wins_and_the_other_is_history(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    await alice.sync("civitai", civitai(1, name="old"), civitai(2, name="old"))
    bob.clocks.advance(100)
    await bob.sync("civitai", civitai(1, name="newer"))
    alice.clocks.advance(200)
    await alice.sync("civitai", civitai(2, name="newer"))
    bob_first = bob.clocks.wall_ms()
    await bob.sync("civitai", civitai(2, name="between"))
    await alice.export(tmp_path / "c.mks")
    bob.clocks.advance(400)
    read = await bob.take(tmp_path / "c.mks", alice.key)
    assert (read.merged.new, read.merged.changed, read.merged.older) == (0, 1, 1)
    start = 1_750_000_000_000
    assert await bob.history("civitai", "1") == [
        (start + 101_000, civitai(1, name="newer")),
        (start + 1_000, civitai(1, name="old")),
    ]
    assert await bob.history("civitai", "2") == [
        (start + 202_000, civitai(2, name="newer")),
        (bob_first + 1_000, civitai(2, name="between")),
    ]


async def test_an_older_document_finds_its_place_between_known_ones(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    for name in ("a", "c", "e"):
        await bob.sync("civitai", civitai(1, name=name))
        bob.clocks.advance(9)
    for number, name in enumerate(("b", "d")):
        alice.clocks.set_wall_ms = 1_750_000_000_000 + 5_000 + 10_000 * number
        await alice.sync("civitai", civitai(1, name=name))
        await alice.export(tmp_path / f"{name}.mks")
    bob.clocks.advance(100)
    for name in ("b", "d", "b"):
        await bob.take(tmp_path / f"{name}.mks", alice.key)
    found = await bob.history("civitai", "1")
    names = [json.loads(raw)["name"] for _, raw in found]
    assert names == ["e", "d", "c", "b", "a"]
    assert [ms for ms, _ in found] == sorted((ms for ms, _ in found), reverse=True)
    # and the chain goes on from there
    await bob.sync("civitai", civitai(1, name="f"))
    found = await bob.history("civitai", "1")
    assert [json.loads(raw)["name"] for _, raw in found] == ["f", "e", "d", "c", "b", "a"]


async def test_a_document_both_have_seen_is_kept_once(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    await alice.sync("civitai", civitai(1, name="same"))
    await alice.export(tmp_path / "c.mks")
    bob.clocks.advance(50)
    await bob.sync("civitai", civitai(1, name="same"))
    await bob.sync("civitai", civitai(1, name="later"))
    read = await bob.take(tmp_path / "c.mks", alice.key)
    assert read.merged.older == 0
    assert len(await bob.history("civitai", "1")) == 2
    # first seen by the one, known to the other too
    row = (await bob.content())["models"]["civitai:1"][0]
    assert 1_750_000_001_000 in row


async def test_details_merge_as_rows_do(alice: Home, bob: Home, tmp_path: Path) -> None:
    def detail(size: int) -> bytes:
        return huggingface(1, siblings=[{"rfilename": "a.gguf", "size": size}])

    for home in (alice, bob):
        await home.sync("huggingface", huggingface(1))
    await alice.details("huggingface", detail(1))
    await alice.export(tmp_path / "old.mks")
    bob.clocks.advance(10)
    await bob.details("huggingface", detail(2))
    alice.clocks.advance(20)
    await alice.details("huggingface", detail(3))
    await alice.export(tmp_path / "new.mks")
    bob.clocks.advance(100)
    await bob.take(tmp_path / "old.mks", alice.key)
    await bob.take(tmp_path / "new.mks", alice.key)
    found = await bob.history("huggingface", f"{1:024x}", "detail")
    assert [raw for _, raw in found] == [detail(3), detail(2), detail(1)]


async def test_who_looked_last_tells_whether_a_model_is_there(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    for home in (alice, bob):
        await home.sync("civitai", *(civitai(n) for n in (1, 2, 3)))
    await alice.vanish("civitai", "1")  # later than bob saw it
    await bob.vanish("civitai", "2")
    await bob.vanish("civitai", "3")
    alice.clocks.advance(100)
    await alice.sync("civitai", civitai(3))  # back, later than bob missed it
    await alice.export(tmp_path / "c.mks")
    bob.clocks.advance(200)
    await bob.take(tmp_path / "c.mks", alice.key)
    states = {name: row[0][15:17] for name, row in (await bob.content())["models"].items()}
    start = 1_750_000_000_000
    assert states == {
        "civitai:1": ["gone", start + 2_000],
        "civitai:2": ["gone", start + 2_000],
        "civitai:3": ["listed", None],
    }
    facts = (await bob.content())["models"]["civitai:1"][5]
    assert facts == [(start + 2_000, "gone", '{"reason":"404"}')]


async def test_search_and_other_followers_learn_of_what_came(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    await fill(alice)
    await bob.sync("civitai", civitai(3), civitai(7))
    before = bob.store.feed.last_seq
    await alice.export(tmp_path / "c.mks")
    await bob.take(tmp_path / "c.mks", alice.key)
    after = bob.store.feed.last_seq
    changed = await bob.store.read(
        lambda db: db.execute(
            "SELECT hub_id FROM model WHERE hub = 'civitai' AND changed_seq > ?"
            " AND changed_seq <= ? ORDER BY 1",
            (before, after),
        ).fetchall()
    )
    # all but the one that is known as it is
    assert [hub_id for (hub_id,) in changed] == ["1", "2", "3", "4", "5", "6"]


async def test_a_delta_holds_what_changed_and_needs_its_base(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    await fill(alice)
    first = await alice.export(tmp_path / "full.mks")
    await alice.sync("civitai", civitai(1, name="New name"), civitai(8))
    await alice.vanish("civitai", "6")
    second = await alice.export(tmp_path / "one.mks", since=tmp_path / "full.mks")
    assert second.counts.models == 3
    assert second.base_id == first.snapshot_id
    await alice.sync("huggingface", huggingface(3, id="org/renamed"))
    third = await alice.export(tmp_path / "two.mks", since=tmp_path / "one.mks")
    assert (third.counts.models, third.counts.aliases, third.counts.odd) == (1, 1, 0)
    bob.clocks.advance(3600)
    with pytest.raises(SnapshotBaseMissing, match=first.snapshot_id[:16]):
        await bob.take(tmp_path / "one.mks", alice.key)
    for name in ("full", "one", "two"):
        await bob.take(tmp_path / f"{name}.mks", alice.key)
    assert comparable(await bob.content()) == comparable(await alice.content())
    # nothing changed: an empty delta is a whole snapshot too
    empty = await alice.export(tmp_path / "three.mks", since=tmp_path / "two.mks")
    assert empty.counts.models == 0
    assert (await bob.take(tmp_path / "three.mks", alice.key)).merged.models == 0


async def test_a_delta_against_another_homes_snapshot_is_refused(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    await fill(alice)
    await alice.export(tmp_path / "c.mks")
    with pytest.raises(SnapshotBaseMissing, match="another home"):
        await bob.export(tmp_path / "d.mks", since=tmp_path / "c.mks")
    assert not (tmp_path / "d.mks").exists()


async def test_a_delta_after_a_lost_database_holds_everything(tmp_path: Path) -> None:
    async with open_home(tmp_path / "one") as home:
        await fill(home)
        await home.export(tmp_path / "c.mks")
        key = home.key
    async with open_home(tmp_path / "two") as home:
        home.key = key
        await home.sync("civitai", civitai(1))
        written = await home.export(tmp_path / "d.mks", since=tmp_path / "c.mks")
        assert written.counts.models == 1


async def test_a_strange_key_is_refused_with_the_way_to_trust_it(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    await fill(alice)
    await alice.export(tmp_path / "c.mks")
    with pytest.raises(SnapshotUntrusted) as caught:
        await bob.take(tmp_path / "c.mks")
    assert f"--trust {alice.key.public.hex()}" in caught.value.hint
    assert (await bob.content())["models"] == {}


async def test_an_import_goes_on_where_it_was_canceled(
    alice: Home, bob: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelkeepd.snapshot.export.BLOCK_BYTES", 1_000)
    await fill(alice)
    await alice.export(tmp_path / "c.mks")
    with Reader(tmp_path / "c.mks") as reader:
        blocks = len(reader.blocks)
    assert blocks > 5
    bob.clocks.advance(3600)
    for number in range(blocks):
        with trio.CancelScope() as scope:

            def cancel_after_one(progress: Any, scope: trio.CancelScope = scope) -> None:
                if progress.phase == "reading":
                    scope.cancel()

            await bob.take(tmp_path / "c.mks", alice.key, report=cancel_after_one)
        assert scope.cancelled_caught or number == blocks - 1
    read = await bob.take(tmp_path / "c.mks", alice.key)
    assert (read.is_known, read.resumed_at, read.merged.models) == (True, blocks, 10)
    assert comparable(await bob.content()) == comparable(await alice.content())


async def test_a_canceled_export_leaves_what_was_there(
    alice: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelkeepd.snapshot.export.BATCH", 2)
    await fill(alice)
    (tmp_path / "out").mkdir()
    with trio.CancelScope() as scope:
        await alice.export(
            tmp_path / "out" / "c.mks",
            report=lambda p: scope.cancel() if p.models else None,
        )
    assert scope.cancelled_caught
    assert names_in(tmp_path / "out") == []
    await alice.export(tmp_path / "out" / "c.mks")
    before = (tmp_path / "out" / "c.mks").read_bytes()
    with trio.CancelScope() as scope:
        await alice.export(
            tmp_path / "out" / "c.mks",
            report=lambda p: scope.cancel() if p.models else None,
        )
    assert (tmp_path / "out" / "c.mks").read_bytes() == before
    assert names_in(tmp_path / "out") == ["c.mks"]


@pytest.mark.parametrize("call", ["write", "fsync"])
async def test_a_full_disk_leaves_what_was_there(
    alice: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    await fill(alice)
    (tmp_path / "out").mkdir()
    await alice.export(tmp_path / "out" / "c.mks")
    before = (tmp_path / "out" / "c.mks").read_bytes()
    if call == "fsync":

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
    else:  # takes nothing more, also when the file is closed

        def create(path: Path) -> IO[bytes]:
            return os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb")

        monkeypatch.setattr("modelkeepd.snapshot.export._create", create)
    with pytest.raises(SnapshotFileError, match="No space left"):
        await alice.export(tmp_path / "out" / "c.mks")
    monkeypatch.undo()
    assert names_in(tmp_path / "out") == ["c.mks"]
    assert (tmp_path / "out" / "c.mks").read_bytes() == before


async def test_an_import_beside_a_sync_takes_neither_back(
    alice: Home, bob: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model changes between its comparison and its writing."""
    await alice.sync("civitai", civitai(1, name="theirs"), civitai(2))
    await alice.export(tmp_path / "c.mks")
    await bob.sync("civitai", civitai(1, name="first"))
    bob.clocks.advance(500)
    from modelkeepd.snapshot import importing

    real, turns = importing.read_known, []

    def once(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        if not turns:
            turns.append(1)
            trio.from_thread.run(
                bob.sync, "civitai", civitai(1, name="second"),
                trio_token=token,
            )  # fmt: skip
        return found

    token = trio.lowlevel.current_trio_token()
    monkeypatch.setattr(importing, "read_known", once)
    await bob.take(tmp_path / "c.mks", alice.key)
    names = [json.loads(raw)["name"] for _, raw in await bob.history("civitai", "1")]
    assert names[0] == "second"
    assert sorted(names) == ["first", "second", "theirs"]


async def test_a_clock_that_ran_ahead_does_not_win_for_ever(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    alice.clocks.advance(DAY_MS)  # a thousand days
    await alice.sync("civitai", civitai(1, name="from the future"))
    await alice.export(tmp_path / "c.mks")
    await bob.take(tmp_path / "c.mks", alice.key)
    await bob.sync("civitai", civitai(1, name="today"))
    bob.clocks.advance(100)
    rows = (await bob.content())["models"]["civitai:1"][0]
    assert rows[1] == "today"
    assert all(ms <= bob.clocks.wall_ms() for ms in (*rows[17:19], rows[20]))


@pytest.mark.parametrize("what", ["folder", "missing folder", "fifo", "another file"])
async def test_an_export_overwrites_nothing_but_a_snapshot(
    alice: Home, tmp_path: Path, what: str
) -> None:

    path = tmp_path / "x"
    if what == "folder":
        path.mkdir()
    elif what == "missing folder":
        path = tmp_path / "none" / "x"
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(b"a model of 2 GB")
    with pytest.raises(SnapshotFileError):
        await alice.export(path)
    if what == "another file":
        assert path.read_bytes() == b"a model of 2 GB"


async def test_a_dictionary_is_taken_over_where_there_is_none(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    rng = random.Random(3)
    words = [f"word{n}" for n in range(900)]
    documents = [civitai(n, description=" ".join(rng.choices(words, k=300))) for n in range(1, 600)]
    data = train_dictionary(documents)
    assert data is not None
    dict_id = await alice.write(partial(save_dictionary, hub="civitai", kind="model", data=data))
    alice.codec.add(dict_id, "civitai", "model", data)
    await alice.sync("civitai", *documents[:50])
    assert (await alice.export(tmp_path / "c.mks")).counts.dictionaries == 1
    bob.clocks.advance(60)
    for _ in range(2):
        await bob.take(tmp_path / "c.mks", alice.key)
        await alice.export(tmp_path / "c.mks")
    kept = await bob.store.read(
        lambda db: db.execute("SELECT hub, kind, bytes FROM document_dict").fetchall()
    )
    assert kept == [("civitai", "model", data)]
    used = await bob.store.read(
        lambda db: db.execute("SELECT count(*) FROM document WHERE dict_id = 1").get
    )
    assert used == 50
    assert await bob.content() == await alice.content()


async def test_what_no_parser_takes_is_kept_as_odd(alice: Home, bob: Home, tmp_path: Path) -> None:
    """A trusted signer may have a plugin's hub, a fault, or another idea of an id."""

    def model(hub: str, hub_id: str, raw: bytes) -> ModelRecord:
        return ModelRecord(hub, hub_id, hub_id, "listed", None, 1, 2, Document(3, raw))

    records = [
        model("a-plugin", "1", b'{"id":1}'),
        model("civitai", "7", civitai(8)),
        model("civitai", "9", b"no json"),
        model("civitai", "2", civitai(2)),
        msgspec.structs.replace(
            model("civitai", "3", civitai(3)), state="unheard-of",
            facts=(Fact(1, "gone", "no json"), Fact(2**52, "new word", "[]")),
        ),
        DictionaryRecord("civitai", "model", b"no dictionary"),
        AliasRecord("civitai", "404", "nobody", 5),
    ]  # fmt: skip
    header = Header(
        created_ms=bob.clocks.wall_ms(), program="test", key=alice.key.public.hex(), nonce="",
        epoch="", high_seq=0, high_odd_id=0,
    )  # fmt: skip
    with io.BytesIO() as file:
        writer = Writer(file, header)
        writer.add_block([encoder.encode(record) for record in records])
        writer.finish(Counts(models=5), alice.key)
        (tmp_path / "c.mks").write_bytes(file.getvalue())
    read = await bob.take(tmp_path / "c.mks", alice.key)
    assert (read.merged.new, read.merged.odd) == (2, 3)
    content = await bob.content()
    assert sorted(content["models"]) == ["civitai:2", "civitai:3"]
    assert content["models"]["civitai:3"][0][15] == "listed"
    assert sorted((row[0], row[2]) for row in content["odd"]) == [
        ("a-plugin", "1"), ("civitai", "7"), ("civitai", "9"),
    ]  # fmt: skip
    page = await bob.store.read(
        lambda db: history_page(db, parse_reference("civitai:3"), bob.codec, parse_model)
    )
    assert [item.what for item in page.items] == [
        "new word", "gone from the hub", "first seen",
    ]  # fmt: skip


async def test_a_document_that_is_damaged_here_is_left_out_and_counted(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    await fill(alice)
    await alice.write(
        lambda tx: tx.db.execute("UPDATE document SET raw = x'00' WHERE model_key = 2")
    )
    written = await alice.export(tmp_path / "c.mks")
    assert (written.counts.models, written.counts.unreadable) == (9, 1)
    assert (await bob.take(tmp_path / "c.mks", alice.key)).merged.new == 9


async def test_a_lost_document_is_mended_by_an_import(
    alice: Home, bob: Home, tmp_path: Path
) -> None:
    for home in (alice, bob):
        await home.sync("civitai", civitai(1), civitai(2))
    await alice.export(tmp_path / "c.mks")
    await bob.write(lambda tx: tx.db.execute("DELETE FROM document WHERE model_key = 2"))
    await bob.take(tmp_path / "c.mks", alice.key)
    assert [raw for _, raw in await bob.history("civitai", "2")] == [civitai(2)]


async def test_every_byte_counts(alice: Home, bob: Home, tmp_path: Path) -> None:
    """Changed anywhere, or cut anywhere, a small snapshot is refused and nothing is done."""
    await alice.sync("civitai", civitai(1))
    await alice.export(tmp_path / "c.mks")
    whole = (tmp_path / "c.mks").read_bytes()
    damaged = tmp_path / "d.mks"

    async def refused(data: bytes) -> None:
        damaged.write_bytes(data)
        with pytest.raises((SnapshotDamaged, SnapshotUntrusted, SnapshotFileError)):
            await bob.take(damaged, alice.key)

    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << (place % 8)
        try:
            await refused(bytes(data))
        except Exception as exc:
            if "SnapshotTooNew" not in repr(exc):
                raise
    for length in range(0, len(whole), 7):
        await refused(whole[:length])
    await refused(whole + b"\0")
    await refused(whole + whole)
    assert (await bob.content())["models"] == {}
    damaged.write_bytes(whole)
    assert (await bob.take(damaged, alice.key)).merged.new == 1

"""The catalog over a real store: it follows it through kills, lost epochs and lost indexes."""

import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import trio

from modelkeepd.catalog import follower
from modelkeepd.catalog import service as service_module
from modelkeepd.catalog.errors import ModelNotFound, QueryError, SearchUnavailable
from modelkeepd.catalog.index import CatalogIndex, IndexDamaged, Marker
from modelkeepd.catalog.service import CatalogService
from modelkeepd.hubs.contract import OddDocument, ParsedFile, ParsedModel, ParsedVersion
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.hubs.reference import Reference, parse_reference
from modelkeepd.store import Durability, Store, Tx, open_store

CODEC = DocumentCodec()
PATIENCE_S = 30


def parse_fake(hub: str, raw: bytes) -> ParsedModel:
    """Documents in these tests are ParsedModels as JSON."""
    try:
        return msgspec.json.decode(raw, type=ParsedModel)
    except msgspec.ValidationError as exc:
        raise OddDocument(str(exc)) from exc


def parsed(number: int, name: str, description: str = "", **fields: object) -> ParsedModel:
    version = ParsedVersion(
        hub_id=str(number * 10),
        name="v1.0",
        base_model="SDXL 1.0",
        position=0,
        published_ms=1_000,
        availability="Public",
        description="made of steam",
        trained_words=("zxtrigger",),
        files=(
            ParsedFile(
                hub_id=str(number * 100), name=f"file_{number}.safetensors", kind="Model",
                format="SafeTensor", size_bytes=123, sha256=bytes([number % 256]) * 32,
                is_primary=True, url=None,
            ),
        ),
        image_urls=(),
    )  # fmt: skip
    values: dict[str, object] = {
        "hub": "civitai", "hub_id": str(number), "ref_id": str(number), "name": name,
        "type": "LORA", "creator": "alice",
        "tags": ("anime",), "description": description, "nsfw_level": 3, "downloads": number,
        "likes": 0, "commercial": True, "hub_state": "listed", "versions": (version,),
        "base_models": ("SDXL 1.0",), "published_ms": 1_000, "updated_ms": 2_000,
        "size_bytes": 123,
    }  # fmt: skip
    return ParsedModel(**{**values, **fields})  # type: ignore[arg-type]


def put(tx: Tx, models: Sequence[ParsedModel], raw: bytes | None = None) -> int:
    """What sync does with a page, in short."""
    seq = tx.emit("model", "page", "civitai", {"count": len(models)})
    for model in models:
        key = int(model.hub_id)
        tx.db.execute(
            "INSERT INTO model (model_key, hub, hub_id, ref_id, name, type, creator, base_models,"
            " tags, nsfw_level, downloads, likes, commercial, published_ms, updated_ms, size_bytes,"
            " hub_state, first_seen_ms, seen_ms, changed_seq, doc_hash)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,0,0,?,x'00') ON CONFLICT (model_key)"
            " DO UPDATE SET name = excluded.name, changed_seq = excluded.changed_seq",
            (
                key, model.hub, model.hub_id, model.ref_id, model.name, model.type, model.creator,
                json.dumps(model.base_models), json.dumps(model.tags), model.nsfw_level,
                model.downloads, model.likes, model.commercial, model.published_ms,
                model.updated_ms, model.size_bytes, model.hub_state, seq,
            ),
        )  # fmt: skip
        blob = CODEC.compress(msgspec.json.encode(model) if raw is None else raw, None)
        tx.db.execute("INSERT OR REPLACE INTO document VALUES (?, NULL, ?, 5)", (key, blob))
        for version in model.versions:
            version_key = int(version.hub_id)
            tx.db.execute(
                "INSERT OR IGNORE INTO version (version_key, model_key, hub_id, name, base_model,"
                " position, published_ms, availability) VALUES (?,?,?,?,?,?,?,?)",
                (
                    version_key, key, version.hub_id, version.name, version.base_model,
                    version.position, version.published_ms, version.availability,
                ),
            )  # fmt: skip
            for file in version.files:
                tx.db.execute(
                    "INSERT OR IGNORE INTO file (version_key, model_key, hub_id, name, kind,"
                    " format, size_bytes, sha256, is_primary) VALUES (?,?,?,?,?,?,?,?,?)",
                    (
                        version_key, key, file.hub_id, file.name, file.kind, file.format,
                        file.size_bytes, file.sha256, file.is_primary,
                    ),
                )  # fmt: skip
    return seq


async def keep(store: Store, *models: ParsedModel, raw: bytes | None = None) -> int:
    return await store.apply(
        partial(put, models=models, raw=raw), durability=Durability.NORMAL, name="test.put"
    )


@asynccontextmanager
async def running(
    store: Store, folder: Path, *, settle: bool = True
) -> AsyncIterator[CatalogService]:
    service = CatalogService(store, folder / "index", CODEC, parse=parse_fake)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        if settle:
            await caught_up(service, store)
        yield service
        nursery.cancel_scope.cancel()


async def caught_up(service: CatalogService, store: Store) -> None:
    with trio.fail_after(PATIENCE_S):
        await service.caught_up_with(store.feed.last_seq)


async def found(service: CatalogService, query: str) -> list[str]:
    page = await service.search(query, limit=1000)
    assert page.total == len(page.items)
    return sorted(item.ref.partition(":")[2] for item in page.items)


async def test_models_are_found_by_what_their_rows_and_documents_say(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "Dragon", "a 東京都 story"), parsed(2, "Cat", tags=("b",)))
        async with running(store, tmp_path) as service:
            assert await found(service, "dragon") == ["1"]
            assert await found(service, "京都") == ["1"]
            assert await found(service, "tag:anime") == ["1"]
            assert await found(service, "steam zxtrigger") == ["1", "2"]
            assert await found(service, "file_2") == ["2"]
            assert await found(service, "safetensors") == []
            assert await found(service, "source:civitai") == ["1", "2"]
            page = await service.search("dragon")
            assert msgspec.to_builtins(page.items[0]) == {
                "ref": "civitai:1", "name": "Dragon", "hub": "civitai", "type": "LORA",
                "base_model": "SDXL 1.0", "creator": "alice", "tags": ["anime"], "downloads": 1,
                "nsfw_level": 2, "owned": False, "updated_ms": 2_000, "size_bytes": 123,
                "hub_state": "listed",
            }  # fmt: skip


async def test_changes_become_searchable_while_running(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store, running(store, tmp_path) as service:
        assert await found(service, "") == []
        await keep(store, parsed(1, "Old name"))
        await caught_up(service, store)
        assert await found(service, "old") == ["1"]
        await keep(store, parsed(1, "New name"), parsed(2, "Other"))
        await caught_up(service, store)
        assert await found(service, "old") == []
        assert await found(service, "name") == ["1"]
        assert await found(service, "*") == ["1", "2"]
        assert service.is_caught_up


async def test_commits_keep_their_distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments: list[float] = []
    commit = CatalogIndex.commit

    def noted(self: CatalogIndex, marker: Marker) -> None:
        commit(self, marker)
        moments.append(trio.from_thread.run_sync(trio.current_time))

    monkeypatch.setattr(CatalogIndex, "commit", noted)
    async with open_store(tmp_path / "db") as store, running(store, tmp_path) as service:
        del moments[:]
        for number in range(1, 6):
            await keep(store, parsed(number, "x"))
            if number < 3:
                await caught_up(service, store)
        await caught_up(service, store)
        assert len(await found(service, "*")) == 5
    assert all(
        later - earlier >= follower.MIN_COMMIT_INTERVAL_S for earlier, later in pairwise(moments)
    )


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
async def test_no_batch_limit_loses_or_doubles_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(follower, "BATCH_MODELS", batch)
    async with open_store(tmp_path / "db") as store:
        await keep(store, *(parsed(number, "same seq") for number in range(1, 8)))
        await keep(store, parsed(8, "later"))
        async with running(store, tmp_path) as service:
            assert await found(service, "*") == [str(number) for number in range(1, 9)]
        assert CatalogIndex.open_or_create(tmp_path / "index").marker.changed_seq == 2


async def test_an_index_left_behind_by_a_kill_catches_up(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "first"), parsed(2, "second"))
        async with running(store, tmp_path):
            pass
        await keep(store, parsed(2, "changed"), parsed(3, "third"))
        async with running(store, tmp_path) as service:
            assert await found(service, "second") == []
            assert await found(service, "changed OR third OR first") == ["1", "2", "3"]


async def test_a_kill_before_the_commit_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(name: str) -> None:
        if name == "catalog.before_index_commit":
            raise Killed

    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "first"))
        async with running(store, tmp_path):
            pass
        await keep(store, parsed(2, "second"))
        with monkeypatch.context() as patch:
            patch.setattr(follower.failpoints, "hit", kill)
            with pytest.RaisesGroup(Killed):
                async with running(store, tmp_path, settle=False):
                    await trio.sleep_forever()
        index = CatalogIndex.open_or_create(tmp_path / "index")
        assert (index.marker.changed_seq, index.model_count) == (1, 1)
        async with running(store, tmp_path) as service:
            assert await found(service, "*") == ["1", "2"]


async def test_what_a_power_cut_took_back_is_forgotten(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "original"), parsed(2, "untouched"))
        # the disk as a power cut would leave it: later commits are lost
        for name in ("db", "db-wal"):
            shutil.copy(tmp_path / name, tmp_path / f"cut-{name}")
        await keep(store, parsed(1, "rewritten"), parsed(3, "lost"))
        async with running(store, tmp_path) as service:
            assert await found(service, "rewritten OR lost OR untouched") == ["1", "2", "3"]
        old_epoch = store.epoch
    async with open_store(tmp_path / "cut-db") as store:
        assert store.epoch != old_epoch
        # other changes now get the same numbers
        await keep(store, parsed(4, "fresh"))
        async with running(store, tmp_path) as service:
            assert await found(service, "rewritten OR lost") == []
            assert await found(service, "original OR untouched OR fresh") == ["1", "2", "4"]
        index = CatalogIndex.open_or_create(tmp_path / "index")
        assert index.marker == Marker(store.epoch, 2)


async def test_an_index_of_an_unknown_epoch_is_begun_anew(tmp_path: Path) -> None:
    index = CatalogIndex.create(tmp_path / "index")
    index.replace([])
    index.commit(Marker("of another database", 1_000))
    index.close()
    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "first"))
        async with running(store, tmp_path) as service:
            assert await found(service, "*") == ["1"]


def _removed(folder: Path) -> None:
    shutil.rmtree(folder)


def _garbled(folder: Path) -> None:
    for file in folder.glob("*.idx"):
        file.write_bytes(b"garbage")


def _flipped(folder: Path) -> None:
    for file in folder.glob("*.pos"):
        data = bytearray(file.read_bytes())
        data[0] ^= 255
        file.write_bytes(data)


def _lacking_a_model(folder: Path) -> None:
    index = CatalogIndex.open_or_create(folder)
    index.delete([2])
    index.commit(index.marker)
    index.close()


@pytest.mark.parametrize("damage", [_removed, _garbled, _flipped, _lacking_a_model])
async def test_a_lost_or_damaged_index_is_rebuilt_at_the_start(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async with open_store(tmp_path / "db") as store:
        await keep(store, *(parsed(number, f"model {number}") for number in range(1, 4)))
        async with running(store, tmp_path):
            pass
        damage(tmp_path / "index")
        async with running(store, tmp_path) as service:
            assert await found(service, "model") == ["1", "2", "3"]


async def test_an_index_removed_while_running_is_rebuilt(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "first"))
        async with running(store, tmp_path) as service:
            shutil.rmtree(tmp_path / "index")
            assert await found(service, "first") == ["1"], "what is open stays searchable"
            await caught_up(service, store)
            assert (tmp_path / "index" / "meta.json").exists()
            assert await found(service, "first") == ["1"]
            shutil.rmtree(tmp_path / "index")
            await keep(store, parsed(2, "second"))
            await caught_up(service, store)
            assert await found(service, "*") == ["1", "2"]


async def test_a_full_disk_keeps_the_index_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = CatalogIndex.commit
    failures = 2

    def fails(self: CatalogIndex, marker: Marker) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise IndexDamaged("No space left on device (os error 28)")
        commit(self, marker)

    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "first"))
        async with running(store, tmp_path) as service:
            with monkeypatch.context() as patch:
                patch.setattr(CatalogIndex, "commit", fails)
                patch.setattr(CatalogIndex, "create", None)
                patch.setattr(follower, "_FIRST_RETRY_S", 0.01)
                await keep(store, parsed(2, "second"))
                await caught_up(service, store)
            assert failures == 0
            assert await found(service, "*") == ["1", "2"]


async def test_models_without_a_readable_document_are_still_found(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "odd", "hidden"), raw=b'{"not": "a model"}')

        def damage(tx: Tx) -> None:
            put(tx, [parsed(2, "damaged", "hidden")])
            tx.db.execute("UPDATE document SET raw = x'1234' WHERE model_key = 2")
            put(tx, [parsed(3, "absent", "hidden")])
            tx.db.execute("DELETE FROM document WHERE model_key = 3")

        await store.apply(damage, durability=Durability.NORMAL, name="test.damage")
        async with running(store, tmp_path) as service:
            assert await found(service, "odd OR damaged OR absent") == ["1", "2", "3"]
            assert await found(service, "hidden") == []
            shown = await service.show(parse_reference("civitai:2"), raw=True)
            assert (shown.name, shown.raw, shown.description) == ("damaged", None, "")


async def test_pages_totals_and_facets_agree(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        models = [parsed(n, f"page {n}", type="LORA" if n % 3 else "VAE") for n in range(1, 24)]
        await keep(store, *models)
        async with running(store, tmp_path) as service:
            seen: list[str] = []
            for offset in range(0, 30, 5):
                page = await service.search("page", sort="downloads", limit=5, offset=offset)
                assert page.total == 23
                seen += [item.ref for item in page.items]
            assert seen == [f"civitai:{n}" for n in range(23, 0, -1)]
            page = await service.search("page", limit=0, facets=True)
            assert (page.total, page.items) == (23, [])
            assert page.facets == {
                "type": {"LORA": 16, "VAE": 7},
                "base_model": {"SDXL 1.0": 23},
                "topic": {},
            }


async def test_supported_models_are_found_by_their_reference_and_name(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        flux = "black-forest-labs/FLUX.1-dev"
        await keep(
            store,
            parsed(1, flux, hub="huggingface", ref_id=flux.lower()),
            parsed(4384, "DreamShaper 8"),
            parsed(4201, "somebody else under this number"),
        )
        async with running(store, tmp_path) as service:
            assert await found(service, "supported:yes") == ["4384", flux.lower()]
            assert await found(service, "supported:no") == ["4201"]


async def test_tags_from_an_old_models_json_are_found(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store, running(store, tmp_path) as service:

        def tagged(tx: Tx) -> None:
            tx.db.execute("INSERT INTO legacy_tag VALUES ('civitai', '1', 'my Portraits')")

        await store.apply(tagged, durability=Durability.NORMAL, name="test.tag")
        await keep(store, parsed(1, "one"), parsed(2, "two"))
        await caught_up(service, store)
        assert await found(service, "tag:my_portraits") == ["1"]
        assert await found(service, "portraits tag:anime") == ["1"]


async def test_far_pages_are_answered_without_a_huge_heap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_DEEP_OFFSET", 2)
    async with open_store(tmp_path / "db") as store:
        await keep(store, *(parsed(n, "x") for n in range(1, 6)))
        async with running(store, tmp_path) as service:
            page = await service.search("", offset=4)
            assert [item.ref for item in page.items] == ["civitai:1"]
            page = await service.search("x", offset=10_000_000)
            assert (page.total, page.items) == (5, [])


async def test_bad_questions_are_refused(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        service = CatalogService(store, tmp_path / "index", CODEC, parse=parse_fake)
        with pytest.raises(SearchUnavailable):
            await service.search("x")
        async with running(store, tmp_path) as service:
            with pytest.raises(QueryError, match="no field"):
                await service.search("tga:x")
            with pytest.raises(QueryError, match="order") as caught:
                await service.search("x", sort="dowloads")
            assert "did you mean downloads" in caught.value.hint
            with pytest.raises(QueryError, match="limit"):
                await service.search("x", limit=1001)
            with pytest.raises(QueryError, match="offset"):
                await service.search("x", offset=-1)
            with pytest.raises(QueryError, match="completed"):
                await service.complete("secrets")


async def test_a_search_that_fails_does_not_cost_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise IndexDamaged("too many terms")

    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "first"))
        async with running(store, tmp_path) as service:
            with monkeypatch.context() as patch:
                patch.setattr(CatalogIndex, "search", fails)
                patch.setattr(CatalogIndex, "create", None)
                patch.setattr(follower, "FILE_CHECK_INTERVAL_S", -1.0)
                with pytest.raises(SearchUnavailable, match="too many terms"):
                    await service.search("x")
                await caught_up(service, store)
            assert await found(service, "first") == ["1"]


async def test_a_canceled_search_leaves_the_next_ones_alone(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "first"))
        async with running(store, tmp_path) as service:
            for _ in range(20):
                with trio.move_on_after(0.0005):
                    await service.search("first")
            assert await found(service, "first") == ["1"]


def _own(tx: Tx) -> None:
    tx.db.execute(
        "INSERT INTO library_file (path, size_bytes, mtime_ns, inode, device, sha256, state,"
        " first_seen_ms, changed_ms) VALUES ('/models/a b.safetensors', 123, 0, 1, 1, ?,"
        " 'present', 0, 0)",
        (bytes([1]) * 32,),
    )
    seq = tx.emit("library", "file.added", "/models/a b.safetensors", {})
    tx.db.execute("UPDATE model SET owned = 1, changed_seq = ? WHERE model_key = 1", (seq,))


async def test_owned_models_are_found_and_show_where_they_are(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "mine"), parsed(2, "not mine"))
        async with running(store, tmp_path) as service:
            assert await found(service, "owned:yes") == []
            await store.apply(_own, durability=Durability.FULL, name="test.own")
            await caught_up(service, store)
            assert await found(service, "owned:yes") == ["1"]
            shown = await service.show(Reference("path", path="/models/a b.safetensors"))
            assert shown.ref == "civitai:1@10"
            assert shown.versions[0].files[0].owned_path == "/models/a b.safetensors"


async def test_any_reference_shows_its_model(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "Dragon", "its story"))
        async with running(store, tmp_path) as service:
            for text, ref in {
                "civitai:1": "civitai:1",
                "civitai:1@10": "civitai:1@10",
                "civitai:@10": "civitai:1@10",
                "civitai:1@10#100": "civitai:1@10",
                f"sha256:{'01' * 32}": "civitai:1@10",
                "https://civitai.com/models/1/dragon": "civitai:1",
            }.items():
                shown = await service.show(parse_reference(text))
                assert shown.ref == ref
            shown = await service.show(parse_reference("civitai:1@10"), raw=True)
            assert msgspec.json.decode(msgspec.json.encode(shown.raw))["name"] == "Dragon"
            assert shown.url == "https://civitai.com/models/1?modelVersionId=10"
            assert shown.description == "its story"
            [version] = shown.versions
            assert (version.ref, version.description) == ("civitai:1@10", "made of steam")
            [file] = version.files
            assert (file.ref, file.sha256, file.size_bytes, file.owned_path) == (
                "civitai:1@10#100", "01" * 32, 123, None,
            )  # fmt: skip
            for text in (
                "civitai:2", "civitai:1@11", "civitai:@11", f"sha256:{'02' * 32}", "/no/such.pt",
            ):  # fmt: skip
                with pytest.raises(ModelNotFound):
                    await service.show(parse_reference(text))


async def test_withdrawn_versions_are_shown_only_when_asked_for(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await keep(store, parsed(1, "Dragon"))

        def withdraw(tx: Tx) -> None:
            tx.db.execute("UPDATE version SET gone_ms = 9")
            tx.db.execute("UPDATE file SET gone_ms = 9")

        await store.apply(withdraw, durability=Durability.NORMAL, name="test.withdraw")
        async with running(store, tmp_path) as service:
            assert (await service.show(parse_reference("civitai:1"))).versions == []
            [version] = (await service.show(parse_reference("civitai:1@10"))).versions
            assert [file.name for file in version.files] == ["file_1.safetensors"]


async def test_values_are_completed(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await keep(
            store,
            parsed(11, "a", tags=("anime", "Art Style"), creator="Alice"),
            parsed(12, "b", tags=("anime",), creator="bob", type="TextualInversion"),
        )
        async with running(store, tmp_path) as service:
            assert await service.complete("tags", "A") == ["anime", "art style"]
            assert await service.complete("tags", "a", limit=1) == ["anime"]
            assert await service.complete("creators", "al") == ["alice"]
            assert await service.complete("types", "text") == ["TextualInversion"]
            assert await service.complete("bases", "sdxl1") == ["SDXL 1.0"]
            assert await service.complete("hubs") == ["civitai"]
            assert await service.complete("refs", "civitai:1") == ["civitai:11", "civitai:12"]
            assert await service.complete("refs", "nothing") == []

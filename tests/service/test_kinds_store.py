"""Kinds in the store: words seen on hubs, guesses by path, confirmations that stay."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from modelkeep_protocol import schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.hubs.contract import ParsedFile, ParsedModel, ParsedVersion
from modelkeepd.kinds import SeenWord, adopt, register, seen_words, words_used
from modelkeepd.kinds.listing import listed_kinds
from modelkeepd.library.guessing import FileGuesses
from modelkeepd.rpc.kinds import KindMethods
from modelkeepd.store import Durability, Store, open_store, read_events
from tests.fakes.model_files import samples, write_safetensors

NEW = SeenWord("type", "Hologram", "civitai")


async def see(store: Store, words: Sequence[SeenWord]) -> list[SeenWord]:
    unit = partial(register, words=words)
    return await store.apply(unit, durability=Durability.NORMAL, name="test.see")


async def test_unknown_words_are_kept_and_announced_once(store: Store) -> None:
    known = [
        SeenWord("type", "LORA", "civitai"),
        SeenWord("base", "sdxl 1.0", "civitai"),
        SeenWord("file_type", "Pruned Model", "civitai"),
        SeenWord("base", "org/repository", "huggingface"),
        SeenWord("type", "", "civitai"),
        SeenWord("base", "x" * 10_000, "civitai"),
    ]
    other = SeenWord("base", "Gargantua 9", "civitai")
    assert await see(store, [NEW, NEW, other, *known]) == [NEW, other]
    assert await see(store, [NEW, SeenWord("type", "hologram", "civitai"), other]) == []
    assert await see(store, [SeenWord("type", "Hologram", "huggingface")]) != []
    events = await store.read(lambda db: read_events(db, 0, topics=("model",)))
    assert [(event.kind, event.subject, event.payload["kind"]) for event in events] == [
        ("kind.new", "Hologram", "type"),
        ("kind.new", "Gargantua 9", "base"),
        ("kind.new", "Hologram", "type"),
    ]
    seen = await store.read(seen_words)
    assert {(word.kind, word.word, word.hub) for word in seen} == {
        ("type", "Hologram", "civitai"),
        ("type", "Hologram", "huggingface"),
        ("base", "Gargantua 9", "civitai"),
    }
    assert all(word.first_seen_ms > 0 for word in seen)


def test_the_words_of_a_page_are_each_told_once() -> None:
    file = ParsedFile("1", "a", "Side Dish", None, None, None, True, None)
    version = ParsedVersion("1", "", "Gargantua 9", 0, None, None, "", (), (file, file), ())
    model = ParsedModel(
        *("civitai", "1", "1", "x", "Hologram", None, (), "", None, None, None, None, "listed"),
        *((version,), ("Gargantua 9",), None, None, None),
    )
    assert [(word.kind, word.word) for word in words_used("civitai", [model, model])] == [
        ("type", "Hologram"),
        ("base", "Gargantua 9"),
        ("file_type", "Side Dish"),
    ]


async def test_the_methods_answer_in_the_protocol_s_words(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"emb_params": (4, 768)}, {})
    methods = KindMethods(store, FileGuesses(store))
    assert set(methods.table()) == {"kinds.list", "kinds.guess", "kinds.confirm"}
    guessed = await methods.guess(schema.PickFile(str(path)))
    assert [(item.kind, item.name) for item in guessed.items[:1]] == [("type", "TextualInversion")]
    assert ("base", "SD 1.5") in [(item.kind, item.name) for item in guessed.items]
    said = await methods.confirm(schema.ConfirmKind(str(path), type="lora"))
    assert (said.items[0].name, said.items[0].confidence) == ("LORA", 1.0)
    listed = await methods.list(schema.ListKinds(kind="type", text="lora"))
    assert "LORA" in [item.name for item in listed.items]
    with pytest.raises(ModelkeepError):
        await methods.list(schema.ListKinds(kind="color"))


async def test_a_value_of_a_hub_s_own_list_is_adopted_once(store: Store) -> None:
    async def adopted(kind: str, word: str) -> bool:
        unit = partial(adopt, kind=kind, word=word, hub="civitai")
        return await store.apply(unit, durability=Durability.NORMAL, name="test.adopt")

    assert await adopted("type", "Hologram") is True
    assert await adopted("type", "Hologram") is False
    assert await adopted("type", "Checkpoint") is False
    assert await adopted("file_type", "Side Dish") is True


async def test_the_list_of_kinds_has_the_table_s_and_the_seen_ones(store: Store) -> None:
    await see(store, [NEW, SeenWord("file_type", "Side Dish", "civitai")])
    both = await store.read(listed_kinds)
    assert len(both) > 150
    [hologram] = await store.read(partial(listed_kinds, text="holo"))
    assert (hologram.kind, hologram.is_known, hologram.folder) == ("type", False, "other")
    assert hologram.first_seen_ms
    types = await store.read(partial(listed_kinds, kind="type", text="EMBEDDING"))
    assert "TextualInversion" in [kind.name for kind in types]
    flux = await store.read(partial(listed_kinds, kind="base", text="flux.1"))
    assert {"Flux.1 D", "Flux.1 S"} <= {kind.name for kind in flux}
    assert all(kind.kind == "base" and kind.folder is None for kind in flux)


async def test_a_confirmation_stays_over_a_restart_and_moves_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "models" / "my-girl.safetensors"
    path.parent.mkdir()
    sample = next(s for s in samples(1) if s.kind == "SDXL 1.0 LoRA, bare")
    write_safetensors(path, sample.tensors, {})
    async with open_store(tmp_path / "db") as store:
        guesses = FileGuesses(store)
        before = await guesses.guess(str(path))
        assert before.types[0].type == "LORA"
        assert before.bases[0].base == "SDXL 1.0"
        said = await guesses.confirm(str(path), base="ilxl")
        assert [(guess.base, guess.confidence) for guess in said.bases] == [("Illustrious", 1.0)]
        assert said.types == before.types
        [event] = await store.read(lambda db: read_events(db, 0, topics=("library",)))
        assert (event.kind, event.payload) == ("file.confirmed", {"base": "Illustrious"})
    moved = path.rename(tmp_path / "elsewhere.safetensors")
    async with open_store(tmp_path / "db") as store:
        guesses = FileGuesses(store)
        assert (await guesses.guess(str(moved))).bases[0].confidence == 1.0
        await guesses.confirm(str(moved), type="DoRA")
        found = await guesses.guess(str(moved))
        assert (found.types[0].type, found.bases[0].base) == ("DoRA", "Illustrious")
        sibling = tmp_path / "models" / "my-boy.safetensors"
        write_safetensors(sibling, sample.tensors, {"ss_epoch": "9"})
        assert (await guesses.guess(str(sibling))).bases[0].base == "Illustrious"


@pytest.mark.parametrize("name", ["absent.safetensors", "folder", "\0", "x" * 5_000])
async def test_what_can_t_be_read_is_refused_with_a_reason(
    tmp_path: Path, store: Store, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    guesses = FileGuesses(store)
    with pytest.raises(ModelkeepError) as caught:
        await guesses.guess(f"{tmp_path}/{name}")
    assert caught.value.hint
    with pytest.raises(ModelkeepError):
        await guesses.confirm(f"{tmp_path}/{name}", type="LORA")
    with pytest.raises(ModelkeepError):
        await guesses.confirm(f"{tmp_path}/{name}")

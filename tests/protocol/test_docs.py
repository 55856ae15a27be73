"""docs/protocol.md is current, and the client on it works as it stands there."""

import os
import re
import subprocess
import sys
from typing import Any

import pytest
import trio

from modelkeep_protocol import errors, events, schema
from modelkeepd.rpc.streams import EventReader
from modelkeepd.store import Durability, Store, Tx
from tests.fakes.rpc import serving, socket_folder
from tests.protocol.examples import example
from tests.protocol.reference import BLOCKS, DOCS, protocol_page, structs

PAGE = DOCS / "protocol.md"


def client_on_the_page() -> str:
    [source] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert isinstance(source, str)
    return source


def test_the_generated_parts_are_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert protocol_page(text) == text, "run: python -m tests.protocol.reference"
    assert set(re.findall(r"<!-- generated: (\w+) -->", text)) == set(BLOCKS)


def test_every_method_type_code_and_kind_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in [*schema.METHODS, *errors.CODES, *events.TOPICS]:
        assert f"`{name}`" in text
    for kinds in events.KINDS.values():
        for kind in kinds:
            assert f"`{kind}`" in text
    for struct in structs():
        assert f"#### {struct.__name__}\n" in text


def test_links_on_the_page_lead_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in anchors


def test_the_client_is_as_short_and_as_bare_as_promised() -> None:
    lines = [line for line in client_on_the_page().splitlines() if line.strip()]
    assert len(lines) <= 40
    imported = {
        name.strip()
        for line in lines
        if line.startswith("import ")
        for name in line.removeprefix("import ").split(",")
    }
    assert imported == {"itertools", "os", "sys", "msgpack", "zmq"}


def run_client(home: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-", *arguments],
        input=client_on_the_page(),
        env={**os.environ, "MODELKEEP_HOME": home},
        capture_output=True,
        text=True,
    )


async def test_the_client_works(store: Store) -> None:
    def unit(tx: Tx) -> None:
        tx.emit("sync", "run.started", "civitai", {})
        tx.emit("transfer", "job.queued", "job:1", {})
        tx.emit("library", "file.added", "/models/a b.safetensors", {})
        tx.emit("sync", "run.finished", "civitai", {})

    await store.apply(unit, durability=Durability.NORMAL, name="test.emit")
    asked: list[schema.Search] = []
    status: Any = example(schema.Status)

    def search(params: schema.Search) -> Any:
        asked.append(params)
        return example(schema.SearchPage)

    events_reader = EventReader(store)
    handlers: dict[str, Any] = {
        "daemon.status": lambda _params: status,
        "catalog.search": search,
        "events.watch": events_reader.watch,
    }
    with socket_folder() as home:
        (home / "run").mkdir()
        async with serving(home / "run" / "rpc.sock", handlers):
            since = f"{store.epoch}:0"
            done = await trio.to_thread.run_sync(
                run_client, str(home), "type:lora 猫", since, "file.added"
            )
            assert done.stderr == ""
            item: Any = example(schema.SearchItem)
            assert done.stdout.splitlines() == [
                "epoch epoch1 at 1",
                f"models {status.catalog.models}",
                f"{item.ref} {item.name}",
                f"{item.ref} {item.name}",
                f"{store.epoch}:1 run.started civitai",
                f"{store.epoch}:3 file.added /models/a b.safetensors",
            ]
            assert asked == [schema.Search("type:lora 猫", limit=5)]
            refused = await trio.to_thread.run_sync(run_client, str(home), "x", "nonsense", "odd")
            assert refused.returncode == 1
            assert refused.stderr.startswith("invalid: 'nonsense' is not a cursor")


@pytest.mark.parametrize("struct", structs(), ids=lambda struct: str(struct.__name__))
def test_every_type_can_be_made_up(struct: Any) -> None:
    assert isinstance(example(struct), struct)

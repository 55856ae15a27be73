"""A daemon's home with a catalog of any size, built without a hub: documents go through sync's own
preparation and units of work, page by page, so that the rows are what a crawl would have left.

A document of CivitAI is one of two thousand of the simulated hub's (their shape, versions, files,
images) with a name, texts, tags and numbers of its own from ``synthetic_catalog``; a row of Hugging
Face is the simulated hub's own. Building is not what is measured; it uses both processors.
"""

import hashlib
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import trio

from benchmarks.synthetic_catalog import synthetic_models
from modelkeepd.catalog.projection import Projection
from modelkeepd.hubs.contract import ListItem, parse_model
from modelkeepd.hubs.documents import DocumentCodec, suffice, train_dictionary
from modelkeepd.hubs.huggingface import EXPANDED
from modelkeepd.store import Durability, Store, Tx, open_store
from modelkeepd.sync.prepare import MODEL_KIND, PreparedPage, prepare_page
from modelkeepd.sync.runs import begin_run, finish_run
from modelkeepd.sync.units import PageWrite, apply_page, save_dictionary
from tests.hubsim.app import Hub
from tests.hubsim.options import HubOptions

T = TypeVar("T")

PAGES = {"civitai": 100, "huggingface": 1_000}
VIEWS = {"civitai": ("mature", "sfw"), "huggingface": ("all",)}
CHUNK = 5_000
TEMPLATES = 2_000
# of the simulated hub; more than are ever taken
REPOSITORIES = 4_000_000
_STRIDE = 1_000_003
WORKERS = 2


def documents(hub: str, first: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Hub id and raw document of the models from ``first`` on."""
    if hub == "huggingface":
        yield from _rows(first, count)
        return
    templates = _Templates.get()
    for number, model in enumerate(synthetic_models(count, seed=first), first):
        yield str(number), _document(templates[number % len(templates)], number, model)


def _rows(first: int, count: int) -> Iterator[tuple[str, bytes]]:
    catalog = _repositories()
    population = catalog.synthetic.population
    for number in range(first, first + count):
        # from all of its years
        repo = catalog.repo(population.key(number * _STRIDE % REPOSITORIES))
        yield repo.key, msgspec.json.encode(catalog.document(repo, ("id", *EXPANDED)))


@cache
def _repositories() -> Any:
    """Made once in a process."""
    return Hub(HubOptions(dialect="huggingface", models=REPOSITORIES, seed=7)).catalog


class _Templates:
    """Made once in a process."""

    _made: list[dict[str, Any]] | None = None

    @classmethod
    def get(cls) -> list[dict[str, Any]]:
        if cls._made is None:
            catalog = Hub(HubOptions(models=TEMPLATES * 2, seed=7)).catalog
            made = (catalog.document(hub_id) for hub_id in catalog.ids())
            usable = (dict(one) for one in made if one is not None and one["modelVersions"])
            cls._made = list(itertools.islice(usable, TEMPLATES))
        return cls._made


def _document(template: dict[str, Any], number: int, model: Projection) -> bytes:
    description, *_, trained = model.texts
    base = model.base_models[0]
    stats = {"downloadCount": model.downloads, "thumbsUpCount": model.likes}
    versions = [
        version
        | {
            "id": number * 1_000 + place,
            "baseModel": base,
            "trainedWords": [trained],
            "publishedAt": _date(model.published_ms),
            "files": [
                file
                | {
                    "id": number * 1_000 + place * 20 + at,
                    "name": f"{trained}_{place}{Path(file['name']).suffix}",
                    "hashes": {"SHA256": _sha256(number, place, at)},
                }
                for at, file in enumerate(version["files"])
            ],
        }
        for place, version in enumerate(template["modelVersions"])
    ]
    return msgspec.json.encode(
        template
        | {
            "id": number,
            "name": model.name,
            "description": f"<p>{description}</p>",
            "type": model.type,
            "creator": {"username": model.creator},
            "tags": model.tags,
            "nsfwLevel": model.nsfw,
            "stats": template["stats"] | stats if template["stats"] else stats,
            "modelVersions": versions,
        }
    )


def _date(moment_ms: int | None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime((moment_ms or 0) / 1000))


def _sha256(*numbers: int) -> str:
    return hashlib.sha256(repr(numbers).encode()).hexdigest().upper()


# --- preparing, in worker processes ---

_codec = DocumentCodec()


def _learn(hub: str, dictionaries: list[tuple[int, bytes]]) -> None:
    for dict_id, data in dictionaries:
        _codec.add(dict_id, hub, MODEL_KIND, data)


def _prepare(hub: str, span: tuple[int, int]) -> list[PreparedPage]:
    items = [ListItem(hub_id=hub_id, raw=raw) for hub_id, raw in documents(hub, *span)]
    page = PAGES[hub]
    return [
        prepare_page(
            hub, items[at : at + page], {}, parse=partial(parse_model, hub, texts=False),
            codec=_codec, seen_since_ms=None,
        )
        for at in range(0, len(items), page)
    ]  # fmt: skip


# --- writing ---


def build(database: Path, models: Mapping[str, int]) -> dict[str, float]:
    """Make the database with a finished crawl of so many models of each hub; raw bytes of a
    document, by hub."""
    database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return trio.run(_build, database, models)


async def _build(database: Path, models: Mapping[str, int]) -> dict[str, float]:
    async with open_store(database) as store:
        return {hub: await _crawled(store, hub, count) for hub, count in models.items() if count}


async def _crawled(store: Store, hub: str, models: int) -> float:
    samples: list[bytes] = []
    for _, raw in documents(hub, 1, models):
        samples.append(raw)
        if suffice(samples):
            break
    dictionaries = []
    data = train_dictionary(samples)
    if data is not None:
        unit = partial(save_dictionary, hub=hub, kind=MODEL_KIND, data=data)
        dictionaries.append((await _apply(store, unit, "dictionary"), data))
    run = await _apply(store, partial(begin_run, hub=hub, kind="full", state="{}"), "begin")
    spans = [(first, min(CHUNK, models + 1 - first)) for first in range(1, models + 1, CHUNK)]
    pages = 0
    context = multiprocessing.get_context("spawn")
    with context.Pool(WORKERS, _learn, (hub, dictionaries)) as pool:
        for chunk in pool.imap(partial(_prepare, hub), spans):
            for page in chunk:
                if page.odd:
                    raise SystemExit(f"a synthetic document is odd: {page.odd[0].reason}")
                pages += 1
                write = PageWrite(
                    hub, VIEWS[hub][0], page, int(time.time() * 1000), run.run_id, "full", "{}"
                )
                await _apply(store, partial(apply_page, write=write), "page")
    marks = dict.fromkeys(VIEWS[hub])
    await _apply(store, partial(finish_run, run=run, pass_pages=(pages,), marks=marks), "finish")
    return sum(map(len, samples)) / len(samples)


async def _apply(store: Store, unit: Callable[[Tx], T], name: str) -> T:
    return await store.apply(unit, durability=Durability.NORMAL, name=f"bench.{name}")

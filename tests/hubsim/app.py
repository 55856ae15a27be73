"""The simulated hub put together: catalog, dialect, faults, control, server.

`open_hubsim` runs one inside a test's event loop; `python -m tests.hubsim` runs one as a process.
The paths under `/_sim/` steer it from outside; they are neither logged nor faulted.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import trio

from tests.hubsim import faults as fault_rules
from tests.hubsim import messages, shapes
from tests.hubsim.bytes import Contents
from tests.hubsim.catalog import Catalog, Source
from tests.hubsim.civitai import Civitai
from tests.hubsim.faults import Faults
from tests.hubsim.messages import Request, Response
from tests.hubsim.population import HOST, SPECIALS, Json
from tests.hubsim.recorded import RecordedSource
from tests.hubsim.serve import LogEntry, Server, listen, url_of
from tests.hubsim.synthetic_source import SyntheticSource


class Dialect(Protocol):
    """What a hub's dialect has to be: pure answers, and its addresses once they are known."""

    base_url: str
    storage_url: str

    def answer(self, request: Request) -> Response: ...


@dataclass(frozen=True, slots=True)
class HubOptions:
    """What a simulated hub is made of. `folder` and `models` may be combined."""

    dialect: str = "civitai"
    models: int = 200
    seed: int = 1
    folder: Path | None = None
    strict_visibility: bool = False  # recorded documents obey the real hub's visibility too
    as_recorded: bool = False
    tokens: Sequence[str] = ()  # the keys that count; none given: every key counts
    require_login: bool = False
    newest_loses_rows: bool = True
    drift: int = 0  # rows by which popularity lists move between two pages
    large_files: Sequence[int] = ()  # sizes; the newest models become files this large
    faults: Sequence[Mapping[str, object]] = ()


class Hub:
    """A simulated hub as tests see it: its addresses, its log, its script, its catalog."""

    def __init__(self, options: HubOptions) -> None:
        if options.dialect != "civitai":
            raise ValueError(
                f"the simulated hub does not speak {options.dialect!r} yet: only 'civitai'"
            )
        self._options = options
        self.contents = Contents(options.seed)
        self.recorded: RecordedSource | None = None
        sources: list[Source] = []
        if options.models:
            sources.append(
                SyntheticSource(options.models, options.seed, self.contents, options.large_files)
            )
        if options.folder is not None:
            self.recorded = RecordedSource(
                options.folder,
                self.contents,
                strict_visibility=options.strict_visibility,
                as_recorded=options.as_recorded,
            )
            sources.append(self.recorded)
        self.catalog = Catalog(sources, self.contents, seed=options.seed)
        self.faults = Faults(options.faults, options.seed)
        self.clock_offset_s = 0.0
        self.dialect = Civitai(
            self.catalog,
            wall_s=lambda: time.time() + self.clock_offset_s,
            tokens=options.tokens,
            require_login=options.require_login,
            newest_loses_rows=options.newest_loses_rows,
            drift=options.drift,
            advance=self.advance,
        )
        self.server = Server(self.answer)
        for hub_id in self.large_ids():
            self.catalog.document(hub_id)  # hashes it now, so that no request waits for that

    # -- for tests in this process -----------------------------------------------------------------

    @property
    def base_url(self) -> str:
        return self.dialect.base_url

    @property
    def storage_url(self) -> str:
        return self.dialect.storage_url

    @property
    def log(self) -> list[LogEntry]:
        """The requests so far, oldest first."""
        return list(self.server.log)

    def change(self, wanted: Mapping[str, object]) -> dict[str, list[int]]:
        """Change the catalog, as `POST /_sim/change` does."""
        return self.catalog.change(wanted)

    def advance(self) -> None:
        """Serve the next state of recorded documents that have two."""
        if self.recorded is not None:
            self.recorded.advance()

    def fail(self, path: str | None, do: object, **match: object) -> None:
        """Add a fault: `hub.fail("/api/v1/models", {"status": 503}, times=2)`."""
        self.faults.add(path, do, **match)

    def large_ids(self) -> list[int]:
        """The models that are large files, in the order of `HubOptions.large_files`."""
        return self.catalog.synthetic.large_ids() if self._options.large_files else []

    def version_ids(self, hub_id: int) -> list[int]:
        item = self.catalog.document(hub_id) or {"modelVersions": []}
        return [int(version["id"]) for version in item["modelVersions"]]

    def document(self, hub_id: int) -> Json | None:
        """The model's list item at full visibility, as its list would show it."""
        item = self.catalog.document(hub_id)
        return None if item is None else json.loads(self._text(item))

    def _text(self, item: Json) -> str:
        return json.dumps(item).replace(HOST, self.base_url)

    def truth(self, *, digests: bool = True) -> dict[int, dict[str, object]]:
        """Every model a crawl of both views can see, and a digest of what each view shows.

        A digest is the SHA-256 of the item as canonical JSON: keys sorted, no blanks, UTF-8.
        """
        seen: dict[int, dict[str, object]] = {}
        for hub_id in self.catalog.ids():
            traits = self.catalog.traits(hub_id)
            item = self.catalog.document(hub_id)
            source = self.catalog.source(hub_id)
            if traits is None or item is None or source is None:
                continue
            if not source.verbatim and not item["modelVersions"]:
                continue
            views = {
                name: self.dialect.listed(hub_id, traits, mature, archived=False)
                for name, mature in (("mature", True), ("sfw", False))
            }
            if not any(views.values()):
                continue
            entry: dict[str, object] = {"name": item["name"], "type": item["type"], **views}
            if digests:
                text = self._text(item)
                entry["mature_sha256"] = _digest(text) if views["mature"] else None
                if not source.verbatim:
                    text = self._text(shapes.cut_to_pg(item))
                entry["sfw_sha256"] = _digest(text) if views["sfw"] else None
            seen[hub_id] = entry
        return seen

    # -- one request -------------------------------------------------------------------------------

    def answer(self, request: Request, entry: LogEntry) -> Response:
        if request.path.startswith("/_sim/") and not request.storage:
            return self._control(request)
        fault = self.faults.take(request)
        response = None
        if fault is not None:
            entry.fault = list(fault.do)
            response = fault_rules.before(fault, request)
        if response is None:
            response = self.dialect.answer(request)
        if fault is not None:
            response = fault_rules.after(fault, request, response)
        return response

    def _control(self, request: Request) -> Response:
        """Steer the hub from outside; wrong use is answered with 400 and the reason."""
        word = request.path.removeprefix("/_sim/")
        handler = self._posts.get(word) if request.method == "POST" else self._gets.get(word)
        if handler is None:
            return messages.document(404, {"error": f"no {request.method} control {word!r}"})
        try:
            args = json.loads(request.body) if request.body else {}
            return messages.document(200, handler(request, args))
        except (ValueError, TypeError, LookupError) as error:
            return messages.document(400, {"error": f"{type(error).__name__}: {error}"})

    @property
    def _gets(self) -> dict[str, Callable[[Request, object], object]]:
        return {
            "log": lambda request, _: [entry.to_json() for entry in self.log],
            "faults": lambda request, _: [fault.to_json() for fault in self.faults.items],
            "truth": lambda request, _: {
                str(hub_id): entry
                for hub_id, entry in self.truth(digests=request.arg("digests") != "0").items()
            },
            "document": lambda request, _: self.document(int(request.arg("id") or 0)),
            "state": lambda request, _: {
                "models": sum(1 for _ in self.catalog.ids()),
                "state": self.recorded.state if self.recorded else 0,
                "now_ms": self.catalog.now_ms,
                "base_url": self.base_url,
                "storage_url": self.storage_url,
            },
            "specials": lambda request, _: self.specials(),
        }

    @property
    def _posts(self) -> dict[str, Callable[[Request, object], object]]:
        return {
            "faults": self._post_faults,
            "change": lambda request, args: self.change(_mapping(args)),
            "reset_log": lambda request, _: self.server.log.clear(),
            "advance": lambda request, _: self.advance(),
            "clock": self._post_clock,
        }

    def specials(self) -> dict[str, int]:
        return {name: self.catalog.special(name) for name in SPECIALS}

    def _post_faults(self, request: Request, args: object) -> object:
        """A list replaces the script; {"append": [...]} adds to it."""
        if isinstance(args, list):
            # Read first: a bad list leaves the old script in force.
            self.faults.items = Faults(args).items
        else:
            self.faults.extend(_list(_mapping(args)["append"]))
        return {"faults": len(self.faults.items)}

    def _post_clock(self, request: Request, args: object) -> object:
        """Move the clock the signed addresses expire by."""
        self.clock_offset_s += float(str(_mapping(args)["advance_s"]))
        return {"offset_s": self.clock_offset_s}


def _mapping(args: object) -> Mapping[str, object]:
    if not isinstance(args, Mapping):
        raise ValueError("a JSON object is needed")
    return args


def _list(args: object) -> list[Any]:
    if not isinstance(args, list):
        raise ValueError("a JSON list is needed")
    return args


def _digest(text: str) -> str:
    return hashlib.sha256(messages.canonical(json.loads(text))).hexdigest()


async def run_hub(
    hub: Hub,
    *,
    port: int = 0,
    storage_port: int = 0,
    task_status: trio.TaskStatus[Hub] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until canceled; started means both ports are open."""
    api, storage = await listen(port), await listen(storage_port)
    hub.dialect.base_url, hub.dialect.storage_url = url_of(api), url_of(storage)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: hub.server.serve(api, storage=False))
        nursery.start_soon(lambda: hub.server.serve(storage, storage=True))
        task_status.started(hub)


@asynccontextmanager
async def open_hubsim(
    *,
    models: int | None = None,
    seed: int = 1,
    folder: Path | None = None,
    faults: Iterable[Mapping[str, object]] = (),
    port: int = 0,
    storage_port: int = 0,
    **options: Any,
) -> AsyncIterator[Hub]:
    """A hub on loopback ports for the length of a block; see `HubOptions` for the options.

    Without `models` there are 200, or none beside a folder of recorded documents.
    """
    if models is None:
        models = 0 if folder is not None else 200
    made = HubOptions(models=models, seed=seed, folder=folder, faults=tuple(faults), **options)
    hub = Hub(made)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        serve = functools.partial(run_hub, hub, port=port, storage_port=storage_port)
        await nursery.start(serve)
        try:
            yield hub
        except Exception as error:  # raised below, outside the nursery that would wrap it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure

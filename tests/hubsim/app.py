"""The simulated hub put together: catalog, dialect, faults, control, server.

`open_hubsim` runs one inside a test's event loop; `python -m tests.hubsim` runs one as a process.
The paths under `/_sim/` steer it from outside; they are neither logged nor faulted.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.hubsim import faults as fault_rules
from tests.hubsim import messages
from tests.hubsim.bytes import Contents
from tests.hubsim.civitai_world import CivitaiWorld
from tests.hubsim.faults import Faults
from tests.hubsim.hf_world import HuggingFaceWorld
from tests.hubsim.messages import Request, Response
from tests.hubsim.options import HubOptions, World
from tests.hubsim.serve import LogEntry, Server, listen, url_of

_WORLDS: dict[str, Callable[..., World]] = {
    "civitai": CivitaiWorld,
    "huggingface": HuggingFaceWorld,
}


class Hub:
    """A simulated hub as tests see it: its addresses, its log, its script, its catalog."""

    def __init__(self, options: HubOptions) -> None:
        make = _WORLDS.get(options.dialect)
        if make is None:
            raise ValueError(
                f"the simulated hub does not speak {options.dialect!r}: {', '.join(_WORLDS)}"
            )
        self.contents = Contents(options.seed)
        self.clock_offset_s = 0.0
        self.world: World = make(
            options, self.contents, wall_s=lambda: time.time() + self.clock_offset_s
        )
        self.catalog = self.world.catalog
        self.dialect = self.world.dialect
        self.faults = Faults(options.faults, options.seed)
        self.server = Server(self.answer)

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

    def change(self, wanted: Mapping[str, object]) -> dict[str, list[Any]]:
        """Change the catalog, as `POST /_sim/change` does."""
        return self.world.change(wanted)

    def advance(self) -> None:
        """Serve the next state of recorded documents that have two."""
        self.world.advance()

    def set_era(self, date: str | None) -> None:
        """CivitAI: answer in the shapes of that date from now on; None is today."""
        self.world.set_era(date)

    def fail(self, path: str | None, do: object, **match: object) -> None:
        """Add a fault: `hub.fail("/api/v1/models", {"status": 503}, times=2)`."""
        self.faults.add(path, do, **match)

    def large_ids(self) -> list[Any]:
        """The models that are large files, in the order of `HubOptions.large_files`."""
        return self.world.large_ids()

    def version_ids(self, hub_id: int) -> list[int]:
        """CivitAI: the ids of a model's versions."""
        return self.world.version_ids(hub_id)

    def name(self, key: str) -> str:
        """Hugging Face: what the repository of an `_id` is called now."""
        return self.world.name(key)

    def document(self, hub_id: Any, *fields: str) -> dict[str, Any] | None:
        """The model's list item at full visibility; of a repository all fields, or the named."""
        return self.world.document(hub_id, *fields)

    def truth(self, *, digests: bool = True) -> dict[Any, dict[str, Any]]:
        """Every model a crawl must know, and digests of what it has to find."""
        return self.world.truth(digests=digests)

    def specials(self) -> dict[str, Any]:
        return self.world.specials()

    # -- one request -------------------------------------------------------------------------------

    def answer(self, request: Request, entry: LogEntry) -> Response:
        if request.path.startswith("/_sim/") and not request.storage:
            return self._control(request)
        refused = self.dialect.admit(request)
        fault = self.faults.take(request)
        response = None
        if fault is not None:
            entry.fault = list(fault.do)
            request.refusal = self.dialect.refusal
            response = fault_rules.before(fault, request)
        if response is None:
            response = refused or self.dialect.answer(request)
        response = self.dialect.dress(request, response)
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
            "document": lambda request, _: self.document(request.arg("id") or "0"),
            "state": lambda request, _: {
                **self.world.state(),
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
            "era": self._post_era,
        }

    def _post_faults(self, request: Request, args: object) -> object:
        """A list replaces the script; {"append": [...]} adds to it."""
        if isinstance(args, list):
            # Read first: a bad list leaves the old script in force.
            self.faults.items = Faults(args).items
        else:
            self.faults.extend(_list(_mapping(args)["append"]))
        return {"faults": len(self.faults.items)}

    def _post_era(self, request: Request, args: object) -> object:
        date = _mapping(args)["era"]
        self.set_era(None if date is None else str(date))
        return {"era": date}

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


async def run_hub(
    hub: Hub,
    *,
    port: int = 0,
    storage_port: int = 0,
    task_status: trio.TaskStatus[Hub] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until canceled; started means both ports are open."""
    api, storage = await listen(port), await listen(storage_port)
    hub.dialect.base_url = url_of(api)
    hub.dialect.storage_url = url_of(storage, hub.dialect.storage_host)
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

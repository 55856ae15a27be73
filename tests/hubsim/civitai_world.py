"""The CivitAI dialect with its catalog: what tests and the control paths ask of it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping

from tests.hubsim import messages, shapes
from tests.hubsim.bytes import Contents
from tests.hubsim.catalog import Catalog, Source
from tests.hubsim.civitai import Civitai
from tests.hubsim.civitai_eras import Era
from tests.hubsim.options import HubOptions
from tests.hubsim.population import HOST, SPECIALS, Json
from tests.hubsim.recorded import RecordedSource
from tests.hubsim.synthetic_source import SyntheticSource


class CivitaiWorld:
    def __init__(
        self, options: HubOptions, contents: Contents, wall_s: Callable[[], float]
    ) -> None:
        self._options = options
        self.recorded: RecordedSource | None = None
        sources: list[Source] = []
        if options.models:
            sources.append(
                SyntheticSource(options.models, options.seed, contents, options.large_files)
            )
        if options.folder is not None:
            self.recorded = RecordedSource(
                options.folder,
                contents,
                strict_visibility=options.strict_visibility,
                as_recorded=options.as_recorded,
            )
            sources.append(self.recorded)
        self.catalog = Catalog(sources, contents, seed=options.seed)
        self.dialect = Civitai(
            self.catalog,
            wall_s=wall_s,
            tokens=options.tokens,
            require_login=options.require_login,
            newest_loses_rows=options.newest_loses_rows,
            drift=options.drift,
            advance=self.advance,
        )
        self.set_era(options.era)
        for hub_id in self.large_ids():
            self.catalog.document(hub_id)  # hashes it now, so that no request waits for that

    def change(self, wanted: Mapping[str, object]) -> dict[str, list[int]]:
        return self.catalog.change(wanted)

    def advance(self) -> None:
        if self.recorded is not None:
            self.recorded.advance()

    def set_era(self, date: str | None) -> None:
        self.dialect.era = Era(date)

    def large_ids(self) -> list[int]:
        return self.catalog.synthetic.large_ids() if self._options.large_files else []

    def version_ids(self, hub_id: int) -> list[int]:
        item = self.catalog.document(hub_id) or {"modelVersions": []}
        return [int(version["id"]) for version in item["modelVersions"]]

    def specials(self) -> dict[str, int]:
        return {name: self.catalog.special(name) for name in SPECIALS}

    def state(self) -> dict[str, object]:
        return {
            "models": sum(1 for _ in self.catalog.ids()),
            "state": self.recorded.state if self.recorded else 0,
            "now_ms": self.catalog.now_ms,
        }

    def name(self, key: str) -> str:
        """What the model of an id is called."""
        item = self.catalog.document(int(key))
        if item is None:
            raise LookupError(f"no such model: {key}")
        return str(item["name"])

    def document(self, hub_id: object, *fields: str) -> Json | None:
        """The model's list item at full visibility, as its list would show it."""
        number = int(str(hub_id))
        item, source = self.catalog.document(number), self.catalog.source(number)
        if item is None or source is None:
            return None
        shown: Json = json.loads(self._text(item, source))
        return {key: shown[key] for key in fields if key in shown} if fields else shown

    def _text(self, item: Json, source: Source) -> str:
        if not source.verbatim and self.dialect.era.name is not None:
            item = self.dialect.era.shown(copy.deepcopy(item), "list")
        return json.dumps(item).replace(HOST, self.dialect.base_url)

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
                text = self._text(item, source)
                entry["mature_sha256"] = _digest(text) if views["mature"] else None
                if not source.verbatim:
                    text = self._text(shapes.cut_to_pg(item), source)
                entry["sfw_sha256"] = _digest(text) if views["sfw"] else None
            seen[hub_id] = entry
        return seen


def _digest(text: str) -> str:
    return hashlib.sha256(messages.canonical(json.loads(text))).hexdigest()

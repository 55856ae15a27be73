"""CivitAI's answers in the shapes of earlier dates, for those who watch for API changes.

Each step undoes one visible change of the API's history; a hub of an era has every step undone that
came after it. A year or a month stands for its first day. Recorded documents are of their own time
and left alone; the rules of the hub (who may see what) are always today's.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tests.hubsim.messages import Response, document
from tests.hubsim.population import HOST, Json
from tests.hubsim.synthetic_files import soft_query

Where = Literal["list", "model", "version"]
_EVERYWHERE: tuple[Where, ...] = ("list", "model", "version")
_MODELS: tuple[Where, ...] = ("list", "model")
_PAGES_END, _ISO_END, _COLON_END = "2024-03-01", "2024-04-01", "2024-05-15"
_PAGE_LIMIT_BEGINS = "2024-08-01"
_WORDS = {1: "None", 2: "Soft", 4: "Mature"}
_RANKED = ("Sell", "Rent", "RentCivit", "Image")


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the API: since when, in which answers, and how to take it back."""

    since: str
    what: str
    where: tuple[Where, ...]
    undo: Callable[[Json], None]


def _versions(shown: Json) -> Iterator[Json]:
    """The versions in an answer: those of a model, or the version that the answer is."""
    if "modelVersions" in shown:
        yield from shown["modelVersions"]
    else:
        yield shown


def _files(shown: Json) -> Iterator[tuple[Json, Json]]:
    for version in _versions(shown):
        for file in version.get("files", ()):
            yield version, file


def _soft_addresses(shown: Json) -> None:
    """A file's address named its properties, not its id."""
    for version, file in _files(shown):
        url = f"{HOST}/api/download/models/{version['id']}"
        if not file.get("primary"):
            metadata = {key: value for key, value in file.get("metadata", {}).items() if value}
            url += soft_query(str(file["type"]), metadata)
        if "downloadUrl" in file:
            file["downloadUrl"] = url


def _early_access_word(shown: Json) -> None:
    for version in _versions(shown):
        if version.get("paidAccess") and "availability" in version:
            version["availability"] = "EarlyAccess"


def _license_text(shown: Json) -> None:
    """A list as its database writes it: `"{Image,RentCivit}"`."""
    shown["allowCommercialUse"] = "{" + ",".join(shown["allowCommercialUse"]) + "}"


def _license_list(shown: Json) -> None:
    text = str(shown["allowCommercialUse"]).strip("{}")
    shown["allowCommercialUse"] = text.split(",") if text else []


def _license_word(shown: Json) -> None:
    allowed = shown["allowCommercialUse"]
    word = next((word for word in _RANKED if word in allowed), "None")
    shown["allowCommercialUse"] = "Rent" if word == "RentCivit" else word


def _early_access_ends(shown: Json) -> None:
    for version in _versions(shown):
        paid = version.pop("paidAccess", None)
        ends = paid.get("endsAt") if isinstance(paid, dict) else None
        if ends is not None or "modelId" in version:
            version["earlyAccessEndsAt"] = ends
            config = {"timeframe": 7, "chargeForDownload": True} if ends is not None else {}
            version["earlyAccessConfig"] = config


def _no_early_access(shown: Json) -> None:
    for version in _versions(shown):
        for name in ("earlyAccessEndsAt", "earlyAccessConfig"):
            version.pop(name, None)
        if version.get("availability") == "EarlyAccess":
            version["availability"] = "Public"
        if "modelId" in version:
            version["earlyAccessTimeFrame"] = 0


def _numbers_for_nulls(shown: Json) -> None:
    for holder in (shown, *_versions(shown)):
        stats = holder.get("stats", {})
        stats.update({name: 0 for name, value in stats.items() if value is None})


def _without(*names: str, of: Literal["model", "version", "file", "image"]) -> Callable[..., None]:
    def undo(shown: Json) -> None:
        holders: list[Json] = [shown]
        if of == "version":
            holders = list(_versions(shown))
        elif of == "file":
            holders = [file for _, file in _files(shown)]
        elif of == "image":
            holders = [image for v in _versions(shown) for image in v.get("images", ())]
        for holder in holders:
            for name in names:
                holder.pop(name, None)

    return undo


def _ratings_of_zero(shown: Json) -> None:
    """Long dead, but still there."""
    for holder in (shown, *_versions(shown)):
        if "stats" in holder:
            holder["stats"] |= {"ratingCount": 0, "rating": 0}
            if holder is shown and "modelVersions" in shown:
                holder["stats"]["favoriteCount"] = 0


def _narrow_pictures(shown: Json) -> None:
    for version in _versions(shown):
        for image in version.get("images", ()):
            image["url"] = image["url"].replace("original=true", "width=450")


def _no_autov3(shown: Json) -> None:
    for _, file in _files(shown):
        file.get("hashes", {}).pop("AutoV3", None)


def _ratings_for_thumbs(shown: Json) -> None:
    for holder in (shown, *_versions(shown)):
        stats = holder.get("stats")
        if stats is None:
            continue
        likes = stats.pop("thumbsUpCount", 0) or 0
        dislikes = stats.pop("thumbsDownCount", 0) or 0
        stats.pop("tippedAmountCount", None)
        count = likes // 3 + dislikes
        stats |= {"ratingCount": count, "rating": 4.8 if count else 0}
        if "favoriteCount" in stats:
            stats["favoriteCount"] = likes


def _words_for_levels(shown: Json) -> None:
    """Pictures had a word, models only a flag."""
    for version in _versions(shown):
        version.pop("nsfwLevel", None)
        for image in version.get("images", ()):
            level = image.pop("nsfwLevel", 1)
            image["nsfw"] = _WORDS.get(level, "X")
            for name in ("type", "hasMeta", "onSite"):
                image.pop(name, None)
            image["meta"] = None
    shown.pop("nsfwLevel", None)


def _dates_of_versions(shown: Json) -> None:
    for version in _versions(shown):
        date = version.pop("publishedAt", None) or version.get("createdAt")
        version |= {"createdAt": date, "updatedAt": date, "earlyAccessTimeFrame": 0}
        version.setdefault("modelId", shown.get("id"))
        for name in ("index", "availability", "baseModelType", "status", "covered"):
            version.pop(name, None)


STEPS: tuple[Step, ...] = (
    Step("2026-08-13", "?fileId= in addresses", ("model", "version"), _soft_addresses),
    Step("2026-08-05", "availability EarlyAccess retired", _EVERYWHERE, _early_access_word),
    Step("2026-08-03", "allowCommercialUse a list again", _MODELS, _license_text),
    Step("2026-07-27", "paidAccess for earlyAccessEndsAt", _EVERYWHERE, _early_access_ends),
    Step("2026-07-21", "hidden counters are null", _EVERYWHERE, _numbers_for_nulls),
    Step("2026-04-22", "overrideName", _EVERYWHERE, _without("overrideName", of="file")),
    Step("2026-04-22", "flags", _EVERYWHERE, _without("flags", "vaeId", of="version")),
    Step("2026-01-15", "userId, baseModels", _MODELS, _without("userId", "baseModels", of="model")),
    Step("2025-11-24", "allowCommercialUse a text", _MODELS, _license_list),
    Step("2025-11-24", "ratings of zero gone", _EVERYWHERE, _ratings_of_zero),
    Step("2025-09-22", "whole pictures", _EVERYWHERE, _narrow_pictures),
    Step("2025-06-01", "sfwOnly", _MODELS, _without("sfwOnly", of="model")),
    Step(
        "2025-01-01",
        "availability of models",
        _MODELS,
        _without("availability", "supportsGeneration", of="model"),
    ),
    Step(
        "2025-01-01",
        "more about pictures",
        _EVERYWHERE,
        _without("minor", "poi", "hasPositivePrompt", "remixOfId", of="image"),
    ),
    Step(
        "2025-01-01",
        "supportsGeneration of versions",
        _EVERYWHERE,
        _without("supportsGeneration", of="version"),
    ),
    Step("2024-08-01", "early access listed", _EVERYWHERE, _no_early_access),
    Step("2024-04-26", "air", ("version",), _without("air", of="version")),
    Step(_PAGES_END, "thumbs for ratings", _EVERYWHERE, _ratings_for_thumbs),
    Step(_PAGES_END, "nsfwLevel of pictures", _EVERYWHERE, _words_for_levels),
    Step(_PAGES_END, "publishedAt for createdAt", _MODELS, _dates_of_versions),
    Step("2024-01-01", "virusScanMessage", _EVERYWHERE, _without("virusScanMessage", of="file")),
    Step("2024-01-01", "minor", _MODELS, _without("minor", "cosmetic", of="model")),
    Step("2023-12-01", "allowCommercialUse a list", _MODELS, _license_word),
    Step("2023-11-01", "AutoV3", _EVERYWHERE, _no_autov3),
)


class Era:
    """How a hub of that date answers; of today without one."""

    def __init__(self, date: str | None) -> None:
        self.name = date
        self._date = _whole_date(date) if date is not None else "9999-12-31"
        self._undone = [step for step in STEPS if step.since > self._date]

    def shown(self, value: Json, where: Where) -> Json:
        """An answer of today as it was then. Changes and returns what it is given."""
        for step in self._undone:
            if where in step.where:
                step.undo(value)
        return value

    # -- pages and cursors -------------------------------------------------------------------------

    @property
    def has_page_numbers(self) -> bool:
        """Lists had totals and numbers of pages, and no cursors."""
        return self._date < _PAGES_END

    @property
    def limits_pages(self) -> bool:
        return self._date >= _PAGE_LIMIT_BEGINS

    def cursor_out(self, cursor: str) -> str:
        """Today's `date|id` or `a|b|c` in the spelling of the era."""
        if self._date >= _COLON_END:
            return cursor
        date, _, _ = cursor.partition("|")
        if self._date < _ISO_END and "-" in date:
            return date.replace(" ", "T") + "Z"
        return cursor.replace("|", ":")

    def cursor_in(self, cursor: str) -> str:
        if self._date >= _COLON_END:
            return cursor
        if self._date < _ISO_END and cursor.endswith("Z"):
            # Only a date: whatever bears it comes again.
            return f"{cursor[:-1].replace('T', ' ')}|{1 << 62}"
        if "-" in cursor:
            return "|".join(cursor.rsplit(":", 1))
        return cursor.replace(":", "|")

    # -- errors ------------------------------------------------------------------------------------

    def error(self, response: Response, body: Json) -> Response:
        """A refusal's body as it was then."""
        found = body.get("error")
        if self._date < "2025-07-02" and isinstance(found, dict) and "message" in found:
            issues = json.loads(found["message"])
            return document(response.status, {"error": {"issues": issues, "name": "ZodError"}})
        return response

    def crash(self) -> Response | None:
        """A 500 before errors had one envelope; None for today's."""
        if self._date >= "2026-08-12":
            return None
        return document(500, {"message": "An unexpected error occurred", "error": {}})


def _whole_date(date: str) -> str:
    parts = date.split("-")
    whole = "-".join([*parts, "01", "01"][:3])
    try:
        datetime.date.fromisoformat(whole)
    except ValueError:
        raise ValueError(f"an era is a date such as 2024-05 or 2026-08-03, not {date!r}") from None
    return whole

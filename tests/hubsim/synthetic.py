"""One synthetic model of the catalog: its document in the hub's list shape.

A pure function of (seed, index): nothing is stored, a million models cost no memory and every one
can be asked for alone. The order of the catalog, its changes and who may see what are
`catalog.py`'s business.
"""

from __future__ import annotations

import _random
import datetime
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.hubsim import words
from tests.hubsim.bytes import Contents
from tests.hubsim.population import (
    HOST,
    Json,
    Population,
    Traits,
    mix,
    model_id,
    spread,
    version_id,
)
from tests.hubsim.prose import Draw, description_of, name_of, pick, script_of
from tests.hubsim.synthetic_files import SimFile, SyntheticFiles, soft_query

_BASE_TABLE = spread(words.BASE_MODELS)
_COMMERCIAL: tuple[list[str], ...] = (
    ["Image", "RentCivit", "Rent", "Sell"],
    ["Image", "RentCivit"],
    ["Sell"],
    [],
)
_EARLY = {"permanent": False, "endsAt": "2027-01-01T00:00:00.000Z"}
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class _Common:
    """What all versions of a model have in common."""

    index: int
    english: str
    traits: Traits
    base_model: str
    downloads: int
    thumbs: int


class Synthesizer:
    def __init__(self, population: Population, contents: Contents) -> None:
        self.population = population
        self.files = SyntheticFiles(population, contents)
        self._contents = contents
        self._random = _random.Random()  # the bare generator: seeding it is most of its cost

    def document(
        self, index: int, date_ms: int | None, rank: int, later_versions: Sequence[int] = ()
    ) -> Json:
        """The list item at full visibility. `later_versions` are the dates of added versions."""
        population = self.population
        traits = population.traits(index)
        special = traits.special
        self._random.seed(population.hash(index, 3))
        draw = self._random.random
        script = script_of(special, draw)
        name, english = name_of(script, special, draw)
        downloads, thumbs = population.popularity(rank)
        creator = population.hash(int(population.creators * draw() ** 2), 4)
        hidden_stats = special == "null_stats" or creator % 97 == 0
        description: str | None = description_of(script, draw)
        if special == "no_description" or (special is None and draw() < 0.03):
            description = None
        document: Json = {
            "id": model_id(index),
            "name": name,
            "description": description,
            "allowNoCredit": draw() < 0.8,
            "allowCommercialUse": _COMMERCIAL[int(draw() * 4)],
            "allowDerivatives": draw() < 0.85,
            "allowDifferentLicense": draw() < 0.8,
            "type": traits.type,
            "minor": traits.minor,
            "sfwOnly": False,
            "poi": traits.poi,
            "nsfw": traits.level & 28 != 0 and draw() < 0.6,
            "nsfwLevel": traits.level,
            "availability": "Public",
            "userId": 1000 + creator % 900_000,
            "baseModels": [],
            "cosmetic": None,
            "supportsGeneration": draw() < 0.7,
            "stats": {
                "downloadCount": None if hidden_stats else downloads,
                "thumbsUpCount": thumbs,
                "thumbsDownCount": thumbs // 60,
                "commentCount": thumbs // 20,
                "tippedAmountCount": None if hidden_stats else thumbs * 3,
            },
            "creator": _creator(creator, special),
            "tags": _tags(script, draw),
        }
        if traits.mode:
            document["mode"] = traits.mode
        # The house's own account has no creator at all.
        if special == "no_creator" or (special is None and creator % 211 == 0):
            del document["creator"]
        base_model = _BASE_TABLE[int(draw() * 1024)]
        common = _Common(index, english, traits, base_model, downloads, thumbs)
        versions = self._versions(common, date_ms, later_versions)
        document["modelVersions"] = versions
        document["baseModels"] = list(dict.fromkeys(version["baseModel"] for version in versions))
        return document

    def _versions(
        self, common: _Common, date_ms: int | None, later_versions: Sequence[int]
    ) -> list[Json]:
        if common.traits.versionless:
            return []
        index = common.index
        count = self.population.version_count(index)
        versions = []
        for number in range(count - 1, -1, -1):
            date = None if date_ms is None else date_ms - (count - 1 - number) * 9 * _DAY_MS
            versions.append(self._version(common, number, date))
        shuffled = self.population.hash(index, 6) % 5 == 0
        if common.traits.special == "many_versions" or (count > 1 and shuffled):
            versions.append(versions.pop(0))  # the creator's order is not the order of dates
        for later, date in enumerate(later_versions):
            versions.insert(0, self._version(common, count + later, date))
        for position, version in enumerate(versions):
            version["index"] = position
        return versions

    def _version(self, common: _Common, number: int, date_ms: int | None) -> Json:
        index, traits = common.index, common.traits
        hub_id = version_id(index, number)
        self._random.seed(self.population.hash(index, 16 + number))
        draw = self._random.random
        files = self.files.of_version(traits, index, number, common.english)
        trigger = common.english.split(" ", 1)[0].lower()
        stamp = iso(date_ms)
        url = f"{HOST}/api/download/models/{hub_id}"
        version: Json = {
            "id": hub_id,
            "index": 0,
            "name": pick(words.VERSION_NAMES, draw),
            "baseModel": common.base_model if draw() < 0.9 else _BASE_TABLE[int(draw() * 1024)],
            "baseModelType": "Standard",
            "publishedAt": stamp,
            "flags": 0,
            "availability": "Public",
            # A fresh version has no level yet: listed, but not to be had from its own endpoint.
            "nsfwLevel": 0 if traits.special == "fresh" else traits.level,
            "description": "<p>Better colors.</p>" if draw() < 0.25 else None,
            "trainedWords": [trigger + pick(("", "_style", ", solo,"), draw)]
            if draw() < 0.8
            else [],
            "vaeId": None,
            "paidAccess": _EARLY if self.population.early_access(index, number) else None,
            "stats": {
                "downloadCount": common.downloads // (number + 1),
                "thumbsUpCount": common.thumbs // (number + 1),
                "thumbsDownCount": 0,
            },
            "supportsGeneration": draw() < 0.7,
        }
        version["files"] = (
            []
            if traits.mode == "Archived"
            else [
                self._file(file, place, url, stamp, traits.special)
                for place, file in enumerate(files)
            ]
        )
        version["images"] = [] if traits.mode == "TakenDown" else _images(hub_id, traits, draw)
        if traits.mode != "Archived":
            version["downloadUrl"] = url
        return version

    def _file(
        self, file: SimFile, place: int, url: str, stamp: str | None, special: str | None
    ) -> Json:
        facts = self._contents.describe(file.content)
        size_kilobytes: float = facts.size_bytes / 1024
        hashes = facts.hashes()
        scanned = special != "fresh"
        if not scanned:
            hashes = {}
        elif special == "wrong_sha256":
            hashes["SHA256"] = f"{mix(file.hub_id):016X}" * 4
            hashes["AutoV2"] = hashes["SHA256"][:10]
        elif special == "size_zero":
            size_kilobytes = 0
        elif special == "whole_kilobytes":
            size_kilobytes = round(size_kilobytes)
        document: Json = {
            "id": file.hub_id,
            "sizeKB": size_kilobytes,
            "name": file.name,
            "overrideName": None,
            "type": file.kind,
            "pickleScanResult": "Success" if scanned else "Pending",
            "pickleScanMessage": None,
            "virusScanResult": "Success" if scanned else "Pending",
            "virusScanMessage": None,
            "scannedAt": stamp if scanned else None,
            "metadata": file.metadata,
            "hashes": hashes,
            "downloadUrl": url if place == 0 else url + soft_query(file.kind, file.metadata),
        }
        if place == 0:
            document["primary"] = True
        return document


def _creator(number: int, special: str | None) -> Json:
    head = words.CREATOR_HEADS[number % len(words.CREATOR_HEADS)]
    tail = words.CREATOR_TAILS[number // 32 % len(words.CREATOR_TAILS)]
    name: object = f"{head}{tail}{number // 512 % 1000}"
    if special == "numeric_creator":
        name = 20240117
    image = f"{HOST}/avatars/width=96/{name}.jpeg" if number % 17 else None
    return {"username": name, "image": image}


def _tags(script: str, draw: Draw) -> list[str]:
    count = min(60, int(-5 * math.log(1 - draw()))) + 1
    names, known = words.ENGLISH_TAGS, len(words.ENGLISH_TAGS)
    tags = list(dict.fromkeys([names[int(draw() * known)] for _ in range(count)]))
    if script in ("japanese", "chinese") and draw() < 0.4:
        tags.append(pick(words.OTHER_TAGS, draw))
    return tags


# What pictures have in common; each gets its own id, address, level and shape.
_IMAGES = tuple(
    {
        "id": 0,
        "url": "",
        "nsfwLevel": 1,
        "width": width,
        "height": height,
        "hash": "UAG*TdOr0m}[04t7~ANK7NX8_2X9x[M|WGtQ",
        "type": "image",
        "minor": False,
        "poi": False,
        "hasMeta": True,
        "hasPositivePrompt": True,
        "onSite": False,
        "remixOfId": None,
    }
    for width, height in ((832, 1216), (1024, 1024), (1216, 832), (1776, 2368))
)


def _images(owner: int, traits: Traits, draw: Draw) -> list[Json]:
    share = draw()
    if share < 0.02:
        return []
    levels = _bits(traits.level)
    images: list[Json] = []
    for number in range(1 + int(draw() * 9)):
        image = _IMAGES[int(draw() * 4)].copy()
        image["id"] = image_id = owner * 20 + number
        image["nsfwLevel"] = levels[number % len(levels)]
        image["url"] = (
            f"{HOST}/images/{image_id:08x}-65be-4f67-859a-9fd1f8380000/original=true/{image_id}.jpeg"
        )
        images.append(image)
    if traits.minor or traits.poi:
        for image in images:
            image |= {"minor": traits.minor, "poi": traits.poi}
    if share > 0.995:
        images[0] |= {"type": "video", "url": images[0]["url"].replace(".jpeg", ".mp4")}
    return images


@functools.cache
def _bits(level: int) -> tuple[int, ...]:
    return tuple(bit for bit in (1, 2, 4, 8, 16) if level & bit) or (1,)


def iso(date_ms: int | None) -> str | None:
    """`2026-08-11T21:25:04.626Z`, without the cost of datetime for every call."""
    if date_ms is None:
        return None
    days, rest = divmod(date_ms, _DAY_MS)
    seconds, milliseconds = divmod(rest, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{_day(days)}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z"


@functools.lru_cache(maxsize=4096)
def _day(days: int) -> str:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=days)).isoformat()

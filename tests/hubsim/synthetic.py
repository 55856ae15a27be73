"""One synthetic model of the catalog: its document in the hub's list shape.

A pure function of (seed, index): nothing is stored, a million models cost no memory and every one
can be asked for alone. Shares and lengths follow what was counted on the real hub. The order of
the catalog, its changes and who may see what are `catalog.py`'s business.
"""

from __future__ import annotations

import _random
import datetime
import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.hubsim import words
from tests.hubsim.bytes import ContentKey, Contents

# Recorded documents end below these, so that both can be served together.
FIRST_MODEL_ID = 3_000_000
FIRST_VERSION_ID = 10_000_000
VERSIONS_EACH = 200  # version ids reserved for a model
FILES_EACH = 8  # file ids reserved for a version
HOST = "http://hub.invalid"  # stands for the host in URLs until a response is written

_MASK = (1 << 64) - 1
Json = dict[str, object]


def mix(value: int) -> int:
    """A 64-bit hash of an integer (the finisher of splitmix64)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def model_id(index: int) -> int:
    return FIRST_MODEL_ID + 3 * index + mix(index) % 3


def index_of(hub_id: int) -> int:
    return (hub_id - FIRST_MODEL_ID) // 3


# One model of each kind has a fixed place in every catalog of 40 models or more, so that tests
# and demonstrations need not search for it; the rest of the catalog has them by their shares.
SPECIALS: tuple[str, ...] = (
    "null_date", "archived", "taken_down", "gated", "early_access", "downloads_disabled", "poi",
    "minor", "level_zero", "fresh", "wrong_sha256", "size_zero", "duplicate_names", "pickle",
    "zip", "gguf", "no_visible_version", "whole_kilobytes", "many_versions", "no_creator",
    "slash_in_name", "japanese", "chinese", "korean", "russian", "emoji", "soft_variants",
    "unknown_type", "two_mebibytes", "mature_only", "null_stats", "twin_a", "twin_b",
    "reuploaded_a", "reuploaded_b", "numeric_creator", "no_description", "checkpoint",
)  # fmt: skip
SPECIALS_LEAST = 40

_TYPES = (
    ("LORA", 914), ("Checkpoint", 33), ("LoCon", 19), ("TextualInversion", 18), ("Workflows", 9),
    ("Hypernetwork", 1), ("Controlnet", 1), ("Upscaler", 1), ("VAE", 1), ("Poses", 1),
    ("Wildcards", 1), ("MotionModule", 1),
)  # fmt: skip
_SPECIAL_TYPES = {
    "pickle": "Checkpoint", "checkpoint": "Checkpoint", "zip": "Poses", "gguf": "Checkpoint",
    "soft_variants": "Checkpoint", "unknown_type": "HoloModule",
}  # fmt: skip


def _spread(shares: Sequence[tuple[str, int]]) -> list[str]:
    total, names, ends, at = sum(share for _, share in shares), [], [], 0
    for name, share in shares:
        at += share
        names.append(name)
        ends.append(at)
    return [names[bisect_right(ends, slot * total // 1024)] for slot in range(1024)]


_TYPE_TABLE = _spread(_TYPES)
_BASE_TABLE = _spread(words.BASE_MODELS)
# PG, PG-13 and below, R, mature only, unrated; as the union of the versions' levels.
_LEVEL_TABLE = [1] * 96 + [3] * 56 + [7] * 40 + [15] * 14 + [31] * 20 + [28] * 22 + [60] * 7 + [0]


@dataclass(slots=True)
class Traits:
    """What decides whether a model is listed, cheap enough to ask for a million of them."""

    type: str
    level: int
    minor: bool = False
    poi: bool = False
    mode: str | None = None
    published: bool = True
    versionless: bool = False  # a row of the hub's query that yields no item
    special: str | None = None


class Synthesizer:
    def __init__(self, seed: int, count: int, contents: Contents) -> None:
        self.seed = seed
        self.count = count
        self._salt = mix(seed) & ~3
        self._contents = contents
        self._random = _random.Random()
        self.has_specials = count >= SPECIALS_LEAST
        self._creators = max(3, count // 9)
        # Numbers of shared contents: re-uploads draw from a small range, so that some meet.
        self._shared = max(1, count // 60)
        # A run of rows without a visible version: whole pages of the crawl come out empty.
        self.gap = range(count // 2, count // 2 + 230) if count >= 4000 else range(0)

    def _hash(self, index: int, salt: int) -> int:
        return mix(self._salt ^ (index << 8) ^ salt)

    def special(self, index: int) -> str | None:
        if self.has_specials and index < len(SPECIALS):
            return SPECIALS[index]
        return None

    def traits(self, index: int) -> Traits:
        bits = self._hash(index, 1)
        kind = _TYPE_TABLE[bits & 1023]
        special = self.special(index)
        if special is not None:
            return _special_traits(special, _SPECIAL_TYPES.get(special, "LORA"))
        traits = Traits(kind, _LEVEL_TABLE[bits >> 10 & 255])
        if bits >> 18 & 63 == 0:
            traits.minor, traits.level = True, 1
        traits.poi = bits >> 24 & 127 == 0
        rare = bits >> 31 & 511
        if rare < 2:
            traits.mode = "Archived" if rare == 0 else "TakenDown"
        elif rare == 2:
            traits.published = False
        elif rare == 3 or index in self.gap:
            traits.versionless = True
        return traits

    # -- numbers -------------------------------------------------------------------------------

    def popularity(self, rank: int) -> tuple[int, int]:
        """(downloads, thumbs up) of the model at a popularity rank; never rises with the rank."""
        # A log-normal by its quantile: half above 300 downloads, the best one at several 100,000.
        share = (rank + 0.5) / max(self.count, rank + 1)
        downloads = int(300 * math.exp(1.55 * _quantile(1 - share)))
        return downloads, downloads // 9

    def version_count(self, index: int) -> int:
        if self.special(index) == "many_versions":
            return 31
        draw = self._hash(index, 2) % 10_000
        if draw < 8_400:
            return 1
        if draw < 9_500:
            return 2
        if draw < 9_915:
            return 3 + draw % 3
        return 6 + draw % 14 if draw < 9_990 else 20 + draw % 30

    # -- the document --------------------------------------------------------------------------

    def document(
        self, index: int, date_ms: int | None, rank: int, extra_versions: Sequence[int] = ()
    ) -> Json:
        """The list item at full visibility. `extra_versions` are the dates of later versions."""
        traits = self.traits(index)
        random = self._random
        random.seed(self._hash(index, 3))
        draw = random.random
        special = traits.special
        hub_id = model_id(index)
        script = self._script(special, draw)
        name, english = self._name(script, draw, special)
        downloads, thumbs = self.popularity(rank)
        creator = self._hash(int(self._creators * draw() ** 2), 4)
        base_model = _BASE_TABLE[int(draw() * 1024)]
        tag_count = min(60, int(-5 * math.log(1 - draw()))) + 1
        tags = list(dict.fromkeys(_pick(words.ENGLISH_TAGS, draw) for _ in range(tag_count)))
        if script in ("japanese", "chinese") and draw() < 0.4:
            tags.append(_pick(words.OTHER_TAGS, draw))
        description: str | None = self._description(script, draw)
        if special == "no_description" or draw() < 0.03:
            description = None
        commercial = (["Image", "RentCivit", "Rent", "Sell"], ["Image", "RentCivit"], ["Sell"], [])
        hidden_stats = special == "null_stats" or creator % 97 == 0
        document: Json = {
            "id": hub_id,
            "name": name,
            "description": description,
            "allowNoCredit": draw() < 0.8,
            "allowCommercialUse": commercial[int(draw() * 4)],
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
            "baseModels": [base_model],
            "cosmetic": None,
            "supportsGeneration": draw() < 0.7,
            "stats": {
                "downloadCount": None if hidden_stats else downloads,
                "thumbsUpCount": thumbs,
                "thumbsDownCount": thumbs // 60,
                "commentCount": thumbs // 20,
                "tippedAmountCount": None if hidden_stats else thumbs * 3,
            },
            "creator": self._creator(creator, special),
            "tags": tags,
        }
        if traits.mode:
            document["mode"] = traits.mode
        if special == "no_creator" or creator % 211 == 0:
            del document["creator"]
        count = self.version_count(index)
        # No copies: `versions` carries what every version of this model has in common.
        common = _Common(hub_id, name, english, traits, base_model, downloads, thumbs)
        versions = [
            self._version(common, index, number, _version_date(date_ms, number, count))
            for number in range(count - 1, -1, -1)
        ]
        if special == "many_versions" or (count > 1 and self._hash(index, 6) % 5 == 0):
            versions.append(versions.pop(0))  # the creator's order is not the order of dates
        for later, date in enumerate(extra_versions):
            versions.insert(0, self._version(common, index, count + later, date))
        for position, version in enumerate(versions):
            version["index"] = position
        if traits.versionless:
            versions = []
        document["modelVersions"] = versions
        document["baseModels"] = list(dict.fromkeys(version["baseModel"] for version in versions))
        return document

    def creator_name(self, number: int) -> str:
        head = words.CREATOR_HEADS[number % len(words.CREATOR_HEADS)]
        tail = words.CREATOR_TAILS[number // 32 % len(words.CREATOR_TAILS)]
        return f"{head}{tail}{number // 512 % 1000}"

    def _creator(self, number: int, special: str | None) -> Json:
        name: object = self.creator_name(number)
        if special == "numeric_creator":
            name = 20240117
        image = f"{HOST}/avatars/width=96/{name}.jpeg" if number % 17 else None
        return {"username": name, "image": image}

    def _script(self, special: str | None, draw: Callable[[], float]) -> str:
        if special in ("japanese", "chinese", "korean", "russian"):
            return special
        share = draw()
        if share < 0.855:
            return "english"
        if share < 0.925:
            return "japanese"
        if share < 0.985:
            return "chinese"
        return "emoji" if share < 0.996 else "korean" if share < 0.999 else "russian"

    def _name(
        self, script: str, draw: Callable[[], float], special: str | None
    ) -> tuple[str, str]:
        """The model's name, and an English one to derive file names from."""
        adjective, subject = _pick(words.ADJECTIVES, draw), _pick(words.SUBJECTS, draw)
        character = _pick(words.CHARACTERS, draw)
        if special == "slash_in_name":
            return f"{adjective}/{subject} | {character}", f"{adjective} {subject}"
        pattern = _pick(words.ENGLISH_NAMES, draw)
        english = pattern.format(a=adjective, s=subject, c=character, n=1 + int(draw() * 9))
        if script == "japanese":
            return _pick(words.JAPANESE_NAMES, draw).format(
                a=_pick(words.JAPANESE_STYLES, draw),
                s=_pick(words.JAPANESE_SUBJECTS, draw),
                c=_pick(words.JAPANESE_CHARACTERS, draw),
                e=character,
            ), english
        if script == "chinese":
            return _pick(words.CHINESE_NAMES, draw).format(
                a=_pick(words.CHINESE_STYLES, draw),
                s=_pick(words.CHINESE_SUBJECTS, draw),
                c=_pick(words.CHINESE_CHARACTERS, draw),
                e=english,
            ), english
        if script == "korean":
            return _pick(words.HANGUL_NAMES, draw), english
        if script == "russian":
            return _pick(words.CYRILLIC_NAMES, draw), english
        if script == "emoji" or special == "emoji":
            return f"{_pick(words.EMOJI, draw)} {english}", english
        return english, english

    def _description(self, script: str, draw: Callable[[], float]) -> str:
        sentences = words.ENGLISH_SENTENCES
        if script == "japanese":
            sentences = words.JAPANESE_SENTENCES + words.ENGLISH_SENTENCES[:4]
        elif script == "chinese":
            sentences = words.CHINESE_SENTENCES + words.ENGLISH_SENTENCES[:4]
        # Lengths are about log-normal: a median of some 400 characters, now and then thousands.
        count = max(1, min(600, int(6 * math.exp(1.05 * _quantile(0.0001 + 0.9998 * draw())))))
        chosen = [_pick(sentences, draw) for _ in range(count)]
        text = "</p><p>".join(chosen)
        if draw() < 0.3:
            text += "</p><h3>Usage</h3><ul><li><p>steps 28</p></li><li><p>&lt;lora:x:0.8&gt;</p></li></ul><p>"
        if draw() < 0.2:
            text += f'<strong>More</strong>: <a target="_blank" rel="ugc" href="{HOST}/models">here</a>'
        return f"<p>{text}</p>".format(
            n=20 + int(draw() * 400),
            r=_pick(("512", "768", "1024"), draw),
            s=_pick(words.SUBJECTS, draw).lower(),
            a=_pick(words.ADJECTIVES, draw).lower(),
            c=_pick(words.CHARACTERS, draw),
        )

    def _version(self, common: _Common, index: int, number: int, date_ms: int | None) -> Json:
        random = self._random
        version_id = FIRST_VERSION_ID + index * VERSIONS_EACH + number
        random.seed(self._hash(index, 16 + number))
        draw = random.random
        special = common.traits.special
        files = self.files(common.traits, index, number, common.english)
        level = common.traits.level
        if special == "fresh":
            level = 0
        base_model = common.base_model if draw() < 0.9 else _BASE_TABLE[int(draw() * 1024)]
        trigger = common.english.split(" ")[0].lower() + _pick(("", "_style", ", solo,"), draw)
        downloads, thumbs = common.downloads // (number + 1), common.thumbs // (number + 1)
        early = special == "early_access" or (number > 0 and index % 89 == 0)
        stamp = iso(date_ms)
        hashes_known = special != "fresh"
        published: Json = {
            "id": version_id,
            "index": 0,
            "name": _pick(words.VERSION_NAMES, draw),
            "baseModel": base_model,
            "baseModelType": "Standard",
            "publishedAt": stamp,
            "flags": 0,
            "availability": "Public",
            "nsfwLevel": level,
            "description": "<p>Better colors.</p>" if draw() < 0.25 else None,
            "trainedWords": [trigger] if draw() < 0.8 else [],
            "vaeId": None,
            "paidAccess": {"permanent": False, "endsAt": "2027-01-01T00:00:00.000Z"}
            if early
            else None,
            "stats": {"downloadCount": downloads, "thumbsUpCount": thumbs, "thumbsDownCount": 0},
            "supportsGeneration": draw() < 0.7,
        }
        listed = []
        url = f"{HOST}/api/download/models/{version_id}"
        for position, file in enumerate(files):
            listed.append(self._file(file, position, url, stamp, hashes_known, special))
        published["files"] = [] if common.traits.mode == "Archived" else listed
        published["images"] = (
            [] if common.traits.mode == "TakenDown" else _images(version_id, common.traits, draw)
        )
        if common.traits.mode != "Archived":
            published["downloadUrl"] = url
        return published

    def _file(
        self,
        file: SimFile,
        position: int,
        url: str,
        stamp: str | None,
        hashes_known: bool,
        special: str | None,
    ) -> Json:
        facts = self._contents.describe(file.content)
        size_kilobytes: float = facts.size_bytes / 1024
        hashes = facts.hashes() if hashes_known else {}
        if special == "wrong_sha256":
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
            "pickleScanResult": "Success" if hashes_known else "Pending",
            "pickleScanMessage": None,
            "virusScanResult": "Success" if hashes_known else "Pending",
            "virusScanMessage": None,
            "scannedAt": stamp if hashes_known else None,
            "metadata": file.metadata,
            "hashes": hashes,
            "downloadUrl": url if position == 0 else url + _soft_query(file),
        }
        if position == 0:
            document["primary"] = True
        return document

    def files(self, traits: Traits, index: int, number: int, english: str) -> list[SimFile]:
        """The files of one version, primary first. Independent of everything drawn before."""
        bits = self._hash(index, 0x4000 + number)
        version_id = FIRST_VERSION_ID + index * VERSIONS_EACH + number
        special = traits.special
        kind, extension, form = _content_kind(traits.type, special, bits)
        stem = _file_stem(english, traits.type, number, bits)
        variant, base = 0, None
        # About one file in 25 has the bytes of another one; a few of those another header.
        if special in ("twin_a", "twin_b"):
            shared, variant, base = -1, int(special == "twin_b"), 1
        elif special in ("reuploaded_a", "reuploaded_b"):
            shared, base = -2, 2
        elif special == "two_mebibytes":
            shared, base = 0, 7
        elif bits & 31 == 0 or bits & 127 == 1:
            shared = -3 - (bits >> 8) % self._shared
            variant = int(bits >> 40 & 7 == 0)
        else:
            shared = 0
        first = version_id * FILES_EACH
        content = self._contents.key(kind, shared or first, variant=variant, base=base)
        meta: Json = {"format": form} if form != "Other" else {}
        if form == "SafeTensor" and (bits >> 16 & 15 == 0 or traits.type == "Checkpoint"):
            meta |= {"size": "pruned", "fp": "fp16"}
        files = [SimFile(first, version_id, f"{stem}.{extension}", "Model", meta, content)]
        if special == "soft_variants":
            content = self._contents.key("pickle_checkpoint", first + 1)
            meta = {"format": "PickleTensor", "size": "full", "fp": "fp32"}
            files.append(SimFile(first + 1, version_id, f"{stem}.ckpt", "Model", meta, content))
        if special == "duplicate_names" or bits >> 20 & 1023 == 0:
            content = self._contents.key(kind, first + 2)
            meta = {"format": form, "size": "full", "fp": "fp32"}
            files.append(SimFile(first + 2, version_id, files[0].name, "Model", meta, content))
        if traits.type == "Checkpoint" and bits >> 30 & 31 == 0:
            content = self._contents.key("config", first + 3)
            files.append(SimFile(first + 3, version_id, f"{stem}.yaml", "Config", {}, content))
        if traits.type == "LORA" and bits >> 30 & 63 == 0:
            content = self._contents.key("archive", first + 4)
            name = f"{stem}_trainingData.zip"
            meta = {"format": "Other"}
            files.append(SimFile(first + 4, version_id, name, "Training Data", meta, content))
        return files

    def access(self, traits: Traits, index: int, number: int) -> str:
        """Who may download: open, login, early_access or disabled."""
        if traits.special in ("gated", "early_access", "downloads_disabled"):
            return {"gated": "login", "downloads_disabled": "disabled"}.get(
                traits.special, "early_access"
            )
        if traits.special is not None:
            return "open"
        if number > 0 and index % 89 == 0:
            return "early_access"
        draw = self._hash(index, 0x8000 + number) % 200
        return "login" if draw < 6 else "disabled" if draw == 6 else "open"


@dataclass(frozen=True, slots=True)
class SimFile:
    """A file as the hub's storage knows it."""

    hub_id: int
    version_id: int
    name: str
    kind: str
    metadata: Json
    content: ContentKey


@dataclass(frozen=True, slots=True)
class _Common:
    hub_id: int
    name: str
    english: str
    traits: Traits
    base_model: str
    downloads: int
    thumbs: int


def _special_traits(special: str, kind: str) -> Traits:
    traits = Traits(kind, 1, special=special)
    match special:
        case "archived":
            traits.mode = "Archived"
        case "taken_down":
            traits.mode = "TakenDown"
        case "poi":
            traits.poi = True
        case "minor":
            traits.minor = True
        case "level_zero":
            traits.level = 0
        case "mature_only":
            traits.level = 28
        case "no_visible_version":
            traits.versionless = True
    return traits


def _pick(values: Sequence[str], draw: Callable[[], float]) -> str:
    return values[int(draw() * len(values))]


_quantile = statistics.NormalDist().inv_cdf


def iso(date_ms: int | None) -> str | None:
    """`2026-08-11T21:25:04.626Z`, without the cost of datetime for the common case."""
    if date_ms is None:
        return None
    seconds, milliseconds = divmod(date_ms, 1000)
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    return f"{_day(days)}T{hours:02}:{rest // 60:02}:{rest % 60:02}.{milliseconds:03}Z"


_DAYS: dict[int, str] = {}


def _day(days: int) -> str:
    text = _DAYS.get(days)
    if text is None:
        date = datetime.date(1970, 1, 1) + datetime.timedelta(days=days)
        text = _DAYS[days] = date.isoformat()
    return text


def _version_date(newest_ms: int | None, number: int, count: int) -> int | None:
    if newest_ms is None:
        return None
    return newest_ms - (count - 1 - number) * 9 * 86_400_000


def _content_kind(model_type: str, special: str | None, bits: int) -> tuple[str, str, str]:
    """(kind of content, extension, format word) of the main file."""
    if special == "pickle":
        return "pickle_checkpoint", "ckpt", "PickleTensor"
    if special == "gguf":
        return "gguf", "gguf", "GGUF"
    pickled = bits >> 50 & 63 == 0
    match model_type:
        case "Checkpoint":
            if bits >> 50 & 15 == 0 and special is None:
                return "pickle_checkpoint", "ckpt", "PickleTensor"
            return "checkpoint", "safetensors", "SafeTensor"
        case "TextualInversion":
            if bits >> 50 & 1:
                return "pickle_embedding", "pt", "PickleTensor"
            return "embedding", "safetensors", "SafeTensor"
        case "Hypernetwork" | "Upscaler":
            extension = "pt" if model_type == "Hypernetwork" else "pth"
            return "pickle_embedding", extension, "PickleTensor"
        case "Workflows":
            if bits >> 50 & 1:
                return "workflow", "json", "Other"
            return "archive", "zip", "Other"
        case "Poses" | "Wildcards":
            return "archive", "zip", "Other"
        case "VAE" | "Controlnet" | "MotionModule":
            return "checkpoint", "safetensors", "SafeTensor"
    if pickled and special is None:
        return "pickle_embedding", "pt", "PickleTensor"
    return "lora", "safetensors", "SafeTensor"


def _file_stem(english: str, model_type: str, number: int, bits: int) -> str:
    kept = "".join(letter for letter in english if letter.isalnum() or letter in " -_")
    parts = kept.split()
    if model_type == "Checkpoint":
        stem = "".join(part.capitalize() for part in parts)[:20]
        return f"{stem[:1].lower()}{stem[1:]}_v{number + 1}0"
    odd = bits >> 56
    if odd < 3:
        return f"{words.JAPANESE_SUBJECTS[bits % 22]}_{number + 1}"
    if odd < 12:
        return f"{kept} [{number + 1}] (fixed)"
    return f"{'_'.join(parts)}_v{number + 1}"


def _soft_query(file: SimFile) -> str:
    query = f"?type={file.kind.replace(' ', '%20')}"
    for key in ("format", "size", "fp"):
        if key in file.metadata:
            query += f"&{key}={file.metadata[key]}"
    return query


_WIDE, _HIGH = (832, 1024, 1216, 1776), (1216, 1024, 832, 2368)


def _images(version_id: int, traits: Traits, draw: Callable[[], float]) -> list[Json]:
    if draw() < 0.02:
        return []
    count = 1 + int(draw() * 6)
    images: list[Json] = []
    levels = [level for level in (1, 2, 4, 8, 16) if traits.level & level] or [1]
    for number in range(count):
        image_id = version_id * 20 + number
        shape = int(draw() * 4)
        video = draw() < 0.002
        extension = "mp4" if video else "jpeg"
        uuid = f"{image_id:08x}-65be-4f67-859a-9fd1f838{number:04x}"
        images.append(
            {
                "id": image_id,
                "url": f"{HOST}/images/{uuid}/original=true/{image_id}.{extension}",
                "nsfwLevel": levels[number % len(levels)],
                "width": _WIDE[shape],
                "height": _HIGH[shape],
                "hash": "UAG*TdOr0m}[04t7~ANK7NX8_2X9x[M|WGtQ",
                "type": "video" if video else "image",
                "minor": traits.minor,
                "poi": traits.poi,
                "hasMeta": True,
                "hasPositivePrompt": True,
                "onSite": False,
                "remixOfId": None,
            }
        )
    return images

"""Every setting: its type, unit, default and meaning. Nothing here has an effect by itself."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

# from the root or from one's own home; no control characters, which no folder has but by mistake
_ABSOLUTE = r"^(/|~/)[^\x00-\x1f]*$"
Text = Annotated[str, Meta(max_length=4096)]
Layout = Literal["auto", "comfyui", "a1111", "flat"]
# midnight may lie inside
_HOURS = r"^(|([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)$"


class HubSettings(Struct, frozen=True):
    """One hub."""

    base_url: Annotated[
        Text,
        Meta(
            description="The hub's address. Tests point it at the simulated hub.",
            pattern="^https?://",
        ),
    ]
    enabled: Annotated[bool, Meta(description="Whether this hub is used at all.")] = True
    requests_per_second: Annotated[
        float,
        Meta(
            description="Upper limit of requests to this hub, averaged over ten seconds. The hub's"
            " own limits and its complaints make it less.",
            gt=0,
            le=1000,
        ),
    ] = 1.5
    sync_every_h: Annotated[
        float, Meta(description="News of this hub are fetched this often.", ge=0.25, le=8760)
    ] = 24.0
    quiet_hours: Annotated[
        str,
        Meta(
            description="No background requests in these hours of local time, as in"
            " `23:00-07:30`. Empty: none are quiet.",
            max_length=11,
            pattern=_HOURS,
            examples=["23:00-07:30"],
        ),
    ] = ""
    # 5,000 requests read all of CivitAI's million models anew in some four days (100 a request,
    # twice for what only one of its two views shows), in less than an hour a day
    background_requests_per_day: Annotated[
        int,
        Meta(
            description="Requests a day (UTC) that background work may spend; the first full"
            " crawl, and what people ask for, are not held back by it.",
            ge=0,
            le=10_000_000,
        ),
    ] = 5_000
    detail_ttl_s: Annotated[
        float,
        Meta(
            description="A model's details that are not older are shown without asking the hub.",
            ge=0,
            le=30 * 86_400,
        ),
    ] = 600.0


class HuggingFaceSettings(HubSettings, frozen=True):
    """Hugging Face, which holds far more than people run at home."""

    # The whole hub is 2.5 million repositories and more, most of them checkpoints of somebody's
    # training run. These six tags are what image, video and language programs at home load: a
    # tenth of the rows, in some hundred requests. Original weights of language models are left
    # out; their GGUF files, which are what is run, are in.
    filters: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...],
        Meta(
            description="Tags of the repositories to mirror: each is one list. With a comma"
            " between, a repository must have all of them. An empty list: everything.",
            max_length=64,
        ),
    ] = ("diffusers", "diffusion-single-file", "comfyui", "text-to-image", "lora", "gguf")
    page_size: Annotated[int, Meta(description="Rows asked for at once.", ge=10, le=1_000)] = 1_000


class Hubs(Struct, frozen=True):
    """The hubs."""

    civitai: HubSettings = HubSettings("https://civitai.com")
    # 10,000 requests are 7 % of what its limits leave an address without a token in a day
    huggingface: HuggingFaceSettings = HuggingFaceSettings(
        "https://huggingface.co", background_requests_per_day=10_000
    )


class Sync(Struct, frozen=True):
    """Mirroring the hubs' catalogs."""

    auto: Annotated[
        bool,
        Meta(description="The first start begins the full fetch by itself."),
    ] = True


class LibraryRoot(Struct, frozen=True):
    """One watched folder."""

    path: Annotated[str, Meta(description="An absolute path.", max_length=4096, pattern=_ABSOLUTE)]
    layout: Annotated[Layout, Meta(description="How the folder is organized.")] = "auto"


class Library(Struct, frozen=True):
    """What is on disk."""

    roots: Annotated[
        tuple[LibraryRoot, ...],
        Meta(description="Folders to watch; more can be added by `modelkeep library add`."),
    ] = ()
    settle_s: Annotated[
        float,
        Meta(description="A file is looked at after it was quiet for this long.", ge=0, le=3600),
    ] = 2.0
    reconcile_every_s: Annotated[
        float,
        Meta(description="All folders are walked again this often.", ge=10, le=30 * 86_400),
    ] = 21_600.0
    hash_threads: Annotated[
        int, Meta(description="Files hashed at the same time.", ge=1, le=16)
    ] = 1


class Transfer(Struct, frozen=True):
    """Downloads."""

    root: Annotated[
        Text,
        Meta(description="Where new files go, by layout and type. Empty: the first root."),
    ] = ""
    layout: Annotated[Layout, Meta(description="How `root` is organized.")] = "auto"
    parallel_files: Annotated[
        int, Meta(description="Files downloaded at the same time.", ge=1, le=32)
    ] = 3
    reserve_bytes: Annotated[
        int, Meta(description="Free space on a disk that downloads never touch.", ge=0, le=1 << 50)
    ] = 512 << 20
    review: Annotated[
        Literal["place", "quarantine"],
        Meta(
            description="What to do with files that can't be proven safe, as pickles can't:"
            " place them with a warning, or set them aside."
        ),
    ] = "quarantine"


class Events(Struct, frozen=True):
    """The event log."""

    keep_rows: Annotated[
        int, Meta(description="Older events are forgotten beyond this many.", ge=1000)
    ] = 200_000
    keep_days: Annotated[
        int, Meta(description="Events older than this are forgotten.", ge=1, le=3650)
    ] = 90


class Log(Struct, frozen=True):
    """The daemon's own log, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least to log.")
    ] = "info"
    format: Annotated[
        Literal["text", "json"], Meta(description="One line a fact, as text or as JSON.")
    ] = "text"


class Settings(Struct, frozen=True):
    """All settings of the daemon."""

    sync: Sync = Sync()
    hubs: Hubs = Hubs()
    library: Library = Library()
    transfer: Transfer = Transfer()
    events: Events = Events()
    log: Log = Log()

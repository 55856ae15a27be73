"""``modelkeep search``."""

from __future__ import annotations

from modelkeep import connect
from modelkeep.cli import text
from modelkeep.cli.spec import COUNT, FLAG, TEXT, Argument, Command, Option
from modelkeep_protocol import methods

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Column, Output

COLUMNS: tuple[Column, ...] = (
    ("REF", "ref", "text"),
    ("NAME", "name", "wide"),
    ("TYPE", "type", "text"),
    ("BASE", "base_model", "spare"),
    ("CREATOR", "creator", "spare"),
    ("DOWNLOADS", "downloads", "count"),
    ("SIZE", "size_bytes", "size"),
    ("OWNED", "owned", "yes"),
)
WIDE_COLUMNS: tuple[Column, ...] = (
    *COLUMNS,
    ("UPDATED", "updated_ms", "time"),
    ("NSFW", "nsfw_level", "count"),
    ("TAGS", "tags", "spare"),
)

FACETS: tuple[Column, ...] = (
    ("FACET", "facet", "text"),
    ("VALUE", "value", "text"),
    ("MODELS", "models", "count"),
)


def run(args: dict[str, Any], out: Output) -> int:
    """Ask and print."""
    page = connect.call(
        methods.CATALOG_SEARCH,
        {
            "query": " ".join(args["query"]),
            "sort": args["sort"] or "",
            "limit": args["limit"],
            "offset": args["offset"],
            "facets": args["facets"],
        },
    )
    if out.json:
        out.document(page)
        return 0
    items = page["items"]
    out.table(WIDE_COLUMNS if out.verbose else COLUMNS, items)
    if args["facets"] and not out.quiet:
        out.table(
            FACETS,
            [
                {"facet": name, "value": value, "models": number}
                for name, counts in page.get("facets", {}).items()
                for value, number in counts.items()
            ],
        )
    if not page["total"]:
        out.note("nothing found; modelkeep help query shows how to ask")
        return 0
    after = args["offset"] + len(items)
    if out.is_terminal or not items:
        first = args["offset"] + 1 if items else 0
        out.note(f"{first:,} to {after:,} of {page['total']:,}")
    if items and after < page["total"]:
        out.hint(f"more: the same with --offset {after}; one of them: modelkeep show REF")
    elif items:
        out.hint(f"more of one: modelkeep show {text.safe(items[0]['ref'])}")
    return 0


VERBS = {
    "search": {
        "": Command(
            "search",
            "find models in the offline catalog",
            run,
            examples=(
                ("modelkeep search anime style", "both words"),
                ('modelkeep search \'"line art" type:lora base:"SDXL 1.0"\'', "a phrase, fields"),
                ("modelkeep search 水彩 '-nsfw:>2' --sort downloads", "Japanese, without some"),
                ("modelkeep search owned:yes 'updated:>2026-01-01' --json", "for a script"),
            ),
            arguments=(
                Argument("query", "*", "what to look for; everything when empty", complete="query"),
            ),
            options=(
                Option(
                    ("--sort",),
                    TEXT,
                    "relevance, downloads, updated, published, name, size …",
                    metavar="KEY",
                ),
                Option(("--limit",), COUNT, "how many to list (20)", metavar="N", default=20),
                Option(("--offset",), COUNT, "skip so many", metavar="N", default=0),
                Option(("--facets",), FLAG, "count the hits by type, base model and topic"),
            ),
            about=(
                "Works without the hub. `modelkeep help query` describes the language. Words that "
                "begin with a single - exclude; quote what the shell would take for its own."
            ),
            takes_dashed_words=True,
        )
    }
}

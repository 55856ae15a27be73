"""The two orders that take more than one call of Tantivy: by relevance and by downloads.

Pure of files: works on a searcher it is handed. Both give what sorting everything would give; they
only touch less.
"""

from dataclasses import dataclass
from typing import Any

import tantivy
from tantivy import Occur, Query

from modelkeepd.catalog.compiler import DOWNLOAD_CLASSES, Compiler, unpacked_hit
from modelkeepd.catalog.tree import Everything, Flag, Keyword, Tree

# The best by their words alone are put in order with regard to downloads; later pages are not.
# Tantivy's own weighting by a field touches every match and made searches twice as slow (measured).
RERANKED = 60
# A query this broad is looked through from the most downloaded on, not as a whole.
BROAD_MODELS = 20_000
# Download classes are taken until they have this many times the models wanted, if evenly spread.
_MARGIN = 4


@dataclass(frozen=True, slots=True)
class Hits:
    """One page of model keys in order, and how many models match in all."""

    total: int
    model_keys: list[int]


def by_relevance(searcher: tantivy.Searcher, query: Query, limit: int, offset: int) -> Hits:
    """By score, among the best 60 weighed by downloads."""
    if offset >= RERANKED:
        result = searcher.search(query, limit, offset=offset)
        return Hits(count_of(result), [key for key, _ in unpacked(searcher, result.hits)])
    result = searcher.search(query, max(RERANKED, offset + limit))
    hits = result.hits
    all_unpacked = unpacked(searcher, hits)
    best = sorted(
        (-score * factor, place, key)
        for place, ((score, _), (key, factor)) in enumerate(
            zip(hits[:RERANKED], all_unpacked[:RERANKED], strict=True)
        )
    )
    keys = [key for *_, key in best] + [key for key, _ in all_unpacked[RERANKED:]]
    return Hits(count_of(result), keys[offset : offset + limit])


def by_downloads(
    searcher: tantivy.Searcher,
    compiler: Compiler,
    tree: Tree,
    found: Query,
    limit: int,
    offset: int,
) -> Hits:
    """Most downloaded first. Of a broad query only the upper classes of downloads are sorted."""
    total: int | None = None
    query = found
    broad = _models_with(searcher, tree)
    if broad >= BROAD_MODELS:
        # all but the marker, or counted: terms of deleted documents still count until merged
        total = broad - 1 if isinstance(tree, Everything) else _count(searcher, found)
        upper = _upper_classes(searcher, compiler, _MARGIN * (offset + limit), total)
        if upper is not None:
            query = Query.boolean_query([(Occur.Must, found), (Occur.Must, upper)])
    result = _most_downloaded(searcher, query, limit, offset)
    if query is not found and count_of(result) < offset + limit:
        result = _most_downloaded(searcher, found, limit, offset)
    keys = [key for key, _ in unpacked(searcher, result.hits)]
    return Hits(count_of(result) if total is None else total, keys)


def _most_downloaded(
    searcher: tantivy.Searcher, query: Query, limit: int, offset: int
) -> tantivy.SearchResult:
    return searcher.search(query, limit, offset=offset, order_by_field="downloads")


def _models_with(searcher: tantivy.Searcher, tree: Tree) -> int:
    """About how many models a query of a single field finds; 0 for others."""
    match tree:
        case Everything():
            return int(searcher.num_docs)
        case Keyword(prefix=False):
            return int(searcher.doc_freq(tree.field, tree.key))
        case Flag():
            return int(searcher.doc_freq("flag", f"{tree.field}:{tree.value}"))
    return 0


def _count(searcher: tantivy.Searcher, query: Query) -> int:
    counted = searcher.aggregate(query, {"n": {"value_count": {"field": "hit"}}})
    return int(counted["n"]["value"])


def _upper_classes(
    searcher: tantivy.Searcher, compiler: Compiler, wanted: int, total: int
) -> Query | None:
    """The highest classes of downloads that hold enough; None when that is most of them."""
    enough = wanted * int(searcher.num_docs) / max(total, 1)
    have, clauses = 0, []
    for term in reversed(DOWNLOAD_CLASSES):
        size = searcher.doc_freq("flag", term)
        if size:
            clauses.append((Occur.Should, compiler.term("flag", term)))
        have += size
        if have >= enough:
            return Query.boolean_query(clauses) if have < total / 2 else None
    return None


def unpacked(
    searcher: tantivy.Searcher, hits: list[tuple[Any, tantivy.DocAddress]]
) -> list[tuple[int, float]]:
    """Model keys and score factors of hits."""
    if not hits:
        return []
    values = searcher.fast_field_values("hit", [address for _, address in hits])
    return [unpacked_hit(int(value)) for value in values if value is not None]


def count_of(result: tantivy.SearchResult) -> int:
    """How many documents matched in all."""
    return int(result.count)  # type: ignore[attr-defined]  # missing in its stubs

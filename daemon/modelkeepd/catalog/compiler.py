"""From the query tree to Tantivy's queries, and from a model to Tantivy's document.

Owns the index's fields: what is written into them and how each node of a tree looks for it. Finding
is decided by the ``body`` field and the keyword, number and flag fields alone;
``morphemes`` only raises the score of what was found. Tantivy's own query parser is not used: it
makes no pairs of characters.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import tantivy
from tantivy import Occur, Query

from modelkeepd.catalog.projection import KEYWORD_FIELDS, NUMBER_FIELDS, Projection
from modelkeepd.catalog.text import (
    MORPHOLOGY,
    Pattern,
    has_japanese,
    has_kana_or_han,
    joined_tokens,
    squeeze,
    tokens,
)
from modelkeepd.catalog.tree import And, Everything, Flag, Keyword, Not, Or, Range, Tree, Words
from modelkeepd.kinds import canonical_base, canonical_type, topics_of

# Raise it whenever a field, a token or a key is made differently: older indexes are rebuilt.
FORMAT = 2

MARKER_KEY = "marker"
# The name stands in the body this often: its words weigh more without a clause for them in every
# query, which made searches half as fast again (measured).
_NAME_REPEATS = 3
_MORPHEME_BOOST = 0.5
_MAX_BOOSTED_WORDS = 8
_SORT_NAME_CHARS = 48
_I64_MAX = 2**63 - 1
_REGEX_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$#&\-~])")


def build_schema() -> tantivy.Schema:
    """The fields of the index."""
    builder = tantivy.SchemaBuilder()
    # space-joined tokens cost a third of the time of pre-tokenized strings (measured)
    for field in ("body", "name"):
        builder.add_text_field(field, tokenizer_name="tokens", index_option="position")
    builder.add_text_field("morphemes", tokenizer_name="tokens", index_option="freq")
    # the key is text: deleting by a term of an unsigned field deletes nothing
    for field in ("key", "flag", *KEYWORD_FIELDS):
        builder.add_text_field(field, tokenizer_name="raw", index_option="basic")
    for field in ("sort_name", "type_name", "base_name", "topic_name"):
        builder.add_text_field(field, tokenizer_name="raw", index_option="basic", fast=True)
    for field in ("hit", "changed_seq", *NUMBER_FIELDS):
        builder.add_integer_field(field, fast=True)
    builder.add_text_field("marker", stored=True, tokenizer_name="raw", index_option="basic")
    return builder.build()


def register_tokenizers(index: tantivy.Index) -> None:
    """Must be done on every open: analyzers are not kept in the index."""
    blank = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
    index.register_tokenizer("tokens", blank)


def document(model: Projection) -> tantivy.Document:
    """What is indexed of one model."""
    result = tantivy.Document()
    text, number = result.add_text, result.add_integer
    parts = model.parts()
    text("name", " ".join(tokens(model.name)))
    text("body", joined_tokens((*(model.name,) * (_NAME_REPEATS - 1), *parts)))
    if any(map(has_japanese, parts)):
        text("morphemes", " ".join(MORPHOLOGY.words(parts)))
    text("key", str(model.model_key))
    for field in KEYWORD_FIELDS:
        for key in model.keys(field):
            text(field, key)
    text("flag", "model")
    text("flag", _flag_term("owned", model.owned))
    text("flag", _flag_term("commercial", model.commercial))
    text("flag", _flag_term("supported", model.supported))
    if model.downloads is not None:
        text("flag", DOWNLOAD_CLASSES[_download_class(model.downloads)])
    text("sort_name", squeeze(model.name)[:_SORT_NAME_CHARS])
    # facets are counted under our names, or one kind would stand under several
    text("type_name", _storable(canonical_type(model.type)))
    for base in dict.fromkeys(map(canonical_base, model.base_models)):
        text("base_name", _storable(base))
    for topic in topics_of(model.tags):
        text("topic_name", topic)
    number("hit", packed_hit(model.model_key, model.downloads))
    number("changed_seq", model.changed_seq)
    for field in NUMBER_FIELDS:
        value = model.number(field)
        if value is not None:
            number(field, max(-_I64_MAX, min(value, _I64_MAX)))
    return result


_POPULARITY_STEPS = 256
# Powers of two of downloads, as terms: the most downloaded of many are found without sorting all.
DOWNLOAD_CLASSES = tuple(f"downloads:2^{power}" for power in range(32))


def _download_class(downloads: int) -> int:
    return min(max(0, downloads).bit_length(), len(DOWNLOAD_CLASSES) - 1)


def packed_hit(model_key: int, downloads: int | None) -> int:
    """What is needed of a hit in one number: reading a column costs as much as a rare word."""
    popularity = min(int(10 * math.log2(1 + max(0, downloads or 0))), _POPULARITY_STEPS - 1)
    return model_key * _POPULARITY_STEPS + popularity


def unpacked_hit(hit: int) -> tuple[int, float]:
    """The model's key, and the factor of its score: 1 without downloads, 1.6 with a million."""
    model_key, popularity = divmod(hit, _POPULARITY_STEPS)
    return model_key, 1 + 0.003 * popularity


def _flag_term(field: str, value: bool | None) -> str:
    return f"{field}:{value}"


def _storable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A query ready to run. ``scored`` adds what only matters for the order by relevance."""

    found: Query
    scored: Query


class Compiler:
    """Makes Tantivy queries for one index."""

    def __init__(self, schema: tantivy.Schema) -> None:
        self._schema = schema
        self._makers: dict[type, Callable[..., Query]] = {
            Everything: lambda _: self.term("flag", "model"),
            Words: lambda node: self._pattern("name" if node.in_name else "body", node.pattern),
            Keyword: self._keyword,
            Range: self._range,
            Flag: lambda node: self._unscored(
                self.term("flag", _flag_term(node.field, node.value))
            ),
            Not: lambda node: self._all((node,)),
            And: lambda node: self._all(node.items),
            Or: lambda node: Query.boolean_query(
                [(Occur.Should, self._find(item)) for item in node.items]
            ),
        }

    def compile(self, tree: Tree) -> Compiled:
        """The queries of a tree."""
        found = self._find(tree)
        boosts = [
            (Occur.Should, boost)
            for words in _wanted_words(tree)[:_MAX_BOOSTED_WORDS]
            for boost in self._morphemes(words.text)
        ]
        scored = Query.boolean_query([(Occur.Must, found), *boosts]) if boosts else found
        return Compiled(found, scored)

    def term(self, field: str, value: str) -> Query:
        """Documents that have exactly this term in a raw field."""
        return Query.term_query(self._schema, field, value, "basic")

    def changed_after(self, changed_seq: int) -> Query:
        """Documents written for a change later than ``changed_seq``."""
        return Query.range_query(
            self._schema,
            "changed_seq",
            tantivy.FieldType.Integer,
            lower_bound=changed_seq,
            include_lower=False,
        )

    def _find(self, node: Tree) -> Query:
        return self._makers[type(node)](node)

    def _all(self, items: tuple[Tree, ...]) -> Query:
        clauses = [
            (Occur.MustNot, self._find(item.item))
            if isinstance(item, Not)
            else (Occur.Must, self._find(item))
            for item in items
        ]
        if all(isinstance(item, Not) for item in items):
            # a query of exclusions alone finds nothing; start from every model
            clauses.insert(0, (Occur.Must, self._unscored(self.term("flag", "model"))))
        return Query.boolean_query(clauses)

    def _keyword(self, node: Keyword) -> Query:
        if node.prefix:
            return self._unscored(self._begins(node.field, node.key))
        return self._unscored(self.term(node.field, node.key))

    def _range(self, node: Range) -> Query:
        return self._unscored(
            Query.range_query(
                self._schema,
                node.field,
                tantivy.FieldType.Integer,
                lower_bound=node.lower,
                upper_bound=node.upper,
            )
        )

    def _pattern(self, field: str, wanted: Pattern) -> Query:
        words = list(wanted.tokens)
        if len(words) == 1:
            if wanted.prefix:
                return self._begins(field, words[0])
            return Query.term_query(self._schema, field, words[0], "freq")
        if wanted.prefix:
            return Query.regex_phrase_query(
                self._schema, field, [*map(_escaped, words[:-1]), _escaped(words[-1]) + ".*"]
            )
        return Query.phrase_query(self._schema, field, list(words))

    def _begins(self, field: str, beginning: str) -> Query:
        return Query.regex_query(self._schema, field, _escaped(beginning) + ".*")

    def _morphemes(self, text: str) -> list[Query]:
        if not has_kana_or_han(text):
            return []
        return [
            Query.boost_query(
                Query.term_query(self._schema, "morphemes", word, "freq"), _MORPHEME_BOOST
            )
            for word in MORPHOLOGY.words([text])
        ]

    @staticmethod
    def _unscored(query: Query) -> Query:
        return Query.const_score_query(query, 0.0)


def _wanted_words(tree: Tree) -> list[Words]:
    match tree:
        case Words():
            return [tree]
        case And() | Or():
            return [words for item in tree.items for words in _wanted_words(item)]
    return []


def _escaped(text: str) -> str:
    return _REGEX_SPECIAL.sub(r"\\\1", text)

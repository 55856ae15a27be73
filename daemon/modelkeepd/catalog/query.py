"""The query language: text to tree. The user's guide is docs/search.md.

``parse`` either returns a tree or raises QueryError, whatever it is given. It owns the grammar and
the limits; what a node means is the tree's.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Never

from modelkeepd.catalog import values
from modelkeepd.catalog.errors import QueryError
from modelkeepd.catalog.projection import (
    FLAG_FIELDS,
    KEYWORD_FIELDS,
    NUMBER_FIELDS,
    keyword_beginning,
    keyword_key,
)
from modelkeepd.catalog.text import is_paired, squeeze, tokens
from modelkeepd.catalog.tree import And, Everything, Flag, Keyword, Not, Or, Range, Tree, Words

MAX_CHARS = 2_000
MAX_DEPTH = 32
MAX_TERMS = 100
MAX_TOKENS = 300
# Open words unite the lists of many words, an open phrase more so, and a comparison reads a whole
# column: with a million models each costs 5 to 50 ms. This keeps any query below half a second.
MAX_WIDE = 16
_WIDE_PHRASE = 8
# Fewer letters before a * would unite the lists of a good part of all words.
MIN_PREFIX_CHARS = 2

FIELDS = (*KEYWORD_FIELDS, *NUMBER_FIELDS, *FLAG_FIELDS, "name", "source")
_ALIASES = {
    "tags": "tag",
    "types": "type",
    "base_model": "base",
    "basemodel": "base",
    "topics": "topic",
    "facet": "topic",
    "ecosystem": "family",
    "architecture": "family",
    "user": "creator",
    "author": "creator",
    "by": "creator",
    "date": "updated",
    "license": "commercial",
}
_REFERENCE_SCHEMES = {"civitai", "hf", "urn", "sha256", "http", "https"}
_YES = {"yes", "true", "1", "y", "on"}
_NO = {"no", "false", "0", "n", "off"}

# What a Japanese keyboard makes of the operators; one character each, so positions stay.
_FULL_WIDTH = str.maketrans("（）：“”„＂－＊＜＞＝", '():""""-*<>=')
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):")
_COMPARED = re.compile(rf"({'|'.join(NUMBER_FIELDS)})(?=[<>=])", re.IGNORECASE)
_BARE = re.compile(r'[^\s()"]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # ( ) AND OR NOT leaf
    position: int
    tree: Tree | None = None  # of a leaf; None when there is nothing to look for in it


def parse(text: str) -> Tree:
    """The tree of a query. Raises QueryError for what is not one."""
    if len(text) > MAX_CHARS:
        raise QueryError(
            f"the query has {len(text)} characters; {MAX_CHARS} are allowed",
            position=MAX_CHARS,
            hint="search for fewer words",
        )
    scanned = _Scanner(text.translate(_FULL_WIDTH)).scan()
    if not scanned:
        return Everything()
    tree = _Parser(scanned).parse()
    if tree is None:
        raise QueryError(
            "there is nothing to search for in the query: it has signs only",
            hint="use letters, digits or a field such as tag:anime; * lists everything",
        )
    return tree


class _Scanner:
    """Cuts the text into operators and leaves, each leaf already understood."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._terms = 0
        self._tokens = 0
        self._wide = 0

    def scan(self) -> list[_Token]:
        result: list[_Token] = []
        text = self._text
        while self._at < len(text):
            at, character = self._at, text[self._at]
            if character.isspace():
                self._at += 1
            elif character in "()":
                result.append(_Token(character, at))
                self._at += 1
            elif character == "-" and _binds(text, at + 1):
                result.append(_Token("NOT", at))
                self._at += 1
            else:
                result.append(self._leaf_or_operator())
        return result

    def _leaf_or_operator(self) -> _Token:
        start = self._at
        field = _FIELD.match(self._text, start) or _COMPARED.match(self._text, start)
        if field is not None:
            self._at = field.end()
            tree: Tree | None = self._fielded(field[1], start)
        else:
            value, quoted, prefix = self._value()
            if not quoted and not prefix and value in ("AND", "OR", "NOT"):
                return _Token(value, start)
            tree = self._words(value, quoted, prefix, start)
        self._weigh(tree, start)
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise QueryError(
                f"the query has more than {MAX_TERMS} terms",
                position=start,
                hint="search for fewer words",
            )
        return _Token("leaf", start, tree)

    def _weigh(self, tree: Tree | None, position: int) -> None:
        match tree:
            case Words() if tree.pattern.prefix:
                self._wide += 1 if len(tree.pattern.tokens) == 1 else _WIDE_PHRASE
            case Range() | Keyword(prefix=True):
                self._wide += 1
            case _:
                return
        if self._wide > MAX_WIDE:
            raise QueryError(
                "the query has too many words with *, single characters or comparisons",
                position=position,
                hint="ask for fewer at once; a range such as 10..20 is one comparison",
            )

    def _value(self) -> tuple[str, bool, bool]:
        """The text here, whether it was quoted, and whether a * follows it."""
        start = self._at
        quoted = self._text.startswith('"', start)
        match = (_QUOTED if quoted else _BARE).match(self._text, start)
        if match is None:
            if quoted:
                raise QueryError(
                    "the quotation mark is never closed",
                    position=start,
                    hint='close it: "two words"; a mark inside is written \\"',
                )
            return "", False, False
        self._at = match.end()
        if quoted:
            prefix = self._text.startswith("*", self._at)
            self._at += prefix
            return _ESCAPE.sub(r"\1", match[1]), True, prefix
        word = match[0]
        return (word[:-1], False, True) if word.endswith("*") else (word, False, False)

    def _words(
        self, value: str, quoted: bool, prefix: bool, position: int, *, in_name: bool = False
    ) -> Tree | None:
        if not quoted and not value and prefix:
            return Everything()
        self._refuse_inner_star(value, quoted, position)
        found = tokens(value)
        self._tokens += len(found)
        if self._tokens > MAX_TOKENS:
            raise QueryError(
                "the query's words and phrases are too long together",
                position=position,
                hint="search for a part of the phrase",
            )
        if not found:
            return None
        if prefix and len(found[-1]) < MIN_PREFIX_CHARS and not is_paired(found[-1][0]):
            raise QueryError(
                f"{found[-1]}* is too short a beginning",
                position=position,
                hint=f"give at least {MIN_PREFIX_CHARS} letters before the *",
            )
        # of a script without spaces every word is found inside longer ones anyway
        prefix = prefix and not is_paired(found[-1][0])
        return Words(squeeze(value), prefix, in_name)

    def _refuse_inner_star(self, value: str, quoted: bool, position: int) -> None:
        if "*" in value and not quoted:
            raise QueryError(
                "a * may stand only at the end of a word",
                position=position + value.index("*"),
                hint='write the beginning, as in anim*; quote text that has a *: "a*b"',
            )

    def _fielded(self, name: str, start: int) -> Tree | None:
        field = _ALIASES.get(name.lower(), name.lower())
        if field not in FIELDS:
            raise _unknown_field(name, start, self._text)
        at = self._at
        value, quoted, prefix = self._value()
        if not value.strip():
            raise QueryError(
                f"{field}: needs a value {'before the *' if prefix else 'right after the colon'}",
                position=at,
                hint=f"for example {_example(field)}",
            )
        if field == "name":
            return self._words(value, quoted, prefix, at, in_name=True)
        if field == "source":
            return self._source(value, prefix, at)
        if field in KEYWORD_FIELDS:
            self._refuse_inner_star(value, quoted, at)
            return self._keyword(field, value, prefix, at)
        if prefix:
            raise QueryError(
                f"{field}: takes no *", position=at, hint=f"for example {_example(field)}"
            )
        if field in NUMBER_FIELDS:
            try:
                return Range(field, *values.bounds(field, value))
            except values.BadValue as exc:
                raise QueryError(
                    f"{field}: {exc}", position=at, hint=f"for example {_example(field)}"
                ) from exc
        return self._flag(field, value, at)

    def _keyword(self, field: str, value: str, prefix: bool, position: int) -> Keyword:
        key = (keyword_beginning if prefix else keyword_key)(field, value)
        if not key:
            raise QueryError(
                f"{field}: has no letter or digit to compare",
                position=position,
                hint=f"for example {_example(field)}",
            )
        return Keyword(field, key, prefix)

    def _flag(self, field: str, value: str, position: int) -> Flag:
        word = value.lower().lstrip("=")
        if word in _YES or word in _NO:
            return Flag(field, word in _YES)
        if field == "commercial" and word in ("unknown", "none"):
            return Flag(field, None)
        raise QueryError(
            f"{field}: is yes or no{', or unknown' if field == 'commercial' else ''}",
            position=position,
            hint=f"for example {_example(field)}",
        )

    def _source(self, value: str, prefix: bool, position: int) -> Tree:
        """Where a model comes from: HUB, HUB:CREATOR or HUB/CREATOR."""
        hub, separator, creator = value.partition("/" if "/" in value else ":")
        origin = self._keyword("hub", hub, prefix and not separator, position)
        if not separator or not creator:
            return origin
        return And((origin, self._keyword("creator", creator, prefix, position)))


class _Parser:
    """Recursive descent: or > and > not > leaf. None stands for a part without any content."""

    def __init__(self, scanned: list[_Token]) -> None:
        self._tokens = scanned
        self._at = 0
        self._depth = 0

    def parse(self) -> Tree | None:
        tree = self._either()
        if self._at < len(self._tokens):  # only a ) stops _either early
            raise QueryError(
                "this parenthesis was never opened",
                position=self._tokens[self._at].position,
                hint="remove it, or quote it to search for text that has one",
            )
        return tree

    def _peek(self) -> str:
        return self._tokens[self._at].kind if self._at < len(self._tokens) else "end"

    def _either(self) -> Tree | None:
        items = [self._all()]
        while self._peek() == "OR":
            self._at += 1
            items.append(self._all())
        return _combined(Or, items)

    def _all(self) -> Tree | None:
        items = [self._one()]
        while (kind := self._peek()) not in ("OR", ")", "end"):
            if kind == "AND":
                self._at += 1
            items.append(self._one())
        return _combined(And, items)

    def _one(self) -> Tree | None:
        negated = False
        while self._peek() == "NOT":
            negated = not negated
            self._at += 1
        kind = self._peek()
        if kind == "leaf":
            tree = self._tokens[self._at].tree
            self._at += 1
        elif kind == "(":
            tree = self._group()
        else:
            self._complain(kind)
        if tree is None or not negated:
            return tree
        return tree.item if isinstance(tree, Not) else Not(tree)

    def _group(self) -> Tree | None:
        opened = self._tokens[self._at].position
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise QueryError(
                f"parentheses are nested deeper than {MAX_DEPTH} levels", position=opened
            )
        self._at += 1
        tree = self._either()
        if self._peek() != ")":
            raise QueryError(
                "this parenthesis is never closed", position=opened, hint="add a ) after its end"
            )
        self._at += 1
        self._depth -= 1
        return tree

    def _complain(self, kind: str) -> Never:
        before = self._tokens[self._at - 1] if self._at else None
        here = self._tokens[self._at] if self._at < len(self._tokens) else before
        position = here.position if here else 0
        if before is not None and before.kind in ("AND", "OR", "NOT"):
            word = before.kind
            raise QueryError(
                f"something must follow {word}",
                position=before.position,
                hint=f'quote it to search for the word itself: "{word.lower()}"',
            )
        if kind == "end":
            raise QueryError(
                "this parenthesis is never closed", position=position, hint="add a ) after its end"
            )
        if kind == ")":
            raise QueryError("there is nothing inside the parentheses", position=position)
        raise QueryError(
            f"something must stand before {kind}",
            position=position,
            hint=f'quote it to search for the word itself: "{kind.lower()}"',
        )


def _combined(node: type[And] | type[Or], items: list[Tree | None]) -> Tree | None:
    flat: list[Tree] = []
    for item in items:
        inner = item.items if isinstance(item, node) else () if item is None else (item,)
        flat += (part for part in inner if part not in flat)
    if node is And and len(flat) > 1:
        flat = [item for item in flat if not isinstance(item, Everything)] or [Everything()]
    if not flat:
        return None
    return flat[0] if len(flat) == 1 else node(tuple(flat))


def _binds(text: str, at: int) -> bool:
    return at < len(text) and not text[at].isspace() and text[at] != ")"


def _example(field: str) -> str:
    examples = {
        "tag": 'tag:anime, tag:"blue hair"',
        "type": "type:lora",
        "base": 'base:"SDXL 1.0"',
        "family": "family:sdxl",
        "topic": "topic:style, topic:character, topic:pose",
        "creator": "creator:alice",
        "hub": "hub:civitai",
        "state": "state:gone",
        "commercial": "commercial:yes",
        "owned": "owned:yes",
        "supported": "supported:yes",
        "name": 'name:"detail tweaker"',
        "source": "source:civitai, source:civitai:alice",
    }
    return examples.get(field) or values.EXAMPLES[field]


def _unknown_field(name: str, position: int, text: str) -> QueryError:
    if name.lower() in _REFERENCE_SCHEMES:
        hint = 'a reference is looked up with "show"; to search for this text, quote it'
    else:
        close = get_close_matches(name.lower(), (*FIELDS, *_ALIASES), n=1, cutoff=0.6)
        guess = f"did you mean {_ALIASES.get(close[0], close[0])}:? " if close else ""
        hint = (
            f"{guess}known fields: {', '.join(sorted(FIELDS))};"
            f' to search for the text itself, quote it: "{name}:…"'
        )
    return QueryError(f"there is no field {name!r}", position=position, hint=hint)

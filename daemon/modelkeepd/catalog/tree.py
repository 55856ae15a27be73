"""The query tree: what a query asks, as data; its canonical text; its meaning for one model.

``matches`` is the definition of each node. The index must find exactly the models it accepts (a
property test holds the two together); live filters use it directly.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from modelkeepd.catalog.projection import Projection
from modelkeepd.catalog.text import Pattern, pattern, tokens

_BARE = re.compile(r"[^\s()\"\\:*<>=-][^\s()\"\\:*<>=]*")


@dataclass(frozen=True, slots=True)
class Everything:
    """Every model."""

    def __str__(self) -> str:
        return "*"


@dataclass(frozen=True, slots=True)
class Words:
    """A word or phrase, in any text of the model or in its name; ``prefix`` leaves it open."""

    text: str
    prefix: bool = False
    in_name: bool = False

    @property
    def pattern(self) -> Pattern:
        """The tokens to look for."""
        return pattern(self.text, prefix=self.prefix)

    def __str__(self) -> str:
        return ("name:" if self.in_name else "") + _value(self.text, self.prefix)


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword field has exactly this key, or one that begins with it."""

    field: str
    key: str
    prefix: bool = False

    def __str__(self) -> str:
        return f"{self.field}:{_value(self.key, self.prefix)}"


@dataclass(frozen=True, slots=True)
class Range:
    """A number field has a value between two inclusive bounds; None is open."""

    field: str
    lower: int | None
    upper: int | None

    def __str__(self) -> str:
        if self.lower is not None and self.lower == self.upper:
            return f"{self.field}:{self._bound(self.lower)}"
        return f"{self.field}:{self._bound(self.lower)}..{self._bound(self.upper)}"

    def _bound(self, value: int | None) -> str:
        if value is None:
            return ""
        if self.field not in ("published", "updated"):
            return str(value)
        moment = datetime.fromtimestamp(value // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{moment.rjust(19, '0')}.{value % 1000:03d}Z"


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag is set, not set, or (None) unknown."""

    field: str
    value: bool | None

    def __str__(self) -> str:
        return f"{self.field}:{ {True: 'yes', False: 'no', None: 'unknown'}[self.value] }"


@dataclass(frozen=True, slots=True)
class Not:
    """What the inner query does not find."""

    item: "Tree"

    def __str__(self) -> str:
        return f"-{_grouped(self.item)}"


@dataclass(frozen=True, slots=True)
class And:
    """What all of two or more queries find."""

    items: tuple["Tree", ...]

    def __str__(self) -> str:
        return " ".join(str(i) if not isinstance(i, Or) else _grouped(i) for i in self.items)


@dataclass(frozen=True, slots=True)
class Or:
    """What any of two or more queries finds."""

    items: tuple["Tree", ...]

    def __str__(self) -> str:
        return " OR ".join(str(item) for item in self.items)


Tree: TypeAlias = Everything | Words | Keyword | Range | Flag | Not | And | Or


def matches(tree: Tree, model: Projection) -> bool:
    """Whether the query finds this model."""
    return matcher(tree)(model)


def matcher(tree: Tree) -> Callable[[Projection], bool]:
    """A filter for many models: a model's texts are cut into tokens once each."""

    def test(model: Projection) -> bool:
        cut: dict[str, list[list[str]]] = {}

        def texts(in_name: bool) -> list[list[str]]:
            which = "name" if in_name else "all"
            if which not in cut:
                cut[which] = [tokens(t) for t in ((model.name,) if in_name else model.parts())]
            return cut[which]

        def holds(node: Tree) -> bool:
            match node:
                case Everything():
                    return True
                case Words():
                    wanted = node.pattern
                    return any(wanted.occurs_in(text) for text in texts(node.in_name))
                case Keyword():
                    keys = model.keys(node.field)
                    if node.prefix:
                        return any(key.startswith(node.key) for key in keys)
                    return node.key in keys
                case Range():
                    value = model.number(node.field)
                    return (
                        value is not None
                        and (node.lower is None or node.lower <= value)
                        and (node.upper is None or value <= node.upper)
                    )
                case Flag():
                    return model.flag(node.field) is node.value
                case Not():
                    return not holds(node.item)
                case And():
                    return all(holds(item) for item in node.items)
                case Or():
                    return any(holds(item) for item in node.items)

        return holds(tree)

    return test


def ranks(tree: Tree) -> bool:
    """Whether relevance means anything: some word is wanted, not only fields."""
    match tree:
        case Words():
            return True
        case And() | Or():
            return any(ranks(item) for item in tree.items)
    return False


def _value(text: str, prefix: bool) -> str:
    shown = text
    if not _BARE.fullmatch(text):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        shown = f'"{escaped}"'
    return shown + "*" * prefix


def _grouped(tree: Tree) -> str:
    return f"({tree})" if isinstance(tree, And | Or) else str(tree)

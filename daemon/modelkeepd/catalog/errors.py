"""What the catalog may answer instead of a result. Mapped to protocol codes once, at the edge."""


class CatalogError(Exception):
    """A question the catalog can't answer. ``hint`` says what to do instead."""

    code = "internal"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class QueryError(CatalogError):
    """The query can't be understood; ``position`` is the offending character's index."""

    code = "invalid"

    def __init__(self, message: str, *, position: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.position = position


class ModelNotFound(CatalogError):
    """Nothing in the catalog has this reference."""

    code = "not_found"


class SearchUnavailable(CatalogError):
    """The index is not open yet, or just being rebuilt from nothing."""

    code = "unavailable"

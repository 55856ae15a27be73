"""Texts, numbers and lists with their bounds, and what several methods share."""

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0, le=2**53)]
Limit = Annotated[int, Meta(ge=0, le=1000)]
ShortText = Annotated[str, Meta(max_length=200)]
PathText = Annotated[str, Meta(max_length=4096)]
RefText = Annotated[str, Meta(max_length=4096)]
Ids = Annotated[list[Count], Meta(max_length=10_000)]


class Empty(Struct, frozen=True):
    """No parameters, or nothing to say."""


class Problem(Struct, frozen=True, omit_defaults=True):
    """An error of one thing among several: see ``errors``."""

    code: str
    message: str
    hint: str = ""
    ref: str = ""

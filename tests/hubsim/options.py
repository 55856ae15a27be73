"""What a simulated hub is made of, whatever its dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.hubsim.messages import Request, Response


@dataclass(frozen=True, slots=True)
class HubOptions:
    """What a simulated hub is made of. `folder` and `models` may be combined."""

    dialect: str = "civitai"
    models: int = 200
    seed: int = 1
    folder: Path | None = None
    as_recorded: bool = False
    tokens: Sequence[str] = ()  # the keys that count; none given: every key counts
    large_files: Sequence[int] = ()  # sizes; the newest models become files this large
    faults: Sequence[Mapping[str, object]] = ()
    # CivitAI only
    strict_visibility: bool = False  # recorded documents obey the real hub's visibility too
    require_login: bool = False
    newest_loses_rows: bool = True
    era: str | None = None  # answers in the shapes of that date; civitai_eras.py
    drift: int = 0  # rows by which popularity lists move between two pages
    # Hugging Face only
    granted: Sequence[str] | None = None  # tokens with access to gated content; None: all
    quotas: Mapping[str, int] = field(default_factory=dict)  # api, resolvers, pages
    window_s: int = 300
    largest_page: int = 1000
    xet: bool = False  # announce Xet hashes, without a store behind them


class Dialect(Protocol):
    """What a hub's dialect has to be: pure answers, and its addresses once they are known."""

    base_url: str
    storage_url: str
    storage_host: str

    def admit(self, request: Request) -> Response | None:
        """Charge the request to whom it may concern; a refusal when nothing is left."""
        ...

    def answer(self, request: Request) -> Response: ...

    def dress(self, request: Request, response: Response) -> Response:
        """Add what every answer of this hub bears, injected ones too."""
        ...

    def refusal(self, request: Request, status: int) -> Response | None:
        """How this hub words a status that a fault asks for, if it has words of its own."""
        ...


class World(Protocol):
    """One hub's catalog and dialect, and what steers them."""

    @property
    def catalog(self) -> Any: ...
    @property
    def dialect(self) -> Dialect: ...
    def change(self, wanted: Mapping[str, object]) -> dict[str, list[Any]]: ...
    def advance(self) -> None: ...
    def set_era(self, date: str | None) -> None: ...
    def truth(self, *, digests: bool = True) -> dict[Any, dict[str, Any]]: ...
    def document(self, hub_id: object, *fields: str) -> dict[str, Any] | None: ...
    def specials(self) -> dict[str, Any]: ...
    def state(self) -> dict[str, object]: ...
    def large_ids(self) -> list[Any]: ...
    def version_ids(self, hub_id: int) -> list[int]: ...
    def name(self, key: str) -> str: ...

"""Translates what the domains raise into the protocol's errors; the one place that does."""

from modelkeep_protocol import errors
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.api_changes.service import UnknownApi
from modelkeepd.catalog.errors import CatalogError
from modelkeepd.hubs.contract import HubError
from modelkeepd.hubs.reference import BadReference
from modelkeepd.snapshot.errors import SnapshotError
from modelkeepd.store import StoreCorrupt, StoreError, StoreFull
from modelkeepd.transfer.errors import TransferError


def as_modelkeep_error(exc: Exception) -> ModelkeepError | None:
    """The error a client sees, or None for a fault of ours."""
    if isinstance(exc, CatalogError | BadReference):
        return ModelkeepError(exc.code, exc.message, exc.hint)
    if isinstance(exc, HubError):
        return ModelkeepError(exc.code, exc.message, exc.hint, retryable=not exc.permanent)
    if isinstance(exc, SnapshotError):
        return ModelkeepError(exc.code, exc.message, exc.hint)
    if isinstance(exc, UnknownApi):
        return ModelkeepError(exc.code, str(exc), "modelkeep api-changes endpoints lists what is")
    if isinstance(exc, TransferError):
        return ModelkeepError(exc.error_code, exc.message, exc.hint, retryable=exc.retryable)
    if isinstance(exc, StoreFull):
        return ModelkeepError(errors.NO_SPACE, str(exc), "free some space", retryable=True)
    if isinstance(exc, StoreCorrupt):
        return ModelkeepError(errors.CORRUPT, str(exc), "the daemon's log says more")
    if isinstance(exc, StoreError):
        return ModelkeepError(errors.UNAVAILABLE, str(exc), "try again", retryable=True)
    return None

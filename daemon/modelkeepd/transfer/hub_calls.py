"""What a hub's client raises, as the errors of a transfer."""

from collections.abc import Iterator
from contextlib import contextmanager

from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.hubs.contract import HubError, HubUnavailable
from modelkeepd.transfer.errors import TransferError


@contextmanager
def as_transfer_errors() -> Iterator[None]:
    """Around a call of a port that asks a hub."""
    try:
        yield
    except HubUnavailable as error:
        raise TransferError(
            error.message, error.hint, retryable=True, retry_after_s=error.retry_after_s,
            code=error.code,
        ) from error  # fmt: skip
    except HubError as error:
        raise TransferError(error.message, error.hint, code=error.code) from error
    except ModelkeepError as error:
        raise TransferError(
            error.message, error.hint, code=error.code, retryable=error.retryable
        ) from error

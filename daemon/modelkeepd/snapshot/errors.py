"""What can be wrong with a snapshot, in words that say what to do."""


class SnapshotError(Exception):
    """A snapshot can't be written or read. ``code`` is the protocol's word for it."""

    code = "invalid"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SnapshotDamaged(SnapshotError):
    """It is no snapshot, or not all of it, or not as it was written."""

    code = "corrupt"


class SnapshotTooNew(SnapshotError):
    """A later program wrote it."""

    code = "unsupported"


class SnapshotUntrusted(SnapshotError):
    """It is whole, and signed by a key that nobody has called good."""

    code = "denied"


class SnapshotBaseMissing(SnapshotError):
    """It holds only what changed since another snapshot, which is not here."""

    code = "conflict"


class SnapshotFileError(SnapshotError):
    """The file can't be opened, read or written."""

    code = "invalid"


class SnapshotBusy(SnapshotError):
    """Another export or import is under way."""

    code = "busy"

"""Names of the methods, as constants that cost nothing to import.

Their parameters and results are Structs in ``schema``; a test holds the two tables together.
"""

DAEMON_PING = "daemon.ping"
DAEMON_STATUS = "daemon.status"
DAEMON_STOP = "daemon.stop"

SYNC_START = "sync.start"
SYNC_STATUS = "sync.status"

CATALOG_SEARCH = "catalog.search"
CATALOG_SHOW = "catalog.show"
CATALOG_COMPLETE = "catalog.complete"
CATALOG_HISTORY = "catalog.history"

API_CHANGES = "api.changes"
API_ENDPOINTS = "api.endpoints"
API_DIFF = "api.diff"
API_ACCEPT = "api.accept"
API_RESUME = "api.resume"

KINDS_LIST = "kinds.list"
KINDS_GUESS = "kinds.guess"
KINDS_CONFIRM = "kinds.confirm"

SNAPSHOT_EXPORT = "snapshot.export"
SNAPSHOT_IMPORT = "snapshot.import"
SNAPSHOT_STATUS = "snapshot.status"
SNAPSHOT_CANCEL = "snapshot.cancel"

TRANSFER_GET = "transfer.get"
TRANSFER_LIST = "transfer.list"
TRANSFER_PAUSE = "transfer.pause"
TRANSFER_RESUME = "transfer.resume"
TRANSFER_CANCEL = "transfer.cancel"
TRANSFER_RETRY = "transfer.retry"
TRANSFER_MOVE = "transfer.move"

LIBRARY_LIST = "library.list"
LIBRARY_ROOTS = "library.roots"
LIBRARY_ADD = "library.add"
LIBRARY_REMOVE = "library.remove"
LIBRARY_SCAN = "library.scan"

EVENTS_READ = "events.read"
EVENTS_WATCH = "events.watch"

"""The one SQLite database: one writer, several readers, numbered migrations, an event log.

Owns connections, transactions, durability and the event log. Knows nothing of what the domains
keep in their tables: their SQL and their units of work live with them.
"""

from modelkeepd.store.database import Durability, Store, open_store
from modelkeepd.store.event_log import Cursor, EventFeed, EventRow, read_events
from modelkeepd.store.failures import StoreCorrupt, StoreError, StoreFull, StoreTooNew
from modelkeepd.store.transaction import Tx

__all__ = [
    "Cursor",
    "Durability",
    "EventFeed",
    "EventRow",
    "Store",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreTooNew",
    "Tx",
    "open_store",
    "read_events",
]

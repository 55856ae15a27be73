-- What the hubs' answers look like, and how that has changed.
CREATE TABLE api_shape (                         -- one row a version; the newest is being learnt
  hub TEXT NOT NULL, operation TEXT NOT NULL, version INTEGER NOT NULL,
  shape BLOB NOT NULL,                           -- JSON, zlib
  documents INTEGER NOT NULL, answers INTEGER NOT NULL,
  first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
  PRIMARY KEY (hub, operation, version)) STRICT, WITHOUT ROWID;
CREATE TABLE api_change (
  change_id INTEGER PRIMARY KEY AUTOINCREMENT,
  hub TEXT NOT NULL, operation TEXT NOT NULL,
  version INTEGER NOT NULL,                      -- of the shape that has it; of a break, that lacks it
  kind TEXT NOT NULL,
  severity TEXT NOT NULL,                        -- harmless | adopted | degraded | breaking
  path TEXT NOT NULL,
  place TEXT NOT NULL,                           -- the path as a JSON array
  before TEXT NOT NULL, after TEXT NOT NULL,
  example TEXT NOT NULL, suggestion TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  accepted_ms INTEGER) STRICT;                   -- a person said that it shall be so
CREATE INDEX api_change_hub ON api_change (hub, change_id);
CREATE TABLE api_pause (                         -- endpoints that are not asked
  hub TEXT NOT NULL, operation TEXT NOT NULL,
  reason TEXT NOT NULL, paused_ms INTEGER NOT NULL,
  PRIMARY KEY (hub, operation)) STRICT, WITHOUT ROWID;
CREATE TABLE api_value (                         -- what a hub's own lists of values have held
  hub TEXT NOT NULL, list TEXT NOT NULL, value TEXT NOT NULL, first_ms INTEGER NOT NULL,
  PRIMARY KEY (hub, list, value)) STRICT, WITHOUT ROWID;
CREATE TABLE api_list (                          -- when each of those lists was asked for
  hub TEXT NOT NULL, source TEXT NOT NULL, asked_ms INTEGER NOT NULL,
  PRIMARY KEY (hub, source)) STRICT, WITHOUT ROWID;

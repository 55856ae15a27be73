-- The store's own tables: facts about this file, and the event log every domain writes to.
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE epoch (
  number INTEGER PRIMARY KEY,
  name TEXT NOT NULL,                            -- what cursors carry
  start_seq INTEGER NOT NULL,                    -- the last event that had survived when it began
  began_ms INTEGER NOT NULL) STRICT;
CREATE TABLE event_log (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,         -- never reused within an epoch: a cursor is epoch:seq
  at_ms INTEGER NOT NULL,
  topic TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
  payload BLOB NOT NULL) STRICT;                 -- a msgpack map

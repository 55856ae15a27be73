-- Snapshots of the catalog that were written or read here; a reading remembers how far it is.
CREATE TABLE snapshot (
  snapshot_id TEXT PRIMARY KEY,                  -- sha256 of the file's header, in hex
  direction TEXT NOT NULL,                       -- export | import
  state TEXT NOT NULL,                           -- running | finished
  at_ms INTEGER NOT NULL,                        -- when it was begun
  next_block INTEGER NOT NULL DEFAULT 0,         -- import: blocks before it are in the catalog
  models INTEGER NOT NULL DEFAULT 0,             -- import: what those brought
  new INTEGER NOT NULL DEFAULT 0, changed INTEGER NOT NULL DEFAULT 0, older INTEGER NOT NULL DEFAULT 0,
  odd INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;

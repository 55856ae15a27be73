-- What a models.json of an older program said: imported once, kept as it was.
CREATE TABLE legacy_import (                     -- one row a file; its sha256 makes the import happen once
  sha256 BLOB PRIMARY KEY,
  path TEXT NOT NULL, size_bytes INTEGER NOT NULL,
  entries INTEGER NOT NULL, odd INTEGER NOT NULL,
  imported_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE legacy_model (
  legacy_key INTEGER PRIMARY KEY,
  import_sha256 BLOB NOT NULL REFERENCES legacy_import,
  position INTEGER NOT NULL,                     -- in the file, from 0
  name TEXT, description TEXT,
  size_bytes INTEGER, required_memory_bytes INTEGER,
  source TEXT, repo_id TEXT,
  hub TEXT, ref_id TEXT,                         -- the model it names, as far as it names one
  path TEXT,                                     -- absolute, as the library writes paths
  artifacts TEXT NOT NULL, tags TEXT NOT NULL,   -- JSON arrays of texts
  created_ms INTEGER, updated_ms INTEGER,
  trouble TEXT,                                  -- what could not be read of it; NULL: nothing
  raw TEXT NOT NULL,                             -- the entry as it stood there, JSON
  UNIQUE (import_sha256, position)) STRICT;
CREATE INDEX legacy_model_ref ON legacy_model (hub, ref_id COLLATE NOCASE);
CREATE TABLE legacy_tag (                        -- the user's own tags, found by search
  hub TEXT NOT NULL, ref_id TEXT NOT NULL COLLATE NOCASE, tag TEXT NOT NULL,
  PRIMARY KEY (hub, ref_id, tag)) STRICT, WITHOUT ROWID;

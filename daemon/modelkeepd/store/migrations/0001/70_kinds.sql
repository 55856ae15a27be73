-- Kinds: words of hubs that kinds.toml does not have, and what users confirmed of files.
CREATE TABLE kind_seen (
  kind TEXT NOT NULL, hub TEXT NOT NULL,         -- type | base | file_type
  key TEXT NOT NULL,                             -- how the word is compared
  word TEXT NOT NULL,                            -- as the hub writes it
  first_seen_ms INTEGER NOT NULL, last_seen_ms INTEGER NOT NULL,  -- the latter to the day
  PRIMARY KEY (kind, hub, key)) STRICT, WITHOUT ROWID;
CREATE TABLE kind_confirmed (                    -- one row a content
  fingerprint BLOB PRIMARY KEY,                  -- of size, head and tail, as the library's
  sha256 BLOB,                                   -- where it was known
  type TEXT, base TEXT,                          -- what was said; NULL: nothing
  features TEXT NOT NULL,                        -- JSON array: by what other files resemble it
  at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;

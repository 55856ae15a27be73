-- What is on disk. Written only by the library's units of work.
-- Paths are absolute TEXT; bytes that are no UTF-8 are escaped reversibly (library/paths.py).
-- inode and device are the unsigned numbers of stat() kept as signed 64-bit ones.
CREATE TABLE library_root (
  root_id INTEGER PRIMARY KEY,
  path TEXT NOT NULL UNIQUE,
  layout TEXT NOT NULL,                          -- comfyui | a1111 | flat, as stated or detected
  origin TEXT NOT NULL,                          -- config | user: a root that left the config is dropped
  state TEXT NOT NULL,                           -- online | offline
  dirty INTEGER NOT NULL DEFAULT 1,              -- events may have been lost: walk it again
  device INTEGER, inode INTEGER,                 -- which folder it was when last online
  added_ms INTEGER NOT NULL, state_ms INTEGER NOT NULL,
  walked_ms INTEGER,                             -- end of the last complete walk
  skipped TEXT NOT NULL DEFAULT '{}') STRICT;    -- JSON: what that walk passed over, by reason
CREATE TABLE library_file (
  file_id INTEGER PRIMARY KEY,                   -- the identity: survives renames and moves
  root_id INTEGER REFERENCES library_root ON DELETE CASCADE, -- NULL: placed outside every root
  path TEXT NOT NULL,
  size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, device INTEGER NOT NULL,
  fingerprint BLOB,                              -- of size, head and tail; NULL until read
  sha256 BLOB,                                   -- 32 bytes; NULL until hashed
  sha256_before BLOB,                            -- touched since it was hashed: what it was then
  state TEXT NOT NULL,                           -- present | missing
  file_key INTEGER, model_key INTEGER,           -- what the catalog says it is
  verdict TEXT,                                  -- the scanner's; NULL until scanned
  known_by TEXT,                                 -- placed | hash: how the sha256 came to be known
  trouble TEXT, retry_ms INTEGER,                -- why it could not be read, and when to try again
  first_seen_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL, missing_ms INTEGER) STRICT;
CREATE UNIQUE INDEX library_file_path ON library_file (path) WHERE state = 'present';
CREATE INDEX library_file_missing ON library_file (path) WHERE state = 'missing';
CREATE INDEX library_file_root ON library_file (root_id);
CREATE INDEX library_file_inode ON library_file (inode, size_bytes);
CREATE INDEX library_file_sha256 ON library_file (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX library_file_fingerprint ON library_file (fingerprint, state) WHERE fingerprint IS NOT NULL;
CREATE INDEX library_file_model ON library_file (model_key) WHERE model_key IS NOT NULL;
CREATE INDEX library_file_unhashed ON library_file (size_bytes, retry_ms)
  WHERE state = 'present' AND (sha256 IS NULL OR fingerprint IS NULL);
CREATE TABLE library_expected (                  -- paths that a download is placing just now
  path TEXT PRIMARY KEY, since_ms INTEGER NOT NULL) STRICT;

-- Downloads: one row a file to fetch. The row is written before each effect and explains it.
CREATE TABLE job (
  job_id INTEGER PRIMARY KEY AUTOINCREMENT,      -- never reused: people type it
  batch_id INTEGER,                              -- the first job of the same request
  state TEXT NOT NULL,                           -- the words of docs/transfer-states.md
  priority INTEGER NOT NULL DEFAULT 0,           -- higher first
  position INTEGER NOT NULL,                     -- lower first within a priority
  hub TEXT NOT NULL, ref TEXT NOT NULL,          -- 'civitai', 'civitai:1102@1301#77'
  file_key INTEGER,                              -- row of the catalog; NULL: not from there
  remote_name TEXT NOT NULL,                     -- as the hub wrote it
  name TEXT NOT NULL,                            -- safe, shown, wished for on disk; a repository's file with its folders there
  root TEXT NOT NULL, folder TEXT NOT NULL,      -- the file goes to root/folder/
  size_bytes INTEGER, size_tolerance_bytes INTEGER NOT NULL DEFAULT 0,
  sha256 BLOB,                                   -- 32 bytes promised by the hub, or NULL
  git_sha1 BLOB,                                 -- 20 bytes promised for a plain git file, or NULL
  revision TEXT,                                 -- commit or branch it is fetched from, on a hub that has them
  in_place INTEGER NOT NULL DEFAULT 0,           -- 1: one of a repository's files: wanted at its place, wherever its content lies too
  part TEXT NOT NULL UNIQUE,                     -- stem of the part file's name
  has_part INTEGER NOT NULL DEFAULT 0,           -- 1: a part file may lie on the disk
  bytes_done INTEGER NOT NULL DEFAULT 0,         -- at the last change of state
  attempts INTEGER NOT NULL DEFAULT 0,           -- failures in a row without progress
  repaired INTEGER NOT NULL DEFAULT 0,           -- 1: content was wrong once and fetched anew
  wait_for TEXT, not_before_ms INTEGER,          -- why it waits: retry, source, space, destination
  needed_bytes INTEGER,                          -- room missing when it waits for space
  error_code TEXT, error_message TEXT, error_hint TEXT,
  found_size_bytes INTEGER, found_sha256 BLOB,   -- what the bytes really are
  verification TEXT,                             -- verified | unverified (no hash was known)
  verdict TEXT, verdict_reasons TEXT,            -- of the scan; JSON
  path TEXT,                                     -- final path, from placing on
  device INTEGER, inode INTEGER, mtime_ns INTEGER,  -- of the verified part, which becomes path
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,
  started_ms INTEGER, finished_ms INTEGER) STRICT;
CREATE INDEX job_turn ON job (state, priority DESC, position);
CREATE INDEX job_order ON job (priority DESC, position);
CREATE INDEX job_wake ON job (not_before_ms) WHERE state = 'waiting';
CREATE INDEX job_ref ON job (ref);
CREATE INDEX job_content ON job (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX job_part ON job (state, finished_ms) WHERE has_part = 1;

-- What sync remembers: its runs, and where each hub's unfinished one stands.
CREATE TABLE sync_run (
  run_id INTEGER PRIMARY KEY,
  hub TEXT NOT NULL, kind TEXT NOT NULL,         -- full
  state TEXT NOT NULL,                           -- running | finished | failed
  started_ms INTEGER NOT NULL, finished_ms INTEGER,
  pages INTEGER NOT NULL DEFAULT 0, seen INTEGER NOT NULL DEFAULT 0,
  new INTEGER NOT NULL DEFAULT 0, changed INTEGER NOT NULL DEFAULT 0,
  odd INTEGER NOT NULL DEFAULT 0,                -- documents that fit no model, kept raw
  gaps INTEGER NOT NULL DEFAULT 0,               -- places in the list that could not be passed
  pass_pages TEXT,                               -- JSON array: pages of each pass, for the next estimate
  error TEXT) STRICT;
CREATE INDEX sync_run_hub ON sync_run (hub, run_id);
CREATE TABLE sync_state (                        -- saved with each page, in its transaction
  hub TEXT PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES sync_run,
  state TEXT NOT NULL,                           -- the planner's, as JSON
  saved_ms INTEGER NOT NULL) STRICT;

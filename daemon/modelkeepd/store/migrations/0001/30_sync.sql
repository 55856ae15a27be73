-- What sync remembers: its runs, where the unfinished ones stand, and what it means to ask next.
CREATE TABLE sync_run (
  run_id INTEGER PRIMARY KEY,
  hub TEXT NOT NULL, kind TEXT NOT NULL,         -- full | news | sweep | refetch
  state TEXT NOT NULL,                           -- running | finished | failed
  started_ms INTEGER NOT NULL, finished_ms INTEGER,
  pages INTEGER NOT NULL DEFAULT 0, seen INTEGER NOT NULL DEFAULT 0,
  new INTEGER NOT NULL DEFAULT 0, changed INTEGER NOT NULL DEFAULT 0,
  odd INTEGER NOT NULL DEFAULT 0,                -- documents that fit no model, kept raw
  gaps INTEGER NOT NULL DEFAULT 0,               -- places in the list that could not be passed
  pass_pages TEXT,                               -- JSON array: pages of each pass, for the next estimate
  error TEXT) STRICT;
CREATE INDEX sync_run_hub ON sync_run (hub, kind, run_id);
CREATE TABLE sync_state (                        -- of unfinished runs; saved with each page, in its transaction
  hub TEXT NOT NULL, kind TEXT NOT NULL, run_id INTEGER NOT NULL REFERENCES sync_run,
  state TEXT NOT NULL,                           -- the planner's, as JSON
  saved_ms INTEGER NOT NULL, PRIMARY KEY (hub, kind)) STRICT, WITHOUT ROWID;
CREATE TABLE sync_done (                         -- when each task of a hub was last begun, and brought to its end
  hub TEXT NOT NULL, kind TEXT NOT NULL, begun_ms INTEGER NOT NULL, done_ms INTEGER NOT NULL,
  PRIMARY KEY (hub, kind)) STRICT, WITHOUT ROWID;
CREATE TABLE sync_mark (                         -- the views that were read whole once, and up to where their news is known
  hub TEXT NOT NULL, view TEXT NOT NULL,
  date_ms INTEGER,                               -- by the hub's clock; NULL: the next news reads the whole list
  PRIMARY KEY (hub, view)) STRICT, WITHOUT ROWID;
CREATE TABLE sync_suspect (                      -- models the lists do not show: each is looked at by itself
  model_key INTEGER PRIMARY KEY REFERENCES model, hub TEXT NOT NULL,
  since_ms INTEGER NOT NULL,                     -- when it was first missed
  absences INTEGER NOT NULL DEFAULT 0,           -- looks in a row that found it absent
  first_absent_ms INTEGER, looked_ms INTEGER,
  next_look_ms INTEGER NOT NULL,
  reason TEXT NOT NULL) STRICT;
CREATE INDEX sync_suspect_turn ON sync_suspect (hub, next_look_ms);
CREATE TABLE sync_doubt (                        -- documents without the versions they had: not believed at once
  model_key INTEGER PRIMARY KEY REFERENCES model,
  since_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
  times INTEGER NOT NULL) STRICT;                -- how often it was met, each some hours after the last
CREATE TABLE sync_refetch (                      -- the refetch under way: which models are asked for, in this order
  hub TEXT NOT NULL, turn INTEGER NOT NULL, model_key INTEGER NOT NULL REFERENCES model,
  PRIMARY KEY (hub, turn)) STRICT, WITHOUT ROWID;
CREATE TABLE sync_wish (                         -- models whose details somebody asked for, or that refused to come
  model_key INTEGER PRIMARY KEY REFERENCES model,
  asked_ms INTEGER,                              -- when a person asked and got none
  failures INTEGER NOT NULL DEFAULT 0,
  retry_ms INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX version_detailed ON version (version_key) WHERE files_revision IS NOT NULL;

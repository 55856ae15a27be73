-- How the hubs are treated: what was asked of them, and what is not asked of them now.
CREATE TABLE hub_count (                         -- requests by day; added to every few minutes and at a clean stop
  hub TEXT NOT NULL, day INTEGER NOT NULL,       -- UTC, since 1970
  kind TEXT NOT NULL,                            -- sent_background | sent_interactive | merged | cached | catalog
  count INTEGER NOT NULL, PRIMARY KEY (hub, day, kind)) STRICT, WITHOUT ROWID;
CREATE TABLE hub_breaker (                       -- each operation's circuit breaker as it is
  hub TEXT NOT NULL, operation TEXT NOT NULL,
  state TEXT NOT NULL,                           -- closed | open | half_open | paused
  reason TEXT NOT NULL, at_ms INTEGER NOT NULL,
  until_ms INTEGER,                              -- open: when it is tried again
  openings INTEGER NOT NULL,                     -- in a row: each lasts longer
  PRIMARY KEY (hub, operation)) STRICT, WITHOUT ROWID;
CREATE TABLE hub_breaker_change (                -- their history, the last thousand
  change_id INTEGER PRIMARY KEY,
  hub TEXT NOT NULL, operation TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
  at_ms INTEGER NOT NULL, until_ms INTEGER, openings INTEGER NOT NULL) STRICT;
CREATE INDEX hub_breaker_change_hub ON hub_breaker_change (hub, change_id);

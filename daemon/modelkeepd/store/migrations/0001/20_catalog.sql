-- The mirror of the hubs' catalogs: written by sync's units of work, read by everyone.
CREATE TABLE model (
  model_key INTEGER PRIMARY KEY,                 -- ours, small
  hub TEXT NOT NULL, hub_id TEXT NOT NULL,       -- 'civitai', '1102': the hub's own key, for life
  ref_id TEXT NOT NULL,                          -- what people call it there: the same, or 'org/name', which may change
  name TEXT NOT NULL, type TEXT NOT NULL,        -- the hub's word for the type, or the one we know for it ('LORA')
  creator TEXT,
  base_models TEXT NOT NULL,                     -- JSON array, distinct, in version order
  tags TEXT NOT NULL,                            -- JSON array
  nsfw_level INTEGER, downloads INTEGER, likes INTEGER,
  commercial INTEGER,                            -- 1 selling pictures or more allowed, 0 not, NULL unknown
  published_ms INTEGER, updated_ms INTEGER,      -- first and newest version date
  size_bytes INTEGER,                            -- primary file of the first version
  license TEXT,                                  -- the hub's word
  gated TEXT,                                    -- auto | manual: content only for those who asked; NULL: free
  hub_state TEXT NOT NULL,                       -- listed | archived | taken_down | gone
  gone_ms INTEGER,
  owned INTEGER NOT NULL DEFAULT 0,              -- 1: some file of it is present in the library (library's units keep it)
  first_seen_ms INTEGER NOT NULL, seen_ms INTEGER NOT NULL,
  changed_seq INTEGER NOT NULL,                  -- seq of the event that reported the last change; search follows it
  doc_hash BLOB NOT NULL,                        -- of the raw bytes; equal means unchanged
  UNIQUE (hub, hub_id)) STRICT;
CREATE INDEX model_changed ON model (changed_seq);
CREATE INDEX model_ref ON model (hub, ref_id COLLATE NOCASE);
CREATE INDEX model_seen ON model (hub, seen_ms);
CREATE INDEX model_owned ON model (hub) WHERE owned = 1;
CREATE TABLE model_alias (                       -- former names: a renamed model is still found by them
  hub TEXT NOT NULL, ref_id TEXT NOT NULL COLLATE NOCASE, model_key INTEGER NOT NULL REFERENCES model,
  until_ms INTEGER NOT NULL, PRIMARY KEY (hub, ref_id)) STRICT, WITHOUT ROWID;
CREATE TABLE model_fact (                        -- dated facts that no document tells
  fact_id INTEGER PRIMARY KEY, model_key INTEGER NOT NULL REFERENCES model, at_ms INTEGER NOT NULL,
  kind TEXT NOT NULL,                            -- gone | back | archived | taken_down | listed | renamed
  detail TEXT NOT NULL) STRICT;                  -- JSON object: reason, from, to ...
CREATE INDEX model_fact_model ON model_fact (model_key);
CREATE TABLE version (
  version_key INTEGER PRIMARY KEY, model_key INTEGER NOT NULL REFERENCES model,
  hub_id TEXT NOT NULL, name TEXT NOT NULL, base_model TEXT, position INTEGER NOT NULL,
  published_ms INTEGER, availability TEXT,       -- Public, EarlyAccess, ...
  revision TEXT,                                 -- the commit it stands at, on a hub that has commits
  files_revision TEXT,                           -- the commit its file rows are true for
  gone_ms INTEGER,                               -- since when the hub's document does not list it any more
  UNIQUE (model_key, hub_id)) STRICT;
CREATE INDEX version_hub ON version (hub_id);
CREATE TABLE file (
  file_key INTEGER PRIMARY KEY, version_key INTEGER NOT NULL REFERENCES version, model_key INTEGER NOT NULL REFERENCES model,
  hub_id TEXT NOT NULL,                          -- hub's file id, '' when it has none
  name TEXT NOT NULL, kind TEXT NOT NULL,        -- the hub's file type: Model, VAE, Config, Training Data ...
  format TEXT, size_bytes INTEGER, sha256 BLOB,  -- 32 bytes or NULL
  git_sha1 BLOB,                                 -- 20 bytes: of a plain git file, over "blob SIZE\0" and its content
  is_primary INTEGER NOT NULL, url TEXT,         -- hub download URL
  gone_ms INTEGER,                               -- since when the hub's document does not list it any more
  UNIQUE (version_key, hub_id, name)) STRICT;
CREATE INDEX file_sha256 ON file (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX file_model ON file (model_key);
CREATE TABLE document_dict (dict_id INTEGER PRIMARY KEY, hub TEXT NOT NULL, kind TEXT NOT NULL, bytes BLOB NOT NULL) STRICT;
CREATE TABLE document (model_key INTEGER PRIMARY KEY REFERENCES model, dict_id INTEGER, raw BLOB NOT NULL, fetched_ms INTEGER NOT NULL) STRICT;
CREATE TABLE detail_document (                   -- where a hub's list rows leave out the files
  model_key INTEGER PRIMARY KEY REFERENCES model, dict_id INTEGER, raw BLOB NOT NULL, fetched_ms INTEGER NOT NULL) STRICT;
CREATE TABLE revision (                          -- a document as it was before
  revision_id INTEGER PRIMARY KEY, model_key INTEGER NOT NULL REFERENCES model,
  kind TEXT NOT NULL,                            -- model | detail: which of the two documents
  is_delta INTEGER NOT NULL,                     -- 1: raw is a delta against the next newer state of that document
  dict_id INTEGER, raw BLOB NOT NULL,
  seen_ms INTEGER NOT NULL, replaced_ms INTEGER NOT NULL) STRICT;
CREATE INDEX revision_model ON revision (model_key, kind, revision_id);
CREATE TABLE odd_document (odd_id INTEGER PRIMARY KEY, hub TEXT NOT NULL, kind TEXT NOT NULL, hub_id TEXT, reason TEXT NOT NULL,
  raw BLOB NOT NULL, doc_hash BLOB NOT NULL, fetched_ms INTEGER NOT NULL, UNIQUE (hub, kind, doc_hash)) STRICT;  -- raw zstd without dict

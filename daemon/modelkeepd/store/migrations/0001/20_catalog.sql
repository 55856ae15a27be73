-- The mirror of the hubs' catalogs: written by sync's units of work, read by everyone.
CREATE TABLE model (
  model_key INTEGER PRIMARY KEY,                 -- ours, small
  hub TEXT NOT NULL, hub_id TEXT NOT NULL,       -- 'civitai', '1102'
  name TEXT NOT NULL, type TEXT NOT NULL,        -- the hub's word for the type, kept as is ('LORA')
  creator TEXT,
  base_models TEXT NOT NULL,                     -- JSON array, distinct, in version order
  tags TEXT NOT NULL,                            -- JSON array
  nsfw_level INTEGER, downloads INTEGER, likes INTEGER,
  commercial INTEGER,                            -- 1 selling pictures or more allowed, 0 not, NULL unknown
  published_ms INTEGER, updated_ms INTEGER,      -- first and newest version date
  size_bytes INTEGER,                            -- primary file of the first version
  hub_state TEXT NOT NULL,                       -- listed | archived | taken_down | gone
  gone_ms INTEGER,
  owned INTEGER NOT NULL DEFAULT 0,              -- 1: some file of it is present in the library (library's units keep it)
  first_seen_ms INTEGER NOT NULL, seen_ms INTEGER NOT NULL,
  changed_seq INTEGER NOT NULL,                  -- seq of the event that reported the last change; search follows it
  doc_hash BLOB NOT NULL,                        -- of the raw bytes; equal means unchanged
  UNIQUE (hub, hub_id)) STRICT;
CREATE INDEX model_changed ON model (changed_seq);
CREATE TABLE version (
  version_key INTEGER PRIMARY KEY, model_key INTEGER NOT NULL REFERENCES model,
  hub_id TEXT NOT NULL, name TEXT NOT NULL, base_model TEXT, position INTEGER NOT NULL,
  published_ms INTEGER, availability TEXT,       -- Public, EarlyAccess, ...
  gone_ms INTEGER,                               -- since when the hub's document does not list it any more
  UNIQUE (model_key, hub_id)) STRICT;
CREATE INDEX version_hub ON version (hub_id);
CREATE TABLE file (
  file_key INTEGER PRIMARY KEY, version_key INTEGER NOT NULL REFERENCES version, model_key INTEGER NOT NULL REFERENCES model,
  hub_id TEXT NOT NULL,                          -- hub's file id, '' when it has none
  name TEXT NOT NULL, kind TEXT NOT NULL,        -- the hub's file type: Model, VAE, Config, Training Data ...
  format TEXT, size_bytes INTEGER, sha256 BLOB,  -- 32 bytes or NULL
  is_primary INTEGER NOT NULL, url TEXT,         -- hub download URL
  gone_ms INTEGER,                               -- since when the hub's document does not list it any more
  UNIQUE (version_key, hub_id, name)) STRICT;
CREATE INDEX file_sha256 ON file (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX file_model ON file (model_key);
CREATE TABLE document_dict (dict_id INTEGER PRIMARY KEY, hub TEXT NOT NULL, kind TEXT NOT NULL, bytes BLOB NOT NULL) STRICT;
CREATE TABLE document (model_key INTEGER PRIMARY KEY REFERENCES model, dict_id INTEGER, raw BLOB NOT NULL, fetched_ms INTEGER NOT NULL) STRICT;
CREATE TABLE revision (revision_id INTEGER PRIMARY KEY, model_key INTEGER NOT NULL REFERENCES model, dict_id INTEGER, raw BLOB NOT NULL, -- the document as it was before
  seen_ms INTEGER NOT NULL, replaced_ms INTEGER NOT NULL) STRICT;
CREATE INDEX revision_model ON revision (model_key);
CREATE TABLE odd_document (odd_id INTEGER PRIMARY KEY, hub TEXT NOT NULL, kind TEXT NOT NULL, hub_id TEXT, reason TEXT NOT NULL,
  raw BLOB NOT NULL, doc_hash BLOB NOT NULL, fetched_ms INTEGER NOT NULL, UNIQUE (hub, kind, doc_hash)) STRICT;  -- raw zstd without dict

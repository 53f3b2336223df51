-- The knowledge graph as compiled from packs: replaced as a whole when their hash changes. The same
-- tables live in memory for searching and in graph.db for SQL readers.
CREATE TABLE knowledge_meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE node(
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,                        -- 'mode:postgresql/lock-wait'
  kind TEXT NOT NULL CHECK(kind IN ('middleware', 'failure_mode', 'symptom', 'cause', 'mitigation', 'version', 'provider')),
  name TEXT NOT NULL,
  summary TEXT NOT NULL DEFAULT '',
  severity INTEGER CHECK(severity BETWEEN 1 AND 5),
  middleware TEXT NOT NULL,
  origin TEXT NOT NULL DEFAULT '',                 -- file:line
  attributes TEXT NOT NULL DEFAULT '{}' CHECK(json_valid(attributes))) STRICT;
CREATE TABLE alias(
  alias TEXT PRIMARY KEY,
  node INTEGER NOT NULL REFERENCES node(id)) STRICT, WITHOUT ROWID;
CREATE TABLE edge(
  src INTEGER NOT NULL REFERENCES node(id),
  dst INTEGER NOT NULL REFERENCES node(id),
  relation TEXT NOT NULL CHECK(relation IN ('causes', 'mitigates_with', 'observed_in', 'version_sensitive', 'cloud_provider_specific')),
  confidence REAL NOT NULL CHECK(confidence > 0 AND confidence <= 1),
  source TEXT NOT NULL,                            -- where the claim comes from
  PRIMARY KEY(src, dst, relation)) STRICT, WITHOUT ROWID;
CREATE INDEX edge_dst ON edge(dst, relation);
CREATE TABLE symptom(
  node INTEGER PRIMARY KEY REFERENCES node(id),
  failure_mode INTEGER NOT NULL REFERENCES node(id),
  channel TEXT NOT NULL CHECK(channel IN ('log', 'metric', 'kernel', 'event', 'wire')),
  literal TEXT NOT NULL,
  regex TEXT NOT NULL,
  expr TEXT NOT NULL,
  weight REAL NOT NULL,
  example TEXT NOT NULL) STRICT;
CREATE TABLE document(
  id INTEGER PRIMARY KEY,
  node INTEGER REFERENCES node(id),                -- null for the user's own text
  title TEXT NOT NULL,
  body TEXT NOT NULL,
  signal TEXT NOT NULL,
  origin TEXT NOT NULL) STRICT;
CREATE VIRTUAL TABLE document_fts USING fts5(title, body, signal, content='document', content_rowid='id', tokenize="porter unicode61");

-- The library: what people imported (runbooks, wiki pages, RCA reports, confirmed incidents), found by its text.
-- A source is a file or a batch of lines; importing it again touches only the documents that changed.
CREATE TABLE source(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,                       -- path as imported, or 'incident:7'
  hash TEXT NOT NULL,                              -- of its bytes
  imported_ns INTEGER NOT NULL) STRICT;
CREATE TABLE text(
  id INTEGER PRIMARY KEY AUTOINCREMENT,            -- an id is never used twice: vectors are kept by it
  source INTEGER NOT NULL REFERENCES source(id),
  key TEXT NOT NULL,                               -- within the source: line of the heading, or an id of its own
  collection TEXT NOT NULL,
  middleware TEXT NOT NULL,                        -- that it is about, if the import said so; else empty
  title TEXT NOT NULL,
  body TEXT NOT NULL,
  signal TEXT NOT NULL,                            -- what programs print about it
  hash TEXT NOT NULL,
  UNIQUE(source, key)) STRICT;
CREATE INDEX text_collection ON text(collection, id);
CREATE VIRTUAL TABLE text_fts USING fts5(title, body, signal, middleware, content='text', content_rowid='id', tokenize="porter unicode61");
CREATE TRIGGER text_inserted AFTER INSERT ON text BEGIN
  INSERT INTO text_fts(rowid, title, body, signal, middleware) VALUES(new.id, new.title, new.body, new.signal, new.middleware);
END;
CREATE TRIGGER text_deleted AFTER DELETE ON text BEGIN
  INSERT INTO text_fts(text_fts, rowid, title, body, signal, middleware) VALUES('delete', old.id, old.title, old.body, old.signal, old.middleware);
END;
-- Which failure modes a text speaks of: an edge 'observed_in' of the graph, from mode to text.
CREATE TABLE text_mode(
  text INTEGER NOT NULL REFERENCES text(id) ON DELETE CASCADE,
  mode TEXT NOT NULL,                              -- 'postgresql/lock-wait': packs may change under it
  confidence REAL NOT NULL CHECK(confidence > 0 AND confidence <= 1),
  PRIMARY KEY(text, mode)) STRICT, WITHOUT ROWID;
CREATE INDEX text_mode_mode ON text_mode(mode);
-- INT8 vectors by model; the vector index is a cache of them. Vectors of different models never mix.
CREATE TABLE text_vector(
  text INTEGER NOT NULL REFERENCES text(id) ON DELETE CASCADE,
  model TEXT NOT NULL,
  scale REAL NOT NULL,
  vector BLOB NOT NULL,
  PRIMARY KEY(text, model)) STRICT, WITHOUT ROWID;
-- Verdicts may judge the whole answer (rank 0), and say who gave them.
CREATE TABLE feedback_3(
  incident INTEGER NOT NULL REFERENCES incident(id) ON DELETE CASCADE,
  rank INTEGER NOT NULL CHECK(rank BETWEEN 0 AND 1000),
  verdict TEXT NOT NULL CHECK(verdict IN ('right', 'wrong', 'partly')),
  failure_mode TEXT NOT NULL,
  entity TEXT NOT NULL,
  note TEXT NOT NULL,
  time_ns INTEGER NOT NULL,
  who TEXT NOT NULL DEFAULT '',
  PRIMARY KEY(incident, rank)) STRICT, WITHOUT ROWID;
INSERT INTO feedback_3(incident, rank, verdict, failure_mode, entity, note, time_ns) SELECT incident, rank, verdict, failure_mode, entity, note, time_ns FROM feedback;
DROP TABLE feedback;
ALTER TABLE feedback_3 RENAME TO feedback;
-- Verdict counts of other hosts, by the source they were imported from: importing again replaces, removing forgets.
CREATE TABLE shared_verdict(
  source TEXT NOT NULL,
  failure_mode TEXT NOT NULL,
  right INTEGER NOT NULL CHECK(right >= 0),
  wrong INTEGER NOT NULL CHECK(wrong >= 0),
  partly INTEGER NOT NULL CHECK(partly >= 0),
  PRIMARY KEY(source, failure_mode)) STRICT, WITHOUT ROWID;

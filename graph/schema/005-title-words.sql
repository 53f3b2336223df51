-- The title of a text is found by the parts of its names too ("NodeFileDescriptorLimit": node, file, descriptor, limit). title_words() is
-- Culprit's own function (graph/words.h): reading needs nothing of it, writing does.
DROP TRIGGER text_inserted;
DROP TRIGGER text_deleted;
DROP TABLE text_fts;
CREATE VIRTUAL TABLE text_fts USING fts5(title, body, signal, middleware, content='text', content_rowid='id', tokenize="porter unicode61");
INSERT INTO text_fts(rowid, title, body, signal, middleware) SELECT id, title_words(title, body, signal, middleware), body, signal, middleware FROM text;
CREATE TRIGGER text_inserted AFTER INSERT ON text BEGIN
  INSERT INTO text_fts(rowid, title, body, signal, middleware)
    VALUES(new.id, title_words(new.title, new.body, new.signal, new.middleware), new.body, new.signal, new.middleware);
END;
CREATE TRIGGER text_deleted AFTER DELETE ON text BEGIN
  INSERT INTO text_fts(text_fts, rowid, title, body, signal, middleware)
    VALUES('delete', old.id, title_words(old.title, old.body, old.signal, old.middleware), old.body, old.signal, old.middleware);
END;

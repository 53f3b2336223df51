-- What was done to the library as a whole: "links" = with which packs and model, and up to which text, links were made.
CREATE TABLE library_meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
